package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Difference is something in which a store is not what the changelog makes of it. Customer is empty for the shard as a
// whole.
type Difference struct {
	Customer string
	What     string // "customer", "interactions", "timer", "checkpoint", "position"
	How      string // a sentence's end
}

// Verified is what came out of holding a store against the changelog.
type Verified struct {
	Records, Timers int
	Passed          int // records that were not compared: they were written again while the changelog was read
	Differences     []Difference
	More            int // differences beyond the first
}

const mostDifferences = 20

func (v *Verified) differs(customer, what, how string, args ...any) {
	if len(v.Differences) == mostDifferences {
		v.More++
		return
	}
	v.Differences = append(v.Differences, Difference{customer, what, fmt.Sprintf(how, args...)})
}

// Verify restores a shard into an empty store, with the code that acquires shards, up to the position of the view of a
// store, and compares the two. Both are then the state of the same cycle: every byte must be the same, and each customer
// must have a timer that is not later than his due instant.
func Verify(ctx context.Context, adm *kadm.Client, connect parameters.Connect, c config.Config, shard int32, is *store.View, empty *store.Store) (*Verified, error) {
	v := &Verified{}
	topic := changelogTopic(c.App)
	id, _, err := topicNow(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	if is.Mark.TopicID != id {
		v.differs("", "position", "it is of another changelog (topic id %s, now %s): the changelog was deleted and made again", is.Mark.TopicID, id)
		return v, nil
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask where the changelog ends: %w", err)
	}
	if end, _ := ends.Lookup(topic, shard); end.Offset <= is.Mark.Offset {
		v.differs("", "position", "it is at offset %d of the changelog, which ends at %d: the changelog was cut", is.Mark.Offset, end.Offset)
		return v, nil
	}
	f := &filling{shard: shard, topicID: id, store: empty, batch: empty.NewBatch(), fresh: time.Now().UnixMilli(), share: 1 << 20, write: func(commit func() error) error { return commit() }}
	defer func() { f.batch.Discard() }()
	later, next, err := f.readTo(ctx, adm, connect, topic, is.Mark.Offset)
	if err != nil {
		return nil, err
	}
	should, err := empty.View()
	if err != nil {
		return nil, err
	}
	defer func() { _ = should.Close() }()
	if err := v.place(ctx, adm, topic, shard, is, should, next); err != nil {
		return nil, err
	}
	if err := v.records(is, should, later); err != nil {
		return nil, err
	}
	return v, v.timers(is)
}

// place holds that the store stands where the changelog has, or had, its checkpoint, as restore and filling.known do; next is
// the first checkpoint behind it.
func (v *Verified) place(ctx context.Context, adm *kadm.Client, topic string, shard int32, is, should *store.View, next *store.Checkpoint) error {
	if should.Mark.Offset == is.Mark.Offset {
		if a, b := checkpointText(is), checkpointText(should); a != b {
			v.differs("", "checkpoint", "store %s, changelog %s", a, b)
		}
		return nil
	}
	switch {
	case next == nil:
		v.differs("", "checkpoint", "its checkpoint is not at offset %d of the changelog", is.Mark.Offset)
	case next.Owner != is.Mark.Owner:
		v.differs("", "checkpoint", "nobody can tell whether it is true: its checkpoint is gone from offset %d, and the next one is another owner's", is.Mark.Offset)
	}
	why, err := cutSince(ctx, adm, topic, shard, &is.Mark)
	if why != "" { // or the leader has changed since the owner's beginning, whose epoch is the store's
		v.differs("", "checkpoint", "nobody can tell whether the changelog was cut since: its checkpoint is gone, and %s", why)
	}
	return err
}

func checkpointText(v *store.View) string {
	b, err := json.Marshal(v.Mark.Checkpoint)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// readTo takes the records up to and including an offset. Compaction may have removed some of them in favour of later ones,
// so the keys of those are returned, and the first checkpoint among them. They too must be readable: the next owner will read them.
func (f *filling) readTo(ctx context.Context, adm *kadm.Client, connect parameters.Connect, topic string, last int64) (later map[string]struct{}, next *store.Checkpoint, err error) {
	starts, err := readable(ctx, adm, topic)
	if err != nil {
		return nil, nil, err
	}
	for r, err := range Committed(ctx, connect, topic, f.shard, starts.first[topic][f.shard], last+1) {
		if err != nil {
			return nil, nil, err
		}
		if err := f.take(r); err != nil {
			return nil, nil, err
		}
	}
	if err := f.flush(); err != nil {
		return nil, nil, err
	}
	ends, err := readable(ctx, adm, topic)
	if err != nil {
		return nil, nil, err
	}
	later = map[string]struct{}{}
	for r, err := range Committed(ctx, connect, topic, f.shard, last+1, ends.stable[topic][f.shard]) {
		if err != nil {
			return nil, nil, err
		}
		if r.Attrs.IsControl() {
			continue
		}
		if err := f.decode(r); err != nil {
			return nil, nil, err
		}
		if next == nil && string(r.Key) == checkpointKey {
			c, err := decodeCheckpoint(r)
			if err != nil {
				return nil, nil, err
			}
			next = &c
		}
		later[string(r.Key)] = struct{}{}
	}
	return later, next, nil
}

// records merges the records of both.
func (v *Verified) records(is, should *store.View, later map[string]struct{}) error {
	nextA, stopA := iter.Pull2(is.Records())
	defer stopA()
	nextB, stopB := iter.Pull2(should.Records())
	defer stopB()
	a, errA, okA := nextA()
	b, errB, okB := nextB()
	for okA || okB {
		if errA != nil {
			return errA
		}
		if errB != nil {
			return errB
		}
		order := bytes.Compare(a.Key, b.Key)
		if !okA {
			order = 1
		} else if !okB {
			order = -1
		}
		key := a.Key
		if order > 0 {
			key = b.Key
		}
		_, again := later[string(key)]
		switch {
		case order < 0 && again: // compaction may have taken it
			v.Passed++
		case order < 0:
			v.differs(store.CustomerID(key), kindOf(key), "is in the store only")
		case order > 0:
			v.differs(store.CustomerID(key), kindOf(key), "is in the changelog only")
		case again && !bytes.Equal(a.Value, b.Value):
			v.Passed++
		case !bytes.Equal(a.Value, b.Value):
			n := 0
			for n < min(len(a.Value), len(b.Value)) && a.Value[n] == b.Value[n] {
				n++
			}
			v.differs(store.CustomerID(key), kindOf(key), "differs from byte %d on: store %x, changelog %x", n, tail(a.Value, n), tail(b.Value, n))
		}
		if order <= 0 {
			v.Records++
			a, errA, okA = nextA()
		}
		if order >= 0 {
			b, errB, okB = nextB()
		}
	}
	return nil
}

func kindOf(key []byte) string {
	if store.IsCustomerKey(key) {
		return "customer"
	}
	return "interactions"
}

// tail are a few bytes from the n-th on.
func tail(b []byte, n int) []byte { return b[n:min(len(b), n+8)] }

// timers holds that whoever is due will be looked at in time.
func (v *Verified) timers(is *store.View) error {
	first := map[string]state.Instant{}
	for t, err := range is.Timers() {
		if err != nil {
			return err
		}
		v.Timers++
		if _, ok := first[t.ID]; !ok {
			first[t.ID] = t.At
		}
	}
	var c state.Customer
	for r, err := range is.Records() {
		if err != nil {
			return err
		}
		if !store.IsCustomerKey(r.Key) {
			break
		}
		id := store.CustomerID(r.Key)
		if err := c.Decode(r.Value); err != nil {
			v.differs(id, "customer", "cannot be read: %v", err)
			continue
		}
		at, ok := first[id]
		switch {
		case c.Due == state.Never || ok && at <= c.Due:
		case !ok:
			v.differs(id, "timer", "is missing: due at %s", instantText(c.Due))
		default:
			v.differs(id, "timer", "comes at %s, after %s, when it is due", instantText(at), instantText(c.Due))
		}
	}
	return nil
}

func instantText(t state.Instant) string {
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02T15:04:05.000Z")
}
