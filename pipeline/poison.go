package pipeline

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/asiduo/asiduo/state/store"
)

// recordID names a record of an input.
type recordID struct {
	topic     string
	partition int32
	offset    int64
}

const (
	// maxPoison is how often our own code may fail at the same place before something is given up.
	maxPoison = 3
	// maxDead is how many records of a shard may be given up within an hour: more are no poison but a bug, which must
	// not turn the stream into dead letters.
	maxDead = 10
)

// poisonError is a fault of our own code: at one record, or among several, or in silence.
type poisonError struct {
	at      recordID // without topic if no single record is to blame
	records int      // of the cycle
	who     uint64   // hash of the customer at work, 0 if there was none
	err     error
}

func (e *poisonError) Error() string {
	switch {
	case e.at.topic != "":
		return fmt.Sprintf("process %s/%d@%d: %v", e.at.topic, e.at.partition, e.at.offset, e.err)
	case e.records > 0:
		return fmt.Sprintf("process a cycle of %d records: %v", e.records, e.err)
	}
	return fmt.Sprintf("play the silence of a customer: %v", e.err)
}
func (e *poisonError) Unwrap() error { return e.err }

// poisoned counts such faults over the acquisitions of a shard: for each record, since several in one cycle take turns
// in ending it; for cycles in which no record can be blamed; and for silence.
type poisoned struct {
	times   map[recordID]int
	several int
	silence int
	suspect uint64      // at whom the last three of several failed
	rounds  int         // how often they did, and processing one by one did not help
	alone   int         // records that are still to be processed one by one
	waited  bool        // the last cycle of those was for silence
	dead    []time.Time // when records were given up, the last hour's
}

// note counts a fault, and makes a reason to stop of one that no dead letter can heal.
func (p *poisoned) note(err error) error {
	e, ok := errors.AsType[*poisonError](err)
	switch {
	case !ok:
	case e.at.topic != "":
		return p.noteRecord(e)
	case e.records > 0:
		if p.several++; p.several >= maxPoison {
			return p.noteSeveral(e)
		}
	default:
		if p.silence++; p.silence >= maxPoison {
			return &stopError{"poison", e}
		}
	}
	return err
}

// noteSeveral lets records go one by one, and silence between them. While records keep coming that may never be due: when the
// same customer is met again and again, the records are not to blame.
func (p *poisoned) noteSeveral(e *poisonError) error {
	if p.suspect != e.who {
		p.suspect, p.rounds = e.who, 0
	}
	p.several, p.alone, p.waited = 0, e.records, false
	if p.rounds++; p.rounds < maxPoison || e.who == 0 {
		return e
	}
	p.rounds = 0
	return &stopError{"poison", &poisonError{who: e.who, err: e.err}}
}

func (p *poisoned) noteRecord(e *poisonError) error {
	if p.times == nil {
		p.times = map[recordID]int{}
	}
	p.times[e.at]++
	switch n := p.times[e.at]; {
	case n > maxPoison: // its dead letter fails too
		p.times[e.at] = maxPoison
		return &stopError{"poison", e}
	case n == maxPoison:
		for len(p.dead) > 0 && time.Since(p.dead[0]) > time.Hour {
			p.dead = p.dead[1:]
		}
		if len(p.dead) >= maxDead {
			p.times[e.at]--
			return &stopError{"poison", fmt.Errorf("%d records within an hour could not be processed, which is a fault of this release: %w", maxDead+1, e)}
		}
		p.dead = append(p.dead, time.Now())
		p.rounds = 0 // it was a record
	}
	return e
}

func (p *poisoned) skips(at recordID) bool { return p.times[at] >= maxPoison }

// share is what the next cycle may take: after faults that no record could be blamed for, records go one by one, and
// silence for itself between them.
func (p *poisoned) share(most int) (records int, silence bool) {
	switch {
	case p.alone == 0:
		return most, true
	case p.waited:
		return 1, false
	}
	return 0, true
}

// passed notes that such a cycle has gone well, with so many records and timers.
func (p *poisoned) passed(records, timers int, silence bool) {
	if records > 0 {
		p.several = 0
	}
	if timers > 0 {
		p.silence, p.rounds = 0, 0
	}
	if p.alone > 0 {
		p.alone = max(p.alone-records, 0)
		p.waited = silence
	}
}

// blame makes an error of a panic in the work of a cycle. What the database calls fatal is none of our code's.
func (s *shard) blame(v any) error {
	c := &s.cycle
	if fatal, ok := v.(*store.FatalError); ok {
		return fatal
	}
	e := &poisonError{at: c.at, records: c.consumed, err: panicked(v)}
	if e.at.topic == "" && s.poison.alone > 0 && c.consumed == 1 {
		e.at = c.last
	}
	if c.who != "" {
		e.who = xxhash.Sum64String(c.who)
	}
	s.p.log.Error("panic in the work of a cycle", "shard", s.id, "err", e.err, "stack", string(debug.Stack()))
	return e
}

// caught makes an error of a panic outside the work of a cycle, and logs where it was.
func (p *Pipeline) caught(id int32, v any) error {
	err := panicked(v)
	p.log.Error("panic in shard", "shard", id, "err", err, "stack", string(debug.Stack()))
	return err
}

// panicked is the error of a panic. It tells what the runtime and our database say, which name nobody; what other code says
// may have a customer in it, and the stack tells where it was.
func panicked(v any) error {
	switch v := v.(type) {
	case *store.FatalError:
		return v
	case runtime.Error:
		return fmt.Errorf("panic: %w", v)
	}
	return fmt.Errorf("panic with a %T", v)
}
