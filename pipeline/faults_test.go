package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

var newerFormat = fmt.Sprintf("state record of format %d; this release reads up to %d: run the newer release", state.Format+1, state.Format)

// TestChangelogOfOthers starts on a changelog that holds, for one shard, what this release cannot read. That shard
// stops and says so; the other goes on.
func TestChangelogOfOthers(t *testing.T) {
	newer := string([]byte{state.Format + 1, 0, 0})
	const unknown = "unknown key: was it written by a newer release, or by somebody else?"
	for _, c := range []struct{ name, key, value, reason, why string }{
		{"customer of a newer format", "c\x02somebody", newer, "newer_format", newerFormat},
		{"interactions of a newer format", "i\x02somebody", newer, "newer_format", newerFormat},
		{"customer that is not one", "c\x02somebody", "\x01", "changelog", "corrupt state record"},
		{"interactions that are none", "i\x02somebody", "\x01", "changelog", "corrupt state record"},
		{"checkpoint of nothing", "checkpoint", "{}", "changelog", "checkpoint is not readable: it lacks an owner, a cycle, the positions of the inputs or a horizon"},
		{"UUID as text", "c\x026ba7b810-9dad-11d1-80b4-00c04fd430c8", "\x01", "changelog", unknown},
		{"unknown key", "x", "y", "changelog", unknown},
		{"no key", "", "y", "changelog", unknown},
		{"checkpoint that is not one", "checkpoint", "{", "changelog", "checkpoint is not readable: unexpected end of JSON input"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			s.start()
			s.buy("o1")
			s.read(0, 1)
			s.stop()
			at := s.put("shop.changelog", 0, c.key, c.value)
			s.buy("o2")
			if err := s.disk.RemoveAll("data/shard-0"); err != nil { // all of its changelog is read again
				t.Fatal(err)
			}
			s.start()
			s.stopped(0, c.reason, fmt.Sprintf("restore: changelog partition 0, offset %d: %s", at, c.why))
			s.read(1)
			if n := s.pipe.Positions()["purchases"][0]; n != 0 {
				t.Errorf("the stopped shard is at %d", n)
			}
		})
	}
}

// TestCorruptChangelogKeepsStores looks again and again at a changelog that holds what cannot be read: the store, which was
// well before, is not what is wrong, and may be the only place that has the customer's record.
func TestCorruptChangelogKeepsStores(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	s.stop()
	at := s.put("shop.changelog", 0, "c\x02somebody", "\x01")
	var looks atomic.Int32
	s.start(func(p *Pipeline) {
		p.again = 10 * time.Millisecond
		p.deps.Interrupt = func(shard int32, step Step) error {
			if shard == 0 && step == AfterOwner {
				looks.Add(1)
			}
			return nil
		}
	})
	s.await("shard 0 is looked at again", func() bool { return looks.Load() > 3 })
	s.stopped(0, "changelog", fmt.Sprintf("restore: changelog partition 0, offset %d: corrupt state record", at))
	names, err := s.disk.List("data")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.counter("asiduo_store_rebuilds_total", "corrupt"); n != 0 || slices.Contains(names, "shard-0.set-aside") || !slices.Contains(names, "shard-0") {
		t.Errorf("%v rebuilds, and on disk %v", n, names)
	}
}

// TestCorruptChangelogKeepsStoresBehind is the same for a store that is far behind: a piece of the changelog has been written into it
// before what cannot be read comes. It is set aside, and what follows never takes its place there.
func TestCorruptChangelogKeepsStoresBehind(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	c, _ := s.customer(s.who[0])
	s.stop()
	for i := range 1500 { // as compaction leaves it, without a checkpoint between them
		s.put("shop.changelog", 0, string(store.CustomerKey(nil, fmt.Sprintf("other-%d", i))), string(c.AppendTo(nil)))
	}
	s.put("shop.changelog", 0, "c\x02somebody", "\x01")
	s.cfg.State.Memtable = 64 << 10
	var looks atomic.Int32
	s.start(func(p *Pipeline) {
		p.again, p.share = 10*time.Millisecond, 4096
		p.deps.Interrupt = func(shard int32, step Step) error {
			if shard == 0 && step == BeforeInit {
				looks.Add(1)
			}
			return nil
		}
	})
	eventually(t, "shard 0 is looked at again", func() bool { return looks.Load() > 12 })
	s.stop()
	opt := s.process().storeOptions(0)
	opt.Cache = pebble.NewCache(1 << 20)
	defer opt.Cache.Unref()
	kept, err := store.Open("data/shard-0.set-aside", opt)
	if err != nil {
		t.Fatal(err)
	}
	if b, ok, err := kept.Get(store.CustomerKey(nil, s.who[0]), nil); !ok || err != nil || !bytes.Equal(b, c.AppendTo(nil)) {
		t.Errorf("what was set aside has of the customer %x, %v %v", b, ok, err)
	}
	if whole, err := kept.Whole(); !whole || err != nil {
		t.Errorf("what was set aside is not the store that was there: %v %v", whole, err)
	}
	if err := kept.Close(false); err != nil {
		t.Error(err)
	}
}

