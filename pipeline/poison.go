package pipeline

import (
	"errors"
	"fmt"
)

// recordID names a record of an input.
type recordID struct {
	topic     string
	partition int32
	offset    int64
}

// maxPoison is how often a record may fail before it becomes a dead letter.
const maxPoison = 3

// poisonError is a fault of our own code at one record.
type poisonError struct {
	at  recordID
	err error
}

func (e *poisonError) Error() string {
	return fmt.Sprintf("process %s/%d@%d: %v", e.at.topic, e.at.partition, e.at.offset, e.err)
}
func (e *poisonError) Unwrap() error { return e.err }

// poisoned counts such faults over the acquisitions of a shard, each record for itself: several in one cycle take turns
// in ending it.
type poisoned struct{ times map[recordID]int }

func (p *poisoned) note(err error) {
	if e, ok := errors.AsType[*poisonError](err); ok {
		if p.times == nil {
			p.times = map[recordID]int{}
		}
		p.times[e.at]++
	}
}

func (p *poisoned) skips(at recordID) bool { return p.times[at] >= maxPoison }
