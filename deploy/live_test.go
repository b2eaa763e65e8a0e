//go:build deploy

package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// site is an installation in small: a broker, two instances, Prometheus, Alertmanager, and somebody who is called.
type site struct {
	t          *testing.T
	dir        string
	kafka      string // directory of the broker
	broker     string
	instances  [2]*server
	files      [2]string // configurations
	monitors   [2]string
	prometheus string
	alerts     string // of Alertmanager

	mu     sync.Mutex
	called []call
}

// roomMiB is the size of the disk of the first instance; its mark is at 64.
const roomMiB = 512

// call is an alert as the webhook gets it.
type call struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// TestLive asks every panel of every dashboard, and breaks what the alerts are about.
func TestLive(t *testing.T) {
	s := newSite(t)
	t.Run("Dashboards", s.dashboards)
	t.Run("Alerts", s.breaks)
	t.Run("Systemd", s.systemd)
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.startKafka()
	// The first has a disk of its own, so that it can be filled.
	disk := filepath.Join(s.dir, "a")
	run(t, nil, "mkdir", disk)
	run(t, nil, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", roomMiB), "tmpfs", disk)
	t.Cleanup(func() {
		if out, err := try(context.Background(), nil, "umount", disk); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	for i, name := range []string{"a", "b"} {
		s.monitors[i] = address(t)
		s.files[i] = write(t, filepath.Join(s.dir, name+".yaml"), fmt.Sprintf(`app: shop
currency: GBP
kafka: {brokers: [%q]}
time: {zone: Europe/London, backfill: emit, announce_late_over: 36500d}
state: {dir: %q, min_free: 64MiB}
group: {session_timeout: 20s}
outputs: {replication_factor: 1}
archive: {dir: %q, every: 1m}
api: {listen: ""}
admin: {listen: %q}
monitor: {listen: %q}
`, s.broker, filepath.Join(s.dir, name), filepath.Join(s.dir, "archive"), address(t), s.monitors[i]))
	}
	run(t, nil, binary(t), "init", "-c", s.files[0])
	s.startAll()
	s.startPrometheus()
	run(t, nil, binary(t), "replay", "-c", s.files[0], path("cmd", "asiduo", "data", "online_retail.jsonl.gz"))
	s.produce(500, "not an order") // one in fifty
	return s
}

func (s *site) startKafka() {
	s.kafka = filepath.Join(s.dir, "kafka")
	script := path("deploy", "kafka", "kafka.sh")
	out := run(s.t, []string{"KAFKA_RUN=" + s.kafka}, "bash", script, "start")
	s.t.Cleanup(func() {
		_, err := try(context.Background(), nil, "bash", script, "stop", s.kafka)
		if err != nil {
			s.t.Error(err)
		}
	})
	s.broker = regexp.MustCompile(`(?m)^bootstrap=(.*)$`).FindStringSubmatch(out)[1]
	for _, topic := range []string{"purchases", "interactions"} {
		run(s.t, nil, "bash", script, "tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", s.broker,
			"--create", "--topic", topic, "--partitions", "4", "--config", "retention.ms=-1")
	}
}

func (s *site) startAll() {
	for i := range s.files {
		s.instances[i] = s.start(i)
	}
	s.awaitReady()
}

func (s *site) start(i int) *server {
	return start(s.t, s.files[i]+".log", binary(s.t), "run", "-c", s.files[i])
}

func (s *site) awaitReady() {
	for _, at := range s.monitors {
		await(s.t, 60*time.Second, "ready", func() error { _, err := get("http://" + at + "/readyz"); return err })
	}
}

// impatient makes alerts of the rules that wait for less, and for less of it.
var impatient = strings.NewReplacer("\n          > 300\n", "\n          > 30\n", "> 7200)", "> 20)", "[30m]))\n            / count by (namespace, job) (asiduo_build_info) > 6\n",
	"[40s]))\n            / count by (namespace, job) (asiduo_build_info) > 0\n", "[15m]))) > 600\n", "[90s]))) > 10\n")

// startPrometheus starts Prometheus with the alerts as they are, but for the time that they wait, and Alertmanager.
func (s *site) startPrometheus() {
	t := s.t
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var sent struct{ Alerts []call }
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.called = append(s.called, sent.Alerts...)
	}))
	t.Cleanup(hook.Close)
	rules := regexp.MustCompile(`(?m)^( +for: ).*$`).ReplaceAllString(read(t, path("deploy", "alerts", "asiduo.rules.yaml")), "${1}2s")
	sooner := impatient.Replace(rules)
	if len(rules)-len(sooner) != 4 { // one for 300, two for 7200, none for 6, one for 600
		t.Fatalf("the rules are %d letters shorter", len(rules)-len(sooner))
	}
	write(t, filepath.Join(s.dir, "rules.yaml"), sooner)
	prometheus, alerts := address(t), address(t)
	s.prometheus, s.alerts = "http://"+prometheus, "http://"+alerts
	am := write(t, filepath.Join(s.dir, "alertmanager.yaml"), fmt.Sprintf(`route: {receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: %q, send_resolved: true}]}]
`, hook.URL))
	start(t, filepath.Join(s.dir, "alertmanager.log"), "prometheus-alertmanager", "--config.file="+am,
		"--storage.path="+filepath.Join(s.dir, "alertmanager"), "--web.listen-address="+alerts, "--cluster.listen-address=")
	config := write(t, filepath.Join(s.dir, "prometheus.yaml"), fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yaml]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs: [{job_name: shop, static_configs: [{targets: [%q, %q]}]}]
`, alerts, s.monitors[0], s.monitors[1]))
	run(t, nil, "promtool", "check", "config", config)
	start(t, filepath.Join(s.dir, "prometheus.log"), "prometheus", "--config.file="+config,
		"--storage.tsdb.path="+filepath.Join(s.dir, "prometheus"), "--web.listen-address="+prometheus)
	for _, at := range []string{s.prometheus, s.alerts} {
		await(t, 30*time.Second, at, func() error { _, err := get(at + "/-/ready"); return err })
	}
	await(t, 30*time.Second, "both are scraped", func() error { // an increase needs something to begin with
		list, err := s.ask("query", url.Values{"query": {"count(asiduo_shards)"}})
		if err != nil || len(list) != 1 || list[0].Value[1] != "2" {
			return fmt.Errorf("%v %w", list, err)
		}
		return nil
	})
}

// produce writes so many records of one value into the input of purchases.
func (s *site) produce(n int, value string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.DefaultProduceTopic("purchases"))
	if err != nil {
		s.t.Error(err)
		return
	}
	defer cl.Close()
	for i := range n {
		cl.Produce(s.t.Context(), &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte(value)}, func(_ *kgo.Record, err error) {
			if err != nil {
				s.t.Error(err)
			}
		})
	}
	if err := cl.Flush(s.t.Context()); err != nil {
		s.t.Error(err)
	}
}

// series is one answer of Prometheus.
type series struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
	Values [][2]any          `json:"values"`
}

func (s *site) ask(api string, params url.Values) (list []series, err error) {
	var answer struct {
		Data struct{ Result []series }
	}
	err = getJSON(s.prometheus+"/api/v1/"+api+"?"+params.Encode(), &answer)
	return answer.Data.Result, err
}

// panel is what a test looks at of a panel of a dashboard.
type panel struct {
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct{ Expr, LegendFormat string }
	FieldConfig              struct {
		Defaults struct {
			Unit       string
			Thresholds struct {
				Steps []struct {
					Color string
					Value *float64
				}
			}
		}
	}
}

func panelsOf(t *testing.T, file string) []panel {
	t.Helper()
	var d struct{ Panels []panel }
	if err := json.Unmarshal([]byte(read(t, file)), &d); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return d.Panels
}

// filled is a query as Grafana sends it.
var filled = strings.NewReplacer("$__rate_interval", "10s", "$__range", "10m", `"$job"`, `".+"`, `"$shard"`, `".+"`)

// metricName finds the metrics that a query names.
var metricName = regexp.MustCompile(`\b(asiduo_[a-z0-9_]+|process_[a-z_]+|go_[a-z_]+)\b`)

// shownLabel finds the labels by which a query sums up in the end, and those that its legend shows.
var shownLabel = regexp.MustCompile(`^\w+ by \(([^)]*)\)|\{\{ *(\w+) *\}\}`)

// dashboards asks every query of every panel until it is answered, and draws the pages.
func (s *site) dashboards(t *testing.T) {
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	var names struct{ Data []string }
	asked := 0
	await(t, 90*time.Second, "every query has an answer", func() error {
		if err := getJSON(s.prometheus+"/api/v1/label/__name__/values", &names); err != nil {
			return err
		}
		var missing []error
		asked = 0
		for _, file := range files {
			for _, p := range panelsOf(t, file) {
				for _, q := range p.Targets {
					asked++
					missing = append(missing, s.answered(names.Data, file, p, filled.Replace(q.Expr), q.LegendFormat))
				}
			}
		}
		return errors.Join(missing...)
	})
	t.Logf("%d queries of %d dashboards have answers", asked, len(files))
	if asked < 50 {
		t.Errorf("only %d queries", asked)
	}
	s.sums(t)
	out := os.Getenv("ASIDUO_PICTURES")
	if out == "" {
		out = t.TempDir()
	}
	for _, file := range files {
		s.draw(t, file, out)
	}
}

// answered says why a query is not one that can be shown.
func (s *site) answered(known []string, file string, p panel, expr, legend string) error {
	where := fmt.Sprintf("%s, %s: %s", filepath.Base(file), p.Title, expr)
	for _, name := range metricName.FindAllString(expr, -1) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s: there is no metric %s", where, name)
		}
	}
	api, params := "query", url.Values{"query": {expr}}
	if p.Type == "timeseries" { // what is shown is the last while, not now
		now := time.Now()
		api = "query_range"
		params.Set("start", strconv.FormatInt(now.Add(-5*time.Minute).Unix(), 10))
		params.Set("end", strconv.FormatInt(now.Unix(), 10))
		params.Set("step", "1")
	}
	list, err := s.ask(api, params)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	for _, by := range shownLabel.FindAllStringSubmatch(expr+legend, -1) {
		for label := range strings.SplitSeq(by[1]+by[2], ",") {
			if label = strings.TrimSpace(label); label != "le" && !slices.ContainsFunc(list, func(one series) bool { return one.Metric[label] != "" }) {
				return fmt.Errorf("%s: no answer has the label %q", where, label)
			}
		}
	}
	for _, one := range list {
		for _, v := range append(one.Values, one.Value) {
			if text, _ := v[1].(string); text != "" && text != "NaN" {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: no answer", where)
}

// sums holds figures against each other that count the same.
func (s *site) sums(t *testing.T) {
	for _, same := range [][2]string{
		{`sum(asiduo_segment_flows_total)`, `sum(asiduo_segment_changes_total)`},
		{`sum(asiduo_shard_state{state="running"})`, `max(asiduo_shards)`},
	} {
		await(t, 10*time.Second, same[0], func() error {
			list, err := s.ask("query", url.Values{"query": {same[0] + " - " + same[1]}})
			if err != nil || len(list) != 1 || list[0].Value[1] != "0" {
				return fmt.Errorf("%v %w", list, err)
			}
			return nil
		})
	}
}

// runsAll says why an instance does not run all shards.
func runsAll(monitor string) error {
	body, err := get("http://" + monitor + "/readyz")
	if n := strings.Count(string(body), `"running"`); err == nil && n != 4 {
		err = fmt.Errorf("%d shards run", n)
	}
	return err
}

// systemd starts the unit with all its limits where the others have been stopped, and stops it.
func (s *site) systemd(t *testing.T) {
	dir, monitor := t.TempDir(), address(t)
	run(t, nil, "cp", binary(t), filepath.Join(dir, "asiduo"))
	run(t, nil, "cp", "systemd/asiduo.service", dir)
	write(t, filepath.Join(dir, "asiduo.yaml"), fmt.Sprintf(`app: shop
