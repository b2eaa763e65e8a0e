package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "The published segment rules",
		Long: `rules are published in the topic <app>.parameters under versions, and all instances go by the newest. init publishes
those of the configuration as version 1; publish makes those of the file the next one.`,
		Example: "  asiduo rules show -c asiduo.yaml\n  asiduo rules diff -c asiduo.yaml\n  asiduo rules publish -c asiduo.yaml --announce=no",
	}
	cmd.AddCommand(newShow(rulesFamily), newDiff(rulesFamily), newPublish(rulesFamily))
	return cmd
}

func newModel() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "The published churn model",
		Long: `models are published in the topic <app>.parameters under versions, and all instances go by the newest. init publishes
that of the configuration as version 1; publish makes that of the file the next one.`,
		Example: "  asiduo model list -c asiduo.yaml\n  asiduo model publish -c asiduo.yaml --dry-run",
	}
	cmd.AddCommand(newShow(modelFamily), newList(), newPublish(modelFamily), newDrift())
	return cmd
}

// family is what the commands of rules and model differ in.
type family struct {
	name      string
	newest    func(*parameters.Set) uint32
	one       func(*parameters.Set, uint32) (any, bool)
	candidate func(config.Config, parameters.Publication) (*pipeline.Candidate, error)
	publish   func(context.Context, *parameters.Publisher, *pipeline.Candidate, state.Instant) (uint32, error)
}

var rulesFamily = family{
	name: "rules", newest: func(s *parameters.Set) uint32 { return s.Newest.Rules },
	one: func(s *parameters.Set, n uint32) (any, bool) { r, ok := s.Rules[n]; return r, ok },
	candidate: func(c config.Config, about parameters.Publication) (*pipeline.Candidate, error) {
		r, err := pipeline.RulesOf(c)
		r.Publication = about
		return &pipeline.Candidate{Rules: &r}, err
	},
	publish: func(ctx context.Context, p *parameters.Publisher, c *pipeline.Candidate, now state.Instant) (uint32, error) {
		return p.PublishRules(ctx, *c.Rules, now)
	},
}

var modelFamily = family{
	name: "model", newest: func(s *parameters.Set) uint32 { return s.Newest.Model },
	one: func(s *parameters.Set, n uint32) (any, bool) { m, ok := s.Models[n]; return m, ok },
	candidate: func(c config.Config, about parameters.Publication) (*pipeline.Candidate, error) {
		m, err := pipeline.ModelOf(c)
		m.Publication = about
		return &pipeline.Candidate{Model: &m}, err
	},
	publish: func(ctx context.Context, p *parameters.Publisher, c *pipeline.Candidate, now state.Instant) (uint32, error) {
		return p.PublishModel(ctx, *c.Model, now)
	},
}

// readParameters reads what is published, and the number of shards.
func readParameters(ctx context.Context, cfg config.Config) (*parameters.Set, int32, error) {
	cl, adm, err := admin(ctx, cfg.Kafka)
	if err != nil {
		return nil, 0, err
	}
	defer cl.Close()
	shards, err := pipeline.ShardsOf(ctx, adm, cfg)
	if err != nil {
		return nil, 0, err
	}
	set, err := parameters.Read(ctx, pipeline.Connector(cfg.Kafka), cfg.App)
	if err == nil {
		err = set.Complete()
	}
	return &set, shards, err
}

