package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/state"
)

// fewChecks is how often the property is checked unless the command line or RAPID_CHECKS say otherwise: a check is a
// whole broker, and more than these are for the night.
const fewChecks = "15"

// lowerChecks sets the number of checks of this test only.
func lowerChecks(t *testing.T) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	if f.Value.String() != f.DefValue || os.Getenv("RAPID_CHECKS") != "" {
		return
	}
	if err := f.Value.Set(fewChecks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(f.DefValue) })
}

// TestSimulatePlaysAsTheOracle holds that the whole pipeline leads to what the brute-force scorer says, for generated
// configurations and logs on and around all boundaries, whatever the cycles, the shards and the crashes.
func TestSimulatePlaysAsTheOracle(t *testing.T) {
	lowerChecks(t)
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		cfg := oracle.Configs().Draw(rt, "config")
		records := oracle.Logs(cfg).Draw(rt, "log")
		v := drawVariant(rt, cfg.Partitions)
		want, err := oracle.Play(cfg, records)
		if err != nil {
			rt.Fatal(err)
		}
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		got, err := played(t, dir, cfg, records, v)
		if err != nil {
			rt.Fatalf("%s: simulate: %v", v, err)
		}
		if diffs := oracle.Diff(want, got); len(diffs) > 0 {
			rt.Fatalf("%s:\n%s", v, strings.Join(diffs, "\n"))
		}
		if err := os.RemoveAll(dir); err != nil {
			rt.Fatal(err)
		}
	})
}

// drawVariant draws a way to run a log that must not be seen.
func drawVariant(t *rapid.T, partitions int32) variant {
	var divisors []int32
	for s := partitions; s > 0; s-- {
		if partitions%s == 0 {
			divisors = append(divisors, s)
		}
	}
	return variant{
		records: rapid.IntRange(1, 50).Draw(t, "records in a cycle"),
		shards:  rapid.SampledFrom(divisors).Draw(t, "shards"),
		crash:   rapid.SampledFrom([]string{"", "", string(pipeline.AfterEnd), string(pipeline.BeforeEnd)}).Draw(t, "crash"),
	}
}

// played runs a log through simulate, by way of files as a user would.
func played(t *testing.T, dir string, cfg oracle.Config, records []oracle.Record, v variant) ([]oracle.Output, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	input := filepath.Join(dir, "input.jsonl")
	f, err := os.Create(input)
	if err != nil {
		return nil, err
	}
	if err := oracle.WriteInput(f, records); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	end, err := time.Parse(time.RFC3339Nano, cfg.EndClock)
	if err != nil {
		return nil, err
	}
	c := configOf(t, cfg)
	c.State.Memtable, c.State.BlockCache = 64<<10, 1<<20 // a crash makes them anew, which is slow under the race detector
	s := simulation{
		cfg: c, inputs: []string{input}, until: state.Instant(end.UnixMilli()), output: filepath.Join(dir, "out"),
		partitions: cfg.Partitions, epoch: cfg.Epoch, shards: v.shards, records: v.records, interrupt: v.crasher(),
		log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	return oracle.ReadOutputs(s.output, cfg.App)
}
