package events_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state/model"
)

// A fitted and calibrated model says so, says what it would have said without the map, where the customer stands with
// that, and what the customer will bring in; nothing else differs.
func TestCalibratedModel(t *testing.T) {
	plain, fitted := newStory(t, "ana"), newStory(t, "ana")
	fitted.p.Churn.Map = &model.Map{Method: "platt", B: 1} // corrects nothing
	fitted.p.Churn.Confidence = "high"
	bounds := make([]int32, 100)
	for k := range bounds {
		bounds[k] = int32(k) * 10_000 // the percentile is the probability in percent, rounded down, and one more
	}
	fitted.p.Churn.Ranks = model.Percentiles{{Orders: 1, Customers: 1_000, Bounds: bounds}}
	fitted.p.Churn.Value = &model.Value{Spend: model.GammaGamma{P: 6, Q: 3.7, Gamma: 1500}, Horizon: 1095, Rate: 0.1, Margin: 0.3}
	fitted.e = events.New("conf", 1, fitted.p, "EUR", 2)
	for _, s := range []*story{plain, fitted} {
		s.bought(1, "2023-12-01T12:00:00Z", 500_00).until("2026-06-01T00:00:00Z")
	}
	worth := regexp.MustCompile(`,"value":\{"clv":"[0-9]+\.[0-9]{2}","at_risk":"[0-9]+\.[0-9]{2}","earned":"[0-9]+\.[0-9]{2}","currency":"EUR","horizon_days":1095\}`)
	risks := 0
	for i := range plain.records {
		r, was := dumped(&fitted.records[i]), dumped(&plain.records[i])
		got, want := string(r.Value), string(was.Value)
		if strings.HasSuffix(r.Topic, events.ChurnRisk) {
			risks++
			_, p, _ := strings.Cut(want, `"probability":`)
			p, _, _ = strings.Cut(p, ",")
			share, err := strconv.ParseFloat(p, 64)
			if err != nil {
				t.Fatal(err)
			}
			percent := min(int(share*1e6)/10_000+1, 100)
			want = strings.Replace(want, `,"horizon_days":90,"method":"mbg_nbd"}`, fmt.Sprintf(`,"raw_probability":%s,"percentile":%d,"horizon_days":90,"method":"mbg_nbd","confidence":"high"}`, p, percent), 1)
		}
		schema, _ := schemaOf(t, r.Headers["ce_type"])
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Value))
		if err == nil {
			err = schema.Validate(value)
		}
		if err != nil {
			t.Error(err)
		}
		if n := len(worth.FindAllString(got, -1)); n != 1 {
			t.Errorf("the value is told %d times: %s", n, got)
		}
		got = worth.ReplaceAllString(got, "")
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if risks < 2 || len(plain.records) != len(fitted.records) {
		t.Errorf("%d churn events of %d, %d with a map", risks, len(plain.records), len(fitted.records))
	}
}