func newShow(f family) *cobra.Command {
	var file string
	var version uint32
	cmd := &cobra.Command{
		Use: "show -c FILE", Short: "One version as JSON; the newest if none is asked for",
		Example: "  asiduo " + f.name + " show -c asiduo.yaml --version 1", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			set, _, err := readParameters(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if version == 0 {
				version = f.newest(set)
			}
			v, ok := f.one(set, version)
			if !ok {
				return usageError{fmt.Errorf("there is no version %d of the %s; the newest is %d", version, f.name, f.newest(set))}
			}
			out, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", out)
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().Uint32Var(&version, "version", 0, "which version")
	return cmd
}

func newList() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "list -c FILE", Short: "All versions, the newest last", Example: "  asiduo model list -c asiduo.yaml", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			set, _, err := readParameters(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			for n := uint32(1); n <= set.Newest.Model; n++ {
				if m := set.Models[n]; m != nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%d\t%s\t%s\t%s\n", n, time.UnixMilli(int64(m.PublishedAt)).UTC().Format(time.RFC3339), m.Method, m.Note)
				}
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// publishing is a publication of the rules or the model of the file.
type publishing struct {
	family
	file, announce, recency, note string
	from                          string // a file that fit has written
	snapshot, temp                string // whose customers are looked at
	dry, yes, force               bool
}

func newDiff(f family) *cobra.Command {
	p := publishing{family: f, dry: true}
	cmd := &cobra.Command{
		Use: "diff -c FILE", Short: "How many customers would change segment or band if what the file says was published",
		Example: "  asiduo " + f.name + " diff -c asiduo.yaml", Args: cobra.NoArgs, RunE: p.run,
	}
	configFlag(cmd, &p.file)
	p.whoFlags(cmd)
	p.recencyFlag(cmd)
	return cmd
}

func newPublish(f family) *cobra.Command {
	p := publishing{family: f}
	announce := ""
	if f.name == "model" {
		announce = "no"
	}
	cmd := &cobra.Command{
		Use: "publish -c FILE", Short: "Make what the file says the next version",
		Long: `publish shows how many customers would change segment or churn band at once, asks, and writes the next version. Every
instance adopts it within seconds and moves all customers to it, a bounded number in each cycle. With --announce=yes the changes that
this alone makes are announced, with the cause ` + f.name + `; with no they happen in silence, and the next announced change says
where the customer truly comes from. The customers are those of the instance that runs with this configuration (admin.listen), or of its data
directory if it does not run; with --snapshot those of all shards, as of then.`,
		Example: "  asiduo " + f.name + " publish -c asiduo.yaml --dry-run\n  asiduo " + f.name + " publish -c asiduo.yaml --announce=no --yes",
		Args:    cobra.NoArgs, RunE: p.run,
	}
	configFlag(cmd, &p.file)
	fl := cmd.Flags()
	fl.StringVar(&p.announce, "announce", announce, "are the changes news: yes or no")
	fl.StringVar(&p.note, "note", "", "a word about why, kept with the version")
	fl.BoolVar(&p.dry, "dry-run", false, "show what would change and publish nothing")
	fl.BoolVar(&p.yes, "yes", false, "do not ask")
	p.whoFlags(cmd)
	p.recencyFlag(cmd)
	if f.name == "model" {
		cmd.Example += "\n  asiduo model show -c asiduo.yaml >running.json && asiduo fit --topic -c asiduo.yaml --model mbg_nbd --against running.json --output model.json &&\n" +
			"    asiduo model publish -c asiduo.yaml --from model.json --yes"
		fl.StringVar(&p.from, "from", "", "file that fit has written: its parameters instead of churn.method and churn.params")
		fl.BoolVar(&p.force, "force", false, "also a fit that was worse than the version that runs, on the same days, or was not held against it, and what the file says in the place of a fit")
	}
	return cmd
}

// whoFlags say whose customers are looked at.
func (p *publishing) whoFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.snapshot, "snapshot", "", "directory of a snapshot (archive/snapshots/dt=2026-06-01) with the customers of all shards, instead of those of one instance")
	cmd.Flags().StringVar(&p.temp, "temp", "", "with --snapshot: directory for temporary stores; default: the system's")
}

// moves is what a candidate would change.
func (p *publishing) moves(ctx context.Context, cfg config.Config, set *parameters.Set, c *pipeline.Candidate) (*pipeline.Moves, error) {
	if p.snapshot != "" {
		return snapshotMoves(ctx, cfg, set, c, p.snapshot, p.temp)
	}
	return findMoves(ctx, cfg, c)
}

func (p *publishing) recencyFlag(cmd *cobra.Command) {
	if p.name == "rules" {
		cmd.Flags().StringVar(&p.recency, "recency", "", "auto: the days of R from the customers' own gaps between orders, instead of rules.recency_days")
	}
}

func (p *publishing) run(cmd *cobra.Command, _ []string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	cfg, err := loadConfig(p.file)
	if err != nil {
		return err
	}
	if p.announce != "" && p.announce != "yes" && p.announce != "no" {
		return usageError{fmt.Errorf("--announce is yes or no, found %q", p.announce)}
	}
	if p.announce == "" && !p.dry {
		return usageError{errors.New("say with --announce=yes or --announce=no whether the changes are news")}
	}
	if p.recency != "" && p.recency != "auto" {
		return usageError{fmt.Errorf("--recency is auto or left out, found %q", p.recency)}
	}
	set, shards, err := readParameters(ctx, cfg)
	if err != nil {
		return err
	}
	about := parameters.Publication{Announce: p.announce == "yes", Note: p.note}
	c, moves, err := p.propose(ctx, cfg, about, set, out)
	if errors.Is(err, parameters.ErrSame) || sameAs(set, c) {
		return fmt.Errorf("version %d of the %s: %w", p.newest(set), p.name, parameters.ErrSame)
	}
	if err != nil {
		return err
	}
	if c.Rules != nil {
		rules, err := c.Rules.Proved(nil)
		if err != nil {
			return usageError{err}
		}
		printCube(out, "", rules)
	}
	printMoves(out, moves, shards)
	if p.dry {
		return nil
	}
	if !p.yes && !asked(cmd.InOrStdin(), out, fmt.Sprintf("Publish version %d of the %s?", p.newest(set)+1, p.name)) {
		return errors.New("nothing was published")
	}
	pub, err := parameters.Open(ctx, pipeline.Connector(cfg.Kafka), cfg.App)
	if err != nil {
		return err
	}
	defer pub.Close()
	// What was shown, and whether a fit is good enough, is about the version that was the newest then.
	if shown, newest := p.newest(set), p.newest(&pub.Set); newest != shown {
		return fmt.Errorf("version %d of the %s was published meanwhile, and what was shown is about version %d: look again", newest, p.name, shown)
	}
	n, err := p.publish(ctx, pub, c, state.Instant(time.Now().UnixMilli()))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "version %d of the %s is published\n", n, p.name)
	return err
}

