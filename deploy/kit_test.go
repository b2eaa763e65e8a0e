//go:build deploy

// Tests of what lies in deploy, with the real parts: .ci/deploy-test.sh installs them.
package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// path is a file of the repository.
func path(parts ...string) string {
	at, err := filepath.Abs(filepath.Join(append([]string{".."}, parts...)...))
	if err != nil {
		panic(err)
	}
	return at
}

// binary is asiduo for this machine, as make release makes it; .ci/deploy-test.sh has made it.
func binary(t *testing.T) string {
	t.Helper()
	at := os.Getenv("ASIDUO_BINARY")
	if at == "" {
		t.Fatal("ASIDUO_BINARY is not set: run make deploy-test")
	}
	return at
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return out
}

// try is run for what may fail; then the text is all that was printed.
func try(ctx context.Context, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		return out.String() + faults.String(), err
	}
	return out.String(), nil
}

// server is a process that the test has started and ends by its id.
type server struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
	log   string
}

// start starts a server, which never outlives the test.
func start(t *testing.T, log, name string, args ...string) *server {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := &server{t: t, name: filepath.Base(name), cmd: exec.Command(name, args...), ended: make(chan struct{}), log: log}
	s.cmd.Stdout, s.cmd.Stderr = f, f
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(s.ended); _ = s.cmd.Wait() }()
	t.Cleanup(func() {
		s.kill()
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("log of %s ends with\n%s", s.name, text[max(0, len(text)-2000):])
		}
	})
	return s
}

func (s *server) kill() { _ = s.cmd.Process.Kill(); <-s.ended }

// stop ends the server as an operator does, within the ten seconds that are promised.
func (s *server) stop() time.Duration {
	s.t.Helper()
	began := time.Now()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.t.Errorf("%s is still there 10 s after SIGTERM", s.name)
		s.kill()
	}
	return time.Since(began).Round(time.Millisecond)
}

// address is a loopback address where nobody listens, below the ports that outgoing connections take.
func address(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
		if err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// await waits until a condition holds; it says why it does not yet.
func await(t *testing.T, limit time.Duration, what string, until func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := until()
		if err == nil {
			return time.Since(began).Round(10 * time.Millisecond)
		}
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

var asker = &http.Client{Timeout: 5 * time.Second}

// get is the body of an answer with status 200.
func get(url string) ([]byte, error) {
	resp, err := asker.Get(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

func getJSON(url string, into any) error {
	body, err := get(url)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
