package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parquet-go/parquet-go"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/store"
)

const (
	day = "2026-11-24"
	now = state.Instant(1_795_478_400_000) // 2026-11-24T00:00:00Z
)

func parameters(t testing.TB) *state.Parameters {
	t.Helper()
	rules, err := state.NewRuleSet("rfm11", state.RFM11())
	if err != nil {
		t.Fatal(err)
	}
	p := &state.Parameters{
		Recency:   [4]state.Instant{30 * state.Day, 90 * state.Day, 180 * state.Day, 365 * state.Day},
		Frequency: [4]int{2, 3, 5, 10},
		Money:     [4]state.Money{20_00, 50_00, 100_00, 250_00},
		Window:    730 * state.Day,
		Rules:     rules,
		Limits:    state.Limits{Orders: 500, Refunds: 500, Purposes: 16},
		Versions:  state.Versions{Rules: 3, Cuts: 2, Model: 1},
	}
	p.Churn = state.Churn{
		Method: state.ByMBGNBD, MBGNBD: model.MBGNBD{R: 0.525, Alpha: 51, A: 0.89, B: 1.63}, Horizon: 90,
		Value: &model.Value{Spend: model.GammaGamma{P: 6, Q: 3.7, Gamma: 1500}, Horizon: 1095, Rate: 0.1, Margin: 0.3},
		Bands: [2]state.Millionths{300_000, 700_000}, Hysteresis: 50_000, Jump: 100_000,
	}
	return p
}

func info(t testing.TB) Info {
	return Info{App: "shop", Epoch: 1, Shards: 1, Currency: "EUR", Digits: 2, Params: parameters(t)}
}

// population is a shard's store with customers, and what each of them did.
type population struct {
	*store.Store
	facts map[string][]state.Fact
	ids   []string // not sorted
	once  sync.Once
}

// close closes the store, which waits for views.
func (p *population) close() { p.once.Do(func() { _ = p.Close(false) }) }

// person is a customer id: a UUID, or a text that sorts before, among or after those.
func person(r *rand.Rand, i int) string {
	switch i % 4 {
	case 0:
		return fmt.Sprintf("%c-%d", "+5aBzé"[r.IntN(5)], i)
	case 1:
		return fmt.Sprintf("%x", r.Uint64()) + fmt.Sprint(i)
	}
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), i)
}

