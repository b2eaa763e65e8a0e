package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/sinks/events"
)

// TestSubscribing holds the events in docs/subscribing.md against runs: each is the second one of its topic about the customer who falls
// silent, or the last profile; the letter is an order with an amount that is none.
func TestSubscribing(t *testing.T) {
	all := append(slices.DeleteFunc(outputsOf(t, "01-silent-decay"), letter), slices.DeleteFunc(outputsOf(t, "08-dead-letters"), func(o oracle.Output) bool { return o.Headers["asiduo-reason"] != "bad_amount" })...)
	const page = "../../docs/subscribing.md"
	was, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	event := regexp.MustCompile("(?s)<!-- event: ([a-z-]+) -->\n(```json\n.*?```\n)?")
	n := 0
	is := event.ReplaceAllStringFunc(string(was), func(at string) string {
		n++
		topic := event.FindStringSubmatch(at)[1]
		var of []oracle.Output
		for _, o := range all {
			if o.Topic == topic {
				of = append(of, o)
			}
		}
		if len(of) < 2 {
			t.Fatalf("%d of %s", len(of), topic)
		}
		o := of[1]
		if topic == oracle.Profiles {
			o = of[len(of)-1]
		}
		value := o.Raw
		if letter(o) {
			fitsSchema(t, "dead-letter.v1.schema.json", indented(t, o.Headers))
		} else {
			value = indented(t, o.Value)
			fitsSchema(t, strings.TrimPrefix(o.Headers["ce_type"], "io.asiduo.")+".schema.json", value)
		}
		return fmt.Sprintf("<!-- event: %s -->\n```json\n%s%s\n```\n", topic, headers(o), value)
	})
	if n != 4 {
		t.Errorf("%d events on the page", n)
	}
	golden(t, page, []byte(is))
}

func letter(o oracle.Output) bool { return o.Topic == oracle.DeadLetters }

// outputsOf is all that comes out of a conformance case.
func outputsOf(t *testing.T, name string) []oracle.Output {
	t.Helper()
	f := newFleet(t, name, nil)
	f.readAll()
	if err := f.r.play(t.Context(), f.end); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := f.r.dump(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	all, err := oracle.ReadOutputs(dir, f.r.cfg.App)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// fitsSchema holds a value, or the headers of a letter, against its published schema.
func fitsSchema(t *testing.T, name string, is []byte) {
	t.Helper()
	text, err := events.Schemas().Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = text.Close() }()
	doc, err := jsonschema.UnmarshalJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(is))
	if err == nil {
		err = s.Validate(value)
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func headers(o oracle.Output) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		fmt.Fprintf(&b, "// %s: %s\n", name, o.Headers[name])
	}
	return b.String()
}

func indented(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
