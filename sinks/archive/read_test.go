package archive

import (
	"strings"
	"testing"

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
		if b.FirstDay > b.LastDay || int64(b.LastDay-b.FirstDay) < b.OrderDays-1 {
			t.Errorf("%+v", b)
		}
	}
	// populate has one store, and every shard of this snapshot is a view of it.
	want.buyers, want.days, want.net = want.buyers*int64(in.Shards), want.days*int64(in.Shards), want.net*state.Money(in.Shards)
	if is != want || want.buyers == 0 {
		t.Errorf("%+v, want %+v", is, want)
	}
}
