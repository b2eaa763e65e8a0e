package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/parameters"
)

// lose makes the changelog again, empty.
func (w *town) lose(file string) {
	w.t.Helper()
	_, adm := adminOf(w.t, w.broker)
	if _, err := adm.DeleteTopic(w.t.Context(), "shop.changelog"); err != nil {
		w.t.Fatal(err)
	}
	if got := command(w.t, "init", "-c", file); got.code != exitGood {
		w.t.Fatalf("init: %+v", got)
	}
}

// gate is what is published of an epoch, and of a reset or an import under way.
func (w *town) gate(s *service) parameters.Epoch {
	w.t.Helper()
	set, err := parameters.Read(w.t.Context(), pipeline.Connector(s.cfg.Kafka), s.cfg.App)
	if err != nil {
		w.t.Fatal(err)
	}
	return set.Epoch
}

// comesAgain waits until customers have changed again, with the numbers of before.
func (w *town) comesAgain(want map[string]int) {
	w.t.Helper()
	got := map[string]int{}
	for range want {
		select {
		case c := <-w.news:
			got[c.Customer] = c.Sequence
		case <-time.After(patience):
			w.t.Fatalf("only %v have changed", got)
		}
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("came again: %v, want %v", got, want)
	}
}

// TestImportWhileProcessesRun: an import into what others work on is refused, with their names, whether they have a state or
// have stopped since it was lost; neither the gate nor the changelog is touched.
func TestImportWhileProcessesRun(t *testing.T) {
	w, s, snapshot, _ := photographed(t)
	refusedLike(t, `partition \d of topic "shop\.changelog" has a state: .*`, "import", "-c", s.file, "--snapshot", snapshot, "--yes")
	if status, _, _ := s.ask("GET", s.api, "/readyz"); status != 200 {
		t.Errorf("an import that was refused leaves readiness %d", status)
	}
	w.lose(s.file)
	w.buy("c0", "o2", time.Now()) // the next cycle of its shard meets the changelog that was made again
	eventually(t, "its shard has stopped", func() bool {
		_, body, _ := s.ask("GET", s.admin, "/v1/shards")
		return strings.Contains(body, `"stopped"`)
	})
	refusedLike(t, `import: processes run: [A-Z0-9]{26} \(127\.0\.0\.1[:0-9]*, http://`+s.api+`\) with shards 0, 1, 2, 3: stop them first`, "import", "-c", s.file, "--snapshot", snapshot, "--yes")
	for at, r := range w.inTopic("shop.changelog") {
		if strings.Contains(r, ` "checkpoint" `) || strings.Contains(r, ` "c\x02`) {
			t.Errorf("the import that was refused has written %s: %s", at, r)
		}
	}
	if e := w.gate(s); e.Import != nil {
		t.Errorf("the import that was refused has closed the gate: %+v", e)
	}
	s.stop()
	if got := command(t, "import", "-c", s.file, "--snapshot", snapshot, "--yes"); got.code != exitGood {
		t.Errorf("import without them: %+v", got)
	}
}

// halfway begins an import and damages a part when some of the shards have theirs.
func halfway(t *testing.T, w *town, s *service, snapshot string, damage func(part string) error) (part string) {
	t.Helper()
	_, adm := adminOf(t, w.broker)
	part = filepath.Join(snapshot, fmt.Sprintf("part-%d.parquet", townShards-1))
	m, err := pipeline.PlanImport(t.Context(), adm, pipeline.Connector(s.cfg.Kafka), s.cfg, snapshotOf(t.Context(), snapshot, loadedFrom(t, snapshot)))
	if err != nil {
		t.Fatal(err)
	}
	m.Step = func(what string) error {
		if what == fmt.Sprintf("fill shard %d", townShards-1) {
			return damage(part)
		}
		return nil
	}
	if err := m.Do(t.Context()); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("shard %d: snapshot %s: part-%[1]d.parquet: ", townShards-1, snapshot)) {
		t.Fatalf("import of a part that was damaged meanwhile: %v", err)
	}
	for _, name := range []string{"run", "init"} {
		refused(t, exitFailed, "an import of "+snapshot+" has begun and is not finished: run \"asiduo import\" again", name, "-c", s.file)
	}
	return part
}

