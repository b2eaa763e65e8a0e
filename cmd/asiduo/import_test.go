package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/archive"
)

// photographed is a town with customers, a snapshot of them, and some who came after it.
func photographed(t *testing.T) (w *town, s *service, snapshot string, after map[string]int) {
	t.Helper()
	w = newTown(t)
	s = w.run()
	s.ready(townShards)
	for i := range 12 {
		who := fmt.Sprintf("c%d", i)
		w.buy(who, "o1", time.Now())
		w.expect(who, "", "new", "order")
	}
	eventually(t, "all are in the stores", func() bool { return strings.Count(command(t, "state", "scan", "-c", s.file).out, "\n") == 12 })
	if got := command(t, "snapshot", "-c", s.file); got.code != exitGood {
		t.Fatalf("snapshot: %+v", got)
	}
	found, err := filepath.Glob(filepath.Join(s.cfg.Archive.Dir, "snapshots", "dt=*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("snapshots: %v %v", found, err)
	}
	after = map[string]int{}
	for i := 9; i < 15; i++ {
		who := fmt.Sprintf("c%d", i)
		w.buy(who, "o2", time.Now())
		if i < 12 {
			after[who] = w.expect(who, "new", "potential_loyalist", "order").Sequence
		} else {
			after[who] = w.expect(who, "", "new", "order").Sequence
		}
	}
	return w, s, found[0], after
}

// TestImport loses the changelog, and lets the import die before each of its steps.
func TestImport(t *testing.T) {
	w, s, snapshot, after := photographed(t)
	var before string
	eventually(t, "all are in the stores", func() bool {
		before = command(t, "state", "scan", "-c", s.file).out
		return strings.Count(before, "\n") == 15
	})
	s.stop()
	refusedLike(t, `partition \d of topic "shop.changelog" has a state: an import is for a changelog that was lost. To import nevertheless, stop all processes, delete the topic, and run "asiduo init"`,
		"import", "-c", s.file, "--snapshot", snapshot, "--yes")
	_, adm := adminOf(t, w.broker)
	if _, err := adm.DeleteTopic(t.Context(), "shop.changelog"); err != nil {
		t.Fatal(err)
	}
	refused(t, exitFailed, "topic \"shop.changelog\" is missing: create it with \"asiduo init\"", "import", "-c", s.file, "--snapshot", snapshot, "--yes")
	if got := command(t, "init", "-c", s.file); got.code != exitGood {
		t.Fatalf("init: %+v", got)
	}
	loaded := loadedFrom(t, snapshot)
	unfinished := "an import of " + snapshot + " has begun and is not finished: run \"asiduo import\" again"
	reached, steps := map[string]int{}, 0
	for died := true; died; steps++ {
		m, err := pipeline.PlanImport(t.Context(), adm, pipeline.Connector(s.cfg.Kafka), s.cfg, snapshotOf(t.Context(), snapshot, loaded))
		if err != nil {
			t.Fatal(err)
		}
		if m.Again != int64(len(after)) || m.Resumed != (steps > 1) || m.Epoch != 1 {
			t.Errorf("death %d: %+v", steps, m)
		}
		// Shards that are done are passed over, so the same number of steps comes farther each time.
		died = false
		m.Step = func(what string) error {
			if reached[what]++; reached[what] == 1 {
				died = true
				return fmt.Errorf("%w before: %s", errDied, what)
			}
			return nil
		}
		if err := m.Do(t.Context()); died != errors.Is(err, errDied) || !died && err != nil {
			t.Fatalf("death %d: %v", steps, err)
		}
		if died && steps > 0 {
			for _, name := range []string{"run", "init"} {
				refused(t, exitFailed, unfinished, name, "-c", s.file)
			}
		}
	}
	if len(reached) != 2+2*townShards {
		t.Errorf("steps: %v", reached)
	}
	s = w.again(s.file)
	w.comesAgain(after)
	eventually(t, "the state is that of before", func() bool { return command(t, "state", "scan", "-c", s.file).out == before })
	s.stop()
}

func loadedFrom(t *testing.T, snapshot string) *archive.Loaded {
	t.Helper()
	loaded, err := archive.Load(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// TestImportRefuses are snapshots that would not lead to the state that was lost.
func TestImportRefuses(t *testing.T) {
	w, s, snapshot, _ := photographed(t)
	s.stop()
	_, adm := adminOf(t, w.broker)
	again := func(topic string) {
		t.Helper()
		if _, err := adm.DeleteTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if got := command(t, "init", "-c", s.file); got.code != exitGood {
			t.Fatalf("init: %+v", got)
		}
	}
	again("shop.changelog")
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, new string) string {
		t.Helper()
		if !strings.Contains(string(text), old) {
			t.Fatalf("no %q in the configuration", old)
		}
		return written(t, "asiduo.yaml", strings.Replace(string(text), old, new, 1))
	}
	try := func(want, file, from string) {
		t.Helper()
		refused(t, exitFailed, want, "import", "-c", file, "--snapshot", from, "--yes")
	}
	try("the snapshot was made with another currency than the configuration has now: change it back", with("EUR", "USD"), snapshot)
	try("snapshot nowhere: it has no _SUCCESS: it is not whole, or no snapshot", s.file, "nowhere")
	unheard := snapshotOf(t.Context(), snapshot, loadedFrom(t, snapshot))
	unheard.Parts[1].Checkpoint.Versions.Rules = 7
	if _, err := pipeline.PlanImport(t.Context(), adm, pipeline.Connector(s.cfg.Kafka), s.cfg, unheard); err == nil ||
		err.Error() != "the snapshot is of customers under parameters that are gone: version 7 of the rules is not published: was the topic of the parameters lost too?" {
		t.Errorf("import under unknown rules: %v", err)
	}
	// The last record that the snapshot has not seen is also gone.
	place := w.place([]byte("c9"), townShards)
	loaded := loadedFrom(t, snapshot)
	next := loaded.Parts[place].Inputs["purchases"].Next[place]
	cut := kadm.Offsets{}
	cut.AddOffset("purchases", place, next+1, -1)
	if _, err := adm.DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	try(fmt.Sprintf("the inputs do not reach back to the snapshot: 1 records are missing (purchases/%d: 1). Take a newer snapshot, or start over with \"asiduo reset\"", place), s.file, snapshot)
	// Neither is the first of a partition that was added since.
	if _, err := adm.UpdatePartitions(t.Context(), 2*townShards, "purchases"); err != nil {
		t.Fatal(err)
	}
	w.cl.PurgeTopicsFromClient("purchases")
	added := place + townShards
	if err := w.cl.ProduceSync(t.Context(), &kgo.Record{Topic: "purchases", Partition: added, Key: []byte("c9"), Value: []byte("{}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	cut.AddOffset("purchases", added, 1, -1)
	if _, err := adm.DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	try(fmt.Sprintf("the inputs do not reach back to the snapshot: 2 records are missing (purchases/%d: 1, purchases/%d: 1). Take a newer snapshot, or start over with \"asiduo reset\"", place, added), s.file, snapshot)
	if got := command(t, "reset", "-c", s.file, "--yes", "--accept-lost-history"); got.code != exitGood {
		t.Fatalf("reset: %+v", got)
	}
	try("the snapshot is of epoch 1, the published epoch is 2: the application was reset since", s.file, snapshot)
	again("shop.parameters") // begins with epoch 1
	remake(t, adm, "interactions", townShards)
	refusedLike(t, `input topic "interactions" was deleted and made again since the snapshot \(id \S+, was \S+\): its offsets mean other records now`, "import", "-c", s.file, "--snapshot", snapshot, "--yes")
	remake(t, adm, "shop.changelog", 2)
	try("topic \"shop.segment-changes\" has 4 partitions, not one per shard (2)\ntopic \"shop.churn-risk\" has 4 partitions, not one per shard (2)\n"+
		"topic \"shop.dead-letters\" has 4 partitions, not one per shard (2)\ntopic \"shop.profiles\" has 4 partitions, not one per shard (2)", s.file, snapshot)
}
