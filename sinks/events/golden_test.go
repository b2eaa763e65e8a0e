package events_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/sinks/events"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestGolden(t *testing.T) {
	for name, all := range everything(t) {
		t.Run(name, func(t *testing.T) {
			dumps := make([]dump, len(all))
			for i := range all {
				dumps[i] = dumped(&all[i])
			}
			var out bytes.Buffer
			e := json.NewEncoder(&out)
			e.SetEscapeHTML(false)
			e.SetIndent("", " ")
			if err := e.Encode(dumps); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".golden.json")
			if *update {
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("differs from %s; see with -update and a diff", file)
			}
		})
	}
}

// The stories of two conformance cases bring exactly the expected records of each topic and customer, in their order.
func TestConformance(t *testing.T) {
	all := everything(t)
	for _, name := range []string{"silent-decay", "prospects"} {
		want := byTopicAndKey(t, expected(t, name))
		got := map[string][]dump{}
		for i := range all[name] {
			d := dumped(&all[name][i])
			d.Topic = strings.TrimPrefix(d.Topic, "conf.")
			got[d.Topic+" "+d.Key] = append(got[d.Topic+" "+d.Key], d)
		}
		if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
			t.Fatalf("%s: got %v, want %v", name, g, w)
		}
		for stream, w := range want {
			if len(got[stream]) != len(w) {
				t.Errorf("%s: %s: got %d records, want %d", name, stream, len(got[stream]), len(w))
				continue
			}
			for i := range w {
				for header, text := range w[i].Headers {
					if g := got[stream][i].Headers[header]; g != text {
						t.Errorf("%s: %s %d: %s is %q, want %q", name, stream, i, header, g, text)
					}
				}
				contains(t, stream, decode(t, got[stream][i].Value), decode(t, w[i].Value))
			}
		}
	}
}

// contains checks that got has all members of want, with equal values. Further ones are allowed, but for consents.
func contains(t *testing.T, path string, got, want map[string]any) {
	t.Helper()
	for name, w := range want {
		g, there := got[name]
		wo, nested := w.(map[string]any)
		gm, same := g.(map[string]any)
		switch {
		case !there:
			t.Errorf("%s.%s is missing", path, name)
		case nested && same && name != "consent":
			contains(t, path+"."+name, gm, wo)
		case !reflect.DeepEqual(g, w):
			t.Errorf("%s.%s is %v, want %v", path, name, g, w)
		}
	}
}

func expected(t *testing.T, name string) (all []dump) {
	f, err := os.Open(filepath.Join("testdata", name+".expected.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var d dump
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func byTopicAndKey(t *testing.T, all []dump) map[string][]dump {
	t.Helper()
	if len(all) == 0 {
		t.Fatal("no fixtures")
	}
	m := map[string][]dump{}
	for _, d := range all {
		m[d.Topic+" "+d.Key] = append(m[d.Topic+" "+d.Key], d)
	}
	return m
}

// Every record is an event: the attributes that CloudEvents demands are there, the key is the subject, and no id
// comes twice.
func TestEnvelope(t *testing.T) {
	kinds := map[string]string{
		"conf." + events.SegmentChanges: events.SegmentChangeType, "conf." + events.ChurnRisk: events.ChurnRiskType,
		"conf." + events.Profiles: events.ProfileType,
	}
	for _, all := range everything(t) {
		seen := map[string]bool{}
		for i := range all {
			r := dumped(&all[i])
			h := r.Headers
			if h["ce_specversion"] != "1.0" || h["ce_source"] != "/asiduo/conf" || h["content-type"] != "application/json" ||
				h["ce_type"] != kinds[r.Topic] || h["ce_subject"] != r.Key || len(h) != 7 {
				t.Errorf("%s: headers %v", describe(&all[i]), h)
			}
			if seen[h["ce_id"]] || !strings.HasPrefix(h["ce_id"], "conf:1:"+r.Key+":") {
				t.Errorf("id %q", h["ce_id"])
			}
			seen[h["ce_id"]] = true
			if decode(t, r.Value)["customer_id"] != r.Key {
				t.Errorf("%s: key %q", describe(&all[i]), r.Key)
			}
		}
	}
}

// What comes of one record must not reach into another, nor into itself.
func TestRecordsAreApart(t *testing.T) {
	all := everything(t)["returns"]
	before := make([]string, len(all))
	for i := range all {
		before[i] = describe(&all[i]) + string(all[i].Value)
	}
	for i := range all {
		_ = append(all[i].Value, "overwritten"...)
		_ = append(all[i].Key, "overwritten"...)
		for _, h := range all[i].Headers {
			_ = append(h.Value, "overwritten"...)
		}
	}
	for i := range all {
		if describe(&all[i])+string(all[i].Value) != before[i] {
			t.Errorf("record %d has changed", i)
		}
	}
}
