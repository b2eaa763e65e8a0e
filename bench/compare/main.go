// Command compare runs asiduo and its peers on the same job, over the same topic of the same broker, and says what each of them
// has cost. It needs Linux, Go, Java 17 and Maven.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/asiduo/asiduo/bench/measure"
)

// options are those of the command line.
type options struct {
	events, customers, rounds int
	peers                     []string
	limit                     time.Duration
	root, work                string // of the repository; what is built, and state
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	var o options
	var peers string
	flag.IntVar(&o.events, "events", 1_000_000, "records of the input")
	flag.IntVar(&o.customers, "customers", 200_000, "customers to draw from")
	flag.IntVar(&o.rounds, "rounds", 1, "runs of each; every round begins with another one")
	flag.StringVar(&peers, "peers", strings.Join(names(), ","), "who runs")
	flag.DurationVar(&o.limit, "limit", 15*time.Minute, "longest that one run may take")
	flag.Parse()
	o.peers = strings.Split(peers, ",")
	for _, p := range o.peers {
		if !slices.Contains(names(), p) {
			fail(fmt.Errorf("unknown peer %q; there are %s", p, strings.Join(names(), ", ")))
		}
	}
	if err := o.compare(ctx); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "compare:", err)
	os.Exit(1)
}

func (o *options) compare(ctx context.Context) (err error) {
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
	b, err := measure.StartBroker(ctx, o.root)
	if err != nil {
		return err
	}
	defer b.Stop()
	input := fmt.Sprintf("purchases-%d-%d", o.events, o.customers)
	if _, err := o.tool(ctx, "gen", "-brokers", b.Address, "-topic", input, "-events", fmt.Sprint(o.events), "-customers", fmt.Sprint(o.customers)); err != nil {
		return err
	}
	told, err := o.tool(ctx, "check", "-brokers", b.Address, "-input", input, "-cache", o.expectation())
	if err != nil {
		return err
	}
	wanted, err := number(told, "outputs")
	if err != nil {
		return err
	}
	results := map[string][]result{}
	for round := range o.rounds {
		for i := range o.peers {
			name := o.peers[(i+round)%len(o.peers)]
			r, err := o.run(ctx, b, name, input, fmt.Sprintf("%s-%d", name, round), int(wanted))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(os.Stderr, "%s %+v\n", name, r)
			results[name] = append(results[name], r)
		}
	}
	o.print(os.Stdout, results)
	return nil
}
