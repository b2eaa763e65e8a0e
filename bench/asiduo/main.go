// Command asiduo runs the pipeline over the job of the peers (../peers/JOB.md): the same engine as "asiduo run", with a clock
// that follows the records, since they are years old. It is told by the same environment as the peers are, and never ends by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state"
)

const shards = 4

// The rules of the job, its outputs and no others; what is years old is news.
const job = `app: %s
currency: EUR
kafka: {brokers: [%q]}
inputs: {purchases: %q, interactions: ""}
shards: %d
time: {clock: manual, grace: 0s, announce_late_over: 36500d}
rules: {money: {cuts: ["20.00", "60.00", "150.00", "400.00"]}}
churn: {method: none}
outputs: {profiles: false, replication_factor: 1}
state: {dir: %q}
api: {listen: ""}
admin: {listen: ""}
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := profiled(ctx, os.Getenv("PEER_PROFILE")); err != nil {
		fmt.Fprintln(os.Stderr, "asiduo:", err)
		os.Exit(1)
	}
}

// profiled writes a profile of the processors' time of the whole run to a file, if one is named.
func profiled(ctx context.Context, file string) error {
	if file == "" {
		return run(ctx)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	err = run(ctx)
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}

func run(ctx context.Context) error {
	text := fmt.Sprintf(job, os.Getenv("PEER_GROUP"), os.Getenv("PEER_BROKERS"), os.Getenv("PEER_INPUT"), shards, os.Getenv("PEER_DIR"))
	cfg, err := config.Parse("job", []byte(text), nil)
	if err != nil {
		return err
	}
	if err := create(ctx, cfg); err != nil {
		return err
	}
	clock, registry := &pipeline.Manual{}, prometheus.NewRegistry()
	p, err := pipeline.New(cfg, pipeline.Deps{
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Registry: registry, FS: vfs.Default, Manual: clock,
	})
	if err != nil {
		return err
	}
	go follow(ctx, clock, registry)
	go tell(ctx, cfg, p)
	return p.Run(ctx)
}

// tell commits how far the pipeline is under a group of its own: what it commits itself, for lag tools, it does every five seconds,
// and who measures wants to know it as soon as with the peers.
func tell(ctx context.Context, cfg config.Config, p *pipeline.Pipeline) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Kafka.Brokers...))
	if err != nil {
		return // who measures sees nothing move, and gives up
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(250 * time.Millisecond):
		}
		at := kadm.Offsets{}
		for topic, next := range p.Positions() {
			for partition, offset := range next {
				at.AddOffset(topic, partition, offset, -1)
			}
		}
		if len(at) > 0 {
			_, _ = adm.CommitOffsets(ctx, cfg.App+"-progress", at) // or a quarter of a second later
		}
	}
}

func create(ctx context.Context, cfg config.Config) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Kafka.Brokers...))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = pipeline.Init(ctx, kadm.NewClient(cl), cfg, shards, 1)
	return err
}

// follow makes now what every shard has reached in the records, as the event time of a stream processor is.
func follow(ctx context.Context, clock *pipeline.Manual, registry *prometheus.Registry) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(250 * time.Millisecond):
		}
		if at, err := reached(registry); err == nil {
			clock.Set(at)
		}
	}
}

var errNone = errors.New("some shard has read nothing yet")

// reached is the earliest of the shards' last records.
func reached(registry *prometheus.Registry) (state.Instant, error) {
	families, err := registry.Gather()
	if err != nil {
		return 0, err
	}
	n, least := 0, 0.0
	for _, f := range families {
		if !strings.HasSuffix(f.GetName(), "last_record_timestamp_seconds") {
			continue
		}
		for _, m := range f.GetMetric() {
			if v := m.GetGauge().GetValue(); n == 0 || v < least {
				least = v
			}
			n++
		}
	}
	if n < shards {
		return 0, errNone
	}
	return state.Instant(least * 1000), nil
}
