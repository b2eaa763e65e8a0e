package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// Topic is one topic that the pipeline owns, and the settings it must have.
type Topic struct {
	Name       string
	Settings   map[string]string
	Partitions int32 // 0: one per shard
}

// SettingsFor are those that init gives the topic: what it must have, and with enough replicas, that two have every record.
func (t Topic) SettingsFor(c config.Config) map[string]string {
	all := maps.Clone(t.Settings)
	if c.Outputs.ReplicationFactor >= enoughReplicas {
		all["min.insync.replicas"] = "2"
	}
	return all
}

// enoughReplicas are those of which one may be lost while two still have every record.
const enoughReplicas = 3

// partitions is how many the topic must have.
func (t Topic) partitions(shards int32) int32 {
	if t.Partitions > 0 {
		return t.Partitions
	}
	return shards
}

func changelogTopic(app string) string { return app + ".changelog" }

// OwnTopics are the topics that init creates, the changelog first.
func OwnTopics(c config.Config) []Topic {
	return slices.Concat([]Topic{
		{Name: changelogTopic(c.App), Settings: map[string]string{
			"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime", "max.compaction.lag.ms": "86400000",
		}},
		{Name: parameters.Topic(c.App), Partitions: 1, Settings: map[string]string{"cleanup.policy": "compact"}},
	}, OutputTopics(c))
}

