package main

import (
	"fmt"
	"io"

	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
	"github.com/asiduo/asiduo/state/model/holdout"
)

// calibrate holds a kind, fitted at cuts before the cut as it is fitted at the cut, against what came after them, from the day since on;
// births says that the log has everybody's first order.
func calibrate(known []holdout.Customer, since, cut, horizon int32, kind fit.Kind, births bool) (*fit.Calibration, *holdout.Tried) {
	c, tried := holdout.Calibrate(known, since, cut, horizon, func(known []holdout.Customer, day int32) model.Model {
		if !births {
			known, _ = holdout.Born(known, since, day)
		}
		e := fit.Choose(holdout.Histories(known, day), kind).Use()
		if e.Status == fit.TooFew || e.Status == fit.NotConverged {
			return nil
		}
		return e.Model()
	})
	for i := range c.Origins {
		c.Origins[i].Day = dateOf(c.Origins[i].Cut)
	}
	return c, tried
}

// prove adds what a pipeline needs beside the parameters: how a model that may be used did on the past of the shop, ranks of
// the probability of no order within a horizon of days as the method gives it, and spending on all days. A version that runs is
// held against the same days.
func (l *lesson) prove(f *fit.File, horizon int, running *parameters.Model) error {
	f.Horizon = horizon
	chance := func(h fit.History) float64 {
		return model.Rhythm{ShopGap: f.Heuristic.ShopGapDays}.Silence(h.X, h.TX, h.E)
	}
	if f.Churn.Usable() {
		m, err := f.Churn.Model()
		if err != nil {
			return err
		}
		chance = func(h fit.History) float64 { return m.NoOrder(h.X, h.TX, h.E, float64(horizon)) }
		var tried *holdout.Tried
		f.Calibration, tried = calibrate(l.known, l.since, l.until, int32(horizon), f.Churn.Method, l.births)
		f.Against = against(running, tried)
	}
	scores := make([]model.Score, len(l.known))
	for i, h := range holdout.Histories(l.known, l.until) {
		scores[i] = model.Score{Orders: int(h.X) + 1, Probability: int32(state.InMillionths(chance(h)))}
	}
	f.Percentiles = model.LearnPercentiles(scores)
	if f.Spending != nil {
		f.SpendingAll = fit.FitSpending(holdout.AllSpends(l.known, l.until)).Written(l.currency, "all")
	}
	return nil
}

// writeProof says how the model did on its own past, what is made of it, and how the version that runs did there.
func writeProof(out io.Writer, f *fit.File, running *parameters.Model) {
	if c := f.Calibration; c != nil {
		writeCalibration(out, c)
	}
	if a := f.Against; a != nil {
		fmt.Fprintln(out, tellAgainst(a, f.Calibration.Tried()))
	} else if running != nil {
		fmt.Fprintf(out, "not held against version %d (%s), which runs: %s\n", running.Version, running.Method, unheld(f, running))
	}
}

func writeCalibration(out io.Writer, c *fit.Calibration) {
	fmt.Fprintf(out, "\nheld against the orders of %d days after earlier cuts: ", c.Map.Days)
	tried := c.Tried()
	if tried == nil {
		fmt.Fprintln(out, c.Reason)
		return
	}
	fmt.Fprintf(out, "AUC %.3f, ECE %.3f; calibration %s, %s\n", tried.AUC, tried.ECE, c.Map.Method, c.Reason)
}
