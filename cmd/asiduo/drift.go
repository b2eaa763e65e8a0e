package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
	"github.com/asiduo/asiduo/state/model/holdout"
)

// Drifted is a drift with what it is about.
type Drifted struct {
	From    string `json:"from"` // the end of this day
	To      string `json:"to"`
	Version uint32 `json:"version"` // of the model, which customers were scored with at the first look
	Scored  uint32 `json:"version_after"`
	Method  string `json:"method"`
	Known   int64  `json:"customers"` // with orders at the first look, and still there
	Gone    int64  `json:"gone"`      // only at the first look: all their orders were refunded or cancelled since
	New     int64  `json:"new"`       // only at the second
	*holdout.Drift
}

// drifting is one call of the command.
type drifting struct {
	cfg                      config.Config
	archive, from, to, model string
	every                    int // days of a step; 0: no series
	out                      outlet
}

func newDrift() *cobra.Command {
	var c drifting
	var file string
	cmd := &cobra.Command{
		Use: "drift -c FILE --from DAY", Short: "Is the model still true: what it expected between two snapshots against what came",
		Long: `drift holds the model that customers were scored with at one snapshot against what they did up to another: orders and customers who
order, by how many orders they had, and how churn probabilities have shifted (the population stability index: below 0.1 hardly, above 0.25 far;
silence, newcomers and the time between the snapshots shift them too). An order is a day with orders; days whose orders were refunded meanwhile are
missing in what came. When the ratio of what came to what was expected leaves 0.9 to 1.1 for weeks, fit again: --every 7 shows them one by one.`,
		Example: "  asiduo model drift -c asiduo.yaml --from 2026-05-01 --every 7\n  asiduo model drift -c asiduo.yaml --from 2026-05-01 --to 2026-06-01 --json -",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.cfg, err = loadConfig(file); err != nil {
				return err
			}
			if err := c.complete(); err != nil {
				return err
			}
			if c.every > 0 {
				s, err := c.series(cmd.Context())
				if err != nil {
					return err
				}
				return c.out.write(cmd.OutOrStdout(), s, s.writeText, nil)
			}
			d, err := c.between(cmd.Context(), c.from, c.to)
			if err != nil {
				return err
			}
			return c.out.write(cmd.OutOrStdout(), d, d.writeText, nil)
		},
	}
	configFlag(cmd, &file)
	f := cmd.Flags()
	f.StringVar(&c.archive, "archive", "", "directory of the archive; default: archive.dir of the configuration")
	f.StringVar(&c.from, "from", "", "day of the first snapshot (2026-05-01)")
	f.StringVar(&c.to, "to", "", "day of the second; default: the newest")
	f.IntVar(&c.every, "every", 0, "one step for each so many days between the two, from snapshot to snapshot; 7: weeks")
	f.StringVar(&c.model, "model", "", "file with what \"asiduo model show\" has printed; default: what is published")
	f.StringVar(&c.out.json, "json", "", "write the figures to this file as JSON; - for the standard output, instead of the text")
	return cmd
}

// complete fills in what was not said.
func (c *drifting) complete() (err error) {
	if c.archive == "" {
		c.archive = c.cfg.Archive.Dir
	}
	switch {
	case c.archive == "":
		return usageError{errors.New("there is no archive: give --archive, or set archive.dir")}
	case c.from == "":
		return usageError{errors.New("say with --from since when")}
	case c.every < 0:
		return usageError{fmt.Errorf("--every %d: must be a number of days", c.every)}
	}
	if c.to == "" {
		c.to, err = archive.Newest(c.archive)
	}
	return err
}

// between is the drift from the snapshot of one day to that of another.
func (c *drifting) between(ctx context.Context, from, to string) (*Drifted, error) {
	first, err := c.look(from)
	if err != nil {
		return nil, err
	}
	second, err := c.look(to)
	if err != nil {
		return nil, err
	}
	switch {
	case first.App != second.App || first.Epoch != second.Epoch || first.Shards != second.Shards:
		return nil, fmt.Errorf("the snapshots of %s and %s are of different applications, epochs or shards", from, to)
	case second.until <= first.until:
		return nil, usageError{fmt.Errorf("the snapshot of %s is not later than that of %s", to, from)}
	}
	m, err := c.running(ctx, first.version)
	if err != nil {
		return nil, err
	}
	d := &Drifted{
		From: dateOf(first.until), To: dateOf(second.until), Version: first.version, Scored: second.version, Method: m.Method,
		Drift: holdout.NewDrift(expecting(m), second.until-first.until),
	}
	for i := range first.Parts {
		if err := d.part(first, archive.Buyers(c.archive, first.Parts[i]), archive.Buyers(c.archive, second.Parts[i])); err != nil {
			return nil, err
		}
	}
	if d.Known == 0 {
		return nil, fmt.Errorf("nobody had ordered by %s", d.From)
	}
	d.Close()
	return d, nil
}

// look is a snapshot whose orders are known up to the end of a day, and perhaps a few of the next.
type look struct {
	archive.Manifest
	until   int32
	version uint32 // of the model
}

// adoptingError: the customers of a snapshot were scored with two models.
type adoptingError struct{ day string }

func (e *adoptingError) Error() string {
	return fmt.Sprintf("the snapshot of %s was made while a new version was adopted: take another", e.day)
}

