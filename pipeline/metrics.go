package pipeline

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
)

// metrics are all that this package tells Prometheus. Label sets are closed; no label names a customer.
type metrics struct {
	consumed     *prometheus.CounterVec
	deadLetters  *prometheus.CounterVec
	segments     *prometheus.CounterVec
	flows        *prometheus.CounterVec
	risks        *prometheus.CounterVec
	cycles       *prometheus.CounterVec
	phases       *prometheus.HistogramVec
	commit       *prometheus.HistogramVec
	acquire      *prometheus.HistogramVec
	lateness     *prometheus.HistogramVec
	timersFired  *prometheus.CounterVec
	closed       *prometheus.CounterVec
	rebuilds     *prometheus.CounterVec
	rebalances   prometheus.Counter
	restored     *prometheus.CounterVec
	lost         *prometheus.CounterVec
	emptied      *prometheus.CounterVec
	storeTrouble *prometheus.CounterVec
	storeStalled *prometheus.CounterVec
	states       *prometheus.GaugeVec
	lag          *prometheus.GaugeVec
	lastRecord   *prometheus.GaugeVec
	horizon      *prometheus.GaugeVec
	pinned       *prometheus.GaugeVec
	adopted      *prometheus.GaugeVec
	sweep        *prometheus.GaugeVec
	swept        *prometheus.CounterVec
	customers    *prometheus.GaugeVec
	building     *prometheus.GaugeVec
	file         *prometheus.GaugeVec
	drift        prometheus.Gauge
	shards       prometheus.Gauge

	mu   sync.Mutex
	ends map[int32]map[string]map[int32]int64 // of the inputs, as fetches tell
}

// closings are the reasons for which a shard's life ends, rebuildings those for which a store is given up. Like those of
// dead letters they are told from the beginning: the first event of a series that did not exist is no increase.
var (
	closings = []string{
		"error", "timeout", "fenced", "not_authorized", "diverged", "poison", // another attempt follows
		"misrouted", "input_recreated", "input_truncated", "changelog", "changelog_lost", "newer_format", "configuration_changed", "reset_unfinished", "import_unfinished", "topic_settings", "parameters", // somebody has to act
	}
	rebuildings = []string{"corrupt", "diverged"}
)

var shardStates = []string{"assigned", "acquiring", "restoring", "running", "disk_full", "closed", "stopped"}

