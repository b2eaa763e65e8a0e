//go:build kafka

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// throttles counts the answers in which a broker asks a client to wait.
type throttles struct{ n atomic.Int64 }

func (h *throttles) OnBrokerThrottle(kgo.BrokerMetadata, time.Duration, bool) { h.n.Add(1) }

// OnBrokerConnect makes it a hook of connections too; nothing is done with them.
func (h *throttles) OnBrokerConnect(kgo.BrokerMetadata, time.Duration, net.Conn, error) {}

// TestKafkaQuota has brokers that let their clients write less than comes in: what waits waits in the inputs, no shard is
// closed for it, and nothing is lost.
func TestKafkaQuota(t *testing.T) {
	w := newWorld(t, "quota")
	a := newProcess(t, w, "a")
	a.start()
	awaitAll(t, 20*time.Second, "one has the shards", worldShards, a)
	w.startLoad(100, a)
	client := "asiduo"
	quota := func(op kadm.AlterClientQuotaOp) {
		t.Helper()
		entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: &client}}
		done, err := w.adm.AlterClientQuotas(t.Context(), []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{op}}})
		if err == nil && len(done) == 1 {
			err = done[0].Err
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	closed := func() (list []string) {
		text, status := a.get(a.cfg.Admin.Listen, "/metrics")
		if status != http.StatusOK {
			return nil
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "asiduo_shard_closed_total") && !strings.HasSuffix(line, " 0\n") {
				list = append(list, strings.TrimSpace(line))
			}
		}
		return list
	}
	before := closed()
	t.Cleanup(func() {
		entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: &client}}
		_, _ = w.adm.AlterClientQuotas(context.Background(), []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Remove: true}}}})
	})
	quota(kadm.AlterClientQuotaOp{Key: "producer_byte_rate", Value: 30_000})
	// Another client of that name is told to wait, so the process is as well.
	var told throttles
	other, err := kgo.NewClient(kgo.SeedBrokers(w.cfg.Kafka.Brokers...), kgo.ClientID(client), kgo.WithHooks(&told))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := w.adm.CreateTopic(t.Context(), 1, 1, nil, "quota.other"); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = w.adm.DeleteTopics(t.Context(), "quota.other") }()
	for began := time.Now(); time.Since(began) < 8*time.Second; {
		r := &kgo.Record{Topic: "quota.other", Value: []byte(strings.Repeat(fmt.Sprint(time.Now().UnixNano()), 2000))}
		if err := other.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if told.n.Load() == 0 {
		t.Error("the brokers have not throttled anybody")
	}
	quota(kadm.AlterClientQuotaOp{Key: "producer_byte_rate", Remove: true})
	w.stopLoad()
	t.Logf("a client of that name was throttled %d times", told.n.Load())
	if after := closed(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("shards were closed: %q, before %q", after, before)
	}
	w.finish(a)
}
