package fit

import (
	"bufio"
	"compress/gzip"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cdnow are the histories, in days, and the repeat spends of the CDNOW sample as of the end of a day. It shares nothing
// with the commands that read the same file.
func cdnow(t testing.TB, until string) (histories []History, spends []Spend) {
	t.Helper()
	f, err := os.Open("../../../cmd/asiduo/data/CDNOW_sample.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	type day struct {
		at     int
		amount float64
	}
	end := dayNumber(t, until, "2006-01-02")
	customers := map[string]map[int]float64{}
	for lines := bufio.NewScanner(z); lines.Scan(); {
		w := strings.Fields(lines.Text())
		at := dayNumber(t, w[2], "20060102")
		amount, err := strconv.ParseFloat(w[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		if at > end {
			continue
		}
		if customers[w[1]] == nil {
			customers[w[1]] = map[int]float64{}
		}
		customers[w[1]][at] += amount
	}
	for _, days := range customers {
		var list []day
		for at, amount := range days {
			list = append(list, day{at, amount})
		}
		sort.Slice(list, func(i, j int) bool { return list[i].at < list[j].at })
		first, last := list[0].at, list[len(list)-1].at
		histories = append(histories, History{float64(len(list) - 1), float64(last - first), float64(end - last), 1})
		if n := float64(len(list) - 1); n > 0 {
			sum := 0.0
			for _, d := range list[1:] {
				sum += d.amount
			}
			spends = append(spends, Spend{n, sum / n})
		}
	}
	return histories, spends
}

func dayNumber(t testing.TB, text, layout string) int {
	t.Helper()
	at, err := time.Parse(layout, text)
	if err != nil {
		t.Fatal(err)
	}
	return int(at.Unix() / 86400)
}

// TestPublishedFits are the estimates of the literature on the CDNOW sample, times in weeks there and in days here:
// parameters within 1e-3, standard errors within 1 %, log likelihoods within .01.
func TestPublishedFits(t *testing.T) {
	early, spends := cdnow(t, "1997-09-30")
	late, lateSpends := cdnow(t, "1998-06-30")
	for _, test := range []struct {
		of     string // source
		kind   Kind
		data   []History
		params []float64
		errors []float64
		ll     float64
	}{
		{"Fader, Hardie & Lee 2005; BTYD; CLVTools", BGNBD, early, []float64{.2425945, 4.4136017, .7929219, 2.4259064}, []float64{.01256, .3782, .1857, .7054}, -9582.4292},
		{"lifetimes; BTYDplus", MBGNBD, early, []float64{.524843, 6.183086, .891360, 1.614002}, nil, -9582.1357},
		{"Fader, Hardie & Lee 2005; CLVTools; BTYD", ParetoNBD, early, []float64{.553277, 10.57768, .606240, 11.66874}, []float64{.04763, .84272, .18728, 6.2110}, -9594.9762},
		{"null model", NBD, early, []float64{.384766, 12.07202}, nil, -9763.6577},
		{"BTYD, 78 weeks", ParetoNBD, late, []float64{.5630, 12.5590, .4081, 10.5148}, nil, -17135.8359},
		{"78 weeks", BGNBD, late, []float64{.253561, 5.447257, .607365, 2.647234}, nil, -17138.2340},
	} {
		e := Fit(test.kind, test.data)
		repeats := Summarize(test.data).Repeats
		if ll := e.LogLikelihood + repeats*math.Log(7); math.Abs(ll-test.ll) > .01 {
			t.Errorf("%s (%s): log likelihood %.4f, want %.4f", test.kind, test.of, ll, test.ll)
		}
		if e.Status != Good || e.Starts != 3 {
			t.Errorf("%s (%s): %s %s, %d starts came here", test.kind, test.of, e.Status, e.Reason, e.Starts)
		}
		for i, name := range test.kind.Names() {
			unit := 1.0
			if name == "alpha" || name == "beta" {
				unit = 7
			}
			if got := e.Params[i] / unit; math.Abs(got-test.params[i]) > 1e-3*test.params[i] {
				t.Errorf("%s (%s): %s %.6f, want %.6f", test.kind, test.of, name, got, test.params[i])
			}
			if test.errors != nil && math.Abs(e.Errors[i]/unit-test.errors[i]) > .01*test.errors[i] {
				t.Errorf("%s (%s): standard error of %s %.5f, want %.5f", test.kind, test.of, name, e.Errors[i]/unit, test.errors[i])
			}
		}
	}
	for _, test := range []struct {
		of     string
		data   []Spend
		n      int
		params [3]float64
		errors []float64
		ll     float64
	}{
		{"Fader & Hardie 2013; CLVTools", spends, 946, [3]float64{6.249571, 3.744225, 15.443523}, []float64{1.190, .290, 4.159}, -4055.91769},
		{"78 weeks", lateSpends, 1139, [3]float64{4.683453, 4.189783, 24.390555}, nil, -4884.5663},
	} {
		s := FitSpending(test.data)
		got := [3]float64{s.Model.P, s.Model.Q, s.Model.Gamma}
		if s.Customers != test.n || s.Status != Good || math.Abs(s.LogLikelihood-test.ll) > .01 {
			t.Errorf("gamma-gamma (%s): %d customers, %s, log likelihood %.4f, want %.4f", test.of, s.Customers, s.Status, s.LogLikelihood, test.ll)
		}
		for i, want := range test.params {
			if math.Abs(got[i]-want) > 1e-3*want {
				t.Errorf("gamma-gamma (%s): parameter %d is %.6f, want %.6f", test.of, i, got[i], want)
			}
			if test.errors != nil && math.Abs(s.Errors[i]-test.errors[i]) > .01*test.errors[i] {
				t.Errorf("gamma-gamma (%s): standard error %d is %.5f, want %.5f", test.of, i, s.Errors[i], test.errors[i])
			}
		}
	}
}

func BenchmarkFit(b *testing.B) {
	data, spends := cdnow(b, "1997-09-30")
	for _, kind := range Kinds() {
		b.Run(string(kind), func(b *testing.B) {
			for b.Loop() {
				Fit(kind, data)
			}
		})
	}
	b.Run("gamma_gamma", func(b *testing.B) {
		for b.Loop() {
			FitSpending(spends)
		}
	})
}
