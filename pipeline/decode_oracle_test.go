package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
)

// scorer is the shortest way from records to customers: decode, Refuse, Advance, Apply. No broker, no store.
type scorer struct {
	cfg       oracle.Config
	dec       *decoder
	p         *state.Parameters
	say       state.Telling
	customers map[string]*state.Customer
	changes   map[string][2]int // announced, by customer and kind
}

func instantOf(t rapid.TB, text string) state.Instant {
	t.Helper()
	at, ok := parseTime([]byte(text))
	if !ok {
		t.Fatalf("%q is not a time", text)
	}
	return at
}

func minorOf(t rapid.TB, text string, digits int) state.Money {
	t.Helper()
	d, ok := parseDecimal([]byte(text))
	m, fits := d.minor(nil, digits)
	if !ok || !fits {
		t.Fatalf("%q is not a decimal", text)
	}
	return m
}

func newScorer(t rapid.TB, cfg oracle.Config) *scorer {
	t.Helper()
	rules, err := state.NewRuleSet("rfm11", state.RFM11())
	if err != nil {
		t.Fatalf("%v", err)
	}
	zone, err := time.LoadLocation(cfg.TimeZone)
	if err != nil {
		t.Fatalf("%v", err)
	}
	p := &state.Parameters{Rules: rules, Window: days(cfg.Rules.WindowDays), Limits: state.Limits{Orders: 512, Refunds: 512, Purposes: 32}}
	for i := range 4 {
		p.Recency[i], p.Frequency[i] = days(cfg.Rules.RecencyDays[i]), cfg.Rules.Frequency[i]
		p.Money[i] = minorOf(t, cfg.Rules.Money.Cuts[i], cfg.MinorDigits)
	}
	c := cfg.Churn
	method, ok := state.ParseChurnMethod(c.Method)
	if !ok {
		t.Fatalf("method %q", c.Method)
	}
	millionths := func(text string) state.Millionths { return state.Millionths(minorOf(t, text, 6)) }
	p.Churn = state.Churn{
		Method: method, Horizon: c.HorizonDays, MBGNBD: model.MBGNBD{R: c.Params.R, Alpha: c.Params.Alpha, A: c.Params.A, B: c.Params.B},
		Rhythm: model.Rhythm{ShopGap: c.Params.ShopGapDays}, Bands: [2]state.Millionths{millionths(c.Bands[0]), millionths(c.Bands[1])},
		Hysteresis: millionths(c.Hysteresis), Jump: millionths(c.Jump),
	}
	s := &scorer{cfg: cfg, p: p, customers: map[string]*state.Customer{}, changes: map[string][2]int{}, dec: &decoder{
		currency: cfg.Currency, minorDigits: cfg.MinorDigits, zone: zone, payloadTime: cfg.EventTime == "payload",
		maxBytes: cfg.Limits.MaxRecordBytes, future: state.Instant(cfg.Limits.FutureHours) * 3_600_000,
	}}
	s.say.EmitBackfill = cfg.Backfill == "emit"
	if cfg.LiveFrom != nil {
		s.say.LiveFrom = instantOf(t, *cfg.LiveFrom)
	}
	return s
}

