package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// Durable proves that the own topics are kept by as many brokers as outputs.replication_factor says. It is proven at start
// and not of a running pipeline: who lowers min.insync.replicas while brokers are away has a reason to.
func Durable(ctx context.Context, adm *kadm.Client, c config.Config) error {
	names := topicNames(OwnTopics(c))
	topics, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	is, _ := TopicSettings(ctx, adm, names...) // what cannot be read, Layout warns of
	var faults []error
	for _, name := range names {
		if err := topics[name].Err; err != nil { // Layout has just seen it: it may pass
			return fmt.Errorf("topic %q: %w", name, err)
		}
		insync, _ := strconv.Atoi(is[name]["min.insync.replicas"])
		faults = append(faults, Fragile(c, topics[name], insync))
	}
	return errors.Join(faults...)
}

// TopicSettings are the settings of topics by name. A topic of which they cannot be read is missing, and err has a
// sentence on it.
func TopicSettings(ctx context.Context, adm *kadm.Client, names ...string) (map[string]map[string]string, error) {
	found, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("settings of the topics cannot be read: %w", err)
	}
	all := map[string]map[string]string{}
	var unread []error
	for _, name := range names {
		rc, err := found.On(name, nil)
		if err = errors.Join(err, rc.Err); err != nil {
			unread = append(unread, fmt.Errorf("settings of topic %q cannot be read: %w", name, err))
			continue
		}
		all[name] = map[string]string{}
		for _, kv := range rc.Configs {
			all[name][kv.Key] = kv.MaybeValue()
		}
	}
	return all, errors.Join(unread...)
}

// Fragile is why a topic is kept by fewer brokers than outputs.replication_factor says, nil if it is not. insync is its
// min.insync.replicas, 0 if that is not known.
func Fragile(c config.Config, t kadm.TopicDetail, insync int) error {
	want := int(c.Outputs.ReplicationFactor)
	for _, p := range t.Partitions.Sorted() {
		if n := len(p.Replicas); n < want {
			return fmt.Errorf("topic %q has %d replicas, fewer than outputs.replication_factor (%d): add some, or lower it if what a broker loses may be lost", t.Topic, n, want)
		}
	}
	if want >= enoughReplicas && 0 < insync && insync < 2 {
		return fmt.Errorf("topic %q has min.insync.replicas=%d: a record that only one broker has is taken for written; set it to 2, or lower outputs.replication_factor if that may be lost", t.Topic, insync)
	}
	return nil
}

// Layout proves that the topics are there and fit, and returns the number of shards and what differs from the settings
// they should have.
func Layout(ctx context.Context, adm *kadm.Client, c config.Config) (shards int32, warnings []string, err error) {
	l, err := lookAround(ctx, adm, c)
	if err != nil {
		return 0, nil, err
	}
	_, warnings, err = settings(ctx, adm, c)
	return l.shards, warnings, err
}

// settings proves that the own topics are kept as they must be and take the largest record there can be. It returns the
// most bytes of a batch by topic, as far as the brokers tell, and what differs from what it should be.
func settings(ctx context.Context, adm *kadm.Client, c config.Config) (batches map[string]int32, warnings []string, err error) {
	own := OwnTopics(c)
	batches = map[string]int32{}
	all, err := TopicSettings(ctx, adm, topicNames(own)...)
	if err != nil {
		warnings = strings.Split(err.Error(), "\n")
	}
	var faults []error
	for _, t := range own {
		is := all[t.Name]
		for _, k := range slices.Sorted(maps.Keys(t.Settings)) {
			if is[k] != "" && is[k] != t.Settings[k] {
				warnings = append(warnings, fmt.Sprintf("topic %q has %s=%s, should be %s", t.Name, k, is[k], t.Settings[k]))
			}
		}
		if t.Name == changelogTopic(c.App) && is["cleanup.policy"] != "" && is["cleanup.policy"] != "compact" {
			faults = append(faults, fmt.Errorf("topic %q has cleanup.policy=%s: only compact keeps every customer", t.Name, is["cleanup.policy"]))
		}
		if most, err := strconv.ParseInt(is["max.message.bytes"], 10, 32); err == nil {
			batches[t.Name] = int32(most)
			if need := largest(c, t.Name); int(most) < need {
				faults = append(faults, fmt.Errorf("topic %q has max.message.bytes=%d, but a record may have %d bytes with these limits: raise it, or lower limits", t.Name, most, need))
			}
		}
	}
	return batches, warnings, errors.Join(faults...)
}

// largest is more than any batch of one record of an own topic can have. It is proven at start, so that no transaction
// ever meets a record that does not fit.
func largest(c config.Config, topic string) int {
	const batch = 1 << 10 // what is around a record
	switch topic {
	case changelogTopic(c.App):
		l := state.Limits{Orders: c.Limits.OrdersPerCustomer, Refunds: c.Limits.RefundsPerCustomer, Purposes: c.Limits.ConsentPurposes}
		return batch + max(l.MaxBytes())
	case c.App + "." + events.DeadLetters:
		return batch + events.MaxLetterBytes
	}
	return batch + events.MaxEventBytes(c.Limits.ConsentPurposes)
}

// batchLimit is the most bytes of a batch of a topic, which the client must know: a broker refuses more.
func (p *Pipeline) batchLimit(topic string) int32 {
	const unknown, most = 1_000_012, 8 << 20 // the former is the client's default
	if known := p.batches.Load(); known != nil && (*known)[topic] > 0 {
		return min((*known)[topic], most)
	}
	return unknown
}

// checkSettings proves again what was proven at start: topics can be altered.
func (p *Pipeline) checkSettings(ctx context.Context, adm *kadm.Client) error {
	batches, _, err := settings(ctx, adm, p.cfg)
	if known := p.batches.Load(); known != nil { // what cannot be read now is as it was
		for topic, limit := range *known {
			if _, read := batches[topic]; !read {
				batches[topic] = limit
			}
		}
	}
	p.batches.Store(&batches)
	if err != nil {
		return &stopError{"topic_settings", err}
	}
	return nil
}

// Retention warns of inputs that do not reach back to the snapshot before the newest, which an import after the loss of
// the changelog would need them to.
func Retention(ctx context.Context, adm *kadm.Client, c config.Config) (warnings []string) {
	if c.Archive.Dir == "" || c.Archive.Every == 0 {
		return nil
	}
	all, err := TopicSettings(ctx, adm, InputTopics(c)...)
	if err != nil {
		warnings = strings.Split(err.Error(), "\n")
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		ms, err := strconv.ParseInt(all[name]["retention.ms"], 10, 64)
		if err != nil || ms < 0 {
			continue
		}
		if keeps, every := time.Duration(ms)*time.Millisecond, c.Archive.Every.Std(); keeps < 2*every {
			warnings = append(warnings, fmt.Sprintf("input %q keeps records for %v, less than two snapshot intervals (archive.every %v): after a loss of the changelog a snapshot may be of no use", name, keeps, every))
		}
	}
	return warnings
}
