//go:build kafka

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inflictBroker kills or freezes a broker. One of three at a time: with two left everything must go on.
func (a *arena) inflictBroker(p planned) bool {
	if !a.broker.TryLock() {
		return false
	}
	node := strconv.Itoa(1 + p.process%a.brokers)
	a.busy.Go(func() {
		defer a.broker.Unlock()
		a.note(p.kind, "broker "+node, false)
		pid, err := brokerPID(node)
		if err != nil { // the restart below heals it for those who come later
			a.t.Error(err)
		}
		away, after := between(time.Second, 8*time.Second, p.long), between(4*time.Second, 10*time.Second, p.long)
		if p.kind == "broker-freeze-short" {
			away, after = between(2550*time.Millisecond, 2950*time.Millisecond, p.long), between(500*time.Millisecond, 1500*time.Millisecond, p.long)
		}
		if p.kind != "broker-kill" && err == nil {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			time.Sleep(away)
			_ = syscall.Kill(pid, syscall.SIGCONT)
		} else {
			if err == nil {
				if err := runKafka("kill", node); err != nil {
					a.t.Error(err)
				}
			}
			time.Sleep(between(0, 4*time.Second, p.long))
			if err := runKafka("restart", node); err != nil {
				a.t.Errorf("the broker does not come back: %v", err)
			}
		}
		time.Sleep(after)
	})
	return true
}

// TestBrokerFreezes runs processes on a broker that stands still again and again for a little less than its session of 3 s
// (server.properties.in), with its last heartbeat some time before. It is often fenced then for some milliseconds, in which its
// partitions have no leader, and Kafka 4 leaves out the markers of transactions that it says are committed. Whether a shard ends
// one just then is luck: a run that has seen none says that it is no proof, and .ci/kafka-test.sh draws again.
func TestBrokerFreezes(t *testing.T) {
	a, seen := chaos(t, freezes)
	if seen.unmarked == 0 {
		a.t.Skip("too tame: the brokers have marked every transaction; another SEED, or longer")
	}
}

// freezes draws only such.
func freezes(seed uint64) func() planned {
	rng := rand.New(rand.NewPCG(seed, 4))
	return func() planned {
		return planned{
			kind: "broker-freeze-short", process: rng.IntN(3), long: rng.Float64(),
			gap: 300*time.Millisecond + time.Duration(rng.Int64N(int64(time.Second))),
		}
	}
}

// brokersLive holds that all brokers are there when nobody has taken one away.
func (a *arena) brokersLive() {
	if !a.broker.TryLock() {
		return
	}
	defer a.broker.Unlock()
	for n := range a.brokers {
		if _, err := brokerPID(strconv.Itoa(n + 1)); err != nil {
			a.t.Error(err)
		}
	}
}

// brokerPID is the process of a broker that should run. If it does not, the error is all that can be found out: it is
// not the pipeline's fault.
func brokerPID(node string) (int, error) {
	run := os.Getenv("ASIDUO_KAFKA_RUN")
	b, err := os.ReadFile(filepath.Join(run, node+".pid"))
	if err != nil {
		return 0, brokerGone(run, node, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, brokerGone(run, node, err)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // of a zombie it is empty
	if _, none := os.Stat("/proc/self/cmdline"); errors.Is(none, fs.ErrNotExist) {
		line, err = exec.Command("ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	}
	if err != nil || !bytes.Contains(line, []byte(filepath.Join(run, node+".properties"))) {
		return 0, brokerGone(run, node, fmt.Errorf("process %d is not there: %q, %v", pid, line, err))
	}
	return pid, nil
}

func brokerGone(run, node string, why error) error {
	var told strings.Builder
	for _, name := range []string{node + ".out", node + ".log"} {
		if text, err := os.ReadFile(filepath.Join(run, name)); err == nil {
			fmt.Fprintf(&told, "%s ends with\n%s\n", name, text[max(0, len(text)-2000):])
		}
	}
	return fmt.Errorf("broker %s is gone, and no fault has taken it: %w\n%s%s", node, why, told.String(), starved())
}

// starved is what the kernel tells of processes that it has killed for want of memory.
func starved() string {
	out, err := exec.Command("dmesg").Output()
	if err != nil {
		return "dmesg cannot be read: was there enough memory?"
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "Killed process") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return "the kernel tells of no process killed for want of memory"
	}
	return "the kernel has killed for want of memory, at last:\n" + strings.Join(lines[max(0, len(lines)-5):], "")
}

// runKafka is kafkaScript for goroutines that are not the test's.
func runKafka(what, node string) error {
	cmd := exec.Command("bash", filepath.Join("..", "..", "deploy", "kafka", "kafka.sh"), what, os.Getenv("ASIDUO_KAFKA_RUN"), node)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka.sh %s %s: %w\n%s", what, node, err, out)
	}
	return nil
}
