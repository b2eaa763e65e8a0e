package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/asiduo/asiduo/state/model/holdout"
)

//go:embed evaluate_page.html
var pageText string

//go:embed page_style.html
var pageStyle string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"f3":      func(v float64) string { return fmt.Sprintf("%.3f", v) },
	"f4":      func(v float64) string { return fmt.Sprintf("%.4f", v) },
	"times":   func(a, b float64) float64 { return a * b },
	"percent": percent,
	"share":   func(part, of int) string { return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(of)) },

	"calibrationPlots": calibrationPlots,
	"trackingPlot":     trackingPlot,
}).Parse(pageText + pageStyle))

// writePage is the report as one page that needs nothing else: plots are SVG within it.
func (e *Evaluation) writePage(out io.Writer) error { return page.Execute(out, e) }

// plot is one of several of a kind.
type plot struct {
	Name, Note string
	SVG        template.HTML
}

// drawing writes SVG whose coordinates are those of the data.
type drawing struct {
	strings.Builder
	left, top, width, height float64 // of the area within the axes
	right                    float64 // room beside it
	maxX, maxY, minX         float64
}

func (d *drawing) x(v float64) float64 { return d.left + (v-d.minX)/(d.maxX-d.minX)*d.width }
func (d *drawing) y(v float64) float64 { return d.top + d.height - v/d.maxY*d.height }

func (d *drawing) addf(format string, args ...any) { fmt.Fprintf(&d.Builder, format+"\n", args...) }

func (d *drawing) line(class, style string, x1, y1, x2, y2 float64) {
	d.addf(`<line class="%s" style="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, style, d.x(x1), d.y(y1), d.x(x2), d.y(y2))
}

func (d *drawing) begin(title string) {
	d.addf(`<svg viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s">`,
		d.left+d.width+d.right, d.top+d.height+42, d.left+d.width+d.right, d.top+d.height+42, title)
}

// ticks draws the grid of one axis at multiples of a round step.
func (d *drawing) ticks(upwards bool, format string) {
	lo, hi := d.minX, d.maxX
	if upwards {
		lo, hi = 0, d.maxY
	}
	step := roundStep((hi - lo) / 8)
	for v := math.Ceil(lo/step) * step; v <= hi*(1+1e-9); v += step {
		if math.Abs(v) < step/2 {
			v = 0
		}
		if upwards {
			d.line("grid", "", d.minX, v, d.maxX, v)
			d.addf(`<text x="%.1f" y="%.1f" text-anchor="end">`+format+`</text>`, d.left-6, d.y(v)+4, v)
		} else {
			d.line("grid", "", v, 0, v, d.maxY)
			d.addf(`<text x="%.1f" y="%.1f" text-anchor="middle">`+format+`</text>`, d.x(v), d.top+d.height+16, v)
		}
	}
}

// roundStep is the 1, 2 or 5 times a power of ten that is next above.
func roundStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 2, 5} {
		if k*power >= v*(1-1e-9) {
			return k * power
		}
	}
	return 10 * power
}

func calibrationPlots(x *Examined) (list []plot) {
	for _, m := range x.Methods {
		if m.Baseline {
			continue
		}
		note := fmt.Sprintf("ECE %.3f", m.Probabilities.ECE)
		if m.Calibrated != nil {
			note += fmt.Sprintf(", recalibrated %.3f", m.Calibrated.ECE)
		}
		list = append(list, plot{m.Name, note, calibrationPlot(m)})
	}
	return list
}

