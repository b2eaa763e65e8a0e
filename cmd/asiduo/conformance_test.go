package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
)

// casesDir is where the conformance cases are; ASIDUO_CASES names another place.
func casesDir() string {
	if dir := os.Getenv("ASIDUO_CASES"); dir != "" {
		return dir
	}
	return filepath.Join("testdata", "conformance", "cases")
}

func caseNames(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(casesDir(), "*", "case.json"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no cases in %s: %v", casesDir(), err)
	}
	names := make([]string, len(found))
	for i, f := range found {
		names[i] = filepath.Base(filepath.Dir(f))
	}
	return names
}

// configOf is the product's configuration for a case, written as YAML and read back.
func configOf(t testing.TB, c oracle.Config) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.App, cfg.Currency, cfg.MinorDigits = c.App, c.Currency, c.MinorDigits
	cfg.Inputs.Purchases, cfg.Inputs.Interactions = c.Inputs.Purchases, c.Inputs.Interactions
	cfg.Time.EventTime, cfg.Time.Clock, cfg.Time.Zone, cfg.Time.Backfill = c.EventTime, c.Clock, c.TimeZone, c.Backfill
	from := "1970-01-01T00:00:00Z" // everything is live, and nothing is built before
	if c.LiveFrom != nil {
		from = *c.LiveFrom
	}
	if err := cfg.Time.LiveFrom.UnmarshalText([]byte(from)); err != nil {
		t.Fatal(err)
	}
	cfg.Rules.Name, cfg.Rules.WindowDays = c.Rules.Name, c.Rules.WindowDays
	copy(cfg.Rules.RecencyDays[:], c.Rules.RecencyDays[:])
	copy(cfg.Rules.Frequency[:], c.Rules.Frequency[:])
	for i, m := range c.Rules.Money.Cuts {
		cfg.Rules.Money.Cuts[i] = config.Decimal(m)
	}
	cfg.Churn.Method, cfg.Churn.HorizonDays = c.Churn.Method, c.Churn.HorizonDays
	p := c.Churn.Params
	cfg.Churn.Params = config.ChurnParams{R: p.R, Alpha: p.Alpha, A: p.A, B: p.B, ShopGapDays: p.ShopGapDays}
	cfg.Churn.Bands = [2]config.Decimal{config.Decimal(c.Churn.Bands[0]), config.Decimal(c.Churn.Bands[1])}
	cfg.Churn.Hysteresis, cfg.Churn.Jump = config.Decimal(c.Churn.Hysteresis), config.Decimal(c.Churn.Jump)
	cfg.State.Memtable = 128 << 10 // made anew at each acquisition, of which crashes make thousands
	cfg.Limits.MaxRecordBytes, cfg.Limits.FutureHours = c.Limits.MaxRecordBytes, int(c.Limits.FutureHours)
	var text bytes.Buffer
	if err := config.Print(&text, cfg); err != nil {
		t.Fatal(err)
	}
	read, err := config.Parse("case.yaml", text.Bytes(), os.LookupEnv)
	if err != nil {
		t.Fatalf("%v\n%s", err, text.Bytes())
	}
	return read
}

// variant is a way to run a case that must not be seen in what comes out.
type variant struct {
	records int
	shards  int32
	crash   string // "", after_end: before each batch; before_end: before every other commit
}

func (v variant) String() string {
	return fmt.Sprintf("records=%d,shards=%d,crash=%s", v.records, v.shards, v.crash)
}

var errCrash = errors.New("crash")

// crasher stops shards at a step, as a crash would.
func (v variant) crasher() func(int32, pipeline.Step) error {
	if v.crash == "" {
		return nil
	}
	var mu sync.Mutex
	times := map[int32]int{}
	return func(shard int32, step pipeline.Step) error {
		if string(step) != v.crash {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		times[shard]++
		if step == pipeline.BeforeEnd && times[shard]%2 == 0 {
			return nil
		}
		return errCrash
	}
}

// simulated runs a case through simulate and returns what came out.
func simulated(t *testing.T, dir string, c oracle.Case, v variant, broker string) []oracle.Output {
	t.Helper()
	return interrupted(t, dir, c, v, broker, v.crasher())
}

// interrupted is simulated with somebody who is told of each step.
func interrupted(t *testing.T, dir string, c oracle.Case, v variant, broker string, interrupt func(int32, pipeline.Step) error) []oracle.Output {
	t.Helper()
	end, err := time.Parse(time.RFC3339, c.Config.EndClock)
	if err != nil {
		t.Fatal(err)
	}
	input := filepath.Join(dir, "input.jsonl")
	if _, err := os.Stat(input); err != nil {
		input += ".gz"
	}
	out := t.TempDir()
	if keep := os.Getenv("ASIDUO_OUT"); keep != "" {
		out = filepath.Join(keep, v.String(), c.Name)
	}
	s := simulation{
		cfg: configOf(t, c.Config), inputs: []string{input}, until: state.Instant(end.UnixMilli()), output: out,
		partitions: int32(c.Config.Partitions), epoch: c.Config.Epoch, shards: v.shards, records: v.records, interrupt: interrupt, broker: broker,
		log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := s.run(ctx); err != nil {
		t.Fatalf("simulate: %v", err)
	}
	got, err := oracle.ReadOutputs(out, c.Config.App)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// testLog is a test's log as a writer.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// matrix are the variants of a case. The whole of it is wanted by "make conformance".
func matrix(c oracle.Case, whole bool) []variant {
	small := len(c.Input) < 1000
	all := int32(c.Config.Partitions)
	switch {
	case !small && whole:
		return []variant{{5000, all, ""}, {5000, all, "after_end"}, {5000, 1, "before_end"}, {7, all, ""}}
	case !small:
		return []variant{{5000, all, ""}}
	case !whole:
		return []variant{{5000, all, ""}, {7, 1, "after_end"}, {3, all, "before_end"}}
	}
	var vs []variant
	for shards := int32(1); shards <= all; shards++ {
		if all%shards == 0 {
			for _, records := range []int{1, 7, 5000} {
				for _, crash := range []string{"", "after_end", "before_end"} {
					vs = append(vs, variant{records, shards, crash})
				}
			}
		}
	}
	return vs
}

// realMatrix are the variants that are run on a real broker.
func realMatrix(c oracle.Case) []variant {
	all := int32(c.Config.Partitions)
	vs := []variant{{5000, all, ""}}
	if len(c.Input) < 1000 {
		vs = append(vs, variant{7, all, "after_end"}, variant{7, 1, "before_end"})
	}
	return vs
}

// TestConformance runs the cases through simulate on the embedded broker, in ways that must not be seen: cycles of
// other sizes, other numbers of shards, crashes.
func TestConformance(t *testing.T) {
	whole, _ := strconv.ParseBool(os.Getenv("ASIDUO_WHOLE_MATRIX"))
	for _, name := range caseNames(t) {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(casesDir(), name)
			c, err := oracle.ReadCase(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range matrix(c, whole) {
				t.Run(v.String(), func(t *testing.T) {
					report(t, oracle.Diff(c.Want, simulated(t, dir, c, v, "")))
				})
			}
		})
	}
}

func report(t testing.TB, diffs []string) {
	t.Helper()
	slices.Sort(diffs)
	for i, d := range diffs {
		if i == 20 {
			t.Errorf("... and %d more", len(diffs)-i)
			return
		}
		t.Error(d)
	}
}