// propose is the candidate and what it would change.
func (p *publishing) propose(ctx context.Context, cfg config.Config, about parameters.Publication, set *parameters.Set, out io.Writer) (*pipeline.Candidate, *pipeline.Moves, error) {
	c, err := p.candidate(cfg, about)
	if err != nil {
		return nil, nil, usageError{err}
	}
	if p.from != "" {
		f, err := readFit(p.from)
		if err == nil {
			err = useFit(c.Model, f, cfg, out)
		}
		if err != nil {
			return nil, nil, usageError{err}
		}
		if sameAs(set, c) {
			return c, nil, parameters.ErrSame
		}
		said, err := holdAgainst(f, set.Models[p.newest(set)], p.newest(set), p.force)
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintln(out, said)
	}
	if err := p.keepFitted(set, c, out); err != nil {
		return nil, nil, err
	}
	if p.recency == "auto" {
		probe := *c.Rules
		probe.Recency[0]++ // anything else than what is published, for the gaps
		seen, err := p.moves(ctx, cfg, set, &pipeline.Candidate{Rules: &probe})
		if err != nil {
			return nil, nil, err
		}
		days, enough := pipeline.RecencyOf(seen.GapDays)
		if !enough {
			return nil, nil, errors.New("--recency auto: there are fewer than 100 gaps between two orders of a customer: set rules.recency_days yourself")
		}
		cfg.Rules.RecencyDays = days
		if err := cfg.Validate(); err != nil {
			return nil, nil, usageError{fmt.Errorf("--recency auto gives %v: %w", days, err)}
		}
		fmt.Fprintf(out, "recency_days: [%d, %d, %d, %d]\n", days[0], days[1], days[2], days[3])
		if c, err = p.candidate(cfg, about); err != nil {
			return nil, nil, usageError{err}
		}
	}
	moves, err := p.moves(ctx, cfg, set, c)
	return c, moves, err
}

// keepFitted refuses to put what a file says in the place of what fit has made of a shop, with which its percentiles would go, its calibration
// and its value.
func (p *publishing) keepFitted(set *parameters.Set, c *pipeline.Candidate, out io.Writer) error {
	if c.Model == nil || p.from != "" || p.force {
		return nil
	}
	if runs := set.Models[p.newest(set)]; runs != nil && runs.Origin != nil {
		err := fmt.Errorf("version %d, which runs, was made by fit, which a file cannot be: publish a fit to the new configuration (--from; --force publishes what the file says)", p.newest(set))
		if !p.dry {
			return err
		}
		fmt.Fprintln(out, "this would be refused:", err)
	}
	return nil
}

// sameAs says whether a candidate is what is published already.
func sameAs(set *parameters.Set, c *pipeline.Candidate) bool {
	switch {
	case c == nil:
		return false
	case c.Rules != nil:
		return set.Rules[set.Newest.Rules].Same(c.Rules)
	}
	return set.Models[set.Newest.Model].Same(c.Model)
}

// asked asks a question that y answers with yes.
func asked(in io.Reader, out io.Writer, question string) bool {
	fmt.Fprintf(out, "%s [y/N] ", question)
	line, _ := bufio.NewReader(in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(line), "y")
}
