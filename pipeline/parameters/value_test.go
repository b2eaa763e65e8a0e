package parameters

import (
	"math"
	"testing"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
)

// TestValueOfModel is what a model of spending is taken for, and what is said of one that cannot be used.
func TestValueOfModel(t *testing.T) {
	good := Value{P: 6, Q: 3.7, Gamma: 1500, Horizon: 1095, AnnualRate: 0.1, Margin: 0.3}
	got, err := good.value(state.ByMBGNBD)
	want := model.Value{Spend: model.GammaGamma{P: 6, Q: 3.7, Gamma: 1500}, Horizon: 1095, Rate: 0.1, Margin: 0.3}
	if err != nil || *got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, x := range []struct {
		change func(*Value)
		method state.ChurnMethod
		want   string
	}{
		{func(*Value) {}, state.ByRhythm, "a value needs the method mbg_nbd, found heuristic"},
		{func(v *Value) { v.P = 0 }, state.ByMBGNBD, "value: p and gamma must be above 0 and q above 1"},
		{func(v *Value) { v.Q = 1 }, state.ByMBGNBD, "value: p and gamma must be above 0 and q above 1"},
		{func(v *Value) { v.Gamma = 0 }, state.ByMBGNBD, "value: p and gamma must be above 0 and q above 1"},
		{func(v *Value) { v.Horizon = 0 }, state.ByMBGNBD, "value: horizon, annual rate or margin is out of range"},
		{func(v *Value) { v.AnnualRate = math.NaN() }, state.ByMBGNBD, "value: horizon, annual rate or margin is out of range"},
		{func(v *Value) { v.Margin = 1.5 }, state.ByMBGNBD, "value: horizon, annual rate or margin is out of range"},
	} {
		v := good
		x.change(&v)
		if got, err := v.value(x.method); err == nil || err.Error() != x.want || got != nil {
			t.Errorf("%+v by %s: %v, want %s", v, x.method, err, x.want)
		}
	}
}

// Parameters outside the domain of the models are refused: what comes out of them may be no number.
func TestParametersOfModels(t *testing.T) {
	for _, x := range []struct {
		change func(*Model)
		want   string
	}{
		{func(m *Model) { m.Params.R = 0 }, "r, a and b of mbg_nbd must be from 0.0001 to 1e6, and alpha from 0.0001 to 1e7 days; found 0, 0.9, 1.6 and 43"},
		{func(m *Model) { m.Params.Alpha = 1e300 }, "r, a and b of mbg_nbd must be from 0.0001 to 1e6, and alpha from 0.0001 to 1e7 days; found 0.5, 0.9, 1.6 and 1e+300"},
		{func(m *Model) { m.Method, m.Params = "heuristic", ModelParams{} }, "shop_gap_days must be from 0.0001 to 1e7, found 0"},
		{func(m *Model) { m.Method = "oracle" }, `unknown churn method "oracle"`},
		{func(m *Model) { m.Value = &Value{P: 1e-300, Q: 3.7, Gamma: 1500, Horizon: 365, Margin: 1} }, "value: p must be from 0.0001 and q from above 1 to 1e6, gamma from 0.0001 to 1e12; found 1e-300, 3.7 and 1500"},
		{func(m *Model) { m.Value = &Value{P: 6, Q: 3.7, Gamma: 1e13, Horizon: 365, Margin: 1} }, "value: p must be from 0.0001 and q from above 1 to 1e6, gamma from 0.0001 to 1e12; found 6, 3.7 and 1e+13"},
	} {
		m := churn()
		m.Method, m.Params = "mbg_nbd", ModelParams{R: .5, Alpha: 43, A: .9, B: 1.6}
		if err := m.follow(&Set{}, 1); err != nil {
			t.Fatal(err)
		}
		x.change(&m)
		if err := m.follow(&Set{}, 1); err == nil || err.Error() != x.want {
			t.Errorf("%+v: %v, want %s", m, err, x.want)
		}
	}
}
