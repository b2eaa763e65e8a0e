package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/pipeline"
)

func newReset() *cobra.Command {
	var file string
	yes, lost := false, false
	cmd := &cobra.Command{
		Use:   "reset -c FILE",
		Short: "Start over from the beginning of the inputs, in a new epoch",
		Long: `reset raises the epoch, which is the second part of event ids, empties the changelog, and so makes the pipeline read its inputs
from their beginning. It says first what subscribers will see, and asks. No process may run meanwhile. A reset that dies in the
middle is completed by another one; until then no process starts.`,
		Example: "  asiduo reset -c asiduo.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			cl, adm, err := admin(cmd.Context(), cfg.Kafka)
			if err != nil {
				return err
			}
			defer cl.Close()
			r, err := pipeline.PlanReset(cmd.Context(), adm, pipeline.Connector(cfg.Kafka), cfg)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			tellReset(out, cfg.App, cfg.Outputs.Profiles, r)
			if gone := r.Lost(); len(gone) > 0 && !lost {
				return fmt.Errorf("%s no longer begin with their first records: the new state will be smaller than the old one. If that is wanted, add --accept-lost-history", strings.Join(gone, ", "))
			}
			if !yes {
				if err := confirm(cmd.InOrStdin(), out, cfg.App); err != nil {
					return err
				}
			}
			r.Step = func(what string) error {
				fmt.Fprintln(out, what)
				return nil
			}
			if err := r.Do(cmd.Context()); err != nil {
				return fmt.Errorf("reset: %w", err)
			}
			fmt.Fprintf(out, "epoch %d begins: start the processes again. Data directories can stay as they are: their stores notice, and are set aside.\n", r.To)
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&lost, "accept-lost-history", false, "go on although inputs have lost their first records")
	return cmd
}

// tellReset says what will be seen.
func tellReset(out io.Writer, app string, profiles bool, r *pipeline.Resetting) {
	if r.Resumed {
		fmt.Fprintf(out, "A reset to epoch %d has begun and is not finished: it will be completed.\n", r.To)
	}
	fmt.Fprintf(out, "Application %s, %d shards: epoch %d ends, epoch %d begins.\n\nThe inputs reach back to:\n", app, r.Shards, r.From, r.To)
	for _, p := range r.Reach {
		since := "no records"
		if !p.Oldest.IsZero() {
			since = p.Oldest.Format(time.RFC3339)
		}
		if p.First > 0 {
			since += fmt.Sprintf("; offsets below %d are gone", p.First)
		}
		fmt.Fprintf(out, "  %s/%d: %s\n", p.Topic, p.Partition, since)
	}
	fmt.Fprintf(out, `
What subscribers will see:
- ids of the new epoch (%s:%d:...), so that nothing is taken for a repeat; sequences begin at 1 again
- the first change of each customer comes with "from": null
`, app, r.To)
	if profiles {
		fmt.Fprintln(out, "- profiles are overwritten one after the other as the inputs are read; those of customers who are not in the inputs any more are removed now, by null values;"+
			" where all records of a customer that are left become dead letters, the old profile stays")
	}
	fmt.Fprint(out, "- what was written before stays where it is; dead letters are written again\n\n")
}

// confirm asks for the name of the application.
func confirm(in io.Reader, out io.Writer, app string) error {
	fmt.Fprintf(out, "Type the name of the application to go on: ")
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != app {
		return errors.New("not confirmed: nothing was done")
	}
	return nil
}
