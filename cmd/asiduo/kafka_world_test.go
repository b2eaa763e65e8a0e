//go:build kafka

package main

import (
	"context"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
)

const (
	worldShards    = 4
	sessionTimeout = 6 * time.Second
)

// world is one application on the real broker: its topics, what is written into them, and what must come out.
type world struct {
	t      testing.TB
	dir    string
	binary string
	judge  oracle.Config
	cfg    config.Config
	print  func(io.Writer, config.Config) error // what an instance reads
	cl     *kgo.Client
	adm    *kadm.Client

	load    *load
	loading sync.WaitGroup
	quit    context.CancelFunc
}

// newWorld makes the topics, the pipeline's own by "asiduo init", and writes the past into the inputs: whoever starts
// has months of orders to read before silence may be played.
func newWorld(t testing.TB, app string) *world {
	t.Helper()
	return newWorldOf(t, app, realBroker(t), smallScale, uint64(time.Now().UnixNano()), nil)
}

// newWorldOf is newWorld of another size, on some brokers, with more settings.
func newWorldOf(t testing.TB, app string, brokers []string, sc scale, seed uint64, more func(*world)) *world {
	t.Helper()
	t.Logf("seed of the load: %d", seed)
	w := &world{t: t, dir: t.TempDir(), binary: binary(t), print: config.Print, quit: func() {}}
	w.judge = judgeConfig(app, time.Now().Add(sc.span+time.Hour)) // any time after the last due instant, and hours before the next
	w.cfg = configOf(t, w.judge)
	c := &w.cfg
	c.Kafka.Brokers, c.Shards, c.Outputs.ReplicationFactor = brokers, worldShards, 1
	c.Group.SessionTimeout, c.Group.Heartbeat = config.Duration(sessionTimeout), config.Duration(500*time.Millisecond)
	c.State.FlushEvery, c.Cycle.Records = config.Duration(time.Second), 50
	c.Time.AnnounceLateOver = config.Duration(3650 * 24 * time.Hour) // the past is announced too, so that it is judged
	c.Archive.Dir, c.Archive.Every = w.dir+"/archive", 0
	if more != nil {
		more(w)
	}
	var err error
	if w.cl, w.adm, err = admin(t.Context(), c.Kafka, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.quit()
		w.loading.Wait()
		if err := deleteTopics(context.Background(), w.adm, w.cfg); err != nil {
			t.Error(err)
		}
		w.cl.Close()
	})
	if err := createInputs(t.Context(), w.adm, w.cfg, 2*worldShards); err != nil {
		t.Fatal(err)
	}
	shown(t, w, pipeline.InputTopics(w.cfg)...)
	newProcess(t, w, "init").command("init")
	shown(t, w, topicNames(w.cfg)...)
	w.load = newLoad("", w.judge.Inputs, sc, seed, time.Now())
	for _, r := range w.load.past() {
		w.cl.Produce(t.Context(), r, w.written)
	}
	if err := w.cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// shown waits until every broker knows topics, with a leader for each partition.
func shown(t testing.TB, w *world, topics ...string) {
	t.Helper()
	await(t, 30*time.Second, "the brokers show the topics", func() bool {
		brokers, err := w.adm.ListBrokers(t.Context())
		for _, b := range brokers {
			req := kmsg.NewPtrMetadataRequest()
			for _, name := range topics {
				topic := kmsg.NewMetadataRequestTopic()
				topic.Topic = &name
				req.Topics = append(req.Topics, topic)
			}
			resp, failed := w.cl.Broker(int(b.NodeID)).RetriableRequest(t.Context(), req)
			if failed != nil {
				return false
			}
			for _, topic := range resp.(*kmsg.MetadataResponse).Topics {
				if topic.ErrorCode != 0 || slices.ContainsFunc(topic.Partitions, func(p kmsg.MetadataResponseTopicPartition) bool { return p.ErrorCode != 0 }) {
					return false
				}
			}
		}
		return err == nil
	})
}

