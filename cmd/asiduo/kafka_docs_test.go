//go:build kafka

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/asiduo/asiduo/config"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestKafkaDocs does what docs/operating.md says, block after block, in an empty directory.
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
		if err := deleteTopics(context.Background(), adm, cfg); err != nil {
			t.Error(err)
		}
		cl.Close()
	})
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	kafka, err := filepath.Abs("../../deploy/kafka/kafka.sh")
	if err != nil {
		t.Fatal(err)
	}
	tool := fmt.Sprintf("#!/bin/sh\nexec bash %s tool org.apache.kafka.tools.TopicCommand \"$@\"\n", kafka)
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "kafka-topics.sh"), []byte(tool), 0o755); err != nil {
		t.Fatal(err)
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
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	port := func() string { _, port, _ := strings.Cut(freeAddress(t), ":"); return port }
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "bootstrap="+broker[0], "api="+port(), "admin="+port())
	out, err := cmd.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "run.log"))
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "=== all was done") || strings.Count(string(out), `"orders_lifetime":2`) < 4 {
		t.Fatalf("%v\n%s\nlog:\n%s", err, out, log)
	}
	t.Logf("%d blocks\n%s", len(blocks), out)
}
