package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

func newCheck() *cobra.Command {
	var file string
	connect, schema := false, false
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check the configuration and prove the rule set",
		Long: `check reads the configuration, reports every fault at once as file:line:col, proves the rule set (every combination of scores
belongs to exactly one segment, every segment can be reached, silence never improves a segment), and prints the effective
configuration with defaults, secrets hidden. With --connect it also looks at the brokers and topics.`,
		Example: "  asiduo check -c asiduo.yaml\n  asiduo check -c asiduo.yaml --connect\n  asiduo check --schema > asiduo.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if schema {
				text, err := config.Schema()
				if err != nil {
					return err
				}
				_, err = out.Write(text)
				return err
			}
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			params, err := pipeline.FirstParameters(cfg)
			if err != nil {
				return err
			}
			if err := config.Print(out, cfg); err != nil {
				return err
			}
			fmt.Fprintf(out, "# rule set %s is total and unambiguous, every segment can be reached, silence never improves one; best first:\n#   %s\n",
				params.Rules.Name, strings.Join(params.Rules.Segments(), " > "))
			printCube(out, "# ", params.Rules)
			if !connect {
				return nil
			}
			cl, adm, err := admin(cmd.Context(), cfg.Kafka)
			if err != nil {
				return err
			}
			defer cl.Close()
			if err := pipeline.Allowed(cmd.Context(), cl, cfg, "run"); err != nil {
				return err
			}
			shards, err := topics(cmd.Context(), out, "# warning:", adm, cfg)
			if err != nil {
				return err
			}
			for _, w := range pipeline.Retention(cmd.Context(), adm, cfg) {
				fmt.Fprintln(out, "# warning:", w)
			}
			fmt.Fprintf(out, "# brokers answer, all topics are there, %d shards\n", shards)
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&connect, "connect", false, "look at the brokers and topics too")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of the configuration and nothing else")
	return cmd
}