func populate(t testing.TB, n int) *population {
	t.Helper()
	cache := pebble.NewCache(8 << 20)
	defer cache.Unref()
	s, err := store.Open("shard", store.Options{FS: vfs.NewMem(), Cache: cache, Memtable: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	p, params, r := &population{Store: s, facts: map[string][]state.Fact{}}, parameters(t), rand.New(rand.NewPCG(1, uint64(n)))
	t.Cleanup(p.close)
	b := s.NewBatch()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		id := person(r, i)
		p.ids = append(p.ids, id)
		var c state.Customer
		c.Reset()
		if i%10 != 9 {
			p.facts[id] = buy(r, params, &c)
			check(b.Put(store.CustomerKey(nil, id), c.AppendTo(nil)))
		}
		if i%3 == 0 {
			n := interact(r, params)
			check(b.Put(store.InteractionsKey(nil, id), n.AppendTo(nil)))
		} else if i%10 == 9 {
			n := state.Interactions{LastAt: now - state.Day}
			check(b.Put(store.InteractionsKey(nil, id), n.AppendTo(nil)))
		}
		if b.Len() > 1<<20 {
			check(b.Commit())
			b = s.NewBatch()
		}
	}
	check(b.SetMark(&store.Mark{
		Checkpoint: store.Checkpoint{Owner: "one", Cycle: 7, Horizon: now, Inputs: map[string]store.InputPositions{
			"orders": {TopicID: "t1", Next: map[int32]int64{0: 41, 1: 42}},
		}, Versions: parameters(t).Versions, Sweep: &store.Sweep{Family: "model", At: now - 5, Cursor: []byte("c5"), Done: 5}, CaughtUp: true, LiveFrom: now - 9,
			Made: store.Made{Shards: 1, Epoch: 1, Currency: "EUR", Digits: 2}},
		Position: store.Position{TopicID: "t2", Offset: 99, Epoch: 1, Written: int64(now)},
	}))
	check(b.Commit())
	return p
}

// buy lets a customer order and bring back; one in ten customers never keeps anything, and some are evaluated after now.
func buy(r *rand.Rand, p *state.Parameters, c *state.Customer) (facts []state.Fact) {
	at := now - state.Instant(r.Int64N(int64(1200*state.Day)))
	worthless := r.IntN(10) == 0
	for k := range 1 + r.IntN(6) {
		o := state.Order{
			ID: uint64(k + 1), UpdatedAt: at, Status: state.Paid, Amount: state.Money(100 + r.IntN(8000)), OrderedAt: at,
			Day: int32(at / state.Day),
		}
		if worthless {
			o.Status = state.Cancelled
		}
		facts = append(facts, state.Fact{Kind: state.OrderFact, At: at, Order: o})
		if r.IntN(4) == 0 {
			facts = append(facts, state.Fact{Kind: state.RefundFact, At: at + 1, Refund: state.Refund{
				Order: o.ID, ID: 1, At: at + 1, Amount: o.Amount / state.Money(1+r.IntN(2)),
			}})
		}
		if at += state.Instant(r.Int64N(int64(300 * state.Day))); at > now+state.Day {
			break
		}
	}
	say := state.Telling{EmitBackfill: true, LiveFrom: 1}
	for i := range facts {
		c.Advance(p, facts[i].At, say, nil)
		c.Apply(p, &facts[i], say, nil)
	}
	return facts
}

func interact(r *rand.Rand, p *state.Parameters) (n state.Interactions) {
	at := now - state.Instant(r.Int64N(int64(90*state.Day)))
	n.Apply(&p.Limits, &state.Interaction{At: at, Complaint: state.ComplaintKind(r.IntN(3))})
	for _, purpose := range []string{"email", `a "quoted" <b>`, "sms"}[:r.IntN(4)] {
		n.Apply(&p.Limits, &state.Interaction{At: at, Purpose: purpose, Consent: state.ConsentStatus(r.IntN(3))})
	}
	return n
}

// view is a view until the test ends.
func (p *population) view(t testing.TB) *store.View {
	t.Helper()
	v, err := p.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// write begins a snapshot, if it is not, and writes a part of the population with a view of its own.
func (p *population) write(t testing.TB, dir string, shard int32, asOf state.Instant, in Info) Part {
	t.Helper()
	if err := begin(dir, in.snapshot(day, asOf)); err != nil {
		t.Fatal(err)
	}
	v := p.view(t)
	part, err := WritePart(context.Background(), dir, day, shard, asOf, v, in)
	if err != nil {
		t.Fatal(err)
	}
	return part
}

// publish writes and publishes a snapshot of one part, and returns its file.
func (p *population) publish(t testing.TB, dir string, asOf state.Instant, in Info) (part Part, file string) {
	t.Helper()
	part = p.write(t, dir, 0, asOf, in)
	publishes(t, dir, asOf, in, true)
	return part, filepath.Join(dir, part.File)
}

func open(t *testing.T, name string) *parquet.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// read are the rows of a file by column name; what is null is not there.
func read(t *testing.T, file *parquet.File) (rows []map[string]parquet.Value) {
	t.Helper()
	names := file.Schema().Columns()
	for _, group := range file.RowGroups() {
		in := group.Rows()
		buffer := make([]parquet.Row, 100)
		for {
			n, err := in.ReadRows(buffer)
			for _, values := range buffer[:n] {
				row := map[string]parquet.Value{}
				for _, v := range values {
					if !v.IsNull() {
						row[names[v.Column()][0]] = v.Clone()
					}
				}
				rows = append(rows, row)
			}
			if err != nil || n == 0 {
				break
			}
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// files are the names in the directory of the day.
func files(t *testing.T, dir string) []string {
	t.Helper()
	return names(t, filepath.Join(dir, "snapshots", "dt="+day))
}

// staged are the names of what is written for a snapshot that is not whole.
func staged(t *testing.T, dir string, asOf state.Instant, in Info) []string {
	t.Helper()
	return names(t, stage(dir, in.snapshot(day, asOf)).path)
}

func names(t *testing.T, path string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
