package main

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/term"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state"
)

//go:embed data/online_retail.jsonl.gz
var retailOrders []byte

//go:embed data/online_retail.counts.json
var retailCounts []byte

const demoShards = 4

func newDemo() *cobra.Command {
	exit, dir := false, ""
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch real customers move between segments; nothing to set up",
		Long: `demo starts a broker inside this process, replays a year of real orders of a British online shop (UCI Online Retail) through the
real pipeline, lets the silence after the last order play out, and shows what came of it. On a terminal it stays up until
Ctrl-C, so that its HTTP API and metrics can be looked at.`,
		Example: "  asiduo demo\n  asiduo demo --exit",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := demo{out: cmd.OutOrStdout(), progress: newProgress(os.Stderr), stay: !exit && term.IsTerminal(int(os.Stdout.Fd())), dir: dir}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&exit, "exit", false, "end when everything has been shown, also on a terminal")
	cmd.Flags().StringVar(&dir, "dir", "", "directory for the Parquet snapshot; default: a new one for temporary files")
	return cmd
}

// demo is one run of the demonstration.
type demo struct {
	out      io.Writer
	progress *progress
	stay     bool
	dir      string

	shown    int // changes shown while they happen
	changes  map[string][]change
	rejected map[string]int
}

// change is what the demo keeps of a segment change.
type change struct {
	To   struct{ Segment string }
	From *struct{ Segment string }

	Transition struct{ Cause string }
	Next       *struct{ Segment, At string } `json:"next_transition"`

	at string
}

// demoConfig is the default but for what belongs to the data: its currency, and money cuts near its quintiles.
func demoConfig() config.Config {
	c := config.Default()
	c.App, c.Currency = "demo", "GBP"
	c.Rules.Money.Cuts = [4]config.Decimal{"250.00", "500.00", "1000.00", "2000.00"}
	c.API.Listen, c.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	return c
}

func (d *demo) run(ctx context.Context) (err error) {
	work, err := os.MkdirTemp("", "asiduo-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Join(work, "work"))) }()
	if d.dir == "" {
		d.dir = work
	}
	history := filepath.Join(work, "work", "online_retail.jsonl.gz")
	if err := errors.Join(os.MkdirAll(filepath.Dir(history), 0o700), os.WriteFile(history, retailOrders, 0o600)); err != nil {
		return err
	}
	cfg := demoConfig()
	r, err := rehearse(ctx, stage{
		cfg: cfg, partitions: demoShards, shards: demoShards, dir: filepath.Join(work, "work", "state"), files: vfs.Default,
		log: newLog(cfg.Log, os.Stderr, slog.LevelWarn),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close(ctx)) }()
	d.introduce()
	r.start(ctx)
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { d.watch(watching, r) })
	defer func() { stop(); watch.Wait() }()

	records, _ := readHistory([]string{history}, historyFormat{})
	last := state.Instant(0)
	d.progress.phaseOf("replay orders and refunds", d.counts().Written)
	if err := r.write(ctx, latest(placed(r.cfg, records, demoShards, nil), &last), d.progress.count); err != nil {
		return err
	}
	if err := r.readAll(ctx); err != nil {
		return err
	}
	d.progress.phase("let silence play out")
	var columns []census
	for _, days := range []state.Instant{0, 30, 90, 180, 365, 730} {
		at := last + days*state.Day
		if err := r.play(ctx, at); err != nil {
			return err
		}
		c, err := count(r)
		if err != nil {
			return err
		}
		c.title = "last order"
		if days > 0 {
			c.title = fmt.Sprintf("+ %d days", days)
		}
		columns = append(columns, c)
	}
	d.progress.phase("write the Parquet snapshot")
	if _, err := r.snapshot(ctx, d.dir, last+730*state.Day); err != nil {
		return err
	}
	d.progress.done()
	stop()
	watch.Wait()
	if err := d.collect(ctx, r); err != nil {
		return err
	}
	d.report(r, last, columns)
	return d.serve(ctx, r)
}

