package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/model/fit"
	"github.com/asiduo/asiduo/state/model/holdout"
)

// examination holds models against what came after a cut.
type examination struct {
	cfg     config.Config
	log     purchaseFlags
	until   string
	horizon string
	model   string
	births  string
	fitOn   string
	origins int
	step    string
	to      outlet

	days, stride int32
	given        *fit.File // parameters of --fit-on
	teacher      *purchaseLog
}

func newEvaluate() *cobra.Command {
	var c examination
	var file string
	cmd := &cobra.Command{
		Use:   "evaluate --input FILE... --until DAY --horizon DAYS",
		Short: "Hold the models against your own past",
		Long: `evaluate cuts a log of orders at the end of a day, fits the models to what was known then, and holds what they foresee for the
horizon against what came: totals, errors, ranking, calibration, revenue, and the orders of all customers week by week. Beside
them are the rules of thumb that every model has to beat. Nothing after the cut is used to foresee.

Probabilities are also recalibrated by a map that was learnt at cuts before the cut, if one proved itself there.

--fit-on takes the models from elsewhere: a file of parameters by "asiduo fit", or a log of another shop or time, fitted as a whole.
--origins N repeats all of it at N cuts, each --step before the one after.`,
		Example: "  asiduo evaluate --input orders.csv.gz --until 2025-12-31 --horizon 90d --html report.html\n" +
			"  asiduo evaluate --preset cdnow --input CDNOW_sample.txt --until 1997-09-30 --horizon 273d --births known --free-orders",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.cfg, err = fitConfig(file); err != nil {
				return err
			}
			if err := c.check(); err != nil {
				return err
			}
			return c.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	c.log.add(cmd)
	f := cmd.Flags()
	f.StringVar(&c.until, "until", "", "the cut: the end of this day (2025-12-31)")
	f.StringVar(&c.horizon, "horizon", "90d", "days after the cut that are foreseen")
	f.StringVar(&c.model, "model", "all", "all, mbg_nbd, bg_nbd, pareto_nbd or nbd")
	f.StringVar(&c.births, "births", "unknown", "unknown: customers may be older than the log, and the models do not learn from these; known: it has everybody's first order")
	f.StringVar(&c.fitOn, "fit-on", "", "file of parameters, or of orders, to take the models from")
	f.IntVar(&c.origins, "origins", 1, "number of cuts, the last at --until")
	f.StringVar(&c.step, "step", "", "days between two cuts; default: the horizon")
	c.to.add(cmd)
	for _, must := range []string{"input", "until"} {
		_ = cmd.MarkFlagRequired(must)
	}
	return cmd
}

// daysOf reads a number of days such as 90d.
func daysOf(flag, text string) (int32, error) {
	var n int32
	if _, err := fmt.Sscanf(text+"\n", "%dd\n", &n); err != nil || n < 1 || n > 3650 || text != fmt.Sprintf("%dd", n) {
		return 0, usageError{fmt.Errorf("--%s %q is not a number of days such as 90d, at most 3650d", flag, text)}
	}
	return n, nil
}

func (c *examination) check() (err error) {
	if c.days, err = daysOf("horizon", c.horizon); err != nil {
		return err
	}
	c.stride = c.days
	if c.step != "" {
		if c.stride, err = daysOf("step", c.step); err != nil {
			return err
		}
	}
	if c.origins < 1 || c.origins > 100 {
		return usageError{fmt.Errorf("--origins must lie between 1 and 100, found %d", c.origins)}
	}
	if err := checkBirths(c.births); err != nil {
		return err
	}
	if c.model != "all" {
		if c.model == "auto" {
			return usageError{errors.New("--model auto is for fit; evaluate shows all")}
		}
		if _, err := kindsOf(c.model); err != nil {
			return err
		}
	}
	if err := c.log.check(&c.cfg); err != nil {
		return err
	}
	if err := c.log.format.check(c.log.inputs); err != nil {
		return usageError{err}
	}
	return nil
}

func (c *examination) kinds() []fit.Kind {
	if c.model == "all" {
		return fit.Kinds()
	}
	return []fit.Kind{fit.Kind(c.model)}
}

// Evaluation is what evaluate finds.
type Evaluation struct {
	Source  string        `json:"source"`
	SHA256  string        `json:"sha256"`
	Records int           `json:"records"`
	FitOn   string        `json:"fit_on"` // empty: what was known at each cut
	Zone    string        `json:"zone"`
	Rolling []*Examined   `json:"origins"`
	Made    string        `json:"produced_by"`
	Average []RollingMean `json:"average,omitempty"` // over the cuts, if there are several
}

// RollingMean is the mean of a method's figures over the cuts.
type RollingMean struct {
	Name  string  `json:"name"`
	AUC   float64 `json:"auc"`
	Brier float64 `json:"brier"`
	ECE   float64 `json:"ece"`
	Bias  float64 `json:"bias"`
	MAE   float64 `json:"mae"`
}

// Examined is one cut.
type Examined struct {
	Until        string                      `json:"until"`
	Horizon      int32                       `json:"horizon_days"`
	Customers    int                         `json:"customers"`
	LeftCensored int                         `json:"left_censored"`
	Active       int                         `json:"active"`
	Orders       float64                     `json:"orders"`
	Revenue      float64                     `json:"revenue"`
	Fits         []fit.Fitted                `json:"fits"`
	Spending     *fit.SpendModel             `json:"spending"`
	Methods      []*holdout.Method           `json:"methods"`
	Calibrations map[string]*fit.Calibration `json:"calibrations"`
}

func (c *examination) run(ctx context.Context, out io.Writer) error {
	log, err := readPurchases(ctx, c.cfg, fromFiles(&c.log))
	if err != nil {
		return err
	}
	if err := c.learn(ctx); err != nil {
		return err
	}
	until, err := dayNamed("until", c.until)
	if err != nil {
		return err
	}
	later, err := log.shop(1<<20, c.log.free)
	if err != nil {
		return err
	}
	if last := later.last; until+c.days > last+7 {
		return usageError{fmt.Errorf("the log ends on %s: after %s there are %d days, --horizon is %d", dateOf(last), c.until, max(0, last-until), c.days)}
	}
	e := &Evaluation{Source: strings.Join(c.log.inputs, ", "), SHA256: log.digest, Records: log.rows, FitOn: c.fitOn,
		Zone: log.cfg.Time.Zone, Made: "asiduo " + buildInfo().Version}
	for k := range int32(c.origins) {
		x, err := c.examine(log, later, until-k*c.stride)
		if err != nil {
			return err
		}
		e.Rolling = append(e.Rolling, x)
	}
	slices.Reverse(e.Rolling)
	e.average()
	return c.to.write(out, e, e.writeText, e.writePage)
}

// learn reads --fit-on.
func (c *examination) learn(ctx context.Context) (err error) {
	if c.fitOn == "" {
		return nil
	}
	if strings.HasSuffix(c.fitOn, ".json") {
		text, err := os.ReadFile(c.fitOn)
		if err != nil {
			return usageError{err}
		}
		if c.given, err = fit.ParseFile(text); err != nil {
			return usageError{fmt.Errorf("%s: %w", c.fitOn, err)}
		}
		return nil
	}
	other := c.log
	other.inputs = []string{c.fitOn}
	c.teacher, err = readPurchases(ctx, c.cfg, fromFiles(&other))
	return err
}

// examine holds the models against one cut.
func (c *examination) examine(log *purchaseLog, later *shop, cut int32) (*Examined, error) {
	then, err := log.shop(cut, c.log.free)
	if err != nil {
		return nil, err
	}
	same := make([]holdout.Customer, len(then.customers))
	for id, i := range then.index {
		if k, ok := later.index[id]; ok {
			same[i] = later.customers[k]
		}
	}
	cs, err := holdout.NewCase(then.customers, same, cut, c.days)
	if err != nil {
		return nil, err
	}
	x := &Examined{Until: dateOf(cut), Horizon: c.days, Customers: len(then.customers), Calibrations: map[string]*fit.Calibration{}}
	for i := range cs.Active {
		if cs.Active[i] {
			x.Active++
		}
		x.Orders += cs.Orders[i]
		x.Revenue += cs.Revenue[i]
	}
	models, spending, err := c.models(log, then, cut, x)
	if err != nil {
		return nil, err
	}
	for _, f := range x.Fits {
		m := models[f.Method]
		r := cs.Judge(string(f.Method), m, spending)
		if c.fitOn != "" {
			r.What = "from " + c.fitOn
		}
		cal, _ := calibrate(then.customers, 0, cut, c.days, f.Method, c.births == "known")
		x.Calibrations[string(f.Method)] = cal
		if cal.Map.Method != "none" {
			cs.Recalibrate(r, &cal.Map)
		}
		x.Methods = append(x.Methods, r)
	}
	x.Methods = append(x.Methods, cs.Baselines(holdout.LearnHiatus(then.customers, cut, c.days))...)
	return x, nil
}

// models are those to examine, and the model of spending: fitted at the cut, to another log, or given.
func (c *examination) models(log *purchaseLog, then *shop, cut int32, x *Examined) (map[fit.Kind]model.Model, *model.GammaGamma, error) {
	models := map[fit.Kind]model.Model{}
	f := c.given
	if f == nil {
		var err error
		if f, err = c.fitAt(log, then, cut); err != nil {
			return nil, nil, err
		}
		x.Fits, x.LeftCensored = f.Compared, f.Data.LeftCensored
		if c.model != "all" {
			x.Fits = []fit.Fitted{f.Churn}
		}
	} else {
		x.Fits = []fit.Fitted{f.Churn}
	}
	for i := range x.Fits {
		m, err := x.Fits[i].Model()
		if err != nil {
			return nil, nil, err
		}
		models[x.Fits[i].Method] = m
	}
	x.Spending = f.Spending
	if f.Spending == nil || f.Spending.Status != fit.Good {
		return models, nil, nil
	}
	g, err := f.Spending.Model()
	return models, &g, err
}

func (c *examination) fitAt(log *purchaseLog, then *shop, cut int32) (*fit.File, error) {
	if c.teacher == nil {
		return log.lesson(then, cut, c.births == "known", "").fit(c.kinds())
	}
	other, err := c.teacher.shop(1<<20, c.log.free)
	if err != nil {
		return nil, err
	}
	return c.teacher.lesson(other, other.last, c.births == "known", c.fitOn).fit(c.kinds())
}

// average is over the cuts.
func (e *Evaluation) average() {
	if len(e.Rolling) < 2 {
		return
	}
	n := float64(len(e.Rolling))
	for i, m := range e.Rolling[0].Methods {
		a := RollingMean{Name: m.Name}
		for _, x := range e.Rolling {
			m := x.Methods[i]
			if m.Ranking != nil {
				a.AUC += m.Ranking.AUC / n
			}
			if m.Probabilities != nil {
				a.Brier, a.ECE = a.Brier+m.Probabilities.Brier/n, a.ECE+m.Probabilities.ECE/n
			}
			if m.Orders != nil {
				a.Bias, a.MAE = a.Bias+m.Orders.Bias/n, a.MAE+m.Orders.MAE/n
			}
		}
		e.Average = append(e.Average, a)
	}
}
