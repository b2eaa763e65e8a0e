package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state/store"
)

// lost is a part of an input that nobody can read any more: it stops the shard, or, with inputs.lost skip, is left
// behind with a dead letter that says so.
type lost struct {
	topic     string
	partition int32
	from      int64 // our position
	records   int64 // how many are missing; 0 if nobody knows
	reason    string
	why       string
	doubtful  bool // said by a leader of an older epoch: one that was cut off and does not know yet of another would say the same
}

// resumeAt finds the offsets to go on from: those of the last checkpoint, where the inputs still have them.
func (s *shard) resumeAt(ctx context.Context, look *layout) (missing []lost, err error) {
	inputs := InputTopics(s.p.cfg)
	starts, ends, err := bounds(ctx, s.adm, inputs)
	if err != nil {
		return nil, err
	}
	asked := kadm.OffsetForLeaderEpochRequest{}
	for topic, was := range s.mark.Inputs {
		for n, epoch := range was.Epochs {
			if was.TopicID == look.ids[topic] {
				asked.Add(topic, n, epoch)
			}
		}
	}
	heirs, err := epochEnds(ctx, s.adm, asked)
	if err != nil {
		return nil, err
	}
	s.next, s.epochs = map[string]map[int32]int64{}, map[string]map[int32]int32{}
	for _, topic := range inputs {
		s.next[topic], s.epochs[topic] = map[int32]int64{}, map[int32]int32{}
		was := s.mark.Inputs[topic]
		for n := s.id; n < look.partitions[topic]; n += look.shards {
			log := input{topic: topic, n: n, id: look.ids[topic]}
			log.start, _ = starts.Lookup(topic, n)
			log.end, _ = ends.Lookup(topic, n)
			log.heir, log.inherited = heirs[topic][n]
			next, epoch, gone := log.from(was)
			s.next[topic][n], s.epochs[topic][n] = next, epoch
			if gone.why != "" {
				missing = append(missing, gone)
			}
		}
	}
	return missing, nil
}

// input is what the brokers say of a partition of an input.
type input struct {
	topic      string
	n          int32
	id         string // of the topic
	start, end kadm.ListedOffset
	heir       kadm.OffsetForLeaderEpoch // where the leader epoch of what we have read ends
	inherited  bool                      // the leader knows that
}

// from says at which offset to go on, of which leader epoch the records before it are, -1 if nobody knows, and what is lost.
func (i *input) from(was store.InputPositions) (next int64, epoch int32, gone lost) {
	at, known := was.Next[i.n]
	led, kept := was.Epochs[i.n]
	older := kept && i.end.LeaderEpoch >= 0 && i.end.LeaderEpoch < led
	gone = lost{topic: i.topic, partition: i.n, from: at, reason: "input_truncated", doubtful: older}
	next, epoch = i.start.Offset, -1
	why := ""
	switch {
	case !known && (was.TopicID != i.id || i.start.Offset == 0):
		return next, epoch, gone
	case !known: // a shard has positions of all partitions that there were: this one was added since
		gone.records = i.start.Offset
		why = fmt.Sprintf("was added, and no longer has its first records: 0 to %d were deleted before they were read", i.start.Offset-1)
	case was.TopicID != "" && was.TopicID != i.id:
		gone.reason, gone.doubtful = "input_recreated", false
		gone.why = fmt.Sprintf("input topic %q was deleted and made again (id %s, was %s): its offsets mean other records now", i.topic, i.id, was.TopicID)
		return next, epoch, gone
	case at < i.start.Offset:
		gone.records = i.start.Offset - at
		why = fmt.Sprintf("no longer has the records at our position: %d to %d were deleted before they were read", at, i.start.Offset-1)
	case older && (!i.inherited || i.heir.LeaderEpoch < led):
		why = fmt.Sprintf("is led under epoch %d, and we have read records of epoch %d: its brokers were set back, its offsets may mean other records now", i.end.LeaderEpoch, led)
	case at > i.end.Offset: // the records to come will be of this epoch or newer: one more cut before them is noticed
		next, epoch = i.end.Offset, i.end.LeaderEpoch
		why = fmt.Sprintf("ends at %d, before our position %d: it has lost records that were processed", i.end.Offset, at)
	case i.inherited && i.heir.EndOffset < at:
		if next = max(i.heir.EndOffset, i.start.Offset); next == i.heir.EndOffset {
			epoch = i.heir.LeaderEpoch
		}
		why = fmt.Sprintf("was cut at %d and written again, before our position %d: it has lost records that were processed", i.heir.EndOffset, at)
	default:
		next = at
		if kept {
			epoch = led
		}
		return next, epoch, gone
	}
	gone.why = fmt.Sprintf("input %s/%d %s", i.topic, i.n, why)
	return next, epoch, gone
}

