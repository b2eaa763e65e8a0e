package parameters

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/population"
)

// Publication is what every version of rules, cuts or model says about itself.
type Publication struct {
	Version     uint32        `json:"version"`
	PublishedAt state.Instant `json:"published_at"`       // ms
	Announce    bool          `json:"announce,omitempty"` // what the version alone changes is news
	Note        string        `json:"note,omitempty"`
}

// Rules are one version of the segment rules, under the key rules/<version>. Everything is explicit, so that a version
// means the same to every release.
type Rules struct {
	Publication
	Name      string           `json:"name"`
	Segments  []Segment        `json:"segments"`
	Codes     []Code           `json:"codes"` // of every name ever used, retired ones included
	Recency   [4]state.Instant `json:"recency_ms"`
	Frequency [4]int           `json:"frequency"`
	Money     Money            `json:"money"`
	Window    state.Instant    `json:"window_ms"`
}

// Segment is one segment and the boxes of scores that belong to it.
type Segment struct {
	Name string `json:"name"`
	Rank int    `json:"rank"`
	When []Cell `json:"when,omitempty"`
}

// Cell is a box of scores, each from and to, 1 to 5; what is left out is any.
type Cell struct {
	R Span `json:"r,omitzero"`
	F Span `json:"f,omitzero"`
	M Span `json:"m,omitzero"`
}

// Span is the least and the greatest of a score.
type Span [2]int

// Code is the code that a name has in the state, for ever, and the rank that it had last.
type Code struct {
	Name string        `json:"name"`
	Code state.Segment `json:"code"`
	Rank int           `json:"rank"`
}

// Money is how M is cut: by the rules' own cuts, or by those published under cuts/<n>, which the population gives;
// before there are any, by the rules' cuts if they have some, and else M is 3.
type Money struct {
	Mode string        `json:"mode"`           // fixed or quintiles
	Cuts []state.Money `json:"cuts,omitempty"` // none or four, minor units
}

// The modes of Money.
const (
	Fixed     = "fixed"
	Quintiles = "quintiles"
)

// Cuts are one version of the cuts of money, under the key cuts/<version>, published by the owner of shard 0.
type Cuts struct {
	Publication
	Cuts   population.Cuts `json:"cuts"`
	Buyers int64           `json:"buyers"` // of the population they are made from
	Orders int64           `json:"orders"`
}

// Model is one version of the churn model, under the key model/<version>.
type Model struct {
	Publication
	Method     string              `json:"method"`
	Params     ModelParams         `json:"params"`
	Horizon    int                 `json:"horizon_days"`
	Bands      [2]state.Millionths `json:"bands"`
	Hysteresis state.Millionths    `json:"hysteresis"`
	Jump       state.Millionths    `json:"jump"`

	Value       *Value            `json:"value,omitempty"`       // of a fitted model of spending; none: no value is told
	Calibration *model.Map        `json:"calibration,omitempty"` // of the probability to order; none: probabilities are the method's own
	Percentiles model.Percentiles `json:"percentiles,omitempty"` // of the method's own probabilities
	Confidence  string            `json:"confidence,omitempty"`  // low, medium or high; without it low: nobody has held it against this shop
	Origin      *Origin           `json:"origin,omitempty"`      // of fitted parameters
}

// Origin is what a model was fitted to.
type Origin struct {
	Source        string  `json:"source"`
	SHA256        string  `json:"sha256"` // of the records
	Records       int     `json:"records"`
	First         string  `json:"first_day"`
	Until         string  `json:"until"`
	Customers     int     `json:"customers"` // learnt from
	Fit           string  `json:"fit"`       // the model that was fitted; if it could not be used, the method is the heuristic
	Status        string  `json:"status"`
	LogLikelihood float64 `json:"log_likelihood"`
	ProducedBy    string  `json:"produced_by"`

	HeldOut *HeldOut `json:"held_out,omitempty"` // how what is published did on days that it was not learnt from
}

// HeldOut are the figures of probabilities that were stated at a cut and what came within the horizon.
type HeldOut struct {
	LogLoss float64 `json:"log_loss"`
	Brier   float64 `json:"brier"`
	ECE     float64 `json:"ece"`
	AUC     float64 `json:"auc"`
}

// ModelParams are the parameters of every method, times in days; a method looks at its own.
type ModelParams struct {
	R           float64 `json:"r,omitempty"`
	Alpha       float64 `json:"alpha,omitempty"`
	A           float64 `json:"a,omitempty"`
	B           float64 `json:"b,omitempty"`
	ShopGapDays float64 `json:"shop_gap_days,omitempty"`
}

