//go:build deploy

package deploy_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// awaitCall waits until somebody has been called, and returns the call.
func (s *site) awaitCall(t *testing.T, limit time.Duration, alert, status string) (found call) {
	t.Helper()
	took := await(t, limit, alert+" "+status, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.called {
			if c.Labels["alertname"] == alert && c.Status == status {
				found = c
				return nil
			}
		}
		return fmt.Errorf("called: %v", s.called)
	})
	t.Logf("%s %s after %v: %s", alert, status, took, found.Annotations["summary"])
	return found
}

// quiet waits until an alert does not fire, and forgets the calls for it: what comes then comes from what is broken next.
func (s *site) quiet(t *testing.T, alert string) {
	t.Helper()
	await(t, 60*time.Second, alert+" is quiet", func() error {
		list, err := s.ask("query", url.Values{"query": {fmt.Sprintf("ALERTS{alertname=%q}", alert)}})
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("%v", list)
		}
		return err
	})
	time.Sleep(2 * time.Second) // Alertmanager's group_interval: a call that it is over may be under way
	s.mu.Lock()
	defer s.mu.Unlock()
	s.called = slices.DeleteFunc(s.called, func(c call) bool { return c.Labels["alertname"] == alert })
}

// breaks breaks one thing after the other, waits for the call, does what the page of the alert says under Check, and
// mends it; what heals at once must be told too.
func (s *site) breaks(t *testing.T) {
	s.awaitCall(t, 30*time.Second, "AsiduoDeadLetters", "firing") // the records that were no orders
	s.check(t, "AsiduoDeadLetters")

	s.breakAndCheck(t, "AsiduoDown", func() {
		for _, p := range s.instances {
			p.kill()
		}
	})
	s.startAll()
	s.awaitCall(t, 60*time.Second, "AsiduoDown", "resolved")

	kafka := path("deploy", "kafka", "kafka.sh")
	s.breakAndCheck(t, "AsiduoShardNotServed", func() { run(t, nil, "bash", kafka, "kill", s.kafka) })
	for _, at := range s.monitors { // brokers that are away are no reason to restart anything
		if _, err := get("http://" + at + "/livez"); err != nil {
			t.Error(err)
		}
		if _, err := get("http://" + at + "/readyz"); err == nil {
			t.Error("ready without a broker")
		}
	}
	t.Logf("SIGTERM to exit without a broker: %v", s.instances[1].stop())
	run(t, nil, "bash", kafka, "restart", s.kafka)
	s.instances[1] = s.start(1)
	s.awaitReady()
	s.awaitCall(t, 60*time.Second, "AsiduoShardNotServed", "resolved")

	s.lose(t)

	// Somebody else takes the transactional ids again and again, as a second deployment of the same app would, and while the page is read.
	var stop func()
	s.breakAndCheck(t, "AsiduoCommitFailing", func() { stop = s.fences(t) })
	stop()
	s.awaitReady()

	// Something else fills the disk.
	ballast := filepath.Join(s.dir, "a", "ballast")
	s.breakAndCheck(t, "AsiduoDiskFull", func() { run(t, nil, "fallocate", "-l", fmt.Sprint((roomMiB-100)<<20), ballast) })
	if err := os.Remove(ballast); err != nil {
		t.Error(err)
	}
	s.awaitCall(t, 60*time.Second, "AsiduoDiskFull", "resolved")

	// Somebody else begins a transaction on the input and does not end it.
	var end func()
	if said := s.breakAndCheck(t, "AsiduoBehind", func() { end = s.pin(t) }); !strings.Contains(said, `transaction "loader"`) {
		t.Error("the page does not lead to the transaction")
	}
	end()
	s.awaitCall(t, 60*time.Second, "AsiduoBehind", "resolved")

	// Something else lies where the archive was.
	archive := filepath.Join(s.dir, "archive")
	s.breakAndCheck(t, "AsiduoSnapshotMissing", func() {
		if err := os.Rename(archive, archive+".away"); err != nil {
			t.Fatal(err)
		}
		write(t, archive, "no directory")
	})
	if err := errors.Join(os.Remove(archive), os.Rename(archive+".away", archive)); err != nil {
		t.Error(err)
	}
	s.awaitCall(t, 90*time.Second, "AsiduoSnapshotMissing", "resolved")

	// A process is away for longer than its session: its shards move away, and back.
	s.breakAndCheck(t, "AsiduoOwnershipFlapping", func() {
		s.instances[0].stop()
		await(t, 60*time.Second, "the other has all shards", func() error { return runsAll(s.monitors[1]) })
		s.instances[0] = s.start(0)
		s.awaitReady()
	})
	s.awaitCall(t, 90*time.Second, "AsiduoOwnershipFlapping", "resolved")

	// The processes are away while many customers are due.
	s.breakAndCheck(t, "AsiduoSilenceLate", func() {
		due := time.Now().Add(15 * time.Second)
		s.buyers(200, due.Add(-30*24*time.Hour)) // after thirty days an order is not of the latest any more
		s.stopAll(t)
		time.Sleep(time.Until(due.Add(20 * time.Second)))
		s.startAll()
	})
	s.check(t, "AsiduoClockDifference")
	s.named(t)
	s.stopAll(t)
}

