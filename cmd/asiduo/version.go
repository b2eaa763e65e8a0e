package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

// version is set by releases: -ldflags "-X main.version=1.2.3".
var version = ""

// build is what is running.
type build struct {
	Version     string   `json:"version"`
	Revision    string   `json:"revision"`
	Modified    bool     `json:"modified"` // the source had changes that were not committed
	Go          string   `json:"go"`
	Platform    string   `json:"platform"`
	StateFormat int      `json:"state_format"`
	Schemas     []string `json:"event_schemas"` // of what is written, as segment-change.v1
	Kafka       string   `json:"franz_go"`
	Pebble      string   `json:"pebble"`
}

func buildInfo() build {
	b := build{Version: version, Revision: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, StateFormat: state.Format}
	b.Schemas, _ = fs.Glob(events.Schemas(), "*") // which fails only for a wrong pattern
	for i, name := range b.Schemas {
		b.Schemas[i] = strings.TrimSuffix(name, ".schema.json")
	}
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
		Use:   "version",
		Short: "Say what is running",
		Long: `version says what is running: release, commit, Go and platform, the format of stored state, the schemas of the events, and
the versions of franz-go and Pebble.`,
		Example: "  asiduo version --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := buildInfo()
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "asiduo %s (%s, %s, %s), state format %d, events %s, franz-go %s, pebble %s\n",
				b.Version, b.Revision, b.Go, b.Platform, b.StateFormat, strings.Join(b.Schemas, " "), b.Kafka, b.Pebble)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
