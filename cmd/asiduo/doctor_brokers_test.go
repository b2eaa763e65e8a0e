package main

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// pinned is a town with a transaction that is open in interactions/2 since an offset.
func pinned(t *testing.T) (w *town, file string, since int64) {
	t.Helper()
	w = newTown(t)
	return w, configFile(t, w.broker, ""), w.pin("interactions", "loader")
}

// pin begins a transaction in partition 2 of a topic, and returns its first offset.
func (w *town) pin(topic, id string) int64 {
	t := w.t
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	held := &kgo.Record{Topic: topic, Partition: 2, Value: []byte("x")}
	if err := cl.ProduceSync(t.Context(), held).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return held.Offset
}

// ofPinned are the requests about that transaction.
func ofPinned() (*kmsg.DescribeProducersRequest, *kmsg.DescribeTransactionsRequest) {
	topic := kmsg.NewDescribeProducersRequestTopic()
	topic.Topic, topic.Partitions = "interactions", []int32{2}
	producers := kmsg.NewPtrDescribeProducersRequest()
	producers.Topics = append(producers.Topics, topic)
	transactions := kmsg.NewPtrDescribeTransactionsRequest()
	transactions.TransactionalIDs = []string{"loader"}
	return producers, transactions
}

const (
	noneHangs = "none hangs"
	asOther   = `look again with all brokers, as a user who may describe every transactional id; `
	abort     = `stop its producer, kafka-transactions\.sh --bootstrap-server \S+ abort --topic %s --partition 2 --start-offset %d, and let the producer write again what it wrote here: if that was committed, the abort takes it back \(an order that comes twice does no harm\)`
	leaveIt   = `do not abort it: it may be a committed cycle of this application's, and its shard's next one that writes there decides it; see that a process runs`
)

// TestDoctorOfOpenTransactions: how long a transaction is open is not told by its records, whose timestamps are those of
// the events.
func TestDoctorOfOpenTransactions(t *testing.T) {
	w, file, since := pinned(t)
	producers, transactions := ofPinned()
	last := func(at time.Time) (undo func()) {
		return forge(t, w.cluster, producers, func(r *kmsg.DescribeProducersResponse) {
			r.Topics[0].Partitions[0].ActiveProducers[0].LastTimestamp = at.UnixMilli()
		})
	}
	undo := last(time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC))
	finds(t, file, "transactions", "ok", noneHangs, "")
	undo()
	defer last(time.Now().Add(time.Hour))()
	finds(t, file, "transactions", "ok", noneHangs, "")
	defer forge(t, w.cluster, transactions, func(r *kmsg.DescribeTransactionsResponse) {
		r.TransactionStates[0].StartTimestamp = time.Now().Add(-5 * time.Minute).UnixMilli()
	})()
	finds(t, file, "transactions", "fault", fmt.Sprintf(`interactions/2: transaction "loader" of producer \d+ is open since offset %d, for 5m\d+s \(Ongoing\): what comes after it is not read`, since),
		`end it where it was begun; else its coordinator does, 40s after its beginning \(transaction\.timeout\.ms\)`)
	finds(t, file, "transactions", "ok", noneHangs, "", "--open-for", "1h")
}

