package parameters_test

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/pipeline/parameters"
)

// broker is an embedded broker with the topic of the application shop.
func broker(t *testing.T) parameters.Connect {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "shop.parameters"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func(more ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.FetchIsolationLevel(kgo.ReadCommitted())}, more...)...)
	}
}

func publisher(t *testing.T, connect parameters.Connect) *parameters.Publisher {
	t.Helper()
	p, err := parameters.Open(t.Context(), connect, "shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// TestRoundTrip: what is published is read, the newest of each key, by readers and by the next publisher.
func TestRoundTrip(t *testing.T) {
	connect := broker(t)
	first := publisher(t, connect)
	if first.Set.Epoch.Epoch != 0 {
		t.Errorf("an empty topic has epoch %d", first.Set.Epoch.Epoch)
	}
	for n := 1; n <= 3; n++ {
		if err := first.PublishEpoch(t.Context(), parameters.Epoch{Epoch: n}); err != nil {
			t.Fatal(err)
		}
		set, err := parameters.Read(t.Context(), connect, "shop")
		if err != nil || set.Epoch.Epoch != n || first.Set.Epoch.Epoch != n {
			t.Errorf("published %d: read %+v, %v; the publisher has %+v", n, set, err, first.Set)
		}
	}
	second := publisher(t, connect)
	under := parameters.Epoch{Epoch: 4, Reset: &parameters.Reset{Shards: 8, Changelog: "abc", Settings: map[string]string{"a": "b"}}}
	if err := second.PublishEpoch(t.Context(), under); err != nil {
		t.Fatal(err)
	}
	if err := first.PublishEpoch(t.Context(), parameters.Epoch{Epoch: 9}); !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("a publisher that was fenced publishes: %v", err)
	}
	set, err := parameters.Read(t.Context(), connect, "shop")
	if err != nil || set.Epoch.Epoch != 4 || set.Epoch.Reset == nil || !reflect.DeepEqual(set.Epoch.Reset, under.Reset) {
		t.Errorf("read %+v, %v", set, err)
	}
}

// TestLeaderless: a topic whose leader is not known is not an empty one. A first version would take the place of the one that
// is there.
func TestLeaderless(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "shop.parameters"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	connect := func(more ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}, more...)...)
	}
	if err := publisher(t, connect).PublishEpoch(t.Context(), parameters.Epoch{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	c.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := r.ResponseKind().(*kmsg.MetadataResponse)
		b := kmsg.NewMetadataResponseBroker()
		host, port, _ := net.SplitHostPort(c.ListenAddrs()[0])
		n, _ := strconv.Atoi(port)
		b.Host, b.Port = host, int32(n)
		resp.Brokers = append(resp.Brokers, b)
		for _, topic := range r.(*kmsg.MetadataRequest).Topics {
			is := kmsg.NewMetadataResponseTopic()
			is.Topic, is.TopicID, is.ErrorCode = topic.Topic, topic.TopicID, kerr.LeaderNotAvailable.Code
			resp.Topics = append(resp.Topics, is)
		}
		return resp, nil, true
	})
	if set, err := parameters.Read(t.Context(), connect, "shop"); !errors.Is(err, kerr.LeaderNotAvailable) || errors.Is(err, parameters.ErrNone) {
		t.Errorf("read %+v, %v", set, err)
	}
}

// TestUnready: nothing is published for an application that was not set up, or seems so.
func TestUnready(t *testing.T) {
	p := publisher(t, broker(t))
	if _, err := p.PublishRules(t.Context(), parameters.Rules{}, 0); !errors.Is(err, parameters.ErrNone) {
		t.Errorf("rules: %v", err)
	}
	if _, err := p.PublishModel(t.Context(), parameters.Model{}, 0); !errors.Is(err, parameters.ErrNone) {
		t.Errorf("model: %v", err)
	}
}