// uncut holds that inputs whose next records are of newer leader epochs than those that were read have not been cut before our
// positions in between. The client looks by itself only once it has read a record. Epochs never fall within a log: where they do,
// its brokers were set back, and nobody can say where what we read was cut off.
func (s *shard) uncut(ctx context.Context, fetched kgo.Fetches, unread []*kgo.ErrDecompressTooLarge) error {
	asked := kadm.OffsetForLeaderEpochRequest{}
	var fallen []lost
	turned := func(topic string, n, epoch int32) {
		switch was, known := s.epochs[topic][n]; {
		case !known || was < 0 || epoch < 0:
		case epoch > was:
			asked.Add(topic, n, was)
		case epoch < was:
			at := s.next[topic][n]
			fallen = append(fallen, lost{topic: topic, partition: n, from: at, reason: "input_truncated", why: fmt.Sprintf(
				"input %s/%d goes on at our position %d under leader epoch %d, before it was %d: its brokers were set back, and records before our position may be others now", topic, n, at, epoch, was)})
		}
	}
	fetched.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) > 0 {
			turned(f.Topic, f.Partition, f.Records[0].LeaderEpoch)
		}
	})
	for _, batch := range unread {
		turned(batch.Topic, batch.Partition, batch.Epoch)
	}
	ends, err := epochEnds(ctx, s.adm, asked)
	if err != nil {
		return err
	}
	for topic, partitions := range ends {
		for n, end := range partitions {
			if at := s.next[topic][n]; end.EndOffset < at { // what is lost is said when the shard is acquired again
				return fmt.Errorf("input %s/%d was cut at %d, before our position %d", topic, n, end.EndOffset, at)
			}
		}
	}
	return s.leaveBehind(fallen)
}

// leaveBehind takes note of what is lost, if the operator has said to go on without it.
func (s *shard) leaveBehind(missing []lost) error {
	if len(missing) > 0 && s.p.cfg.Inputs.Lost == "stop" {
		return &stopError{missing[0].reason, errors.New(missing[0].why)}
	}
	for _, l := range missing { // offsets mean other records now
		maps.DeleteFunc(s.poison.times, func(at recordID, _ int) bool { return at.topic == l.topic && at.partition == l.partition })
	}
	s.missing = append(s.missing, missing...)
	return nil
}

// epochEnds are the offsets at which the records of leader epochs end, by topic and partition (KIP-101): before a record of
// such an epoch that was read, if the log was cut since. What the leader does not know is left out.
func epochEnds(ctx context.Context, adm *kadm.Client, asked kadm.OffsetForLeaderEpochRequest) (kadm.OffsetsForLeaderEpochs, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	ends, err := adm.OffsetForLeaderEpoch(ctx, asked)
	for _, partitions := range ends {
		for _, is := range partitions {
			err = errors.Join(err, is.Err)
		}
		maps.DeleteFunc(partitions, func(_ int32, is kadm.OffsetForLeaderEpoch) bool { return is.EndOffset < 0 })
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the end of a leader epoch: %w", err)
	}
	return ends, nil
}

