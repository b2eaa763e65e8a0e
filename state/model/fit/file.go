package fit

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/asiduo/asiduo/state/model"
)

// FileFormat is the version of File. Members are only ever added.
const FileFormat = 1

// File is a fitted model with its provenance, as it is written and read. Times are in days.
type File struct {
	Format     int         `json:"format"`
	Churn      Fitted      `json:"churn"`
	Why        string      `json:"why"` // this model and no other
	Compared   []Fitted    `json:"compared"`
	Heuristic  Heuristic   `json:"heuristic"`
	Spending   *SpendModel `json:"spending"` // null if the log has no amounts
	Data       Provenance  `json:"data"`
	ProducedBy string      `json:"produced_by"` // name and version of the program

	SpendingAll *SpendModel       `json:"spending_all,omitempty"` // of all days with orders, the first included, which is what a pipeline knows
	Horizon     int               `json:"horizon_days,omitempty"` // of calibration and percentiles
	Calibration *Calibration      `json:"calibration,omitempty"`  // of the model on its own past; none if the model may not be used
	Against     *Against          `json:"against,omitempty"`      // the version that runs, on the same days; none if nobody asked, or nothing could be tried
	Percentiles model.Percentiles `json:"percentiles,omitempty"`  // of the churn probability, as the model gives it, at the end of the data
}

// Fitted is one model's estimate.
type Fitted struct {
	Method        Kind                `json:"method"`
	Params        map[string]float64  `json:"params"`
	Errors        map[string]*float64 `json:"standard_errors"` // null where the likelihood is flat
	LogLikelihood float64             `json:"log_likelihood"`
	AIC           float64             `json:"aic"`
	BIC           float64             `json:"bic"`
	Starts        int                 `json:"starts_agreeing"` // of 3
	Status        Status              `json:"status"`
	Reason        string              `json:"reason,omitempty"`
}

// Heuristic is the parameter of the rhythm, for a shop whose data are too few for a model.
type Heuristic struct {
	ShopGapDays float64 `json:"shop_gap_days"` // mean gap between two days with orders of a customer
}

// SpendModel is the fitted gamma-gamma model of what is paid on a day with orders.
type SpendModel struct {
	Params        map[string]float64  `json:"params"`
	Errors        map[string]*float64 `json:"standard_errors"`
	LogLikelihood float64             `json:"log_likelihood"`
	Customers     int                 `json:"customers"`
	Correlation   float64             `json:"correlation"`  // of amount and frequency
	Observations  string              `json:"observations"` // of the days with orders: "repeat", all but the first, or "all"
	Currency      string              `json:"currency"`
	Status        Status              `json:"status"`
	Reason        string              `json:"reason,omitempty"`
}

// Provenance is what a model was made from.
type Provenance struct {
	Source       string   `json:"source"`
	SHA256       string   `json:"sha256"`  // of the records, each after a line with its length
	Records      int      `json:"records"` // of a snapshot, customers
	Refused      int      `json:"refused"` // records that a pipeline would not take
	Orders       int      `json:"orders"`  // counted
	Customers    int      `json:"customers"`
	LeftCensored int      `json:"left_censored"` // customers perhaps older than the log, from whom nothing was learnt
	Learnt       Summary  `json:"learnt_from"`
	First        string   `json:"first_day"`
	Until        string   `json:"until"` // the end of this day
	Zone         string   `json:"zone"`
	FreeOrders   bool     `json:"free_orders"` // orders of nothing were counted
	Notes        []string `json:"notes,omitempty"`
}

// Fitted is the estimate as it is written, of n customers.
func (e Estimate) Fitted(n int) Fitted {
	f := Fitted{
		Method: e.Kind, Params: map[string]float64{}, Errors: map[string]*float64{}, LogLikelihood: e.LogLikelihood,
		AIC: e.AIC(), BIC: e.BIC(n), Starts: e.Starts, Status: e.Status, Reason: e.Reason,
	}
	named(f.Params, f.Errors, e.Kind.Names(), e.Params, e.Errors)
	return f
}

func named(params map[string]float64, errors map[string]*float64, names []string, values, deviations []float64) {
	for i, name := range names {
		params[name], errors[name] = values[i], nil
		if deviations != nil && !math.IsNaN(deviations[i]) {
			errors[name] = &deviations[i]
		}
	}
}

// Written is the model as it is written.
func (s Spending) Written(currency, observations string) *SpendModel {
	w := &SpendModel{
		Params: map[string]float64{}, Errors: map[string]*float64{}, LogLikelihood: s.LogLikelihood, Customers: s.Customers,
		Correlation: s.Correlation, Observations: observations, Currency: currency, Status: s.Status, Reason: s.Reason,
	}
	named(w.Params, w.Errors, []string{"p", "q", "gamma"}, []float64{s.Model.P, s.Model.Q, s.Model.Gamma}, s.Errors)
	return w
}

// Usable says whether a pipeline may go by the fit: it is Good, or MBG/NBD of customers who do not leave, which foresees what NBD does
// (TestNoDropout).
func (f *Fitted) Usable() bool {
	return f.Status == Good || f.Status == NoDropout && f.Method == MBGNBD
}

// Model is the model of repeat buying that the file holds.
func (f *Fitted) Model() (model.Model, error) {
	names := f.Method.Names()
	values := make([]float64, len(names))
	for i, name := range names {
		v, ok := f.Params[name]
		if !ok {
			return nil, fmt.Errorf("model %s: parameter %s is missing", f.Method, name)
		}
		values[i] = v
	}
	return f.Method.New(values)
}

// Model is the model of spending that the file holds.
func (s *SpendModel) Model() (model.GammaGamma, error) {
	g := model.GammaGamma{P: s.Params["p"], Q: s.Params["q"], Gamma: s.Params["gamma"]}
	if !(g.P > 0 && g.Q > 1 && g.Gamma > 0) {
		return g, fmt.Errorf("spending: p and gamma must be above 0 and q above 1, found %v", s.Params)
	}
	return g, nil
}

// Marshal is the text of the file: the same data give the same bytes.
func (f *File) Marshal() ([]byte, error) {
	text, err := json.MarshalIndent(f, "", "  ")
	return append(text, '\n'), err
}

// ParseFile reads what Marshal has written, and checks the parameters.
func ParseFile(text []byte) (*File, error) {
	var f File
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("not a file of parameters: %w", err)
	}
	if f.Format != FileFormat {
		return nil, fmt.Errorf("format %d of a file of parameters; this program knows %d", f.Format, FileFormat)
	}
	if _, err := f.Churn.Model(); err != nil {
		return nil, err
	}
	for _, s := range []*SpendModel{f.Spending, f.SpendingAll} {
		if s == nil || s.Status != Good {
			continue
		}
		if _, err := s.Model(); err != nil {
			return nil, err
		}
	}
	return &f, nil
}
