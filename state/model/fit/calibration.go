package fit

import "github.com/asiduo/asiduo/state/model"

// Calibration is a map that was learnt before a cut, and how it did there.
type Calibration struct {
	Map     model.Map `json:"map"`
	Reason  string    `json:"reason"`
	Origins []Origin  `json:"origins"` // oldest first
	Trials  []Trial   `json:"trials"`  // learnt at all origins but the newest, held against the newest
}

// Origin is a cut before the cut, whose outcome is known at the cut.
type Origin struct {
	Day       string `json:"day"` // the end of Cut, for readers
	Cut       int32  `json:"-"`   // days since 1970-01-01
	Days      int    `json:"horizon"`
	Customers int    `json:"customers"`
	Active    int    `json:"active"`
}

// Trial is how a map did on pairs that it was not learnt from.
type Trial struct {
	Method  string  `json:"method"`
	LogLoss float64 `json:"log_loss"`
	Brier   float64 `json:"brier"`
	ECE     float64 `json:"ece"`
	AUC     float64 `json:"auc"`
}

// Against is how the version that runs did on the days that the fit was tried on, which it may have been learnt from.
type Against struct {
	Version uint32  `json:"version"`
	Method  string  `json:"method"`
	Day     string  `json:"day"` // of the cut
	Days    int     `json:"horizon"`
	LogLoss float64 `json:"log_loss"`
	Brier   float64 `json:"brier"`
	ECE     float64 `json:"ece"`
	AUC     float64 `json:"auc"`
	Gain    float64 `json:"gain"`           // how much less log loss the fit has
	Error   float64 `json:"standard_error"` // of the gain
}

// Worse says whether the fit is worse than the version that runs, by more than chance may make it look so.
func (a *Against) Worse() bool { return a.Gain < -a.Error }

// Tried is the trial of the map that was chosen; nil if none could be tried, as of a file of an earlier release.
func (c *Calibration) Tried() *Trial {
	if c == nil {
		return nil
	}
	for i := range c.Trials {
		if c.Trials[i].Method == c.Map.Method {
			return &c.Trials[i]
		}
	}
	return nil
}
