//go:build deploy

package deploy_test

import (
	"fmt"
	"html"
	"math"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Pictures of the dashboards as Prometheus answers them now, so that somebody can look at them: there is no Grafana to
// be had everywhere. Widths, kinds, units and legends are those of the dashboard.

const (
	column = 60 // pixels
	line   = 34
)

var colours = []string{"#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#8ab8ff", "#96d98d", "#ffcb7d", "#ca95e5", "#e0b400", "#37872d"}

// draw writes the page of a dashboard as PNG, if there is a browser.
func (s *site) draw(t *testing.T, file, out string) {
	t.Helper()
	var page strings.Builder
	page.WriteString(`<html><style>body{background:#111217;color:#ccccdc;font:12px sans-serif;margin:8px;position:relative}
.p{position:absolute;background:#181b1f;border:1px solid #2c3235;border-radius:3px;overflow:hidden;box-sizing:border-box;padding:6px}
.t{font-weight:600;margin-bottom:2px}.l{font-size:10px;line-height:13px}.b{font-size:30px;text-align:center;margin-top:12px}
td{padding:1px 10px 1px 0}h3{position:absolute;margin:0;font-size:13px}</style><body>`)
	bottom := 0
	for _, p := range panelsOf(t, file) {
		g := p.GridPos
		bottom = max(bottom, (g.Y+g.H)*line)
		if p.Type == "row" {
			fmt.Fprintf(&page, `<h3 style="left:%dpx;top:%dpx">%s</h3>`, g.X*column, g.Y*line+8, html.EscapeString(p.Title))
			continue
		}
		w, h := g.W*column-6, g.H*line-6
		fmt.Fprintf(&page, `<div class=p style="left:%dpx;top:%dpx;width:%dpx;height:%dpx"><div class=t>%s</div>%s</div>`,
			g.X*column, g.Y*line, w, h, html.EscapeString(p.Title), s.inside(t, p, w-14, h-30))
	}
	page.WriteString("</body></html>")
	name := strings.TrimSuffix(filepath.Base(file), ".json")
	source := write(t, filepath.Join(out, name+".html"), page.String())
	run(t, nil, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir="+filepath.Join(s.dir, "chromium"),
		fmt.Sprintf("--window-size=%d,%d", 24*column+16, bottom+24), "--screenshot="+filepath.Join(out, name+".png"), "file://"+source)
	t.Logf("picture: %s", filepath.Join(out, name+".png"))
}

// curve is one series with its name.
type curve struct {
	name   string
	labels map[string]string
	at, v  []float64
}

func (c curve) last() float64 {
	if len(c.v) == 0 {
		return math.NaN()
	}
	return c.v[len(c.v)-1]
}

// curves are the answers to all queries of a panel over the last minutes.
func (s *site) curves(t *testing.T, p panel) (all []curve) {
	t.Helper()
	now := time.Now()
	for _, q := range p.Targets {
		params := url.Values{
			"query": {filled.Replace(q.Expr)}, "step": {"1"},
			"start": {strconv.FormatInt(now.Add(-2*time.Minute).Unix(), 10)}, "end": {strconv.FormatInt(now.Unix(), 10)},
		}
		list, err := s.ask("query_range", params)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range list {
			c := curve{name: legend(q.LegendFormat, one.Metric), labels: one.Metric}
			for _, v := range one.Values {
				text, _ := v[1].(string)
				f, err := strconv.ParseFloat(text, 64)
				at, ok := v[0].(float64)
				if err == nil && ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
					c.at, c.v = append(c.at, at), append(c.v, f)
				}
			}
			all = append(all, c)
		}
	}
	return all
}

var inBraces = regexp.MustCompile(`\{\{(\w+)\}\}`)

func legend(format string, labels map[string]string) string {
	return inBraces.ReplaceAllStringFunc(format, func(m string) string { return labels[m[2:len(m)-2]] })
}

