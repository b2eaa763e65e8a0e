package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// town is a broker with the topics of an application, and somebody who writes its inputs and reads what comes out.
type town struct {
	t       *testing.T
	cluster *kfake.Cluster
	broker  string
	cl      *kgo.Client
	place   pipeline.Partitioner
	disk    vfs.FS     // of the processes
	news    chan moved // of the topic of segment changes
}

// moved is what a test looks at of a segment change.
type moved struct {
	Customer   string                    `json:"customer_id"`
	Sequence   int                       `json:"sequence"`
	From       *struct{ Segment string } `json:"from"`
	To         struct{ Segment string }  `json:"to"`
	Transition struct{ Cause string }    `json:"transition"`
	time       string                    // ce_time
}

const townShards = 4

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{t: t, disk: vfs.Default, news: make(chan moved, 100)}
	w.cluster, w.broker = fakeBroker(t, kfake.SeedTopics(townShards, "purchases", "interactions"))
	if got := command(t, "init", "-c", configFile(t, w.broker, "")); got.code != exitGood {
		t.Fatalf("init: %+v", got)
	}
	var err error
	if w.place, err = pipeline.NewPartitioner("murmur2"); err != nil {
		t.Fatal(err)
	}
	if w.cl, err = kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.ConsumeTopics("shop.segment-changes"), kgo.FetchIsolationLevel(kgo.ReadCommitted())); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.listen(ctx) }()
	t.Cleanup(func() { cancel(); <-done; w.cl.Close() })
	return w
}

// listen is a subscriber.
func (w *town) listen(ctx context.Context) {
	for ctx.Err() == nil {
		for r := range w.cl.PollFetches(ctx).RecordsAll() {
			var c moved
			if err := json.Unmarshal(r.Value, &c); err != nil {
				w.t.Errorf("segment change %s: %v", r.Value, err)
			}
			for _, h := range r.Headers {
				if h.Key == "ce_time" {
					c.time = string(h.Value)
				}
			}
			w.news <- c
		}
	}
}

// expect is the next segment change, which must come within a time and say what is wanted.
func (w *town) expect(customer, from, to, cause string) moved {
	w.t.Helper()
	select {
	case c := <-w.news:
		was := ""
		if c.From != nil {
			was = c.From.Segment
		}
		if c.Customer != customer || was != from || c.To.Segment != to || c.Transition.Cause != cause {
			w.t.Fatalf("%s moves %q -> %q (%s), want %s %q -> %q (%s)", c.Customer, was, c.To.Segment, c.Transition.Cause, customer, from, to, cause)
		}
		return c
	case <-time.After(patience):
		w.t.Fatalf("%s has not moved %q -> %q (%s) within %v", customer, from, to, cause, patience)
	}
	return moved{}
}

