package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// told is what a command has answered.
type told struct {
	out, err string
	code     int
}

// command runs a command line in this process.
func command(t *testing.T, args ...string) told {
	t.Helper()
	cmd := newRoot()
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience) // a "run" that should not have begun ends too
	defer cancel()
	err := cmd.ExecuteContext(ctx)
	name := filepath.Join(t.TempDir(), "stderr")
	f, e := os.Create(name)
	if e != nil {
		t.Fatal(e)
	}
	code := exitCode(f, err)
	if e := f.Close(); e != nil {
		t.Fatal(e)
	}
	text, e := os.ReadFile(name)
	if e != nil {
		t.Fatal(e)
	}
	return told{out.String(), string(text), code}
}

// written writes a file of the test and returns its name.
func written(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// configFile is a configuration for a broker, with more lines if wanted.
func configFile(t *testing.T, broker, more string) string {
	t.Helper()
	return written(t, "asiduo.yaml", fmt.Sprintf("app: shop\ncurrency: EUR\nkafka: {brokers: [\"%s\"]}\napi: {listen: \"\"}\nadmin: {listen: \"\"}\nstate: {dir: %q}\noutputs: {replication_factor: 1}\n%s",
		broker, filepath.Join(t.TempDir(), "data"), more))
}

// TestWrongUsage holds what is said about a command line or a configuration that cannot be meant, and that it ends
// with 2 before any broker is asked: the one configured does not answer.
func TestWrongUsage(t *testing.T) {
	history := written(t, "h.csv", "order_id,customer_id,ordered_at,amount\n1,a,2020-01-01T00:00:00Z,5\n")
	dump := written(t, "d.jsonl", `{"topic":"purchases","partition":0,"offset":0,"timestamp":1,"key":"a","value":"x"}`+"\n")
	good, none := configFile(t, "127.0.0.1:1", ""), configFile(t, "127.0.0.1:1", "inputs: {interactions: \"\"}\n")
	simulate := func(more ...string) []string {
		return append([]string{"simulate", "-c", good, "--until", "2026-06-01T00:00:00Z", "--output", t.TempDir()}, more...)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"unknown command \"frob\" for \"asiduo\"\nSee 'asiduo --help'", []string{"frob"}},
		{"unknown command \"rnu\" for \"asiduo\"; did you mean run?\nSee 'asiduo --help'", []string{"rnu"}},
		{"unknown command \"frob\" for \"asiduo state\"\nSee 'asiduo state --help'", []string{"state", "frob"}},
		{"unknown flag: --frob\nSee 'asiduo run --help'", []string{"run", "--frob"}},
		{"unknown command \"x\" for \"asiduo run\"\nSee 'asiduo run --help'", []string{"run", "x"}},
		{"accepts 1 arg(s), received 0\nSee 'asiduo state get --help'", []string{"state", "get"}},
		{"requires at least 1 arg(s), only received 0\nSee 'asiduo replay --help'", []string{"replay"}},
		{"required flag(s) \"input\", \"output\", \"until\" not set\nSee 'asiduo simulate --help'", []string{"simulate", "-c", good}},
		{"no configuration: give one with -c FILE (deploy/asiduo.yaml is a documented example)", []string{"run"}},
		{"configuration: open missing.yaml: no such file or directory", []string{"run", "-c", "missing.yaml"}},
		{"time.clock is manual, which only simulate and demo can drive: set it to broker", []string{"run", "-c", configFile(t, "127.0.0.1:1", "time: {clock: manual}\n")}},
		{"--until \"tomorrow\" is not a time such as 2026-06-01T00:00:00Z", []string{"simulate", "-c", good, "--input", history, "--output", t.TempDir(), "--until", "tomorrow"}},
		{"--input mixes dumps of topics with histories", simulate("--input", history, "--input", dump)},
		{"open missing.csv: no such file or directory", simulate("--input", "missing.csv")},
		{"--partitions must be at least 0, found -1", simulate("--input", history, "--partitions", "-1")},
		{"--shards must be at least 0, found -1", simulate("--input", history, "--shards", "-1")},
		{"--cycle-records must be at least 0, found -1", simulate("--input", history, "--cycle-records", "-1")},
		{"3 shards do not divide the inputs: topic \"purchases\" has 4 partitions; the partition count of every input must be a multiple of the number of shards",
			simulate("--input", history, "--shards", "3", "--partitions", "4")},
		{"unknown preset \"frob\"; presets are cdnow and online-retail", simulate("--input", history, "--preset", "frob")},
		{"--column \"a\" is not FIELD=COLUMN", []string{"replay", "-c", good, "--column", "a", history}},
		{"--zone: unknown time zone Mars/Base", []string{"replay", "-c", good, "--zone", "Mars/Base", history}},
		{"--comma \";;\" is not one character", []string{"replay", "-c", good, "--comma", ";;", history}},
		{"--rate must be at least 0, found -5", []string{"replay", "-c", good, "--rate", "-5", history}},
		{"unknown topic \"frob\"; topics are purchases and interactions", []string{"replay", "-c", good, "--topic", "frob", history}},
		{"unknown format \"xml\"; formats are jsonl and csv", []string{"replay", "-c", good, "--format", "xml", history}},
		{"--topic interactions: inputs.interactions is empty, the pipeline has no such input", []string{"replay", "-c", none, "--topic", "interactions", history}},
		{"archive.dir is empty: say where snapshots go", []string{"snapshot", "-c", good}},
		{"--as-of \"noon\" is not a time such as 2026-06-01T00:00:00Z", []string{"snapshot", "-c", configFile(t, "127.0.0.1:1", "archive: {dir: x}\n"), "--as-of", "noon"}},
	} {
		if got := command(t, c.args...); got.code != exitUsage || got.err != "asiduo: "+c.want+"\n" {
			t.Errorf("%v:\n got %d %q\nwant 2 %q", c.args, got.code, got.err, "asiduo: "+c.want+"\n")
		}
	}
}

