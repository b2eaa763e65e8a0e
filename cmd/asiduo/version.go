package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/state"
)

// version is set by releases: -ldflags "-X main.version=1.2.3".
var version = ""

// build is what is running.
type build struct {
	Version     string `json:"version"`
	Revision    string `json:"revision"`
	Modified    bool   `json:"modified"` // the source had changes that were not committed
	Go          string `json:"go"`
	Platform    string `json:"platform"`
	StateFormat int    `json:"state_format"`
	Kafka       string `json:"franz_go"`
	Pebble      string `json:"pebble"`
}

func buildInfo() build {
	b := build{Version: version, Revision: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, StateFormat: state.Format}
	info, ok := debug.ReadBuildInfo()
	if ok {
		if b.Version == "" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Revision = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/twmb/franz-go":
				b.Kafka = m.Version
			case "github.com/cockroachdb/pebble/v2":
				b.Pebble = m.Version
			}
		}
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	return b
}

func newVersion() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Say what is running",
		Example: "  asiduo version --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := buildInfo()
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "asiduo %s (%s, %s, %s), state format %d, franz-go %s, pebble %s\n",
				b.Version, b.Revision, b.Go, b.Platform, b.StateFormat, b.Kafka, b.Pebble)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
