//go:build kafka

package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/asiduo/asiduo/pipeline"
)

// TestKafkaOperate loses the changelog and imports it, and starts over, on a real broker: what the embedded one does not
// show are compaction, the time that a deleted topic takes, and group members that linger.
func TestKafkaOperate(t *testing.T) {
	w := newWorld(t, "operate")
	a := newProcess(t, w, "a")
	settled := func(what string) {
		t.Helper()
		a.start()
		awaitAll(t, 30*time.Second, what, 1, a)
		await(t, 60*time.Second, "the inputs are read", func() bool {
			is, err := pipeline.Checkpoints(t.Context(), w.adm, pipeline.Connector(w.cfg.Kafka), w.cfg.App)
			ends, err2 := w.adm.ListEndOffsets(t.Context(), pipeline.InputTopics(w.cfg)...)
			if err != nil || err2 != nil || len(is) != worldShards {
				return false
			}
			for _, c := range is {
				for topic, at := range c.Inputs {
					for p, next := range at.Next {
						if end, _ := ends.Lookup(topic, p); next < end.Offset {
							return false
						}
					}
				}
			}
			return true
		})
	}
	settled("start")
	if out := a.command("state", "verify"); strings.Count(out, ": equal\n") != worldShards {
		t.Errorf("verify: %s", out)
	}
	var found []finding
	if err := json.Unmarshal([]byte(a.command("doctor", "--json")), &found); err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Status != "ok" && f.Check != "archive" && !(f.Check == "settings" && strings.HasPrefix(f.Detail, "input ")) {
			t.Errorf("%+v", f)
		}
	}
	a.command("snapshot")
	before := a.command("state", "scan")
	a.stop()

	changelog := w.cfg.App + ".changelog"
	if _, err := w.adm.DeleteTopic(t.Context(), changelog); err != nil {
		t.Fatal(err)
	}
	if err := gone(t.Context(), w.adm, []string{changelog}); err != nil {
		t.Fatal(err)
	}
	a.command("init")
	snapshots, err := filepath.Glob(filepath.Join(w.cfg.Archive.Dir, "snapshots", "dt=*"))
	if err != nil || len(snapshots) != 1 {
		t.Fatalf("snapshots: %v %v", snapshots, err)
	}
	t.Log(a.command("import", "--yes", "--snapshot", snapshots[0]))
	settled("start after the import")
	if out := a.command("state", "verify"); strings.Count(out, ": equal\n") != worldShards {
		t.Errorf("verify after the import: %s", out)
	}
	await(t, 20*time.Second, "the state is that of before", func() bool { return facts(t, a.command("state", "scan")) == facts(t, before) })
	a.stop()

	t.Log(a.command("reset", "--yes"))
	settled("start after the reset")
	await(t, 20*time.Second, "the facts are those of before", func() bool { return facts(t, a.command("state", "scan")) == facts(t, before) })
	if out := a.command("state", "verify"); strings.Count(out, ": equal\n") != worldShards {
		t.Errorf("verify after the reset: %s", out)
	}
	a.stop()
	ids := map[string]int{}
	for _, r := range w.read(w.cfg.App + ".segment-changes") {
		for _, h := range r.Headers {
			if h.Key == "ce_id" {
				ids[string(h.Value)]++
			}
		}
	}
	epochs := map[string]int{}
	for id, n := range ids {
		if n > 1 && !strings.HasPrefix(id, fmt.Sprintf("%s:1:", w.cfg.App)) { // the import tells some again, under the same ids
			t.Errorf("%s came %d times", id, n)
		}
		epochs[strings.Split(id, ":")[1]]++
	}
	if epochs["1"] == 0 || epochs["2"] == 0 {
		t.Errorf("ids by epoch: %v", epochs)
	}
	t.Logf("ids by epoch: %v", epochs)
}

// facts are the orders and refunds in a scan: standings go on while time does.
func facts(t *testing.T, scan string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(scan) {
		var row struct {
			ID       string `json:"customer_id"`
			Customer *struct {
				Orders, Refunds, Settled json.RawMessage
			} `json:"customer"`
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		if row.Customer != nil {
			fmt.Fprintf(&all, "%s %s %s %s\n", row.ID, row.Customer.Orders, row.Customer.Refunds, row.Customer.Settled)
		}
	}
	return all.String()
}
