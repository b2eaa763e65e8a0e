package pipeline

import (
	"testing"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state/model"
)

// TestModelBeside holds what of a file is another model than the one that runs.
func TestModelBeside(t *testing.T) {
	fit := func(m *parameters.Model) {
		m.Method, m.Origin = "mbg_nbd", &parameters.Origin{}
		m.Params.R, m.Params.Alpha, m.Params.A, m.Params.B = 1, 2, 3, 4
	}
	spending := func(m *parameters.Model) {
		fit(m)
		m.Value = &parameters.Value{P: 1, Q: 2, Gamma: 3, Horizon: 1095, AnnualRate: 0.1, Margin: 1}
	}
	tooFew := func(m *parameters.Model) {
		m.Method, m.Origin, m.Confidence = "heuristic", &parameters.Origin{}, "low"
		m.Params = parameters.ModelParams{ShopGapDays: 30}
		m.Percentiles = model.Percentiles{}
	}
	as := func(*config.Config) {}
	margin := func(c *config.Config) { c.Value.Margin = "0.3" }
	bands := func(c *config.Config) { c.Churn.Bands[0] = "0.2" }
	for name, c := range map[string]struct {
		runs   func(*parameters.Model)
		file   func(*config.Config)
		differ bool
	}{
		"as published":            {func(*parameters.Model) {}, as, false},
		"a fit":                   {fit, as, false},
		"a fit with value":        {spending, as, false},
		"no fit for want of data": {tooFew, as, false},
		"bands":                   {func(*parameters.Model) {}, bands, true},
		"bands of a fit":          {spending, bands, true},
		"horizon of a fit":        {fit, func(c *config.Config) { c.Churn.HorizonDays = 60 }, true},
		"hysteresis of a fit":     {fit, func(c *config.Config) { c.Churn.Hysteresis = "0.01" }, true},
		"jump of a fit":           {fit, func(c *config.Config) { c.Churn.Jump = "0.2" }, true},
		"churn switched off":      {spending, func(c *config.Config) { c.Churn.Method = "none" }, true},
		"margin":                  {spending, margin, true},
		"rate":                    {spending, func(c *config.Config) { c.Value.AnnualRate = "0.2" }, true},
		"horizon of value":        {spending, func(c *config.Config) { c.Value.HorizonDays = 365 }, true},
		"margin of no value":      {fit, margin, false},
		"gap of a file":           {func(*parameters.Model) {}, func(c *config.Config) { c.Churn.Params.ShopGapDays = 30 }, true},
		"gap of too few":          {tooFew, func(c *config.Config) { c.Churn.Params.ShopGapDays = 60 }, false},
		"bands of too few":        {tooFew, bands, true},
		"none beside too few":     {tooFew, func(c *config.Config) { c.Churn.Method = "none" }, true},
		"gap of no heuristic":     {fit, func(c *config.Config) { c.Churn.Params.ShopGapDays = 30 }, false},
		"a model beside too few":  {tooFew, func(c *config.Config) { c.Churn.Method = "mbg_nbd" }, true},
		"the method of the fit":   {fit, func(c *config.Config) { c.Churn.Method = "mbg_nbd" }, false},
	} {
		cfg := config.Default()
		runs, err := ModelOf(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.runs(&runs)
		c.file(&cfg)
		file, err := modelBeside(cfg, &runs)
		if err != nil || runs.Same(&file) == c.differ {
			t.Errorf("%s: differs is to be %v; %v", name, c.differ, err)
		}
	}
	if _, err := modelBeside(config.Default(), nil); err != nil {
		t.Error(err)
	}
}
