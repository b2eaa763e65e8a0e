package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

var update = flag.Bool("update", false, "write golden files")

func TestSchema(t *testing.T) {
	got := schemaOf(columns(2)).String() + "\n"
	golden := filepath.Join("testdata", "schema.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("schema:\n%s\nwant:\n%s", got, want)
	}
}

// counted are the figures of a window as the rules word them, from the facts alone.
func counted(facts []state.Fact, from state.Instant) (orders int64, net state.Money) {
	back := map[uint64]state.Money{}
	for _, f := range facts {
		if f.Kind == state.RefundFact {
			back[f.Refund.Order] += f.Refund.Amount
		}
	}
	for _, f := range facts {
		if o := f.Order; f.Kind == state.OrderFact && o.Status == state.Paid && o.OrderedAt >= from && o.Amount > back[o.ID] {
			orders, net = orders+1, net+o.Amount-back[o.ID]
		}
	}
	return orders, net
}

// expected is a row as it should be; a nil member is null.
func expected(t *testing.T, p *population, v *store.View, id string, asOf state.Instant, params *state.Parameters) map[string]any {
	t.Helper()
	var c state.Customer
	var n state.Interactions
	known, err := v.Customer(id, &c)
	if err != nil {
		t.Fatal(err)
	}
	interacted, err := v.Interactions(id, &n)
	if err != nil {
		t.Fatal(err)
	}
	zero := int64(0)
	want := map[string]any{
		"customer_id": id, "as_of": int64(asOf), "segment": "prospect", "lifecycle": "prospect", "r": zero, "f": zero, "m": zero,
		"orders": zero, "orders_lifetime": zero, "net_revenue": zero, "net_revenue_lifetime": zero, "segment_sequence": zero,
		"risk_sequence": zero, "complaint_open": n.Complaining, "truncated": false, "orders_in_ledger": zero,
		"settled_orders": zero, "settled_net_revenue": zero,
	}
	if interacted {
		want["last_interaction_at"] = int64(n.LastAt)
		if len(n.Consents) > 0 {
			consents := map[string]any{}
			for _, c := range n.Consents {
				consents[c.Purpose] = c.Status.String()
			}
			want["consent"] = consents
		}
	}
	if !known {
		return want
	}
	to := max(asOf, c.EvaluatedAt)
	want["as_of"], want["evaluated_at"] = int64(to), int64(c.EvaluatedAt)
	if c.Published != state.NoSegment {
		want["published_segment"] = params.Rules.SegmentName(c.Published)
	}
	segmentSeq, riskSeq := c.SegmentSeq, c.RiskSeq
	c.Advance(params, to, state.Telling{EmitBackfill: true, LiveFrom: 1}, nil)
	scored(want, &c, params, to)
	want["segment_sequence"], want["risk_sequence"] = int64(segmentSeq), int64(riskSeq)
	orders, net := counted(p.facts[id], to-params.Window)
	want["orders"], want["net_revenue"] = orders, int64(net)
	orders, net = counted(p.facts[id], 0)
	want["orders_lifetime"], want["net_revenue_lifetime"] = orders, int64(net)
	inWindow := int64(0)
	for _, f := range p.facts[id] {
		if f.Kind == state.OrderFact && f.Order.OrderedAt >= to-params.Window {
			inWindow++
		}
	}
	want["orders_in_ledger"] = inWindow
	want["settled_orders"] = orders - want["orders"].(int64)
	want["settled_net_revenue"] = int64(net) - want["net_revenue"].(int64)
	return want
}

// scored is the part of a row that an advanced customer says.
func scored(want map[string]any, c *state.Customer, params *state.Parameters, to state.Instant) {
	name := params.Rules.SegmentName
	p := c.Profile(params)
	want["r"], want["f"], want["m"] = int64(p.R), int64(p.F), int64(p.M)
	want["lifecycle"] = p.Lifecycle.String()
	want["rules_version"], want["cuts_version"], want["model_version"] = int64(3), int64(2), int64(1)
	if p.Published != state.NoSegment {
		want["segment"], want["since"] = name(p.Published), int64(p.Since)
	}
	if chance := c.Chance(params, to); chance != state.None {
		want["churn_probability"] = float64(chance) / 1e6
	}
	if p.Reference != state.None {
		want["churn_reference"] = float64(p.Reference) / 1e6
	}
	if p.Band != state.NoBand {
		want["churn_band"] = p.Band.String()
	}
	if p.Next.At != state.Never {
		want["next_transition_segment"], want["next_transition_at"] = name(p.Next.Segment), int64(p.Next.At)
	}
	if p.ThresholdAt != state.Never {
		want["next_threshold_band"], want["next_threshold_at"] = p.Threshold.Band.String(), int64(p.ThresholdAt)
	}
	if f := p.Figures; f.Lifetime > 0 {
		want["first_order_at"], want["last_order_at"] = int64(f.First), int64(f.Last)
		want["recency_days"] = int64((to - f.Last) / state.Day)
	}
}

