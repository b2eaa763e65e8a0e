package main

import (
	"io"
	"log/slog"

	"github.com/asiduo/asiduo/config"
)

// newLog is the log of the process. Nothing below least is written, whatever the configuration says.
func newLog(c config.Log, w io.Writer, least slog.Level) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: max(level, least)}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
