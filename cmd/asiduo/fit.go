package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state/model/fit"
	"github.com/asiduo/asiduo/state/model/holdout"
)

// estimation is one estimation of the parameters of a shop.
type estimation struct {
	cfg      config.Config
	log      purchaseFlags
	snapshot string
	topic    bool
	until    string
	model    string
	births   string
	output   string
	against  string
}

func newFit() *cobra.Command {
	c := estimation{}
	var file string
	cmd := &cobra.Command{
		Use:   "fit --input FILE... | --snapshot DIR | --topic -c FILE",
		Short: "Fit the models of churn and spending to your shop",
		Long: `fit estimates the models of repeat buying by maximum likelihood, from a log of orders, from the newest snapshot of an archive,
or from the purchases topic of a pipeline, and prints what it found and how far it can be trusted. --output writes a file of
parameters with its provenance; the report ends with the lines for the configuration.

Orders count as in the pipeline: net of refunds, days in the zone. A CSV needs a column of customers and one of times; without
order ids each line is an order, without amounts there is no model of spending.

Whoever was a customer before the log begins is no new customer, and would mislead the fit: customers first seen within the 95 %
quantile of the gaps between orders are left out. Say --births known if the log has everybody's first order.`,
		Example: "  asiduo fit --input orders.csv --column customer_id=Customer --column ordered_at=Date --column amount=Total --currency EUR --output model.json\n" +
			"  asiduo fit --snapshot /var/lib/asiduo/archive --output model.json\n" +
			"  asiduo fit --preset cdnow --input CDNOW_sample.txt --until 1997-09-30 --births known --free-orders",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.cfg, err = fitConfig(file); err != nil {
				return err
			}
			if err := c.check(file); err != nil {
				return err
			}
			return c.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	c.log.add(cmd)
	f := cmd.Flags()
	f.StringVar(&c.snapshot, "snapshot", "", "directory of an archive: fit to its newest snapshot")
	f.BoolVar(&c.topic, "topic", false, "fit to the purchases topic of the configuration")
	f.StringVar(&c.until, "until", "", "last day to look at (2026-05-31); default: the last with an order")
	f.StringVar(&c.model, "model", "auto", "auto, mbg_nbd, bg_nbd, pareto_nbd or nbd; auto: by likelihood")
	f.StringVar(&c.births, "births", "unknown", "unknown: customers may be older than the log; known: it has everybody's first order")
	f.StringVar(&c.against, "against", "", "what \"asiduo model show\" prints: the version that runs is held against the same days, and publish takes nothing worse")
	f.StringVar(&c.output, "output", "", "file of parameters to write; it is replaced")
	return cmd
}

// fitConfig is the configuration of a file, or the defaults without one.
func fitConfig(file string) (config.Config, error) {
	if file == "" {
		return config.Default(), nil
	}
	return loadConfig(file)
}

// kindsOf are the models that a flag asks for.
func kindsOf(name string) ([]fit.Kind, error) {
	if name == "auto" {
		return fit.Kinds(), nil
	}
	if k := fit.Kind(name); slices.Contains(fit.Kinds(), k) {
		return []fit.Kind{k}, nil
	}
	return nil, usageError{fmt.Errorf("--model %q is none of auto, mbg_nbd, bg_nbd, pareto_nbd, nbd", name)}
}

func checkBirths(births string) error {
	if births != "known" && births != "unknown" {
		return usageError{fmt.Errorf("--births %q is neither known nor unknown", births)}
	}
	return nil
}

func (c *estimation) check(file string) error {
	sources := 0
	for _, given := range []bool{len(c.log.inputs) > 0, c.snapshot != "", c.topic} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return usageError{errors.New("give one of --input FILE, --snapshot DIR and --topic")}
	}
	if c.topic && file == "" {
		return usageError{errors.New("--topic needs the configuration: -c FILE")}
	}
	if c.snapshot != "" && c.until != "" {
		return usageError{errors.New("--until does not go with --snapshot, which is as of an instant")}
	}
	if _, err := kindsOf(c.model); err != nil {
		return err
	}
	if err := checkBirths(c.births); err != nil {
		return err
	}
	if err := c.log.check(&c.cfg); err != nil {
		return err
	}
	if len(c.log.inputs) > 0 {
		if err := c.log.format.check(c.log.inputs); err != nil {
			return usageError{err}
		}
	}
	return nil
}

