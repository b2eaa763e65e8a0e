//go:build synctests

package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/population"
	"github.com/asiduo/asiduo/state/store"
)

// variant is how the application of a run is set up. It is drawn apart from everything else, so that what a seed does does
// not depend on what variants there are.
type variant struct {
	rng       *rand.Rand
	amid      bool // parameters are published while records come and the clock moves
	quintiles bool // cuts of money come from the population, after a crowd has bought
	building  bool // the application is new: what was before is not announced
	counted   bool // it is waited until the shards have told what their customers count as
	late      bool // silence that is found too late is told as history, not as news
	differs   bool // some processes have a file that says something else than what is published

	past map[int32]int64       // where the purchases ended before anything ran, by partition
	told map[int64]*kgo.Record // populations, by offset
}

// vary draws the variant of the run.
func (w *world) vary() {
	v := &w.among
	v.rng, v.told = rand.New(rand.NewPCG(w.seed, 9)), map[int64]*kgo.Record{}
	w.cfg.Time.Clock, w.cfg.Cycle.Min, w.cfg.State.Dir = "manual", 0, "data"
	if w.seed%5 == 4 {
		w.cfg.Time.Clock, w.cfg.Time.AnnounceLateOver = "broker", config.Duration(20*365*24*time.Hour)
	}
	if v.late = w.seed%15 == 4; v.late {
		w.c.Backfill, w.cfg.Time.Backfill = "emit", "emit"
		w.cfg.Time.AnnounceLateOver = config.Duration(2 * 24 * time.Hour)
	}
	v.amid = v.rng.IntN(3) == 0
	v.quintiles = v.amid && v.rng.IntN(2) == 0
	v.building = w.cfg.Time.Clock == "broker" && v.rng.IntN(2) == 0
	v.differs = v.rng.IntN(3) == 0
	v.counted = v.rng.IntN(3) == 0
	if v.quintiles {
		v.money(&w.cfg)
	}
	if v.building {
		w.cfg.Time.LiveFrom = config.Instant{}
		w.c.LiveFrom = new("9999-12-31T00:00:00.000Z")
	}
}

// money leaves the cuts of a file to the population, if that is the variant; its own are those before there is one.
func (v *variant) money(c *config.Config) {
	if v.quintiles {
		c.Rules.Money.Mode, c.Rules.Money.InitialCuts = parameters.Quintiles, slices.Clone(c.Rules.Money.Cuts[:])
	}
}

// file is the configuration file of the next process.
func (w *world) file() config.Config {
	c := w.cfg
	if w.among.differs && w.among.rng.IntN(2) == 0 {
		w.hit("a file differs")
		c.Rules.Frequency = [4]int{3, 5, 7, 9}
		c.Churn.Method, c.Churn.Params.ShopGapDays = "heuristic", 3
	}
	return c
}

// crowdPerShard is more than a sweep moves at once, so that no adoption is over in the cycle it begins in: its checkpoint
// tells at which instant it was.
const crowdPerShard = 5

// crowd lets customers buy before anything runs, so many of each shard, and for quintiles often enough that cuts come of it.
func (w *world) crowd() {
	if !w.among.amid {
		return
	}
	orders := 1
	if w.among.quintiles {
		orders = (population.EnoughOrders+9)/(crowdPerShard*int(w.cfg.Shards)) + 1
	}
	var log []oracle.Record
	few := map[int32]int{}
	at := time.UnixMilli(1_705_276_800_000 - 35*24*3600*1000)
	for i := 0; len(few) < int(w.cfg.Shards) || slices.Min(slices.Collect(maps.Values(few))) < crowdPerShard; i++ {
		who := fmt.Sprint("crowd", i)
		if s := w.place([]byte(who), w.cfg.Shards); few[s] == crowdPerShard {
			continue
		} else {
			few[s]++
		}
		for n := range orders {
			at = at.Add(time.Minute)
			log = append(log, oracle.Record{
				Topic: w.cfg.Inputs.Purchases, Partition: w.place([]byte(who), w.c.Partitions), Timestamp: at.UnixMilli(), Key: []byte(who),
				Value: fmt.Appendf(nil, `{"order_id":"%d","customer_id":%q,"ordered_at":%q,"amount":"%d","currency":%q}`,
					n, who, at.UTC().Format(time.RFC3339), 1+w.among.rng.IntN(900), w.c.Currency),
			})
		}
	}
	w.reach(log)
	w.write(log)
	if w.cfg.Time.Clock == "manual" {
		w.set(state.Instant(at.UnixMilli()))
	}
}

