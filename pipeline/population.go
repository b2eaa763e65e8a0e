package pipeline

import (
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/population"
	"github.com/asiduo/asiduo/state/store"
)

// people is what the customers of a shard count as. It is not stored: when a shard is acquired, one goroutine counts
// the customers as they were then, while cycles note what they change; once the count is there, both together are
// exact, and nothing has waited for it.
type people struct {
	count   population.Population // of changes alone until known
	number  int64                 // of customers; of changes alone until known
	known   bool
	scanned chan scanned

	told   *parameters.Population // as last published
	toldAt time.Time
	led    *parameters.Set // shard 0: the set that was last looked at
	ledAt  time.Time
	cuts   uint32 // shard 0: the version published last, which the set need not show yet
	live   bool   // shard 0: the end of the building is published
}

type scanned struct {
	count  population.Population
	number int64
	err    error
}

// tellEvery is how often a shard publishes its population at most, when only its numbers have changed.
const tellEvery = 10 * time.Minute

// beginCount begins the count of the customers as they are stored now.
func (s *shard) beginCount() error {
	v, err := s.store.View()
	if err != nil {
		return err
	}
	s.people.scanned = make(chan scanned, 1)
	go func(reply chan<- scanned) {
		r := scanned{}
		r.err = count(v, &r)
		r.err = errors.Join(r.err, v.Close())
		reply <- r
	}(s.people.scanned)
	if told := s.adopted.set.Populations[s.id]; told != nil && told.Epoch == s.made.Epoch {
		s.people.told, s.people.toldAt = told, time.Now()
	}
	return nil
}

func count(v *store.View, r *scanned) error {
	var m population.Member
	return v.Stored(func(c *state.Customer) {
		m = c.Member(m[:0])
		r.count.Add(m, 1)
		r.number++
	})
}

// takeCount adds the count to the changes since, when it is there.
func (s *shard) takeCount() error {
	h := &s.people
	select {
	case r := <-h.scanned:
		if r.err != nil {
			return r.err
		}
		h.count.Merge(&r.count)
		h.number += r.number
		h.known = true
	default:
	}
	return nil
}

// recount notes what the committed cycle has changed.
func (h *people) recount(o *overlay) {
	for _, e := range o.order {
		if !e.newCustomer {
			continue
		}
		if !slices.Equal(e.is.counted, e.counts) {
			h.count.Add(e.is.counted, -1)
			h.count.Add(e.counts, 1)
		}
		if len(e.is.customer) == 0 {
			h.number++
		}
	}
}

// tell puts into the cycle what the shard has to tell all others: its population, and as the owner of shard 0 cuts and
// the end of the building. Everything is said of what is committed; what the running cycle changes is told the next
// time. What is noted as told dies with the shard if the cycle is not committed.
func (s *shard) tell() error {
	if err := s.takeCount(); err != nil {
		return err
	}
	if err := s.tellPopulation(); err != nil {
		return err
	}
	if s.id == 0 {
		return s.lead()
	}
	return nil
}

func (s *shard) tellPopulation() error {
	h, m := &s.people, &s.mark
	now, clock := s.clock.now()
	if !h.known || !clock || !m.CaughtUp {
		return nil
	}
	if s.clock.kind == "manual" && !s.adopted.set.Quintiles() { // nobody asks
		return nil
	}
	is := &parameters.Population{
		Epoch: s.made.Epoch, At: now, CaughtUp: true, Versions: m.Versions, Swept: m.Sweep == nil, Population: h.count,
	}
	if t := h.told; t != nil && t.CaughtUp && t.Versions == is.Versions && t.Swept == is.Swept &&
		(time.Since(h.toldAt) < tellEvery || t.Population.Equal(&h.count)) {
		return nil
	}
	record, err := is.Record(s.p.cfg.App, s.id)
	if err != nil { // a count below zero: it is only a count
		s.p.log.Error("the population is counted anew", "shard", s.id, "err", err)
		*h = people{led: h.led, ledAt: h.ledAt, cuts: h.cuts, live: h.live}
		return s.beginCount()
	}
	is.Population = population.Population{}
	is.Population.Merge(&h.count) // which goes on
	h.told, h.toldAt = is, time.Now()
	s.publication(record)
	return nil
}

// publication puts a record for the topic of the parameters into the cycle, which is then committed even if it has
// nothing else.
func (s *shard) publication(r *kgo.Record) {
	s.cycle.out = append(s.cycle.out, r)
	s.adopted.news = true
}

// lead publishes cuts and the end of the building. Versions are never changed, so none is given twice: what is
// published is waited for.
func (s *shard) lead() error {
	h := &s.people
	set := s.p.tail.Current()
	if set == h.led && time.Since(h.ledAt) < tellEvery {
		return nil
	}
	now, known := s.clock.now()
	if !known || set.Epoch.Epoch != s.made.Epoch || set.Newest.Cuts < h.cuts || !s.mark.CaughtUp {
		return nil
	}
	h.led, h.ledAt = set, time.Now()
	if cuts := set.NextCuts(s.p.Shards(), now); cuts != nil {
		record, err := cuts.Record(s.p.cfg.App)
		if err != nil {
			return err
		}
		s.p.log.Info("new cuts of money", "version", cuts.Version, "cuts", cuts.Cuts, "buyers", cuts.Buyers, "orders", cuts.Orders)
		h.cuts = cuts.Version
		s.publication(record)
		return nil
	}
	if live := set.NextLive(s.p.Shards(), now); live != nil && s.p.builds() && !h.live {
		record, err := live.Record(s.p.cfg.App)
		if err != nil {
			return err
		}
		h.live = true
		s.publication(record)
	}
	return nil
}