func judgeConfig(app string, end time.Time) oracle.Config {
	return oracle.Config{
		App: app, Epoch: 1, Clock: "broker", EventTime: "record", EndClock: end.UTC().Format("2006-01-02T15:04:05.000Z"),
		Backfill: "silent", Partitions: 2 * worldShards, Inputs: oracle.Inputs{Purchases: app + "-purchases", Interactions: app + "-interactions"},
		Currency: "EUR", MinorDigits: 2, TimeZone: "Europe/Madrid",
		Rules: oracle.Rules{
			Name: "rfm11", RecencyDays: []int{30, 90, 180, 365}, Frequency: []int{2, 3, 5, 10},
			Money: oracle.Money{Mode: "fixed", Cuts: []string{"50.00", "100.00", "200.00", "400.00"}}, WindowDays: 730,
		},
		Churn: oracle.Churn{
			Method: "mbg_nbd", Params: oracle.ChurnParams{R: 1, Alpha: 30, A: 1, B: 1}, HorizonDays: 90,
			Bands: []string{"0.33", "0.66"}, Hysteresis: "0.03", Jump: "0.15",
		},
		Limits: oracle.Limits{MaxRecordBytes: 1 << 16, FutureHours: 24},
	}
}

func (w *world) written(r *kgo.Record, err error) {
	if err != nil && w.t.Context().Err() == nil {
		w.t.Errorf("write %s: %v", r.Topic, err)
	}
}

// startLoad writes what happens now, until stopLoad. Before it begins, the past must have been played: a record that
// is older than the silence that was played after it would rightly be taken for late.
func (w *world) startLoad(perSecond int, all ...*process) {
	w.t.Helper()
	since := time.Now()
	await(w.t, 60*time.Second, "the past is played", func() bool {
		played := map[int32]bool{}
		for _, p := range all {
			for _, s := range p.shards() {
				if s.Horizon != nil && s.Horizon.After(since) {
					played[s.Shard] = true
				}
			}
		}
		return len(played) == worldShards
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	w.quit = cancel
	w.loading.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				for _, r := range w.load.next(time.Now()) {
					w.cl.Produce(context.WithoutCancel(ctx), r, w.written)
				}
			}
		}
	})
}

// stopLoad returns when all that was written is in the inputs.
func (w *world) stopLoad() {
	w.t.Helper()
	w.quit()
	w.loading.Wait()
	if err := w.cl.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// want is what must come out of the inputs as they lie in the topics.
func (w *world) want() []oracle.Output {
	w.t.Helper()
	var log []oracle.Record
	for _, topic := range pipeline.InputTopics(w.cfg) {
		for _, r := range w.read(topic) {
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			log = append(log, oracle.Record{
				Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value, Headers: headers,
			})
		}
	}
	want, err := oracle.Play(w.judge, log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%d records, %d must come out", len(log), len(want))
	return want
}

// read reads the committed records of a topic.
func (w *world) read(topic string) (list []*kgo.Record) {
	w.t.Helper()
	for r, err := range (&rehearsal{cfg: w.cfg, adm: w.adm}).committed(w.t.Context(), topic) {
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// got is what has come out.
func (w *world) got() []oracle.Output {
	w.t.Helper()
	dir, err := os.MkdirTemp(w.dir, "out")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := (&rehearsal{cfg: w.cfg, adm: w.adm}).dump(w.t.Context(), dir); err != nil {
		w.t.Fatal(err)
	}
	got, err := oracle.ReadOutputs(dir, w.cfg.App)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// settle stops the load and waits until what has come out is what must.
func (w *world) settle() (want []oracle.Output) {
	w.t.Helper()
	w.stopLoad()
	time.Sleep(time.Until(w.load.lastDue()))
	want = w.want()
	for began := time.Now(); ; time.Sleep(500 * time.Millisecond) {
		got := w.got()
		diffs := oracle.Diff(want, got)
		if len(diffs) == 0 {
			counts := map[string]int{}
			for _, o := range got {
				counts[o.Topic]++
			}
			w.t.Logf("all right %v after the last record: %v", time.Since(began).Round(time.Millisecond), counts)
			return want
		}
		if time.Since(began) > time.Minute {
			report(w.t, diffs)
			w.t.FailNow()
		}
	}
}

// finish settles and stops the instances; nothing may have come out since.
func (w *world) finish(all ...*process) {
	w.t.Helper()
	want := w.settle()
	for _, p := range all {
		if p.cmd != nil {
			p.stop()
		}
	}
	report(w.t, oracle.Diff(want, w.got()))
}
