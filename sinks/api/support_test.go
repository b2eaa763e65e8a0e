package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is 2024-01-15T00:00:00Z; the business clock stands at 2026-03-01T12:00:00Z.
const (
	start state.Instant = 1_705_276_800_000
	today state.Instant = 1_772_366_400_000
)

func params(t testing.TB) *state.Parameters {
	t.Helper()
	rules, err := state.NewRuleSet("rfm11", state.RFM11())
	if err != nil {
		t.Fatal(err)
	}
	p := &state.Parameters{
		Recency:   [4]state.Instant{30 * state.Day, 90 * state.Day, 180 * state.Day, 365 * state.Day},
		Frequency: [4]int{2, 3, 5, 10},
		Money:     [4]state.Money{5_000, 10_000, 20_000, 40_000},
		Window:    730 * state.Day,
		Rules:     rules,
		Churn: state.Churn{
			Method: state.ByRhythm, Horizon: 90, Bands: [2]state.Millionths{330_000, 660_000},
			Hysteresis: 30_000, Jump: 150_000,
		},
		Limits:   state.Limits{Orders: 512, Refunds: 512, Purposes: 2},
		Versions: state.Versions{Rules: 1, Cuts: 22, Model: 333},
	}
	p.Churn.Rhythm.ShopGap = 30
	return p
}

func order(id uint64, at state.Instant, amount state.Money) state.Fact {
	return state.Fact{At: at, Order: state.Order{
		ID: id, OrderedAt: at, UpdatedAt: at, Status: state.Completed, Amount: amount, Day: int32(at / state.Day),
	}}
}

func refund(order, id uint64, at state.Instant, amount state.Money) state.Fact {
	return state.Fact{Kind: state.RefundFact, At: at, Refund: state.Refund{Order: order, ID: id, At: at, Amount: amount}}
}

// world is a store and what HTTP says about it.
type world struct {
	t      testing.TB
	p      *state.Parameters
	s      *store.Store
	reg    *prometheus.Registry
	logs   bytes.Buffer
	o      Options
	closed bool
}

func newWorld(t testing.TB) *world {
	cache := pebble.NewCache(1 << 20)
	s, err := store.Open("db", store.Options{FS: vfs.NewMem(), Cache: cache, Memtable: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, p: params(t), s: s, reg: prometheus.NewPedanticRegistry()}
	t.Cleanup(func() {
		w.close()
		cache.Unref()
	})
	w.o = Options{
		App: "shop", Params: func() *state.Parameters { return w.p }, Currency: "EUR", Digits: 2,
		View: func(string) (*store.View, error) { return s.View() },
		Shards: func() []Shard {
			return []Shard{{
				Shard: 0, State: "running", Cycle: 7, Horizon: today, LiveFrom: today - state.Day,
				Versions: state.Versions{Rules: 2, Cuts: 1, Model: 1}, Sweep: &Sweep{Family: "rules", Done: 4000, Share: new(0.25)},
			}, {Shard: 3, State: "running"}}
		},
		Now: func() (state.Instant, bool) { return today, true },
		Scan: func(_ context.Context, shard int32) (*store.View, error) {
			if shard != 0 {
				return nil, store.ErrClosed
			}
			return s.View()
		},
		Gatherer: w.reg, Registry: w.reg, Version: "1.2.3",
		Log: slog.New(slog.NewTextHandler(&w.logs, nil)),
	}
	return w
}

func (w *world) close() {
	if !w.closed {
		w.closed = true
		if err := w.s.Close(false); err != nil {
			w.t.Error(err)
		}
	}
}

// play makes facts happen to a customer and stores what comes of it, after silence up to a last instant.
func (w *world) play(id string, until state.Instant, facts ...state.Fact) {
	w.t.Helper()
	var c state.Customer
	c.Reset()
	for i := range facts {
		c.Advance(w.p, facts[i].At, state.Telling{}, nil)
		if r := c.Refuse(w.p, &facts[i]); r != "" {
			w.t.Fatalf("fact %d: %s", i, r)
		}
		c.Apply(w.p, &facts[i], state.Telling{}, nil)
	}
	c.Advance(w.p, until, state.Telling{}, nil)
	w.put(store.CustomerKey(nil, id), c.AppendTo(nil))
}

func (w *world) touch(id string, all ...state.Interaction) {
	w.t.Helper()
	var n state.Interactions
	for i := range all {
		n.Apply(&w.p.Limits, &all[i])
	}
	w.put(store.InteractionsKey(nil, id), n.AppendTo(nil))
}

func (w *world) put(key, value []byte) {
	w.t.Helper()
	b := w.s.NewBatch()
	if err := errors.Join(b.Put(key, value), b.Commit()); err != nil {
		w.t.Fatal(err)
	}
}

// people are the customers of the golden files.
func (w *world) people() {
	day := state.Day
	cancelled := order(5, today-100*day, 9_999)
	cancelled.Order.Status = state.Cancelled
	trial := order(6, today-50*day+1, 100)
	trial.Order.Test = true
	revised := order(4, today-200*day, 10_050)
	revised.Order.Status, revised.Order.Refunded, revised.Order.Revision = state.PartiallyRefunded, 550, 2
	revised.Order.UpdatedAt += 3 * day
	w.play("ann", today-day,
		order(1, start, 4_000), order(2, start+30*day, 1), order(3, today-400*day, 25_000), revised,
		refund(4, 1, today-190*day, 500), refund(4, 2, today-180*day, 300), cancelled,
		refund(0xabc, 9, today-90*day, 1_234), trial, order(0xfedcba9876543210, today-10*day+123, 8_000))
	w.touch("ann",
		state.Interaction{At: today - 5*day, Complaint: state.Complained},
		state.Interaction{At: today - 4*day, Purpose: "sms", Consent: state.Denied},
		state.Interaction{At: today - 6*day, Purpose: "email \u2028<b>", Consent: state.Granted})
	w.touch("clicks",
		state.Interaction{At: today - 3*day},
		state.Interaction{At: today - 4*day, Purpose: "a"}, state.Interaction{At: today - 4*day, Purpose: "b"},
		state.Interaction{At: today - 4*day, Purpose: "c"}) // one too many
	w.play("a//b/../c?d=e&%2F ü", today, order(1, today-day, 100))
	w.play("6ba7b810-9dad-11d1-80b4-00c04fd430c8", today, order(1, start+10*day, 100)) // lost; all is settled
	w.play("never", today, trial)
	w.play("early", today, order(1, today+60_000, 100)) // evaluated after now
}

// answerTo asks without a network.
func answerTo(h http.Handler, method, target string) *http.Response {
	r := httptest.NewRecorder()
	h.ServeHTTP(r, httptest.NewRequest(method, target, nil))
	return r.Result()
}

func bodyOf(t testing.TB, r *http.Response) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// golden compares an answer with a file: the request, the status, the headers, and the body, JSON indented.
func golden(t *testing.T, name, request string, r *http.Response) {
	t.Helper()
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s\n\n%s\n", request, r.Status)
	for _, h := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&out, "%s: %s\n", h, strings.Join(r.Header[h], " | "))
	}
	out.WriteByte('\n')
	body := bodyOf(t, r)
	if strings.HasPrefix(request, "HEAD ") {
		body = "" // a server does not send it
	}
	if r.Header.Get("Content-Type") == "application/json" && body != "" {
		if err := json.Indent(&out, []byte(body), "", "  "); err != nil {
			t.Fatal(err)
		}
	} else {
		out.WriteString(body)
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, out.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("got\n%swant\n%s; if it is right, use -update", out.Bytes(), want)
	}
}
