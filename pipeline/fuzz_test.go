package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

func fuzzConfig() oracle.Config {
	return oracle.Config{
		App: "a", Epoch: 1, Clock: "manual", EventTime: "record", EndClock: "2024-06-01T00:00:00Z", Backfill: "silent", Partitions: 1,
		Inputs: oracle.Inputs{Purchases: "p", Interactions: "i"}, Currency: "EUR", MinorDigits: 2, TimeZone: "Europe/Berlin",
		Rules:  oracle.Rules{Name: "rfm11", RecencyDays: []int{30, 90, 180, 365}, Frequency: []int{2, 3, 5, 10}, WindowDays: 730, Money: oracle.Money{Mode: "fixed", Cuts: []string{"1", "2", "3", "4"}}},
		Churn:  oracle.Churn{Method: "heuristic", Params: oracle.ChurnParams{ShopGapDays: 30}, HorizonDays: 90, Bands: []string{"0.33", "0.66"}, Hysteresis: "0.03", Jump: "0.15"},
		Limits: oracle.Limits{MaxRecordBytes: 1024, FutureHours: 24},
	}
}

// FuzzDecode takes one record: it is accepted, or rejected for the oracle's reason; the customer it makes is the oracle's;
// what is accepted is JSON to a third reader too; and no detail gives anything away.
func FuzzDecode(f *testing.F) {
	add := func(r *draft) { f.Add(r.kafka().Value, r.key, uint64(r.stamp), r.from == interactions) }
	for _, r := range []*draft{anOrder(), aRefund(), anInteraction(), aConsent(), anOrder().withTail(`,"a":"\ud800x"`),
		anOrder().set("currency", `"USD"`).set("fx", `{"rate":"1.1","base_currency":"EUR"}`).set("refunded", "1.005").set("revision", "7"),
		anOrder().set("status", `"paid"`).set("test", "true").set("updated_at", `"2024-05-01T12:00:00+02:00"`)} {
		add(r)
	}
	cfg := fuzzConfig()
	f.Fuzz(func(t *testing.T, value, key []byte, at uint64, interacts bool) {
		r := oracle.Record{Topic: "p", Timestamp: int64(at % 4e12), Key: key, Value: value}
		if interacts {
			r.Topic = "i"
		}
		s := newScorer(t, cfg)
		got := s.take(t, r)
		outputs, err := oracle.Play(cfg, []oracle.Record{r})
		if err != nil {
			t.Fatal(err)
		}
		want := reason("")
		for _, o := range outputs {
			want = max(want, reason(o.Headers["asiduo-reason"]))
		}
		if got != want && got != purposeTooLong { // a limit of the product
			t.Errorf("%q with key %q at %d: %q, want %q", value, key, r.Timestamp, got, want)
		}
		if got == "" && (!json.Valid(value) || !utf8.Valid(value)) {
			t.Errorf("%q is accepted", value)
		}
		if got == "" && want == "" {
			s.customers[string(key)].Advance(s.p, instantOf(t, cfg.EndClock), s.say, nil)
			s.agrees(t, outputs)
		}
		checkDetail(t, r)
	})
}

// checkDetail looks for the texts of a record in what is said about it. Short ones are in every sentence.
func checkDetail(t *testing.T, r oracle.Record) {
	var fact state.Fact
	d := testDecoder()
	for _, from := range []role{purchases, interactions} {
		bad := d.decode(from, &kgo.Record{Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}, 0, false, &fact)
		var members map[string]any
		if bad == nil || json.NewDecoder(bytes.NewReader(r.Value)).Decode(&members) != nil {
			continue
		}
		for name, v := range members {
			if text, ok := v.(string); ok && len(text) > 4 && strings.Contains(bad.detail, text) && !strings.Contains(allDetails, text) {
				t.Errorf("the detail %q holds the value of %q", bad.detail, name)
			}
		}
	}
}

// allDetails are the words that details are made of.
var allDetails = strings.Join(fieldNames[:], " ") + ` the value is not one JSON object: type is neither "order" nor "refund" is missing
is not a string of 1 to 256 bytes, status is not one of pending, paid, completed, partially_refunded, refunded, cancelled, voided
revision is not a whole number from 0 to test is neither true nor false properties of a consent granted, denied, revoked
the record's key is not its customer_id is not a time such as 2024-05-01T10:00:00Z is more than 24h0m0s later than the
record's timestamp currency is not three letters A to Z fx.rate is not a decimal above 0 such as 12.50 the amount of the order is below 0`

// FuzzTime holds what is read as a time against the time package, and its calendar day in a zone that had all sorts.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"2024-02-29T23:59:59.999999999Z", "1970-01-01T00:59:00+00:59", "9999-12-31T23:59:59-23:59", "2016-12-31T23:59:60Z"} {
		f.Add(s)
	}
	zone, err := time.LoadLocation("Pacific/Apia") // where a day was left out
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkTime(t, s)
		if at, ok := parseTime([]byte(s)); ok {
			y, m, d := time.UnixMilli(int64(at)).In(zone).Date()
			if want := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix(); int64(calendarDay(at, zone))*86_400 != want {
				t.Errorf("%q is on day %d, want %d", s, calendarDay(at, zone), want/86_400)
			}
		}
	})
}