// lesson is what there is to fit to.
type lesson struct {
	histories []fit.History
	spends    []fit.Spend
	data      fit.Provenance
	currency  string
	observed  string // which days the spends are of

	known  []holdout.Customer // everybody, as of the end of a day
	until  int32
	births bool  // everybody's first order is known
	since  int32 // from this day on all their days with orders are
}

func (c *estimation) run(ctx context.Context, out io.Writer) error {
	learn, err := c.read(ctx)
	if err != nil {
		return err
	}
	kinds, err := kindsOf(c.model)
	if err != nil {
		return err
	}
	running, err := readRunning(c.against)
	if err != nil {
		return err
	}
	f, err := learn.fit(kinds)
	if err == nil {
		err = learn.prove(f, c.cfg.Churn.HorizonDays, running)
	}
	if err != nil {
		return err
	}
	if err := writeFit(out, f, running); err != nil {
		return err
	}
	if c.output == "" {
		return nil
	}
	text, err := f.Marshal()
	if err != nil {
		return err
	}
	err = os.WriteFile(c.output, text, 0o644) // #nosec G306 -- figures of all, of no customer
	if err != nil {
		return fmt.Errorf("write the file of parameters: %w", err)
	}
	fmt.Fprintf(out, "\nwritten to %s\n", c.output)
	return nil
}

// read reads the source.
func (c *estimation) read(ctx context.Context) (*lesson, error) {
	if c.snapshot != "" {
		return c.readSnapshot()
	}
	records := fromFiles(&c.log)
	source := strings.Join(c.log.inputs, ", ")
	if c.topic {
		source = "topic " + c.cfg.Inputs.Purchases
		records = topicRecords(ctx, c.cfg, c.cfg.Inputs.Purchases)
	}
	log, shop, until, err := readShop(ctx, c.cfg, records, c.until, c.log.free)
	if err != nil {
		return nil, err
	}
	return log.lesson(shop, until, c.births == "known", source), nil
}

// lesson is what can be learnt from a shop as of the end of a day.
func (l *purchaseLog) lesson(s *shop, until int32, births bool, source string) *lesson {
	known := holdout.Known(s.customers, until)
	learn := &lesson{currency: l.cfg.Currency, observed: "repeat", known: known, until: until, births: births, since: s.since, data: fit.Provenance{
		Source: source, SHA256: l.digest, Records: l.rows, Orders: s.orders, Customers: len(known),
		First: dateOf(s.first), Until: dateOf(until), Zone: l.cfg.Time.Zone, FreeOrders: s.free,
	}}
	for _, n := range l.rejected {
		learn.data.Refused += n
	}
	if len(l.rejected) > 0 {
		learn.data.Notes = append(learn.data.Notes, "records "+l.refused())
	}
	born := known
	if !births {
		var from int32
		born, from = holdout.Born(known, s.since, until)
		learn.data.LeftCensored = len(known) - len(born)
		learn.data.Notes = append(learn.data.Notes, fmt.Sprintf(
			"learnt from customers first seen on %s or later: the others may be older than the log (--births known if they are not)", dateOf(from)))
	}
	learn.histories = holdout.Histories(born, until)
	switch {
	case s.since > 0: // and what was paid on the first day is not known of everybody
		learn.spends, learn.observed = holdout.AllSpends(known, until), "all"
		learn.data.Notes = append(learn.data.Notes, "orders before "+dateOf(s.since)+" have settled: their days are not known one by one")
	case s.money:
		learn.spends = holdout.Spends(known, until)
	}
	return learn
}

// fit estimates everything.
func (l *lesson) fit(kinds []fit.Kind) (*fit.File, error) {
	s := fit.Summarize(l.histories)
	if s.Repeats == 0 {
		return nil, fmt.Errorf("nothing to learn from: %d customers (%d left out as perhaps older than the log), none with a second day of orders",
			s.Customers, l.data.LeftCensored)
	}
	fits := fit.Choose(l.histories, kinds...)
	l.data.Learnt = fits.Summary
	f := &fit.File{
		Format: fit.FileFormat, Churn: fits.Use().Fitted(s.Customers), Why: fits.Reason,
		Heuristic: fit.Heuristic{ShopGapDays: s.MeanGap}, Data: l.data, ProducedBy: "asiduo " + cmp.Or(buildInfo().Version, "unknown"),
	}
	for _, e := range fits.Estimates {
		f.Compared = append(f.Compared, e.Fitted(s.Customers))
	}
	if len(l.spends) > 0 {
		f.Spending = fit.FitSpending(l.spends).Written(l.currency, l.observed)
	}
	return f, nil
}

