package main

import (
	"strings"
	"testing"

	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
)

// TestUnheld: where a fit was not held against the version that runs, it is said why, and asked for what there is.
func TestUnheld(t *testing.T) {
	none := model.Map{Method: "none"}
	for why, f := range map[string]*fit.File{
		"there are too few days to try it on":    {Churn: fit.Fitted{Status: fit.Good}, Calibration: &fit.Calibration{Map: none}},
		"fit with --against":                     {Churn: fit.Fitted{Status: fit.Good}, Calibration: &fit.Calibration{Map: none, Trials: []fit.Trial{{Method: "none"}}}},
		"these data do not carry a fitted model": {Churn: fit.Fitted{Status: fit.TooFew}},
	} {
		runs := &parameters.Model{Method: "mbg_nbd"}
		if f.Churn.Status == fit.Good {
			want := "--from: it was not held against version 4 of the model, which runs: " + why + " (--force publishes it untried)"
			if _, err := holdAgainst(f, runs, 4, false); err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
		if said, err := holdAgainst(f, runs, 4, true); err != nil || said != "not held against the version that runs: "+why {
			t.Errorf("%s: %q, %v", why, said, err)
		}
	}
}

// TestUnheldAgainstNothing: a version that gives no probability is none to hold a fit against.
func TestUnheldAgainstNothing(t *testing.T) {
	f := &fit.File{Churn: fit.Fitted{Status: fit.Good}, Calibration: &fit.Calibration{Trials: []fit.Trial{{Method: "none"}}}}
	if said, err := holdAgainst(f, &parameters.Model{Method: "none"}, 4, false); err != nil || said != "not held against the version that runs: it gives no probability" {
		t.Errorf("%q, %v", said, err)
	}
}

// TestFitUnheld: fit says so at once.
func TestFitUnheld(t *testing.T) {
	running := written(t, "running.json", `{"version": 4, "method": "mbg_nbd"}`)
	for until, why := range map[string]string{
		"1997-01-10": "these data do not carry a fitted model",
		"1997-04-15": "there are too few days to try it on",
	} {
		got := command(t, "fit", "--preset", "cdnow", "--input", "data/CDNOW_sample.txt.gz", "--births", "known", "--model", "mbg_nbd", "--until", until, "--against", running)
		if want := "not held against version 4 (mbg_nbd), which runs: " + why + "\n"; got.code != exitGood || !strings.Contains(got.out, want) {
			t.Errorf("until %s: %d %s, want %s in\n%s", until, got.code, got.err, want, got.out)
		}
	}
}