func (s *site) stopAll(t *testing.T) {
	for _, p := range s.instances {
		t.Logf("SIGTERM to exit: %v", p.stop())
	}
}

// buyers are so many new customers, each with an order of an instant.
func (s *site) buyers(n int, at time.Time) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.DefaultProduceTopic("purchases"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	for i := range n {
		who := fmt.Sprintf("late-%d", i)
		cl.Produce(s.t.Context(), &kgo.Record{Key: []byte(who), Timestamp: at, Value: fmt.Appendf(nil,
			`{"order_id":"1","customer_id":%q,"ordered_at":%q,"amount":"10","currency":"GBP"}`, who, at.UTC().Format(time.RFC3339Nano))},
			func(_ *kgo.Record, err error) {
				if err != nil {
					s.t.Error(err)
				}
			})
	}
	if err := cl.Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// breakAndCheck breaks something and waits until somebody is called for it, who then does what the page says.
func (s *site) breakAndCheck(t *testing.T, alert string, breakIt func()) (said string) {
	t.Helper()
	s.quiet(t, alert)
	breakIt()
	c := s.awaitCall(t, 120*time.Second, alert, "firing")
	page, known := strings.CutPrefix(c.Annotations["runbook_url"], "https://github.com/asiduo/asiduo/blob/main/deploy/runbooks/")
	if !known || page != alert+".md" {
		t.Errorf("%s names the page %s", alert, c.Annotations["runbook_url"])
	}
	return s.check(t, alert)
}

// lose deletes records that nobody has read, and leaves them behind as the page says.
func (s *site) lose(t *testing.T) {
	t.Helper()
	said := s.breakAndCheck(t, "AsiduoShardNotServed", func() {
		s.stopAll(t)
		s.produce(100, "an order that is deleted too early")
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		adm := kadm.NewClient(cl)
		ends, err := adm.ListEndOffsets(t.Context(), "purchases")
		if err == nil {
			var done kadm.DeleteRecordsResponses
			done, err = adm.DeleteRecords(t.Context(), ends.Offsets())
			err = errors.Join(err, done.Error())
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.files {
			s.instances[i] = s.start(i)
		}
	})
	if !strings.Contains(said, "input_truncated") || !strings.Contains(said, "set inputs.lost: skip") || strings.Contains(said, "do not answer") {
		t.Errorf("the page does not lead to what is lost:\n%s", said)
	}
	for _, lost := range []string{"inputs: {lost: skip}\n", ""} {
		s.stopAll(t)
		for _, file := range s.files {
			text, _, _ := strings.Cut(read(t, file), "inputs: ")
			write(t, file, text+lost)
		}
		s.startAll()
	}
	s.awaitCall(t, 60*time.Second, "AsiduoShardNotServed", "resolved")
}

// fences takes the transactional id of every shard, as an owner does, again and again; the owners learn it when they commit.
func (s *site) fences(t *testing.T) (stop func()) {
	t.Helper()
	ended, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			for shard := range 4 {
				cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.TransactionalID(fmt.Sprintf("shop-%d", shard)))
				if err == nil {
					_, _, err = cl.ProducerID(t.Context())
					cl.Close()
				}
				if t.Context().Err() != nil {
					return
				}
				if err != nil {
					t.Errorf("take the id of shard %d: %v", shard, err)
				}
			}
			s.produce(100, "not an order either")
			select {
			case <-ended:
				return
			case <-time.After(2 * time.Second):
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(ended); <-over })
	t.Cleanup(stop)
	return stop
}