// TestStartWhileTheNetworkFails starts a process whose connections fail for a while after the brokers have answered it
// once: they were there a moment ago, so it is worth waiting.
func TestStartWhileTheNetworkFails(t *testing.T) {
	s := newShop(t)
	var dials atomic.Int32
	var dialer net.Dialer
	s.start(func(p *Pipeline) {
		p.deps.Client = []kgo.Opt{kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			if n := dials.Add(1); n > 1 && n < 12 {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNRESET}
			}
			return dialer.DialContext(ctx, network, host)
		})}
	})
	s.buy("o1")
	s.read(0, 1)
	if n := dials.Load(); n < 12 {
		t.Errorf("only %d dials", n)
	}
}

// TestStoreOfANewerRelease goes back to this release on the disk of a newer one.
func TestStoreOfANewerRelease(t *testing.T) {
	for _, kind := range []string{"customer", "interactions"} {
		t.Run(kind, func(t *testing.T) {
			s := newShop(t)
			s.start()
			s.buy("o1")
			s.read(0, 1)
			s.stop()
			key := store.CustomerKey(nil, s.who[0])
			if kind == "interactions" {
				key = store.InteractionsKey(nil, s.who[0])
			}
			cache := pebble.NewCache(1 << 20)
			defer cache.Unref()
			db, err := store.Open("data/shard-0", store.Options{FS: s.disk, Cache: cache, Memtable: 1 << 18})
			if err != nil {
				t.Fatal(err)
			}
			b := db.NewBatch()
			if err := errors.Join(b.Put(key, []byte{state.Format + 1, 0, 0}), b.Commit(), db.Close(true)); err != nil {
				t.Fatal(err)
			}
			s.start()
			s.buy("o2")
			s.stopped(0, "newer_format", newerFormat)
			s.read(1)
		})
	}
}

// TestInputMadeAgain deletes an input and makes it again: its offsets mean other records now.
func TestInputMadeAgain(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running=%v", running), func(t *testing.T) {
			s := newShop(t)
			s.start()
			s.buy("o1")
			s.read(0, 1)
			was, err := s.adm.ListTopics(t.Context(), "purchases")
			if err != nil {
				t.Fatal(err)
			}
			if !running {
				s.stop()
			}
			if _, err := s.adm.DeleteTopic(t.Context(), "purchases"); err != nil {
				t.Fatal(err)
			}
			now, err := s.adm.CreateTopic(t.Context(), 2, 1, nil, "purchases")
			if err != nil {
				t.Fatal(err)
			}
			why := fmt.Sprintf("input topic \"purchases\" was deleted and made again (id %s, was %s): its offsets mean other records now", now.ID, was["purchases"].ID)
			if !running {
				s.start()
			}
			for shard := range int32(2) {
				s.stopped(shard, "input_recreated", why)
			}
		})
	}
}

// TestInputCutShort deletes records that have not been read.
func TestInputCutShort(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	s.stop()
	s.buy("o2")
	s.buy("o3")
	cut := kadm.Offsets{}
	cut.AddOffset("purchases", 0, 2, -1)
	if _, err := s.adm.DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.stopped(0, "input_truncated", "input purchases/0 no longer has the records at our position: 1 to 1 were deleted before they were read")
	s.read(1)
}

// TestInputCutShortUnderUs is the same for a shard that is running.
func TestInputCutShortUnderUs(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	down := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Topic: "purchases", Count: -1})
	s.buy("o2")
	s.buy("o3")
	s.cut("purchases", 0, 2)
	down.Remove()
	s.stopped(0, "input_truncated", "input purchases/0 no longer has the records at our position: 1 to 1 were deleted before they were read")
	s.read(1)
}

