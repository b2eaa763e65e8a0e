package oracle

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// copied is a deep copy of outputs, to be spoilt.
func copied(outputs []Output) []Output {
	outputs = slices.Clone(outputs)
	for i := range outputs {
		outputs[i].Headers = maps.Clone(outputs[i].Headers)
		outputs[i].Value, _ = copiedValue(outputs[i].Value).(map[string]any)
	}
	return outputs
}

func copiedValue(v any) any {
	m, ok := v.(map[string]any)
	if !ok || m == nil {
		return v
	}
	m = maps.Clone(m)
	for k := range m {
		m[k] = copiedValue(m[k])
	}
	return m
}

// nth is the index of the n-th output of a topic, of the customer whose event or profile comes first.
func nth(t *testing.T, outputs []Output, topic string, n int) int {
	t.Helper()
	var found []int
	for i, o := range outputs {
		if o.Topic == topic && (topic == DeadLetters || len(found) == 0 || string(outputs[found[0]].Key) == string(o.Key)) {
			found = append(found, i)
		}
	}
	if n >= len(found) {
		t.Fatalf("there are only %d %s", len(found), topic)
	}
	return found[n]
}

// replace sets a member of an output's value, named by its path.
func replace(o Output, path string, value any) {
	names := strings.Split(path, ".")
	m := o.Value
	for _, name := range names[:len(names)-1] {
		m = m[name].(map[string]any)
	}
	m[names[len(names)-1]] = value
}

// spoil is a fault put into the expected outputs of a case.
type spoil struct {
	name  string
	of    string // the case
	apply func(*testing.T, []Output) []Output
	says  string // part of the one sentence that must come, "" if the outputs are still equal
}

const (
	decay    = "01-silent-decay"
	dead     = "08-dead-letters"
	consents = "15-prospects-and-interactions"
)

// streamSpoils are faults in the order and number of events.
var streamSpoils = []spoil{
	{"nothing", decay, func(t *testing.T, o []Output) []Output { return o }, ""},
	{"event removed", decay, func(t *testing.T, o []Output) []Output {
		i := nth(t, o, SegmentChanges, 1)
		return slices.Delete(o, i, i+1)
	}, "segment-changes #2"},
	{"last event removed", decay, func(t *testing.T, o []Output) []Output {
		i := nth(t, o, ChurnRisk, 0)
		for ; o[i].Topic != Profiles; i++ {
		}
		return slices.Delete(o, i-1, i)
	}, "missing: "},
	{"event twice", decay, func(t *testing.T, o []Output) []Output {
		i := nth(t, o, ChurnRisk, 0)
		return slices.Insert(o, i, o[i])
	}, "#1 comes after #1"},
	{"events swapped", decay, func(t *testing.T, o []Output) []Output {
		i, j := nth(t, o, SegmentChanges, 0), nth(t, o, SegmentChanges, 1)
		o[i], o[j] = o[j], o[i]
		return o
	}, "#1 comes after #2"},
}

// memberSpoils are faults in members of events.
var memberSpoils = []spoil{
	{"number changed", decay, func(t *testing.T, o []Output) []Output {
		replace(o[nth(t, o, SegmentChanges, 1)], "to.r", json.Number("1"))
		return o
	}, "to.r: wanted 5, got 1"},
	{"number written otherwise", decay, func(t *testing.T, o []Output) []Output {
		replace(o[nth(t, o, SegmentChanges, 1)], "to.r", json.Number("5.0"))
		return o
	}, ""},
	{"number as text", decay, func(t *testing.T, o []Output) []Output {
		replace(o[nth(t, o, SegmentChanges, 1)], "to.r", "5")
		return o
	}, "to.r: wanted 5"},
	{"probability off by a millionth", decay, func(t *testing.T, o []Output) []Output {
		e := o[nth(t, o, ChurnRisk, 0)]
		p, _ := e.Value["churn"].(map[string]any)["probability"].(json.Number).Float64()
		text, _ := json.Marshal(p + 1e-6)
		replace(e, "churn.probability", json.Number(text))
		return o
	}, "churn.probability"},
	{"null left out", decay, func(t *testing.T, o []Output) []Output {
		delete(o[nth(t, o, SegmentChanges, 0)].Value, "from")
		return o
	}, "from: wanted null, got (absent)"},
	{"free member", decay, func(t *testing.T, o []Output) []Output {
		replace(o[nth(t, o, SegmentChanges, 0)], "complaint_open", true)
		return o
	}, ""},
	{"other id", decay, func(t *testing.T, o []Output) []Output {
		o[nth(t, o, SegmentChanges, 0)].Headers["ce_id"] = "conf:2:ana:s1"
		return o
	}, "ce_id"},
}

