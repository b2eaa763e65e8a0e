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

func TestFile(t *testing.T) {
	p, in, dir := populate(t, 1500), info(t), t.TempDir()
	part, name := p.publish(t, dir, now, in)
	if part.File != "snapshots/dt=2026-11-24/part-0.parquet" || part.AsOf != now {
		t.Errorf("part %+v", part)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b); part.SHA256 != hex.EncodeToString(sum[:]) || part.Bytes != int64(len(b)) {
		t.Errorf("part %+v; the file has %d bytes", part, len(b))
	}
	file := open(t, name)
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
	if by := file.Metadata().CreatedBy; by != "asiduo version 1(build parquet-go)" {
		t.Errorf("created by %q", by)
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
	one := p.write(t, dir, 0, now, in)
	two := p.write(t, dir, 0, now, in)
	if !reflect.DeepEqual(one, two) {
		t.Errorf("%+v, then %+v", one, two)
	}
	if got := staged(t, dir, now, in); !slices.Equal(got, []string{"part-0.parquet"}) {
		t.Errorf("files %q", got)
	}
}

// TestGroups: a file takes as many row groups as it needs, and ids ascend through all of them.
func TestGroups(t *testing.T) {
	p, in, dir := populate(t, 0), info(t), t.TempDir()
	const rows = groupRows + 3
	b := p.NewBatch()
	n := state.Interactions{LastAt: now}
	for i := range rows {
		if err := b.Put(store.InteractionsKey(nil, fmt.Sprintf("c%07d", i)), n.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	part, name := p.publish(t, dir, now, in)
	file := open(t, name)
	var sizes []int64
	for _, g := range file.RowGroups() {
		sizes = append(sizes, g.NumRows())
	}
	if !slices.Equal(sizes, []int64{groupRows, 3}) || part.Rows != rows {
		t.Errorf("row groups of %d; %d rows", sizes, part.Rows)
	}
	for i, row := range read(t, file) {
		if id := string(row["customer_id"].ByteArray()); id != fmt.Sprintf("c%07d", i) || row["segment"].String() != "prospect" {
			t.Fatalf("row %d: %v", i, row)
		}
	}
}

func TestNobody(t *testing.T) {
	p, in, dir := populate(t, 0), info(t), t.TempDir()
	part, name := p.publish(t, dir, now, in)
	if part.Rows != 0 || part.NetRevenue != "0.00" || open(t, name).NumRows() != 0 {
		t.Errorf("part %+v", part)
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
			go p.close() // waits for the view
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
			_, err := WritePart(&hook{t.Context(), 3, func() error { return end.do(p) }}, dir, day, 0, now, v, in)
			if !errors.Is(err, end.want) {
				t.Errorf("error %v; want %v", err, end.want)
			}
			if got := staged(t, dir, now, in); !slices.Equal(got, []string{"part-0.parquet"}) {
				t.Errorf("files %q", got)
			}
			if st, err := os.Stat(stage(dir, in.snapshot(day, now)).file(partName(0))); err != nil || st.Size() != before.Bytes {
				t.Errorf("the part of before: %v, %v", st, err)
			}
		})
	}
}

// TestHalf: while a part is written, nothing that readers would find is there.
func TestHalf(t *testing.T) {
	p, in, dir := populate(t, 2*batchRows), info(t), t.TempDir()
	v := p.view(t)
	if err := Begin(dir, day, now, in); err != nil {
		t.Fatal(err)
	}
	var names []string
	look := &hook{t.Context(), 2, func() error { names = append(staged(t, dir, now, in), files(t, dir)...); return nil }}
	if _, err := WritePart(look, dir, day, 0, now, v, in); err != nil {
		t.Fatal(err)
	}
	if len(names) != 1 || !strings.HasPrefix(names[0], "_") || strings.HasSuffix(names[0], ".parquet") {
		t.Errorf("files %q", names)
	}
}

func TestRefuses(t *testing.T) {
	p, dir := populate(t, 1), t.TempDir()
	v := p.view(t)
	good := info(t)
	many, digits, bare, up := good, good, good, good
	up.App = "../shop"
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
		"app":        {day, 0, up},
	} {
		if _, err := WritePart(t.Context(), dir, try.day, try.shard, now, v, try.info); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestAnyID: an id is text, whatever is in it, and comes back letter by letter, in the order of its bytes.
func TestAnyID(t *testing.T) {
	p, in, dir := populate(t, 0), info(t), t.TempDir()
	ids := []string{"\x00", "\n", " ", ".", "../../etc/passwd", "'; drop table customers; --", "=1+1", "\u202e\u2066", "\u2028", "\ufeff", "\ufffd", "null",
		"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", strings.Repeat("\x00", 256), strings.Repeat("\U0010ffff", 64)}
	b := p.NewBatch()
	n := state.Interactions{LastAt: now, Consents: []state.Consent{{Purpose: strings.Repeat("\u202e", 85), At: now}}}
	for _, id := range ids {
		if err := b.Put(store.InteractionsKey(nil, id), n.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	_, name := p.publish(t, dir, now, in)
	var got []string
	for _, row := range read(t, open(t, name)) {
		got = append(got, string(row["customer_id"].ByteArray()))
	}
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		t.Errorf("%q, want %q", got, ids)
	}
}
