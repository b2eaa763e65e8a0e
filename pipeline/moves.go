package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Candidate is rules or a model that may be published.
type Candidate struct {
	Rules *parameters.Rules `json:"rules,omitempty"`
	Model *parameters.Model `json:"model,omitempty"`
}

// on is the set as it would be with the candidate published.
func (c *Candidate) on(set *parameters.Set) (*parameters.Set, state.Cause, error) {
	switch {
	case c.Rules != nil && c.Model == nil:
		next, err := set.WithRules(*c.Rules, 1)
		return next, state.RulesCause, err
	case c.Model != nil && c.Rules == nil:
		next, err := set.WithModel(*c.Model, 1)
		return next, state.ModelCause, err
	}
	return nil, 0, errors.New("a candidate is rules or a model")
}

// Moves are what new parameters would change at once.
type Moves struct {
	Shards    []int32 `json:"shards"`    // whose customers are counted
	Customers int64   `json:"customers"` // with an order or a refund
	Segments  []Move  `json:"segments"`
	Bands     []Move  `json:"bands"`
	GapDays   []Gap   `json:"gap_days"` // between two days of orders of a customer, in the window
}

// Move is how many customers would go from one segment or band to another.
type Move struct {
	From      string `json:"from"`
	To        string `json:"to"`
	Customers int64  `json:"customers"`
}

// Gap is how often customers had so many days between two orders.
type Gap struct {
	Days  int   `json:"days"`
	Times int64 `json:"times"`
}

// mover counts what a candidate would change.
type mover struct {
	moves    Moves
	segments map[[2]string]int64
	bands    map[[2]string]int64
	gaps     map[int]int64
	quiet    []state.Change
}

// MovesOf counts what a candidate would change for the customers of views, which are closed. A view has been adopted.
func MovesOf(ctx context.Context, c config.Config, set *parameters.Set, candidate *Candidate, views map[int32]func() (*store.View, error)) (*Moves, error) {
	next, cause, err := candidate.on(set)
	if err != nil {
		return nil, err
	}
	m := mover{segments: map[[2]string]int64{}, bands: map[[2]string]int64{}, gaps: map[int]int64{}}
	for _, shard := range slices.Sorted(maps.Keys(views)) {
		v, err := views[shard]()
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", shard, err)
		}
		err = m.count(ctx, c, next, cause, v)
		if err := errors.Join(err, v.Close()); err != nil {
			return nil, fmt.Errorf("shard %d: %w", shard, err)
		}
		m.moves.Shards = append(m.moves.Shards, shard)
	}
	m.moves.Segments, m.moves.Bands = sorted(m.segments), sorted(m.bands)
	for _, days := range slices.Sorted(maps.Keys(m.gaps)) {
		m.moves.GapDays = append(m.moves.GapDays, Gap{days, m.gaps[days]})
	}
	return &m.moves, nil
}

func sorted(all map[[2]string]int64) []Move {
	list := make([]Move, 0, len(all))
	for k, n := range all {
		list = append(list, Move{k[0], k[1], n})
	}
	slices.SortFunc(list, func(a, b Move) int {
		return cmp.Or(cmp.Compare(b.Customers, a.Customers), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return list
}

func (m *mover) count(ctx context.Context, cfg config.Config, next *parameters.Set, cause state.Cause, v *store.View) error {
	versions := v.Params.Versions
	if cause == state.RulesCause {
		versions.Rules = next.Newest.Rules
	} else {
		versions.Model = next.Newest.Model
	}
	is, err := Parameters(cfg, next, versions)
	if err != nil {
		return err
	}
	silent := state.Telling{LiveFrom: state.Never}
	a := &state.Adoption{Was: v.Params, Is: is, At: v.Mark.Horizon, Cause: cause}
	for row, err := range v.Rows() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		c := row.Customer
		if c == nil || !c.Evaluated {
			continue
		}
		m.moves.Customers++
		m.quiet = c.Advance(v.Params, v.Mark.Horizon, silent, m.quiet[:0])
		published, band := c.Published, c.Band
		m.quiet, _ = c.Adopt(a, silent, m.quiet[:0])
		if c.Published != published {
			m.segments[[2]string{is.Rules.SegmentName(max(published, state.Prospect)), is.Rules.SegmentName(c.Published)}]++
		}
		if c.Band != band {
			m.bands[[2]string{band.String(), c.Band.String()}]++
		}
		m.gapsOf(c)
	}
	return nil
}

// gapsOf counts the days between two days of counted orders.
func (m *mover) gapsOf(c *state.Customer) {
	last, known := int32(0), false
	for i := range c.Orders {
		if c.Net(&c.Orders[i]) == 0 {
			continue
		}
		if day := c.Orders[i].Day; known && day > last {
			m.gaps[int(day-last)]++
		}
		last, known = c.Orders[i].Day, true
	}
}

// Moves counts what a candidate would change for the customers of this process' shards.
func (p *Pipeline) Moves(ctx context.Context, candidate *Candidate) (*Moves, error) {
	views := map[int32]func() (*store.View, error){}
	for _, s := range p.Status() {
		views[s.Shard] = func() (*store.View, error) { return p.View(s.Shard) }
	}
	return MovesOf(ctx, p.cfg, p.tail.Current(), candidate, views)
}

// leastRecency is the shortest time after which R may fall: a week, as people count.
const leastRecency = 7

// RecencyOf are the days after which R falls to 4, 3, 2, 1, from the customers' own gaps: half of all gaps are shorter
// than the first, 80, 90 and 97 of a hundred than the others; a week at least. false for fewer than 100 gaps.
func RecencyOf(gaps []Gap) (days [4]int, ok bool) {
	total := int64(0)
	for _, g := range gaps {
		total += g.Times
	}
	if total < 100 {
		return days, false
	}
	for k, percent := range []int64{50, 80, 90, 97} {
		sum := int64(0)
		for _, g := range gaps {
			if sum += g.Times; sum*100 >= percent*total {
				days[k] = max(g.Days, leastRecency)
				break
			}
		}
		if k > 0 && days[k] <= days[k-1] {
			days[k] = days[k-1] + 1
		}
	}
	return days, true
}
