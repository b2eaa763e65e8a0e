package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state/kpi"
)

// Summary is a report with what it is about.
type Summary struct {
	Source   string   `json:"source"`
	Until    string   `json:"until"`           // the end of this day
	Since    string   `json:"days_known_from"` // what is counted day by day begins on it or later; empty: no day is missing
	Zone     string   `json:"zone"`
	Currency string   `json:"currency"`
	Missing  []string `json:"missing"` // what the input cannot tell
	*kpi.Report
	Funnel     []kpi.Funnel    `json:"funnel"`     // moves between stages of the life cycle, by calendar quarter
	Promotions *kpi.Promotions `json:"promotions"` // null where the input tells of no coupons and discounts
	Discount   float64         `json:"promotion_discount"`
	Equity     *Equity         `json:"equity"` // null where no value is known
}

// Equity is what the customers will bring in, as the snapshot has it: margin, discounted, within the horizon (docs/scoring.md, Value).
type Equity struct {
	Customers int     `json:"customers"` // whose value is known
	CLV       float64 `json:"clv"`
	AtRisk    float64 `json:"at_risk"`
}

// LastFunnel is that of the last quarter that is over; nil if there is none.
func (s *Summary) LastFunnel() *kpi.Funnel {
	if len(s.Funnel) == 0 {
		return nil
	}
	return &s.Funnel[len(s.Funnel)-1]
}

// reporting is one call of the command.
type reporting struct {
	cfg                      config.Config
	log                      purchaseFlags
	snapshot, until, winBack string
	discount                 float64 // per cent of the price
	to                       outlet
}

func newReport() *cobra.Command {
	var c reporting
	var file string
	cmd := &cobra.Command{
		Use:   "report --input FILE... | --snapshot DIR",
		Short: "Who comes back, how often, and whose the revenue is",
		Long: `report counts what the customers did up to the end of a day: repeat rate, average basket, orders and revenue per customer, tenure,
intervals, concentration of revenue, win-back, retention by calendar quarter, cohorts by the month of the first order, moves between stages
of the life cycle, and how much of the business is promoted and who buys only then. Every rate has its numerator and its denominator. An order is a day with orders, net of refunds, as for fit and evaluate.

The newest snapshot of an archive tells the same of orders that have not settled. Of the others it has the number, the first and the last
day, and what was paid: what begins before they have settled is left out of the tables of days, and that is said.`,
		Example: "  asiduo report --input orders.csv --column customer_id=Customer --column ordered_at=Date --column amount=Total --currency EUR --html report.html\n" +
			"  asiduo report --snapshot /var/lib/asiduo/archive --json -",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.cfg, err = fitConfig(file); err != nil {
				return err
			}
			s, err := c.read(cmd.Context())
			if err != nil {
				return err
			}
			return c.to.write(cmd.OutOrStdout(), s, s.writeText, s.writePage)
		},
	}
	configFlag(cmd, &file)
	c.log.add(cmd)
	f := cmd.Flags()
	f.StringVar(&c.snapshot, "snapshot", "", "directory of an archive: report on its newest snapshot")
	f.StringVar(&c.until, "until", "", "last day to look at (2026-05-31); default: the last with an order")
	f.StringVar(&c.winBack, "win-back", "180d", "who stays away for longer has lapsed")
	f.Float64Var(&c.discount, "promotion", 5, "an order with a discount of so many per cent of its price is a promoted one, as is one with a coupon")
	c.to.add(cmd)
	return cmd
}

const (
	noPromotions = "promo share and buyer types: no order has a coupon or a discount; a snapshot never has them"
	noDays       = "intervals, win-back, retention and cohorts that begin before %s, and moves between stages of the life cycle: older orders have settled, and their days are not known; report --input has them"
)

func (c *reporting) read(ctx context.Context) (*Summary, error) {
	away, err := daysOf("win-back", c.winBack)
	if err != nil {
		return nil, err
	}
	if !(c.discount >= 0 && c.discount <= 100) {
		return nil, usageError{fmt.Errorf("--promotion is per cent, from 0 to 100, found %g", c.discount)}
	}
	if (len(c.log.inputs) > 0) == (c.snapshot != "") {
		return nil, usageError{errors.New("give one of --input FILE and --snapshot DIR")}
	}
	if c.snapshot != "" {
		if c.until != "" {
			return nil, usageError{errors.New("--until does not go with --snapshot, which is as of an instant")}
		}
		return c.readSnapshot(away)
	}
	if err := c.log.check(&c.cfg); err != nil {
		return nil, err
	}
	if err := c.log.format.check(c.log.inputs); err != nil {
		return nil, usageError{err}
	}
	log, shop, until, err := readShop(ctx, c.cfg, fromFiles(&c.log), c.until, c.log.free)
	if err != nil {
		return nil, err
	}
	s := &Summary{
		Source: fmt.Sprintf("%d records of %s", log.rows, strings.Join(c.log.inputs, ", ")), Until: dateOf(until), Zone: c.cfg.Time.Zone, Currency: log.cfg.Currency,
		Missing: []string{}, Report: shop.report(until, away), Discount: c.discount / 100,
	}
	if s.Promotions, err = log.promotions(until, shop.free, s.Discount); err != nil {
		return nil, err
	}
	if s.Promotions == nil {
		s.Missing = append(s.Missing, noPromotions)
	}
	if s.Funnel, err = funnels(log.cfg, log.stories(), until); err != nil {
		return nil, err
	}
	if len(log.rejected) > 0 {
		s.Missing = append(s.Missing, "records "+log.refused())
	}
	return s, nil
}