// TestFaultsOfData are files that the usage does not show to be wrong.
func TestFaultsOfData(t *testing.T) {
	good := configFile(t, "127.0.0.1:1", "")
	simulate := func(name, text string, more ...string) (told, string) {
		file := written(t, name, text)
		return command(t, append([]string{"simulate", "-c", good, "--until", "2026-06-01T00:00:00Z", "--output", t.TempDir(), "--input", file}, more...)...), file
	}
	for _, c := range []struct{ name, text, want string }{
		{"d.jsonl", `{"topic":"orders","partition":0,"offset":0,"timestamp":1,"key":"a","value":"x"}` + "\n",
			"topic \"orders\" in the log is none of the inputs (purchases, interactions)"},
		{"d.jsonl", `{"topic":"purchases","partition":0,"offset":0,"timestamp":1,"key":"a","value":"x"}` + "\n" + `{"topic":"purchases","partition":7}`,
			"partition 7 of topic \"purchases\" is in the log, but there are 2 partitions"},
		{"d.jsonl", `{"topic":"purchases","partition":0}` + "\n{\n", "FILE:2: unexpected end of JSON input"},
		{"d.csv", "order_id,customer_id,ordered_at,amount\n1,a,yesterday,5\n", "FILE:2: column ordered_at: \"yesterday\" is not a time as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05; give the layout"},
	} {
		got, file := simulate(c.name, c.text, "--partitions", "2")
		if want := "asiduo: " + strings.ReplaceAll(c.want, "FILE", file) + "\n"; got.code != exitFailed || got.err != want {
			t.Errorf("%s:\n got %d %q\nwant 1 %q", c.text, got.code, got.err, want)
		}
	}
}

