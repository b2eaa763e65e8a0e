// Command workloads runs asiduo, as it is built for everybody, over loads that each show another of its costs, on a real Kafka, and
// says what was measured from outside beside the goal. Every workload checks that what came out is right. It needs Linux, Go, Java 17 and Maven.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/asiduo/asiduo/bench/measure"
)

// workload is a load and what is looked at meanwhile.
type workload struct {
	name string
	run  func(context.Context, *options, *table) error
}

var workloads = []workload{
	{"retail", retail}, {"uniform", uniform}, {"latency", latency}, {"restore", restore}, {"storm", storm}, {"idle", idle}, {"snapshot", snapshot},
	{"scaling", scaling}, {"growth", growth},
}

func names() (all []string) {
	for _, w := range workloads {
		all = append(all, w.name)
	}
	return all
}

// options are those of the command line, and what all workloads share.
type options struct {
	events, customers int
	rate              float64
	lead, idle, limit time.Duration
	root, work        string  // of the repository; what is built, and state
	curves            []curve // of growth; none: all
	csv               string  // the file for what growth has measured
	broker            *measure.Broker
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	var o options
	var which string
	most := slices.DeleteFunc(names(), func(name string) bool { return name == "growth" })
	flag.StringVar(&which, "workloads", strings.Join(most, ","), "which, in this order; growth, which is many runs, only if it is named")
	flag.IntVar(&o.events, "events", 1_000_000, "records of each load")
	flag.IntVar(&o.customers, "customers", 200_000, "customers")
	flag.Float64Var(&o.rate, "rate", 0, "records a second where there is a schedule; 0: half of what the cores allow for, by the CPU of a record before")
	flag.DurationVar(&o.lead, "lead", 0, "storm: how long after they are sent the timers are due; 0: by the number of customers")
	flag.DurationVar(&o.idle, "idle", 0, "idle: how long nothing is sent; 0: by the number of customers")
	flag.Func("curves", "growth: which, in this order; all where nothing is said", o.choose)
	flag.StringVar(&o.csv, "csv", "", "growth: write the points into this file too")
	flag.DurationVar(&o.limit, "limit", 30*time.Minute, "longest that any step may take")
	flag.Parse()
	if err := o.all(ctx, strings.Split(which, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "workloads:", err)
		os.Exit(1)
	}
}

func (o *options) all(ctx context.Context, which []string) (err error) {
	for _, name := range which {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("unknown workload %q; there are %s", name, strings.Join(names(), ", "))
		}
	}
	if (o.curves != nil || o.csv != "") && !slices.Contains(which, "growth") {
		return fmt.Errorf("curves are those of the workload growth, which is not asked for")
	}
	if o.events < 1000 || o.customers < 1000 {
		return fmt.Errorf("events and customers must be at least 1000")
	}
	if o.root, err = filepath.Abs("."); err != nil {
		return err
	}
	if o.work, err = os.MkdirTemp("", "asiduo-bench"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(o.work) }()
	if err := o.build(ctx); err != nil {
		return err
	}
	if o.broker, err = measure.StartBroker(ctx, o.root); err != nil {
		return err
	}
	defer o.broker.Stop()
	for _, name := range which {
		w := workloads[slices.Index(names(), name)]
		t := &table{name: name}
		began := time.Now()
		if err := w.run(ctx, o, t); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t.print(os.Stdout)
		fmt.Fprintf(os.Stderr, "%s took %v\n", name, time.Since(began).Round(time.Second))
		if err := o.broker.Drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// build makes the binary as a release does, and the raw pipeline of the peers, beside which latencies are shown.
func (o *options) build(ctx context.Context) error {
	for _, b := range []struct{ name, dir, source string }{{"asiduo", o.root, "./cmd/asiduo"}, {"raw", filepath.Join(o.root, "bench", "peers"), "./raw"}} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", o.binary(b.name), b.source) // #nosec G204 -- build tools
		cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, os.Stderr, os.Stderr
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", b.source, err)
		}
	}
	return nil
}

func (o *options) binary(name string) string { return filepath.Join(o.work, "bin", name) }

// table is what a workload has to say.
type table struct {
	name, load string
	rows       [][3]string
}

func (t *table) add(what, goal, format string, values ...any) {
	t.rows = append(t.rows, [3]string{what, fmt.Sprintf(format, values...), goal})
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n\n| %s | measured | goal |\n|---|---|---|\n", t.name, t.load, t.name)
	for _, r := range t.rows {
		fmt.Fprintf(w, "| %s | %s | %s |\n", r[0], r[1], r[2])
	}
}
