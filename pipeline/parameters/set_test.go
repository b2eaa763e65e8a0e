package parameters

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/population"
)

func rules(mode string, cuts ...state.Money) Rules {
	return Rules{
		Name: "rfm11", Segments: SegmentsOf(state.RFM11()), Recency: [4]state.Instant{30 * state.Day, 90 * state.Day, 180 * state.Day, 365 * state.Day},
		Frequency: [4]int{2, 3, 5, 10}, Money: Money{mode, cuts}, Window: 730 * state.Day,
	}
}

func churn() Model {
	return Model{Method: "heuristic", Params: ModelParams{ShopGapDays: 30}, Horizon: 90, Bands: [2]state.Millionths{330_000, 660_000}, Hysteresis: 30_000, Jump: 150_000}
}

func begun(t *testing.T, r Rules) *Set {
	t.Helper()
	s, err := (&Set{Epoch: Epoch{Epoch: 1}}).WithRules(r, 1)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = s.WithModel(churn(), 2); err != nil {
		t.Fatal(err)
	}
	return s
}

// put is the set with one more value.
func (s *Set) put(t *testing.T, key string, v any) *Set {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	next, err := s.with(key, b)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// spending is a population of n buyers of one order each, from the amount on.
func spending(n int, from int64) (p population.Population) {
	for i := range n {
		b := population.BucketOf(from + int64(i))
		p.Add(population.Member{b, b}, 1)
	}
	return p
}

// What goes by a version means the same when it is read back, from the topic or from an extract.
func TestMeaning(t *testing.T) {
	s := begun(t, rules(Quintiles)).put(t, "cuts/1", Cuts{Publication: Publication{Version: 1}, Cuts: population.Cuts{5, 10, 20, 40}})
	for _, c := range []struct {
		v     state.Versions
		money [4]state.Money
	}{
		{state.Versions{Rules: 1, Model: 1}, [4]state.Money{0, 0, 1<<63 - 1, 1<<63 - 1}},
		{state.Versions{Rules: 1, Cuts: 1, Model: 1}, [4]state.Money{5, 10, 20, 40}},
	} {
		p, err := s.Parameters(c.v)
		if err != nil {
			t.Fatal(err)
		}
		if p.Money != c.money || p.Versions != c.v || p.Window != 730*state.Day || p.Churn.Method != state.ByRhythm || p.Rules.Of(5, 5, 5) != 3 {
			t.Errorf("parameters of %v: %+v", c.v, p)
		}
		part, err := s.Extract(c.v)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ReadExtract(part)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := read.Parameters(c.v); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("read from an extract: %+v, %v; want %+v", again, err, p)
		}
	}
	for _, v := range []state.Versions{{Rules: 2, Model: 1}, {Rules: 1, Model: 2}, {Rules: 1, Model: 1, Cuts: 2}} {
		if _, err := s.Parameters(v); !errors.Is(err, ErrUnknown) {
			t.Errorf("%v: %v", v, err)
		}
	}
}

// Steps take one family at a time, rules first, always its newest; cuts are left alone while the rules have their own.
func TestSteps(t *testing.T) {
	s := begun(t, rules(Fixed, 1, 2, 3, 4)).put(t, "cuts/1", Cuts{Publication: Publication{Version: 1}, Cuts: population.Cuts{5, 10, 20, 40}})
	at := state.Versions{Rules: 1, Model: 1}
	if is, _, _, more := s.Step(at); more {
		t.Errorf("a step from the newest to %v", is)
	}
	var err error
	other := rules(Quintiles)
	other.Announce, other.Window = true, 800*state.Day
	for range 2 {
		if s, err = s.WithRules(other, 3); err != nil {
			t.Fatal(err)
		}
		other.Window += state.Day
	}
	model := churn()
	model.Horizon = 30
	if s, err = s.WithModel(model, 3); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		v        state.Versions
		family   string
		announce bool
	}{{state.Versions{Rules: 3, Model: 1}, RulesFamily, true}, {state.Versions{Rules: 3, Cuts: 1, Model: 1}, CutsFamily, false}, {state.Versions{Rules: 3, Cuts: 1, Model: 2}, ModelFamily, false}} {
		is, family, announce, more := s.Step(at)
		if is != want.v || family != want.family || announce != want.announce || !more {
			t.Errorf("from %v to %v, %s, %v; want %+v", at, is, family, announce, want)
		}
		at = is
	}
	if _, err := s.WithModel(model, 3); !errors.Is(err, ErrSame) {
		t.Errorf("the same model again: %v", err)
	}
}