func calibrationPlot(m *holdout.Method) template.HTML {
	d := &drawing{left: 34, top: 8, width: 186, height: 186, right: 14, maxX: 1, maxY: 1}
	colour := fmt.Sprintf("stroke: var(--%s)", m.Name)
	d.begin("calibration of " + m.Name)
	d.ticks(true, "%.1f")
	d.ticks(false, "%.1f")
	d.line("axis", "", 0, 0, 1, 1)
	d.addf(`<text x="%.1f" y="%.1f" text-anchor="middle">foreseen</text>`, d.x(0.5), d.top+d.height+34)
	dots := func(bins []holdout.Bin, class, style string, whiskers bool) {
		for _, b := range bins {
			if whiskers {
				half := 1.96 * math.Sqrt(b.Observed*(1-b.Observed)/float64(b.Customers))
				d.line("whisker", colour, b.Predicted, max(0, b.Observed-half), b.Predicted, min(1, b.Observed+half))
			}
			d.addf(`<circle class="%s" style="%s" cx="%.1f" cy="%.1f" r="4"><title>%d customers: foreseen %.3f, observed %.3f</title></circle>`,
				class, style, d.x(b.Predicted), d.y(b.Observed), b.Customers, b.Predicted, b.Observed)
		}
	}
	dots(m.Probabilities.Bins, "raw", colour, m.Calibrated == nil)
	if m.Calibrated != nil {
		dots(m.Calibrated.Bins, "", fmt.Sprintf("fill: var(--%s)", m.Name), true)
	}
	d.addf("</svg>")
	return template.HTML(d.String()) // #nosec G203 -- numbers and names of models, none from the data
}

func trackingPlot(x *Examined) template.HTML {
	d := &drawing{left: 52, top: 12, width: 720, height: 320, right: 96}
	var came *holdout.Tracking
	for _, m := range x.Methods {
		if t := m.Tracking; t != nil {
			came = t
			d.minX, d.maxX = float64(t.Weeks[0].Week), float64(t.Weeks[len(t.Weeks)-1].Week)
			d.maxY = max(d.maxY, t.AtEnd*1.04, t.CameAtEnd*1.04)
		}
	}
	if came == nil || d.maxY == 0 || d.maxX == d.minX {
		return ""
	}
	d.begin("cumulated repeat orders")
	d.ticks(true, "%.0f")
	d.ticks(false, "%.0f")
	d.line("cut", "", 0, 0, 0, d.maxY)
	d.addf(`<text x="%.1f" y="%.1f">the cut</text>`, d.x(0)+5, d.top+10)
	d.addf(`<text x="%.1f" y="%.1f" text-anchor="middle">weeks after the cut</text>`, d.left+d.width/2, d.top+d.height+34)
	var labels []label
	for _, m := range x.Methods {
		if m.Tracking != nil {
			d.curve("curve", "stroke: var(--"+m.Name+")", m.Tracking.Weeks, func(w holdout.Week) float64 { return w.Expected })
			labels = append(labels, label{m.Name, "fill: var(--" + m.Name + ")", d.y(m.Tracking.AtEnd)})
		}
	}
	d.curve("came", "", came.Weeks, func(w holdout.Week) float64 { return w.Came })
	d.labels(append(labels, label{"came", "fill: var(--ink)", d.y(came.CameAtEnd)}))
	d.addf("</svg>")
	return template.HTML(d.String()) // #nosec G203 -- numbers and names of models, none from the data
}

func (d *drawing) curve(class, style string, weeks []holdout.Week, of func(holdout.Week) float64) {
	var points strings.Builder
	for _, w := range weeks {
		fmt.Fprintf(&points, "%.1f,%.1f ", d.x(float64(w.Week)), d.y(of(w)))
	}
	d.addf(`<polyline class="%s" style="%s" points="%s"/>`, class, style, points.String())
}

// label is a name at the right end of a curve.
type label struct {
	name, style string
	y           float64
}

// labels are written from the top down, each at its curve or just below the one before.
func (d *drawing) labels(list []label) {
	slices.SortFunc(list, func(a, b label) int { return cmp.Compare(a.y, b.y) })
	free := d.top
	for _, at := range list {
		y := max(at.y, free)
		free = y + 14
		d.addf(`<text class="name" style="%s" x="%.1f" y="%.1f">%s</text>`, at.style, d.x(d.maxX)+8, y+4, at.name)
	}
}