// Value is how what a customer will bring in is foreseen: the gamma-gamma model of what is paid on a day with orders, the
// first included, and how the future is counted.
type Value struct {
	P          float64 `json:"p"`
	Q          float64 `json:"q"`
	Gamma      float64 `json:"gamma"` // minor units
	Horizon    int     `json:"horizon_days"`
	AnnualRate float64 `json:"annual_rate"`
	Margin     float64 `json:"margin"`
}

// value is the model, which goes with the method that knows who is alive.
func (v *Value) value(method state.ChurnMethod) (*model.Value, error) {
	if v == nil {
		return nil, nil
	}
	within := func(x, lo, hi float64) bool { return x >= lo && x <= hi }
	switch {
	case method != state.ByMBGNBD:
		return nil, fmt.Errorf("a value needs the method mbg_nbd, found %s", method)
	case !(v.P > 0 && v.Q > 1 && v.Gamma > 0):
		return nil, errors.New("value: p and gamma must be above 0 and q above 1")
	case v.Horizon < 1 || v.Horizon > 36_500 || !within(v.AnnualRate, 0, 10) || !within(v.Margin, 1e-6, 1):
		return nil, errors.New("value: horizon, annual rate or margin is out of range")
	}
	return &model.Value{Spend: model.GammaGamma{P: v.P, Q: v.Q, Gamma: v.Gamma}, Horizon: float64(v.Horizon), Rate: v.AnnualRate, Margin: v.Margin}, nil
}

// Population is what the customers of one shard count as, under the key population/<shard>, and how far the shard has
// come. The owner of the shard publishes it inside its cycle.
type Population struct {
	Epoch    int            `json:"epoch"`
	At       state.Instant  `json:"at"`
	CaughtUp bool           `json:"caught_up"` // once, in this epoch
	Versions state.Versions `json:"versions"`  // adopted
	Swept    bool           `json:"swept"`     // by all customers
	population.Population
}

// Live ends the building of an epoch: what is effective from then on is news. The owner of shard 0 publishes it once.
type Live struct {
	Epoch int           `json:"epoch"`
	From  state.Instant `json:"live_from"`
}

// Proved is the rule set of the rules. more are codes that later versions have given, so that all that is said in the
// state can be named.
func (r *Rules) Proved(more []Code) (*state.RuleSet, error) {
	rules := make([]state.SegmentRule, len(r.Segments))
	for i, g := range r.Segments {
		rules[i] = state.SegmentRule{Name: g.Name, Rank: g.Rank}
		for _, c := range g.When {
			for _, s := range []Span{c.R, c.F, c.M} {
				if s != (Span{}) && (s[0] < 1 || s[1] > 5 || s[0] > s[1]) {
					return nil, fmt.Errorf("rule set %s: segment %q: %d to %d is no range of a score", r.Name, g.Name, s[0], s[1])
				}
			}
			rules[i].When = append(rules[i].When, state.Cell{
				R: c.R.scores(), F: c.F.scores(), M: c.M.scores(),
			})
		}
	}
	var given []state.SegmentCode
	for _, c := range slices.Concat(more, r.Codes) { // the rank of these rules is the later one
		given = append(given, state.SegmentCode(c))
	}
	return state.NewRuleSet(r.Name, rules, given...)
}

func (s Span) scores() state.Span { return state.Span{Min: uint8(s[0]), Max: uint8(s[1])} }

func spanOf(s state.Span) Span { return Span{int(s.Min), int(s.Max)} }

// SegmentsOf are rules as they are published.
func SegmentsOf(rules []state.SegmentRule) []Segment {
	list := make([]Segment, len(rules))
	for i, r := range rules {
		list[i] = Segment{Name: r.Name, Rank: r.Rank}
		for _, c := range r.When {
			list[i].When = append(list[i].When, Cell{spanOf(c.R), spanOf(c.F), spanOf(c.M)})
		}
	}
	return list
}

func (r *Rules) check() error {
	for i := range 3 {
		if r.Recency[i] >= r.Recency[i+1] || r.Frequency[i] >= r.Frequency[i+1] {
			return errors.New("cuts of recency or frequency do not ascend")
		}
	}
	n := len(r.Money.Cuts)
	switch {
	case r.Recency[0] < 1 || r.Frequency[0] < 2 || r.Window <= r.Recency[3]:
		return errors.New("cuts of recency or frequency, or the window, are out of range")
	case r.Money.Mode != Fixed && r.Money.Mode != Quintiles:
		return fmt.Errorf("unknown mode of money %q", r.Money.Mode)
	case n != 4 && (n != 0 || r.Money.Mode == Fixed):
		return fmt.Errorf("%d cuts of money", n)
	case !slices.IsSorted(r.Money.Cuts):
		return errors.New("cuts of money do not ascend")
	}
	_, err := r.Proved(nil)
	return err
}

