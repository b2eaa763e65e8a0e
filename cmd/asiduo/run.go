package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

func newRun() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run the pipeline",
		Long: `run serves the shards that the consumer group gives to this process, until SIGTERM or Ctrl-C; then the running cycles end and
the shards are left to others. Start as many processes as you like, each with a data directory of its own.`,
		Example: "  asiduo run -c asiduo.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			return runPipeline(cmd.Context(), cfg, vfs.Default, newLog(cfg.Log, os.Stderr, slog.LevelDebug))
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// newRegistry has the figures of the process itself.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(buildMetric(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// buildMetric says what is running.
func buildMetric() prometheus.Collector {
	b := buildInfo()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "asiduo_build_info", Help: "1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "go_version": b.Go},
	})
	info.Set(1)
	return info
}

// runPipeline runs everything a process is made of until ctx ends or a part fails, and returns when all of it has
// ended: listeners first, the pipeline, its stores last. What fails while it is being stopped is its error too.
func runPipeline(ctx context.Context, cfg config.Config, disk vfs.FS, log *slog.Logger) error {
	registry := newRegistry()
	tracer, told, err := newTracer(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer told()
	pipe, err := pipeline.New(cfg, pipeline.Deps{
		Log: log, Registry: registry, FS: disk, Advertise: advertised(cfg), Client: pipeline.SharedDialer(cfg.Kafka.TLS, log), Tracer: tracer,
	})
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts, ctx := errgroup.WithContext(ctx)
	a := newArchiver(cfg, pipe, registry, log)
	if _, err := serve(ctx, cfg, apiOptions(cfg, pipe, a, registry, log), log, parts.Go); err != nil {
		cancel()
		_ = parts.Wait() // those that listen already
		return err
	}
	parts.Go(func() error { return a.run(ctx) })
	parts.Go(func() error {
		defer cancel() // nothing else is worth running without it
		return pipe.Run(ctx)
	})
	return parts.Wait()
}

// advertised is where other instances find this one's API.
func advertised(cfg config.Config) string {
	if cfg.API.Listen == "" || cfg.API.Advertise != "" {
		return cfg.API.Advertise
	}
	if cfg.API.Access.CertFile != "" {
		return "https://" + cfg.API.Listen
	}
	return "http://" + cfg.API.Listen
}

// monitorRate is far beyond what probes and several Prometheus ask.
const monitorRate = 20

// serve opens the listeners and returns their URLs by name.
func serve(ctx context.Context, cfg config.Config, o api.Options, log *slog.Logger, part func(func() error)) (map[string]string, error) {
	urls := map[string]string{}
	for _, l := range []struct {
		name, at string
		access   config.Access
		handler  func(api.Options) http.Handler
	}{
		{"api", cfg.API.Listen, cfg.API.Access, api.Public}, {"admin", cfg.Admin.Listen, cfg.Admin.Access, api.Admin},
		{"monitor", cfg.Monitor.Listen, config.Access{Rate: monitorRate}, api.Monitor},
	} {
		if l.at == "" {
			continue
		}
		guard, err := api.NewGuard(access(l.access), log)
		if err != nil {
			return nil, fmt.Errorf("%s.access: %w", l.name, err) // no fault of the configuration: the file may come any moment
		}
		o.Guard = guard
		addr, wait, err := api.Serve(ctx, l.at, l.handler(o), guard, log)
		if err != nil {
			return nil, fmt.Errorf("%s.listen %s: %w", l.name, l.at, err)
		}
		urls[l.name] = "http://" + addr
		if guard.TLS() != nil {
			urls[l.name] = "https://" + addr
		}
		log.Info("listening", "what", l.name, "url", urls[l.name], "tokens", len(l.access.Tokens) > 0 || l.access.TokensFile != "",
			"client_certificates", l.access.ClientCAFile != "", "insecure", l.access.Insecure)
		part(wait)
	}
	return urls, nil
}

// apiOptions are the questions that HTTP may ask, answered by the pipeline.
func apiOptions(cfg config.Config, pipe *pipeline.Pipeline, a *archiver, registry *prometheus.Registry, log *slog.Logger) api.Options {
	o := api.Options{
		App: cfg.App, Params: pipe.Params, Currency: cfg.Currency, Digits: cfg.Digits(),
		View:  func(customer string) (*store.View, error) { return pipe.View(pipe.ShardOf(customer)) },
		Owner: pipe.Owner,
		Shards: func() []api.Shard {
			var list []api.Shard
			for _, s := range pipe.Status() {
				line := api.Shard{
					Shard: s.Shard, State: s.State, Reason: s.Reason, Cycle: s.Cycle, Horizon: s.Horizon,
					Versions: s.Versions, Building: s.Building, LiveFrom: s.LiveFrom,
				}
				if s.Sweep != nil {
					line.Sweep = new(api.Sweep(*s.Sweep))
				}
				list = append(list, line)
			}
			return list
		},
		Ready:    pipe.Ready,
		Now:      pipe.Now,
		Scan:     func(_ context.Context, shard int32) (*store.View, error) { return pipe.View(shard) },
		Gatherer: registry, Registry: registry, Log: log, Version: buildInfo().Version,
	}
	o.Moves = func(ctx context.Context, body []byte) (any, error) { return movesOf(ctx, pipe, body) }
	if cfg.Archive.Dir != "" {
		o.Snapshot = func(ctx context.Context, at state.Instant) ([]string, error) { return a.write(ctx, at) }
	}
	return o
}
