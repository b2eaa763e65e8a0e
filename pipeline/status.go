package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// ShardStatus is how one shard of this process does.
type ShardStatus struct {
	Shard   int32         `json:"shard"`
	State   string        `json:"state"` // assigned, acquiring, restoring, running, disk_full, closed, stopped
	Reason  string        `json:"reason,omitempty"`
	Cycle   uint64        `json:"cycle"`
	Horizon state.Instant `json:"horizon"` // silence has been played up to here

	Versions state.Versions `json:"versions"`            // of the parameters, as adopted
	Sweep    *Sweep         `json:"sweep,omitempty"`     // of the customers to them, under way
	CaughtUp bool           `json:"caught_up"`           // once: the end of the inputs has been reached
	Building bool           `json:"building"`            // nothing is announced yet
	LiveFrom state.Instant  `json:"live_from,omitempty"` // changes are news from then on; 0: all are, or none while building

	next map[string]map[int32]int64 // committed positions
}

// Sweep is how far the move of a shard's customers to new parameters is.
type Sweep struct {
	Family string   `json:"family"`
	Done   int64    `json:"done"`            // customers
	Share  *float64 `json:"share,omitempty"` // of all; nil while they have not been counted
}

// board is where shards post how they do, for everybody else.
type board struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	shards  map[int32]ShardStatus
	serving map[int32]*shard
	pinned  map[int32]string // shards that run and cannot read on
	group   error            // why the group does not have us
}

func newBoard() board {
	return board{changed: make(chan struct{}), shards: map[int32]ShardStatus{}, serving: map[int32]*shard{}}
}

func (b *board) update(id int32, f func(*ShardStatus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shards[id]
	s.Shard = id
	f(&s)
	b.shards[id] = s
	b.tell()
}

// tell wakes up those who wait for a change.
func (b *board) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (p *Pipeline) setState(id int32, name string, why error) {
	p.board.update(id, func(s *ShardStatus) {
		s.State, s.Reason = name, ""
		if why != nil {
			s.Reason = why.Error()
		}
	})
	p.metrics.state(id, name)
}

// publish posts what the shard has committed.
func (s *shard) publish() {
	next := make(map[string]map[int32]int64, len(s.next))
	for topic, at := range s.next {
		next[topic] = maps.Clone(at)
	}
	s.p.board.update(s.id, func(st *ShardStatus) {
		st.Cycle, st.Horizon, st.next = s.mark.Cycle, s.silence.played, next
		s.adopted.status(s, st)
	})
	s.p.metrics.progress(s)
}

// status says what is adopted, and how far the sweep is.
func (a *adopted) status(s *shard, st *ShardStatus) {
	st.Versions, st.CaughtUp, st.Sweep = a.is.Versions, a.caughtUp, nil
	if st.LiveFrom = s.liveFrom(); st.LiveFrom == state.Never {
		st.Building, st.LiveFrom = true, 0
	} else {
		st.Building = false
	}
	if a.move != nil {
		st.Sweep = &Sweep{Family: a.sweep.Family, Done: a.sweep.Done}
		if share, known := s.progress(); known {
			st.Sweep.Share = &share
		}
	}
}

// progress is the share of the customers that stand under the adopted parameters; false while it is not known.
func (s *shard) progress() (share float64, known bool) {
	if s.adopted.move == nil {
		return 1, true
	}
	return min(1, float64(s.adopted.sweep.Done)/float64(max(s.people.number, 1))), s.people.known
}

func (p *Pipeline) horizonOf(id int32) state.Instant {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	return p.board.shards[id].Horizon
}

func (p *Pipeline) cycleOf(id int32) uint64 {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	return p.board.shards[id].Cycle
}

// forget drops a shard that is no longer ours.
func (p *Pipeline) forget(id int32) {
	p.board.mu.Lock()
	delete(p.board.shards, id)
	p.board.mu.Unlock()
	p.metrics.forget(id)
}

func (p *Pipeline) serving(id int32, s *shard) {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	if s == nil {
		delete(p.board.serving, id)
	} else {
		p.board.serving[id] = s
	}
}

func (p *Pipeline) serves(id int32) bool {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	return p.board.serving[id] != nil
}

// owned is how many shards this process serves.
func (p *Pipeline) owned() int {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	return len(p.board.serving)
}

// Status is how the shards of this process do, by number.
func (p *Pipeline) Status() []ShardStatus {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	all := slices.SortedFunc(maps.Values(p.board.shards), func(a, b ShardStatus) int { return int(a.Shard - b.Shard) })
	for i := range all {
		s := &all[i]
		if s.State != "running" {
			continue
		}
		s.Reason = p.board.pinned[s.Shard]
		if serving := p.board.serving[s.Shard]; serving != nil && serving.clock.doubted() {
			d, _ := serving.clock.difference()
			side := "ahead of"
			if d < 0 {
				side = "behind"
			}
			s.Reason = fmt.Sprintf("clock: the machine's clock is %s the brokers' by %v, one of them must be wrong: silence waits", side, d.Abs().Round(time.Second))
		}
	}
	return all
}

// Positions are the next offsets to read, of the inputs' partitions that this process reads.
func (p *Pipeline) Positions() map[string]map[int32]int64 { return p.positions(0) }

// committed are those of shards that have a state.
func (p *Pipeline) committed() map[string]map[int32]int64 { return p.positions(1) }

func (p *Pipeline) positions(cycle uint64) map[string]map[int32]int64 {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	all := map[string]map[int32]int64{}
	for _, s := range p.board.shards {
		if s.Cycle < cycle {
			continue
		}
		for topic, at := range s.next {
			if all[topic] == nil {
				all[topic] = map[int32]int64{}
			}
			maps.Copy(all[topic], at)
		}
	}
	return all
}

// Settled says whether nothing that is published, or is to be published of what the customers spend, is still to be
// carried out.
func (p *Pipeline) Settled() bool {
	set := p.tail.Current()
	now, known := p.Now()
	if set.Quintiles() && (!known || !set.Counted(p.Shards()) || set.NextCuts(p.Shards(), now) != nil) {
		return false
	}
	status := p.Status()
	for _, s := range status {
		if s.Sweep != nil || s.Versions != set.Latest(s.Versions) {
			return false
		}
	}
	return len(status) == int(p.Shards())
}

// Wait returns when the condition holds, or with ctx's error. The condition is looked at again whenever a shard posts
// something, or something is published.
func (p *Pipeline) Wait(ctx context.Context, until func() bool) error {
	for {
		p.board.mu.Lock()
		changed := p.board.changed
		p.board.mu.Unlock()
		published := p.tail.Changed()
		if until() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-published:
		}
	}
}