// TestFaultsOfConfiguration are told all at once, each with its place, by whatever command reads the file.
func TestFaultsOfConfiguration(t *testing.T) {
	own := func(segments string) string {
		return "app: shop\ncurrency: EUR\nrules:\n  name: own\n  segments:\n    - {name: lost, rank: 1, when: [{r: 1}]}\n    - {name: prospect, rank: 0}\n" + segments
	}
	for _, c := range []struct{ text, want string }{
		{"app: Shop\ncurrency: EUR\nfrob: 1\nrules: {window_days: 10}\n", `FILE:1:6: app: expected lower-case letters, digits and hyphens, found the text "Shop"
FILE:3:1: unknown key "frob"
FILE:4:9: rules.window_days: must exceed the last of rules.recency_days (365), or customers leave the window before R is 1
`},
		{"app: [\n", "FILE:2:1: YAML: did not find expected node content while parsing a flow node\n"},
		{"app: shop\ncurrency: EUR\nkafka: {sasl: {mechanism: PLAIN, username: a, password: \"${ASIDUO_NOT_SET}\"}}\n",
			"FILE:3:57: kafka.sasl.password: the environment variable ASIDUO_NOT_SET is not set; ${ASIDUO_NOT_SET:-default} gives it a default\n"},
		{own("    - {name: good, rank: 2, when: [{r: 2-5, f: 2-5}, {r: 2-4, f: 1}, {r: 5, f: 1, m: 1-3}]}\n"), "asiduo: FILE: rules: rule set own: not total: r=5 f=1 m=4 belongs to no segment; not total: r=5 f=1 m=5 belongs to no segment\n"},
		{own("    - {name: good, rank: 2, when: [{r: 2-5}]}\n    - {name: best, rank: 3, when: [{r: 5, f: 5, m: 4-5}]}\n"), "asiduo: FILE: rules: rule set own: ambiguous: r=5 f=5 m=4 belongs to good and best; ambiguous: r=5 f=5 m=5 belongs to good and best\n"},
		{own("    - {name: good, rank: 1, when: [{r: 2-5}]}\n    - {name: never, rank: 2}\n"), "asiduo: FILE: rules: rule set own: segment \"never\" can never be reached\n"},
		{own("    - {name: good, rank: 2, when: [{r: 2-4}, {r: 5, f: 2-5}, {r: 5, f: 1, m: 2-5}]}\n    - {name: odd, rank: 1, when: [{r: 5, f: 1, m: 1}]}\n"), "asiduo: FILE: rules: rule set own: a fall from r=5 f=1 m=1 (odd) to r=4 f=1 m=1 (good) would be an improvement\n"},
	} {
		file := written(t, "asiduo.yaml", c.text)
		for _, name := range []string{"check", "run", "init"} {
			got := command(t, name, "-c", file)
			if want := strings.ReplaceAll(c.want, "FILE", file); got.code != exitUsage || got.err != want {
				t.Errorf("%s %s:\n got %d %s\nwant 2 %s", name, c.text, got.code, got.err, want)
			}
		}
	}
}

// TestHelp holds that every command shows an example.
func TestHelp(t *testing.T) {
	n := 0
	var walk func(path []string, c *cobra.Command)
	walk = func(path []string, c *cobra.Command) {
		n++
		got := command(t, append(path, "--help")...)
		if got.code != exitGood || !strings.Contains(got.out, "Examples:\n  asiduo "+strings.Join(path, " ")) || c.Short == "" {
			t.Errorf("%v --help: %d, without an example:\n%s", path, got.code, got.out)
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(slices.Concat(path, []string{sub.Name()}), sub)
			}
		}
	}
	walk(nil, newRoot())
	if n < 11 {
		t.Errorf("only %d commands", n)
	}
}

// TestVersion tells what is running, to people and to programs.
func TestVersion(t *testing.T) {
	var b build
	got := command(t, "version", "--json")
	if err := json.Unmarshal([]byte(got.out), &b); err != nil || b.Version == "" || b.Go != runtime.Version() || b.StateFormat != state.Format {
		t.Errorf("version --json: %d %s %v", got.code, got.out, err)
	}
	for _, name := range []string{events.SegmentChangeType, events.ChurnRiskType, events.ProfileType, events.DeadLetterType} {
		if !slices.Contains(b.Schemas, strings.TrimPrefix(name, "io.asiduo.")) || len(b.Schemas) != 4 {
			t.Errorf("%s is not among the schemas %v", name, b.Schemas)
		}
	}
	if text := command(t, "version"); !strings.Contains(text.out, ", events churn-risk.v1 dead-letter.v1 profile.v1 segment-change.v1, ") || !strings.HasPrefix(text.out, "asiduo "+b.Version+" (") || strings.Count(text.out, "\n") != 1 {
		t.Errorf("version: %q", text.out)
	}
}