func (c *reporting) readSnapshot(away int32) (*Summary, error) {
	m, err := readBuying(c.snapshot, c.cfg.Time.Zone)
	if err != nil {
		return nil, err
	}
	shop := m.shop()
	s := &Summary{
		Source: m.source, Until: dateOf(m.until), Zone: c.cfg.Time.Zone, Currency: m.Currency,
		Missing: []string{noPromotions}, Report: shop.report(m.until, away),
	}
	if shop.since > 0 {
		s.Since = dateOf(shop.since)
		s.Missing = append(s.Missing, fmt.Sprintf(noDays, s.Since))
	} else {
		c.cfg.Currency = m.Currency
		if s.Funnel, err = funnels(c.cfg, m.stories(), m.until); err != nil {
			return nil, err
		}
	}
	if s.Equity = equityOf(m.buyers, math.Pow10(m.Digits)); s.Equity == nil {
		s.Missing = append(s.Missing, "customer lifetime value: the customers were not scored with a model of spending (asiduo model publish --from), or the snapshot is of an older release")
	}
	return s, nil
}

// report is that of the customers as they were at the end of a day.
func (s *shop) report(until, away int32) *kpi.Report {
	all := make([]kpi.Customer, len(s.customers))
	for i, known := range s.customers {
		n := len(known.Days)
		all[i] = kpi.Customer{Days: known.Days, Orders: n, First: known.Days[0], Last: known.Days[n-1]}
		for _, paid := range known.Paid {
			all[i].Paid += paid
		}
	}
	return kpi.Of(all, s.since, until, away)
}

// equityOf sums what is known; nil if nothing is.
func equityOf(buyers []archive.Buyer, unit float64) *Equity {
	var e Equity
	for _, b := range buyers {
		if b.Valued {
			e.Customers++
			e.CLV += float64(b.CLV) / unit
			e.AtRisk += float64(b.AtRisk) / unit
		}
	}
	if e.Customers == 0 {
		return nil
	}
	return &e
}

//go:embed report_page.html
var reportText string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"percent": func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) },
	"f2":      func(v float64) string { return fmt.Sprintf("%.2f", v) },
	"next":    func(k int) int { return k + 1 },
	"f0":      func(v float64) string { return fmt.Sprintf("%.0f", v) },
}).Parse(reportText + pageStyle))

func (s *Summary) writePage(out io.Writer) error { return reportPage.Execute(out, s) }

// writeText is the readable report.
func (s *Summary) writeText(out io.Writer) error {
	fmt.Fprintf(out, "%s, to the end of %s\n%d customers, %d orders, revenue %.2f %s\n\n", s.Source, s.Until, s.Customers, s.Orders, s.Revenue, s.Currency)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name, format string, r kpi.Rate) {
		fmt.Fprintf(w, "%s\t"+format+"\t%.0f\tof %.0f\t\n", name, r.Rate, r.Of, r.All)
	}
	line("repeat rate", "%.4f", s.Repeat)
	line("average basket", "%.3f", s.Basket)
	line("orders per customer", "%.4f", s.Frequency)
	line("revenue per customer", "%.3f", s.PerCustomer)
	line("days since the first order", "%.2f", s.Tenure)
	line("days from first to last order", "%.2f", s.ActiveSpan)
	line("days between two orders", "%.2f", s.Interval)
	for _, c := range s.Concentration {
		line(fmt.Sprintf("revenue of the best %.0f %%", 100*c.Top), "%.3f", c.Rate)
	}
	if s.WinBack != nil {
		line(fmt.Sprintf("came back after %d days", s.WinBackDays), "%.4f", *s.WinBack)
	}
	for _, p := range s.Retention {
		line(fmt.Sprintf("retention %s to %s", p.From, p.To), "%.4f", p.Rate)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if s.MedianGap != nil {
		fmt.Fprintf(out, "\nhalf of the intervals are shorter than %g days; those that are not over yet are not counted\n", *s.MedianGap)
	}
	if len(s.Cohorts) > 0 {
		fmt.Fprintf(out, "\nof those who first bought in a month, who bought in the months after\n")
		for _, c := range s.Cohorts {
			fmt.Fprintf(w, "%s\t%d\t", c.Month, c.Customers)
			for _, r := range c.Bought[:min(12, len(c.Bought))] {
				fmt.Fprintf(w, "%.4f\t", r.Rate)
			}
			fmt.Fprintln(w)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if err := writeFunnel(out, s.LastFunnel()); err != nil {
		return err
	}
	if e := s.Equity; e != nil {
		fmt.Fprintf(out, "\ncustomer lifetime value (margin, discounted, within the horizon): %.2f %s of %d customers; %.2f more if it was certain that all of them still buy\n", e.CLV, s.Currency, e.Customers, e.AtRisk)
	}
	if err := writePromotions(out, s.Promotions, s.Discount); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, what := range s.Missing {
		fmt.Fprintf(out, "not in this input: %s\n", what)
	}
	return nil
}