// profileSpoils are faults in profiles.
var profileSpoils = []spoil{
	{"profile dropped", decay, func(t *testing.T, o []Output) []Output {
		i := nth(t, o, Profiles, 0)
		return slices.Delete(o, i, i+1)
	}, "profile of \"ana\": missing"},
	{"tombstone", decay, func(t *testing.T, o []Output) []Output {
		return append(o, Output{Topic: Profiles, Key: o[nth(t, o, Profiles, 0)].Key})
	}, "missing"},
	{"older profile version", decay, func(t *testing.T, o []Output) []Output {
		i := nth(t, o, Profiles, 0)
		return slices.Insert(o, i, Output{Topic: Profiles, Key: o[i].Key, Value: map[string]any{}})
	}, ""},
	{"profile of nobody", decay, func(t *testing.T, o []Output) []Output {
		return append(o, Output{Topic: Profiles, Key: []byte("zz"), Value: map[string]any{}})
	}, "not expected"},
	{"consent with more", consents, func(t *testing.T, o []Output) []Output {
		for _, p := range o {
			if c, _ := p.Value["consent"].(map[string]any); p.Topic == Profiles && len(c) > 0 {
				c["post"] = "granted"
			}
		}
		return o
	}, "consent: wanted"},
}

// deadLetterSpoils are faults in dead letters.
var deadLetterSpoils = []spoil{
	{"other reason", dead, func(t *testing.T, o []Output) []Output {
		o[nth(t, o, DeadLetters, 3)].Headers["asiduo-reason"] = "misrouted"
		return o
	}, "wanted missing_field, got misrouted"},
	{"dead letter missing", dead, func(t *testing.T, o []Output) []Output {
		i := nth(t, o, DeadLetters, 0)
		return slices.Delete(o, i, i+1)
	}, "missing: "},
	{"dead letter twice", dead, func(t *testing.T, o []Output) []Output {
		return append(o, o[nth(t, o, DeadLetters, 0)])
	}, "is there twice"},
	{"other value", dead, func(t *testing.T, o []Output) []Output {
		o[nth(t, o, DeadLetters, 0)].Raw = []byte("{}")
		return o
	}, "value is not the original value"},
	{"value left out", dead, func(t *testing.T, o []Output) []Output {
		i := nth(t, o, DeadLetters, 0)
		o[i].Raw, o[i].RawUnknown = nil, true
		return o
	}, ""},
	{"other key", dead, func(t *testing.T, o []Output) []Output {
		o[nth(t, o, DeadLetters, 0)].Key = nil
		return o
	}, "key: wanted"},
}

func TestDiffBites(t *testing.T) {
	root := filepath.Dir(caseDirs(t)[0])
	for _, s := range slices.Concat(streamSpoils, memberSpoils, profileSpoils, deadLetterSpoils) {
		t.Run(s.name, func(t *testing.T) {
			c, err := ReadCase(filepath.Join(root, s.of))
			if err != nil {
				t.Fatal(err)
			}
			faults := Diff(c.Want, s.apply(t, copied(c.Want)))
			said := strings.Join(faults, "\n")
			if s.says == "" && said != "" || s.says != "" && (len(faults) != 1 || !strings.Contains(said, s.says)) {
				t.Errorf("wanted one fault with %q, got %q", s.says, said)
			}
		})
	}
}