// TestLookingAtState asks a process that runs, and its data directory when it does not: the answers are the same.
func TestLookingAtState(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	var ids []string
	for i := range 8 {
		ids = append(ids, fmt.Sprintf("c/%d", i))
		w.buy(ids[i], "o1", time.Now())
		w.expect(ids[i], "", "new", "order")
	}
	eventually(t, "all are in the stores, which are written after the transactions", func() bool {
		return strings.Count(command(t, "state", "scan", "-c", s.file).out, "\n") == len(ids)
	})
	look := func() (customer, all string) {
		t.Helper()
		one := command(t, "state", "get", "-c", s.file, ids[0])
		scan := command(t, "state", "scan", "-c", s.file)
		if one.code != exitGood || !strings.Contains(one.out, `"customer_id":"c/0"`) || scan.code != exitGood || strings.Count(scan.out, "\n") != len(ids) {
			t.Errorf("state: %+v\n%+v", one, scan)
		}
		var some string
		for shard := range townShards {
			part := command(t, "state", "scan", "-c", s.file, "--shard", fmt.Sprint(shard))
			some += part.out
		}
		if some != scan.out {
			t.Errorf("shard by shard: %s, want %s", some, scan.out)
		}
		shot := command(t, "snapshot", "-c", s.file)
		parts, err := filepath.Glob(filepath.Join(s.cfg.Archive.Dir, "snapshots", "*", "part-*.parquet"))
		if shot.code != exitGood || err != nil || len(parts) != townShards || strings.Count(shot.out, ".parquet") != townShards {
			t.Errorf("snapshot: %+v, %q %v", shot, parts, err)
		}
		if err := os.RemoveAll(s.cfg.Archive.Dir); err != nil {
			t.Fatal(err)
		}
		return one.out, scan.out
	}
	one, all := look()
	if got := command(t, "state", "get", "-c", s.file, "nobody"); got.code != exitFailed || !strings.Contains(got.err, "404 Not Found") || strings.Contains(got.err, "nobody") {
		t.Errorf("nobody: %+v", got)
	}
	s.stop()
	if a, b := look(); a != one || b != all {
		t.Errorf("stopped:\n%s%s\nrunning:\n%s%s", a, b, one, all)
	}
	refused(t, exitFailed, "Not Found: {\"error\":{\"code\":\"unknown_customer\",\"message\":\"Nothing is known about this customer.\"}}", "state", "get", "-c", s.file, "nobody")
	// A process that never had the last shard cannot tell from its directory how many there are.
	if err := os.RemoveAll(filepath.Join(s.cfg.State.Dir, fmt.Sprintf("shard-%d", townShards-1))); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if got := command(t, "state", "get", "-c", s.file, id); w.place([]byte(id), townShards) < townShards-1 && got.code != exitGood {
			t.Errorf("%s is not found: %+v", id, got)
		}
	}
}

// TestReplayTwice loads a history twice: the second time changes nothing, and neither is announced.
func TestReplayTwice(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	at := time.Now().Add(-5 * 24 * time.Hour).UTC()
	text := "order_id,customer_id,ordered_at,amount\n"
	for i := range 40 {
		text += fmt.Sprintf("o%d,c%d,%s,7.50\n", i, i, at.Add(time.Duration(i)*time.Minute).Format(time.RFC3339))
	}
	history := written(t, "orders.csv", text)
	var was string
	for n := 1; n <= 2; n++ {
		if got := command(t, "replay", "-c", s.file, history); got.code != exitGood {
			t.Fatalf("replay: %+v", got)
		}
		var consumed int
		eventually(t, "the history is read", func() bool {
			_, text, _ := s.ask("GET", s.admin, "/metrics")
			consumed = 0
			for line := range strings.Lines(text) {
				if value, ok := strings.CutPrefix(line, "asiduo_records_consumed_total"); ok && strings.Contains(value, `topic="purchases"`) {
					var more int
					_, _ = fmt.Sscan(value[strings.LastIndex(value, " ")+1:], &more)
					consumed += more
				}
			}
			return consumed >= n*40
		})
		scan := command(t, "state", "scan", "-c", s.file)
		if consumed != n*40 || strings.Count(scan.out, "\n") != 40 {
			t.Errorf("%d records lead to %s", consumed, scan.out)
		}
		if n == 2 && scan.out != was {
			t.Errorf("the second time makes of\n%s\n%s", was, scan.out)
		}
		was = scan.out
	}
	w.buy("c1", "new", time.Now())
	if c := w.expect("c1", "new", "potential_loyalist", "order"); c.Sequence != 1 {
		t.Errorf("the first announced change has number %d", c.Sequence)
	}
}

func TestAdvertised(t *testing.T) {
	for _, test := range []struct{ listen, advertise, cert, want string }{
		{"127.0.0.1:8080", "", "", "http://127.0.0.1:8080"},
		{"127.0.0.1:8080", "", "cert.pem", "https://127.0.0.1:8080"},
		{"127.0.0.1:8080", "https://asiduo-0.example", "", "https://asiduo-0.example"},
		{"", "", "", ""},
	} {
		if got := advertised(config.Config{API: config.API{Listen: test.listen, Advertise: test.advertise, Access: config.Access{CertFile: test.cert}}}); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