// buy writes an order, placed and stamped at an instant.
func (w *town) buy(customer, order string, at time.Time) {
	w.t.Helper()
	value := fmt.Sprintf(`{"order_id":%q,"customer_id":%q,"ordered_at":%q,"amount":"12.50","currency":"EUR"}`, order, customer, at.UTC().Format("2006-01-02T15:04:05.000Z"))
	r := &kgo.Record{Topic: "purchases", Partition: w.place([]byte(customer), townShards), Key: []byte(customer), Value: []byte(value), Timestamp: at}
	if err := w.cl.ProduceSync(w.t.Context(), r).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// service is "asiduo run" in this process.
type service struct {
	t          *testing.T
	file       string // its configuration
	cfg        config.Config
	log        logged
	cancel     context.CancelFunc
	done       chan error
	api, admin string
}

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// unused is an address that nobody listens at.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// run starts a process with a data directory of its own; pairs of texts change its configuration.
func (w *town) run(change ...string) *service {
	w.t.Helper()
	dir := w.t.TempDir()
	text := fmt.Sprintf(`app: shop
currency: EUR
kafka: {brokers: [%q]}
time: {clock: wall, live_from: "1970-01-01T00:00:00Z"}
group: {session_timeout: 2s, heartbeat: 200ms}
state: {dir: %q}
archive: {dir: %q, every: 0s}
outputs: {replication_factor: 1}
api: {listen: %q}
admin: {listen: %q}
log: {level: debug, format: json}
`, w.broker, filepath.Join(dir, "data"), filepath.Join(dir, "archive"), unused(w.t), unused(w.t))
	return w.again(written(w.t, "asiduo.yaml", strings.NewReplacer(change...).Replace(text)))
}

// again starts a process with a configuration that one had before.
func (w *town) again(file string) *service {
	w.t.Helper()
	cfg, err := loadConfig(file)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &service{t: w.t, file: file, cfg: cfg, api: cfg.API.Listen, admin: cfg.Admin.Listen, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { s.done <- runPipeline(ctx, cfg, w.disk, newLog(cfg.Log, &s.log, slog.LevelDebug)) }()
	w.t.Cleanup(func() {
		s.stop()
		if w.t.Failed() {
			w.t.Log(s.log.String())
		}
	})
	return s
}

// stop ends it as SIGTERM does: soon, and without an error.
func (s *service) stop() {
	s.t.Helper()
	if s.cancel == nil {
		return
	}
	began := time.Now()
	s.cancel()
	s.cancel = nil
	if err := <-s.done; err != nil {
		s.t.Errorf("run: %v", err)
	}
	if took := time.Since(began); took > 15*time.Second { // far from the minutes of a time-out
		s.t.Errorf("it took %v to stop", took)
	}
}

// plain asks without following redirections, on connections of its own.
var plain = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       patience,
}

// ask is the answer to a request; status 0 while nobody listens.
func (s *service) ask(method, at, path string) (status int, body string, h http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+at+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := plain.Do(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// askWith is the answer to somebody with a token.
func (s *service) askWith(token, at, path string) (status int, body string) {
	s.t.Helper()
	status, body, _ = s.get(at+path, "Authorization", "Bearer "+token)
	return status, body
}

// get is the answer to a request with a header, of somebody who listens.
func (s *service) get(at, header, value string) (status int, body string, h http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", "http://"+at, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set(header, value)
	resp, err := plain.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// patience is how long a test waits for what mostly takes milliseconds: a machine may be busy with others.
var patience = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("ASIDUO_PATIENCE")); err == nil {
		return d
	}
	return time.Minute
}()

// eventually polls a condition.
func eventually(t *testing.T, what string, until func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !until() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// ready waits until readiness says so with a number of shards.
func (s *service) ready(shards int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d shards are ready", shards), func() bool {
		status, body, _ := s.ask("GET", s.api, "/readyz")
		return status == http.StatusOK && strings.Count(body, `"running"`) == shards
	})
}

// TestRun is a process from its start to its end, in real time.
func TestRun(t *testing.T) {
	w := newTown(t)
	var open sync.Mutex
	open.Lock() // nobody may join the group for now
	w.cluster.ControlKey(int16(kmsg.JoinGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if open.TryLock() {
			open.Unlock()
			return nil, nil, false
		}
		no := r.ResponseKind().(*kmsg.JoinGroupResponse)
		no.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return no, nil, true
	})
	s := w.run()
	eventually(t, "it listens", func() bool { status, _, _ := s.ask("GET", s.api, "/livez"); return status == http.StatusOK })
	if status, body, _ := s.ask("GET", s.api, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "not yet a member of the group") {
		t.Errorf("readyz before there are shards: %d %s", status, body)
	}
	open.Unlock()
	s.ready(townShards)

	now := time.Now()
	w.buy("canary-ana", "o1", now)
	if c := w.expect("canary-ana", "", "new", "order"); c.time != now.UTC().Format("2006-01-02T15:04:05.000Z") {
		t.Errorf("the first change is of %s, the order of %v", c.time, now)
	}
	// Silence, in real time: the last order becomes 30 days old in a moment.
	due := time.Now().Add(1500 * time.Millisecond).UTC().Truncate(time.Millisecond)
	w.buy("canary-bob", "o2", due.AddDate(0, 0, -30).Add(-time.Millisecond)) // older than 30 days at due
	w.expect("canary-bob", "", "new", "order")
	c := w.expect("canary-bob", "new", "promising", "timer")
	if late := time.Since(due); late < 0 || c.time != due.Format("2006-01-02T15:04:05.000Z") {
		t.Errorf("silence due at %v is told %v later, as of %s", due, late, c.time)
	}
	s.answers()
	s.stop()
	if text := s.log.String(); strings.Contains(text, "canary-") || !strings.Contains(text, "shard restored") {
		t.Errorf("the log names a customer, or says nothing:\n%s", text)
	}
}

// answers holds what HTTP says about two customers.
func (s *service) answers() {
	t := s.t
	t.Helper()
	eventually(t, "the customer is shown as promising", func() bool {
		status, body, _ := s.ask("GET", s.api, "/v1/customers/canary-bob")
		return status == http.StatusOK && strings.Contains(body, `"segment":"promising"`)
	})
	if status, body, _ := s.ask("GET", s.api, "/v1/customers/canary-eve"); status != http.StatusNotFound || strings.Contains(body, "eve") {
		t.Errorf("nobody: %d %s", status, body)
	}
	status, body, _ := s.ask("POST", s.admin, "/v1/snapshot")
	day := time.Now().UTC().Format(time.DateOnly)
	for shard := range townShards {
		if part := fmt.Sprintf("dt=%s/part-%d.parquet", day, shard); status != http.StatusOK || !strings.Contains(body, part) {
			t.Errorf("snapshot: %d, without %s: %s", status, part, body)
		}
	}
	published, err := filepath.Glob(filepath.Join(s.cfg.Archive.Dir, "snapshots", "dt="+day, "_*"))
	if err != nil || len(published) != 2 {
		t.Errorf("the snapshot is published as %q %v", published, err)
	}
	_, text, _ := s.ask("GET", s.admin, "/metrics")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if strings.Contains(text, "canary-") {
		t.Error("the metrics name a customer")
	}
	for _, name := range strings.Fields(families) {
		if !strings.Contains(text, "\n# TYPE asiduo_"+name+" ") {
			t.Errorf("no metric asiduo_%s", name)
		}
	}
}

// families are all that are told, without their prefix.
const families = `build_info records_consumed_total dead_letters_total segment_changes_total churn_risk_changes_total cycles_total
cycle_phase_duration_seconds commit_duration_seconds acquire_duration_seconds timer_lateness_seconds timers_fired_total
shard_closed_total store_rebuilds_total assignments_total restored_records_total store_background_errors_total
store_stalled_seconds_total shard_state lag_records last_record_timestamp_seconds horizon_timestamp_seconds
clock_difference_seconds input_records_lost_total store_disk_bytes store_memtable_bytes store_read_amplification store_compaction_debt_bytes
store_block_cache_hits_total store_block_cache_misses_total parameters_version sweep_progress_ratio swept_customers_total customers building
parameters_file_differs http_requests_total http_request_duration_seconds`

// TestTwoProcesses share the shards, each sends questions about the customers of the other there, and the one that is
// left takes all of them again.
func TestTwoProcesses(t *testing.T) {
	w := newTown(t)
	a := w.run()
	a.ready(townShards)
	b := w.run()
	a.ready(townShards / 2)
	b.ready(townShards / 2)
	all := map[*service]*service{a: b, b: a}
	asked := map[*service]int{}
	for i := range 12 {
		id := fmt.Sprintf("c/%d", i)
		w.buy(id, "o1", time.Now())
		w.expect(id, "", "new", "order")
		path := "/v1/customers/c%2F" + fmt.Sprint(i)
		eventually(t, id+" is in the store of its owner", func() bool { // which is written after the transaction
			here, _, _ := a.ask("GET", a.api, path)
			there, _, _ := b.ask("GET", b.api, path)
			return here == http.StatusOK || there == http.StatusOK
		})
		for s, other := range all {
			status, body, h := s.ask("GET", s.api, path)
			switch status {
			case http.StatusOK:
				asked[s]++
			case http.StatusTemporaryRedirect:
				if want := "http://" + other.api + path; h.Get("Location") != want {
					t.Errorf("%s is at %s, want %s", id, h.Get("Location"), want)
				}
				if status, body, _ := other.ask("GET", other.api, path); status != http.StatusOK {
					t.Errorf("%s: neither here nor there: %d %s", id, status, body)
				}
			default:
				t.Errorf("%s: %d %s", id, status, body)
			}
		}
	}
	if asked[a] == 0 || asked[b] == 0 || asked[a]+asked[b] != 12 {
		t.Errorf("customers are served %d and %d times, want 12 together", asked[a], asked[b])
	}
	b.stop()
	a.ready(townShards)
	if status, body, _ := a.ask("GET", a.api, "/v1/customers/c%2F0"); status != http.StatusOK {
		t.Errorf("after the take-over: %d %s", status, body)
	}
}

// TestArchiveFails has a directory of snapshots that cannot be written. Processing does not notice, the metric and the
// log say so, and what was missed is written when it can be.
func TestArchiveFails(t *testing.T) {
	w := newTown(t)
	s := w.run("every: 0s", "every: 1m")
	if err := os.WriteFile(s.cfg.Archive.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.ready(townShards)
	metric := func(name string) (v float64) {
		_, text, _ := s.ask("GET", s.admin, "/metrics")
		_, line, _ := strings.Cut(text, "\n"+name+" ")
		_, _ = fmt.Sscan(line, &v)
		return v
	}
	eventually(t, "the metric to say so", func() bool { return metric("asiduo_snapshot_errors_total") > 0 })
	if !strings.Contains(s.log.String(), "snapshot failed, processing goes on") {
		t.Error("the log does not say so")
	}
	w.buy("canary-ana", "o1", time.Now())
	w.expect("canary-ana", "", "new", "order")
	s.ready(townShards)
	if err := os.Remove(s.cfg.Archive.Dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a snapshot to be published", func() bool { return metric("asiduo_snapshot_published_timestamp_seconds") > 0 })
}
