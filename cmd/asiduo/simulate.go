package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state"
)

// simulation is a run of the pipeline over a log from files, to an instant.
type simulation struct {
	cfg        config.Config
	inputs     []string
	history    historyFormat
	until      state.Instant
	output     string
	broker     string
	partitions int32
	shards     int32
	epoch      int
	records    int
	interrupt  func(int32, pipeline.Step) error
	log        *slog.Logger
	progress   *progress
}

func newSimulate() *cobra.Command {
	var s simulation
	var file, until, preset, currency string
	var columns []string
	cmd := &cobra.Command{
		Use:   "simulate -c FILE --input LOG... --until TIME --output DIR",
		Short: "Run the pipeline over a log from files, and write what would have come out",
		Long: `simulate runs the very same pipeline (brokers, shards, transactions, stores, events) on an embedded broker, with a clock
that it drives: first the log is read, then silence is played up to --until. The output topics are written to --output as
one JSON record per line, the final standing of all customers as Parquet below it.

An input is a dump of topics, one {"topic","partition","offset","timestamp","key","value","headers"} per line, or a history
as "asiduo replay" reads it (canonical JSON lines or CSV); .gz files are unpacked.`,
		Example: "  asiduo simulate -c asiduo.yaml --input orders.csv --until 2026-06-01T00:00:00Z --output out\n" +
			"  asiduo simulate -c asiduo.yaml --preset cdnow --input CDNOW_sample.txt --until 1998-07-01T00:00:00Z --output out",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if s.cfg, err = loadConfig(file); err != nil {
				return err
			}
			at, err := time.Parse(time.RFC3339, until)
			if err != nil {
				return usageError{fmt.Errorf("--until %q is not a time such as 2026-06-01T00:00:00Z", until)}
			}
			s.until = state.Instant(at.UnixMilli())
			if err := notNegative(cmd, "partitions", "shards", "cycle-records", "epoch"); err != nil {
				return err
			}
			if s.history, err = historyOf(preset, columns, currency, rolePurchases); err != nil {
				return usageError{err}
			}
			s.log = newLog(s.cfg.Log, os.Stderr, slog.LevelWarn)
			s.progress = newProgress(os.Stderr)
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	configFlag(cmd, &file)
	f.StringArrayVar(&s.inputs, "input", nil, "file with the log; may be given more than once")
	f.StringVar(&until, "until", "", "instant up to which silence is played (RFC 3339)")
	f.StringVar(&s.output, "output", "", "directory for what comes out")
	f.StringVar(&preset, "preset", "", "the inputs are a published data set: cdnow or online-retail")
	f.StringArrayVar(&columns, "column", nil, "FIELD=COLUMN of a CSV history; may be given more than once")
	f.StringVar(&currency, "currency", "", "currency of a history without one; default: the pipeline's")
	f.Int32Var(&s.shards, "shards", 0, "number of shards; default: as many as partitions")
	f.Int32Var(&s.partitions, "partitions", 0, "partitions of the inputs; default: what the log says, 4 for a history")
	f.IntVar(&s.epoch, "epoch", 1, "second part of the ids of what comes out")
	f.IntVar(&s.records, "cycle-records", 0, "most records in a cycle; default: cycle.records")
	f.StringVar(&s.broker, "broker", "", "use the real broker at this address instead of the embedded one; it must not have the application's topics, and they are deleted afterwards")
	for _, must := range []string{"input", "until", "output"} {
		_ = cmd.MarkFlagRequired(must)
	}
	return cmd
}

// run is the whole simulation.
func (s *simulation) run(ctx context.Context) (err error) {
	records, partitions, err := s.open()
	if err != nil {
		return err
	}
	if s.partitions == 0 {
		s.partitions = partitions
	}
	if s.records > 0 {
		s.cfg.Cycle.Records = s.records
	}
	if err := os.MkdirAll(s.output, 0o750); err != nil {
		return fmt.Errorf("output directory: %w", err)
	}
	dir, err := os.MkdirTemp("", "asiduo-simulate-")
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r, err := rehearse(ctx, stage{
		cfg: s.cfg, broker: s.broker, partitions: s.partitions, shards: s.shards, epoch: s.epoch, dir: dir, files: vfs.Default, log: s.log, interrupt: s.interrupt,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close(ctx)) }()
	s.progress.phase("write the log")
	if err := r.write(ctx, records(r.cfg), s.progress.count); err != nil {
		return err
	}
	s.progress.phase("read the log")
	r.start(ctx)
	if err := r.readAll(ctx); err != nil {
		return err
	}
	s.progress.phase("play silence")
	if err := r.play(ctx, s.until); err != nil {
		return err
	}
	s.progress.phase("write what came out")
	if _, err := r.snapshot(ctx, s.output, s.until); err != nil {
		return err
	}
	if err := r.dump(ctx, s.output); err != nil {
		return err
	}
	s.progress.done()
	return nil
}

// open finds out what the inputs are, and how many partitions they need.
func (s *simulation) open() (func(config.Config) iter.Seq2[*kgo.Record, error], int32, error) {
	dump := false
	for i, name := range s.inputs {
		is, err := isDump(name)
		if err != nil {
			return nil, 0, usageError{err}
		}
		if i > 0 && is != dump {
			return nil, 0, usageError{errors.New("--input mixes dumps of topics with histories")}
		}
		dump = is
	}
	if !dump {
		if s.history.Currency == "" {
			s.history.Currency = s.cfg.Currency
		}
		if err := s.history.check(s.inputs); err != nil {
			return nil, 0, usageError{err}
		}
		n := s.partitions
		if n == 0 {
			n = max(s.shards, 4)
		}
		return func(c config.Config) iter.Seq2[*kgo.Record, error] {
			records, _ := readHistory(s.inputs, s.history)
			return placed(c, records, n, nil)
		}, n, nil
	}
	last := s.partitions - 1
	if s.partitions == 0 { // the log says how many there are
		for r, err := range readDumps(s.inputs) {
			if err != nil {
				return nil, 0, err
			}
			last = max(last, r.Partition)
		}
	}
	return func(c config.Config) iter.Seq2[*kgo.Record, error] { return fitting(c, last+1, readDumps(s.inputs)) }, last + 1, nil
}