func newMetrics(reg prometheus.Registerer, p *Pipeline) *metrics {
	m := &metrics{ends: map[int32]map[string]map[int32]int64{}}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "asiduo_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "asiduo_" + name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "asiduo_" + name, Help: help})
		reg.MustRegister(g)
		return g
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "asiduo_" + name, Help: help}, labels)
		reg.MustRegister(g)
		return g
	}
	seconds := func(name, help string, from, to float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{
			Name: "asiduo_" + name, Help: help, Buckets: prometheus.ExponentialBucketsRange(from, to, 14),
			NativeHistogramBucketFactor: 1.2, NativeHistogramMaxBucketNumber: 100,
		}
	}
	histograms := func(name, help string, from, to float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(seconds(name, help, from, to), labels)
		reg.MustRegister(h)
		return h
	}
	m.consumed = counters("records_consumed_total", "Records read from an input, those without effect included.", "shard", "topic")
	m.deadLetters = counters("dead_letters_total", "Records that could not be used, by reason.", "shard", "reason")
	m.segments = counters("segment_changes_total", "Announced changes into a segment, by cause.", "shard", "segment", "cause")
	m.flows = counters("segment_flows_total", "Announced changes of segment, by the segments before (none: the first) and after.", "from", "to")
	m.risks = counters("churn_risk_changes_total", "Announced changes of churn risk, by band after it and cause.", "shard", "band", "cause")
	m.cycles = counters("cycles_total", "Committed cycles.", "shard")
	m.phases = histograms("cycle_phase_duration_seconds", "Time of a cycle's phases: work, commit (the transaction), store.", 1e-4, 10, "shard", "phase")
	m.commit = histograms("commit_duration_seconds", "Time to end a transaction.", 1e-4, 10, "shard")
	m.acquire = histograms("acquire_duration_seconds", "Time from asking for a shard to serving it.", 1e-2, 600, "shard")
	m.lateness = histograms("timer_lateness_seconds", "Time from the instant at which silence mattered to its being played.", 0.1, 1e6, "shard")
	m.timersFired = counters("timers_fired_total", "Customers moved by silence.", "shard")
	m.closed = counters("shard_closed_total", "Ends of a shard's life for another reason than its assignment, by reason.", "reason")
	m.rebuilds = counters("store_rebuilds_total", "Stores that were given up and rebuilt from the changelog, by reason.", "reason")
	m.rebalances = counter("assignments_total", "Times that the group gave shards to this process.")
	m.restored = counters("restored_records_total", "Records of the changelog read when acquiring shards.", "shard")
	m.lost = counters("input_records_lost_total", "Records of an input that were deleted before they were read, as far as they can be counted (inputs.lost: skip).", "shard", "topic")
	m.emptied = counters("output_topics_recreated_total", "Output topics that were deleted and made again while the process ran.", "topic")
	m.storeTrouble = counters("store_background_errors_total", "Faults that a store met in the background.", "shard")
	m.storeStalled = counters("store_stalled_seconds_total", "Time that writes to a store had to wait.", "shard")
	m.states = gauges("shard_state", "1 for the state the shard is in.", "shard", "state")
	m.lag = gauges("lag_records", "Records of an input partition that are not yet processed.", "shard", "topic", "partition")
	m.lastRecord = gauges("last_record_timestamp_seconds", "Timestamp of the last processed record of an input.", "shard", "topic")
	m.horizon = gauges("horizon_timestamp_seconds", "Instant up to which silence has been played.", "shard")
	m.drift = gauge("clock_difference_seconds", "The machine's clock minus the brokers'.")
	m.shards = gauge("shards", "Shards of the pipeline, whoever serves them; 0: not known yet.")
	m.pinned = gauges("lso_pinned", "1 while an open transaction of another producer keeps an input partition from being read.", "shard", "topic", "partition")
	m.adopted = gauges("parameters_version", "Version of the parameters that the shard's customers stand under, by family: rules, cuts, model.", "shard", "family")
	m.sweep = gauges("sweep_progress_ratio", "Share of the shard's customers that stand under the adopted parameters; 1 while no sweep is under way.", "shard")
	m.swept = counters("swept_customers_total", "Customers looked at to move them to new parameters.", "shard")
	m.customers = gauges("customers", "Customers of the shard; known once they have been counted.", "shard")
	m.building = gauges("building", "1 while the shard announces nothing because the application is building.", "shard")
	m.file = gauges("parameters_file_differs", "1 if the configuration file has other rules, or another model, than those that are published, which count.", "family")
	reg.MustRegister(storeCollector{p})
	m.exist(p.first.Rules)
	return m
}

// exist makes the counters of the process exist.
func (m *metrics) exist(rules *state.RuleSet) {
	for _, reason := range closings {
		m.closed.WithLabelValues(reason)
	}
	for _, to := range rules.Segments() {
		for _, from := range append([]string{"none"}, rules.Segments()...) {
			if from != to {
				m.flows.WithLabelValues(from, to)
			}
		}
	}
	for _, reason := range rebuildings {
		m.rebuilds.WithLabelValues(reason)
	}
}

// begin makes the counters of a shard exist.
func (m *metrics) begin(id int32, p *Pipeline) {
	shard := label(id)
	for _, topic := range InputTopics(p.cfg) {
		m.consumed.WithLabelValues(shard, topic)
		m.lost.WithLabelValues(shard, topic)
	}
	for _, cause := range state.Causes() {
		for _, segment := range p.first.Rules.Segments() {
			m.segments.WithLabelValues(shard, segment, cause)
		}
		for _, band := range append(state.Bands(), "none") {
			m.risks.WithLabelValues(shard, band, cause)
		}
	}
	for r := range Reasons() {
		m.deadLetters.WithLabelValues(shard, r)
	}
	for _, c := range []*prometheus.CounterVec{m.cycles, m.timersFired, m.swept, m.restored, m.storeTrouble, m.storeStalled} {
		c.WithLabelValues(shard)
	}
	for _, h := range []*prometheus.HistogramVec{m.commit, m.acquire, m.lateness} {
		h.WithLabelValues(shard)
	}
}

func label(n int32) string { return strconv.Itoa(int(n)) }

func (m *metrics) state(id int32, name string) {
	for _, s := range shardStates {
		v := 0.0
		if s == name {
			v = 1
		}
		m.states.WithLabelValues(label(id), s).Set(v)
	}
}

