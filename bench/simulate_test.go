// Package bench measures what asiduo costs. It runs the program as a user would and asks the operating system what that
// took; nothing here is a test of correctness.
package bench

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/asiduo/asiduo/pipeline"
)

const configuration = `app: bench
currency: EUR
churn: {method: %s}
outputs: {profiles: %t}
time: {clock: manual}
`

// workload is a log of records.
type workload struct {
	name      string
	churn     string
	profiles  bool
	purchases int // of ten records
	customers int
	hot       float64 // share of the records that goes to a tenth of the customers
}

// BenchmarkSimulate runs "asiduo simulate", brokers and all, over ASIDUO_EVENTS records (a million) and reports the CPU
// time of the whole process, user and system, and its greatest memory, per record.
func BenchmarkSimulate(b *testing.B) {
	events := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("ASIDUO_EVENTS")); err == nil {
		events = n
	}
	bin := filepath.Join(b.TempDir(), "asiduo")
	build := exec.Command("go", "build", "-o", bin, "../cmd/asiduo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	for _, w := range []workload{
		{"retail", "mbg_nbd", true, 1, 100_000, 0.9},
		{"purchases", "mbg_nbd", true, 10, 100_000, 0.1},
		{"purchases-bare", "none", false, 10, 100_000, 0.1},
	} {
		b.Run(w.name, func(b *testing.B) { w.run(b, bin, events) })
	}
}

func (w workload) run(b *testing.B, bin string, events int) {
	dir := b.TempDir()
	log, conf := filepath.Join(dir, "log.jsonl"), filepath.Join(dir, "asiduo.yaml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, configuration, w.churn, w.profiles), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := w.write(log, events); err != nil {
		b.Fatal(err)
	}
	var cpu, wall time.Duration
	var rss int64
	n := 0
	for b.Loop() {
		n++
		cmd := exec.CommandContext(b.Context(), bin, "simulate", "-c", conf, "--input", log, "--until", "2026-01-31T00:00:00Z",
			"--output", filepath.Join(dir, "out"), "--partitions", "4")
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("simulate: %v\n%s", err, out)
		}
		wall += time.Since(began)
		cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		rss = max(rss, maxRSS(cmd.ProcessState))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(cpu.Microseconds())/float64(n)/float64(events), "cpu-us/event")
	b.ReportMetric(wall.Seconds()/float64(n), "s")
	b.ReportMetric(float64(rss>>20), "peak-MiB")
}

// write makes the log: four weeks of records in the order of their timestamps, always the same.
func (w workload) write(file string, events int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	place, err := pipeline.NewPartitioner("murmur2")
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var offsets [2][4]int
	for i := range events {
		n := r.IntN(w.customers)
		if r.Float64() < w.hot {
			n = r.IntN(w.customers / 10)
		}
		customer := fmt.Sprintf("customer-%06d", n)
		p := place([]byte(customer), 4)
		at := start.Add(time.Duration(i) * (28 * 24 * time.Hour) / time.Duration(events))
		topic, t := "purchases", 0
		value := fmt.Sprintf(`{\"order_id\":\"o%d\",\"customer_id\":\"%s\",\"ordered_at\":\"%s\",\"amount\":\"%d.%02d\",\"currency\":\"EUR\",\"channel\":\"web\",\"items\":[{\"sku\":\"s%d\",\"quantity\":1}]}`,
			i, customer, at.Format(time.RFC3339Nano), 5+r.IntN(200), r.IntN(100), r.IntN(5000))
		if r.IntN(10) >= w.purchases {
			topic, t = "interactions", 1
			value = fmt.Sprintf(`{\"id\":\"i%d\",\"customer_id\":\"%s\",\"type\":\"product_view\",\"at\":\"%s\",\"channel\":\"web\",\"properties\":{\"sku\":\"s%d\"}}`,
				i, customer, at.Format(time.RFC3339Nano), r.IntN(5000))
		}
		if _, err := fmt.Fprintf(out, `{"topic":"%s","partition":%d,"offset":%d,"timestamp":%d,"key":"%s","value":"%s"}`+"\n",
			topic, p, offsets[t][p], at.UnixMilli(), customer, value); err != nil {
			return err
		}
		offsets[t][p]++
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return f.Close()
}
