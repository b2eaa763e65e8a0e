//go:build kafka

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/asiduo/asiduo/config"
)

// binary is the program under test; .ci/kafka-test.sh has built it.
func binary(t testing.TB) string {
	t.Helper()
	if at := os.Getenv("ASIDUO_BINARY"); at != "" {
		return at
	}
	at := filepath.Join(t.TempDir(), "asiduo")
	if out, err := exec.Command("go", "build", "-o", at, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return at
}

// freeAddress is a loopback address where nobody listens, below the ports that outgoing connections take. It is held
// for the cluster of these tests, also while nobody listens there, in the way of kafka.sh's hold_ports: neither the
// cluster nor tests that run on the same machine take it. "kafka.sh stop" lets it go. Where links cannot be made it is
// free and not held.
func freeAddress(t testing.TB) string {
	t.Helper()
	run := os.Getenv("ASIDUO_KAFKA_RUN")
	if run == "" {
		t.Fatal("ASIDUO_KAFKA_RUN is not set: run make kafka-test")
	}
	held := fmt.Sprintf("asiduo-ports-%d", os.Getuid())
	for range 5000 {
		port := 20000 + rand.IntN(12000)
		err := os.Symlink(run, filepath.Join("/tmp", held, strconv.Itoa(port)))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			err = os.Symlink(run, filepath.Join(os.TempDir(), held, strconv.Itoa(port)))
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().String()
		}
	}
	t.Fatalf("no free port; links in %s hold them", held)
	return ""
}

// process is one instance: a data directory, listeners and, while it runs, an operating system process.
type process struct {
	t      testing.TB
	binary string
	file   string // configuration
	cfg    config.Config
	print  func(io.Writer, config.Config) error
	log    string

	cmd   *exec.Cmd
	began time.Time
	from  int64 // where in the log what it says begins
	ended chan struct{}
	over  time.Time // when it has ended, by whoever waits for nothing else
	err   error     // of the process, when it has ended
}

// newProcess makes an instance that does not run yet; brokers are those of the world unless it has a way of its own to
// them. It never outlives the test.
func newProcess(t testing.TB, w *world, name string, brokers ...string) *process {
	t.Helper()
	dir := filepath.Join(w.dir, name)
	p := &process{t: t, binary: w.binary, file: dir + ".yaml", log: dir + ".log", cfg: w.cfg, print: w.print}
	p.cfg.State.Dir, p.cfg.API.Listen, p.cfg.Admin.Listen = dir, freeAddress(t), freeAddress(t)
	if len(brokers) > 0 {
		p.cfg.Kafka.Brokers = brokers
	}
	p.configure(func(*config.Config) {})
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			if text, err := os.ReadFile(p.log); err == nil {
				t.Logf("log of %s ends with\n%s", name, text[max(0, len(text)-3000):])
			}
		}
	})
	return p
}

// configure writes another configuration for the next start.
func (p *process) configure(change func(*config.Config)) {
	p.t.Helper()
	change(&p.cfg)
	var text bytes.Buffer
	if err := p.print(&text, p.cfg); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.file, text.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// start runs the instance.
func (p *process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if p.from, err = log.Seek(0, io.SeekEnd); err != nil {
		p.t.Fatal(err)
	}
	cmd, ended := exec.Command(p.binary, "run", "-c", p.file), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.ended, p.began = cmd, ended, time.Now()
	go func() { defer close(ended); p.err = cmd.Wait(); p.over = time.Now() }()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%v: %v", s, err)
	}
}

// kill ends the instance as a crash of the machine would, but for what the kernel has yet to write.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		<-p.ended
		p.cmd = nil
	}
}

// stop ends the instance as an operator does, and returns how long that took.
func (p *process) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		if p.err != nil {
			p.t.Errorf("after SIGTERM: %v", p.err)
		}
	case <-time.After(10 * time.Second):
		p.t.Errorf("still there 10 s after SIGTERM")
		p.kill()
	}
	p.cmd = nil
	return time.Since(began)
}

// command runs another command with the instance's configuration, and returns what it prints.
func (p *process) command(args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), p.binary, append(args, "-c", p.file)...)
	var out, fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &fault
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("asiduo %v: %v\n%s", args, err, fault.String())
	}
	return out.String()
}

// shardAnswer is what an instance says about one of its shards.
type shardAnswer struct {
	Shard   int32      `json:"shard"`
	State   string     `json:"state"`
	Cycle   uint64     `json:"cycle"`
	Horizon *time.Time `json:"horizon"`
}

// shards asks a running instance; nothing while it does not answer.
func (p *process) shards() (list []shardAnswer) {
	var answer struct {
		Shards []shardAnswer `json:"shards"`
	}
	if p.cmd == nil {
		return nil
	}
	body, status := p.get(p.cfg.Admin.Listen, "/v1/shards")
	if status != http.StatusOK || json.Unmarshal([]byte(body), &answer) != nil {
		return nil
	}
	return answer.Shards
}

var askOnce = &http.Client{
	Timeout:       2 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableKeepAlives: true},
}

// get asks once; status 0: no answer. The body of a redirect is where to.
func (p *process) get(at, path string) (body string, status int) {
	resp, err := askOnce.Get("http://" + at + path)
	if err != nil {
		return "", 0
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusTemporaryRedirect {
		return resp.Header.Get("Location"), resp.StatusCode
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", 0
	}
	return string(text), resp.StatusCode
}

// serving are the shards that each instance says it runs. They are asked at once: a frozen one answers nothing until
// the time is out.
func serving(all ...*process) [][]int32 {
	var asked sync.WaitGroup
	by := make([][]int32, len(all))
	for i, p := range all {
		asked.Go(func() {
			for _, s := range p.shards() {
				if s.State == "running" {
					by[i] = append(by[i], s.Shard)
				}
			}
		})
	}
	asked.Wait()
	return by
}

// await waits until a condition holds, and returns how long that took.
func await(t testing.TB, limit time.Duration, what string, until func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !until() {
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began).Round(10 * time.Millisecond)
}

// awaitAll waits until the instances together run all shards, none of them twice, each instance at least so many.
func awaitAll(t testing.TB, limit time.Duration, what string, each int, all ...*process) time.Duration {
	t.Helper()
	return await(t, limit, what, func() bool {
		var shards []int32
		for _, mine := range serving(all...) {
			if len(mine) < each {
				return false
			}
			shards = append(shards, mine...)
		}
		slices.Sort(shards)
		return slices.Equal(shards, []int32{0, 1, 2, 3})
	})
}

// awaitCycles waits until every shard has committed more than it had.
func awaitCycles(t testing.TB, limit time.Duration, before []shardAnswer, p *process) time.Duration {
	t.Helper()
	return await(t, limit, "new cycles", func() bool {
		now := p.shards()
		return len(now) == len(before) && !slices.ContainsFunc(now, func(s shardAnswer) bool {
			return slices.ContainsFunc(before, func(b shardAnswer) bool { return b.Shard == s.Shard && b.Cycle >= s.Cycle })
		})
	})
}

// kafkaScript does something to the broker that the tests run on.
func kafkaScript(t testing.TB, what string, more ...string) {
	t.Helper()
	run := os.Getenv("ASIDUO_KAFKA_RUN")
	if run == "" {
		t.Fatal("ASIDUO_KAFKA_RUN is not set: run make kafka-test")
	}
	cmd := exec.Command("bash", append([]string{filepath.Join("..", "..", "deploy", "kafka", "kafka.sh"), what, run}, more...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kafka.sh %s: %v\n%s", what, err, out)
	}
}
