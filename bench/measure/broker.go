// Package measure is what the programs of bench have in common: a Kafka of their own, and what the operating system says of a process.
package measure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Broker is an Apache Kafka of its own.
type Broker struct {
	Address string
	Admin   *kadm.Client

	script string
	dir    string
	cl     *kgo.Client
}

// StartBroker starts one; root is the repository.
func StartBroker(ctx context.Context, root string) (*Broker, error) {
	b := &Broker{script: filepath.Join(root, "deploy", "kafka", "kafka.sh")}
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
			b.Address = v
		}
	}
	if b.cl, err = kgo.NewClient(kgo.SeedBrokers(b.Address)); err != nil {
		b.Stop()
		return nil, err
	}
	b.Admin = kadm.NewClient(b.cl)
	return b, nil
}

// Stop ends the broker and throws its data away.
func (b *Broker) Stop() {
	if b.cl != nil {
		b.cl.Close()
	}
	cmd := exec.Command(b.script, "stop", b.dir) // #nosec G204 -- our own script
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "stop Kafka:", err)
	}
}

// Create makes a topic whose records, which are years old, are kept, and waits until brokers know it.
func (b *Broker) Create(ctx context.Context, topic string, partitions int) error {
	if _, err := b.Admin.CreateTopic(ctx, int32(partitions), 1, map[string]*string{"retention.ms": kadm.StringPtr("-1")}, topic); err != nil {
		return err
	}
	for {
		ends, err := b.Admin.ListEndOffsets(ctx, topic)
		if err == nil && ends.Error() == nil && len(ends[topic]) == partitions {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Drop deletes all topics whose names begin with that of a run.
func (b *Broker) Drop(ctx context.Context, group string) error {
	all, err := b.Admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	for _, name := range all.Names() {
		if strings.HasPrefix(name, group) {
			// One that is being deleted already may still be in the list.
			if _, err := b.Admin.DeleteTopic(ctx, name); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
				return err
			}
		}
	}
	return nil
}

// Changelog is what topics of a run whose name says that they are changelogs take on the broker's disk.
func (b *Broker) Changelog(ctx context.Context, group string) (n int64, err error) {
	dirs, err := b.Admin.DescribeAllLogDirs(ctx, nil)
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

// Outputs is the last stable offset of the output: it grows with every commit.
func (b *Broker) Outputs(ctx context.Context, topic string) (int64, error) {
	ends, err := b.Admin.ListCommittedOffsets(ctx, topic)
	return total(ends), errors.Join(err, ends.Error())
}

// Done is how many records of the input the group has committed.
func (b *Broker) Done(ctx context.Context, group, input string) (n int64) {
	offsets, err := b.Admin.FetchOffsets(ctx, group)
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