func (c *Cuts) check() error {
	if !slices.IsSorted(c.Cuts[:]) || c.Cuts[0] < 1 {
		return errors.New("cuts of money do not ascend")
	}
	return nil
}

func (m *Model) check() error {
	_, err := m.churn()
	return err
}

// domain says whether the parameters of what is to be published lie where the functions of the models are finite. What an older
// release has published is read, and lived with.
func (m *Model) domain() error {
	p, v := m.Params, m.Value
	switch {
	case m.Method == state.ByMBGNBD.String() && !(model.IsShape(p.R) && model.IsScale(p.Alpha) && model.IsShape(p.A) && model.IsShape(p.B)):
		return fmt.Errorf("r, a and b of mbg_nbd must be from 0.0001 to 1e6, and alpha from 0.0001 to 1e7 days; found %g, %g, %g and %g", p.R, p.A, p.B, p.Alpha)
	case m.Method == state.ByRhythm.String() && !model.IsScale(p.ShopGapDays):
		return fmt.Errorf("shop_gap_days must be from 0.0001 to 1e7, found %g", p.ShopGapDays)
	case v != nil && !(model.IsShape(v.P) && model.IsShape(v.Q) && v.Q > 1 && v.Gamma >= 1e-4 && v.Gamma <= 1e12): // gamma is money, of any currency
		return fmt.Errorf("value: p must be from 0.0001 and q from above 1 to 1e6, gamma from 0.0001 to 1e12; found %g, %g and %g", v.P, v.Q, v.Gamma)
	}
	return nil
}

// churn is the model as scores use it.
func (m *Model) churn() (c state.Churn, err error) {
	method, known := state.ParseChurnMethod(m.Method)
	p := m.Params
	c = state.Churn{
		Method: method, Horizon: m.Horizon, Bands: m.Bands, Hysteresis: m.Hysteresis, Jump: m.Jump,
		MBGNBD: model.MBGNBD{R: p.R, Alpha: p.Alpha, A: p.A, B: p.B}, Rhythm: model.Rhythm{ShopGap: p.ShopGapDays},
		Map: m.Calibration, Ranks: m.Percentiles, Confidence: cmp.Or(m.Confidence, "low"),
	}
	switch {
	case !known:
		return c, fmt.Errorf("unknown churn method %q", m.Method)
	case method == state.ByMBGNBD && !(p.R > 0 && p.Alpha > 0 && p.A > 0 && p.B > 0):
		return c, errors.New("parameters of mbg_nbd must be more than 0")
	case method == state.ByRhythm && !(p.ShopGapDays > 0):
		return c, errors.New("shop_gap_days must be more than 0")
	case method != state.NoChurn && (m.Horizon < 1 || m.Bands[0] < 1 || m.Bands[1] <= m.Bands[0] || m.Bands[1] > state.One ||
		m.Hysteresis < 0 || m.Hysteresis > m.Bands[0] || m.Jump < 1 || m.Jump > state.One):
		return c, errors.New("horizon, bands, hysteresis or jump are out of range")
	case m.Confidence != "" && !slices.Contains(state.Confidences(), m.Confidence):
		return c, fmt.Errorf("unknown confidence %q", m.Confidence)
	}
	if c.Value, err = m.Value.value(method); err != nil {
		return c, err
	}
	if m.Calibration != nil {
		if err := m.Calibration.Check(); err != nil {
			return c, err
		}
		if m.Calibration.Days != m.Horizon {
			return c, fmt.Errorf("the calibration map is for %d days, the horizon is %d", m.Calibration.Days, m.Horizon)
		}
	}
	return c, m.Percentiles.Check()
}

// Same says whether two versions of the rules mean the same.
func (r *Rules) Same(o *Rules) bool {
	a, b := *r, *o
	a.Publication, b.Publication, a.Codes, b.Codes = Publication{}, Publication{}, nil, nil
	a.Money.Cuts, b.Money.Cuts = slices.Clip(slices.Concat(a.Money.Cuts)), slices.Clip(slices.Concat(b.Money.Cuts)) // none is nil
	return reflect.DeepEqual(a, b)
}

// Fitted says whether a published model is one that fit has made, not the parameters of a file, or the heuristic for want of data.
func (m *Model) Fitted() bool {
	return m != nil && m.Method == state.ByMBGNBD.String() && m.Origin != nil
}

// Same says whether two versions of the model mean the same, wherever they are from.
func (m *Model) Same(o *Model) bool {
	a, b := *m, *o
	a.Origin, b.Origin = nil, nil
	a.Publication, b.Publication = Publication{}, Publication{}
	return reflect.DeepEqual(a, b)
}