// writeFit is the readable report; running is the version that the fit should have been held against, if any.
func writeFit(out io.Writer, f *fit.File, running *parameters.Model) error {
	d := &f.Data
	fmt.Fprintf(out, "%s: %d records, %d orders of %d customers, %s to %s\n", d.Source, d.Records, d.Orders, d.Customers, d.First, d.Until)
	for _, note := range d.Notes {
		fmt.Fprintln(out, note)
	}
	fmt.Fprintf(out, "fitted to %d customers, %d with a repeat order, %.0f repeat orders, %.1f days between two\n\n",
		d.Learnt.Customers, d.Learnt.Repeaters, d.Learnt.Repeats, d.Learnt.MeanGap)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "model\tlog likelihood\tAIC\tBIC\tstatus\t")
	for _, m := range f.Compared {
		mark := ""
		if m.Method == f.Churn.Method {
			mark = "* "
		}
		fmt.Fprintf(w, "%s%s\t%.2f\t%.2f\t%.2f\t%s\t\n", mark, m.Method, m.LogLikelihood, m.AIC, m.BIC, m.Status)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, m := range f.Compared {
		if m.Reason != "" {
			fmt.Fprintf(out, "%s is %s: %s\n", m.Method, m.Status, m.Reason)
		}
	}
	fmt.Fprintf(out, "\n%s: %s\n", f.Churn.Method, f.Why)
	if err := writeParams(out, f.Churn.Method.Names(), f.Churn.Params, f.Churn.Errors); err != nil {
		return err
	}
	if s := f.Spending; s != nil {
		fmt.Fprintf(out, "\nspending (gamma-gamma) of %d customers, log likelihood %.2f, %s; amount and frequency correlate by %.3f\n",
			s.Customers, s.LogLikelihood, s.Status, s.Correlation)
		if s.Reason != "" {
			fmt.Fprintln(out, s.Reason)
		}
		if err := writeParams(out, []string{"p", "q", "gamma"}, s.Params, s.Errors); err != nil {
			return err
		}
	}
	writeProof(out, f, running)
	return writeSnippet(out, f)
}

func writeParams(out io.Writer, names []string, params map[string]float64, errors map[string]*float64) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\testimate\tstandard error\t")
	for _, name := range names {
		deviation := "unknown"
		if e := errors[name]; e != nil {
			deviation = fmt.Sprintf("%.4f", *e)
		}
		unit := ""
		if name == "alpha" || name == "beta" {
			unit = fmt.Sprintf("(%.4f weeks)", params[name]/7)
		}
		fmt.Fprintf(w, "%s\t%.6f\t%s\t %s\n", name, params[name], deviation, unit)
	}
	return w.Flush()
}

// writeSnippet is what to write into the configuration: the model, if the pipeline knows it and it may be used, else the
// heuristic.
func writeSnippet(out io.Writer, f *fit.File) error {
	fmt.Fprintf(out, "\nfor the configuration:\n")
	if f.Churn.Method == fit.MBGNBD && f.Churn.Usable() {
		p := f.Churn.Params
		_, err := fmt.Fprintf(out, "churn:\n  method: mbg_nbd\n  params: {r: %.6g, alpha: %.6g, a: %.6g, b: %.6g, shop_gap_days: %.4g}\n",
			p["r"], p["alpha"], p["a"], p["b"], f.Heuristic.ShopGapDays)
		return err
	}
	why := fmt.Sprintf("%s is %s", f.Churn.Method, f.Churn.Status)
	if f.Churn.Status == fit.Good {
		why = fmt.Sprintf("%s is not among the methods of the pipeline; --model mbg_nbd fits the one that is", f.Churn.Method)
	}
	_, err := fmt.Fprintf(out, "churn:\n  method: heuristic  # %s\n  params: {shop_gap_days: %.4g}\n", why, f.Heuristic.ShopGapDays)
	return err
}