// bounds are the first offsets of topics and those after the last.
func bounds(ctx context.Context, adm *kadm.Client, topics []string) (starts, ends kadm.ListedOffsets, err error) {
	if starts, err = adm.ListStartOffsets(ctx, topics...); err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("ask where the inputs begin: %w", err)
	}
	if ends, err = adm.ListEndOffsets(ctx, topics...); err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("ask where the inputs end: %w", err)
	}
	return starts, ends, nil
}

// confess puts what is left behind into the cycle, which makes it true together with the new positions. It comes before what comes behind
// it in its input.
func (s *shard) confess(missing []lost) {
	for _, l := range missing {
		s.send(s.adopted.enc.DeadLetter(&events.Rejected{
			Topic: l.topic, Partition: l.partition, Offset: l.from, Timestamp: -1, Reason: string(inputLost),
			Detail: l.why + "; the shard goes on without them (inputs.lost is skip)",
		}))
		s.cycle.tally.rejected[inputLost]++
	}
}

// confessed tells the rest of the world, once it is true.
func (s *shard) confessed() {
	for _, l := range s.missing {
		s.p.log.Warn("records of an input are lost and left behind", "shard", s.id, "topic", l.topic, "partition", l.partition, "offset", l.from, "records", l.records, "why", l.why)
		s.p.metrics.lost.WithLabelValues(label(s.id), l.topic).Add(float64(l.records))
	}
	s.missing = nil
}

// emptied tells of outputs that were deleted and made again since this process has first seen them: their readers have lost what
// was in them, and of the profiles only those come again whose customers move.
func (p *Pipeline) emptied(ids map[string]string) {
	for _, t := range OutputTopics(p.cfg) {
		was, known := p.outputs.LoadOrStore(t.Name, ids[t.Name])
		if known && was != ids[t.Name] && p.outputs.CompareAndSwap(t.Name, was, ids[t.Name]) {
			p.log.Warn("an output topic was deleted and made again: what was in it is gone", "topic", t.Name, "id", ids[t.Name], "was", was)
			p.metrics.emptied.WithLabelValues(t.Name).Inc()
		}
	}
}

// changelogLost says whether an empty changelog is one that has lost everything: the group remembers, for lag tools,
// how far the application had come. With another epoch the operator has begun over.
func (s *shard) changelogLost(ctx context.Context) error {
	found, err := s.adm.FetchOffsetsForTopics(ctx, s.p.cfg.App, InputTopics(s.p.cfg)...)
	if err != nil {
		return fmt.Errorf("ask for the group's offsets: %w", err)
	}
	for _, o := range found.Offsets().Sorted() {
		if o.Partition%s.p.Shards() == s.id && o.At > 0 && o.Metadata == epochText(s.made.Epoch) {
			return lostChangelog(s.id, fmt.Sprintf("%s/%d was read up to %d", o.Topic, o.Partition, o.At))
		}
	}
	return nil
}

func lostChangelog(id int32, proof string) error {
	return &stopError{"changelog_lost", fmt.Errorf("partition %d of the changelog has no state, but there was one (%s): import a snapshot, or begin over with \"asiduo reset\"", id, proof)}
}

// recreated judges a changelog that is another topic than the store's: after a reset or an import, or lost.
func (s *shard) recreated(ctx context.Context, was *store.Mark) error {
	topic := changelogTopic(s.p.cfg.App)
	is, err := readable(ctx, s.adm, topic)
	if err != nil {
		return err
	}
	last, err := lastCheckpoint(ctx, s.p.client, topic, s.id, is.first[topic][s.id], is.stable[topic][s.id])
	if err != nil {
		return err
	}
	if was.Made.Epoch == s.made.Epoch && last.Owner == "" {
		return lostChangelog(s.id, fmt.Sprintf("the store has cycle %d of a changelog that was deleted and made again", was.Cycle))
	}
	return fmt.Errorf("%w: it is of another changelog", errDiverged)
}

func epochText(epoch int) string { return fmt.Sprintf("epoch %d", epoch) }
