package pipeline

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
)

// spent is the CPU time of the process, which others on the machine hardly change.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// worked is what a function takes of it, without the collection of garbage, which goes by what others of the process hold.
func worked(f func()) time.Duration {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := spent()
	f()
	return spent() - before
}

// proportional holds that four times as much takes about four times the work: ten times leaves room for caches and buffers that end
// somewhere between, a square takes sixteen. Each is taken at its best of three turns, and of up to
// six where that does not tell.
func proportional(t *testing.T, what string, once, fourfold func()) {
	t.Helper()
	times := 1
	repeated := func(f func()) time.Duration {
		return worked(func() {
			for range times {
				f()
			}
		})
	}
	for repeated(once) < 2*time.Millisecond {
		times *= 2
	}
	a, b := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for turn := 0; turn < 6 && (turn < 3 || b < 14*a); turn++ {
		a, b = min(a, repeated(once)), min(b, repeated(fourfold))
		if turn >= 2 && b < 10*a {
			return
		}
	}
	t.Errorf("%s: four times as much takes %.1f times the work (%v, %v)", what, float64(b)/float64(a), a/time.Duration(times), b/time.Duration(times))
}

// TestHostileJSON has values that make readers slow or deep. They are refused or read with work and memory in proportion
// to their size.
func TestHostileJSON(t *testing.T) {
	with := func(member string) []byte { return anOrder().withTail("," + member).kafka().Value }
	names := func(n int) string {
		wide := make([]string, n)
		for i := range wide {
			wide[i] = strconv.Quote(strconv.Itoa(i)) + ":0"
		}
		return strings.Join(wide, ",")
	}
	set := func(name string, value func(n int) string) func(int) []byte {
		return func(n int) []byte { return anOrder().set(name, value(n)).kafka().Value }
	}
	nines := func(n int) string { return strings.Repeat("9", n) }
	escaped := func(n int) string { return `"` + strings.Repeat(`\u0041`, n) + `"` }
	d := testDecoder()
	d.maxBytes = 1 << 20
	for _, c := range []struct {
		name string
		n    int
		of   func(n int) []byte
		want reason
	}{
		{"arrays, too deep", 10_000, func(n int) []byte { return with(`"items":` + strings.Repeat("[", n) + strings.Repeat("]", n)) }, undecodable},
		{"objects, too deep", 10_000, func(n int) []byte { return with(strings.Repeat(`"fx":{`, n) + strings.Repeat("}", n)) }, undecodable},
		{"arrays without an end", 500_000, func(n int) []byte { return with(`"items":` + strings.Repeat("[", n)) }, undecodable},
		{"arrays", 9_000, func(n int) []byte { return with(`"items":` + strings.Repeat("[", n) + strings.Repeat("]", n)) }, ""},
		{"objects", 9_000, func(n int) []byte { return with(strings.Repeat(`"fy":{`, n) + strings.Repeat("}", n)) }, ""},
		{"long names", 20_000, func(n int) []byte { return with(strings.ReplaceAll(names(n), `":`, strings.Repeat("n", 40)+`":`)) }, ""},
		{"names", 80_000, func(n int) []byte { return with(names(n)) }, ""},
		{"names and one again", 80_000, func(n int) []byte { return with(names(n) + fmt.Sprintf(`,"%d":1`, n-1)) }, undecodable},
		{"names in fx", 80_000, set("fx", func(n int) string { return "{" + names(n) + "}" }), ""},
		{"escaped names", 60_000, func(n int) []byte { return with(strings.ReplaceAll(names(n), `":`, `\n":`)) }, ""},
		{"one name", 1_000_000, func(n int) []byte { return with(strconv.Quote(strings.Repeat("n", n)) + ":1") }, ""},
		{"one escaped name", 150_000, func(n int) []byte { return with(escaped(n) + ":1") }, ""},
		{"a number", 1_000_000, func(n int) []byte { return with(`"cost":` + nines(n)) }, ""},
		{"an amount", 1_000_000, set("amount", nines), badAmount},
		{"a revision", 1_000_000, set("revision", nines), badField},
		{"escapes", 150_000, func(n int) []byte { return with(`"note":` + escaped(n)) }, ""},
		{"an escaped id", 150_000, set("order_id", escaped), badField},
		{"an escaped time", 150_000, set("ordered_at", escaped), badTime},
	} {
		var f state.Fact
		var bad *reject
		decode := func(n int) func() {
			r := &kgo.Record{Key: []byte(canary), Value: c.of(n), Timestamp: time.UnixMilli(draftedAt)}
			return func() { bad = d.decode(purchases, r, 0, false, &f) }
		}
		whole := decode(c.n)
		took := allocated(whole)
		if got := whyOf(bad); got != c.want {
			t.Errorf("%d %s: %q, want %q", c.n, c.name, got, c.want)
		}
		if took > 16<<20 {
			t.Errorf("%d %s took %d bytes", c.n, c.name, took)
		}
		if proportional(t, c.name, decode(c.n/4), whole); t.Failed() {
			return // the others would take as long
		}
	}
	// Nothing of it stays with the decoder.
	var f state.Fact
	r := anOrder().kafka()
	if bad := d.decode(purchases, r, 0, false, &f); bad != nil {
		t.Error(bad.detail)
	}
	if n := testing.AllocsPerRun(100, func() { d.decode(purchases, r, 0, false, &f) }); n > 4 {
		t.Errorf("an ordinary record takes %v allocations after them", n)
	}
}