currency: GBP
kafka: {brokers: [%q]}
time: {zone: Europe/London, backfill: emit, announce_late_over: 36500d}
state: {dir: /var/lib/asiduo, min_free: 64MiB}
outputs: {replication_factor: 1}
group: {session_timeout: 20s}
api: {listen: ""}
admin: {listen: ""}
monitor: {listen: %q}
`, s.broker, monitor))
	unit := start(t, filepath.Join(dir, "systemd.log"), "bash", path(".ci", "systemd.sh"), dir)
	t.Cleanup(func() { // before it is killed: what it has made is taken away
		select {
		case <-unit.ended:
		default:
			unit.stop()
		}
	})
	log := filepath.Join(dir, "log")
	defer func() {
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("the service: %s", text)
		}
	}()
	took := await(t, 60*time.Second, "the service has taken over all shards", func() error { return runsAll(monitor) })
	limits := processLimits(t, "/etc/asiduo/asiduo.yaml")
	for name, want := range map[string]string{
		"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapPrm": "0000000000000000",
	} {
		if limits[name] != want {
			t.Errorf("the service has %s %s, want %s", name, limits[name], want)
		}
	}
	if uid := strings.Fields(limits["Uid"] + " 0")[0]; uid == "0" {
		t.Error("the service is root")
	}
	stopped := unit.stop()
	if code := unit.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("systemd exits %d", code)
	}
	if text := read(t, log); !strings.Contains(text, "shard released") {
		t.Error("the service has not let its shards go")
	}
	t.Logf("under systemd: all shards after %v, stopped in %v, as user %s with %s seccomp filters", took, stopped, strings.Fields(limits["Uid"])[0], limits["Seccomp_filters"])
}

// processLimits is what the kernel says about the process with an argument.
func processLimits(t *testing.T, argument string) map[string]string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err != nil || !slices.Contains(strings.Split(string(line), "\x00"), argument) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if err != nil {
			continue
		}
		found := map[string]string{}
		for text := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(text, ":")
			found[name] = strings.TrimSpace(value)
		}
		return found
	}
	t.Fatalf("no process with %s", argument)
	return nil
}
