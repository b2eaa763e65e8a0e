package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/sinks/events"
)

// Resetting is a reset that has been looked at and not been done.
type Resetting struct {
	From, To int     // epochs
	Shards   int32   // as many as before
	Resumed  bool    // a reset that died in the middle is completed
	Reach    []Reach // of the partitions of the inputs

	adm     *kadm.Client
	connect parameters.Connect
	cfg     config.Config
	gate    parameters.Reset

	// Step is told what is about to be done; an error ends the reset there.
	Step func(what string) error
}

// Reach is how far back a partition of an input goes.
type Reach struct {
	Topic     string
	Partition int32
	First     int64 // offset: so many records, or nearly, were there and are gone
	End       int64
	Oldest    time.Time // timestamp of the first record; zero if there is none
}

// PlanReset looks at what a reset would do, and changes nothing.
func PlanReset(ctx context.Context, adm *kadm.Client, connect parameters.Connect, c config.Config) (*Resetting, error) {
	set, err := parameters.Read(ctx, connect, c.App)
	if err != nil {
		return nil, err
	}
	r := &Resetting{From: set.Epoch.Epoch, To: set.Epoch.Epoch + 1, adm: adm, connect: connect, cfg: c, Step: func(string) error { return nil }}
	if was := set.Epoch.Reset; was != nil {
		r.From, r.To, r.Resumed, r.gate = set.Epoch.Epoch-1, set.Epoch.Epoch, true, *was
	} else {
		look, err := lookAround(ctx, adm, c)
		if err != nil {
			return nil, err
		}
		r.gate = parameters.Reset{Shards: look.shards, Changelog: look.ids[changelogTopic(c.App)]}
		if r.gate.Replicas, r.gate.Settings, err = settingsOf(ctx, adm, changelogTopic(c.App)); err != nil {
			return nil, err
		}
	}
	r.Shards = r.gate.Shards
	r.Reach, err = reach(ctx, adm, InputTopics(c))
	return r, err
}

// settingsOf are what is needed to make a topic again as it is.
func settingsOf(ctx context.Context, adm *kadm.Client, topic string) (replicas int16, settings map[string]string, err error) {
	found, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return 0, nil, fmt.Errorf("list topics: %w", err)
	}
	for _, p := range found[topic].Partitions {
		replicas = int16(len(p.Replicas))
	}
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, nil, fmt.Errorf("settings of topic %q cannot be read: %w", topic, err)
	}
	rc, err := configs.On(topic, nil)
	if err = errors.Join(err, rc.Err); err != nil {
		return 0, nil, fmt.Errorf("settings of topic %q cannot be read: %w", topic, err)
	}
	settings = map[string]string{}
	for _, kv := range rc.Configs {
		if kv.Source.String() == "DYNAMIC_TOPIC_CONFIG" && kv.Value != nil {
			settings[kv.Key] = *kv.Value
		}
	}
	return replicas, settings, nil
}

// reach asks how far back topics go.
func reach(ctx context.Context, adm *kadm.Client, topics []string) ([]Reach, error) {
	is, err := readable(ctx, adm, topics...)
	if err != nil {
		return nil, err
	}
	oldest, err := adm.ListOffsetsAfterMilli(ctx, 0, topics...)
	if err == nil {
		err = oldest.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the oldest records: %w", err)
	}
	var list []Reach
	for _, topic := range topics {
		for _, p := range slices.Sorted(maps.Keys(is.first[topic])) {
			r := Reach{Topic: topic, Partition: p, First: is.first[topic][p], End: is.stable[topic][p]}
			if o, ok := oldest.Lookup(topic, p); ok && o.Timestamp > 0 && o.Offset < r.End {
				r.Oldest = time.UnixMilli(o.Timestamp).UTC()
			}
			list = append(list, r)
		}
	}
	return list, nil
}

// Do begins a new epoch. It may die anywhere: until it has been run to its end no process owns a shard, and running it
// again completes it. The order matters: the gate is closed before the shards are seized, so that whoever acquires a
// shard later finds it closed.
func (r *Resetting) Do(ctx context.Context) error {
	if err := awaitNobody(ctx, r.adm, r.cfg); err != nil {
		return err
	}
	pub, err := parameters.Open(ctx, r.connect, r.cfg.App)
	if err != nil {
		return err
	}
	defer pub.Close()
	if now := pub.Set.Epoch; now.Epoch != r.To-1 && (now.Epoch != r.To || now.Reset == nil) {
		return fmt.Errorf("the epoch is %d, it was %d: somebody else has reset the application", now.Epoch, r.From)
	}
	if err := r.Step("close the gate"); err != nil {
		return err
	}
	if err := pub.PublishEpoch(ctx, parameters.Epoch{Epoch: r.To, Reset: &r.gate}); err != nil {
		return err
	}
	for s := range r.Shards {
		if err := r.Step("seize shard " + label(s)); err != nil {
			return err
		}
		if err := r.clear(ctx, s); err != nil {
			return fmt.Errorf("shard %d: %w", s, err)
		}
	}
	if err := r.again(ctx); err != nil {
		return err
	}
	if err := r.Step("open the gate"); err != nil {
		return err
	}
	return pub.PublishEpoch(ctx, parameters.Epoch{Epoch: r.To})
}