func (c *drifting) look(day string) (*look, error) {
	m, err := archive.ReadManifest(c.archive, day)
	if err != nil {
		return nil, err
	}
	until, err := lastDay(&m, c.cfg.Time.Zone)
	if err != nil {
		return nil, err
	}
	l := &look{Manifest: m, until: until}
	for i, p := range m.Parts {
		if i > 0 && p.Versions.Model != l.version || p.Sweep != nil {
			return nil, &adoptingError{day}
		}
		l.version = p.Versions.Model
	}
	return l, nil
}

// running is the model that customers were scored with.
func (c *drifting) running(ctx context.Context, version uint32) (*parameters.Model, error) {
	if c.model == "" {
		set, _, err := readParameters(ctx, c.cfg)
		if err != nil {
			return nil, err
		}
		if m := set.Models[version]; m != nil {
			return m, nil
		}
		return nil, fmt.Errorf("version %d of the model, which the customers were scored with, is not published", version)
	}
	text, err := os.ReadFile(c.model)
	m := &parameters.Model{}
	if err == nil {
		err = json.Unmarshal(text, m)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--model: %w", err)}
	}
	if m.Version != version {
		return nil, usageError{fmt.Errorf("--model %s: it is version %d, the customers were scored with %d", c.model, m.Version, version)}
	}
	if _, err := (&parameters.Set{}).WithModel(*m, 1); err != nil {
		return nil, usageError{fmt.Errorf("--model %s: %w", c.model, err)}
	}
	return m, nil
}

// expecting is the part of a model that expects orders; nil if it has none.
func expecting(m *parameters.Model) model.Model {
	if p := m.Params; m.Method == state.ByMBGNBD.String() {
		return model.MBGNBD{R: p.R, Alpha: p.Alpha, A: p.A, B: p.B}
	}
	return nil
}

// part goes through both states of a shard side by side.
func (d *Drifted) part(first *look, before, after iter.Seq2[archive.Buyer, error]) error {
	next, stop := iter.Pull2(after)
	defer stop()
	then, err, more := next()
	skip := func() {
		d.New++
		d.score(d.After, &then)
		then, err, more = next()
	}
	for was, fault := range before {
		if fault != nil {
			return fault
		}
		d.score(d.Before, &was)
		for more && err == nil && then.ID < was.ID {
			skip()
		}
		if err != nil {
			return err
		}
		if !more || then.ID != was.ID {
			d.Gone++
			continue
		}
		d.Known++
		d.score(d.After, &then)
		x := fit.History{X: float64(was.OrderDays - 1), TX: float64(was.LastDay - was.FirstDay), E: float64(max(first.until-was.LastDay, 0)), N: 1}
		d.Add(x, int(max(then.OrderDays-was.OrderDays, 0)), then.LastDay > max(was.LastDay, first.until))
		then, err, more = next()
	}
	for more && err == nil {
		skip()
	}
	return err
}

func (d *Drifted) score(count func(float64), b *archive.Buyer) {
	if b.Scored {
		count(b.Chance)
	}
}

// writeText is the readable report.
func (d *Drifted) writeText(out io.Writer) error {
	fmt.Fprintf(out, "from the end of %s to that of %s, %d days: version %d of the model (%s)\n", d.From, d.To, d.Days, d.Version, d.Method)
	fmt.Fprintf(out, "%d customers, %d new, %d gone\n\n", d.Known, d.New, d.Gone)
	if d.Orders == nil {
		fmt.Fprintf(out, "The method %s expects no number of orders.\n", d.Method)
	} else {
		w := columnsOf(out)
		fmt.Fprintln(w, "\tcustomers\texpected\tcame\tratio\ta week, expected\tcame\t")
		line := func(of string, a *holdout.Against) {
			week := float64(d.Days) / 7
			fmt.Fprintf(w, "%s\t%d\t%.1f\t%.0f\t%.3f\t%.1f\t%.1f\t\n", of, a.Customers, a.Expected, a.Came, a.Ratio, a.Expected/week, a.Came/week)
		}
		line("orders", d.Orders)
		line("customers who order", d.Buyers)
		for i := range d.ByOrders {
			line("orders of those with "+d.ByOrders[i].Of, &d.ByOrders[i])
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if d.Scored != d.Version {
		fmt.Fprintf(out, "\nscores were made with version %d at the end: their shift is the model's too", d.Scored)
	}
	if d.Stable == nil {
		_, err := fmt.Fprintln(out, "\nno churn probabilities to compare")
		return err
	}
	_, err := fmt.Fprintf(out, "\npopulation stability index of the churn probability: %.4f (%s)\n", *d.Stable, stability(*d.Stable))
	return err
}

func stability(psi float64) string {
	switch {
	case psi < .1:
		return "hardly shifted"
	case psi < .25:
		return "shifted"
	}
	return "shifted far"
}

// lastDay is the last day that is over as of a snapshot.
func lastDay(m *archive.Manifest, zone string) (int32, error) {
	place, err := time.LoadLocation(zone)
	if err != nil {
		return 0, err
	}
	y, month, d := time.UnixMilli(int64(m.AsOf) - 1).In(place).Date()
	return int32(time.Date(y, month, d, 0, 0, 0, 0, time.UTC).Unix() / 86400), nil
}
