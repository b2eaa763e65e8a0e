// Command plot draws what the workload growth has measured: the cost of a record and the most memory, curve by curve.
//
//	plot CSV PNG
//
// It is a module of its own, so that nothing it needs is a dependency of asiduo.
package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// curve is the points of one curve, by their order in the file.
type curve struct {
	unit        string
	at, us, mib []float64
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: plot CSV PNG")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	curves, err := read(in)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(write(out, curves), out.Close())
}

// header is how the first line of what the workload growth writes begins: what follows is not drawn.
const header = "curve,unit,at,records,whole_us,half_us,peak_mib"

func read(in io.Reader) (curves []curve, err error) {
	rows, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) < 2 || !strings.HasPrefix(strings.Join(rows[0], ","), header) {
		return nil, fmt.Errorf("no points of %s", header)
	}
	for i, row := range rows[1:] {
		var v [5]float64
		for k := range v {
			if v[k], err = strconv.ParseFloat(row[k+2], 64); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+2, err)
			}
		}
		if i == 0 || rows[i][0] != row[0] {
			curves = append(curves, curve{unit: row[1]})
		}
		c := &curves[len(curves)-1]
		c.at, c.us, c.mib = append(c.at, v[0]), append(c.us, v[2]), append(c.mib, v[4])
	}
	return curves, nil
}

// write draws two rows, costs above memory, with a column for each curve.
func write(out io.Writer, curves []curve) error {
	const width, height = 7 * vg.Centimeter, 5.5 * vg.Centimeter
	img := vgimg.NewWith(vgimg.UseWH(width*vg.Length(len(curves)), 2*height), vgimg.UseDPI(110), vgimg.UseBackgroundColor(color.White))
	plots := [][]*plot.Plot{nil, nil}
	for _, c := range curves {
		for row, of := range []struct {
			name string
			y    []float64
		}{{"CPU us / record", c.us}, {"peak MiB", c.mib}} {
			p, err := panel(c, of.name, of.y)
			if err != nil {
				return err
			}
			plots[row] = append(plots[row], p)
		}
	}
	tiles := draw.Tiles{Rows: 2, Cols: len(curves), PadX: 4 * vg.Millimeter, PadY: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter, PadLeft: 2 * vg.Millimeter, PadRight: 2 * vg.Millimeter}
	for row, line := range plot.Align(plots, tiles, draw.New(img)) {
		for col, canvas := range line {
			plots[row][col].Draw(canvas)
		}
	}
	_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(out)
	return err
}

// panel has equal steps between the points, which lie some powers apart: their values stand below.
func panel(c curve, name string, y []float64) (*plot.Plot, error) {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = c.unit, name
	p.Y.Min = 0
	points, names := make(plotter.XYs, len(y)), make([]string, len(y))
	for i := range y {
		points[i] = plotter.XY{X: float64(i), Y: y[i]}
		names[i] = short(c.at[i])
		p.Y.Max = math.Max(p.Y.Max, y[i]*1.15)
	}
	line, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return nil, err
	}
	blue := color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff}
	line.Color, line.Width = blue, vg.Points(1.5)
	marks.Color, marks.Shape = blue, draw.CircleGlyph{}
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = color.Gray{Y: 0xdd}
	p.Add(grid, line, marks)
	p.NominalX(names...)
	return p, nil
}

// short is a number as people write it: 10 k, 4 M.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%g M", v/1e6)
	case v >= 10_000:
		return fmt.Sprintf("%g k", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}
