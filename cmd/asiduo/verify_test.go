package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// spoil opens the store of a shard of a stopped process and changes it.
func (s *service) spoil(shard int32, change func(*store.Store, *store.Batch)) {
	s.t.Helper()
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	db, err := store.Open(filepath.Join(s.cfg.State.Dir, fmt.Sprintf("shard-%d", shard)), store.Options{FS: vfs.Default, Cache: cache, Memtable: 1 << 20})
	if err != nil {
		s.t.Fatal(err)
	}
	b := db.NewBatch()
	change(db, b)
	if err := b.Commit(); err != nil {
		s.t.Fatal(err)
	}
	if err := db.Close(true); err != nil {
		s.t.Fatal(err)
	}
}

// TestVerify holds stores against the changelog, of a process that runs and of one that does not.
func TestVerify(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	for i := range 8 {
		who := fmt.Sprintf("c%d", i)
		w.buy(who, "o1", time.Now())
		w.expect(who, "", "new", "order")
	}
	eventually(t, "all are in the stores", func() bool { return strings.Count(command(t, "state", "scan", "-c", s.file).out, "\n") == 8 })
	good := func() {
		t.Helper()
		got := command(t, "state", "verify", "-c", s.file)
		if got.code != exitGood || strings.Count(got.out, ": equal\n")+strings.Count(got.out, "the store is empty") != townShards || strings.Count(got.out, "\n") != townShards {
			t.Errorf("verify: %+v", got)
		}
	}
	good()
	refusedLike(t, `shard 9: the instance at \S+ answers 503 Service Unavailable: \{.*\}`, "state", "verify", "-c", s.file, "--shard", "9")
	s.stop()
	good()
	shard := w.place([]byte("c0"), townShards)
	key := store.CustomerKey(nil, "c0")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var was []byte
	var mark store.Mark
	var due state.Instant
	s.spoil(shard, func(db *store.Store, _ *store.Batch) {
		var err error
		var c state.Customer
		was, _, err = db.Get(key, nil)
		must(err)
		must(c.Decode(was))
		due = c.Due
		mark, _, err = db.Mark()
		must(err)
	})
	var other []byte
	n := len(was) - 1
	for ; ; n-- { // a byte of which nobody can tell by itself that it is wrong
		other = bytes.Clone(was)
		other[n] ^= 1
		var c state.Customer
		if c.Decode(other) == nil && c.Due == due {
			break
		}
	}
	ahead, foreign, older := mark, mark, mark
	ahead.Offset += 1000
	foreign.TopicID = "x"
	older.Cycle += 5
	unproven, cut := mark, mark // as if compaction had taken their checkpoints
	unproven.Offset, unproven.Owner = mark.Offset-1, "somebody else"
	cut.Offset, cut.Epoch = mark.Offset-1, mark.Epoch+7
	text := func(at state.Instant) string {
		return time.UnixMilli(int64(at)).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	for _, c := range []struct {
		want         string // with --show-ids
		damage, undo func(*store.Store, *store.Batch)
	}{
		{fmt.Sprintf("  customer c0, customer: differs from byte %d on: store %x, changelog %x\n", n, other[n:min(n+8, len(other))], was[n:min(n+8, len(was))]),
			func(_ *store.Store, b *store.Batch) { must(b.Put(key, other)) }, func(_ *store.Store, b *store.Batch) { must(b.Put(key, was)) }},
		{"  customer c0, customer: is in the changelog only\n",
			func(_ *store.Store, b *store.Batch) { must(b.Put(key, nil)) }, func(_ *store.Store, b *store.Batch) { must(b.Put(key, was)) }},
		{"  customer zzz, interactions: is in the store only\n",
			func(_ *store.Store, b *store.Batch) { must(b.Put(store.InteractionsKey(nil, "zzz"), []byte{1})) },
			func(_ *store.Store, b *store.Batch) { must(b.Put(store.InteractionsKey(nil, "zzz"), nil)) }},
		{"  customer c0, timer: is missing: due at " + text(due) + "\n",
			func(_ *store.Store, b *store.Batch) { must(b.Disarm(store.Timer{At: due, ID: "c0"})) },
			func(_ *store.Store, b *store.Batch) {}},
		{"  customer c0, timer: comes at " + text(due+1) + ", after " + text(due) + ", when it is due\n",
			func(_ *store.Store, b *store.Batch) { must(b.Arm(due+1, "c0")) },
			func(_ *store.Store, b *store.Batch) { must(b.Arm(due, "c0")) }},
		{fmt.Sprintf("  the store: it is at offset %d of the changelog, which ends at %d: the changelog was cut\n", ahead.Offset, mark.Offset+2),
			func(_ *store.Store, b *store.Batch) { must(b.SetMark(&ahead)) }, func(_ *store.Store, b *store.Batch) { must(b.SetMark(&mark)) }},
		{fmt.Sprintf("  the store: nobody can tell whether it is true: its checkpoint is gone from offset %d, and the next one is another owner's\n", unproven.Offset),
			func(_ *store.Store, b *store.Batch) { must(b.SetMark(&unproven)) }, func(_ *store.Store, b *store.Batch) { must(b.SetMark(&mark)) }},
		{fmt.Sprintf("  the store: nobody can tell whether the changelog was cut since: its checkpoint is gone, and leader epoch %d ends at offset 0, the store is at %d\n", cut.Epoch, cut.Offset),
			func(_ *store.Store, b *store.Batch) { must(b.SetMark(&cut)) }, func(_ *store.Store, b *store.Batch) { must(b.SetMark(&mark)) }},
		{"  the store: it is of another changelog (topic id x, now " + mark.TopicID + "): the changelog was deleted and made again\n",
			func(_ *store.Store, b *store.Batch) { must(b.SetMark(&foreign)) }, func(_ *store.Store, b *store.Batch) { must(b.SetMark(&mark)) }},
		{"  the store: it has records and no checkpoint: a restore is under way, or was interrupted, and begins anew\n",
			func(_ *store.Store, b *store.Batch) { must(b.Unmark()) }, func(_ *store.Store, b *store.Batch) { must(b.SetMark(&mark)) }},
		{"  the store: store {",
			func(_ *store.Store, b *store.Batch) { must(b.SetMark(&older)) }, func(_ *store.Store, b *store.Batch) { must(b.SetMark(&mark)) }},
	} {
		s.spoil(shard, c.damage)
		got := command(t, "state", "verify", "-c", s.file, "--show-ids", "--shard", fmt.Sprint(shard))
		want := "asiduo: 1 of 1 stores differ from the changelog, which is what counts. To repair one, stop its process, remove its directory (" + s.cfg.State.Dir +
			"/shard-N), and start the process: it is built again from the changelog. Keep a copy for whoever looks for the cause\n"
		if got.code != exitFailed || got.err != want || !strings.Contains(got.out, ": 1 differences\n"+c.want) {
			t.Errorf("got %d %s%s\nwant %s", got.code, got.out, got.err, c.want)
		}
		if hidden := command(t, "state", "verify", "-c", s.file, "--shard", fmt.Sprint(shard)); strings.Contains(hidden.out, " c0,") || strings.Contains(hidden.out, "zzz") {
			t.Errorf("an id is shown: %s", hidden.out)
		}
		s.spoil(shard, c.undo)
	}
	good()
}

// TestAnswerBreaksOff has a process whose answer ends too soon: with the connection, in a line or between two, or as if it were whole.
func TestAnswerBreaksOff(t *testing.T) {
	line := `{"mark":{"owner":"o"}}` + "\n"
	for _, c := range []struct {
		part string
		ends bool
	}{{"", false}, {line[:9], false}, {line, false}, {line + line[:9], false}, {"", true}, {line, true}, {line + line[:9], true}} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, c.part)
			_ = http.NewResponseController(w).Flush()
			if !c.ends {
				panic(http.ErrAbortHandler) // as the API does when the shard is closed, or its store cannot be read any more
			}
		}))
		file := written(t, "asiduo.yaml", fmt.Sprintf("app: shop\ncurrency: EUR\nkafka: {brokers: [\"127.0.0.1:1\"]}\nadmin: {listen: %q}\n", s.Listener.Addr()))
		const want = "the answer broke off: was the shard closed? try again; if it breaks off again, the log of the instance says why"
		refused(t, exitFailed, "shard 0: "+want, "state", "verify", "-c", file, "--shard", "0")
		if !c.ends {
			refused(t, exitFailed, want, "state", "scan", "-c", file, "--shard", "0")
		}
		s.Close()
	}
}
