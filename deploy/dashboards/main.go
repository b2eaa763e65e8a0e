// Command dashboards writes the Grafana dashboards that lie beside it, from what is said about each panel here. Grafana
// 10 and later reads them; nothing in them names an installation.
//
//	go run ./deploy/dashboards [-out DIR]
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run . -out .

func main() {
	out := flag.String("out", "deploy/dashboards", "directory to write into")
	flag.Parse()
	for _, d := range []dashboard{overview, shards, business} {
		text, err := d.render()
		if err == nil {
			err = os.WriteFile(filepath.Join(*out, d.name+".json"), text, 0o644) // #nosec G306 -- for everybody
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "dashboards:", err)
			os.Exit(1)
		}
	}
}

// dashboard is a page of rows.
type dashboard struct {
	name, title, about string
	byShard            bool // one can choose shards
	rows               []row
}

// row is a heading and the panels below it, which share the width.
type row struct {
	title  string
	height int
	panels []panel
}

// panel is one picture. Kind is Grafana's: stat, timeseries, bargauge, table.
type panel struct {
	kind, title, about string
	unit               string // Grafana's id of it
	stacked            bool
	signed             bool   // values may be negative
	steps              []step // of a stat's colour, ascending
	queries            []query
}

// step is the colour from a value on.
type step struct {
	color string
	from  float64
}

// query is PromQL and what its series are called.
type query struct{ expr, legend string }

type object = map[string]any

var source = object{"type": "prometheus", "uid": "$datasource"}

func (d dashboard) render() ([]byte, error) {
	var panels []object
	y, id := 0, 0
	next := func() int { id++; return id }
	for _, r := range d.rows {
		panels = append(panels, object{
			"id": next(), "type": "row", "title": r.title, "collapsed": false, "panels": []object{},
			"gridPos": object{"x": 0, "y": y, "w": 24, "h": 1},
		})
		y++
		for i, p := range r.panels {
			from, to := 24*i/len(r.panels), 24*(i+1)/len(r.panels)
			panels = append(panels, p.render(next(), object{"x": from, "y": y, "w": to - from, "h": r.height}))
		}
		y += r.height
	}
	variables := []object{
		{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
		variable("job", "Job", "label_values(asiduo_build_info, job)"),
	}
	if d.byShard {
		variables = append(variables, variable("shard", "Shard", `label_values(asiduo_shard_state{job=~"$job"}, shard)`))
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object{
		"uid": "asiduo-" + d.name, "title": d.title, "description": d.about, "tags": []string{"asiduo"},
		"schemaVersion": 39, "version": 1, "editable": true, "timezone": "utc", "refresh": "30s", "graphTooltip": 1,
		"time": object{"from": "now-3h", "to": "now"}, "templating": object{"list": variables}, "panels": panels,
		"links": []object{{"type": "dashboards", "tags": []string{"asiduo"}, "title": "asiduo", "asDropdown": false, "keepTime": true, "includeVars": true}},
	})
	return text.Bytes(), err
}

func variable(name, label, values string) object {
	return object{
		"name": name, "label": label, "type": "query", "datasource": source, "query": object{"query": values, "refId": name},
		"definition": values, "refresh": 2, "sort": 3, "multi": true, "includeAll": true, "current": object{"text": "All", "value": "$__all"},
	}
}

func (p panel) render(id int, at object) object {
	defaults := object{"unit": p.unit}
	options := object{}
	switch p.kind {
	case "timeseries":
		custom := object{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
		if p.stacked {
			custom["stacking"], custom["fillOpacity"] = object{"mode": "normal"}, 60
		}
		defaults["custom"] = custom
		if !p.signed {
			defaults["min"] = 0
		}
		options["legend"] = object{"displayMode": "list", "placement": "bottom"}
		options["tooltip"] = object{"mode": "multi", "sort": "desc"}
	case "stat", "bargauge":
		options["reduceOptions"] = object{"calcs": []string{"lastNotNull"}}
		if p.kind == "bargauge" {
			options["orientation"], options["displayMode"], defaults["min"] = "horizontal", "basic", 0
		} else {
			options["graphMode"] = "none"
		}
	}
	if p.steps != nil {
		steps := make([]object, len(p.steps))
		for i, s := range p.steps {
			steps[i] = object{"color": s.color, "value": s.from}
		}
		steps[0]["value"] = nil
		defaults["color"] = object{"mode": "thresholds"}
		defaults["thresholds"] = object{"mode": "absolute", "steps": steps}
	}
	targets := make([]object, len(p.queries))
	for i, q := range p.queries {
		targets[i] = object{"refId": string(rune('A' + i)), "datasource": source, "expr": q.expr, "legendFormat": q.legend}
		if p.kind != "timeseries" {
			targets[i]["instant"] = true
		}
		if p.kind == "table" {
			targets[i]["format"] = "table"
		}
	}
	all := object{
		"id": id, "type": p.kind, "title": p.title, "description": p.about, "datasource": source, "gridPos": at, "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []object{}}, "options": options,
	}
	if p.kind == "table" {
		all["transformations"] = []object{{"id": "organize", "options": object{"excludeByName": object{"Time": true}, "renameByName": object{"Value": p.unit}}}}
		defaults["unit"] = "short"
	}
	return all
}
