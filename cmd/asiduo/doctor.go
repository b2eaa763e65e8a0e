package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state/store"
)

// finding is one thing that was looked at.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warning, fault
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

// doctor looks at everything an application depends on, and changes nothing.
type doctor struct {
	cfg     config.Config
	file    string // cfg was read from
	adm     *kadm.Client
	connect parameters.Connect
	sample  int
	openFor time.Duration
	found   []finding

	shards    int32
	positions map[int32]store.Checkpoint // of the last cycles, by shard
}

func newDoctor() *cobra.Command {
	var file string
	asJSON := false
	d := &doctor{}
	cmd := &cobra.Command{
		Use:   "doctor -c FILE",
		Short: "Look at brokers, topics, inputs, group, disk and archive, and say what to do",
		Long: `doctor looks at everything the pipeline depends on: brokers and their version, topics and their settings, whether keys are placed
as the configuration says, hanging transactions, the group and its shards, whether the inputs still have what comes next, the clock, the data directory and the
archive. Each finding is ok, a warning or a fault, with what to do. It only reads, and exits with 1 if it finds a fault.`,
		Example: "  asiduo doctor -c asiduo.yaml\n  asiduo doctor -c asiduo.yaml --json | jq '.[] | select(.status != \"ok\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if d.cfg, err = loadConfig(file); err != nil {
				return err
			}
			d.file = file
			d.examine(cmd.Context())
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(d.found)
			} else {
				d.tell(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if n := d.count("fault"); n > 0 {
				return fmt.Errorf("%d faults", n)
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	cmd.Flags().IntVar(&d.sample, "sample", 200, "last records of each input partition that are looked at")
	cmd.Flags().DurationVar(&d.openFor, "open-for", time.Minute, "a transaction that is open for longer hangs; one that no coordinator shows is watched for as long")
	return cmd
}

// examine looks at the machine, and at the brokers if they answer.
func (d *doctor) examine(ctx context.Context) {
	d.brokers(ctx)
	d.serving(ctx)
	d.disk()
	d.stores(ctx)
	d.archive(ctx)
}

// brokers looks at all that is not on this machine.
func (d *doctor) brokers(ctx context.Context) {
	d.connect = pipeline.Connector(d.cfg.Kafka)
	cl, adm, err := admin(ctx, d.cfg.Kafka)
	if err != nil {
		d.fault("brokers", "correct kafka.brokers, kafka.tls and kafka.sasl, or start the brokers", "%v", err)
		return
	}
	defer cl.Close()
	d.adm = adm
	d.ok("brokers", "%s answer", strings.Join(d.cfg.Kafka.Brokers, ", "))
	if err := pipeline.Allowed(ctx, cl, d.cfg, "run"); err != nil {
		d.fault("rights", "asiduo init -c "+d.file+" --acls prints the commands that grant them", "%v", err)
	}
	d.versions(ctx)
	if !d.led(ctx) {
		d.warn("partitions", "look again when each has a leader", "epoch, transactions, clock, partitioner, inputs and retention were not looked at")
		if d.layout(ctx) {
			d.settings(ctx)
			d.group(ctx)
		}
		return
	}
	set, err := parameters.Read(ctx, d.connect, d.cfg.App)
	switch {
	case err != nil:
		d.fault("epoch", d.remedy(err.Error(), "let this user read topic "+parameters.Topic(d.cfg.App)), "%v", err)
	case set.Epoch.Reset != nil:
		d.fault("epoch", "run \"asiduo reset\" again", "a reset to epoch %d has begun and is not finished: no process starts", set.Epoch.Epoch)
	case set.Epoch.Import != nil:
		d.fault("epoch", "run \"asiduo import\" again", "an import of %s has begun and is not finished: no process starts", set.Epoch.Import.Snapshot)
	default:
		d.ok("epoch", "%d", set.Epoch.Epoch)
	}
	if !d.layout(ctx) {
		return
	}
	d.settings(ctx)
	d.transactions(ctx)
	d.group(ctx)
	d.clock(ctx)
	d.partitioner(ctx)
	if d.positions, err = pipeline.Checkpoints(ctx, d.adm, d.connect, d.cfg.App); err != nil {
		d.fault("positions", d.remedy(err.Error(), "let this user read the changelog"), "%v", err)
		return
	}
	if err := pipeline.LostChangelogs(ctx, d.adm, d.cfg, set.Epoch.Epoch, d.positions); err != nil {
		for _, s := range sentences(err) {
			d.fault("positions", d.remedy(s, "let this user describe the group"), "%s", s)
		}
	}
	d.retention(ctx, d.lost(ctx))
}

func (d *doctor) ok(check, format string, args ...any) {
	d.found = append(d.found, finding{check, "ok", fmt.Sprintf(format, args...), ""})
}

func (d *doctor) warn(check, fix, format string, args ...any) {
	d.found = append(d.found, finding{check, "warning", fmt.Sprintf(format, args...), fix})
}

func (d *doctor) fault(check, fix, format string, args ...any) {
	d.found = append(d.found, finding{check, "fault", fmt.Sprintf(format, args...), fix})
}

// quiet says that all is well with a check if it has found nothing since there were n findings.
func (d *doctor) quiet(n int, check, format string, args ...any) {
	for _, f := range d.found[n:] {
		if f.Status != "ok" {
			return
		}
	}
	d.ok(check, format, args...)
}

func (d *doctor) count(status string) (n int) {
	for _, f := range d.found {
		if f.Status == status {
			n++
		}
	}
	return n
}

// tell prints one page.
func (d *doctor) tell(out io.Writer) {
	for _, f := range d.found {
		fmt.Fprintf(out, "%-8s %-14s %s\n", f.Status, f.Check, strings.ReplaceAll(f.Detail, "\n", "\n"+strings.Repeat(" ", 24)))
		if f.Fix != "" {
			fmt.Fprintf(out, "%-23s -> %s\n", "", f.Fix)
		}
	}
	fmt.Fprintf(out, "%d ok, %d warnings, %d faults\n", d.count("ok"), d.count("warning"), d.count("fault"))
}
