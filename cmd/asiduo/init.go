package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

func newInit() *cobra.Command {
	var file string
	var acls aclFlags
	dry := false
	cmd := &cobra.Command{
		Use:   "init -c FILE",
		Short: "Create the topics of the pipeline",
		Long: `init creates the topics that the pipeline owns, each with one partition per shard and the settings it needs, and prints them.
The inputs must be there: the number of shards follows from their partitions (shards in the configuration, else that of
topics that exist, else the smallest common divisor of at least 8, else the greatest). What exists is left as it is;
init ends with an error if that is kept by fewer brokers than outputs.replication_factor says.
With --acls it asks nobody: it prints the least rights that the processes and that init itself need where brokers ask who is there.`,
		Example: "  asiduo init -c asiduo.yaml --dry-run\n  asiduo init -c asiduo.yaml\n  asiduo init -c asiduo.yaml --acls --principal User:shop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if err := acls.check(cfg); err != nil {
				return err
			}
			if acls.print {
				return acls.write(cmd.OutOrStdout(), cfg)
			}
			cl, adm, err := admin(cmd.Context(), cfg.Kafka)
			if err != nil {
				return err
			}
			defer cl.Close()
			if err := pipeline.Allowed(cmd.Context(), cl, cfg, "init"); err != nil {
				return err
			}
			counts, err := pipeline.InputPartitions(cmd.Context(), adm, cfg)
			if err != nil {
				return err
			}
			wanted := cfg.Shards
			if wanted == 0 {
				if wanted, err = pipeline.ShardsOf(cmd.Context(), adm, cfg); err != nil {
					return err
				}
			}
			shards, err := pipeline.ChooseShards(wanted, counts)
			if err != nil {
				return usageError{err}
			}
			var created []string
			if !dry {
				if created, err = pipeline.Init(cmd.Context(), adm, cfg, shards, 1); err != nil {
					return err
				}
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%d shards\n", shards)
			printTopics(out, cfg, created, dry)
			if dry {
				return nil
			}
			_, err = topics(cmd.Context(), out, "warning:", adm, cfg)
			return err
		},
	}
	configFlag(cmd, &file)
	acls.add(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be done and do nothing")
	return cmd
}

// topics proves that the topics are there, fit and are kept by enough brokers, and prints what else they should be.
func topics(ctx context.Context, out io.Writer, mark string, adm *kadm.Client, cfg config.Config) (shards int32, err error) {
	shards, warnings, err := pipeline.Layout(ctx, adm, cfg)
	for _, w := range warnings {
		fmt.Fprintln(out, mark, w)
	}
	if err != nil {
		return 0, err
	}
	return shards, pipeline.Durable(ctx, adm, cfg)
}

// printTopics says what init did with each topic, or would do.
func printTopics(out io.Writer, cfg config.Config, created []string, dry bool) {
	for _, t := range pipeline.OwnTopics(cfg) {
		what := "exists"
		switch {
		case slices.Contains(created, t.Name):
			what = "created"
		case dry:
			what = "would be created unless it exists"
		}
		fmt.Fprintf(out, "%s: %s\n", t.Name, what)
		if what == "exists" {
			continue // its settings may be others: warnings tell
		}
		settings := t.SettingsFor(cfg)
		for _, k := range slices.Sorted(maps.Keys(settings)) {
			fmt.Fprintf(out, "  %s=%s\n", k, settings[k])
		}
	}
}
