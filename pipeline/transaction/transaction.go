// Package transaction writes records to Kafka, all of them or none, with a client that has a transactional id. After an
// error the client is of no more use: the next InitProducerID of its id aborts what it has begun.
package transaction

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Commit writes records in one transaction.
func Commit(ctx context.Context, cl *kgo.Client, rs []*kgo.Record) error {
	if err := Write(ctx, cl, rs); err != nil {
		return err
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	return nil
}

// Write begins a transaction and writes records into it. When it returns nil, EndTransaction ends what was written: that
// returns nil also after committing only what succeeded, so every promise is looked at here.
func Write(ctx context.Context, cl *kgo.Client, rs []*kgo.Record) error {
	if err := cl.BeginTransaction(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	var first kgo.FirstErrPromise
	for _, r := range rs {
		cl.Produce(ctx, r, first.Promise())
	}
	// Flush honours ctx; waiting for the promises alone would hang while a broker is away.
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if err := first.Err(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	return known(ctx, cl, rs)
}

// known waits until the client itself knows of the topics that it has written to. When it meets a topic for the first
// time it sends the records that wait for it before it stores what it has learnt, and on a busy machine they may be
// acknowledged in between. EndTransaction would then find nothing that was written, abort (or, with transactions of the
// first version, do nothing), and return nil: franz-go 1.22.2 and 1.22.3, storePartitionsUpdate.
func known(ctx context.Context, cl *kgo.Client, rs []*kgo.Record) error {
	var seen []string
	for _, r := range rs {
		if slices.Contains(seen, r.Topic) {
			continue
		}
		for {
			leader, _, err := cl.PartitionLeader(r.Topic, r.Partition)
			if leader >= 0 || err != nil { // an error is that of a partition that it knows
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for the client to know topic %q: %w", r.Topic, ctx.Err())
			case <-time.After(time.Millisecond):
			}
		}
		seen = append(seen, r.Topic)
	}
	return nil
}