// clear takes the shard from its owner and removes the profiles of customers who are not in the inputs any more: those
// who are will be overwritten.
func (r *Resetting) clear(ctx context.Context, shard int32) error {
	cl, err := seize(ctx, r.connect, r.cfg.App, shard)
	if err != nil {
		return err
	}
	defer cl.Close()
	if !r.cfg.Outputs.Profiles {
		return nil
	}
	topic := r.cfg.App + "." + events.Profiles
	if _, partitions, err := topicNow(ctx, r.adm, topic); err != nil {
		return err
	} else if partitions == 0 { // init does nothing until the reset is through
		missing := slices.DeleteFunc(OutputTopics(r.cfg), func(t Topic) bool { return t.Name != topic })
		if _, err := createTopics(ctx, r.adm, r.cfg, r.Shards, missing); err != nil {
			return err
		}
	}
	is, err := readable(ctx, r.adm, topic)
	if err != nil {
		return err
	}
	known, err := r.customers(ctx, shard)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	for p, err := range Committed(ctx, r.connect, topic, shard, is.first[topic][shard], is.stable[topic][shard]) {
		if err != nil {
			return err
		}
		if _, ok := known[xxhash.Sum64(p.Key)]; !ok {
			gone[string(p.Key)] = p.Value != nil
		}
	}
	if err := r.Step("remove profiles of shard " + label(shard)); err != nil {
		return err
	}
	b := bulk{cl: cl}
	for _, key := range slices.Sorted(maps.Keys(gone)) {
		if !gone[key] {
			continue
		}
		if err := b.add(ctx, &kgo.Record{Topic: topic, Partition: shard, Key: []byte(key)}); err != nil {
			return err
		}
	}
	return b.flush(ctx)
}

// customers are those whom the inputs have records of, as hashes of their keys.
func (r *Resetting) customers(ctx context.Context, shard int32) (map[uint64]struct{}, error) {
	known := map[uint64]struct{}{}
	for _, p := range r.Reach {
		if p.Partition%r.Shards != shard {
			continue
		}
		for record, err := range Committed(ctx, r.connect, p.Topic, p.Partition, p.First, p.End) {
			if err != nil {
				return nil, err
			}
			known[xxhash.Sum64(record.Key)] = struct{}{}
		}
	}
	return known, nil
}

// again makes the changelog again, empty. A compacted topic refuses to have its records deleted, and tombstones for
// every key would be as many records as there are customers; a new topic id tells every store that it is out of date.
func (r *Resetting) again(ctx context.Context) error {
	topic := changelogTopic(r.cfg.App)
	id, partitions, err := topicNow(ctx, r.adm, topic)
	if err != nil {
		return err
	}
	if partitions > 0 && id == r.gate.Changelog {
		if err := r.Step("delete the changelog"); err != nil {
			return err
		}
		if _, err := r.adm.DeleteTopic(ctx, topic); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("delete topic %q: %w: delete it by other means, and run the reset again", topic, err)
		}
		partitions = 0
	}
	if partitions == 0 {
		if err := r.Step("create the changelog"); err != nil {
			return err
		}
		if err := r.create(ctx, topic); err != nil {
			return err
		}
		if err := awaitTopics(ctx, r.adm, []string{topic}); err != nil {
			return err
		}
		if _, partitions, err = topicNow(ctx, r.adm, topic); err != nil {
			return err
		}
	}
	if partitions != r.Shards {
		return fmt.Errorf("topic %q was made by somebody else, with %d partitions instead of %d: delete it, and run the reset again", topic, partitions, r.Shards)
	}
	return nil
}

// create makes a topic that is being deleted as soon as it can be.
func (r *Resetting) create(ctx context.Context, topic string) error {
	settings := map[string]*string{}
	for k, v := range r.gate.Settings {
		settings[k] = &v
	}
	for began := time.Now(); ; {
		_, err := r.adm.CreateTopic(ctx, r.Shards, r.gate.Replicas, settings, topic)
		if err == nil {
			return nil
		}
		if !errors.Is(err, kerr.TopicAlreadyExists) || time.Since(began) > 30*time.Second {
			return fmt.Errorf("create topic %q: %w", topic, err)
		}
		if id, n, e := topicNow(ctx, r.adm, topic); e == nil && n > 0 && id != r.gate.Changelog {
			return nil // our own, or somebody else's: its partitions will tell
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// topicNow is the id of a topic and how many partitions it has; none if it is missing. Questions for authorizations go
// past the client's cache.
func topicNow(ctx context.Context, adm *kadm.Client, topic string) (id string, partitions int32, err error) {
	found, err := adm.ListTopics(kadm.WithAuthorizedOps(ctx), topic)
	if err != nil {
		return "", 0, fmt.Errorf("list topics: %w", err)
	}
	t := found[topic]
	if t.Err != nil && !errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
		return "", 0, fmt.Errorf("topic %q: %w", topic, t.Err)
	}
	return t.ID.String(), int32(len(t.Partitions)), nil
}

// Lost says which partitions of the inputs no longer have their first records.
func (r *Resetting) Lost() (list []string) {
	for _, p := range r.Reach {
		if p.First > 0 {
			list = append(list, p.Topic+"/"+strconv.Itoa(int(p.Partition)))
		}
	}
	return list
}
