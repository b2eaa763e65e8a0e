//go:build kafka

package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/asiduo/asiduo/pipeline"
)

// TestKafkaOperate loses the changelog and imports it, and starts over, on a real broker: what the embedded one does not
// show are compaction, the time that a deleted topic takes, group members that linger, and a process that has stood still
// since before all was begun anew.
func TestKafkaOperate(t *testing.T) {
	w := newWorld(t, "operate")
	a, b := newProcess(t, w, "a"), newProcess(t, w, "b")
	settled := func(what string, p *process) {
		t.Helper()
		p.start()
		awaitAll(t, 30*time.Second, what, 1, p)
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
	settled("start", a)
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
	settled("start after the import", a)
	if out := a.command("state", "verify"); strings.Count(out, ": equal\n") != worldShards {
		t.Errorf("verify after the import: %s", out)
	}
	await(t, 20*time.Second, "the state is that of before", func() bool { return facts(t, a.command("state", "scan")) == facts(t, before) })

	a.signal(syscall.SIGSTOP)
	await(t, sessionTimeout+10*time.Second, "the group to forget the one that stands still", func() bool {
		members, err := pipeline.Members(t.Context(), w.adm, w.cfg.App)
		return err == nil && len(members) == 0
	})
	t.Log(b.command("reset", "--yes"))
	settled("start after the reset", b)
	await(t, 20*time.Second, "the facts are those of before", func() bool { return facts(t, b.command("state", "scan")) == facts(t, before) })
	if out := b.command("state", "verify"); strings.Count(out, ": equal\n") != worldShards {
		t.Errorf("verify after the reset: %s", out)
	}
	a.signal(syscall.SIGCONT) // it has stores, transactional ids and positions of the epoch before
	awaitAll(t, 30*time.Second, "the one that stood still takes its share", 1, a, b)
	for _, p := range []*process{a, b} {
		if text := p.command("state", "verify"); strings.Count(text, ": equal\n") != worldShards/2 {
			t.Errorf("verify with both: %s", text)
		}
	}
	a.stop()
	b.stop()
	ids, over := map[string]int{}, map[int32]bool{}
	for _, r := range w.read(w.cfg.App + ".segment-changes") {
		for _, h := range r.Headers {
			if h.Key != "ce_id" {
				continue
			}
			ids[string(h.Value)]++
			first := strings.HasPrefix(string(h.Value), w.cfg.App+":1:")
			if over[r.Partition] = over[r.Partition] || !first; over[r.Partition] && first {
				t.Errorf("%s, of the epoch before, at %d of partition %d", h.Value, r.Offset, r.Partition)
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
