//go:build kafka

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/asiduo/asiduo/config"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestKafkaDocs does what docs/operating.md says, block after block, in an empty directory, and then what docs/subscribing.md does.
func TestKafkaDocs(t *testing.T) {
	broker := realBroker(t)
	cfg, err := config.Parse("docs.yaml", []byte("app: shop\ncurrency: EUR\nkafka: {brokers: ["+broker[0]+"]}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	cl, adm, err := admin(t.Context(), cfg.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := deleteTopics(context.Background(), adm, cfg)
		groups, err2 := adm.ListGroups(context.Background()) // Kafka's consumer takes a name by chance
		gone, err3 := adm.DeleteGroups(context.Background(), slices.DeleteFunc(groups.Groups(), func(g string) bool { return !strings.HasPrefix(g, "console-consumer-") })...)
		if err := errors.Join(err, err2, err3, gone.Error()); err != nil {
			t.Error(err)
		}
		cl.Close()
	})
	var page []byte
	for _, name := range []string{"operating", "subscribing"} {
		text, err := os.ReadFile("../../docs/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		page = append(page, text...)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	kafka, err := filepath.Abs("../../deploy/kafka/kafka.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, class := range map[string]string{"kafka-topics.sh": "TopicCommand", "kafka-console-consumer.sh": "consumer.ConsoleConsumer"} {
		tool := fmt.Sprintf("#!/bin/sh\nexec bash %s tool org.apache.kafka.tools.%s \"$@\"\n", kafka, class)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(binary(t), filepath.Join(bin, "asiduo")); err != nil {
		t.Fatal(err)
	}
	var script bytes.Buffer
	script.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n")
	blocks := shellBlock.FindAllSubmatch(page, -1)
	for _, b := range blocks {
		fmt.Fprintf(&script, "echo '=== %s'\n%s", strings.ReplaceAll(strings.SplitN(string(b[1]), "\n", 2)[0], "'", ""), b[1])
	}
	script.WriteString("echo '=== all was done'\n")
	out, err := shell(t, dir, script.String(), "PATH="+bin+":"+os.Getenv("PATH"), "bootstrap="+broker[0], "api="+freePort(t), "admin="+freePort(t))
	log, _ := os.ReadFile(filepath.Join(dir, "run.log"))
	if err != nil || !strings.HasSuffix(strings.TrimSpace(out), "=== all was done") || strings.Count(out, `"orders_lifetime":2`) < 4 || !strings.Contains(out, "ce_type:io.asiduo.profile.v1") {
		t.Fatalf("%v\n%s\nlog:\n%s", err, out, log)
	}
	t.Logf("%d blocks\n%s", len(blocks), out)
}

// shell runs a script in a directory, and ends all that it has begun when it takes too long.
func shell(t *testing.T, dir, script string, env ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.WaitDelay, cmd.Env = dir, 10*time.Second, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func freePort(t *testing.T) string {
	t.Helper()
	_, port, _ := strings.Cut(freeAddress(t), ":")
	return port
}

// TestKafkaReadme does what README says of a real Kafka, in a copy of the tree, and sends the order that it shows.
func TestKafkaReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := strings.Cut(string(readme), "## Ten minutes to a real Kafka\n")
	page, _, found := strings.Cut(page, "\n## ")
	order := regexp.MustCompile(`(?s)` + "```json\n *(.*?)\n").FindStringSubmatch(page)
	if !found || order == nil {
		t.Fatal("README has no such section, or no order in it")
	}
	tree := t.TempDir()
	for _, part := range []string{"go.mod", "go.sum", "cmd", "config", "deploy", "pipeline", "sinks", "state"} {
		if out, err := exec.Command("cp", "-r", filepath.Join("..", "..", part), tree).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	var script strings.Builder
	script.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; deploy/kafka/kafka.sh stop \"$run\"' EXIT\n")
	for _, b := range shellBlock.FindAllStringSubmatch(page, -1) {
		script.WriteString(b[1])
	}
	api := "127.0.0.1:" + freePort(t)
	done := strings.NewReplacer(
		"127.0.0.1:8080", api, // somebody may listen there on this machine
		"> asiduo.yaml\n", fmt.Sprintf("> asiduo.yaml\nprintf 'api: {listen: %q}\\nadmin: {listen: %q}\\n' >> asiduo.yaml\n", api, "127.0.0.1:"+freePort(t)),
		"kill %1", fmt.Sprintf("echo '%s' > order.jsonl\n./asiduo replay -c asiduo.yaml order.jsonl\n"+
			"until curl -s %s/v1/customers/12347 | grep -F 2026-05-01T10:00:00; do sleep 0.2; done\nkill %%1", order[1], api),
	).Replace(script.String())
	out, err := shell(t, tree, done)
	if err != nil || !strings.Contains(out, "2026-05-01T10:00:00") {
		t.Fatalf("%v\n%s\n\n%s", err, done, out)
	}
}
