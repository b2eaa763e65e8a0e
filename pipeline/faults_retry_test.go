package pipeline

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
)

// TestRefusedRecords has brokers that are busy and refuse records of a transaction because the one before it has not quite ended
// (CONCURRENT_TRANSACTIONS), right after the client has asked who leads what. It writes them again when it has asked again, which by
// itself it does only every five seconds: three refusals held up everybody of the shard for fifteen.
func TestRefusedRecords(t *testing.T) {
	s := newShop(t)
	s.start(func(p *Pipeline) { p.deps.Client = nil }) // patient as in production
	s.buy("o1")
	s.read(0, 1)
	var refused atomic.Int32
	s.cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		if req.TransactionID == nil || refused.Load() >= 3 {
			return nil, nil, false
		}
		refused.Add(1)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range req.Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic, topic.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, kerr.ConcurrentTransactions.Code
				topic.Partitions = append(topic.Partitions, p)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	began := time.Now()
	s.buy("o2")
	s.read(0, 1)
	if took := time.Since(began); refused.Load() != 3 || took > 5*time.Second { // far from fifteen, on a busy machine too
		t.Errorf("after %d refusals it took %v", refused.Load(), took)
	}
}

// TestHeldBack has brokers that hold records back for longer than a cycle may take, as a quota can: both shards are closed for
// that, their next owners get through when the brokers do, and what waited is counted once and told once.
func TestHeldBack(t *testing.T) {
	s := newShop(t)
	s.cfg.Cycle.Deadline = config.Duration(time.Second)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release) // brokers that wait do not end
	s.cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		if r.(*kmsg.ProduceRequest).TransactionID != nil {
			s.cluster.SleepControl(func() { <-held })
		}
		return nil, nil, false
	})
	s.buy("o2")
	s.await("the shards to be closed", func() bool { return s.counter("asiduo_shard_closed_total", "timeout") >= 2 })
	if n := s.pipe.Positions()["purchases"][0]; n >= s.ends["purchases"][0] {
		t.Errorf("the shard has gone on to %d without its changes", n)
	}
	release()
	s.read(0, 1)
	if n := s.orders(0); n != 2 {
		t.Errorf("%d orders", n)
	}
	s.contiguous()
}

// TestTransactionTimeout: a transaction whose process is gone, and which nobody takes over, is ended by its coordinator after the time that is
// configured, so that readers wait no longer.
func TestTransactionTimeout(t *testing.T) {
	s := newShop(t)
	s.cfg.Cycle.TransactionTimeout = config.Duration(23 * time.Second)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	described, err := s.adm.DescribeTransactions(t.Context(), "shop-0", "shop-1")
	if err != nil || len(described) != 2 {
		t.Fatalf("%v: %v", described, err)
	}
	for _, d := range described {
		if d.TimeoutMillis != 23_000 {
			t.Errorf("%s is ended after %d ms", d.TxnID, d.TimeoutMillis)
		}
	}
}
