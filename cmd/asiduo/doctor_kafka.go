package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/asiduo/asiduo/pipeline"
)

// versions: every broker must verify that a partition belongs to a transaction (KIP-890, since 3.6): without it a
// record of a zombie can hang in a partition for ever.
func (d *doctor) versions(ctx context.Context) {
	const addPartitionsToTxn = 24
	n := len(d.found)
	all, err := d.adm.ApiVersions(ctx)
	if err != nil {
		d.warn("version", "let this user describe the cluster", "the brokers do not say what they know: %v", err)
		return
	}
	guess := "unknown"
	for _, b := range all.Sorted() {
		if b.Err != nil {
			d.fault("version", fmt.Sprintf("start broker %d", b.NodeID), "broker %d does not answer: %v", b.NodeID, b.Err)
			continue
		}
		guess = b.VersionGuess()
		if most, _ := b.KeyMaxVersion(addPartitionsToTxn); most < 4 {
			d.fault("version", "use Kafka 3.6 or later", "broker %d is older than Kafka 3.6", b.NodeID)
			continue
		}
		level := int16(0)
		for _, f := range b.Raw().FinalizedFeatures {
			if f.Name == "transaction.version" {
				level = f.MaxVersionLevel
			}
		}
		if level < 2 {
			d.warn("version", "with Kafka 4.0 or later: kafka-features.sh "+d.bootstrap()+" upgrade --feature transaction.version=2",
				"broker %d has transaction.version %d: transactions of Kafka 4 (KIP-890) are not on", b.NodeID, level)
		}
	}
	d.quiet(n, "version", "%d brokers, %s, transaction.version 2", len(all), guess)
}

// topicNames are the inputs and our own.
func (d *doctor) topicNames() []string {
	names := pipeline.InputTopics(d.cfg)
	for _, t := range pipeline.OwnTopics(d.cfg) {
		names = append(names, t.Name)
	}
	return names
}

// led says whether every partition has a leader. Without one it can be neither read nor written, and what is asked of it
// fails in ways that do not say so.
func (d *doctor) led(ctx context.Context) bool {
	n := len(d.found)
	topics, err := d.adm.ListTopics(ctx, d.topicNames()...)
	if err != nil {
		return true // the next who asks says so
	}
	for _, t := range topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			if p.Leader >= 0 {
				continue
			}
			of := p.ISR // none other has every record
			if len(of) == 0 {
				of = p.Replicas
			}
			who := "broker " + joined(of)
			if len(of) > 1 {
				who = "one of brokers " + joined(of)
			}
			d.fault("topics", "start "+who+", or see in its log why it does not lead", "%s/%d has no leader: it can be neither read nor written", t.Topic, p.Partition)
		}
	}
	return len(d.found) == n
}

// layout: the topics are there and fit.
func (d *doctor) layout(ctx context.Context) bool {
	shards, warnings, err := pipeline.Layout(ctx, d.adm, d.cfg)
	if err != nil {
		d.shards, _ = pipeline.ShardsOf(ctx, d.adm, d.cfg)
		for _, s := range sentences(err) {
			d.fault("topics", d.remedy(s, fixDescribe), "%s", s)
		}
		return false
	}
	d.shards = shards
	for _, w := range warnings {
		d.warn("topics", d.remedy(w, fixDescribe), "%s", w)
	}
	counts, err := pipeline.InputPartitions(ctx, d.adm, d.cfg)
	if err != nil {
		d.fault("topics", d.remedy(err.Error(), fixDescribe), "%v", err)
		return false
	}
	var list []string
	for _, name := range pipeline.InputTopics(d.cfg) {
		list = append(list, fmt.Sprintf("%s has %d partitions", name, counts[name]))
	}
	d.ok("topics", "%d shards; %s", shards, strings.Join(list, ", "))
	return true
}

