package main

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
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
)

// partitioner reads the last records of the inputs and looks where their keys lie.
func (d *doctor) partitioner(ctx context.Context) {
	names := []string{"murmur2", "crc32", "fnv1a"}
	fits, seen, keyless := map[string]int{}, 0, 0
	inputs := pipeline.InputTopics(d.cfg)
	ends, err := d.adm.ListCommittedOffsets(ctx, inputs...)
	starts, err2 := d.adm.ListStartOffsets(ctx, inputs...)
	if err != nil || err2 != nil {
		d.warn("partitioner", "let this user describe the inputs", "the inputs cannot be read: %v %v", err, err2)
		return
	}
	var bad error
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		from := max(start.Offset, end.Offset-int64(d.sample))
		for r, err := range pipeline.Committed(ctx, d.connect, end.Topic, end.Partition, from, end.Offset) {
			if err != nil {
				bad = err
				return
			}
			if r.Key == nil {
				keyless++
				continue
			}
			seen++
			for _, name := range names {
				place, _ := pipeline.NewPartitioner(name)
				if place(r.Key, d.shards) == r.Partition%d.shards {
					fits[name]++
				}
			}
		}
	})
	if bad != nil {
		d.warn("partitioner", toRead(bad), "the inputs cannot be read: %v", bad)
		return
	}
	if keyless > 0 {
		add := d.warn
		if seen == 0 {
			add = d.fault
		}
		add("partitioner", "key the inputs by customer id", "of the last %d records %d have no key: such a record becomes a dead letter (key_mismatch)", seen+keyless, keyless)
	}
	is := d.cfg.Inputs.Partitioner
	switch {
	case seen == 0 && keyless > 0:
	case seen == 0:
		d.ok("partitioner", "the inputs have no records to look at")
	case fits[is] == seen:
		d.ok("partitioner", "%d keys lie where %s puts them", seen, is)
	default:
		for _, name := range names {
			if fits[name] == seen {
				d.fault("partitioner", "set inputs.partitioner to "+name, "%d of %d keys lie where %s puts them, all of them where %s does", fits[is], seen, is, name)
				return
			}
		}
		d.fault("partitioner", "key the inputs by customer id, with one partitioner for all producers; the dead letters with reason misrouted name the records", "only %d of %d keys lie where %s puts them, and no other partitioner fits all", fits[is], seen, is)
	}
}

// located is a partition of a topic.
type located struct {
	topic     string
	partition int32
}

// lost looks whether the shards could go on where they are.
func (d *doctor) lost(ctx context.Context) map[located]bool {
	n := len(d.found)
	all, err := pipeline.LostInputs(ctx, d.adm, d.cfg, d.positions)
	if err != nil {
		d.fault("inputs", "let this user describe the inputs", "%v", err)
	}
	gone := map[located]bool{}
	for _, l := range all {
		gone[located{l.Topic, l.Partition}] = true
		add := d.fault
		if d.cfg.Inputs.Lost == "skip" {
			add = d.warn
		}
		add("inputs", d.leave(), "%s", l.Why)
	}
	read := 0
	for _, shard := range d.positions {
		for _, at := range shard.Inputs {
			read += len(at.Next)
		}
	}
	d.quiet(n, "inputs", "%d partitions go on at our positions", read)
	return gone
}