func (d *demo) counts() (c historyCounts) {
	_ = json.Unmarshal(retailCounts, &c) // a test reads it too
	return c
}

func (d *demo) introduce() {
	c := d.counts()
	fmt.Fprintf(d.out, `asiduo demo: %d orders and refunds of an online shop, 2010-12-01 to 2011-12-09
(UCI Online Retail, Chen, Sain & Guo 2012, CC BY 4.0). Of %d invoice lines, %d without a customer are left out, and
%d cancelled lines (%s GBP) whose order is not in the data.

`, c.Written, c.Read, c.Skipped[skipNoCustomer], c.Skipped["unmatched cancellation"], c.Unmatched)
}

// latest passes records on and keeps the greatest timestamp.
func latest(records iter.Seq2[*kgo.Record, error], at *state.Instant) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		for r, err := range records {
			if err == nil {
				*at = max(*at, state.Instant(r.Timestamp.UnixMilli()))
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// watch shows the first changes while they happen, as any subscriber would see them.
func (d *demo) watch(ctx context.Context, r *rehearsal) {
	cl, err := pipeline.Connector(r.cfg.Kafka)(kgo.ConsumeTopics(r.cfg.App+".segment-changes"), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return
	}
	defer cl.Close()
	for ctx.Err() == nil {
		for it := cl.PollFetches(ctx).RecordIter(); !it.Done(); {
			record := it.Next()
			c, err := changeOf(record)
			if err != nil || d.shown >= 8 {
				continue
			}
			d.shown++
			fmt.Fprintf(d.out, "%s  customer %s  %s\n", c.at[:10], record.Key, c.text())
		}
	}
}

func changeOf(r *kgo.Record) (c change, err error) {
	for _, h := range r.Headers {
		if h.Key == "ce_time" {
			c.at = string(h.Value)
		}
	}
	return c, json.Unmarshal(r.Value, &c)
}

func (c *change) text() string {
	from := "first order"
	if c.From != nil {
		from = c.From.Segment
	}
	return fmt.Sprintf("%s -> %s (%s)", from, c.To.Segment, c.Transition.Cause)
}

// collect reads what came out, committed records only.
func (d *demo) collect(ctx context.Context, r *rehearsal) error {
	d.changes, d.rejected = map[string][]change{}, map[string]int{}
	for record, err := range r.committed(ctx, r.cfg.App+".segment-changes") {
		if err != nil {
			return err
		}
		c, err := changeOf(record)
		if err != nil {
			return err
		}
		d.changes[string(record.Key)] = append(d.changes[string(record.Key)], c)
	}
	for record, err := range r.committed(ctx, r.cfg.App+".dead-letters") {
		if err != nil {
			return err
		}
		for _, h := range record.Headers {
			if h.Key == "asiduo-reason" {
				d.rejected[string(h.Value)]++
			}
		}
	}
	return nil
}

// census is how many customers are where.
type census struct {
	title                      string
	segments, lifecycle, bands map[string]int
}

// count looks at every customer of every shard.
func count(r *rehearsal) (census, error) {
	c := census{segments: map[string]int{}, lifecycle: map[string]int{}, bands: map[string]int{}}
	rules := r.pipe.Params().Rules
	for _, s := range r.pipe.Status() {
		v, err := r.pipe.View(s.Shard)
		if err != nil {
			return c, err
		}
		for row, err := range v.Rows() {
			if err != nil {
				return c, errors.Join(err, v.Close())
			}
			if row.Customer == nil || row.Customer.Published == state.NoSegment {
				c.segments["prospect"]++
				c.lifecycle["prospect"]++
				continue
			}
			c.segments[rules.SegmentName(row.Customer.Published)]++
			c.lifecycle[row.Customer.Lifecycle.String()]++
			if b := row.Customer.Band; b != state.NoBand {
				c.bands[b.String()]++
			}
		}
		if err := v.Close(); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (d *demo) report(r *rehearsal, last state.Instant, columns []census) {
	day := time.UnixMilli(int64(last)).UTC().Format(time.DateOnly)
	fmt.Fprintf(d.out, "\nThe last order is of %s. Nobody orders any more, and still customers move:\n", day)
	rules := r.pipe.Params().Rules
	d.table("Segments", rules.Segments(), columns, func(c census) map[string]int { return c.segments })
	d.table("Lifecycle", state.Lifecycles(), columns, func(c census) map[string]int { return c.lifecycle })
	d.table("Churn risk (no order within 90 days)", state.Bands(), columns, func(c census) map[string]int { return c.bands })
	d.journeys()
	fmt.Fprintf(d.out, "\nDead letters\n")
	if len(d.rejected) == 0 {
		fmt.Fprintln(d.out, "  none: every record could be used")
	}
	for _, why := range slices.Sorted(maps.Keys(d.rejected)) {
		fmt.Fprintf(d.out, "  %-24s %6d\n", why, d.rejected[why])
	}
	glob := filepath.Join(d.dir, "snapshots", "dt=*", "part-*.parquet")
	fmt.Fprintf(d.out, "\nParquet snapshot\n  %s\n  duckdb -c \"select segment, count(*) customers, sum(net_revenue_lifetime) revenue from read_parquet('%s') group by 1 order by 2 desc\"\n",
		filepath.Join(d.dir, "snapshots"), glob)
}

func (d *demo) table(title string, rows []string, columns []census, of func(census) map[string]int) {
	fmt.Fprintf(d.out, "\n%-36s", title)
	for _, c := range columns {
		fmt.Fprintf(d.out, " %11s", c.title)
	}
	fmt.Fprintln(d.out)
	for _, row := range rows {
		line, any := fmt.Sprintf("  %-34s", row), false
		for _, c := range columns {
			n := of(c)[row]
			any = any || n > 0
			line += fmt.Sprintf(" %11d", n)
		}
		if any {
			fmt.Fprintln(d.out, line)
		}
	}
}

// journeys shows the customers with the most to tell: the most different segments, then the most changes.
func (d *demo) journeys() {
	ids := slices.Collect(maps.Keys(d.changes))
	kinds := func(id string) int {
		seen := map[string]bool{}
		for _, c := range d.changes[id] {
			seen[c.To.Segment] = true
		}
		return len(seen)
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(kinds(b)-kinds(a), len(d.changes[a])-len(d.changes[b]), strings.Compare(a, b))
	})
	fmt.Fprintln(d.out, "\nJourneys (cause in brackets; what silence would have led to, and when, as each event foretold)")
	for _, id := range ids[:min(3, len(ids))] {
		fmt.Fprintf(d.out, "  customer %s\n", id)
		for _, c := range d.changes[id] {
			next := ""
			if c.Next != nil {
				next = fmt.Sprintf("next %s on %s", c.Next.Segment, c.Next.At[:10])
			}
			fmt.Fprintf(d.out, "    %s  %-50s %s\n", c.at[:10], c.text(), next)
		}
	}
}

// serve opens the API and metrics of the pipeline, shows where they are, and stays if there is somebody to look.
func (d *demo) serve(ctx context.Context, r *rehearsal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	someone := ""
	for _, id := range slices.Sorted(maps.Keys(d.changes)) {
		someone = id
		break
	}
	quiet := newLog(r.cfg.Log, io.Discard, slog.LevelError)
	urls, err := serve(ctx, r.cfg, apiOptions(r.cfg, r.pipe, nil, r.registry, quiet), quiet, func(f func() error) { parts.Go(func() { _ = f() }) })
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\nMetrics   %s/metrics\nCustomer  %s/v1/customers/%s\n", urls["admin"], urls["api"], someone)
	if !d.stay {
		return nil
	}
	fmt.Fprintln(d.out, "\nCtrl-C ends the demo.")
	<-ctx.Done()
	return nil
}