// TestPartitionsAdded gives a running process more partitions to read, and then such that it cannot share out.
func TestPartitionsAdded(t *testing.T) {
	s := newShop(t)
	p := s.process()
	s.pipe = p
	ends := make(chan error, 1)
	go func() { ends <- p.Run(t.Context()) }()
	s.buy("o1")
	s.read(0, 1)
	s.grow("purchases", 4)
	who := ""
	for i := 0; who == "" || s.place([]byte(who), 4) != 3; i++ {
		who = fmt.Sprintf("newcomer-%d", i)
	}
	s.put("purchases", 3, who, order(who, "o1"))
	s.await("the new partition to be read", func() bool { return p.Positions()["purchases"][3] > 0 })
	if c, _ := s.customer(who); len(c.Orders) != 1 {
		t.Errorf("%d orders of the newcomer", len(c.Orders))
	}
	if _, err := s.adm.UpdatePartitions(t.Context(), 5, "purchases"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ends:
		if err == nil || !strings.Contains(err.Error(), "do not divide the inputs") {
			t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		t.Error("the process goes on")
	}
}

// TestBadRecords has one record for every reason for which a record cannot be used: each becomes a dead letter, what
// lies between them is processed, and positions go past all of it.
func TestBadRecords(t *testing.T) {
	s := newShop(t)
	s.cfg.Limits.MaxRecordBytes, s.cfg.Limits.OrdersPerCustomer, s.cfg.Limits.RefundsPerCustomer, s.cfg.Limits.ConsentPurposes = 2048, 10, 1, 1
	who, want := s.who[0], map[string]string{}
	bad := func(why reason, topic, value string) {
		want[fmt.Sprintf("%s/0@%d", topic, s.put(topic, 0, who, value))] = string(why)
	}
	with := func(old, now string) string { return strings.Replace(order(who, "o1"), old, now, 1) }
	refund := func(id string) string {
		return fmt.Sprintf(`{"type":"refund","order_id":"o1","refund_id":%q,"customer_id":%q,"refunded_at":"2024-05-01T09:30:00Z","amount":"1","currency":"EUR"}`, id, who)
	}
	consent := func(purpose string) string {
		return fmt.Sprintf(`{"id":"i1","customer_id":%q,"type":"consent","at":"2024-05-01T09:00:00Z","properties":{"purpose":%q,"status":"granted"}}`, who, purpose)
	}
	for i := range 10 {
		s.put("purchases", 0, who, order(who, fmt.Sprintf("o%d", i)))
	}
	s.put("purchases", 0, who, refund("r1"))
	s.put("interactions", 0, who, consent("email"))
	for why, value := range map[reason]string{
		tooLarge: with(`"o1"`, `"o1","note":"`+strings.Repeat("y", 2048)+`"`), undecodable: "{", missingField: with(`"amount":"12.50",`, ""),
		emptyOrderID: with(`"o1"`, `""`), badField: with(`"o1"`, `7`), keyMismatch: with(who, "other"), badTime: with("2024-05-01T09", "2024-05-32T09"),
		futureTime: with("2024-05-01T09", "2024-05-09T09"), unknownCurrency: with("EUR", "NOK"), badAmount: with("12.50", "ten"),
		negativeTotal: with("12.50", "-1"), reason(state.TooLate): with("2024-05-01", "2021-05-01"), reason(state.TooManyOrders): with("o1", "o11"),
		reason(state.TooManyRefund): refund("r2"),
	} {
		bad(why, "purchases", value)
		s.buy("o1") // between them, and without effect
	}
	bad(purposeTooLong, "interactions", consent(strings.Repeat("y", maxPurposeBytes+1)))
	bad(reason(state.TooManyTopics), "interactions", consent("sms"))
	s.start()
	s.read(0, 1)
	if got := s.letters(); !maps.Equal(got, want) {
		t.Errorf("dead letters\n%v\nwant\n%v", got, want)
	}
	seen := slices.Collect(maps.Values(want))
	for _, known := range reasons {
		r := known.reason
		if r != misrouted && r != unprocessable && r != batchTooLarge && r != inputLost && !slices.Contains(seen, string(r)) {
			t.Errorf("no record for the reason %s", r)
		}
		if n := s.counter("asiduo_dead_letters_total", string(r)); slices.Contains(seen, string(r)) && n != 1 {
			t.Errorf("%v dead letters are counted for %s", n, r)
		}
	}
	if err := s.pipe.Ready(); err != nil || s.counter("asiduo_shard_closed_total", "error") != 0 {
		t.Errorf("the shards have not just gone on: %v", err)
	}
}

// TestReadyNeedsTheGroup takes the group away: a process that has lost its shards and waits for none is not ready, and
// says why, until the group answers again.
func TestReadyNeedsTheGroup(t *testing.T) {
	s := newShop(t)
	s.start()
	s.await("ready", func() bool { return s.pipe.Ready() == nil })
	var back atomic.Bool
	const joinGroup, heartbeat, syncGroup = 11, 12, 14
	for _, key := range []int16{joinGroup, heartbeat, syncGroup} {
		s.cluster.ControlKey(key, func(kmsg.Request) (kmsg.Response, error, bool) {
			s.cluster.KeepControl()
			return nil, errors.New("gone"), !back.Load() // the connection is closed
		})
	}
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // nothing is posted while nothing happens
		err := s.pipe.Ready()
		if err != nil && strings.Contains(err.Error(), "the group has not answered for ") {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("ready without a group: %v", err)
		}
	}
	back.Store(true)
	s.await("ready again", func() bool { return s.pipe.Ready() == nil })
}
