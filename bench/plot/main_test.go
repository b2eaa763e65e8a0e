package main

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const points = header + `,disk_b
shards,shards,1,1000,10.5,9.25,100,120
shards,shards,64,1000,12,11,200,130
size,bytes,16000,1000,30,29,150,140
`

// TestRead holds the points against the file that they are from.
func TestRead(t *testing.T) {
	curves, err := read(strings.NewReader(points))
	if err != nil || len(curves) != 2 {
		t.Fatal(curves, err)
	}
	if c := curves[0]; c.unit != "shards" || c.at[1] != 64 || c.us[0] != 10.5 || c.mib[1] != 200 {
		t.Error(c)
	}
	measured, err := os.Open("../growth.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer measured.Close()
	if curves, err := read(measured); err != nil || len(curves) != 5 {
		t.Error("what was measured: ", curves, err)
	}
	for text, want := range map[string]string{
		"":                                      "no points of " + header,
		"curve,unit,at,whole_us\na,b,1,2\n":     "no points of " + header,
		strings.Replace(points, "10.5", "x", 1): "line 2: ",
	} {
		if _, err := read(strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestRun draws what can be read again, a column for each curve.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "points.csv"), filepath.Join(dir, "points.png")
	if err := os.WriteFile(from, []byte(points), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(from, to); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if b := img.Bounds(); b.Dx() <= b.Dy() || b.Dy() < 100 {
		t.Error(b)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 500: "500", 5000: "5000", 16_000: "16 k", 10_000_000: "10 M"} {
		if got := short(v); got != want {
			t.Error(v, got)
		}
	}
}