// retention: what has not been read must not be deleted before it is, and what a snapshot needs must be there as long as
// the snapshot is the newest. Of what is gone nothing is left to look at.
func (d *doctor) retention(ctx context.Context, gone map[located]bool) {
	n := len(d.found)
	for _, w := range pipeline.Retention(ctx, d.adm, d.cfg) {
		d.warn("retention", d.remedy(w, "let this user describe the inputs"), "%s", w)
	}
	inputs := pipeline.InputTopics(d.cfg)
	is, err := pipeline.TopicSettings(ctx, d.adm, inputs...)
	starts, err2 := d.adm.ListStartOffsets(ctx, inputs...)
	ends, err3 := d.adm.ListCommittedOffsets(ctx, inputs...)
	if err != nil || err2 != nil || err3 != nil {
		d.warn("retention", "let this user describe the inputs", "the inputs cannot be read: %v %v %v", err, err2, err3)
		return
	}
	behind := int64(0)
	for _, topic := range inputs {
		ms, _ := strconv.ParseInt(is[topic]["retention.ms"], 10, 64)
		read := map[int32]int64{}
		for _, shard := range d.positions {
			maps.Copy(read, shard.Inputs[topic].Next)
		}
		for _, p := range slices.Sorted(maps.Keys(starts[topic])) {
			start, _ := starts.Lookup(topic, p)
			end, _ := ends.Lookup(topic, p)
			next, known := read[p]
			if !known {
				next = start.Offset
			}
			if gone[located{topic, p}] {
				continue
			}
			behind += max(0, end.Offset-next)
			if end.Offset > next && ms > 0 {
				d.headroom(ctx, topic, p, next, end.Offset, time.Duration(ms)*time.Millisecond)
			}
		}
	}
	d.quiet(n, "retention", "%d records are not yet read, and none is close to its deletion", behind)
}

// toRead is what to do about an input that cannot be read.
func toRead(err error) string {
	if _, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
		return "find who produces such batches: run skips what unpacks to more than cycle.fetch_buffer and twice limits.max_record_bytes, with a dead letter (batch_too_large)"
	}
	return "let this user read the inputs"
}

// headroom says how long the oldest record that is not yet read will still be there.
func (d *doctor) headroom(ctx context.Context, topic string, partition int32, next, end int64, retention time.Duration) {
	for r, err := range pipeline.Committed(ctx, d.connect, topic, partition, next, end) {
		if err != nil {
			d.warn("retention", toRead(err), "%v", err)
			return
		}
		left := (retention - time.Since(r.Timestamp)).Round(time.Second)
		what := fmt.Sprintf("%s/%d: the oldest record that is not yet read, at offset %d, is deleted in %v", topic, partition, r.Offset, max(left, 0))
		fix := d.alter(topic, "retention.ms="+strconv.FormatInt(2*retention.Milliseconds(), 10)) + ", and see why the shard is behind"
		if left < retention/10 {
			d.fault("retention", fix, "%s", what)
		} else if left < retention/2 {
			d.warn("retention", fix, "%s", what)
		}
		return
	}
}

// clock compares this machine with the brokers, as the running instance knows them; without one the brokers' newest
// timestamp is all there is to go by.
func (d *doctor) clock(ctx context.Context) {
	var text strings.Builder
	if ask(ctx, d.cfg, "GET", "/metrics", &text) == nil {
		for line := range strings.Lines(text.String()) {
			if value, ok := strings.CutPrefix(line, "asiduo_clock_difference_seconds "); ok {
				seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err == nil {
					d.difference(time.Duration(seconds * float64(time.Second)).Round(time.Millisecond))
					return
				}
			}
		}
	}
	found, err := d.adm.ListMaxTimestampOffsets(ctx, pipeline.OwnTopics(d.cfg)[0].Name)
	if err != nil {
		d.warn("clock", "let this user describe the changelog", "the newest timestamp cannot be read: %v", err)
		return
	}
	newest := int64(0)
	found.Each(func(o kadm.ListedOffset) { newest = max(newest, o.Timestamp) })
	if ahead := time.Until(time.UnixMilli(newest)); ahead > time.Second {
		d.difference(-ahead.Round(time.Millisecond))
		return
	}
	d.ok("clock", "this machine is not behind the brokers; start \"asiduo run\" to know more")
}

func (d *doctor) difference(by time.Duration) {
	switch {
	case by.Abs() < 5*time.Second:
		d.ok("clock", "this machine differs by %v from the brokers", by)
	case by.Abs() > pipeline.ClocksWrong:
		d.fault("clock", fixClock, "this machine differs by %v from the brokers, more than %v: nobody is called silent until they agree", by, pipeline.ClocksWrong)
	case by.Abs() > 5*time.Minute && d.cfg.Time.Clock == "wall":
		d.fault("clock", fixClock, "this machine differs by %v from the brokers, and time.clock is wall: silence is played at the wrong time", by)
	default:
		d.warn("clock", fixClock, "this machine differs by %v from the brokers", by)
	}
}