// TestDoctorOfHiddenTransactions: one that no coordinator shows hangs if it does not end while it is watched.
func TestDoctorOfHiddenTransactions(t *testing.T) {
	w, file, since := pinned(t)
	producers, _ := ofPinned()
	hidden := fmt.Sprintf(`interactions/2: producer \d+ has a transaction open since offset %d, which no coordinator shows to this user and which did not end while it was watched for 10ms: what comes after it is not read`, since)
	undo := forge(t, w.cluster, kmsg.NewPtrListTransactionsRequest(), func(r *kmsg.ListTransactionsResponse) { r.TransactionStates = nil })
	finds(t, file, "transactions", "fault", hidden, asOther+fmt.Sprintf(abort, "interactions", since), "--open-for", "10ms")

	var looks atomic.Int32
	w.cluster.ControlKey(producers.Key(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if looks.Add(1)%2 == 1 {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.DescribeProducersResponse) // it has ended, and the next one is open
		topic, p := kmsg.NewDescribeProducersResponseTopic(), kmsg.NewDescribeProducersResponseTopicPartition()
		next := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		next.CurrentTxnStartOffset = since + 2
		p.Partition, p.ActiveProducers = 2, append(p.ActiveProducers, next)
		topic.Topic, topic.Partitions = "interactions", append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	for i, long := range []string{"1h", "1ns"} { // also one that passes while the coordinators are asked
		finds(t, file, "transactions", "ok", noneHangs, "", "--open-for", long)
		if n := looks.Load(); n != int32(i+1)*2 {
			t.Errorf("looked %d times", n)
		}
	}
	undo()

	w, file, since = pinned(t)
	undo = forge(t, w.cluster, kmsg.NewPtrListTransactionsRequest(), func(r *kmsg.ListTransactionsResponse) { r.ErrorCode = kerr.UnknownServerError.Code })
	finds(t, file, "transactions", "warning", `transactions cannot be listed: .*UNKNOWN_SERVER_ERROR.*`, "see that all brokers run, and look again", "--open-for", "10ms")
	undo()
	defer forge(t, w.cluster, producers, func(r *kmsg.DescribeProducersResponse) {
		r.Topics[0].Partitions[0].ErrorCode, r.Topics[0].Partitions[0].ActiveProducers = kerr.UnknownServerError.Code, nil
	})()
	finds(t, file, "transactions", "warning", `producers of interactions/2 cannot be described: UNKNOWN_SERVER_ERROR.*`, "see that all brokers run, and look again")
}

// TestDoctorOfFrozenCoordinator: a broker that does not list transactions hides none of those that others list.
func TestDoctorOfFrozenCoordinator(t *testing.T) {
	cluster, at := fakeBroker(t, kfake.NumBrokers(2), kfake.SeedTopics(townShards, "purchases", "interactions"))
	file := configFile(t, at, "")
	if got := command(t, "init", "-c", file); got.code != exitGood {
		t.Fatalf("init: %+v", got)
	}
	since := (&town{t: t, broker: at}).pin("interactions", "loader")
	var asked atomic.Int32
	cluster.ControlKey(int16(kmsg.ListTransactions), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if asked.Add(1)%2 == 1 {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.ListTransactionsResponse) // of the two brokers, that which is asked last
		resp.ErrorCode = kerr.UnknownServerError.Code
		return resp, nil, true
	})
	_, transactions := ofPinned()
	forge(t, cluster, transactions, func(r *kmsg.DescribeTransactionsResponse) {
		r.TransactionStates[0].StartTimestamp = time.Now().Add(-5 * time.Minute).UnixMilli()
	})
	finds(t, file, "transactions", "warning", `transactions cannot be listed: .*UNKNOWN_SERVER_ERROR.*`, "see that all brokers run, and look again")
	finds(t, file, "transactions", "fault", fmt.Sprintf(`interactions/2: transaction "loader" of producer \d+ is open since offset %d, for 5m\d+s \(Ongoing\): what comes after it is not read`, since),
		`end it where it was begun; else .*`)
}

// TestDoctorOfUnmarkedTransactions: one that its coordinator has gone on without may be committed, whatever the coordinator says of the latest
// of its id. Nobody is told to abort it and to leave it at that, and never one of our own.
func TestDoctorOfUnmarkedTransactions(t *testing.T) {
	w, file, since := pinned(t)
	_, transactions := ofPinned()
	in := func(state string) (undo func()) { // without this partition
		return forge(t, w.cluster, transactions, func(r *kmsg.DescribeTransactionsResponse) {
			r.TransactionStates[0].Topics, r.TransactionStates[0].State = nil, state
		})
	}
	open := func(topic, what string) string {
		return fmt.Sprintf(`%s/2: producer \d+ has a transaction open since offset %d, %s and which did not end while it was watched for 10ms: what comes after it is not read`, topic, since, what)
	}
	for _, state := range []string{"CompleteCommit", "CompleteAbort", "PrepareCommit", "Ongoing"} {
		undo := in(state)
		finds(t, file, "transactions", "fault", open("interactions", `of which the coordinator of "loader" does not know \(`+state+`\)`), fmt.Sprintf(abort, "interactions", since), "--open-for", "10ms")
		undo()
	}

	for id, fix := range map[string]string{"loader": fmt.Sprintf(abort, `shop\.churn-risk`, 0), "shop-parameters": fmt.Sprintf(abort, `shop\.churn-risk`, 0), "shop-2": leaveIt} {
		w = newTown(t)
		since = w.pin("shop.churn-risk", id)
		transactions.TransactionalIDs = []string{id}
		in("CompleteCommit")
		finds(t, configFile(t, w.broker, ""), "transactions", "fault", open(`shop\.churn-risk`, fmt.Sprintf(`of which the coordinator of %q does not know \(CompleteCommit\)`, id)), fix, "--open-for", "10ms")
	}
	forge(t, w.cluster, kmsg.NewPtrListTransactionsRequest(), func(r *kmsg.ListTransactionsResponse) { r.TransactionStates = nil })
	finds(t, configFile(t, w.broker, ""), "transactions", "fault", open(`shop\.churn-risk`, "which no coordinator shows to this user"), asOther+leaveIt, "--open-for", "10ms")
}

// TestDoctorOfLeaders: a partition whose brokers are down is not taken for one that this user may not read.
func TestDoctorOfLeaders(t *testing.T) {
	cluster, at := fakeBroker(t, kfake.NumBrokers(3), kfake.SeedTopics(2, "purchases", "interactions"))
	file := changed(t, configFile(t, at, ""), "replication_factor: 1", "replication_factor: 3")
	if got := command(t, "init", "-c", file); got.code != exitGood {
		t.Fatalf("init: %+v", got)
	}
	for _, name := range []string{"purchases", "shop.changelog", "shop.parameters", "shop.churn-risk"} {
		var p kmsg.MetadataResponseTopicPartition
		for _, insync := range []int{1, 2, 0} {
			undo := forge(t, cluster, kmsg.NewPtrMetadataRequest(), func(r *kmsg.MetadataResponse) {
				for _, topic := range r.Topics {
					if *topic.Topic == name {
						is := &topic.Partitions[0]
						is.Leader, is.ErrorCode, is.ISR = -1, kerr.LeaderNotAvailable.Code, is.Replicas[:insync]
						p = *is
					}
				}
			})
			of := "one of brokers " + joined(p.Replicas)
			switch insync {
			case 1:
				of = fmt.Sprint("broker ", p.Replicas[0])
			case 2:
				of = "one of brokers " + joined(p.Replicas[:2])
			}
			finds(t, file, "topics", "fault", fmt.Sprintf(`%s/%d has no leader: it can be neither read nor written`, regexp.QuoteMeta(name), p.Partition), "start "+of+", or see in its log why it does not lead")
			all, _ := examined(t, file)
			for _, f := range all {
				if strings.Contains(f.Fix, "let this user") || strings.Contains(f.Detail, "LEADER") {
					t.Errorf("%s: %+v", name, f)
				}
			}
			undo()
		}
	}
	finds(t, file, "topics", "ok", `2 shards; .*`, "")
}
