package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/asiduo/asiduo/state/model/holdout"
)

// writeText is the readable report.
func (e *Evaluation) writeText(out io.Writer) error {
	fmt.Fprintf(out, "%s: %d records\n", e.Source, e.Records)
	for _, x := range e.Rolling {
		if err := writeExamined(out, x); err != nil {
			return err
		}
	}
	if len(e.Average) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\n== mean over %d cuts\n", len(e.Rolling))
	w := columnsOf(out)
	fmt.Fprintln(w, "\tAUC\tBrier\tECE\tbias\tMAE\t")
	for _, m := range e.Average {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", m.Name, unless(m.AUC), unless(m.Brier), unless(m.ECE), percent(m.Bias), unless(m.MAE))
	}
	return w.Flush()
}

func columnsOf(out io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
}

// unless is a figure, a dash if it is 0 for not being there.
func unless(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.4f", v)
}

func percent(v float64) string { return fmt.Sprintf("%+.1f %%", 100*v) }

func writeExamined(out io.Writer, x *Examined) error {
	fmt.Fprintf(out, "\n== known at the end of %s, held against the %d days after\n", x.Until, x.Horizon)
	fmt.Fprintf(out, "%d customers, %d perhaps older than the log; %d ordered (%.4f), %.0f orders, revenue %.2f\n",
		x.Customers, x.LeftCensored, x.Active, float64(x.Active)/float64(x.Customers), x.Orders, x.Revenue)
	for _, f := range x.Fits {
		if f.Reason != "" {
			fmt.Fprintf(out, "%s is %s: %s\n", f.Method, f.Status, f.Reason)
		}
	}
	for _, write := range []func(io.Writer, *Examined) error{writeNumbers, writeChances, writeRevenues, writeCalibrations} {
		if err := write(out, x); err != nil {
			return err
		}
	}
	return nil
}

func writeNumbers(out io.Writer, x *Examined) error {
	fmt.Fprintln(out, "\nhow many orders")
	w := columnsOf(out)
	fmt.Fprintln(w, "\tpredicted\tbias\tMAE\tRMSE\tcorrelation\tAUC\t")
	for _, m := range x.Methods {
		if t := m.Orders; t != nil {
			auc := "-"
			if m.ByOrders != nil {
				auc = unless(m.ByOrders.AUC)
			}
			fmt.Fprintf(w, "%s\t%.1f\t%s\t%.4f\t%.4f\t%.4f\t%s\t\n", m.Name, t.Predicted, percent(t.Bias), t.MAE, t.RMSE, t.Correlation, auc)
		}
	}
	return w.Flush()
}

func writeChances(out io.Writer, x *Examined) error {
	fmt.Fprintln(out, "\nwho orders")
	w := columnsOf(out)
	fmt.Fprintln(w, "\tmean\tAUC\tBrier\tlog loss\tECE\tlift of top 10 %\tcapture\t")
	line := func(name string, p *holdout.Probabilities, r *holdout.Ranking, auc float64) {
		fmt.Fprintf(w, "%s\t", name)
		mean, brier, loss, ece := "-", "-", "-", "-"
		if p != nil {
			mean, brier, loss, ece = fmt.Sprintf("%.4f", p.Mean), fmt.Sprintf("%.4f", p.Brier), fmt.Sprintf("%.4f", p.LogLoss), fmt.Sprintf("%.4f", p.ECE)
		}
		lift, capture := "-", "-"
		if r != nil {
			auc, lift, capture = r.AUC, fmt.Sprintf("%.3f", r.Lift), fmt.Sprintf("%.3f", r.Capture)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", mean, unless(auc), brier, loss, ece, lift, capture)
	}
	for _, m := range x.Methods {
		if m.Ranking == nil && m.Probabilities == nil {
			continue
		}
		line(m.Name, m.Probabilities, m.Ranking, 0)
		if m.Calibrated != nil {
			line("recalibrated", m.Calibrated, nil, m.CalibratedAUC)
		}
		if a := m.Alive; a != nil {
			fmt.Fprintf(w, "its P(alive)\t-\t%s\t%.4f\t-\t-\t-\t-\t\n", unless(a.AUC), a.Brier)
		}
	}
	return w.Flush()
}

func writeRevenues(out io.Writer, x *Examined) error {
	fmt.Fprintln(out, "\nrevenue, and all repeat orders from the beginning of the log")
	w := columnsOf(out)
	fmt.Fprintln(w, "\trevenue\tbias\tcapture of top 10 %\tat the cut\tat the end\terror of the sum\tof a week\t")
	for _, m := range x.Methods {
		if t := m.Tracking; t != nil {
			revenue, bias, capture := "-", "-", "-"
			if r := m.Revenue; r != nil {
				revenue, bias, capture = fmt.Sprintf("%.0f", r.Predicted), percent(r.Bias), fmt.Sprintf("%.3f", r.Capture)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.1f\t%.1f\t%.2f %%\t%.1f %%\t\n", m.Name, revenue, bias, capture, t.AtCut, t.AtEnd, 100*t.MAPE, 100*t.WeekMAPE)
		}
	}
	for _, m := range x.Methods {
		if t := m.Tracking; t != nil {
			fmt.Fprintf(w, "came\t%.0f\t\t\t%.0f\t%.0f\t\t\t\n", x.Revenue, t.CameAtCut, t.CameAtEnd)
			break
		}
	}
	return w.Flush()
}

func writeCalibrations(out io.Writer, x *Examined) error {
	for _, m := range x.Methods {
		if m.Baseline {
			continue
		}
		fmt.Fprintf(out, "\n%s: tenths of the customers by their chance to order\n", m.Name)
		w := columnsOf(out)
		row := func(name string, of func(holdout.Bin) float64, bins []holdout.Bin) {
			fmt.Fprintf(w, "%s\t", name)
			for _, b := range bins {
				fmt.Fprintf(w, "%.3f\t", of(b))
			}
			fmt.Fprintln(w)
		}
		predicted, observed := func(b holdout.Bin) float64 { return b.Predicted }, func(b holdout.Bin) float64 { return b.Observed }
		row("predicted", predicted, m.Probabilities.Bins)
		row("observed", observed, m.Probabilities.Bins)
		if m.Calibrated != nil {
			row("recalibrated", predicted, m.Calibrated.Bins)
			row("observed", observed, m.Calibrated.Bins)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if c := x.Calibrations[m.Name]; c != nil {
			fmt.Fprintf(out, "recalibration: %s", c.Map.Method)
			if n := len(c.Origins); n > 0 {
				fmt.Fprintf(out, ", learnt at %d cuts from %s to %s over %d days each", n, c.Origins[0].Day, c.Origins[n-1].Day, c.Origins[0].Days)
			}
			fmt.Fprintf(out, "; %s\n", c.Reason)
		}
	}
	return nil
}