// TestReadWaits: what a publisher has begun is decided before the set is read.
func TestReadWaits(t *testing.T) {
	connect := broker(t)
	if err := publisher(t, connect).PublishEpoch(t.Context(), parameters.Epoch{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	slow, err := connect(kgo.TransactionalID("slow"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	for _, commit := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := slow.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := slow.ProduceSync(t.Context(), &kgo.Record{Topic: "shop.parameters", Key: []byte("epoch"), Value: []byte(`{"epoch":2}`)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if set, err := parameters.Read(ctx, connect, "shop"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read %+v, %v before the transaction had ended", set, err)
		}
		cancel()
		if err := slow.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		want := 1
		if commit {
			want = 2
		}
		if set, err := parameters.Read(t.Context(), connect, "shop"); err != nil || set.Epoch.Epoch != want {
			t.Errorf("committed %v: read %+v, %v", commit, set, err)
		}
	}
}

// wording undoes what the JSON library varies from process to process, so that nobody depends on it.
var wording = strings.NewReplacer("json: unable to ", "json: cannot ")

// TestUnreadable are topics that cannot be used, and what is said about them.
func TestUnreadable(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"", "", `topic "shop.parameters" is empty: no parameters are published: run "asiduo init"`},
		{"epoch", "{", `topic "shop.parameters", offset 0: epoch is not readable: jsontext: unexpected EOF after offset 1: "{"`},
		{"epoch", `{"epoch":0}`, `topic "shop.parameters", offset 0: epoch is not readable: it is less than 1: "{\"epoch\":0}"`},
		{"epoch", "", `topic "shop.parameters", offset 0: epoch is not readable: jsontext: unexpected EOF: ""`},
		{"rules", "{}", `topic "shop.parameters", offset 0: unknown key "rules": was it written by a newer release, or by somebody else?`},
		{"epoch/1", "{}", `topic "shop.parameters", offset 0: unknown key "epoch/1": was it written by a newer release, or by somebody else?`},
		{"plans/1", "{}", `topic "shop.parameters", offset 0: unknown key "plans/1": was it written by a newer release, or by somebody else?`},
		{"rules/1", "{}", `topic "shop.parameters", offset 0: rules/1 is not readable: cuts of recency or frequency do not ascend: "{}"`},
		{"cuts/1", `{"version":1,"cuts":[1,3,2,4]}`, `topic "shop.parameters", offset 0: cuts/1 is not readable: cuts of money do not ascend: "{\"version\":1,\"cuts\":[1,3,2,4]}"`},
		{"cuts/2", `{"version":1,"cuts":[1,2,3,4]}`, `topic "shop.parameters", offset 0: cuts/2 is not readable: it says that it is version 1: "{\"version\":1,\"cuts\":[1,2,3,4]}"`},
		{"model/1", `{"version":1,"method":"magic"}`, `topic "shop.parameters", offset 0: model/1 is not readable: unknown churn method "magic": "{\"version\":1,\"method\":\"magic\"}"`},
		{"model/1", `{"version":1,"method":"none","confidence":"sure"}`, `topic "shop.parameters", offset 0: model/1 is not readable: unknown confidence "sure": "{\"version\":1,\"method\":\"none\",\"confidence\":\"sure\"}"`},
		{"model/1", `{"version":1,"method":"none","calibration":{"method":"x"}}`, `topic "shop.parameters", offset 0: model/1 is not readable: a calibration map is platt or isotonic, found x: "{\"version\":1,\"method\":\"none\",\"calibration\":{\"method\":\"x\"}}"`},
		{"model/1", `{"version":1,"method":"none","calibration":{"method":"platt","b":1,"horizon":90}}`, `topic "shop.parameters", offset 0: model/1 is not readable: the calibration map is for 90 days, the horizon is 0: "{\"version\":1,\"method\":\"none\",\"calibration\":{\"method\":\"platt\",\"b\":1,\"horizon\":90}}"`},
		{"model/1", `{"version":1,"method":"none","percentiles":[{"orders":2}]}`, `topic "shop.parameters", offset 0: model/1 is not readable: classes of percentiles do not ascend from 1 order: "{\"version\":1,\"method\":\"none\",\"percentiles\":[{\"orders\":2}]}"`},
		{"model/1", `{"version":1,"method":"none","value":{}}`, `topic "shop.parameters", offset 0: model/1 is not readable: a value needs the method mbg_nbd, found none: "{\"version\":1,\"method\":\"none\",\"value\":{}}"`},
		{"live", "{}", `topic "shop.parameters", offset 0: live is not readable: it has no live_from: "{}"`},
		{"population/0", `{"buyers":"AA"}`, `topic "shop.parameters", offset 0: population/0 is not readable: json: cannot unmarshal JSON string into Go population.Histogram within "/buyers": not a histogram: "{\"buyers\":\"AA\"}"`},
	} {
		connect := broker(t)
		cl, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		if c.key != "" {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "shop.parameters", Key: []byte(c.key), Value: []byte(c.value)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := parameters.Read(t.Context(), connect, "shop"); err == nil || wording.Replace(err.Error()) != c.want || errors.Is(err, parameters.ErrNone) != (c.key == "") {
			t.Errorf("%s %s: got %v, want %s", c.key, c.value, err, c.want)
		}
		if _, err := kadm.NewClient(cl).DeleteTopic(t.Context(), "shop.parameters"); err != nil {
			t.Fatal(err)
		}
		cl.Close()
		if _, err := parameters.Read(t.Context(), connect, "shop"); !errors.Is(err, parameters.ErrNone) || !strings.Contains(err.Error(), "it is missing") {
			t.Errorf("a missing topic: %v", err)
		}
	}
}
