package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// peer is how one of those who are compared is built and begun.
type peer struct {
	name    string
	project string   // to be built by Maven, below bench/peers; empty: none
	java    []string // what the JVM is told
	args    []string // of the program
	output  string   // its topic, %s the group
	group   string   // which commits how far it is, %s its own; empty: that
	check   []string // how what it has written is judged
}

const quietLog = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"

// The JVMs have a heap of fixed size, and the collector with the least work.
var (
	streams = []string{quietLog, "-XX:+UseParallelGC", "-Xms1g", "-Xmx1g"}
	flink   = []string{quietLog, "-XX:+UseParallelGC", "-Xms2g", "-Xmx2g",
		"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
		"--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED"}
)

var peers = []peer{
	{name: "asiduo", output: "%s.segment-changes", group: "%s-progress", check: []string{"-final"}},
	{name: "kafka-streams", project: "kafka-streams", java: streams, output: "%s-out"},
	{name: "flink-rocksdb", project: "flink", java: flink, args: []string{"rocksdb"}, output: "%s-out"},
	{name: "flink-heap", project: "flink", java: flink, args: []string{"heap"}, output: "%s-out"},
	{name: "pebble-naive", args: []string{"-pebble"}, output: "%s-out"},
	{name: "raw", output: "%s-out", check: []string{"-count"}},
}

func names() (all []string) {
	for _, p := range peers {
		all = append(all, p.name)
	}
	return all
}

func (o *options) find(name string) peer {
	return peers[slices.IndexFunc(peers, func(p peer) bool { return p.name == name })]
}

func (o *options) binary(name string) string { return filepath.Join(o.work, "bin", name) }

func (o *options) sources() string { return filepath.Join(o.root, "bench", "peers") }

func (o *options) expectation() string { return filepath.Join(o.work, "expected") }

// build makes the programs that are needed.
func (o *options) build(ctx context.Context) error {
	bin := filepath.Join(o.work, "bin") + string(filepath.Separator)
	if err := o.in(ctx, o.root, "go", "build", "-o", bin, "./bench/asiduo"); err != nil {
		return err
	}
	if err := o.in(ctx, o.sources(), "go", "build", "-o", bin, "./gen", "./check", "./raw"); err != nil {
		return err
	}
	for _, name := range o.peers {
		if p := o.find(name); p.project != "" {
			if err := o.in(ctx, filepath.Join(o.sources(), p.project), "mvn", "-q", "-B", "-Dstyle.color=never", "package"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *options) in(ctx context.Context, dir string, command ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) // #nosec G204 -- build tools
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s in %s: %w", strings.Join(command, " "), dir, err)
	}
	return nil
}

// tool runs one of the helpers and returns what it says.
func (o *options) tool(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, o.binary(name), args...) // #nosec G204 -- built above
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), nil
}

// command begins a peer; the raw limit is to write as much as the job does.
func (o *options) command(p peer, wanted int) []string {
	switch {
	case p.project != "":
		target := filepath.Join(o.sources(), p.project, "target")
		java := append([]string{"java"}, p.java...)
		return slices.Concat(java, []string{"-cp", filepath.Join(target, "peer.jar") + ":" + filepath.Join(target, "libs", "*"), "peers.Main"}, p.args)
	case p.name == "asiduo":
		return []string{o.binary("asiduo")}
	}
	return append([]string{o.binary("raw"), "-outputs", strconv.Itoa(wanted), "-events", strconv.Itoa(o.events)}, p.args...)
}

// number is the value of a word such as outputs=12.
func number(text, key string) (float64, error) {
	for word := range strings.FieldsSeq(text) {
		if v, found := strings.CutPrefix(word, key+"="); found {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, fmt.Errorf("no %s in %q", key, text)
}