// TestImportOfDamagedPart: a part that is damaged or missing is named before anything is done; one that is damaged while the
// others are imported leaves the gate closed, and the import is completed when it is back.
func TestImportOfDamagedPart(t *testing.T) {
	w, s, snapshot, after := photographed(t)
	before := ""
	eventually(t, "all are in the stores", func() bool {
		before = command(t, "state", "scan", "-c", s.file).out
		return strings.Count(before, "\n") == 15
	})
	s.stop()
	w.lose(s.file)
	empty := w.inTopic("shop.changelog")
	part := filepath.Join(snapshot, "part-2.parquet")
	whole, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(part string) error {
		b, err := os.ReadFile(part)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(part, b, 0o600)
	}
	for _, c := range []struct {
		damage func(part string) error
		want   string
	}{
		{flip, `it is not the file of the manifest: SHA-256 [0-9a-f]{64} instead of [0-9a-f]{64}`},
		{func(part string) error { return os.Truncate(part, 0) }, `.*`},
		{os.Remove, `open \S+: no such file or directory`},
	} {
		if err := c.damage(part); err != nil {
			t.Fatal(err)
		}
		refusedLike(t, "snapshot "+snapshot+`: part-2\.parquet: `+c.want, "import", "-c", s.file, "--snapshot", snapshot, "--yes")
		if e := w.gate(s); e.Import != nil || !maps.Equal(w.inTopic("shop.changelog"), empty) {
			t.Errorf("an import that was refused has begun: %+v", e)
		}
		if err := os.WriteFile(part, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.CopyFS(other, os.DirFS(snapshot)); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(other, "_manifest.json")
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, append(text, '\n'), 0o600); err != nil { // which is all that tells it apart
		t.Fatal(err)
	}
	part = halfway(t, w, s, snapshot, func(part string) error {
		if whole, err = os.ReadFile(part); err != nil {
			return err
		}
		return flip(part)
	})
	refused(t, exitFailed, "an import of "+snapshot+" has begun and is not finished, and this is another snapshot: finish that one, or run \"asiduo reset\"",
		"import", "-c", s.file, "--snapshot", other, "--yes")
	refusedLike(t, "snapshot "+snapshot+`: part-3\.parquet: it is not the file of the manifest: .*`, "import", "-c", s.file, "--snapshot", snapshot, "--yes")
	if err := os.WriteFile(part, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "import", "-c", s.file, "--snapshot", snapshot, "--yes"); got.code != exitGood || !strings.HasPrefix(got.out, "An import of "+snapshot+" has begun and is not finished: it will be completed.\n") {
		t.Errorf("completed: %+v", got)
	}
	s = w.again(s.file)
	w.comesAgain(after)
	eventually(t, "the state is that of before", func() bool { return command(t, "state", "scan", "-c", s.file).out == before })
	s.stop()
}

// TestResetAfterHalfAnImport: where the damaged part does not come back, a reset begins over, with nothing of the parts that
// were imported.
func TestResetAfterHalfAnImport(t *testing.T) {
	w, s, snapshot, _ := photographed(t)
	s.stop()
	w.lose(s.file)
	halfway(t, w, s, snapshot, os.Remove)
	if got := command(t, "reset", "-c", s.file, "--yes"); got.code != exitGood {
		t.Fatalf("reset: %+v", got)
	}
	if e := w.gate(s); e.Epoch != 2 || e.Import != nil || e.Reset != nil {
		t.Errorf("published: %+v", e)
	}
	s = w.again(s.file)
	want := map[string]int{}
	for i := range 15 {
		who := fmt.Sprintf("c%d", i)
		if want[who] = 1; i >= 9 && i < 12 {
			want[who] = 2 // the second order is another change
		}
	}
	got := map[string]int{}
	for range 15 + 3 {
		select {
		case c := <-w.news:
			if c.Sequence != got[c.Customer]+1 {
				t.Errorf("%s has change %d after %d", c.Customer, c.Sequence, got[c.Customer])
			}
			got[c.Customer] = c.Sequence
		case <-time.After(patience):
			t.Fatalf("only %v have changed", got)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("after the reset: %v, want %v", got, want)
	}
	s.stop()
}
