package pipeline

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/pipeline/parameters"
)

// publishEpoch makes an epoch the current one, as a command does.
func (s *shop) publishEpoch(e parameters.Epoch) {
	s.t.Helper()
	p, err := parameters.Open(s.t.Context(), Connector(s.cfg.Kafka), s.cfg.App)
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.Close()
	if err := p.PublishEpoch(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
}

// refused holds that a process does not start.
func (s *shop) refused(want string) {
	s.t.Helper()
	pipe, err := New(s.cfg, Deps{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Registry: prometheus.NewRegistry(), FS: s.disk, Manual: &Manual{}})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := pipe.Run(context.Background()); err == nil || err.Error() != want {
		s.t.Errorf("got %v, want %s", err, want)
	}
}

// TestEpoch: the epoch is what is published when a shard is acquired, and a state of another one is not gone on with.
func TestEpoch(t *testing.T) {
	s := newShop(t)
	s.publishEpoch(parameters.Epoch{Epoch: 3})
	s.start()
	s.buy("o1")
	s.read(0, 1)
	if got := s.pipe.Epoch(); got != 3 {
		t.Errorf("epoch %d", got)
	}
	s.stop()
	s.publishEpoch(parameters.Epoch{Epoch: 1})
	s.start()
	s.stopped(0, "configuration_changed", "the state is of epoch 3, the published epoch is 1: was the topic of the parameters deleted and made again?")
	s.stop()
	if _, err := s.adm.DeleteTopic(t.Context(), "shop.parameters"); err != nil {
		t.Fatal(err)
	}
	if created, err := Init(t.Context(), s.adm, s.cfg, 2, 1); err != nil || len(created) != 1 {
		t.Fatalf("init creates %v: %v", created, err)
	}
	s.start()
	s.buy("o2")
	s.read(0, 1)
	if got := s.pipe.Epoch(); got != 3 {
		t.Errorf("epoch %d after the topic of the parameters was lost", got)
	}
}

// TestResetUnfinished: nobody starts, and no shard is acquired.
func TestResetUnfinished(t *testing.T) {
	s := newShop(t)
	s.start()
	s.buy("o1")
	s.read(0, 1)
	s.publishEpoch(parameters.Epoch{Epoch: 2, Reset: &parameters.Reset{Shards: 2}})
	const want = "a reset to epoch 2 has begun and is not finished: run \"asiduo reset\" again"
	fence, err := Connector(s.cfg.Kafka)(kgo.TransactionalID("shop-0"))
	if err != nil {
		t.Fatal(err)
	}
	defer fence.Close()
	if _, _, err := fence.ProducerID(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.buy("o2")
	s.stopped(0, "reset_unfinished", want)
	s.stop()
	s.refused(want)
	if _, err := s.adm.DeleteTopic(t.Context(), "shop.changelog"); err != nil { // as the reset does in the middle
		t.Fatal(err)
	}
	s.refused(want)
	if _, err := Init(t.Context(), s.adm, s.cfg, 2, 1); err == nil || err.Error() != want {
		t.Errorf("init while a reset is under way: %v", err)
	}
}

// TestInitAgain: brokers of which one does not know the topic of the parameters for a moment do not make init give an
// application its first epoch and rules again.
func TestInitAgain(t *testing.T) {
	s := newShop(t)
	s.publishEpoch(parameters.Epoch{Epoch: 3})
	topic := parameters.Topic(s.cfg.App)
	before, err := parameters.Read(t.Context(), Connector(s.cfg.Kafka), s.cfg.App)
	if err != nil {
		t.Fatal(err)
	}
	var asked, unknown atomic.Int64
	s.cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		req := r.(*kmsg.MetadataRequest)
		if len(req.Topics) != 1 || req.Topics[0].Topic == nil || *req.Topics[0].Topic != topic || asked.Add(1) != unknown.Load() {
			return nil, nil, false
		}
		host, port, err := net.SplitHostPort(s.cluster.ListenAddrs()[0])
		n, err2 := strconv.Atoi(port)
		if errors.Join(err, err2) != nil {
			return nil, nil, false
		}
		resp, b, is := req.ResponseKind().(*kmsg.MetadataResponse), kmsg.NewMetadataResponseBroker(), kmsg.NewMetadataResponseTopic()
		b.Host, b.Port = host, int32(n)
		is.Topic, is.ErrorCode = &topic, kerr.UnknownTopicOrPartition.Code
		resp.Brokers, resp.Topics = append(resp.Brokers, b), append(resp.Topics, is)
		return resp, nil, true
	})
	s.cfg.Rules.Frequency = [4]int{3, 5, 7, 9}
	most := int64(1)
	for n := int64(1); n <= most; n++ {
		asked.Store(0)
		unknown.Store(n)
		created, err := Init(t.Context(), s.adm, s.cfg, 2, 1)
		most = max(most, asked.Load())
		unknown.Store(0)
		set, err2 := parameters.Read(t.Context(), Connector(s.cfg.Kafka), s.cfg.App)
		if err2 != nil || set.Epoch.Epoch != 3 || !set.Rules[1].Same(before.Rules[1]) || len(created) > 0 {
			t.Errorf("init (%v) made %v and left epoch %d, versions %+v: %v", err, created, set.Epoch.Epoch, set.Newest, err2)
		}
	}
	if most < 4 {
		t.Errorf("the topic was asked for %d times", most)
	}
}
