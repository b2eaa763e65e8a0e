//go:build synctests

package pipeline_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// historyOf is the file of a seed's history.
func historyOf(seed uint64) string {
	dir := os.Getenv("SIM_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "asiduo-sim")
	}
	return filepath.Join(dir, fmt.Sprintf("seed-%d.log", seed))
}

// record begins the history of the run. It is written as things happen: a panic, a deadlock or a kill leaves it too.
func (w *world) record() {
	w.t.Helper()
	name := historyOf(w.seed)
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		w.history, err = os.Create(name)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprintf(w.history, "%#v\n\n", w.c)
}

// report ends the history of a run that has failed with what was written, and prints what was done.
func (w *world) report() {
	if !w.t.Failed() {
		return
	}
	var b bytes.Buffer
	fmt.Fprintln(&b)
	for _, r := range w.log {
		fmt.Fprintf(&b, "%d %#v\n", r.known, r.Record)
	}
	w.tail.mu.Lock()
	for at, rs := range w.tail.all {
		for _, r := range rs {
			fmt.Fprintf(&b, "%s/%d@%d producer %d.%d control %t %q %q\n", at.topic, at.partition, r.Offset, r.ProducerID, r.ProducerEpoch, r.Attrs.IsControl(), r.Key, r.Value)
		}
	}
	w.tail.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.history.Write(b.Bytes())
	w.t.Logf("seed %d, again with make sim SEED=%d; history in %s (%v)\n%s", w.seed, w.seed, w.history.Name(), err, strings.Join(w.events, "\n"))
}

// note writes down what is done.
func (w *world) note(format string, args ...any) {
	text := fmt.Sprintf("%9.3fs  %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, text)
	fmt.Fprintln(w.history, text)
}

// logger keeps what the processes say, and counts what must be said in some seed.
type logger struct {
	w     *world
	name  string
	attrs []slog.Attr
}

func (l *logger) Enabled(context.Context, slog.Level) bool { return true }
func (l *logger) WithGroup(string) slog.Handler            { return l }
func (l *logger) WithAttrs(a []slog.Attr) slog.Handler {
	return &logger{l.w, l.name, slices.Concat(l.attrs, a)}
}

func (l *logger) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	attrs := map[string]string{}
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		fmt.Fprintf(&text, " %s=%v", a.Key, a.Value)
		return true
	})
	if r.Level >= slog.LevelInfo {
		for what, is := range sayings {
			if is(r.Message, attrs) {
				l.w.hit(what)
			}
		}
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	fmt.Fprintf(l.w.history, "%9.3fs  %s: %s%s\n", time.Since(l.w.began).Seconds(), l.name, r.Message, text.String())
	return nil
}