// named holds that metrics which rules, runbooks and the variables of dashboards name are there.
func (s *site) named(t *testing.T) {
	var known struct{ Data []string }
	if err := getJSON(s.prometheus+"/api/v1/label/__name__/values", &known); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, pattern := range []string{"alerts/*.rules.yaml", "runbooks/*.md", "dashboards/*.json", "README.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			text := read(t, file)
			if file == "README.md" { // before that are names of files
				_, text, _ = strings.Cut(text, "\n## Watch\n")
			}
			for _, name := range metricName.FindAllString(text, -1) {
				n++
				if slices.Contains(known.Data, name) || slices.Contains(known.Data, name+"_bucket") || strings.HasSuffix(name, "_") {
					continue
				}
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
	t.Logf("%d names of metrics are those of metrics", n)
}

// pin begins a transaction on the input, and returns what ends it.
func (s *site) pin(t *testing.T) (end func()) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.TransactionalID("loader"), kgo.TransactionTimeout(5*time.Minute), kgo.DefaultProduceTopic("purchases"))
	if err == nil {
		err = cl.BeginTransaction()
	}
	if err == nil {
		err = cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("1"), Value: []byte("not an order at all")}).FirstErr()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := cl.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Error(err)
		}
		cl.Close()
	}
}

// commands are the names that Kafka's distribution gives to its tools.
var commands = map[string]string{
	"kafka-consumer-groups.sh":  "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-transactions.sh":     "org.apache.kafka.tools.TransactionsCommand",
	"kafka-topics.sh":           "org.apache.kafka.tools.TopicCommand",
	"kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
}

// shell are the blocks that a reader would paste.
var shell = regexp.MustCompile("(?s)```sh\n(.*?)```")

// check executes what a page says under Check, and returns what comes out.
func (s *site) check(t *testing.T, alert string) (said string) {
	t.Helper()
	bin := filepath.Join(s.dir, "bin")
	if _, err := os.Stat(bin); err != nil {
		for name, class := range commands {
			write(t, filepath.Join(bin, name), fmt.Sprintf("#!/bin/sh\nexec bash %s tool %s \"$@\"\n", path("deploy", "kafka", "kafka.sh"), class))
		}
		run(t, nil, "cp", binary(t), filepath.Join(bin, "asiduo"))
		run(t, nil, "chmod", "-R", "+x", bin)
	}
	_, text, _ := strings.Cut(read(t, path("deploy", "runbooks", alert+".md")), "\n## Check\n")
	text, _, _ = strings.Cut(text, "\n## Fix\n")
	blocks := shell.FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Errorf("%s: nothing to check", alert)
	}
	env := []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "app=shop", "brokers=" + s.broker, "config=" + s.files[0],
		"monitor=" + s.monitors[0], "data=" + filepath.Join(s.dir, "a"),
	}
	for _, b := range blocks {
		out := strings.TrimSpace(run(t, env, "bash", "-euo", "pipefail", "-c", b[1]))
		lines := strings.Split(out, "\n")
		t.Logf("%s: %s\n    %s", alert, strings.TrimSpace(b[1]), strings.Join(lines[:min(len(lines), 6)], "\n    "))
		if out == "" && !strings.Contains(b[1], "unavailable") {
			t.Errorf("%s: nothing comes out of\n%s", alert, b[1])
		}
		if strings.Contains(out, "the brokers do not answer") && alert != "AsiduoShardNotServed" {
			t.Errorf("%s: the brokers answer, and yet comes out of\n%s\n%s", alert, b[1], out)
		}
		said += out + "\n"
	}
	return said
}
