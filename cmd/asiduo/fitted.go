package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state/model/fit"
)

// readFit reads what fit has written.
func readFit(name string) (*fit.File, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	f, err := fit.ParseFile(text)
	if err != nil {
		return nil, fmt.Errorf("--from %s: %w", name, err)
	}
	return f, nil
}

// useFit makes a model one of a fit: horizon, bands and distances stay. Data that are too few, or that do not carry the
// model, give the rhythm heuristic with the shop's own gap, so that the same two commands, repeated, change to the model
// once there is enough to learn from.
func useFit(m *parameters.Model, f *fit.File, cfg config.Config, out io.Writer) error {
	m.Params = parameters.ModelParams{ShopGapDays: f.Heuristic.ShopGapDays}
	m.Origin = &parameters.Origin{
		Source: f.Data.Source, SHA256: f.Data.SHA256, Records: f.Data.Records, First: f.Data.First, Until: f.Data.Until, Customers: f.Data.Learnt.Customers,
		Fit: string(f.Churn.Method), Status: string(f.Churn.Status), LogLikelihood: f.Churn.LogLikelihood, ProducedBy: f.ProducedBy,
	}
	m.Calibration, m.Percentiles, m.Confidence, m.Value = nil, nil, "low", nil
	if f.Horizon == m.Horizon {
		m.Percentiles = f.Percentiles
	}
	switch p := f.Churn.Params; {
	case f.Data.FreeOrders:
		return errors.New("--from: it counts orders of nothing, which the pipeline does not: fit without --free-orders")
	case f.Data.Zone != "" && f.Data.Zone != cfg.Time.Zone:
		return fmt.Errorf("--from: its days are those of %s, the pipeline's are those of %s: fit with the configuration", f.Data.Zone, cfg.Time.Zone)
	case !f.Churn.Usable():
		m.Method = "heuristic"
		_, err := fmt.Fprintf(out, "%s is %s (%s): the heuristic with a gap of %.4g days is proposed\n", f.Churn.Method, f.Churn.Status, f.Churn.Reason, m.Params.ShopGapDays)
		return err
	case f.Churn.Method != fit.MBGNBD:
		return fmt.Errorf("--from: %s is not among the methods of the pipeline: fit with --model mbg_nbd", f.Churn.Method)
	default:
		m.Method = "mbg_nbd"
		m.Params.R, m.Params.Alpha, m.Params.A, m.Params.B = p["r"], p["alpha"], p["a"], p["b"]
		fmt.Fprintf(out, "mbg_nbd, fitted to %d customers of %s from %s to %s\n", m.Origin.Customers, m.Origin.Source, m.Origin.First, m.Origin.Until)
		if f.Churn.Status != fit.Good {
			fmt.Fprintf(out, "mbg_nbd is %s (%s): what it foresees is that of NBD\n", f.Churn.Status, f.Churn.Reason)
		}
		if err := useProof(m, f, out); err != nil {
			return err
		}
		return useSpending(m, f.SpendingAll, cfg, out)
	}
}

// useSpending takes over the model of spending, if it may be used and is about the pipeline's currency.
func useSpending(m *parameters.Model, s *fit.SpendModel, cfg config.Config, out io.Writer) error {
	why := ""
	switch {
	case s == nil:
		why = "amounts were not looked at"
	case s.Status != fit.Good:
		why = fmt.Sprintf("the model of spending is %s (%s)", s.Status, s.Reason)
	case s.Currency != cfg.Currency:
		why = fmt.Sprintf("amounts are in %s, the pipeline counts in %s", s.Currency, cfg.Currency)
	}
	if why != "" {
		_, err := fmt.Fprintf(out, "no customer value: %s\n", why)
		return err
	}
	g, err := s.Model()
	if err != nil {
		return err
	}
	v, err := pipeline.ValueOf(cfg)
	if err != nil {
		return err
	}
	v.P, v.Q, v.Gamma = g.P, g.Q, g.Gamma*math.Pow10(cfg.Digits())
	m.Value = &v
	_, err = fmt.Fprintf(out, "customer value over %d days, discounted by %s a year, margin %s\n", m.Value.Horizon, cfg.Value.AnnualRate, cfg.Value.Margin)
	return err
}

// calibratedWithin is the expected calibration error on days that a model was not learnt from up to which it deserves high
// confidence.
const calibratedWithin = 0.03

// useProof takes over what the fit has shown of itself, if it was about the same horizon.
func useProof(m *parameters.Model, f *fit.File, out io.Writer) (err error) {
	m.Confidence = "medium"
	c := f.Calibration
	switch {
	case f.Horizon != m.Horizon:
		_, err = fmt.Fprintf(out, "its proof is about %d days, the horizon is %d: fit with the configuration for percentiles and calibration\n", f.Horizon, m.Horizon)
	case c.Tried() == nil || c.Map.Days != m.Horizon:
		_, err = fmt.Fprintln(out, "not enough days to hold it against; confidence medium")
	default:
		t := c.Tried()
		m.Origin.HeldOut = &parameters.HeldOut{LogLoss: t.LogLoss, Brier: t.Brier, ECE: t.ECE, AUC: t.AUC}
		if c.Map.Method != "none" {
			m.Calibration = &c.Map
		}
		if t.ECE <= calibratedWithin {
			m.Confidence = "high"
		}
		_, err = fmt.Fprintf(out, "calibration %s; held out: AUC %.3f, ECE %.3f; confidence %s\n", c.Map.Method, t.AUC, t.ECE, m.Confidence)
	}
	return err
}
