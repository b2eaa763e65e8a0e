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

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/events"
)

// Topic is one topic that the pipeline owns, and the settings it must have.
type Topic struct {
	Name     string
	Settings map[string]string
}

func changelogTopic(app string) string { return app + ".changelog" }

// OwnTopics are the topics that init creates, all with as many partitions as there are shards.
func OwnTopics(c config.Config) []Topic {
	t := []Topic{
		{changelogTopic(c.App), map[string]string{
			"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime", "max.compaction.lag.ms": "86400000",
		}},
		{c.App + "." + events.SegmentChanges, map[string]string{"cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}},
		{c.App + "." + events.ChurnRisk, map[string]string{"cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}},
		{c.App + "." + events.DeadLetters, map[string]string{"cleanup.policy": "delete", "message.timestamp.type": "CreateTime", "retention.ms": "1209600000"}},
	}
	if c.Outputs.Profiles {
		t = append(t, Topic{c.App + "." + events.Profiles, map[string]string{"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}})
	}
	return t
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
	names := slices.Concat(inputs, []string{changelog})
	for _, t := range OwnTopics(c)[1:] {
		names = append(names, t.Name)
	}
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
		if n := int32(len(found[t.Name].Partitions)); n != l.shards {
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

// CreateTopics makes the topics the pipeline owns for the given number of shards; what exists stays as it is.
func CreateTopics(ctx context.Context, adm *kadm.Client, c config.Config, shards int32) (created []string, err error) {
	for _, t := range OwnTopics(c) {
		settings := map[string]*string{}
		for k, v := range t.Settings {
			settings[k] = &v
		}
		_, e := adm.CreateTopic(ctx, shards, c.Outputs.ReplicationFactor, settings, t.Name)
		switch {
		case e == nil:
			created = append(created, t.Name)
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

// Layout proves that the topics are there and fit, and returns the number of shards and what differs from the settings
// they should have.
func Layout(ctx context.Context, adm *kadm.Client, c config.Config) (shards int32, warnings []string, err error) {
	l, err := lookAround(ctx, adm, c)
	if err != nil {
		return 0, nil, err
	}
	own := OwnTopics(c)
	names := make([]string, len(own))
	for i, t := range own {
		names[i] = t.Name
	}
	found, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return l.shards, []string{fmt.Sprintf("settings of the topics cannot be read: %v", err)}, nil
	}
	for _, t := range own {
		rc, err := found.On(t.Name, nil)
		if err != nil || rc.Err != nil {
			warnings = append(warnings, fmt.Sprintf("settings of topic %q cannot be read: %v", t.Name, errors.Join(err, rc.Err)))
			continue
		}
		is := map[string]string{}
		for _, kv := range rc.Configs {
			is[kv.Key] = kv.MaybeValue()
		}
		for _, k := range slices.Sorted(maps.Keys(t.Settings)) {
			if is[k] != "" && is[k] != t.Settings[k] {
				warnings = append(warnings, fmt.Sprintf("topic %q has %s=%s, should be %s", t.Name, k, is[k], t.Settings[k]))
			}
		}
		if t.Name == changelogTopic(c.App) && is["cleanup.policy"] != "" && is["cleanup.policy"] != "compact" {
			return l.shards, warnings, fmt.Errorf("topic %q has cleanup.policy=%s: only compact keeps every customer", t.Name, is["cleanup.policy"])
		}
	}
	return l.shards, warnings, nil
}