// end notes where a fetch said that a partition ends.
func (m *metrics) end(id int32, topic string, partition int32, end int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ends[id] == nil {
		m.ends[id] = map[string]map[int32]int64{}
	}
	if m.ends[id][topic] == nil {
		m.ends[id][topic] = map[int32]int64{}
	}
	m.ends[id][topic][partition] = end
}

// progress tells lag and horizon after a cycle.
func (m *metrics) progress(s *shard) {
	shard := label(s.id)
	m.mu.Lock()
	for topic, ends := range m.ends[s.id] {
		for partition, end := range ends {
			m.lag.WithLabelValues(shard, topic, label(partition)).Set(float64(max(end-s.next[topic][partition], 0)))
		}
	}
	m.mu.Unlock()
	m.horizon.WithLabelValues(shard).Set(float64(s.silence.played) / 1000)
	m.parameters(s)
}

// behind tells the lag of a partition whose end was asked for: fetches tell nothing where nothing can be read.
func (m *metrics) behind(id int32, topic string, partition int32, records int64) {
	m.lag.WithLabelValues(label(id), topic, label(partition)).Set(float64(records))
}

// parameters tells what the shard has adopted.
func (m *metrics) parameters(s *shard) {
	shard, v := label(s.id), s.adopted.is.Versions
	m.adopted.WithLabelValues(shard, parameters.RulesFamily).Set(float64(v.Rules))
	m.adopted.WithLabelValues(shard, parameters.CutsFamily).Set(float64(v.Cuts))
	m.adopted.WithLabelValues(shard, parameters.ModelFamily).Set(float64(v.Model))
	if share, known := s.progress(); known {
		m.sweep.WithLabelValues(shard).Set(share)
	}
	if s.people.known {
		m.customers.WithLabelValues(shard).Set(float64(s.people.number))
	}
	m.building.WithLabelValues(shard).Set(float(s.liveFrom() == state.Never))
}

func float(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) fileDiffers(family string, differs bool) {
	m.file.WithLabelValues(family).Set(float(differs))
}

// forget drops what a shard told while it was ours.
func (m *metrics) forget(id int32) {
	m.mu.Lock()
	delete(m.ends, id)
	m.mu.Unlock()
	only := prometheus.Labels{"shard": label(id)}
	m.states.DeletePartialMatch(only)
	m.lag.DeletePartialMatch(only)
	m.pinned.DeletePartialMatch(only)
	m.lastRecord.DeletePartialMatch(only)
	for _, g := range []*prometheus.GaugeVec{m.horizon, m.adopted, m.sweep, m.customers, m.building} {
		g.DeletePartialMatch(only)
	}
}

// tallies are what a cycle has done; they are told once it is true.
type tallies struct {
	records  map[string]int
	last     map[string]time.Time
	rejected map[reason]int
	segments map[[2]string]int // into a segment, by cause
	flows    map[[2]string]int // from a segment to another
	risks    map[[2]string]int
	late     []state.Instant
}

func (t *tallies) reset() {
	if t.records == nil {
		*t = tallies{
			map[string]int{}, map[string]time.Time{}, map[reason]int{}, map[[2]string]int{}, map[[2]string]int{}, map[[2]string]int{}, nil,
		}
	}
	clear(t.records)
	clear(t.last)
	clear(t.rejected)
	clear(t.segments)
	clear(t.flows)
	clear(t.risks)
	t.late = t.late[:0]
}

func (t *tallies) consumed(r *kgo.Record) {
	t.records[r.Topic]++
	t.last[r.Topic] = r.Timestamp
}

func (t *tallies) change(rules *state.RuleSet, c *state.Change) {
	if c.Kind == state.SegmentChange {
		from, to := "none", rules.SegmentName(c.Is.Published)
		if c.Was.Published != state.NoSegment {
			from = rules.SegmentName(c.Was.Published)
		}
		t.segments[[2]string{to, c.Cause.String()}]++
		t.flows[[2]string{from, to}]++
		return
	}
	band := c.Is.Band.String()
	if band == "" {
		band = "none"
	}
	t.risks[[2]string{band, c.Cause.String()}]++
}

func (t *tallies) fired(late state.Instant) { t.late = append(t.late, late) }

