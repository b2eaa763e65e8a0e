package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/asiduo/asiduo/pipeline"
)

// transactions that are open for long hold back whoever reads committed records.
func (d *doctor) transactions(ctx context.Context) {
	n := len(d.found)
	names := d.topicNames()
	ends, err := d.adm.ListEndOffsets(ctx, names...)
	stable, err2 := d.adm.ListCommittedOffsets(ctx, names...)
	if err != nil || err2 != nil {
		d.warn("transactions", "let this user describe topics", "the ends of the topics cannot be read: %v %v", err, err2)
		return
	}
	pinned := kadm.TopicsSet{}
	stable.Each(func(o kadm.ListedOffset) {
		if end, ok := ends.Lookup(o.Topic, o.Partition); ok && o.Offset < end.Offset {
			pinned.Add(o.Topic, o.Partition)
		}
	})
	if len(pinned) > 0 {
		d.hanging(ctx, pinned)
	}
	d.quiet(n, "transactions", "none hangs")
}

// opened is a transaction as a partition knows it.
type opened struct {
	at              located
	producer, since int64 // since: its first offset
}

// hanging finds those that are open for too long. A partition does not know since when: it has the timestamps of the records,
// which may be those of any events. The coordinator knows. One of which no coordinator says that it is open in the partition is
// watched for as long: it has been forgotten there, or has ended without a marker here, or is not for this user to see.
func (d *doctor) hanging(ctx context.Context, pinned kadm.TopicsSet) {
	const pause = time.Second
	open := d.opened(ctx, pinned)
	first := time.Now()
	known, err := d.coordinated(ctx, open)
	open = slices.DeleteFunc(open, func(t opened) bool {
		is := known[t.producer]
		if !is.Topics.Lookup(t.at.topic, t.at.partition) || is.StartTimestamp <= 0 {
			return false
		}
		if age := time.Since(time.UnixMilli(is.StartTimestamp)).Round(time.Second); age >= d.openFor {
			fix := fmt.Sprintf("end it where it was begun; else its coordinator does, %v after its beginning (transaction.timeout.ms)", time.Duration(is.TimeoutMillis)*time.Millisecond)
			if is.State != "Ongoing" {
				fix = fixBrokers // it waits for one to write its marker
			}
			d.fault("transactions", fix, "%s/%d: transaction %q of producer %d is open since offset %d, for %v (%s): what comes after it is not read", t.at.topic, t.at.partition, is.TxnID, t.producer, t.since, age, is.State)
		}
		return true
	})
	if err != nil { // of the others nobody can say that no coordinator knows them
		d.warn("transactions", fixBrokers, "transactions cannot be listed: %v", err)
		return
	}
	for looked := false; len(open) > 0 && (!looked || time.Since(first) < d.openFor); looked = true {
		select {
		case <-ctx.Done():
			d.warn("transactions", "look again", "transactions that may hang were not watched to the end: %v", ctx.Err())
			return
		case <-time.After(min(pause, d.openFor-time.Since(first))):
		}
		in := kadm.TopicsSet{}
		for _, t := range open {
			in.Add(t.at.topic, t.at.partition)
		}
		now := d.opened(ctx, in)
		open = slices.DeleteFunc(open, func(t opened) bool { return !slices.Contains(now, t) })
	}
	for _, t := range open {
		d.stays(t, known[t.producer])
	}
}

// stays tells of a transaction that is open here, and of which no coordinator that can be asked says so. Nobody can tell from here whether it
// was committed and only lacks its marker (pipeline/FAULTS.md): a coordinator knows the latest transaction of an id, which may be another.
func (d *doctor) stays(t opened, is kadm.DescribedTransaction) {
	what, first := "which no coordinator shows to this user", "look again with all brokers, as a user who may describe every transactional id; "
	if is.TxnID != "" {
		what, first = fmt.Sprintf("of which the coordinator of %q does not know (%s)", is.TxnID, is.State), ""
	}
	fix := first + fmt.Sprintf("stop its producer, kafka-transactions.sh %s abort --topic %s --partition %d --start-offset %d, and let the producer write again what it wrote here: "+
		"if that was committed, the abort takes it back (an order that comes twice does no harm)", d.bootstrap(), t.at.topic, t.at.partition, t.since)
	shard, prefixed := strings.CutPrefix(is.TxnID, d.cfg.App+"-")
	ours := is.TxnID == "" || prefixed && strings.Trim(shard, "0123456789") == ""
	if ours && !slices.Contains(pipeline.InputTopics(d.cfg), t.at.topic) {
		fix = first + "do not abort it: it may be a committed cycle of this application's, and its shard's next one that writes there decides it; see that a process runs"
	}
	d.fault("transactions", fix, "%s/%d: producer %d has a transaction open since offset %d, %s and which did not end while it was watched for %v: what comes after it is not read",
		t.at.topic, t.at.partition, t.producer, t.since, what, d.openFor)
}

const fixBrokers = "see that all brokers run, and look again"

// opened are the transactions that are open in partitions, as far as those can be asked.
func (d *doctor) opened(ctx context.Context, in kadm.TopicsSet) (open []opened) {
	producers, err := d.adm.DescribeProducers(ctx, in)
	if err != nil {
		fix := fixBrokers
		if _, denied := errors.AsType[*kadm.AuthError](err); denied {
			fix = "let this user read the topics"
		}
		d.warn("transactions", fix, "producers cannot be described: %v", err)
	}
	for _, p := range producers.SortedPartitions() {
		if p.Err != nil {
			d.warn("transactions", fixBrokers, "producers of %s/%d cannot be described: %v", p.Topic, p.Partition, p.Err)
		}
		for _, is := range p.ActiveProducers.Sorted() {
			if is.CurrentTxnStartOffset >= 0 {
				open = append(open, opened{located{p.Topic, p.Partition}, is.ProducerID, is.CurrentTxnStartOffset})
			}
		}
	}
	return open
}

// coordinated are the transactions of the producers as the coordinators show them to this user, by producer; with an error, those
// of the coordinators that have answered.
func (d *doctor) coordinated(ctx context.Context, open []opened) (map[int64]kadm.DescribedTransaction, error) {
	var producers []int64
	for _, t := range open {
		producers = append(producers, t.producer)
	}
	known := map[int64]kadm.DescribedTransaction{}
	if len(producers) == 0 {
		return known, nil
	}
	listed, err := d.adm.ListTransactions(ctx, producers, nil)
	if len(listed) == 0 { // of none, all of the cluster would be described
		return known, err
	}
	described, err2 := d.adm.DescribeTransactions(ctx, listed.TransactionalIDs()...)
	for _, t := range described {
		known[t.ProducerID] = t
	}
	return known, errors.Join(err, err2)
}
