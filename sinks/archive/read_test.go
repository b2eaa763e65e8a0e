package archive

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/asiduo/asiduo/state"
)

// What is read is what the facts say, of the newest snapshot that is published.
func TestReadBuyers(t *testing.T) {
	p, in, dir := populate(t, 500), info(t), t.TempDir()
	if _, err := Newest(dir); err == nil || !strings.Contains(err.Error(), "no published snapshot") {
		t.Errorf("%v", err)
	}
	for shard := range in.Shards {
		p.write(t, dir, shard, now, in)
	}
	if ok, err := Publish(t.Context(), dir, day, now, in); !ok || err != nil {
		t.Fatal(ok, err)
	}
	got, err := Newest(dir)
	if err != nil || got != day {
		t.Fatal(got, err)
	}
	m, err := ReadManifest(dir, got)
	if err != nil {
		t.Fatal(err)
	}
	buyers, err := ReadBuyers(dir, m)
	if err != nil {
		t.Fatal(err)
	}
	var want, is struct {
		buyers, days int64
		net          state.Money
		clv, atRisk  state.Money
	}
	v := p.view(t)
	for from, err := range v.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		if c := from.Customer; c != nil && c.Evaluated {
			c.Advance(in.Params, max(now, c.EvaluatedAt), state.Telling{LiveFrom: state.Never}, nil)
			w := c.Worth(in.Params, max(now, c.EvaluatedAt))
			want.clv, want.atRisk = want.clv+w.Now, want.atRisk+w.AtRisk
		}
	}
	for _, facts := range p.facts {
		days := orderDays(facts)
		_, net := counted(facts, 0)
		if len(days) > 0 {
			want.buyers++
			want.days += int64(len(days))
			want.net += net
		}
	}
	for _, b := range buyers {
		is.buyers++
		is.days += b.OrderDays
		is.net += state.Money(b.Net)
		is.clv, is.atRisk = is.clv+state.Money(b.CLV), is.atRisk+state.Money(b.AtRisk)
		if !b.Valued || b.FirstDay > b.LastDay || int64(b.LastDay-b.FirstDay) < b.OrderDays-1 || b.Ledger.Occasions() != (state.Occasions{Days: b.OrderDays, FirstDay: b.FirstDay, LastDay: b.LastDay, Eve: b.Ledger.Occasions().Eve}) {
			t.Errorf("%+v", b)
		}
	}
	// populate has one store, and every shard of this snapshot is a view of it.
	n := state.Money(in.Shards)
	want.buyers, want.days, want.net, want.clv, want.atRisk = want.buyers*int64(n), want.days*int64(n), want.net*n, want.clv*n, want.atRisk*n
	if is != want || want.buyers == 0 || want.clv == 0 {
		t.Errorf("%+v, want %+v", is, want)
	}
}

// A part that cannot tell the days of orders says why.
func TestBuyersUnread(t *testing.T) {
	type before struct {
		ID      string  `parquet:"customer_id"`
		Chance  float64 `parquet:"churn_probability"`
		Days    int64   `parquet:"order_days"`
		First   int32   `parquet:"first_order_day"`
		Last    int32   `parquet:"last_order_day"`
		Revenue int64   `parquet:"net_revenue_lifetime"`
	}
	type now struct {
		before
		Record []byte `parquet:"customer_record"`
	}
	dir := t.TempDir()
	for want, write := range map[string]func(file string) error{
		"archive part: no column customer_record: the snapshot is of an older version, take a new one": func(file string) error {
			return parquet.WriteFile(file, []before{{Days: 1}})
		},
		"archive part: customer_record of a customer: corrupt": func(file string) error {
			return parquet.WriteFile(file, []now{{before{Days: 1}, []byte{1}}})
		},
	} {
		if err := write(filepath.Join(dir, "part")); err != nil {
			t.Fatal(err)
		}
		for _, err := range Buyers(dir, Part{File: "part"}) {
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}
