package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/asiduo/asiduo/bench/measure"
)

// All outputs and the models of the defaults; everything is news, also what happened weeks ago.
const configuration = `app: %[1]s
currency: EUR
kafka: {brokers: [%[2]q]}
inputs: {purchases: %[1]s-purchases, interactions: %[1]s-interactions}
shards: %[3]d
time: {live_from: "2000-01-01T00:00:00Z", announce_late_over: 36500d}
outputs: {replication_factor: 1}
state: {dir: %[4]q}
archive: {dir: %[5]q, every: 0}
api: {listen: ""}
admin: {listen: %[6]q}
log: {format: json}
%[7]s
`

// shards are as many as the inputs have partitions, where a workload does not say otherwise.
const shards = 4

// engine is asiduo, run as a user runs it.
type engine struct {
	o        *options
	app, dir string
	shards   int
	more     string // of the configuration
	cmd      *exec.Cmd
	ended    chan struct{}
	began    time.Time
	lives    int
	admin    string // host:port of the running process
}

// newEngine makes the topics of an application.
func newEngine(ctx context.Context, o *options, app string, shards int, more string) (*engine, error) {
	e := &engine{o: o, app: app, dir: filepath.Join(o.work, app), shards: shards, more: more, admin: "127.0.0.1:0"}
	for _, topic := range []string{e.purchases(), e.interactions()} {
		if err := o.broker.Create(ctx, topic, shards); err != nil {
			return nil, err
		}
	}
	if err := e.prepare(); err != nil {
		return nil, err
	}
	_, err := e.command(ctx, "run", "init")
	return e, err
}

// mate is another process of the same application.
func (e *engine) mate() (*engine, error) {
	m := &engine{o: e.o, app: e.app, dir: e.dir + "-mate", shards: e.shards, more: e.more, admin: "127.0.0.1:0"}
	return m, m.prepare()
}

func (e *engine) prepare() error {
	if err := os.Mkdir(e.dir, 0o700); err != nil {
		return err
	}
	return e.configure("run")
}

func (e *engine) purchases() string     { return e.app + "-purchases" }
func (e *engine) interactions() string  { return e.app + "-interactions" }
func (e *engine) topic(n string) string { return e.app + "." + n }
func (e *engine) data() string          { return filepath.Join(e.dir, "data") }
func (e *engine) archive() string       { return filepath.Join(e.dir, "archive") }

// configure writes a configuration. That of the process lets the system choose the port, that of the tools names it.
func (e *engine) configure(name string) error {
	text := fmt.Sprintf(configuration, e.app, e.o.broker.Address, e.shards, e.data(), e.archive(), e.admin, e.more)
	return os.WriteFile(filepath.Join(e.dir, name+".yaml"), []byte(text), 0o600)
}

// command runs one of asiduo's commands and returns what it prints.
func (e *engine) command(ctx context.Context, config string, args ...string) (string, error) {
	args = append(args, "-c", filepath.Join(e.dir, config+".yaml"))
	cmd := exec.CommandContext(ctx, e.o.binary("asiduo"), args...) // #nosec G204 -- built by us
	var told bytes.Buffer
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asiduo %v: %w: %s%s", args, err, out, told.String())
	}
	return string(out), nil
}

// tool is a command that asks the running process.
func (e *engine) tool(ctx context.Context, args ...string) (string, error) {
	return e.command(ctx, "tools", args...)
}

// start begins the process and waits until it listens.
func (e *engine) start(ctx context.Context) error {
	e.lives++
	log, err := os.Create(e.logFile())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	e.cmd = exec.CommandContext(ctx, e.o.binary("asiduo"), "run", "-c", filepath.Join(e.dir, "run.yaml")) // #nosec G204 -- built by us
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.began = time.Now()
	if err := e.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := e.cmd, make(chan struct{})
	e.ended = ended
	go func() {
		_ = cmd.Wait() // its log says why
		close(ended)
	}()
	return e.until(ctx, "listen", 20*time.Millisecond, func() (bool, error) {
		for _, l := range e.log("listening") {
			if l.What == "admin" {
				e.admin = strings.TrimPrefix(l.URL, "http://")
				return true, e.configure("tools")
			}
		}
		return false, nil
	})
}

func (e *engine) pid() int        { return e.cmd.Process.Pid }
func (e *engine) cpu() float64    { return measure.CPU(e.pid()) }
func (e *engine) peak() float64   { return measure.Status(e.pid(), "VmHWM:") / 1024 }
func (e *engine) logFile() string { return filepath.Join(e.dir, fmt.Sprintf("run-%d.log", e.lives)) }

// stop ends the process as an operator would.
func (e *engine) stop() {
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-e.ended:
	case <-time.After(20 * time.Second):
		e.kill()
	}
}

func (e *engine) kill() {
	_ = e.cmd.Process.Kill()
	<-e.ended
}

// remove ends the process, if it still runs, and throws its data away.
func (e *engine) remove() {
	if e.cmd != nil && e.cmd.Process != nil {
		e.kill()
	}
	_ = os.RemoveAll(e.dir)
}

// until waits for something that the process does.
func (e *engine) until(ctx context.Context, what string, every time.Duration, reached func() (bool, error)) error {
	for limit := time.Now().Add(e.o.limit); ; {
		if ok, err := reached(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.ended:
			return e.broken(errors.New("it has ended before: " + what))
		case <-time.After(every):
		}
		if time.Now().After(limit) {
			return e.broken(errors.New("it takes too long: " + what))
		}
	}
}

// broken is what is wrong, and what the process has said last.
func (e *engine) broken(why error) error {
	text, _ := os.ReadFile(e.logFile())
	return fmt.Errorf("%w\n%s", why, text[max(0, len(text)-2000):])
}

// line is what the log of a process says that matters here.
type line struct {
	Message string        `json:"msg"`
	What    string        `json:"what"`
	URL     string        `json:"url"`
	Shard   int           `json:"shard"`
	Records int64         `json:"records"`
	Took    time.Duration `json:"took"`
}

// log are the lines of this life of the process with a message.
func (e *engine) log(message string) (found []line) {
	text, _ := os.ReadFile(e.logFile())
	for raw := range bytes.Lines(text) {
		var l line
		if json.Unmarshal(raw, &l) == nil && l.Message == message {
			found = append(found, l)
		}
	}
	return found
}

// figures are the process's metrics, by name with labels.
type figures map[string]float64

// metrics asks the process. That costs it some milliseconds of CPU, so nobody should ask often.
func (e *engine) metrics(ctx context.Context) (figures, error) {
	text, err := get(ctx, "http://"+e.admin+"/metrics")
	if err != nil {
		return nil, e.broken(err)
	}
	f := figures{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		l := s.Bytes()
		if i := bytes.LastIndexByte(l, ' '); i > 0 && l[0] != '#' {
			var v float64
			if _, err := fmt.Sscan(string(l[i+1:]), &v); err == nil {
				f[string(l[:i])] = v
			}
		}
	}
	if len(f) == 0 {
		return nil, errors.New("no metrics")
	}
	return f, nil
}

// of are the values of all series of a metric; labels, such as state="running", choose among them.
func (f figures) of(name string, labels ...string) (all []float64) {
	for series, v := range f {
		rest, found := cut(series, name)
		if found && !slices.ContainsFunc(labels, func(l string) bool { return !bytes.Contains([]byte(rest), []byte(l)) }) {
			all = append(all, v)
		}
	}
	return all
}

func (f figures) sum(name string, labels ...string) (n float64) {
	for _, v := range f.of(name, labels...) {
		n += v
	}
	return n
}