// inside is what a panel shows.
func (s *site) inside(t *testing.T, p panel, w, h int) string {
	t.Helper()
	all := s.curves(t, p)
	unit := p.FieldConfig.Defaults.Unit
	switch p.Type {
	case "timeseries":
		return lines(all, unit, w, h)
	case "stat":
		if len(all) == 0 {
			return `<div class=b>no data</div>`
		}
		colour := "#ccccdc"
		for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
			if step.Value == nil || all[0].last() >= *step.Value {
				colour = map[string]string{"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}[step.Color]
			}
		}
		return `<div class=b style="color:` + colour + `">` + text(all[0].last(), unit) + `</div>`
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].last() > all[j].last() })
	var b strings.Builder
	b.WriteString("<table>")
	for _, c := range all[:min(len(all), h/18)] {
		if p.Type == "table" {
			var keys []string
			for k := range c.labels {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			b.WriteString("<tr>")
			for _, k := range keys {
				fmt.Fprintf(&b, "<td>%s</td>", html.EscapeString(c.labels[k]))
			}
			fmt.Fprintf(&b, "<td>%s</td></tr>", text(c.last(), "short"))
			continue
		}
		fmt.Fprintf(&b, `<tr><td>%s<td><div style="display:inline-block;height:10px;width:%.0fpx;background:#5794f2"></div> %s</tr>`,
			html.EscapeString(c.name), math.Max(1, float64(w-220)*c.last()/math.Max(all[0].last(), 1e-9)), text(c.last(), unit))
	}
	return b.String() + "</table>"
}

// lines draws curves against time, with a scale and a legend.
func lines(all []curve, unit string, w, h int) string {
	low, high, from, to := 0.0, 0.0, math.Inf(1), math.Inf(-1)
	for _, c := range all {
		for i, v := range c.v {
			low, high, from, to = math.Min(low, v), math.Max(high, v), math.Min(from, c.at[i]), math.Max(to, c.at[i])
		}
	}
	if high == low {
		high = low + 1
	}
	bottom := float64(h - 30)
	y := func(v float64) float64 { return bottom - (v-low)/(high-low)*(bottom-8) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg width=%d height=%d>`, w, h-26)
	for i := range 4 {
		v := low + (high-low)*float64(i)/3
		fmt.Fprintf(&b, `<line x1=52 x2=%d y1=%.1f y2=%.1f stroke="#2c3235"/><text x=48 y=%.1f fill="#8e8e9a" font-size=10 text-anchor=end>%s</text>`, w, y(v), y(v), y(v)+3, text(v, unit))
	}
	var names strings.Builder
	for i, c := range all {
		colour := colours[i%len(colours)]
		var points strings.Builder
		for j, v := range c.v {
			fmt.Fprintf(&points, "%.1f,%.1f ", 54+(c.at[j]-from)/math.Max(to-from, 1)*float64(w-60), y(v))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill=none stroke="%s" stroke-width=1.4 />`, points.String(), colour)
		fmt.Fprintf(&names, `<span style="color:%s">&#9644;</span> %s &nbsp;`, colour, html.EscapeString(c.name))
	}
	return b.String() + `</svg><div class=l>` + names.String() + `</div>`
}

// text is a value as Grafana would write it, nearly.
func text(v float64, unit string) string {
	scale := func(names []string, by float64) string {
		i := 0
		for math.Abs(v) >= by && i < len(names)-1 {
			v, i = v/by, i+1
		}
		return strconv.FormatFloat(v, 'g', 3, 64) + names[i]
	}
	switch {
	case math.IsNaN(v):
		return "no data"
	case unit == "percentunit":
		return strconv.FormatFloat(100*v, 'g', 4, 64) + " %"
	case unit == "bytes":
		return scale([]string{" B", " KiB", " MiB", " GiB", " TiB"}, 1024)
	case unit == "s" && v != 0 && math.Abs(v) < 1:
		return strconv.FormatFloat(1000*v, 'g', 3, 64) + " ms"
	case unit == "s" && math.Abs(v) >= 86400:
		return strconv.FormatFloat(v/86400, 'g', 4, 64) + " d"
	case unit == "s":
		return strconv.FormatFloat(v, 'g', 3, 64) + " s"
	case unit == "cps":
		return scale([]string{"/s", "k/s", "M/s"}, 1000)
	}
	return scale([]string{"", "k", "M"}, 1000)
}
