package archive

import (
	"io"
	"testing"

	"github.com/asiduo/asiduo/state"
)

const benchRows = 200_000

// BenchmarkWritePart is the whole way of a part, to the disk.
func BenchmarkWritePart(b *testing.B) {
	p, in, dir := populate(b, benchRows), info(b), b.TempDir()
	var part Part
	b.ReportAllocs()
	for b.Loop() {
		part = p.write(b, dir, 0, now, in)
	}
	perRow(b, part.Bytes)
}

// BenchmarkRows is without the disk.
func BenchmarkRows(b *testing.B) {
	p, in := populate(b, benchRows), info(b)
	v := p.view(b)
	for b.Loop() {
		if err := writeRows(b.Context(), io.Discard, v, &in, in.snapshot(day, now), &Contents{}); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, 0)
}

// BenchmarkScan is what of it is reading and scoring.
func BenchmarkScan(b *testing.B) {
	p, in := populate(b, benchRows), info(b)
	v := p.view(b)
	r := row{words: newWords(in.Params.Rules)}
	sum := state.Money(0)
	for b.Loop() {
		for from, err := range v.Rows() {
			if err != nil {
				b.Fatal(err)
			}
			r.bytes = r.bytes[:0]
			if err := r.take(from, in.Params, now); err != nil {
				b.Fatal(err)
			}
			sum += r.Figures.Net
		}
	}
	perRow(b, 0)
}

func perRow(b *testing.B, bytes int64) {
	b.ReportMetric(benchRows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	if bytes > 0 {
		b.ReportMetric(float64(bytes)/benchRows, "B/row")
	}
}
