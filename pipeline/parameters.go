package pipeline

import (
	"fmt"
	"sync"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
)

// RulesOf are the rules of a configuration as they are published.
func RulesOf(c config.Config) (r parameters.Rules, err error) {
	r = parameters.Rules{Name: c.Rules.Name, Window: days(c.Rules.WindowDays), Frequency: c.Rules.Frequency}
	r.Money.Mode = c.Rules.Money.Mode
	segments, preset := state.Preset(c.Rules.Name)
	if !preset {
		segments = own(c.Rules.Segments)
	}
	r.Segments = parameters.SegmentsOf(segments)
	for i, n := range c.Rules.RecencyDays {
		r.Recency[i] = days(n)
	}
	cuts, key := c.Rules.Money.Cuts[:], "cuts"
	if r.Money.Mode == parameters.Quintiles {
		cuts, key = c.Rules.Money.InitialCuts, "initial_cuts"
	}
	for _, cut := range cuts {
		m, err := cut.Minor(c.Digits())
		if err != nil {
			return r, fmt.Errorf("rules.money.%s: %w", key, err)
		}
		r.Money.Cuts = append(r.Money.Cuts, state.Money(m))
	}
	return r, nil
}

func own(segments []config.Segment) []state.SegmentRule {
	rules := make([]state.SegmentRule, len(segments))
	for i, g := range segments {
		rules[i] = state.SegmentRule{Name: g.Name, Rank: g.Rank}
		for _, w := range g.When {
			rules[i].When = append(rules[i].When, state.Cell{R: state.Span(w.R), F: state.Span(w.F), M: state.Span(w.M)})
		}
	}
	return rules
}

// ModelOf is the churn model of a configuration as it is published.
func ModelOf(c config.Config) (m parameters.Model, err error) {
	m = parameters.Model{Method: c.Churn.Method, Params: parameters.ModelParams(c.Churn.Params), Horizon: c.Churn.HorizonDays}
	for _, x := range []struct {
		to   *state.Millionths
		from config.Decimal
		key  string
	}{
		{&m.Bands[0], c.Churn.Bands[0], "bands"}, {&m.Bands[1], c.Churn.Bands[1], "bands"},
		{&m.Hysteresis, c.Churn.Hysteresis, "hysteresis"}, {&m.Jump, c.Churn.Jump, "jump"},
	} {
		n, err := x.from.Millionths()
		if err != nil {
			return m, fmt.Errorf("churn.%s: %w", x.key, err)
		}
		*x.to = state.Millionths(n)
	}
	return m, nil
}

// ValueOf is what a configuration says of the value of customers. The model of spending is in no file: it comes with a fit.
func ValueOf(c config.Config) (v parameters.Value, err error) {
	rate, err := c.Value.AnnualRate.Millionths()
	if err != nil {
		return v, fmt.Errorf("value.annual_rate: %w", err)
	}
	margin, err := c.Value.Margin.Millionths()
	if err != nil {
		return v, fmt.Errorf("value.margin: %w", err)
	}
	return parameters.Value{Horizon: c.Value.HorizonDays, AnnualRate: float64(rate) / 1e6, Margin: float64(margin) / 1e6}, nil
}

// FirstSet is the set that a new application of a configuration begins with. It proves rules and model.
func FirstSet(c config.Config) (*parameters.Set, error) {
	rules, err := RulesOf(c)
	if err != nil {
		return nil, err
	}
	model, err := ModelOf(c)
	if err != nil {
		return nil, err
	}
	set, err := (&parameters.Set{Epoch: parameters.Epoch{Epoch: 1}}).WithRules(rules, 0)
	if err != nil {
		return nil, err
	}
	return set.WithModel(model, 0)
}

// Parameters are those of versions of a set, with the limits of a configuration.
func Parameters(c config.Config, set *parameters.Set, v state.Versions) (*state.Parameters, error) {
	p, err := set.Parameters(v)
	if err != nil {
		return nil, err
	}
	p.Limits = state.Limits{Orders: c.Limits.OrdersPerCustomer, Refunds: c.Limits.RefundsPerCustomer, Purposes: c.Limits.ConsentPurposes}
	return p, nil
}

// FirstParameters are those that a new application of a configuration begins with.
func FirstParameters(c config.Config) (*state.Parameters, error) {
	set, err := FirstSet(c)
	if err != nil {
		return nil, err
	}
	return Parameters(c, set, set.Newest)
}

// proved are parameters by what they are made of, so that they are made once.
type proved struct {
	sync.Mutex
	all map[provedOf]*state.Parameters
}

type provedOf struct {
	versions state.Versions
	names    uint32 // version of the rules that knows all names
}

// parameters are those of versions of a set.
func (p *Pipeline) parameters(set *parameters.Set, v state.Versions) (*state.Parameters, error) {
	p.proved.Lock()
	defer p.proved.Unlock()
	k := provedOf{v, set.Newest.Rules}
	if have := p.proved.all[k]; have != nil {
		return have, nil
	}
	is, err := Parameters(p.cfg, set, v)
	if err == nil {
		p.proved.all[k] = is
	}
	return is, err
}

// Params are the newest parameters that are published, those of the configuration while nothing is known.
func (p *Pipeline) Params() *state.Parameters {
	set := p.tail.Current()
	if set.Complete() != nil {
		return p.first
	}
	is, err := p.parameters(set, set.Latest(state.Versions{}))
	if err != nil { // proved when it was read
		return p.first
	}
	return is
}

// Published is everything that is published, as far as it is known.
func (p *Pipeline) Published() *parameters.Set { return p.tail.Current() }

// modelBeside is the model of a configuration as far as it can be held against the one that runs: what fit has made of a shop, the heuristic
// with its gap too, is in no file to the last digit, only what it is judged by, and that churn is foreseen at all. But where fit had only the
// heuristic to give, a model in the file is another.
func modelBeside(c config.Config, runs *parameters.Model) (parameters.Model, error) {
	file, err := ModelOf(c)
	if err != nil || runs == nil || runs.Origin == nil || file.Method == state.NoChurn.String() {
		return file, err
	}
	if file.Method == state.ByMBGNBD.String() && runs.Method != file.Method {
		return file, nil
	}
	fit := *runs
	fit.Horizon, fit.Bands, fit.Hysteresis, fit.Jump = file.Horizon, file.Bands, file.Hysteresis, file.Jump
	if runs.Value != nil {
		v, err := ValueOf(c)
		if err != nil {
			return file, err
		}
		v.P, v.Q, v.Gamma = runs.Value.P, runs.Value.Q, runs.Value.Gamma
		fit.Value = &v
	}
	return fit, nil
}

// compareFile says, once per version, that the file of this process has other rules or another model than those that
// are published, which count.
func (p *Pipeline) compareFile(set *parameters.Set) {
	rules, err := RulesOf(p.cfg)
	model, err2 := modelBeside(p.cfg, set.Models[set.Newest.Model])
	if err != nil || err2 != nil {
		return // New has proved both
	}
	for _, f := range []struct {
		family  string
		newest  uint32
		differs bool
	}{
		{parameters.RulesFamily, set.Newest.Rules, !set.Rules[set.Newest.Rules].Same(&rules)},
		{parameters.ModelFamily, set.Newest.Model, !set.Models[set.Newest.Model].Same(&model)},
	} {
		p.metrics.fileDiffers(f.family, f.differs)
		if _, before := p.compared.LoadOrStore(fmt.Sprint(f.family, f.newest), true); f.differs && !before {
			p.log.Warn("the configuration file differs from what is published, which counts", "family", f.family, "version", f.newest)
		}
	}
}
