package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
	"github.com/asiduo/asiduo/state/model/holdout"
)

// readRunning reads a version of the model as "asiduo model show" prints it; nil without a name.
func readRunning(name string) (*parameters.Model, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("--against: %w", err)}
	}
	m := &parameters.Model{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, usageError{fmt.Errorf("--against %s: not what \"asiduo model show\" prints: %w", name, err)}
	}
	if _, known := state.ParseChurnMethod(m.Method); !known || m.Version == 0 {
		return nil, usageError{fmt.Errorf("--against %s: not what \"asiduo model show\" prints", name)}
	}
	return m, nil
}

// against holds the version that runs against the days that a fit was tried on; nil without one, or without such days.
func against(running *parameters.Model, tried *holdout.Tried) *fit.Against {
	if running == nil || tried == nil {
		return nil
	}
	p := running.Params
	theirs := make([]float64, len(tried.Histories))
	for i, h := range tried.Histories {
		switch running.Method {
		case state.ByMBGNBD.String():
			theirs[i] = 1 - model.MBGNBD{R: p.R, Alpha: p.Alpha, A: p.A, B: p.B}.NoOrder(h.X, h.TX, h.E, float64(tried.Days))
		case state.ByRhythm.String():
			theirs[i] = 1 - model.Rhythm{ShopGap: p.ShopGapDays}.Silence(h.X, h.TX, h.E)
		default:
			return nil
		}
	}
	if c := running.Calibration; c != nil && c.Days == int(tried.Days) {
		theirs = c.ApplyAll(theirs)
	}
	a := tried.Compare(theirs)
	a.Version, a.Method, a.Day = running.Version, running.Method, dateOf(tried.Cut)
	return &a
}

func tellAgainst(a *fit.Against, tried *fit.Trial) string {
	return fmt.Sprintf("version %d (%s), which runs, on the same days: log loss %.4f, the fit %.4f; ECE %.3f and %.3f; AUC %.3f and %.3f",
		a.Version, a.Method, a.LogLoss, a.LogLoss-a.Gain, a.ECE, tried.ECE, a.AUC, tried.AUC)
}

// unheld is why a fit was not held against the version that runs: where it was not tried itself, there is nothing to hold that against.
func unheld(f *fit.File, runs *parameters.Model) string {
	switch c := f.Calibration; {
	case runs != nil && runs.Method == state.NoChurn.String():
		return "it gives no probability"
	case !f.Churn.Usable():
		return "these data do not carry a fitted model"
	case c.Tried() == nil:
		return "there are too few days to try it on"
	}
	return "fit with --against"
}

// holdAgainst refuses a fit that is worse than the version that runs, or of which nobody knows, where a model of the same kind runs.
func holdAgainst(f *fit.File, runs *parameters.Model, newest uint32, force bool) (said string, err error) {
	a := f.Against
	switch {
	case !f.Churn.Usable() && runs.Fitted() && !force:
		return "", fmt.Errorf("--from: version %d, which runs, is a fitted model, and these data do not carry one (--force publishes the heuristic)", newest)
	case a == nil && runs != nil && runs.Method == state.ByMBGNBD.String() && f.Churn.Usable() && !force:
		return "", fmt.Errorf("--from: it was not held against version %d of the model, which runs: %s (--force publishes it untried)", newest, unheld(f, runs))
	case a == nil:
		return "not held against the version that runs: " + unheld(f, runs), nil
	case a.Version != newest:
		return "", fmt.Errorf("--from: it was held against version %d of the model, the newest is %d: fit again", a.Version, newest)
	case a.Worse() && !force:
		return "", errors.New("--from: it would be worse than what runs (--force publishes it): " + tellAgainst(a, f.Calibration.Tried()))
	}
	return tellAgainst(a, f.Calibration.Tried()), nil
}