// cycle tells what a committed cycle has done.
func (m *metrics) cycle(ctx context.Context, id int32, c *cycle) {
	shard, t := label(id), &c.tally
	m.cycles.WithLabelValues(shard).Inc()
	for topic, n := range t.records {
		m.consumed.WithLabelValues(shard, topic).Add(float64(n))
		m.lastRecord.WithLabelValues(shard, topic).Set(float64(t.last[topic].UnixMilli()) / 1000)
	}
	for r, n := range t.rejected {
		m.deadLetters.WithLabelValues(shard, string(r)).Add(float64(n))
	}
	for k, n := range t.segments {
		m.segments.WithLabelValues(shard, k[0], k[1]).Add(float64(n))
	}
	for k, n := range t.flows {
		m.flows.WithLabelValues(k[0], k[1]).Add(float64(n))
	}
	for k, n := range t.risks {
		m.risks.WithLabelValues(shard, k[0], k[1]).Add(float64(n))
	}
	m.timersFired.WithLabelValues(shard).Add(float64(len(t.late)))
	for _, late := range t.late {
		observe(ctx, m.lateness.WithLabelValues(shard), time.Duration(late)*time.Millisecond)
	}
}

// storeCollector reads the databases' own figures, and the disk's, when somebody scrapes; no scan is made for it.
type storeCollector struct{ p *Pipeline }

var (
	diskFree       = prometheus.NewDesc("asiduo_disk_free_bytes", "Room left on the disk of the data directory.", nil, nil)
	diskMinFree    = prometheus.NewDesc("asiduo_disk_min_free_bytes", "Room below which intake stops (state.min_free).", nil, nil)
	storeDisk      = prometheus.NewDesc("asiduo_store_disk_bytes", "Bytes of a shard's database on disk.", []string{"shard"}, nil)
	storeMemtables = prometheus.NewDesc("asiduo_store_memtable_bytes", "Bytes of a shard's write buffers.", []string{"shard"}, nil)
	storeReads     = prometheus.NewDesc("asiduo_store_read_amplification", "Levels of a shard's database that a read may visit.", []string{"shard"}, nil)
	storeDebt      = prometheus.NewDesc("asiduo_store_compaction_debt_bytes", "Bytes of a shard's database that wait to be compacted.", []string{"shard"}, nil)
	storeHits      = prometheus.NewDesc("asiduo_store_block_cache_hits_total", "Reads answered from the block cache.", nil, nil)
	storeMisses    = prometheus.NewDesc("asiduo_store_block_cache_misses_total", "Reads that the block cache could not answer.", nil, nil)
)

// Describe names the figures.
func (c storeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{diskFree, diskMinFree, storeDisk, storeMemtables, storeReads, storeDebt, storeHits, storeMisses} {
		out <- d
	}
}

// Collect reads them.
func (c storeCollector) Collect(out chan<- prometheus.Metric) {
	if disk, err := c.p.deps.FS.GetDiskUsage(c.p.cfg.State.Dir); err == nil && disk.TotalBytes > 0 {
		out <- prometheus.MustNewConstMetric(diskFree, prometheus.GaugeValue, float64(disk.AvailBytes))
		out <- prometheus.MustNewConstMetric(diskMinFree, prometheus.GaugeValue, float64(c.p.cfg.State.MinFree.Bytes()))
	}
	shared := false
	for _, st := range c.p.Status() {
		v, err := c.p.View(st.Shard)
		if err != nil {
			continue
		}
		m, shard := v.Metrics(), label(st.Shard)
		if err := v.Close(); err != nil || m == nil {
			continue
		}
		out <- prometheus.MustNewConstMetric(storeDisk, prometheus.GaugeValue, float64(m.DiskSpaceUsage()), shard)
		out <- prometheus.MustNewConstMetric(storeMemtables, prometheus.GaugeValue, float64(m.MemTable.Size), shard)
		out <- prometheus.MustNewConstMetric(storeReads, prometheus.GaugeValue, float64(m.ReadAmp()), shard)
		out <- prometheus.MustNewConstMetric(storeDebt, prometheus.GaugeValue, float64(m.Compact.EstimatedDebt), shard)
		if !shared {
			out <- prometheus.MustNewConstMetric(storeHits, prometheus.CounterValue, float64(m.BlockCache.Hits))
			out <- prometheus.MustNewConstMetric(storeMisses, prometheus.CounterValue, float64(m.BlockCache.Misses))
			shared = true
		}
	}
}
