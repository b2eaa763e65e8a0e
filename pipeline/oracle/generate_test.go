package oracle

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func drawConfigAndLog(t *rapid.T) (Config, []Record) {
	cfg := Configs().Draw(t, "config")
	return cfg, Logs(cfg).Draw(t, "log")
}

func play(t *rapid.T, cfg Config, log []Record) []Output {
	t.Helper()
	outputs, err := Play(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

// TestInterleavingIsInvisible also shows that playing the same log twice gives the same.
func TestInterleavingIsInvisible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg, log := drawConfigAndLog(t)
		want := play(t, cfg, log)
		for _, again := range [][]Record{log, rapid.Permutation(log).Draw(t, "interleaved")} {
			if got := play(t, cfg, again); !reflect.DeepEqual(want, got) {
				t.Fatal(Diff(want, got))
			}
		}
	})
}

// TestRepeatedRecordIsNoFact repeats every record right after itself.
func TestRepeatedRecordIsNoFact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg, log := drawConfigAndLog(t)
		var twice []Record
		for _, r := range log {
			r.Offset *= 2
			twice = append(twice, r)
			r.Offset++
			twice = append(twice, r)
		}
		accepted := func(outputs []Output) []Output {
			return slices.DeleteFunc(outputs, func(o Output) bool { return o.Topic == DeadLetters })
		}
		if d := Diff(accepted(play(t, cfg, log)), accepted(play(t, cfg, twice))); d != nil {
			t.Fatal(d)
		}
	})
}

// TestNothingChangesBetweenDueInstants holds the list of instants at which silence
// acts against scores at any other instant.
func TestNothingChangesBetweenDueInstants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := newPlan(Configs().Draw(t, "config"))
		if err != nil {
			t.Fatal(err)
		}
		at := firstInstant
		var sales []sale
		for range rapid.IntRange(1, 5).Draw(t, "orders") {
			at += int64(rapid.IntRange(0, 400).Draw(t, "days"))*day + int64(rapid.IntRange(0, 1000).Draw(t, "ms"))
			sales = append(sales, sale{at, int64(rapid.IntRange(1, 50_000).Draw(t, "net")), calendarDay(at, p.zone)})
		}
		for range 20 {
			now := at + rapid.Int64Range(0, 1500*day).Draw(t, "now")
			before := at
			for _, due := range append(p.rulesDue(sales, at), p.churnDue(sales, at, now)...) {
				if due <= now {
					before = max(before, due)
				}
			}
			want, got := p.scoreAt(sales, before), p.scoreAt(sales, now)
			want.idle, got.idle = 0, 0
			if want != got {
				t.Fatalf("%+v at %d became %+v at %d", want, before, got, now)
			}
		}
	})
}

// TestLogsCoverTheSemantics wants every reason, segment, lifecycle and cause to
// occur in some hundred generated logs.
func TestLogsCoverTheSemantics(t *testing.T) {
	seen := map[string]int{}
	records, dead := 0, 0
	for seed := range 200 {
		cfg := Configs().Example(seed)
		log := Logs(cfg).Example(seed)
		outputs, err := Play(cfg, log)
		if err != nil {
			t.Fatal(err)
		}
		records += len(log)
		next := map[place]int64{}
		for _, r := range log {
			at := place{r.Topic, r.Partition}
			if r.Offset != next[at] {
				t.Fatalf("seed %d: offset %d of %v is a gap", seed, r.Offset, at)
			}
			next[at]++
		}
		for _, o := range outputs {
			switch o.Topic {
			case DeadLetters:
				dead++
				seen[o.Headers["asiduo-reason"]]++
			case SegmentChanges:
				seen[o.Value["mode"].(string)]++
				seen[o.Value["transition"].(map[string]any)["cause"].(string)]++
				seen["to "+o.Value["to"].(map[string]any)["segment"].(string)]++
				seen["stage "+o.Value["lifecycle"].(map[string]any)["to"].(string)]++
			case ChurnRisk:
				seen["band "+show(o.Value["churn"].(map[string]any)["band"])]++
			}
		}
	}
	want := []string{
		"too_large", "undecodable", "bad_field", "missing_field", "empty_order_id", "key_mismatch", "bad_time", "future_time",
		"unknown_currency", "bad_amount", "negative_total", "too_late",
		"live", "backfill", "order", "order_update", "refund", "timer",
		"band null", `band "low"`, `band "medium"`, `band "high"`,
	}
	for segment := range ranks {
		want = append(want, "to "+segment)
	}
	for _, stage := range []string{"prospect", "lost", "dormant", "at_risk", "won_back", "trier", "recent", "regular", "loyal"} {
		want = append(want, "stage "+stage)
	}
	for _, name := range want {
		if seen[name] == 0 {
			t.Errorf("%s never occurs", name)
		}
	}
	t.Logf("%d records, %d dead letters, %v", records, dead, seen)
}

// TestFilesRoundTrip writes generated logs and outputs as files and reads them back.
func TestFilesRoundTrip(t *testing.T) {
	for seed := range 20 {
		cfg := Configs().Example(seed)
		log := Logs(cfg).Example(seed)
		outputs, err := Play(cfg, log)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		write := func(name string, text []byte) {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text, err := json.Marshal(Case{Name: "generated", Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		write("case.json", text)
		var input bytes.Buffer
		if err := WriteInput(&input, log); err != nil {
			t.Fatal(err)
		}
		write("input.jsonl", input.Bytes())
		expected := dump(t, outputs)
		write("expected.jsonl", slices.Concat(expected[SegmentChanges], expected[ChurnRisk], expected[Profiles], expected[DeadLetters]))
		for topic, text := range expected {
			write(cfg.App+"."+topic+".jsonl", text)
		}
		c, err := ReadCase(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(log, c.Input); d != "" {
			t.Fatal(d)
		}
		if d := cmp.Diff(cfg, c.Config); d != "" {
			t.Fatal(d)
		}
		got, err := ReadOutputs(dir, cfg.App)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range [][]string{Diff(outputs, c.Want), Diff(outputs, got), Diff(c.Want, got)} {
			if d != nil {
				t.Fatal(d)
			}
		}
	}
}

// dump writes outputs as lines, by topic; dead letters keep their value in base64.
func dump(t *testing.T, outputs []Output) map[string][]byte {
	t.Helper()
	texts := map[string][]byte{}
	for _, o := range outputs {
		l := map[string]any{"topic": o.Topic, "key": nil, "headers": o.Headers, "value": o.Value}
		if o.Key != nil {
			l["key"] = string(o.Key)
		}
		if o.Topic == DeadLetters {
			delete(l, "value")
			l["value_b64"] = o.Raw
			if o.Raw == nil {
				delete(l, "value_b64")
				l["value"] = nil
			}
		}
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		texts[o.Topic] = append(append(texts[o.Topic], text...), '\n')
	}
	return texts
}
