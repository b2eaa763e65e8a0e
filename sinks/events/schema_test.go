package events_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
)

func schemaNames(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(events.Schemas(), "*.schema.json")
	if err != nil || len(names) != 4 {
		t.Fatal(names, err)
	}
	return names
}

func schemaDocument(t *testing.T, name string) map[string]any {
	t.Helper()
	b, err := fs.ReadFile(events.Schemas(), name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return doc.(map[string]any)
}

// schemaOf is the schema of an event type, by the name that Schemas promises. It is checked against its draft.
func schemaOf(t *testing.T, kind string) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	name := strings.TrimPrefix(kind, "io.asiduo.")
	doc := schemaDocument(t, name+".schema.json")
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return s, doc
}

// Who reads a topic with the default isolation is told wrong things; so every schema begins with that.
func TestSchemasSayReadCommitted(t *testing.T) {
	for _, name := range schemaNames(t) {
		b, _ := fs.ReadFile(events.Schemas(), name)
		first, _, _ := strings.Cut(string(b), "\n")
		if !strings.HasPrefix(first, `{"$comment": "Read with isolation.level=read_committed: `) {
			t.Errorf("%s begins with %s", name, first)
		}
		doc := schemaDocument(t, name)
		if doc["$schema"] != "https://json-schema.org/draft/2020-12/schema" ||
			doc["$id"] != "urn:asiduo:"+strings.TrimSuffix(name, ".schema.json") {
			t.Errorf("%s: $schema %v, $id %v", name, doc["$schema"], doc["$id"])
		}
	}
}

func TestValuesFollowTheirSchemas(t *testing.T) {
	for _, all := range everything(t) {
		for i := range all {
			r := dumped(&all[i])
			schema, doc := schemaOf(t, r.Headers["ce_type"])
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Value))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Errorf("%s: %v in %s", describe(&all[i]), err, r.Value)
			}
			described(t, describe(&all[i]), doc, doc, value)
		}
	}
}

// described checks that the schema names every member of an object that was written, and demands it.
func described(t *testing.T, path string, root, schema map[string]any, value any) {
	t.Helper()
	object, _ := value.(map[string]any)
	if ref, is := schema["$ref"].(string); is {
		schema = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	if of, is := schema["anyOf"].([]any); is {
		described(t, path, root, of[0].(map[string]any), value)
		return
	}
	if schema["additionalProperties"] != nil {
		return
	}
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	for name, v := range object {
		p, known := properties[name].(map[string]any)
		if !known || !slices.Contains(required, any(name)) {
			t.Errorf("%s.%s is not in the schema", path, name)
			continue
		}
		described(t, path+"."+name, root, p, v)
	}
}

// The words that the domain can say are those that the schemas allow.
func TestSchemasKnowTheWords(t *testing.T) {
	words := func(schema, def, list string) (out []string) {
		defs := schemaDocument(t, schema+".v1.schema.json")["$defs"].(map[string]any)
		for _, w := range defs[def].(map[string]any)[list].([]any) {
			out = append(out, w.(string))
		}
		return out
	}
	for _, schema := range []string{"segment-change", "churn-risk"} {
		for _, c := range state.Causes() {
			if !slices.Contains(words(schema, "cause", "examples"), c) {
				t.Errorf("%s: no cause %q", schema, c)
			}
		}
	}
	for _, schema := range []string{"segment-change", "churn-risk", "profile"} {
		if got := words(schema, "lifecycle", "enum"); !slices.Equal(got, state.Lifecycles()) {
			t.Errorf("%s: lifecycles %v", schema, got)
		}
		if got := words(schema, "band", "enum"); !slices.Equal(got, state.Bands()) {
			t.Errorf("%s: bands %v", schema, got)
		}
	}
}

func TestSchemasRefuse(t *testing.T) {
	schema, _ := schemaOf(t, events.SegmentChangeType)
	good := decodeAny(t, everything(t)["silent-decay"][0].Value)
	if err := schema.Validate(good); err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]any{
		"sequence": json.Number("0"), "mode": "dead", "metrics": nil, "customer_id": "",
		"next_transition": map[string]any{"segment": "lost", "at": "2024-02-30T00:00:00.000Z"},
	} {
		bad := decodeAny(t, everything(t)["silent-decay"][0].Value)
		bad[name] = wrong
		if schema.Validate(bad) == nil {
			t.Errorf("%s may be %v", name, wrong)
		}
	}
}

func decodeAny(t *testing.T, b []byte) map[string]any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}
