//go:build kafka

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
)

// TestKafkaTruncatedInput takes the end of an input away, as an unclean election does: the broker comes back with an older copy.
// Shards that have read further stop, whether it has grown again since or not; told to skip, they go on where it was cut.
func TestKafkaTruncatedInput(t *testing.T) {
	w := newWorldOf(t, "cut", realBroker(t), briefScale, 1, nil)
	buyers := w.load.people[:60]
	buy := func() {
		t.Helper()
		now := time.Now().Truncate(time.Millisecond)
		for _, p := range buyers {
			w.cl.Produce(t.Context(), w.load.order(p, now, now), w.written)
		}
		if err := w.cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a := newProcess(t, w, "a")
	reads := func(what string) {
		t.Helper()
		awaitAll(t, 30*time.Second, what, 4, a)
		await(t, 30*time.Second, what+": all is read", func() bool { return a.lag() == 0 })
	}
	stops := func(why string) {
		t.Helper()
		await(t, 30*time.Second, "all shards stop because the input "+why, func() bool {
			log, err := os.ReadFile(a.log)
			if err != nil {
				t.Fatal(err)
			}
			for shard := range worldShards {
				if !regexp.MustCompile(fmt.Sprintf(`"shard stopped" shard=%d reason=input_truncated err="input \S+ %s`, shard, why)).Match(log) {
					return false
				}
			}
			return !slices.ContainsFunc(a.shards(), func(s shardAnswer) bool { return s.State != "stopped" })
		})
		a.stop()
	}
	a.start()
	buy()
	reads("at first")
	before := a.ordersOf(buyers)
	a.stop()
	kafkaScript(t, "kill")
	copyPartitions(t, w, w.cfg.Inputs.Purchases, 2*worldShards, func(live, kept string) { copyDir(t, live, kept) })
	kafkaScript(t, "restart")
	a.start()
	buy()
	reads("after a restart of the broker")
	a.stop()
	kafkaScript(t, "kill")
	copyPartitions(t, w, w.cfg.Inputs.Purchases, 2*worldShards, func(live, kept string) { copyDir(t, kept, live) })
	kafkaScript(t, "restart")

	a.start()
	stops("ends at")
	buy()
	buy() // beyond where the shards have read
	a.start()
	stops("was cut at")
	a.configure(func(c *config.Config) { c.Inputs.Lost = "skip" })
	a.start()
	reads("with skip")
	for i, n := range a.ordersOf(buyers) {
		if n != before[i]+3 {
			t.Errorf("customer %s has %d orders, had %d before three more were made", buyers[i].id, n, before[i])
		}
	}
	letters := map[string]int{}
	for _, r := range w.read(w.cfg.App + ".dead-letters") {
		letters[header(r, "asiduo-reason")]++
	}
	if len(letters) != 1 || letters["input_lost"] != 2*worldShards {
		t.Errorf("dead letters: %v, wanted input_lost for each of the %d partitions", letters, 2*worldShards)
	}
	a.stop()
	a.configure(func(c *config.Config) { c.Inputs.Lost = "stop" })
	a.start() // it is told once, and nothing more is missing
	buy()
	reads("set back to stop")
	a.stop()
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// lag is how many records are unread by the metrics of a process; -1 if it does not say.
func (p *process) lag() (n int64) {
	body, status := p.get(p.cfg.Admin.Listen, "/metrics")
	if status != http.StatusOK {
		return -1
	}
	partitions := 0
	for line := range strings.Lines(body) {
		if series, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && strings.HasPrefix(series, "asiduo_lag_records{") {
			lag, err := strconv.ParseFloat(value, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			partitions++
			n += int64(lag)
		}
	}
	if partitions < 2*worldShards { // none is known before something was fetched
		return -1
	}
	return n
}

// ordersOf are how many orders a process has of customers.
func (p *process) ordersOf(all []*buyer) (counts []int) {
	p.t.Helper()
	for _, one := range all {
		var c struct {
			Orders []json.RawMessage `json:"orders"`
		}
		body, status := p.get(p.cfg.API.Listen, "/v1/customers/"+one.id)
		if status != http.StatusOK || json.Unmarshal([]byte(body), &c) != nil {
			p.t.Fatalf("customer %s: status %d: %s", one.id, status, body)
		}
		counts = append(counts, len(c.Orders))
	}
	return counts
}

// copyPartitions does something with the directory of each partition of a topic, and with one that is kept beside the broker's.
func copyPartitions(t *testing.T, w *world, topic string, partitions int, what func(live, kept string)) {
	t.Helper()
	data := filepath.Join(os.Getenv("ASIDUO_KAFKA_RUN"), "data1")
	for n := range partitions {
		name := fmt.Sprintf("%s-%d", topic, n)
		what(filepath.Join(data, name), filepath.Join(w.dir, "kept", name))
	}
}