func whyOf(bad *reject) reason {
	if bad == nil {
		return ""
	}
	return bad.reason
}

// TestCycleWork gives a shard what floods are made of, n records in a cycle and a fourth of them: no record costs more for those before it, of
// this cycle or of another.
func TestCycleWork(t *testing.T) {
	s := newShop(t)
	const n = 30_000
	s.cfg.Limits.OrdersPerCustomer, s.cfg.Cycle.Records, s.cfg.Cycle.Bytes = 10, n, 64<<20
	measured := make(chan struct{})
	s.start(onShard(func(on *shard) {
		s.cycleWork(on, n)
		close(measured)
	}))
	s.buy("o1")
	select {
	case <-measured:
	case <-t.Context().Done(): // work of the processor: how long it takes is up to others who want it too
		t.Fatalf("not measured: %+v", s.pipe.Status())
	}
	s.read(0, 1)
}

// onShard does something once on the goroutine of shard 0, which has made a cycle. What is made up dies with the shard.
func onShard(do func(on *shard)) func(*Pipeline) {
	var once sync.Once
	return func(p *Pipeline) {
		p.deps.Interrupt = func(id int32, at Step) (err error) {
			if id == 0 && at == AfterApply {
				once.Do(func() {
					p.board.mu.Lock()
					on := p.board.serving[id]
					p.board.mu.Unlock()
					do(on)
					err = errors.New("done")
				})
			}
			return err
		}
	}
}

func (s *shop) cycleWork(on *shard, n int) {
	ids, at := 0, map[string]int64{"purchases": 1, "interactions": 0}
	fresh := func() string {
		for {
			if ids++; s.place([]byte(fmt.Sprintf("fresh-%d", ids)), 2) == 0 {
				return fmt.Sprintf("fresh-%d", ids)
			}
		}
	}
	for _, c := range []struct {
		name, topic string
		of          func() (who, value string)
	}{
		{"orders of one customer", "purchases", func() (string, string) { ids++; return s.who[0], order(s.who[0], fmt.Sprintf("o%d", ids)) }},
		{"one order", "purchases", func() (string, string) { return s.who[0], order(s.who[0], "o1") }},
		{"orders of new customers", "purchases", func() (string, string) { who := fresh(); return who, order(who, "o1") }},
		{"interactions of one customer", "interactions", func() (string, string) {
			ids++
			return s.who[0], fmt.Sprintf(`{"id":"%d","customer_id":%q,"type":"t%d","at":"2024-05-01T09:00:00Z"}`, ids, s.who[0], ids)
		}},
		{"consents of one customer", "interactions", func() (string, string) {
			ids++
			return s.who[0], fmt.Sprintf(`{"id":"%d","customer_id":%q,"type":"consent","at":"2024-05-01T09:00:00Z","properties":{"purpose":"%d","status":"granted"}}`, ids, s.who[0], ids)
		}},
		{"no JSON", "purchases", func() (string, string) { return s.who[0], "{" }},
	} {
		cycle := func(n int) func() {
			rs := make([]*kgo.Record, n)
			for i := range rs {
				who, value := c.of()
				rs[i] = &kgo.Record{Topic: c.topic, Key: []byte(who), Value: []byte(value), Timestamp: time.UnixMilli(draftedAt)}
			}
			return func() {
				for _, r := range rs {
					r.Offset = at[c.topic]
					at[c.topic]++
				}
				on.pending = append(on.pending[:0], rs...)
				if err := on.work(s.t.Context()); err != nil || on.cycle.consumed != len(rs) {
					s.t.Errorf("%s: %d of %d, %v", c.name, on.cycle.consumed, len(rs), err)
				}
			}
		}
		var cycles steady
		for range 10 {
			cycles.round(cycle(n / 4))
		}
		if cycles.check(s.t, c.name, 16<<20); s.t.Failed() {
			return // the others would take as long
		}
		if proportional(s.t, c.name, cycle(n/4), cycle(n)); s.t.Failed() {
			return
		}
	}
}