// OutputTopics are those of them that others read.
func OutputTopics(c config.Config) []Topic {
	t := []Topic{
		{Name: c.App + "." + events.SegmentChanges, Settings: map[string]string{"cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}},
		{Name: c.App + "." + events.ChurnRisk, Settings: map[string]string{"cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}},
		{Name: c.App + "." + events.DeadLetters, Settings: map[string]string{"cleanup.policy": "delete", "message.timestamp.type": "CreateTime", "retention.ms": "1209600000"}},
	}
	if c.Outputs.Profiles {
		t = append(t, Topic{Name: c.App + "." + events.Profiles, Settings: map[string]string{"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}})
	}
	return t
}

func topicNames(topics []Topic) []string {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	return names
}

// InputTopics are the names of the inputs, purchases first.
func InputTopics(c config.Config) []string {
	if c.Inputs.Interactions == "" {
		return []string{c.Inputs.Purchases}
	}
	return []string{c.Inputs.Purchases, c.Inputs.Interactions}
}

// ChooseShards is the number of shards for inputs of these partition counts: the one wanted if it divides them all,
// else with wanted 0 the smallest common divisor of at least 8, or the greatest.
func ChooseShards(wanted int32, counts map[string]int32) (int32, error) {
	common := int32(0)
	for _, n := range counts {
		common = gcd(common, n)
	}
	if wanted == 0 {
		for s := int32(8); s <= common; s++ {
			if common%s == 0 {
				return s, nil
			}
		}
		return common, nil
	}
	if common%wanted != 0 {
		return 0, dividesError(wanted, counts)
	}
	return wanted, nil
}

func dividesError(shards int32, counts map[string]int32) error {
	var bad []string
	for name, n := range counts {
		if n%shards != 0 {
			bad = append(bad, fmt.Sprintf("topic %q has %d partitions", name, n))
		}
	}
	slices.Sort(bad)
	return fmt.Errorf("%d shards do not divide the inputs: %s; the partition count of every input must be a multiple of the number of shards", shards, strings.Join(bad, ", "))
}

func gcd(a, b int32) int32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// layout is what the cluster has of the pipeline's topics.
type layout struct {
	shards     int32
	partitions map[string]int32  // of the inputs
	ids        map[string]string // of the inputs and the changelog
}

// lookAround reads the layout and proves that it can be worked with.
func lookAround(ctx context.Context, adm *kadm.Client, c config.Config) (*layout, error) {
	inputs, changelog := InputTopics(c), changelogTopic(c.App)
	names := slices.Concat(inputs, topicNames(OwnTopics(c)))
	found, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	l := &layout{partitions: map[string]int32{}, ids: map[string]string{}}
	var faults []error
	for _, name := range names {
		t := found[name]
		switch {
		case errors.Is(t.Err, kerr.UnknownTopicOrPartition) || t.Err == nil && len(t.Partitions) == 0:
			if slices.Contains(inputs, name) {
				faults = append(faults, fmt.Errorf("input topic %q is missing", name))
			} else {
				faults = append(faults, fmt.Errorf("topic %q is missing: create it with \"asiduo init\"", name))
			}
		case t.Err != nil:
			faults = append(faults, fmt.Errorf("topic %q: %w", name, t.Err))
		}
		l.ids[name] = t.ID.String()
		if slices.Contains(inputs, name) {
			l.partitions[name] = int32(len(t.Partitions))
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	l.shards = int32(len(found[changelog].Partitions))
	if c.Shards != 0 && c.Shards != l.shards {
		return nil, fmt.Errorf("shards is %d, but topic %q has %d partitions: the number of shards is fixed when the topics are created", c.Shards, changelog, l.shards)
	}
	for _, t := range OwnTopics(c)[1:] {
		n := int32(len(found[t.Name].Partitions))
		switch {
		case t.Partitions > 0 && n != t.Partitions:
			faults = append(faults, fmt.Errorf("topic %q has %d partitions, not %d", t.Name, n, t.Partitions))
		case t.Partitions == 0 && n != l.shards:
			faults = append(faults, fmt.Errorf("topic %q has %d partitions, not one per shard (%d)", t.Name, n, l.shards))
		}
	}
	for _, n := range l.partitions {
		if n%l.shards != 0 {
			faults = append(faults, dividesError(l.shards, l.partitions))
			break
		}
	}
	return l, errors.Join(faults...)
}

// Init makes the topics the pipeline owns for the given number of shards, and publishes the epoch, which is 1 but for
// simulations and where a state says otherwise; what exists stays as it is. more are options for its clients, such as a dialer.
func Init(ctx context.Context, adm *kadm.Client, c config.Config, shards int32, epoch int, more ...kgo.Opt) (created []string, err error) {
	connect := Connector(c.Kafka, more...)
	set, err := parameters.Read(ctx, connect, c.App)
	if err != nil && !errors.Is(err, parameters.ErrNone) {
		return nil, err
	}
	if err := ready(set); err != nil { // topics are missing because a reset has deleted them
		return nil, err
	}
	if created, err = createTopics(ctx, adm, c, shards, OwnTopics(c)); err != nil {
		return created, err
	}
	p, err := parameters.Open(ctx, connect, c.App)
	if err != nil {
		return created, err
	}
	defer p.Close()
	rules, err := RulesOf(c)
	if err != nil {
		return created, err
	}
	states, err := Checkpoints(ctx, adm, connect, c.App)
	if err != nil {
		return created, err
	}
	for _, s := range states { // the topic of the parameters was lost
		epoch = max(epoch, s.Made.Epoch)
	}
	model, err := ModelOf(c)
	if err != nil {
		return created, err
	}
	return created, p.SetUp(ctx, epoch, rules, model, state.Instant(time.Now().UnixMilli()))
}

// createTopics makes those of topics that are missing.
func createTopics(ctx context.Context, adm *kadm.Client, c config.Config, shards int32, topics []Topic) (created []string, err error) {
	for _, t := range topics {
		settings := map[string]*string{}
		for k, v := range t.SettingsFor(c) {
			settings[k] = &v
		}
		_, e := adm.CreateTopic(ctx, t.partitions(shards), c.Outputs.ReplicationFactor, settings, t.Name)
		switch {
		case e == nil:
			created = append(created, t.Name)
		case errors.Is(e, kerr.InvalidReplicationFactor):
			err = errors.Join(err, fmt.Errorf("create topic %q: %w: outputs.replication_factor is %d, and there are fewer brokers", t.Name, e, c.Outputs.ReplicationFactor))
		case !errors.Is(e, kerr.TopicAlreadyExists):
			err = errors.Join(err, fmt.Errorf("create topic %q: %w", t.Name, e))
		}
	}
	if err != nil {
		return created, err
	}
	return created, awaitTopics(ctx, adm, created)
}

// awaitTopics waits until the brokers show what they have just created: they learn of it one after the other. Questions
// for authorizations go past the client's cache, which would give the same answer for five seconds.
func awaitTopics(ctx context.Context, adm *kadm.Client, names []string) error {
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		found, err := adm.ListTopics(kadm.WithAuthorizedOps(ctx), names...)
		if err == nil && found.Error() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topics were created and are not shown within 30s: %w", errors.Join(err, found.Error()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ShardsOf is the number of shards of an application that has its topics already, 0 if it has not.
func ShardsOf(ctx context.Context, adm *kadm.Client, c config.Config) (int32, error) {
	changelog := changelogTopic(c.App)
	found, err := adm.ListTopics(ctx, changelog)
	if err != nil {
		return 0, fmt.Errorf("list topics: %w", err)
	}
	return int32(len(found[changelog].Partitions)), nil
}

// InputPartitions are the partition counts of the inputs.
func InputPartitions(ctx context.Context, adm *kadm.Client, c config.Config) (map[string]int32, error) {
	found, err := adm.ListTopics(ctx, InputTopics(c)...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	counts := map[string]int32{}
	for _, name := range InputTopics(c) {
		t := found[name]
		if errors.Is(t.Err, kerr.UnknownTopicOrPartition) || t.Err == nil && len(t.Partitions) == 0 {
			err = errors.Join(err, fmt.Errorf("input topic %q is missing", name))
		} else if t.Err != nil {
			err = errors.Join(err, fmt.Errorf("topic %q: %w", name, t.Err))
		}
		counts[name] = int32(len(t.Partitions))
	}
	return counts, err
}
