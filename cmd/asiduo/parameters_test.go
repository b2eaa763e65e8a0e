package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPublish walks an operator through new rules and a new model, with an instance that runs and without.
func TestPublish(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	for i := range 8 {
		who := fmt.Sprint("c", i)
		w.buy(who, "o1", time.Now())
		w.expect(who, "", "new", "order")
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	file := func(more string) string { return written(t, "asiduo.yaml", string(text)+more) }
	own := file(`rules: {name: own, segments: [{name: fresh, rank: 3, when: [{r: 4-5}]}, {name: lost, rank: 0, when: [{r: 1-3}]}, {name: prospect, rank: 0}]}` + "\n")
	want := func(got told, parts ...string) {
		t.Helper()
		if got.code != exitGood {
			t.Fatalf("it ends with %d: %s%s", got.code, got.out, got.err)
		}
		for _, part := range parts {
			if !strings.Contains(got.out, part) {
				t.Errorf("no %q in\n%s", part, got.out)
			}
		}
	}
	want(command(t, "rules", "show", "-c", s.file), `"version": 1,`, `"name": "champions"`, `"mode": "fixed"`)
	refused(t, exitFailed, "version 1 of the rules: nothing to publish: the newest version says the same", "rules", "publish", "-c", s.file, "--announce=no", "--yes")
	refused(t, exitUsage, "say with --announce=yes or --announce=no whether the changes are news", "rules", "publish", "-c", own)
	refused(t, exitUsage, `--announce is yes or no, found "maybe"`, "model", "publish", "-c", own, "--announce=maybe")
	refused(t, exitUsage, "there is no version 7 of the model; the newest is 1", "model", "show", "-c", s.file, "--version", "7")
	refused(t, exitFailed, "--recency auto: there are fewer than 100 gaps between two orders of a customer: set rules.recency_days yourself", "rules", "diff", "-c", own, "--recency", "auto")
	want(command(t, "rules", "diff", "-c", own), "8 customers in 4 of 4 shards", "new      fresh  8", "No customer would change churn band.", "A fresh")
	refused(t, exitFailed, "nothing was published", "rules", "publish", "-c", own, "--announce=yes") // standard input says nothing

	want(command(t, "rules", "publish", "-c", own, "--announce=yes", "--yes", "--note", "three are enough"), "version 2 of the rules is published")
	eventually(t, "eight changes are announced", func() bool {
		told := 0
		_, body, _ := s.ask(http.MethodGet, s.admin, "/metrics")
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, `asiduo_segment_changes_total{cause="rules",segment="fresh"`) {
				told += int(line[len(line)-2] - '0')
			}
		}
		return told == 8
	})
	eventually(t, "all shards stand under version 2", func() bool {
		_, body, _ := s.ask(http.MethodGet, s.api, "/v1/shards")
		return strings.Count(body, `"rules":2`) == townShards && strings.Count(body, `"sweep":null`) == townShards
	})
	_, body, _ := s.ask(http.MethodGet, s.admin, "/metrics")
	for _, part := range []string{`asiduo_parameters_version{family="rules",shard="0"} 2`, `asiduo_parameters_file_differs{family="rules"} 1`, `asiduo_sweep_progress_ratio{shard="3"} 1`, `asiduo_building{shard="0"} 0`} {
		if !strings.Contains(body, part) {
			t.Errorf("no %s in the metrics", part)
		}
	}
	if _, body, _ := s.ask(http.MethodGet, s.api, "/v1/customers/c1"); !strings.Contains(body, `"segment":"fresh"`) {
		t.Errorf("the customer is shown as %s", body)
	}
	want(command(t, "rules", "show", "-c", s.file), `"version": 2,`, `"note": "three are enough"`, `"name": "champions"`) // its code is kept
	want(command(t, "state", "get", "-c", s.file, "c1"), `"seen":["new","fresh"]`)

	calm := file("churn: {bands: [0.9, 0.95]}\n")
	foreign := file("churn: {method: mbg_nbd}\n") // by that of the music shop, who has just bought for the first time has .8
	want(command(t, "model", "publish", "-c", foreign, "--dry-run"), "8 customers in 4 of 4 shards", "No customer would change segment.", "low         high  8")
	if got := command(t, "snapshot", "-c", s.file); got.code != exitGood {
		t.Fatalf("snapshot: %+v", got)
	}
	s.stop()
	heuristic := file(`churn: {method: heuristic, params: {shop_gap_days: 2}}` + "\n" + `rules: {name: rf10}` + "\n")
	want(command(t, "rules", "diff", "-c", heuristic), "8 customers in 4 of 4 shards", "fresh    new  8") // from the data directory
	snapshots, err := filepath.Glob(filepath.Join(s.cfg.Archive.Dir, "snapshots", "dt=*"))
	if err != nil || len(snapshots) != 1 {
		t.Fatalf("snapshots %v: %v", snapshots, err)
	}
	want(command(t, "rules", "diff", "-c", heuristic, "--snapshot", snapshots[0]), "8 customers in 4 of 4 shards", "fresh    new  8")
	want(command(t, "model", "publish", "-c", foreign, "--dry-run", "--snapshot", snapshots[0]), "8 customers in 4 of 4 shards", "low         high  8")
	refused(t, exitFailed, "snapshot nowhere: it has no _SUCCESS: it is not whole, or no snapshot", "rules", "diff", "-c", heuristic, "--snapshot", "nowhere")
	want(command(t, "model", "publish", "-c", heuristic, "--yes"), "version 2 of the model is published")

	refused(t, exitUsage, "--from: open nowhere.json: no such file or directory", "model", "publish", "-c", heuristic, "--from", "nowhere.json")
	refused(t, exitUsage, fmt.Sprintf("--from %s: not a file of parameters: invalid character 'a' looking for beginning of value", heuristic), "model", "publish", "-c", heuristic, "--from", heuristic)
	learn := func(model, until string, more ...string) string {
		name := filepath.Join(t.TempDir(), "model.json")
		want(command(t, append([]string{"fit", "--preset", "cdnow", "--input", "data/CDNOW_sample.txt.gz", "--until", until, "--births", "known", "--model", model, "--output", name}, more...)...))
		return name
	}
	refused(t, exitUsage, "--from: bg_nbd is not among the methods of the pipeline: fit with --model mbg_nbd", "model", "publish", "-c", heuristic, "--from", learn("bg_nbd", "1997-09-30"))
	refused(t, exitUsage, "--from: it counts orders of nothing, which the pipeline does not: fit without --free-orders", "model", "publish", "-c", heuristic, "--from", learn("mbg_nbd", "1997-09-30", "--free-orders"))
	refused(t, exitUsage, "--from: its days are those of UTC, the pipeline's are those of Europe/Madrid: fit with the configuration",
		"model", "publish", "-c", written(t, "asiduo.yaml", strings.Replace(string(text), "time: {", "time: {zone: Europe/Madrid, ", 1)), "--from", learn("mbg_nbd", "1997-09-30"))
	otherHorizon := file("churn: {horizon_days: 60}\n")
	want(command(t, "model", "publish", "-c", otherHorizon, "--from", learn("mbg_nbd", "1997-09-30"), "--dry-run"),
		"its proof is about 90 days, the horizon is 60: fit with the configuration for percentiles and calibration")
	few := learn("mbg_nbd", "1997-01-10")
	want(command(t, "model", "publish", "-c", heuristic, "--from", few, "--yes"), "mbg_nbd is insufficient_data (", "the heuristic with a gap of", "version 3 of the model is published")
	refused(t, exitFailed, "version 3, which runs, was made by fit, which a file cannot be: publish a fit to the new configuration (--from; --force publishes what the file says)",
		"model", "publish", "-c", otherHorizon, "--yes")
	running := filepath.Join(t.TempDir(), "running.json")
	show := func() {
		t.Helper()
		if err := os.WriteFile(running, []byte(command(t, "model", "show", "-c", heuristic).out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	show()
	held, stale := learn("mbg_nbd", "1998-02-15", "--against", running), learn("mbg_nbd", "1998-03-31", "--against", running)
	want(command(t, "model", "publish", "-c", heuristic, "--from", held, "--dry-run"), "version 3 (heuristic), which runs, on the same days: log loss 2.0333", ", the fit 0.3466; ECE")
	refused(t, exitUsage, "--against: open nowhere: no such file or directory", "fit", "--preset", "cdnow", "--input", "data/CDNOW_sample.txt.gz", "--against", "nowhere")
	text, err = os.ReadFile(held)
	if err != nil {
		t.Fatal(err)
	}
	worse := written(t, "model.json", regexp.MustCompile(`"gain": [0-9.]+`).ReplaceAllString(string(text), `"gain": -0.5`))
	refusedLike(t, `--from: it would be worse than what runs \(--force publishes it\): version 3 \(heuristic\), which runs, on the same days: log loss .*`,
		"model", "publish", "-c", heuristic, "--from", worse)
	want(command(t, "model", "publish", "-c", heuristic, "--from", worse, "--force", "--dry-run"), "which runs, on the same days")
	enough := learn("mbg_nbd", "1998-02-15")
	want(command(t, "model", "publish", "-c", heuristic, "--from", enough, "--dry-run"), "mbg_nbd, fitted to 2349 customers of data/CDNOW_sample.txt.gz from 1997-01-01 to 1998-02-15", "8 customers in 4 of 4 shards", "calibration platt; held out: AUC 0.799, ECE 0.019; confidence high",
		"no customer value: amounts are in USD, the pipeline counts in EUR")
	want(command(t, "model", "publish", "-c", heuristic, "--from", enough, "--yes"), "not held against the version that runs: fit with --against", "version 4 of the model is published")
	refused(t, exitFailed, "--from: it was held against version 3 of the model, the newest is 4: fit again", "model", "publish", "-c", heuristic, "--from", stale)
	refused(t, exitFailed, "--from: version 4, which runs, is a fitted model, and these data do not carry one (--force publishes the heuristic)", "model", "publish", "-c", heuristic, "--from", few, "--yes")
	want(command(t, "model", "list", "-c", heuristic), "\theuristic\t", "\tmbg_nbd\t")
	want(command(t, "model", "show", "-c", heuristic), `"version": 4,`, `"method": "mbg_nbd"`, `"r": 0.5`, `"status": "ok"`, `"customers": 2349`, `"sha256": "`,
		`"calibration": {`, `"percentiles": [`, `"confidence": "high"`, `"held_out": {`)
	refused(t, exitFailed, "version 4 of the model: nothing to publish: the newest version says the same", "model", "publish", "-c", heuristic, "--from", enough, "--yes")
	const inPlace = "version 4, which runs, was made by fit, which a file cannot be: publish a fit to the new configuration (--from; --force publishes what the file says)"
	refused(t, exitFailed, inPlace, "model", "publish", "-c", otherHorizon, "--yes")
	want(command(t, "model", "publish", "-c", otherHorizon, "--dry-run"), "this would be refused: "+inPlace, "8 customers in 4 of 4 shards")
	want(command(t, "model", "publish", "-c", otherHorizon, "--force", "--dry-run"), "8 customers in 4 of 4 shards")
	unheld := learn("mbg_nbd", "1998-03-31")
	refused(t, exitFailed, "--from: it was not held against version 4 of the model, which runs: fit with --against (--force publishes it untried)", "model", "publish", "-c", heuristic, "--from", unheld, "--yes")
	want(command(t, "model", "publish", "-c", heuristic, "--from", unheld, "--force", "--dry-run"), "not held against the version that runs: fit with --against")
	show()
	want(command(t, "model", "publish", "-c", heuristic, "--from", learn("mbg_nbd", "1998-03-31", "--against", running), "--force", "--dry-run"), "version 4 (mbg_nbd), which runs, on the same days: log loss 0.")
	want(command(t, "state", "get", "-c", s.file, "c1"), `"segment":"fresh"`)

	s = w.again(s.file)
	eventually(t, "the fitted model is adopted", func() bool {
		_, body, _ := s.ask(http.MethodGet, s.api, "/v1/customers/c1")
		for _, part := range []string{`"raw_probability":0.`, `"percentile":`, `"method":"mbg_nbd"`, `"confidence":"high"`} {
			if !strings.Contains(body, part) {
				return false
			}
		}
		return true
	})
	differs := `asiduo_parameters_file_differs{family="model"} `
	if _, body, _ := s.ask(http.MethodGet, s.admin, "/metrics"); !strings.Contains(body, differs+"0") {
		t.Error("the file is said to differ for want of a fit, which no file has")
	}
	s.stop()
	s = w.again(calm)
	eventually(t, "other bands are a difference", func() bool {
		_, body, _ := s.ask(http.MethodGet, s.admin, "/metrics")
		return strings.Contains(body, differs+"1")
	})
}

// hesitant says yes, after something has happened.
type hesitant func()

func (h hesitant) Read(b []byte) (int, error) {
	h()
	return copy(b, "y\n"), nil
}

// TestPublishedMeanwhile: whoever says yes to what was shown does not publish it over a version that came while the question was open.
func TestPublishedMeanwhile(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ mine, theirs string }{
		"model": {"churn: {bands: [0.9, 0.95]}\n", "churn: {bands: [0.8, 0.95]}\n"},
		"rules": {"rules: {name: rf10}\n", "rules: {name: klaviyo6}\n"},
	} {
		publish := func(more string) []string {
			return []string{name, "publish", "-c", written(t, "asiduo.yaml", string(text)+more), "--announce=no"}
		}
		cmd := newRoot()
		cmd.SetArgs(publish(c.mine))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		cmd.SetIn(hesitant(func() {
			if got := command(t, append(publish(c.theirs), "--yes")...); got.code != exitGood {
				t.Errorf("the other %s: %+v", name, got)
			}
		}))
		want := "version 2 of the " + name + " was published meanwhile, and what was shown is about version 1: look again"
		if err := cmd.ExecuteContext(t.Context()); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if got := command(t, append(publish(c.mine), "--yes")...); !strings.Contains(got.out, "version 3 of the "+name+" is published") {
			t.Errorf("again: %+v", got)
		}
	}
}

// TestRecencyAuto: of the gaps between two days of orders in the state, half are at most the first of the days, 80, 90 and 97 of a hundred the
// others; they are shown, and published in the place of those of the file.
func TestRecencyAuto(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	now := time.Now()
	for who, gaps := range map[string]map[int]int{ // days -> times: of a hundred gaps 50 are 10 days long, 30 are 20, 10 are 40, 7 are 60, 3 are 90
		"a": {10: 30}, "b": {10: 20, 20: 10}, "c": {20: 20}, "d": {40: 10}, "e": {60: 7}, "f": {90: 3},
	} {
		at, n := now.AddDate(0, 0, -700), 0
		w.buy(who, "o", at)
		for days, times := range gaps {
			for range times {
				at, n = at.AddDate(0, 0, days), n+1
				w.buy(who, fmt.Sprint("o", n), at)
				w.buy(who, fmt.Sprint("again", n), at) // the same day: no gap
			}
		}
	}
	args := []string{"rules", "publish", "-c", s.file, "--recency", "auto", "--announce=no", "--yes"}
	var got told
	eventually(t, "all orders are in the state", func() bool {
		got = command(t, append(args, "--dry-run")...)
		return strings.Contains(got.out, "recency_days: [10, 20, 40, 60]\n") && strings.Contains(got.out, "6 customers in 4 of 4 shards")
	})
	if got = command(t, args...); got.code != exitGood || !strings.Contains(got.out, "version 2 of the rules is published") {
		t.Fatalf("%+v", got)
	}
	days := int64(24 * time.Hour / time.Millisecond)
	var rules struct {
		Recency [4]int64 `json:"recency_ms"`
	}
	if err := json.Unmarshal([]byte(command(t, "rules", "show", "-c", s.file).out), &rules); err != nil || rules.Recency != [4]int64{10 * days, 20 * days, 40 * days, 60 * days} {
		t.Errorf("%+v: %v", rules, err)
	}
	refused(t, exitFailed, "version 2 of the rules: nothing to publish: the newest version says the same", args...)
	refused(t, exitUsage, `--recency is auto or left out, found "weekly"`, "rules", "diff", "-c", s.file, "--recency", "weekly")
}
