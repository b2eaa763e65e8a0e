package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/kpi"
)

// stories are what is known of each customer.
func (l *purchaseLog) stories() [][]*state.Fact {
	of := map[string][]*state.Fact{}
	for i := range l.facts {
		f := &l.facts[i]
		of[f.Customer] = append(of[f.Customer], f)
	}
	return slices.Collect(maps.Values(of))
}

// stories are what is known of each buyer, every order as if it had been from its first instant on as it is now; who never bought, and was
// a prospect for an order that does not count, is none of them.
func (b *buying) stories() [][]*state.Fact {
	all := make([][]*state.Fact, len(b.buyers))
	for i := range b.buyers {
		l := &b.buyers[i].Ledger
		for _, o := range l.Orders {
			all[i] = append(all[i], &state.Fact{At: o.OrderedAt, Order: o})
		}
		for _, r := range l.Refunds {
			all[i] = append(all[i], &state.Fact{Kind: state.RefundFact, At: r.At, Refund: r})
		}
	}
	return all
}

// funnels are the moves of customers between stages of the life cycle up to the end of a day, as the pipeline would have seen them by
// the parameters of the configuration.
func funnels(cfg config.Config, stories [][]*state.Fact, until int32) ([]kpi.Funnel, error) {
	p, err := pipeline.FirstParameters(cfg)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(cfg.Time.Zone)
	if err != nil {
		return nil, err
	}
	end := state.Instant(dayTime(until+1, zone).UnixMilli()) - 1
	var paths [][]kpi.Stay
	for _, story := range stories {
		path := travel{p: p, zone: zone}
		path.c.Reset()
		slices.SortStableFunc(story, func(a, b *state.Fact) int { return cmp.Compare(a.At, b.At) })
		for _, f := range story {
			if f.At <= end {
				path.take(f)
			}
		}
		path.wait(end)
		if len(path.stays) > 0 {
			paths = append(paths, path.stays)
		}
	}
	return kpi.Funnels(paths, state.Lifecycles(), until), nil
}

// travel is one customer's way through the stages.
type travel struct {
	p     *state.Parameters
	zone  *time.Location
	c     state.Customer
	stays []kpi.Stay
	quiet []state.Change
}

var unheard = state.Telling{LiveFrom: state.Never}

func (t *travel) take(f *state.Fact) {
	t.wait(f.At)
	if t.c.Refuse(t.p, f) == "" {
		t.quiet = t.c.Apply(t.p, f, unheard, t.quiet[:0])
		t.look()
	}
}

// wait lets silence be played, one step after the other.
func (t *travel) wait(until state.Instant) {
	for t.c.Evaluated && t.c.Due <= until {
		t.quiet = t.c.Advance(t.p, t.c.Due, unheard, t.quiet[:0])
		t.look()
	}
}

func (t *travel) look() {
	stage := t.c.Lifecycle.String()
	if n := len(t.stays); n > 0 && t.stays[n-1].Stage == stage {
		return
	}
	y, m, d := time.UnixMilli(int64(t.c.EvaluatedAt)).In(t.zone).Date()
	t.stays = append(t.stays, kpi.Stay{Stage: stage, Day: int32(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)})
}

// writeFunnel tells the last quarter that is over; the others are in the JSON.
func writeFunnel(out io.Writer, last *kpi.Funnel) error {
	if last == nil {
		return nil
	}
	fmt.Fprintf(out, "\nwhere customers went from each stage of the life cycle in %s, of those who were in it\n", last.Period)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range last.Stages {
		fmt.Fprintf(w, "%s\t%d\t", s.Stage, s.Customers)
		for _, m := range s.To {
			fmt.Fprintf(w, "%s %.4f (%.0f)\t", m.Stage, m.Rate.Rate, m.Of)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