// settings that have no one right value.
func (d *doctor) settings(ctx context.Context) {
	n := len(d.found)
	inputs, names := pipeline.InputTopics(d.cfg), d.topicNames()
	is, err := pipeline.TopicSettings(ctx, d.adm, names...)
	topics, err2 := d.adm.ListTopics(ctx, names...)
	brokers, err3 := d.adm.ListBrokers(ctx)
	if err != nil || err2 != nil || err3 != nil {
		d.warn("settings", "let this user describe topics and their settings", "settings cannot be read: %v %v %v", err, err2, err3)
		return
	}
	for i, name := range names {
		own := i >= len(inputs)
		replicas := 0 // of the partition that has the fewest
		for i, p := range topics[name].Partitions.Sorted() {
			if n := len(p.Replicas); i == 0 || n < replicas {
				replicas = n
			}
			if live := len(p.ISR); live < len(p.Replicas) {
				behind := slices.DeleteFunc(slices.Clone(p.Replicas), func(id int32) bool { return slices.Contains(p.ISR, id) })
				d.warn("settings", "start broker "+joined(behind)+", or see in its log why it is behind", "%s/%d has %d of %d replicas in sync", name, p.Partition, live, len(p.Replicas))
			}
		}
		least, _ := strconv.Atoi(is[name]["min.insync.replicas"])
		fragile := pipeline.Fragile(d.cfg, topics[name], least)
		switch {
		case least > replicas:
			d.fault("settings", d.alter(name, "min.insync.replicas="+strconv.Itoa(max(1, replicas-1))), "topic %q has min.insync.replicas=%d and %d replicas: nothing can be written", name, least, replicas)
		case own && fragile != nil && replicas >= int(d.cfg.Outputs.ReplicationFactor):
			d.fault("settings", d.alter(name, "min.insync.replicas=2"), "%v", fragile)
		case own && fragile != nil && len(brokers) >= int(d.cfg.Outputs.ReplicationFactor):
			d.fault("settings", d.reassign(topics[name], brokers), "%v", fragile)
		case own && fragile != nil:
			d.fault("settings", "set outputs.replication_factor: "+strconv.Itoa(replicas), "%v", fragile)
		case own && replicas < 3 && len(brokers) >= 3:
			d.warn("settings", d.reassign(topics[name], brokers), "topic %q has %d replicas on %d brokers: what a broker loses is lost", name, replicas, len(brokers))
		case own && replicas >= 3 && least < 2:
			d.warn("settings", d.alter(name, "min.insync.replicas=2"), "topic %q has min.insync.replicas=%d: a record that only one broker has is taken for written", name, least)
		}
		d.sizes(name, own, is[name])
	}
	d.quiet(n, "settings", "of %d topics: replicas, min.insync.replicas, max.message.bytes, delete.retention.ms", len(names))
}

// sizes holds what fits into an input against what the pipeline takes; that its own records fit into its own topics is
// proven with the layout.
func (d *doctor) sizes(name string, own bool, is map[string]string) {
	const overhead = 4096 // of a batch, headers and a key
	limit := int64(d.cfg.Limits.MaxRecordBytes)
	most, err := strconv.ParseInt(is["max.message.bytes"], 10, 64)
	switch {
	case err != nil:
	case !own && most > limit+overhead:
		d.warn("settings", fmt.Sprintf("raise limits.max_record_bytes to %d", most), "input %q takes %d bytes, more than limits.max_record_bytes (%d): what is larger becomes a dead letter", name, most, limit)
	}
	if ms, err := strconv.ParseInt(is["delete.retention.ms"], 10, 64); err == nil && name == pipeline.OwnTopics(d.cfg)[0].Name && ms < time.Hour.Milliseconds() {
		d.warn("settings", d.alter(name, "delete.retention.ms=86400000"), "topic %q has delete.retention.ms=%d: a store that is older than half of it is built again", name, ms)
	}
}

// group: every shard should have an owner.
func (d *doctor) group(ctx context.Context) {
	members, err := pipeline.Members(ctx, d.adm, d.cfg.App)
	if err != nil {
		d.warn("group", "let this user describe the group", "%v", err)
		return
	}
	if len(members) == 0 {
		d.warn("group", "start \"asiduo run\"", "no process runs")
		return
	}
	owned := map[int32]bool{}
	var list []string
	for _, m := range members {
		list = append(list, m.String())
		for _, s := range m.Shards {
			owned[s] = true
		}
	}
	var without []int32
	for s := range d.shards {
		if !owned[s] {
			without = append(without, s)
		}
	}
	if len(without) > 0 {
		d.fault("group", "look again in a moment: a rebalance gives them to somebody; if it does not, restart the processes", "shards %s have no owner; members: %s", joined(without), strings.Join(list, "; "))
		return
	}
	d.ok("group", "%d processes: %s", len(members), strings.Join(list, "; "))
}
