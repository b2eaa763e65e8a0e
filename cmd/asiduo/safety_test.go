package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// TestSimulateLeavesTopicsAlone gives simulate a broker on which the application lives.
func TestSimulateLeavesTopicsAlone(t *testing.T) {
	broker, stop, err := embeddedBroker()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	cfg := demoConfig()
	cfg.Kafka.Brokers, cfg.Outputs.ReplicationFactor = []string{broker}, 1
	cl, adm, err := admin(t.Context(), cfg.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := createInputs(t.Context(), adm, cfg, 2); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: cfg.Inputs.Purchases, Key: []byte("ana"), Value: []byte("{}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s := simulation{
		cfg: cfg, inputs: []string{filepath.Join("testdata", "conformance", "cases", "01-silent-decay", "input.jsonl")},
		until: 1, output: t.TempDir(), broker: broker, log: slog.New(slog.DiscardHandler),
	}
	err = s.run(t.Context())
	const want = "the broker has topics of the application (interactions, purchases): a simulation needs one without, nothing was touched"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	ends, err := adm.ListEndOffsets(t.Context(), cfg.Inputs.Purchases)
	if err != nil {
		t.Fatal(err)
	}
	if end, ok := ends.Lookup(cfg.Inputs.Purchases, 0); !ok || end.Offset != 1 {
		t.Errorf("the topic is not what it was: %+v", ends)
	}
}

// TestChangedConfiguration starts an instance with another configuration than the state was made with: reading its bytes
// as something else would be worse than stopping.
func TestChangedConfiguration(t *testing.T) {
	for _, c := range []struct {
		keys   string
		change func(*config.Config)
	}{
		{"currency", func(c *config.Config) { c.Currency = "USD" }},
		{"minor_digits, time.zone", func(c *config.Config) { c.MinorDigits, c.Time.Zone = 3, "Europe/Madrid" }},
		{"inputs.partitioner", func(c *config.Config) { c.Inputs.Partitioner = "crc32" }},
	} {
		t.Run(c.keys, func(t *testing.T) {
			f := newFleet(t, "01-silent-decay", nil)
			disk := vfs.NewCrashableMem()
			f.start("a", disk, "", 0)
			f.write(0, 1)
			f.read()
			f.stop("a")
			was := f.r.cfg
			c.change(&f.r.cfg)
			f.start("b", disk, "", 0)
			var status []pipeline.ShardStatus
			f.await("the shard to stop", func() bool {
				status = f.live["b"].pipe.Status()
				return len(status) == 1 && status[0].State == "stopped"
			})
			want := "the state was made with another " + c.keys + " than the configuration has now: change it back, or begin a new application (another app)"
			if !strings.Contains(status[0].Reason, want) {
				t.Errorf("got  %s\nwant %s", status[0].Reason, want)
			}
			if f.live["b"].counted(t, "asiduo_shard_closed_total", "configuration_changed") < 1 {
				t.Error("the shard has not been closed for that reason")
			}
			f.stop("b")
			f.r.cfg = was
			f.start("c", disk, "", 0)
			f.finish()
		})
	}
}