// FuzzDecimal holds amounts and rates against rational numbers.
func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"0", "-0.005", "1.005", "999999999999999", "9999999999999.995", "123456789012345.123456789012"} {
		f.Add(s, "", byte(2))
		f.Add(s, "1.1", byte(0))
	}
	f.Fuzz(func(t *testing.T, amount, rate string, digits byte) {
		if rate != "" && !decimalGrammar.MatchString(rate) {
			if _, ok := parseDecimal([]byte(rate)); ok {
				t.Errorf("rate %q is a decimal", rate)
			}
			rate = ""
		}
		checkMinor(t, amount, strings.TrimPrefix(rate, "-"), int(digits%5))
	})
}

// FuzzRestore reads one record of the changelog as a restore does. It is taken, or the shard stops and says why; what is
// taken is what readers of the store find, under one name, and can be encoded for everybody.
func FuzzRestore(f *testing.F) {
	const who = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	s := newScorer(f, fuzzConfig())
	if why := s.take(f, oracle.Record{Topic: "p", Timestamp: draftedAt, Key: []byte(canary), Value: anOrder().kafka().Value}); why != "" {
		f.Fatal(why)
	}
	customer := s.customers[canary].AppendTo(nil)
	f.Add(store.CustomerKey(nil, who), customer)
	f.Add(store.CustomerKey(nil, "a\x00/\u202e"), customer)
	f.Add(append([]byte("c\x02"), who...), customer)
	f.Add(store.InteractionsKey(nil, who), (&state.Interactions{Consents: []state.Consent{{Purpose: "e\u2028", At: 1}}}).AppendTo(nil))
	f.Add([]byte(ownerKey), []byte(`{"owner":"A","instance":"B"}`))
	for _, c := range []string{`{"owner":"A","cycle":1,"inputs":{"p":{"topic_id":"x","next":{"0":12}}},"horizon":5}`, `{}`, `{"owner":"A","cycle":1,"inputs":{"p":{"next":{"0":-1}}}}`} {
		f.Add([]byte(checkpointKey), []byte(c))
	}
	cache := pebble.NewCache(1 << 20)
	f.Cleanup(cache.Unref)
	db, err := store.Open("db", store.Options{FS: vfs.NewMem(), Cache: cache, Memtable: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close(false) })
	enc := events.New("shop", 1, s.p, "EUR", 2)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r := filling{store: db, batch: db.NewBatch(), share: 1 << 20, write: func(commit func() error) error { return commit() }}
		defer func() { r.batch.Discard() }()
		if err := r.take(&kgo.Record{Key: key, Value: value}); err != nil {
			if stop, ok := errors.AsType[*stopError](err); !ok || stop.reason != "changelog" && stop.reason != "newer_format" {
				t.Fatalf("%q = %q: %v", key, value, err)
			}
			return
		}
		if err := r.batch.Commit(); err != nil {
			t.Fatal(err)
		}
		checkRestored(t, db, enc, key, s.p.Rules)
		emptyOf(t, db, key)
	})
}

func checkRestored(t *testing.T, db *store.Store, enc *events.Encoder, key []byte, rules *state.RuleSet) {
	v, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	rows := 0
	for row, err := range v.Rows() {
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		rows++
		var c state.Customer
		var n state.Interactions
		if known, err := v.Customer(row.ID, &c); err != nil || known != (row.Customer != nil) {
			t.Fatalf("%q is found by a scan and not by its id %q: %v", key, row.ID, err)
		}
		if known, err := v.Interactions(row.ID, &n); err != nil || known != (row.Interactions != nil) {
			t.Fatalf("%q is found by a scan and not by its id %q: %v", key, row.ID, err)
		}
		if int(c.Published) > len(rules.Segments()) {
			continue // of a rule set with more segments
		}
		p := enc.Profile(row.ID, row.Customer, row.Interactions)
		if string(p.Key) != row.ID || !json.Valid(p.Value) {
			t.Fatalf("the profile of %q is %q = %s", row.ID, p.Key, p.Value)
		}
	}
	if state := store.IsCustomerKey(key) || store.IsInteractionsKey(key); !state && rows > 0 || rows > 1 {
		t.Fatalf("%q makes %d customers", key, rows)
	}
}

// emptyOf takes out what a record has put in.
func emptyOf(t *testing.T, db *store.Store, key []byte) {
	b := db.NewBatch()
	timers, err := db.Due(math.MaxInt64-1, 2, nil)
	if err != nil || len(timers) > 1 {
		t.Fatalf("%q arms %v: %v", key, timers, err)
	}
	for _, timer := range timers {
		err = errors.Join(err, b.Disarm(timer))
	}
	if store.IsCustomerKey(key) || store.IsInteractionsKey(key) {
		err = errors.Join(err, b.Put(key, nil))
	}
	if err := errors.Join(err, b.Commit()); err != nil {
		t.Fatal(err)
	}
}
