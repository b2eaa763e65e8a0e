package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/sinks/events"
)

// TestReference holds docs/reference.md against the code it is made from.
func TestReference(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`# Reference

Made from the code: ` + "`" + updateVariable + `=1 go test -run '^TestReference$' ./cmd/asiduo` + "`" + ` writes it anew.

- [Configuration](#configuration)
- [Events](#events)
- [Dead letters](#dead-letters)
- [Metrics](#metrics)
- [Exit codes](#exit-codes)
`)
	b.WriteString("\n## Configuration\n\nA YAML file; `asiduo check` proves it, [deploy/asiduo.yaml](../deploy/asiduo.yaml) is one with comments. A file may leave out what has a default.\n\n| key | type | default | |\n|---|---|---|---|\n")
	text, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	keys(&b, parseSchema(t, text), "")
	b.WriteString("\n## Events\n\nHow they are read, ordered and told apart is in [records.md](records.md#out).\n")
	names, err := fs.Glob(events.Schemas(), "*.json")
	if err != nil || len(names) != 4 {
		t.Fatalf("schemas: %v %v", names, err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(events.Schemas(), name)
		if err != nil {
			t.Fatal(err)
		}
		s := parseSchema(t, text)
		fmt.Fprintf(&b, "\n### %s\n\n%s [Schema](../sinks/events/schemas/%s).\n\n| field | type | |\n|---|---|---|\n", s.Title, s.Description, name)
		fields(&b, s, s, "")
	}
	b.WriteString("\n## Dead letters\n\nThe header `" + events.ReasonHeader + "`, in the order in which a record is checked.\n\n| reason | when |\n|---|---|\n")
	for reason, when := range pipeline.Reasons() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", reason, when)
	}
	b.WriteString("\n## Metrics\n\nAt `/metrics`, beside those of the Go runtime and the process.\n\n| metric | type | labels | |\n|---|---|---|---|\n")
	for _, m := range allMetrics(t) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, m.labels, m.help)
	}
	fmt.Fprintf(&b, "\n## Exit codes\n\n| code | |\n|---|---|\n| %d | good |\n| %d | failed; `asiduo doctor`: a fault was found |\n| %d | wrong usage or configuration |\n", exitGood, exitFailed, exitUsage)
	golden(t, "../../docs/reference.md", b.Bytes())
}

// schema is as much of a JSON Schema as ours use.
type schema struct {
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Type        json.RawMessage   `json:"type"`
	Ref         string            `json:"$ref"`
	Const       json.RawMessage   `json:"const"`
	Enum        []json.RawMessage `json:"enum"`
	AnyOf       []schema          `json:"anyOf"`
	Items       *schema           `json:"items"`
	Default     json.RawMessage   `json:"default"`
	Properties  json.RawMessage   `json:"properties"`
	Required    []string          `json:"required"`
	Extra       json.RawMessage   `json:"additionalProperties"`
	Defs        map[string]schema `json:"$defs"`
}

func parseSchema(t *testing.T, text []byte) *schema {
	t.Helper()
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// properties are those of an object in the order in which they are written.
func (s *schema) properties() (names []string, of map[string]*schema) {
	if s.Properties == nil {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(s.Properties))
	of = map[string]*schema{}
	if _, err := d.Token(); err != nil {
		panic(err)
	}
	for d.More() {
		name, err := d.Token()
		p := new(schema)
		if err == nil {
			err = d.Decode(p)
		}
		if err != nil {
			panic(err)
		}
		names = append(names, name.(string))
		of[name.(string)] = p
	}
	return names, of
}

// deref follows a reference within root.
func (s *schema) deref(root *schema) *schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		d := root.Defs[name]
		if s.Description != "" {
			d.Description = s.Description
		}
		return &d
	}
	return s
}

