package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// broker is an Apache Kafka of its own.
type broker struct {
	script  string
	dir     string
	address string
	pid     int
	cl      *kgo.Client
	adm     *kadm.Client
}

func startBroker(ctx context.Context, root string) (*broker, error) {
	b := &broker{script: filepath.Join(root, "deploy", "kafka", "kafka.sh")}
	cmd := exec.CommandContext(ctx, b.script, "start") // #nosec G204 -- our own script
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it halts what it has started
	cmd.WaitDelay = time.Minute
	// The settings of that script are for tests, which want a cleaner that never rests.
	cmd.Env = append(os.Environ(), "KAFKA_HEAP=1g", "KAFKA_EXTRA=log.cleaner.backoff.ms=15000")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		switch k, v, _ := strings.Cut(strings.TrimSpace(line), "="); k {
		case "run":
			b.dir = v
		case "bootstrap":
			b.address = v
		case "pid":
			b.pid, err = strconv.Atoi(v)
		}
	}
	if err == nil {
		b.cl, err = kgo.NewClient(kgo.SeedBrokers(b.address))
	}
	if err != nil {
		b.stop()
		return nil, err
	}
	b.adm = kadm.NewClient(b.cl)
	return b, nil
}

// stop ends the broker and throws its data away.
func (b *broker) stop() {
	if b.cl != nil {
		b.cl.Close()
	}
	cmd := exec.Command(b.script, "stop", b.dir) // #nosec G204 -- our own script
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "compare: stop Kafka:", err)
	}
}

// create makes a topic whose records, which are years old, are kept.
func (b *broker) create(ctx context.Context, topic string) error {
	_, err := b.adm.CreateTopic(ctx, 4, 1, map[string]*string{"retention.ms": kadm.StringPtr("-1")}, topic)
	return err
}

// drop deletes all topics of a run.
func (b *broker) drop(ctx context.Context, group string) error {
	all, err := b.adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	for _, name := range all.Names() {
		if strings.HasPrefix(name, group) {
			if _, err := b.adm.DeleteTopic(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// size is what topics of a run whose name says that they are changelogs take on the broker's disk.
func (b *broker) size(ctx context.Context, group string) (n int64, err error) {
	dirs, err := b.adm.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return 0, err
	}
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if strings.HasPrefix(p.Topic, group) && strings.HasSuffix(p.Topic, "changelog") {
				n += p.Size
			}
		})
	})
	return n, nil
}

// outputs is the last stable offset of the output: it grows with every commit.
func (b *broker) outputs(ctx context.Context, topic string) (int64, error) {
	ends, err := b.adm.ListCommittedOffsets(ctx, topic)
	return total(ends), err
}

// done is how many records of the input the group has committed.
func (b *broker) done(ctx context.Context, group, input string) (n int64) {
	offsets, err := b.adm.FetchOffsets(ctx, group)
	if err != nil {
		return 0 // the group is not there yet
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == input {
			n += max(o.At, 0)
		}
	})
	return n
}

func total(offsets kadm.ListedOffsets) (n int64) {
	offsets.Each(func(o kadm.ListedOffset) { n += max(o.Offset, 0) })
	return n
}
