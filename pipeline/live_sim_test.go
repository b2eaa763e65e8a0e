//go:build synctests

package pipeline_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/population"
)

// bubble runs a test in virtual time, which begins at midnight of 2000-01-01.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	defer forgiveClient(t)
	synctest.Test(t, f)
}

// plain is a crew of two shards with the default rules and no churn model.
func plain(t *testing.T, change func(*config.Config)) *crew {
	t.Helper()
	return newCrew(t, oracle.Config{
		App: "shop", Currency: "EUR", MinorDigits: 2, TimeZone: "UTC", EventTime: "record", Backfill: "silent", Partitions: 2,
		Inputs: oracle.Inputs{Purchases: "purchases", Interactions: "interactions"}, Churn: oracle.Churn{Bands: []string{"0.33", "0.66"}},
	}, func(c *config.Config) {
		d := config.Default()
		c.Rules, c.Churn, c.Limits = d.Rules, d.Churn, d.Limits
		c.Churn.Method, c.Time.Clock, c.Time.LiveFrom = "none", "broker", config.Instant{}
		change(c)
	})
}

// order is an order of a customer, placed and stamped at a time.
func (w *crew) order(who, id string, at time.Time, amount int, headers map[string]string) oracle.Record {
	place, err := pipeline.NewPartitioner("murmur2")
	if err != nil {
		w.t.Fatal(err)
	}
	value := fmt.Sprintf(`{"order_id":%q,"customer_id":%q,"ordered_at":%q,"amount":"%d.%02d","currency":"EUR"}`,
		id, who, at.UTC().Format(time.RFC3339), amount/100, amount%100)
	return oracle.Record{
		Topic: "purchases", Partition: place([]byte(who), 2), Timestamp: at.UnixMilli(), Key: []byte(who), Value: []byte(value), Headers: headers,
	}
}

// changes are the announced changes, as from, to, cause, mode and time.
func (w *crew) changes() (list []string) {
	w.t.Helper()
	for _, o := range w.outputs() {
		if o.Topic != "segment-changes" && o.Topic != "churn-risk" {
			continue
		}
		if o.Topic == "churn-risk" {
			is := o.Value["churn"].(map[string]any)
			list = append(list, fmt.Sprintf("%s risk #%v %v -> %v %v %v %s", o.Key, o.Value["sequence"], is["previous_band"], is["band"], o.Value["cause"], o.Value["mode"], o.Headers["ce_time"]))
			continue
		}
		from := "nothing"
		if f, ok := o.Value["from"].(map[string]any); ok {
			from = fmt.Sprint(f["segment"])
		}
		list = append(list, fmt.Sprintf("%s #%v %s -> %v %s %v %s", o.Key, o.Value["sequence"], from, o.Value["to"].(map[string]any)["segment"], causeOf(o), o.Value["mode"], o.Headers["ce_time"]))
	}
	slices.Sort(list)
	return list
}

func (w *crew) want(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	if got := w.changes(); !slices.Equal(got, want) {
		w.t.Errorf("announced\n%q\nwant\n%q", got, want)
	}
}

// TestBuilding: three years of history announce nothing, and the first change after it says truly where it comes from.
func TestBuilding(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := plain(t, func(*config.Config) {})
		now := time.Now()
		for month := range 30 {
			at := now.AddDate(-3, month, 0)
			w.write(w.order("ana", fmt.Sprint("o", month), at, 9_000, nil), w.order("bob", fmt.Sprint("o", month), at, 100, nil))
		}
		w.start("a", nil, "", 0)
		w.start("b", nil, "", 0)
		w.read()
		w.shardsAre("live", func(s pipeline.ShardStatus) bool { return !s.Building && s.LiveFrom >= state.Instant(now.UnixMilli()) })
		w.want()
		time.Sleep(5 * time.Second)
		at := time.Now()
		w.write(w.order("ana", "new", at, 100, nil))
		w.read()
		w.want(fmt.Sprintf("ana #1 at_risk -> champions order live %s", at.UTC().Format("2006-01-02T15:04:05.000Z")))
	})
}

// TestLateImport: history that is loaded into a running application announces nothing at its own evaluations, and no
// silence that is older than announce_late_over; what silence did since is news, and says from where.
func TestLateImport(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := plain(t, func(c *config.Config) { c.Time.LiveFrom = config.At(time.Now().AddDate(-2, 0, 0)) })
		w.start("a", nil, "", 0)
		loaded := map[string]string{"asiduo-mode": "backfill"}
		first := time.Now().AddDate(0, 0, -93)
		w.write(w.order("ana", "o1", first, 100, loaded), w.order("bob", "o1", time.Now(), 100, loaded))
		w.read()
		asked := state.Instant(time.Now().UnixMilli())
		w.shardsAre("silence to be played", func(s pipeline.ShardStatus) bool { return s.Horizon >= asked })
		w.want(fmt.Sprintf("ana #1 promising -> about_to_sleep timer live %s", first.AddDate(0, 0, 90).Add(time.Millisecond).UTC().Format("2006-01-02T15:04:05.000Z")))
	})
}

// TestFilesDiffer: two processes with different files go by what is published, and change nobody's parameters.
func TestFilesDiffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := oracle.Configs().Example(2)
		log := oracle.Logs(c).Example(2)
		w := newCrew(t, c, func(cfg *config.Config) { cfg.Cycle.Records = 3 })
		w.start("a", nil, "", 0)
		w.cfg.Rules.Name, w.cfg.Churn.Method, w.cfg.Churn.Params.ShopGapDays = "rf10", "heuristic", 3
		w.start("b", nil, "", 0)
		for i, r := range log {
			w.write(r)
			if i%9 == 8 {
				name := string(rune('a' + i/9%2))
				w.read()
				w.start(name, w.stop(name), "", 0)
			}
		}
		w.read()
		w.play(instantOf(t, c.EndClock))
		want, err := oracle.Play(c, log)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range oracle.Diff(want, w.outputs()) {
			t.Error(d)
		}
	})
}

