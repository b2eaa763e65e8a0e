package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/archive"
)

func newImport() *cobra.Command {
	var file, from string
	yes := false
	cmd := &cobra.Command{
		Use:   "import -c FILE --snapshot DIR",
		Short: "Fill a changelog that was lost from a snapshot",
		Long: `import is for the total loss of the changelog. It writes the state of a Parquet snapshot into the new, empty changelog
("asiduo init" makes it); the processes then go on from where the inputs were when the snapshot was made. No process may run meanwhile.
An import that dies in the middle is completed by another one; until then no process starts.`,
		Example: "  asiduo import -c asiduo.yaml --snapshot archive/snapshots/dt=2026-06-01",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			loaded, err := archive.Load(cmd.Context(), from)
			if err != nil {
				return err
			}
			cl, adm, err := admin(cmd.Context(), cfg.Kafka)
			if err != nil {
				return err
			}
			defer cl.Close()
			m, err := pipeline.PlanImport(cmd.Context(), adm, pipeline.Connector(cfg.Kafka), cfg, snapshotOf(cmd.Context(), from, loaded))
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if m.Resumed {
				fmt.Fprintf(out, "An import of %s has begun and is not finished: it will be completed.\n", from)
			}
			fmt.Fprintf(out, `Application %s, epoch %d: %d customers as of %s.

What subscribers will see:
- %d records of the inputs came after the snapshot and are processed again
- their changes come again, under the same ids and sequences: subscribers drop them as repeats by id
- profiles go back to the snapshot and forward again, only for customers whom those records or silence touch
- dead letters of those records are written again

`, cfg.App, m.Epoch, loaded.Rows, loaded.Time, m.Again)
			if !yes {
				if err := confirm(cmd.InOrStdin(), out, cfg.App); err != nil {
					return err
				}
			}
			m.Step = func(what string) error {
				fmt.Fprintln(out, what)
				return nil
			}
			if err := m.Do(cmd.Context()); err != nil {
				return fmt.Errorf("import: %w", err)
			}
			fmt.Fprintln(out, "imported: start the processes again. Data directories can stay as they are: their stores notice, and are set aside.")
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&from, "snapshot", "", "directory of the snapshot, such as archive/snapshots/dt=2026-06-01")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	_ = cmd.MarkFlagRequired("snapshot")
	return cmd
}

// snapshotOf is a loaded snapshot as the pipeline imports it.
func snapshotOf(ctx context.Context, name string, l *archive.Loaded) pipeline.Snapshot {
	s := pipeline.Snapshot{App: l.App, Name: name, Digest: l.Digest}
	for _, p := range l.Parts {
		s.Parts = append(s.Parts, pipeline.SnapshotPart{
			Checkpoint: p.Checkpoint(),
			Records:    l.Records(ctx, p.Shard),
		})
	}
	return s
}