// published is everything in the topic of the parameters.
func (w *world) published() *parameters.Set {
	w.t.Helper()
	set, err := parameters.Read(w.t.Context(), pipeline.Connector(w.cfg.Kafka, kgo.Dialer(w.network.DialContext)), w.cfg.App)
	if err != nil {
		w.t.Fatal(err)
	}
	return &set
}

// under is the oracle's configuration under versions, for a shard whose building has ended at an instant, if it has.
func (w *world) under(v state.Versions, set *parameters.Set, live state.Instant) oracle.Config {
	c := w.c
	c.Rules, c.Churn = w.rules[v.Rules-1], w.models[v.Model-1]
	if v.Cuts > 0 {
		c.Rules.Money.Cuts = nil
		for _, cut := range set.Cuts[v.Cuts].Cuts {
			c.Rules.Money.Cuts = append(c.Rules.Money.Cuts, decimal(cut, c.MinorDigits))
		}
	}
	if w.among.building && live > 0 {
		c.LiveFrom = new(time.UnixMilli(int64(live)).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return c
}

// decimal is an amount of minor units as text.
func decimal(minor int64, digits int) string {
	s := strconv.FormatInt(minor, 10)
	if digits == 0 {
		return s
	}
	for len(s) <= digits {
		s = "0" + s
	}
	return s[:len(s)-digits] + "." + s[len(s)-digits:]
}

// adoptions are what a checkpoint that differs from the one before it in this tells about all customers of the shard.
func (w *world) adoptions(last, c *store.Checkpoint, set *parameters.Set) (looks []oracle.Look) {
	w.t.Helper()
	from := positions(*last)
	if last.Cycle == 0 { // whoever begins stands under what is newest
		last = &store.Checkpoint{Versions: state.Versions{Rules: 1, Model: 1}}
	}
	if c.LiveFrom != last.LiveFrom && w.among.building {
		w.hit("building has ended")
		if set.Live == nil || c.LiveFrom != set.Live.From || last.LiveFrom != 0 {
			w.t.Errorf("[building] a shard is live from %d after %d, published is %+v", c.LiveFrom, last.LiveFrom, set.Live)
		}
		for p, end := range w.among.past { // interactions announce nothing, and are not waited for
			if next, its := from[w.cfg.Inputs.Purchases][p]; its && next < end {
				w.t.Errorf("[building] it has ended at purchases/%d@%d, the past goes to %d", p, next, end)
			}
		}
		looks = append(looks, oracle.Look{Next: from, Adopted: &oracle.Adoption{Config: w.under(last.Versions, set, c.LiveFrom), Cause: "live"}})
	}
	if c.Versions == last.Versions {
		return looks
	}
	is := c.Versions
	a := oracle.Adoption{Config: w.under(is, set, c.LiveFrom), Cause: "model", Announce: w.announced[fmt.Sprint("model/", is.Model)]}
	switch {
	case is.Rules != last.Versions.Rules:
		a.Cause, a.Announce = "rules", w.announced[fmt.Sprint("rules/", is.Rules)]
	case is.Cuts != last.Versions.Cuts:
		a.Cause, a.Announce = "cuts", false
		w.hit("cuts adopted")
	}
	at := c.Horizon
	if c.Sweep != nil {
		at = c.Sweep.At
	} else if w.among.amid && last.Cycle > 0 {
		w.t.Errorf("[adoption] a sweep to %+v is over in the cycle that began it", is)
	}
	return append(looks, oracle.Look{At: int64(at), Next: from, Adopted: &a})
}

// moved is the look at a customer that comes before the records of a cycle, of one who is touched while customers are moved:
// the adoption may have left its trace in him, and silence that was played for all others is played for him first.
func (w *world) moved(stored []byte, last, c *store.Checkpoint, set *parameters.Set) (l oracle.Look, looked bool) {
	w.t.Helper()
	sweep, played := last.Sweep, last.Horizon
	if sweep == nil {
		if sweep = c.Sweep; sweep == nil {
			return l, false
		}
		played = sweep.At
	}
	var customer state.Customer
	if len(stored) == 0 {
		return l, false
	}
	if err := customer.Decode(stored); err != nil {
		w.t.Fatal(err)
	}
	if !customer.Evaluated || customer.Versions == c.Versions {
		return l, false
	}
	before := customer.EvaluatedAt
	was, is := w.params(set, sweep.Was), w.params(set, c.Versions)
	customer.Adopt(&state.Adoption{Was: was, Is: is, At: sweep.At, Announce: sweep.Announce}, state.Telling{}, nil)
	if customer.Due <= played {
		w.hit("silence of somebody who is moved")
		customer.Advance(is, played, state.Telling{}, nil)
	}
	return oracle.Look{At: int64(customer.EvaluatedAt), Next: positions(*last)}, customer.EvaluatedAt != before
}

func (w *world) params(set *parameters.Set, v state.Versions) *state.Parameters {
	w.t.Helper()
	p, err := pipeline.Parameters(w.cfg, set, v)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// remember notes where the purchases end.
func (v *variant) remember(w *world) {
	v.past = map[int32]int64{}
	for p := range w.partitions[w.cfg.Inputs.Purchases] {
		v.past[p] = w.cluster.PartitionInfo(w.cfg.Inputs.Purchases, p).HighWatermark
	}
}

// gather reads what shards have told of their customers, before compaction removes it; also in cycles that came to nothing.
func (w *world) gather() {
	w.t.Helper()
	if !w.among.quintiles {
		return
	}
	topic := parameters.Topic(w.cfg.App)
	end := w.cluster.PartitionInfo(topic, 0).HighWatermark
	cl := w.client(kgo.FetchIsolationLevel(kgo.ReadUncommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for next := int64(0); next < end && ctx.Err() == nil; {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if family, _, _ := strings.Cut(string(r.Key), "/"); family == "population" && !r.Attrs.IsControl() {
				w.among.told[r.Offset] = r
			}
		})
	}
}

// checkCuts holds that each version of the cuts comes of what the shards have told of their customers.
func (w *world) checkCuts(set *parameters.Set) {
	w.t.Helper()
	w.gather()
	told := make([][]population.Population, w.cfg.Shards)
	for _, r := range w.among.told {
		var is parameters.Population
		shard, err := strconv.Atoi(strings.TrimPrefix(string(r.Key), "population/"))
		if err := errors.Join(err, json.Unmarshal(r.Value, &is)); err != nil {
			w.t.Fatal(err)
		}
		if !slices.ContainsFunc(told[shard], func(p population.Population) bool { return p.Equal(&is.Population) }) {
			told[shard] = append(told[shard], is.Population)
		}
	}
	for n, c := range set.Cuts {
		if !comeOf(c.Cuts, population.Population{}, told) {
			w.t.Errorf("[cuts] version %d is %v, which comes of no population", n, c.Cuts)
		}
		w.hit("cuts: of the population")
	}
}

// comeOf says whether cuts are those of a population together with one that each shard has told.
func comeOf(cuts population.Cuts, of population.Population, told [][]population.Population) bool {
	if len(told) == 0 {
		are, enough := of.Cuts()
		return enough && are == cuts
	}
	return slices.ContainsFunc(told[0], func(p population.Population) bool {
		var all population.Population
		all.Merge(&of)
		all.Merge(&p)
		return comeOf(cuts, all, told[1:])
	})
}

// telling waits until all shards must have told what their customers count as.
func (w *world) telling() {
	if w.tells() {
		time.Sleep(25 * time.Minute) // ten after the last time, and a shard may find another owner meanwhile
	}
}

// underCuts waits until everybody stands under what is published, the cuts that have come of the population among it.
func (w *world) underCuts() {
	w.t.Helper()
	w.await("new parameters to be adopted", func() bool {
		for _, p := range w.live {
			w.versions.Cuts = max(w.versions.Cuts, p.pipe.Published().Newest.Cuts)
		}
		return w.adopted()
	})
}

// tells says whether it is waited for what the shards tell of their customers.
func (w *world) tells() bool {
	return w.among.counted && (w.among.quintiles || w.cfg.Time.Clock == "broker")
}

// checkPopulation holds what a shard has told of its customers against those it has.
func (w *world) checkPopulation(s int32, set *parameters.Set, kv map[string][]byte) {
	w.t.Helper()
	if !w.tells() {
		return
	}
	var counted population.Population
	for key, value := range kv {
		var c state.Customer
		if !store.IsCustomerKey([]byte(key)) || len(value) == 0 {
			continue
		}
		if err := c.Decode(value); err != nil {
			w.t.Fatal(err)
		}
		counted.Add(c.Member(nil), 1)
	}
	told := set.Populations[s]
	switch {
	case told == nil:
		w.t.Errorf("[population] shard %d has told nothing", s)
	case !told.Population.Equal(&counted):
		is, _ := json.Marshal(told.Population)
		want, _ := json.Marshal(counted)
		w.t.Errorf("[population] shard %d tells %s, its customers are %s", s, is, want)
	default:
		w.hit("population: as counted")
	}
}
