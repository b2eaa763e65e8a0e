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
		{func(v *Value) { v.Gamma = math.Inf(1) }, state.ByMBGNBD, "value: p and gamma must be above 0 and q above 1"},
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