// words says of what kind the values are.
func (s *schema) words(root *schema) string {
	s = s.deref(root)
	var list []string
	switch {
	case s.Const != nil:
		list = []string{code(s.Const)}
	case s.Enum != nil:
		for _, v := range s.Enum {
			list = append(list, code(v))
		}
	case s.AnyOf != nil:
		for i := range s.AnyOf {
			list = append(list, s.AnyOf[i].words(root))
		}
	case s.Items != nil:
		return "list of " + s.Items.words(root)
	case s.Type != nil:
		list = regexp.MustCompile(`\w+`).FindAllString(string(s.Type), -1)
	case s.Properties != nil:
		return "object"
	}
	return strings.Join(list, ", ")
}

func code(v json.RawMessage) string {
	return "`" + strings.ReplaceAll(strings.Trim(string(v), `"`), "|", `\|`) + "`"
}

func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(text, "|", `\|`), "\n", " "), "<", `\<`)
}

// keys are the rows of a configuration.
func keys(b *bytes.Buffer, s *schema, path string) {
	names, of := s.properties()
	for _, name := range names {
		p := of[name]
		if p.Properties != nil {
			keys(b, p, path+name+".")
			continue
		}
		value := "required"
		if strings.Contains(path, "[]") && !slices.Contains(s.Required, name) {
			value = "none"
		}
		if p.Default != nil {
			var compact bytes.Buffer
			if err := json.Compact(&compact, p.Default); err != nil {
				panic(err)
			}
			if value = code(compact.Bytes()); value == "``" {
				value = `""`
			}
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", path+name, p.words(s), value, cell(p.Description))
		if p.Items != nil && p.Items.Properties != nil {
			keys(b, p.Items, path+name+"[].")
		}
	}
}

// fields are the rows of an event.
func fields(b *bytes.Buffer, root, s *schema, path string) {
	names, of := s.properties()
	for _, name := range names {
		p := of[name].deref(root)
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", path+name, p.words(root), cell(p.Description))
		for _, inner := range append([]schema{*p}, p.AnyOf...) {
			fields(b, root, inner.deref(root), path+name+".")
		}
	}
}

type metric struct{ name, kind, labels, help string }

// described keeps what would be registered.
type described struct {
	prometheus.Registerer
	all []metric
}

var descText = regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: ("(?:[^"\\]|\\.)*"), (?:unit: "[^"]*", )?constLabels: \{[^}]*\}, variableLabels: \{([^}]*)\}\}$`)

func (d *described) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	kind := "gauge"
	if _, ok := c.(*prometheus.HistogramVec); ok {
		kind = "histogram"
	}
	for one := range descs {
		m := descText.FindStringSubmatch(one.String())
		if m == nil {
			return fmt.Errorf("a metric that the reference does not understand: %s", one)
		}
		if strings.HasSuffix(m[1], "_total") { // as the linter of the metrics demands
			kind = "counter"
		}
		d.all = append(d.all, metric{m[1], kind, strings.ReplaceAll(m[3], ",", ", "), cell(strings.Trim(m[2], `"`))})
	}
	return d.Registerer.Register(c)
}

func (d *described) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := d.Register(c); err != nil {
			panic(err)
		}
	}
}

// allMetrics are those of a running instance, by name.
func allMetrics(t *testing.T) []metric {
	t.Helper()
	cfg, err := config.Parse("reference.yaml", []byte("app: shop\ncurrency: EUR\narchive: {dir: /archive}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &described{Registerer: prometheus.NewRegistry()}
	log := slog.New(slog.DiscardHandler)
	pipe, err := pipeline.New(cfg, pipeline.Deps{Log: log, Registry: d, FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	a := newArchiver(cfg, pipe, d, log)
	options := apiOptions(cfg, pipe, a, nil, log)
	options.Registry = d
	api.Admin(options)
	d.MustRegister(buildMetric())
	byName := map[string]metric{}
	for _, m := range d.all {
		byName[m.name] = m
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b metric) int { return strings.Compare(a.name, b.name) })
}