// Shards is the number of shards of the pipeline; known while Run runs.
func (p *Pipeline) Shards() int32 { return p.shards.Load() }

// ShardOf is the shard a customer lives in.
func (p *Pipeline) ShardOf(customer string) int32 {
	place, err := NewPartitioner(p.cfg.Inputs.Partitioner)
	if err != nil || p.Shards() == 0 {
		return -1
	}
	return place([]byte(customer), p.Shards())
}

// View is the committed state of a shard as it is now; store.ErrClosed if this process does not serve it.
func (p *Pipeline) View(id int32) (*store.View, error) {
	p.board.mu.Lock()
	s := p.board.serving[id]
	p.board.mu.Unlock()
	if s == nil {
		return nil, store.ErrClosed
	}
	return p.adopted(s.store)
}

// adopted is a view of a store that shows its customers under the parameters that the shard has adopted.
func (p *Pipeline) adopted(s *store.Store) (*store.View, error) {
	v, err := s.View()
	if err != nil {
		return nil, err
	}
	set := p.tail.Current()
	if err := adoptView(set, v, func(vs state.Versions) (*state.Parameters, error) { return p.parameters(set, vs) }); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// ViewAt is the committed state of a shard after the first cycle whose horizon has reached an instant: whatever was
// going to happen by then has happened in it.
func (p *Pipeline) ViewAt(ctx context.Context, id int32, at state.Instant) (*store.View, error) {
	w := &p.wanted[id]
	request := &viewRequest{at: at, reply: make(chan viewReply, 1)}
	w.add(request)
	defer w.remove(request)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-request.reply:
		return r.view, r.err
	}
}

// viewRequest waits for a shard's horizon.
type viewRequest struct {
	at    state.Instant
	reply chan viewReply
}

type viewReply struct {
	view *store.View
	err  error
}

// viewRequests are those that wait for one shard. They outlive an acquisition.
type viewRequests struct {
	mu   sync.Mutex
	open []*viewRequest
}

func (w *viewRequests) add(r *viewRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, r)
}

func (w *viewRequests) remove(r *viewRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = slices.DeleteFunc(w.open, func(o *viewRequest) bool { return o == r })
	select { // answered while the asker went away
	case a := <-r.reply:
		if a.view != nil {
			_ = a.view.Close()
		}
	default:
	}
}

func (w *viewRequests) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.open) > 0
}

// serveViews gives views to those whose instant the horizon has reached.
func (s *shard) serveViews() {
	w := &s.p.wanted[s.id]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = slices.DeleteFunc(w.open, func(r *viewRequest) bool {
		if r.at > s.silence.played {
			return false
		}
		v, err := s.p.adopted(s.store)
		r.reply <- viewReply{v, err}
		return true
	})
}