// Cuts wait for all shards; the first come with 100 orders, quintiles with 500 buyers, others a week later at the
// earliest and if one moved by more than 5 %.
func TestNextCuts(t *testing.T) {
	const now = 100 * state.Day
	told := func(s *Set, shard string, epoch int, p population.Population) *Set {
		return s.put(t, "population/"+shard, Population{Epoch: epoch, CaughtUp: true, Swept: true, Versions: state.Versions{Rules: 1, Model: 1}, Population: p})
	}
	fixed := told(told(begun(t, rules(Fixed, 1, 2, 3, 4)), "0", 1, spending(600, 1000)), "1", 1, population.Population{})
	if c := fixed.NextCuts(2, now); c != nil {
		t.Errorf("cuts though the rules have theirs: %+v", c)
	}
	s := begun(t, rules(Quintiles))
	s = told(s, "0", 1, spending(60, 1000))
	if c := s.NextCuts(2, now); c != nil {
		t.Errorf("cuts of one of two shards: %+v", c)
	}
	if c := told(s, "1", 2, spending(60, 1000)).NextCuts(2, now); c != nil {
		t.Errorf("cuts of another epoch: %+v", c)
	}
	if c := told(s, "1", 1, spending(39, 1000)).NextCuts(2, now); c != nil {
		t.Errorf("cuts of 99 orders: %+v", c)
	}
	s = told(s, "1", 1, spending(40, 1000))
	few := s.NextCuts(2, now)
	if few == nil || few.Version != 1 || few.Cuts[2] != 2*few.Cuts[1] || few.Orders != 100 || few.PublishedAt != now {
		t.Fatalf("cuts of 100 orders: %+v", few)
	}
	if live := s.NextLive(2, now); live != nil {
		t.Errorf("live before its cuts: %+v", live)
	}
	s = s.put(t, "cuts/1", few)
	if c := told(s, "0", 1, spending(300, 9000)).NextCuts(2, now+30*state.Day); c != nil {
		t.Errorf("other cuts of few: %+v", c)
	}
	s = told(told(s, "0", 1, spending(300, 1000)), "1", 1, spending(300, 1300))
	first := s.NextCuts(2, now+1)
	if first == nil || first.Version != 2 || first.Buyers != 600 {
		t.Fatalf("quintiles: %+v", first)
	}
	s = s.put(t, "cuts/2", first)
	if c := s.NextCuts(2, now+30*state.Day); c != nil {
		t.Errorf("cuts that have not moved: %+v", c)
	}
	s = told(s, "1", 1, spending(300, 2000))
	if c := s.NextCuts(2, now+7*state.Day); c != nil {
		t.Errorf("cuts within a week: %+v", c)
	}
	if c := s.NextCuts(2, now+1+7*state.Day); c == nil || c.Version != 3 {
		t.Errorf("cuts after a week: %+v", c)
	}
}

// Building ends once, when all shards have caught up and all customers stand under the newest versions.
func TestNextLive(t *testing.T) {
	s := begun(t, rules(Fixed, 1, 2, 3, 4))
	newest := state.Versions{Rules: 1, Model: 1}
	for _, c := range []struct {
		name   string
		second Population
		want   bool
	}{
		{"not caught up", Population{Epoch: 1, Versions: newest, Swept: true}, false},
		{"in the middle of a sweep", Population{Epoch: 1, Versions: newest, CaughtUp: true}, false},
		{"under an older model", Population{Epoch: 1, Versions: state.Versions{Rules: 1}, CaughtUp: true, Swept: true}, false},
		{"of another epoch", Population{Epoch: 2, Versions: newest, CaughtUp: true, Swept: true}, false},
		{"ready", Population{Epoch: 1, Versions: newest, CaughtUp: true, Swept: true}, true},
	} {
		s := s.put(t, "population/0", Population{Epoch: 1, Versions: newest, CaughtUp: true, Swept: true})
		if live := s.NextLive(2, 5); live != nil {
			t.Errorf("live with one of two shards")
		}
		s = s.put(t, "population/1", c.second)
		live := s.NextLive(2, 5)
		if (live != nil) != c.want {
			t.Errorf("%s: %+v", c.name, live)
		}
		if live == nil {
			continue
		}
		if s = s.put(t, "live", live); s.LiveFrom() != 5 || s.NextLive(2, 6) != nil {
			t.Errorf("live twice, from %d", s.LiveFrom())
		}
		if s = s.put(t, "epoch", Epoch{Epoch: 2}); s.LiveFrom() != 0 {
			t.Error("a new epoch is live before it is built")
		}
	}
}