// take plays one record and returns the reason of a dead letter.
func (s *scorer) take(t rapid.TB, r oracle.Record) reason {
	k := &kgo.Record{Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
	for name, value := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	from := purchases
	if r.Topic == s.cfg.Inputs.Interactions {
		from = interactions
	}
	var f state.Fact
	if bad := s.dec.decode(from, k, 0, false, &f); bad != nil {
		return bad.reason
	}
	c := s.customers[f.Customer]
	if c == nil {
		c = new(state.Customer)
		c.Reset()
	}
	if f.Kind != state.InteractionFact {
		if why := c.Refuse(s.p, &f); why != "" {
			return reason(why)
		}
		s.count(f.Customer, c.Advance(s.p, f.At, s.say, nil))
		s.count(f.Customer, c.Apply(s.p, &f, s.say, nil))
		again := new(state.Customer)
		if err := again.Decode(c.AppendTo(nil)); err != nil {
			t.Fatalf("decode customer: %v", err)
		}
		c = again
	}
	s.customers[f.Customer] = c
	return ""
}

func (s *scorer) count(customer string, changes []state.Change) {
	n := s.changes[customer]
	for _, c := range changes {
		n[c.Kind]++
	}
	s.changes[customer] = n
}

// profile are those members of a profile that follow from orders and refunds, as text.
func (s *scorer) profile(id string) string {
	c := s.customers[id]
	p := c.Profile(s.p)
	segment, since, band := "prospect", int64(-1), p.Band.String()
	if p.Published != state.NoSegment {
		segment, since = s.p.Rules.SegmentName(p.Published), int64(p.Since)
	}
	next, threshold := int64(-1), int64(-1)
	if p.Next.At != state.Never {
		next = int64(p.Next.At)
	}
	if p.ThresholdAt != state.Never {
		threshold = int64(p.ThresholdAt)
	}
	return fmt.Sprintf("%s since %d r%d f%d m%d %s band %q sequences %d %d orders %d net %d next %d threshold %d", segment, since,
		p.R, p.F, p.M, p.Lifecycle, band, p.SegmentSeq, p.RiskSeq, p.Figures.Lifetime, p.Figures.LifetimeNet, next, threshold)
}

func wantedProfile(t rapid.TB, cfg oracle.Config, v map[string]any) string {
	instant := func(v any) int64 {
		if m, ok := v.(map[string]any); ok {
			v = m["at"]
		}
		if v == nil {
			return -1
		}
		return int64(instantOf(t, v.(string)))
	}
	band, _ := v["churn_band"].(string)
	return fmt.Sprintf("%s since %d r%v f%v m%v %s band %q sequences %v %v orders %v net %d next %d threshold %d", v["segment"], instant(v["since"]),
		v["r"], v["f"], v["m"], v["lifecycle"], band, v["segment_sequence"], v["risk_sequence"], v["orders_lifetime"],
		minorOf(t, v["net_revenue_lifetime"].(string), cfg.MinorDigits), instant(v["next_transition"]), instant(v["next_threshold"]))
}

// Whole logs, full of boundaries and malformed records: every dead letter has the reason that the oracle gives it, and
// every customer ends where the oracle's does.
func TestAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := oracle.Configs().Draw(t, "config")
		log := oracle.Logs(cfg).Draw(t, "log")
		outputs, err := oracle.Play(cfg, log)
		if err != nil {
			t.Fatalf("%v", err)
		}
		want := map[string]string{}
		for _, o := range outputs {
			if o.Topic == oracle.DeadLetters {
				h := o.Headers
				want[h["asiduo-topic"]+"/"+h["asiduo-partition"]+"@"+h["asiduo-offset"]] = h["asiduo-reason"]
			}
		}
		s := newScorer(t, cfg)
		slices.SortStableFunc(log, func(a, b oracle.Record) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
		})
		for _, r := range log {
			at := fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset)
			if got := s.take(t, r); string(got) != want[at] {
				t.Fatalf("%s: %q, want %q: %s", at, got, want[at], r.Value)
			}
		}
		for id, c := range s.customers {
			s.count(id, c.Advance(s.p, instantOf(t, cfg.EndClock), s.say, nil))
			if n := s.changes[id]; uint64(n[0]) != c.SegmentSeq || uint64(n[1]) != c.RiskSeq {
				t.Fatalf("%s: %v changes told, numbered up to %d and %d", id, n, c.SegmentSeq, c.RiskSeq)
			}
		}
		s.agrees(t, outputs)
	})
}

// agrees holds every customer against the oracle's profiles.
func (s *scorer) agrees(t rapid.TB, outputs []oracle.Output) {
	t.Helper()
	profiles := 0
	for _, o := range outputs {
		if o.Topic != oracle.Profiles {
			continue
		}
		profiles++
		if s.customers[string(o.Key)] == nil {
			t.Fatalf("%s is not known", o.Key)
		}
		if got, want := s.profile(string(o.Key)), wantedProfile(t, s.cfg, o.Value); got != want {
			t.Fatalf("%s:\n got %s\nwant %s", o.Key, got, want)
		}
	}
	if profiles != len(s.customers) {
		t.Fatalf("%d customers, want %d", len(s.customers), profiles)
	}
}