func plain(t *testing.T, name string, v parquet.Value) any {
	t.Helper()
	switch v.Kind() {
	case parquet.Boolean:
		return v.Boolean()
	case parquet.Int32:
		return int64(v.Int32())
	case parquet.Int64:
		return v.Int64()
	case parquet.Double:
		return v.Double()
	}
	if name == "consent" {
		var m map[string]any
		if err := json.Unmarshal(v.ByteArray(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	return string(v.ByteArray())
}

func TestColumns(t *testing.T) {
	p, in := populate(t, 2000), info(t)
	defer func() { _ = p.Close(false) }()
	seen := map[string]int{}
	for _, asOf := range []state.Instant{now, now - 400*state.Day, now + 500*state.Day} {
		dir := t.TempDir()
		part := p.write(t, dir, 0, asOf, in)
		rows := read(t, open(t, filepath.Join(dir, part.File)))
		slices.Sort(p.ids)
		if int64(len(rows)) != part.Rows || len(rows) != len(p.ids) {
			t.Fatalf("%d rows, %d told; want %d", len(rows), part.Rows, len(p.ids))
		}
		v := p.view(t)
		for i, row := range rows {
			got := map[string]any{}
			for name, value := range row {
				got[name] = plain(t, name, value)
				seen[name]++
			}
			want := expected(t, p, v, p.ids[i], asOf, in.Params)
			if !reflect.DeepEqual(got, want) {
				for name := range mergeKeys(got, want) {
					if !reflect.DeepEqual(got[name], want[name]) {
						t.Errorf("as of %d, row %d: %s = %v; want %v", asOf, i, name, got[name], want[name])
					}
				}
				t.FailNow()
			}
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range columns(2) {
		if seen[c.name] == 0 {
			t.Errorf("no row has a %s", c.name)
		}
	}
}

func mergeKeys(a, b map[string]any) map[string]bool {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	return keys
}

func TestFile(t *testing.T) {
	p, in, dir := populate(t, 1500), info(t), t.TempDir()
	defer func() { _ = p.Close(false) }()
	part := p.write(t, dir, 0, now, in)
	if part.File != "snapshots/dt=2026-11-24/part-0.parquet" || part.AsOf != now {
		t.Errorf("part %+v", part)
	}
	b, err := os.ReadFile(filepath.Join(dir, part.File))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b); part.SHA256 != hex.EncodeToString(sum[:]) || part.Bytes != int64(len(b)) {
		t.Errorf("part %+v; the file has %d bytes", part, len(b))
	}
	file := open(t, filepath.Join(dir, part.File))
	slices.Sort(p.ids)
	if part.MinID != p.ids[0] || part.MaxID != p.ids[len(p.ids)-1] {
		t.Errorf("ids %q to %q", part.MinID, part.MaxID)
	}
	for _, g := range file.Metadata().RowGroups {
		if len(g.SortingColumns) != 1 || g.SortingColumns[0] != (format.SortingColumn{}) {
			t.Errorf("sorted by %v", g.SortingColumns)
		}
		for _, c := range g.Columns {
			if c.MetaData.Codec != format.Zstd {
				t.Errorf("%v: %v", c.MetaData.PathInSchema, c.MetaData.Codec)
			}
		}
		if s := g.Columns[0].MetaData.Statistics; string(s.MinValue) != p.ids[0] {
			t.Errorf("least id %q", s.MinValue)
		}
	}
	text, _ := file.Lookup(FooterKey)
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"format": "1", "app": "shop", "epoch": "1", "shard": "0", "shards": "1", "dt": day, "as_of_ms": "1.7954784e+12",
		"currency": "EUR", "digits": "2", "rules": "rfm11", "cycle": "7", "rows": "1500",
		"versions": "map[cuts:2 model:1 rules:3]", "inputs": "map[orders:map[next:map[0:41 1:42] topic_id:t1]]",
	} {
		if got := fmt.Sprint(m[key]); got != want {
			t.Errorf("metadata: %s = %s; want %s", key, got, want)
		}
	}
}

// TestAgain: the same state makes the same bytes, whoever writes.
func TestAgain(t *testing.T) {
	p, in, dir := populate(t, 700), info(t), t.TempDir()
	defer func() { _ = p.Close(false) }()
	one := p.write(t, dir, 0, now, in)
	two := p.write(t, dir, 0, now, in)
	if !reflect.DeepEqual(one, two) {
		t.Errorf("%+v, then %+v", one, two)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"part-0.parquet"}) {
		t.Errorf("files %q", got)
	}
}

func TestNobody(t *testing.T) {
	p, in, dir := populate(t, 0), info(t), t.TempDir()
	defer func() { _ = p.Close(false) }()
	part := p.write(t, dir, 0, now, in)
	if part.Rows != 0 || part.NetRevenue != "0.00" || open(t, filepath.Join(dir, part.File)).NumRows() != 0 {
		t.Errorf("part %+v", part)
	}
	if ok, err := Publish(t.Context(), dir, day, now, in); !ok || err != nil {
		t.Errorf("published %v, %v", ok, err)
	}
}

// hook is a context of which something happens when it is asked for the nth time.
type hook struct {
	context.Context
	left int
	do   func() error
}

func (h *hook) Err() error {
	if h.left--; h.left == 0 {
		return h.do()
	}
	return nil
}

func TestAtomic(t *testing.T) {
	in := info(t)
	for name, end := range map[string]struct {
		do   func(*population) error
		want error
	}{
		"cancelled": {func(*population) error { return context.Canceled }, context.Canceled},
		"closed": {func(p *population) error {
			go func() { _ = p.Close(false) }() // waits for the view
			for {
				v, err := p.View()
				if err != nil {
					return nil
				}
				_ = v.Close()
			}
		}, store.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			p, dir := populate(t, 3*batchRows), t.TempDir()
			before := p.write(t, dir, 0, now, in)
			v := p.view(t)
			_, err := WritePart(&hook{t.Context(), 3, func() error { return end.do(p) }}, dir, day, 0, now+1, v, in)
			if !errors.Is(err, end.want) {
				t.Errorf("error %v; want %v", err, end.want)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			if got := files(t, dir); !slices.Equal(got, []string{"part-0.parquet"}) {
				t.Errorf("files %q", got)
			}
			if st, err := os.Stat(filepath.Join(dir, before.File)); err != nil || st.Size() != before.Bytes {
				t.Errorf("the part of before: %v, %v", st, err)
			}
		})
	}
}

// TestHalf: while a part is written, nothing that readers would find is there.
func TestHalf(t *testing.T) {
	p, in, dir := populate(t, 2*batchRows), info(t), t.TempDir()
	defer func() { _ = p.Close(false) }()
	v := p.view(t)
	defer func() { _ = v.Close() }()
	var names []string
	look := &hook{t.Context(), 2, func() error { names = files(t, dir); return nil }}
	if _, err := WritePart(look, dir, day, 0, now, v, in); err != nil {
		t.Fatal(err)
	}
	if len(names) != 1 || !strings.HasPrefix(names[0], "_") || strings.HasSuffix(names[0], ".parquet") {
		t.Errorf("files %q", names)
	}
}

func TestRefuses(t *testing.T) {
	p, dir := populate(t, 1), t.TempDir()
	defer func() { _ = p.Close(false) }()
	v := p.view(t)
	defer func() { _ = v.Close() }()
	good := info(t)
	many, digits, bare := good, good, good
	many.Shards, digits.Digits, bare.Params = 0, 19, nil
	for name, try := range map[string]struct {
		day   string
		shard int32
		info  Info
	}{
		"day":        {"2026-11-24/..", 0, good},
		"no day":     {"2026-02-30", 0, good},
		"shard":      {day, 1, good},
		"shards":     {day, 0, many},
		"digits":     {day, 0, digits},
		"parameters": {day, 0, bare},
	} {
		if _, err := WritePart(t.Context(), dir, try.day, try.shard, now, v, try.info); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