// TestSilentCustomers are told within one sweep that a new model sees them otherwise, once, also those who are touched
// before it; without announce nobody is told, and the next change says what was so.
func TestSilentCustomers(t *testing.T) {
	for _, announce := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			w := plain(t, func(c *config.Config) {
				c.Time.Clock, c.Churn.Method, c.Churn.Params.ShopGapDays, c.Cycle.Sweep = "manual", "heuristic", 365, 1
			})
			w.start("a", nil, "", 0)
			at := time.Now()
			var want []string
			stamp := func(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }
			for i := range 5 {
				who := fmt.Sprint("c", i)
				w.write(w.order(who, "o1", at, 100, nil))
				want = append(want, fmt.Sprintf("%s #1 nothing -> new order live %s", who, stamp(at)), fmt.Sprintf("%s risk #1 <nil> -> low order live %s", who, stamp(at)))
			}
			w.read()
			adopted := at.AddDate(0, 0, 25)
			w.play(state.Instant(adopted.UnixMilli()))
			w.want(want...)
			w.publish(announce, func(c *config.Config) { c.Churn.Params.ShopGapDays = 10 })
			w.write(oracle.Record{Topic: "interactions", Partition: w.order("c4", "", at, 0, nil).Partition, Timestamp: adopted.UnixMilli(), Key: []byte("c4"),
				Value: []byte(fmt.Sprintf(`{"id":"i","customer_id":"c4","type":"visit","at":%q}`, adopted.UTC().Format(time.RFC3339)))})
			w.read()
			w.shardsAre("the sweep to end", func(s pipeline.ShardStatus) bool { return s.Versions.Model == 2 && s.Sweep == nil })
			sequence := 1
			if announce {
				sequence = 2
				for i := range 5 {
					want = append(want, fmt.Sprintf("c%d risk #2 low -> high model live %s", i, stamp(adopted)))
				}
			}
			w.want(want...)
			again := at.AddDate(0, 0, 26)
			w.write(w.order("c0", "o2", again, 100, nil))
			w.read()
			want = append(want, fmt.Sprintf("c0 #2 new -> potential_loyalist order live %s", stamp(again)), fmt.Sprintf("c0 risk #%d high -> low order live %s", sequence+1, stamp(again)))
			w.want(want...)
		})
	}
}

// TestQuintiles: cuts come from all shards, are the same however many there are, equal those of sorting to the bucket,
// and are adopted by everybody; the published counts are those of a recount.
func TestQuintiles(t *testing.T) {
	var first population.Cuts
	for _, shards := range []int32{1, 2} {
		bubble(t, func(t *testing.T) {
			w := plain(t, func(c *config.Config) {
				c.Rules.Money.Mode, c.Time.Clock, c.Shards, c.Cycle.Sweep, c.Cycle.Records = "quintiles", "manual", shards, 37, 50
			})
			r := rand.New(rand.NewPCG(1, 2))
			var amounts []int64
			at := time.Now()
			w.start("a", nil, "", 0)
			for i := range 600 {
				n := int64(math.Exp(r.NormFloat64()+8)) + 1
				amounts = append(amounts, n)
				w.write(w.order(fmt.Sprint("c", i), "o1", at, int(n), nil))
				if i == 299 { // those who are there are counted again, once
					w.read()
					w.start("a", w.stop("a"), "", 0)
				}
			}
			w.read()
			w.play(state.Instant(at.UnixMilli()))
			w.await("the cuts to be adopted by all", w.live["a"].pipe.Settled)
			w.shardsAre("the cuts to be adopted by all", func(s pipeline.ShardStatus) bool { return s.Versions.Cuts == 1 && s.Sweep == nil })
			set, err := parameters.Read(t.Context(), pipeline.Connector(w.cfg.Kafka, kgo.Dialer(w.network.DialContext)), "shop")
			if err != nil {
				t.Fatal(err)
			}
			cuts := set.Cuts[1]
			slices.Sort(amounts)
			for k := range 4 {
				if want := population.BucketOf(amounts[(k+1)*600/5-1]).Edge() + 1; cuts.Cuts[k] != want {
					t.Errorf("cut %d is %d, want %d", k, cuts.Cuts[k], want)
				}
			}
			if first == (population.Cuts{}) {
				first = cuts.Cuts
			}
			if cuts.Cuts != first || cuts.Buyers != 600 || cuts.Orders != 600 {
				t.Errorf("cuts %+v, with other shards %v", cuts, first)
			}
			for s := range shards {
				v, err := w.live["a"].pipe.View(s)
				if err != nil {
					t.Fatal(err)
				}
				var counted population.Population
				scores := map[uint8]int{}
				if err := v.Stored(func(c *state.Customer) {
					counted.Add(c.Member(nil), 1)
					scores[c.M]++
				}); err != nil {
					t.Fatal(err)
				}
				if told := set.Populations[s]; !told.Population.Equal(&counted) {
					t.Errorf("shard %d: %d buyers published, %d counted", s, told.Buyers.Total(), counted.Buyers.Total())
				}
				if len(scores) != 5 {
					t.Errorf("shard %d: customers by M %v", s, scores)
				}
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
