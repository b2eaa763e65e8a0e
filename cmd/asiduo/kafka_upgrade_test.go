//go:build kafka

package main

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/asiduo/asiduo/config"
)

// bothRead is what the test needs of a configuration, in the words of every release that it is for.
const bothRead = `
app: %q
kafka: {brokers: [%q]}
shards: 4
inputs: {purchases: upgrade-purchases, interactions: upgrade-interactions}
time: {zone: Europe/Madrid, live_from: "1970-01-01T00:00:00Z", announce_late_over: 3650d}
currency: EUR
minor_digits: 2
churn: {method: mbg_nbd, params: {r: 1, alpha: 30, a: 1, b: 1, shop_gap_days: 0}}
limits: {max_record_bytes: 65536}
cycle: {records: 50}
group: {session_timeout: 6s, heartbeat: 500ms}
state: {dir: %q, memtable: 128KiB, flush_every: 1s}
outputs: {replication_factor: 1}
archive: {dir: %q, every: 0s}
api: {listen: %q}
admin: {listen: %q}
`

func printForBoth(w io.Writer, c config.Config) error {
	_, err := fmt.Fprintf(w, bothRead, c.App, c.Kafka.Brokers[0], c.State.Dir, c.Archive.Dir, c.API.Listen, c.Admin.Listen)
	return err
}

// TestUpgrade changes two processes to this release and back to a former one, one after the other, while orders come: each reads
// the stores, the changelog and the parameters that the other release has written, beside instances of it, and nothing is lost,
// told twice or out of order. The first start reads a past that the former release has put away.
func TestUpgrade(t *testing.T) {
	former := os.Getenv("ASIDUO_FORMER")
	if former == "" {
		t.Fatal("ASIDUO_FORMER is not the program of a former release: run make upgrade-test")
	}
	current := binary(t)
	w := newWorldOf(t, "upgrade", realBroker(t), smallScale, uint64(time.Now().UnixNano()), func(w *world) {
		w.binary, w.print = former, printForBoth
	})
	all := []*process{newProcess(t, w, "a"), newProcess(t, w, "b")}
	for _, p := range all {
		if read, err := config.Load(p.file, nil); err != nil || !reflect.DeepEqual(read, p.cfg) {
			t.Fatalf("bothRead does not say what the test needs: %v\n%+v\n%+v", err, read, p.cfg)
		}
		p.start()
	}
	awaitAll(t, 30*time.Second, "two of the former release share the shards", 1, all...)
	w.startLoad(100, all...)
	for _, to := range []struct{ name, binary string }{{"this release", current}, {"the former one", former}, {"this release again", current}} {
		for _, p := range all {
			mine := strings.Count(fmt.Sprint(p.shards()), "running")
			p.stop()
			p.binary = to.binary
			p.start()
			took := await(t, sessionTimeout+20*time.Second, to.name+" is ready", func() bool {
				_, status := p.get(p.cfg.Admin.Listen, "/readyz")
				return status == 200 && strings.Count(fmt.Sprint(p.shards()), "running") == mine
			})
			t.Logf("%s: ready after %v", to.name, took)
		}
		if n := all[0].setAside("") + all[1].setAside(""); n != 0 {
			t.Errorf("%s: %d stores were set aside", to.name, n)
		}
	}
	w.finish(all...)
}
