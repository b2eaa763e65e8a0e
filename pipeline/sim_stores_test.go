//go:build synctests

package pipeline_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// kept is a store as a process has left it.
type kept struct {
	who    string
	shard  int32
	mark   store.Mark
	marked bool
	data   map[string][]byte
	timers map[string]state.Instant // the earliest of each customer
}

type silent struct{}

func (silent) Infof(string, ...any)           {}
func (silent) Errorf(string, ...any)          {}
func (silent) Fatalf(format string, a ...any) { panic(fmt.Errorf(format, a...)) }

// keep reads the stores that a process has left, to be judged when the whole history is known.
func (w *world) keep(p *process) {
	w.t.Helper()
	for s := range w.cfg.Shards {
		k := kept{who: fmt.Sprintf("%s at %.3fs", p.name, time.Since(w.began).Seconds()), shard: s}
		dir := fmt.Sprintf("data/shard-%d", s)
		if _, err := p.disk.mem.Stat(dir); err != nil {
			continue
		}
		if err := k.read(p.disk.mem, dir); err != nil {
			w.note("%s, shard %d: %v", k.who, s, err)                               // the next to open it must rebuild it
			if !p.disk.isFlawed(dir) && !errors.Is(err, pebble.ErrDBDoesNotExist) { // a crash may have come before there was one
				w.t.Errorf("[store] %s, shard %d: it cannot be read, and nobody has touched its files: %v", k.who, s, err)
			}
			continue
		}
		w.kept = append(w.kept, k)
	}
}

func (k *kept) read(mem *vfs.MemFS, dir string) (err error) {
	db, err := pebble.Open(dir, &pebble.Options{FS: mem, ReadOnly: true, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: silent{},
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	k.data, k.timers = map[string][]byte{}, map[string]state.Instant{}
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		key, value := it.Key(), it.Value()
		switch key[0] {
		case 't':
			id := store.CustomerID(append([]byte{'c'}, key[9:]...))
			if _, ok := k.timers[id]; !ok {
				k.timers[id] = state.Instant(binary.BigEndian.Uint64(key[1:]))
			}
		case 'm':
			if string(key) != "mmark" {
				continue // what the versions of the mark mean
			}
			k.marked = true
			err = errors.Join(err, json.Unmarshal(value, &k.mark))
		default:
			k.data[string(key)] = bytes.Clone(value)
		}
	}
	return errors.Join(err, it.Error(), it.Close())
}

// checkStores holds every store that was left against the changelog up to its mark: the same bytes, and a timer for
// everybody for whom silence matters.
func (w *world) checkStores(visible map[place][]*kgo.Record) {
	w.t.Helper()
	for _, k := range w.kept {
		wrong := func(check, format string, args ...any) {
			w.t.Helper()
			w.t.Errorf("[%s] of %s, shard %d, cycle %d of %.4s at %d: %s", check, k.who, k.shard, k.mark.Cycle, k.mark.Owner, k.mark.Offset, fmt.Sprintf(format, args...))
		}
		if !k.marked {
			if len(k.data) > 0 { // a restore that has not come to a checkpoint; the next owner begins anew
				w.hit("store: without a mark")
			}
			continue
		}
		want, found := map[string][]byte{}, false
		for _, r := range visible[place{w.cfg.App + ".changelog", k.shard}] {
			if r.Offset > k.mark.Offset {
				break
			}
			switch string(r.Key) {
			case "owner":
			case "checkpoint":
				if r.Offset == k.mark.Offset {
					var c store.Checkpoint
					found = json.Unmarshal(r.Value, &c) == nil && reflect.DeepEqual(c, k.mark.Checkpoint)
				}
			default:
				want[string(r.Key)] = r.Value
			}
		}
		if !found {
			wrong("store", "its mark is not in the committed changelog")
			continue
		}
		w.hit("store: as the changelog")
		for key, value := range want {
			if len(value) > 0 && !bytes.Equal(value, k.data[key]) {
				wrong("store", "%q differs from the changelog", key)
			}
		}
		for key := range k.data {
			if len(want[key]) == 0 {
				wrong("store", "%q is not in the changelog", key)
			}
			if key[0] != 'c' {
				continue
			}
			var c state.Customer
			if err := c.Decode(k.data[key]); err != nil {
				wrong("store", "%q: %v", key, err)
			}
			id := store.CustomerID([]byte(key))
			if at, ok := k.timers[id]; c.Due != state.Never && (!ok || at > c.Due) {
				wrong("timer", "silence of %q is due at %d, its timer is at %d (%t)", id, c.Due, at, ok)
			}
		}
	}
}
