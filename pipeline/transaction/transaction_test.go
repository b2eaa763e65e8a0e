package transaction

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// halt is a partitioner that holds the client in the middle of what it does when it has learnt of a topic: after the
// records that it lets pass were sent.
type halt struct{ at, pass chan struct{} }

func (h halt) ForTopic(string) kgo.TopicPartitioner { return h }
func (halt) RequiresConsistency(*kgo.Record) bool   { return true }
func (h halt) Partition(r *kgo.Record, _ int) (place int) {
	if string(r.Key) == "held" {
		close(h.at)
		<-h.pass
	}
	return int(r.Partition)
}

// TestKnown: a record may be acknowledged before the client knows of its topic.
func TestKnown(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "new"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	h := halt{make(chan struct{}), make(chan struct{})}
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID("x"), kgo.RecordPartitioner(h), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	acked, done := make(chan error, 1), make(chan error, 1)
	r := &kgo.Record{Topic: "new", Partition: 0, Value: []byte("a")}
	cl.Produce(t.Context(), r, func(_ *kgo.Record, err error) { acked <- err })
	cl.Produce(t.Context(), &kgo.Record{Topic: "new", Partition: 1, Key: []byte("held")}, func(_ *kgo.Record, err error) { done <- err })
	<-h.at
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := known(ctx, cl, []*kgo.Record{r}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("known in the middle: %v", err)
	}
	close(h.pass)
	if err := known(t.Context(), cl, []*kgo.Record{r}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(<-done, cl.EndTransaction(t.Context(), kgo.TryCommit)); err != nil {
		t.Error(err)
	}
}

// TestCommit: what is written is there, whatever the client knew before; and an error of one record is one of all.
func TestCommit(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	connect := func(more ...kgo.Opt) *kgo.Client {
		t.Helper()
		cl, err := kgo.NewClient(append(more, kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	writer := connect(kgo.TransactionalID("x"))
	rs := []*kgo.Record{{Topic: "a", Partition: 1, Value: []byte("1")}, {Topic: "b", Value: []byte("2")}, {Topic: "a", Value: []byte("3")}}
	if err := Commit(t.Context(), writer, rs); err != nil {
		t.Fatal(err)
	}
	reader := connect(kgo.ConsumeTopics("a", "b"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	for n := 0; n < len(rs); {
		fetched := reader.PollFetches(t.Context())
		if err := fetched.Err(); err != nil {
			t.Fatal(err)
		}
		n += fetched.NumRecords()
	}
	if err := Commit(t.Context(), writer, []*kgo.Record{{Topic: "a"}, {Topic: "a", Partition: 7}}); err == nil {
		t.Error("a record for a partition that is not there was written")
	}
}
