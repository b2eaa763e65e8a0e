package oracle

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
)

// tolerance is how far published probabilities may be apart.
const tolerance = 1e-9

// absent stands for a member that is not there.
type absent struct{}

// difference is the first place at which two values are not equal.
type difference struct {
	path      string
	want, got any
}

func (d difference) String() string {
	return fmt.Sprintf("%s: wanted %s, got %s", d.path, show(d.want), show(d.got))
}

func show(v any) string {
	if _, ok := v.(absent); ok {
		return "(absent)"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// Diff judges outputs as the comparer of the conformance cases does: members and
// headers that the wanted record lacks are free.  It returns one sentence per
// customer, profile or dead letter, with its first difference; none if equal.
func Diff(want, got []Output) []string {
	return slices.Concat(diffEvents(want, got), diffDeadLetters(want, got), diffProfiles(want, got))
}

// firstDifference compares values; name is the last part of the path.
func firstDifference(want, got any, path, name string) *difference {
	unequal := &difference{path, want, got}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || name == "consent" && len(w) != len(g) {
			return unequal
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			member, there := g[k]
			if !there {
				member = absent{}
			}
			below := k
			if path != "" {
				below = path + "." + k
			}
			if d := firstDifference(w[k], member, below, k); d != nil {
				return d
			}
		}
		return nil
	case json.Number:
		g, ok := got.(json.Number)
		if !ok {
			return unequal
		}
		a, errA := w.Float64()
		b, errB := g.Float64()
		if errA != nil || errB != nil {
			return unequal
		}
		if a == b || (name == "probability" || name == "previous_probability" || name == "overdue") && math.Abs(a-b) <= tolerance {
			return nil
		}
		return unequal
	}
	if !reflect.DeepEqual(want, got) {
		return unequal
	}
	return nil
}

// stream is what one customer got in one topic.
type stream struct{ key, topic string }

// keyOf tells a null key from an empty one.
func keyOf(o Output) string {
	if o.Key == nil {
		return "null"
	}
	return fmt.Sprintf("%q", o.Key)
}

func streams(outputs []Output) map[stream][]Output {
	m := map[stream][]Output{}
	for _, o := range outputs {
		if o.Topic == SegmentChanges || o.Topic == ChurnRisk {
			s := stream{keyOf(o), o.Topic}
			m[s] = append(m[s], o)
		}
	}
	return m
}

// fault is the first difference of a customer in a topic.
type fault struct{ at, text string }

func diffEvents(want, got []Output) []string {
	w, g := streams(want), streams(got)
	first := map[string]fault{}
	for _, topic := range []string{SegmentChanges, ChurnRisk} {
		keys := map[string]bool{}
		for _, m := range []map[stream][]Output{w, g} {
			for s := range m {
				keys[s.key] = true
			}
		}
		for key := range keys {
			f, differs := streamFault(w[stream{key, topic}], g[stream{key, topic}])
			if old, there := first[key]; differs && (!there || f.at < old.at) {
				first[key] = f
			}
		}
	}
	return sentences("events of ", first)
}

func sequence(o Output) int64 {
	n, _ := o.Value["sequence"].(json.Number)
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}

func brief(o Output) string {
	about := o.Value["transition"]
	if o.Topic == ChurnRisk {
		about = o.Value["churn"]
	}
	return fmt.Sprintf("%s #%d at %s (%s -> %s, %s)", o.Topic, sequence(o), o.Headers["ce_time"],
		show(o.Value["from"]), show(o.Value["to"]), show(about))
}

// streamFault compares a customer's events in one topic, in their order.
func streamFault(want, got []Output) (fault, bool) {
	for i := 1; i < len(got); i++ {
		if a, b := sequence(got[i-1]), sequence(got[i]); b <= a {
			return fault{"", fmt.Sprintf("%s: #%d comes after #%d", got[i].Topic, b, a)}, true
		}
	}
	for i := range max(len(want), len(got)) {
		if i >= len(got) {
			return fault{want[i].Headers["ce_time"], "missing: " + brief(want[i])}, true
		}
		if i >= len(want) {
			return fault{got[i].Headers["ce_time"], "not expected: " + brief(got[i])}, true
		}
		at := want[i].Headers["ce_time"]
		if sequence(want[i]) != sequence(got[i]) {
			return fault{at, "wanted " + brief(want[i]) + ", got " + brief(got[i])}, true
		}
		d := firstDifference(headers(want[i]), headers(got[i]), "", "")
		if d == nil {
			d = firstDifference(want[i].Value, got[i].Value, "", "")
		}
		if d != nil {
			return fault{at, fmt.Sprintf("%s #%d at %s: %s", want[i].Topic, sequence(want[i]), at, d)}, true
		}
	}
	return fault{}, false
}

func headers(o Output) map[string]any {
	m := map[string]any{}
	for k, v := range o.Headers {
		m[k] = v
	}
	return m
}

// lastProfiles drops customers whose last profile is a tombstone.
func lastProfiles(outputs []Output) map[string]Output {
	m := map[string]Output{}
	for _, o := range outputs {
		if o.Topic == Profiles {
			m[keyOf(o)] = o
		}
	}
	maps.DeleteFunc(m, func(_ string, o Output) bool { return o.Value == nil })
	return m
}

func diffProfiles(want, got []Output) []string {
	w, g := lastProfiles(want), lastProfiles(got)
	faults := map[string]fault{}
	for key, o := range w {
		if other, there := g[key]; !there {
			faults[key] = fault{text: "missing"}
		} else if d := firstDifference(o.Value, other.Value, "", ""); d != nil {
			faults[key] = fault{text: d.String()}
		}
	}
	for key := range g {
		if _, there := w[key]; !there {
			faults[key] = fault{text: "not expected"}
		}
	}
	return sentences("profile of ", faults)
}

// origin names the input record of a dead letter.
func origin(o Output) string {
	return o.Headers["asiduo-topic"] + "/" + o.Headers["asiduo-partition"] + "@" + o.Headers["asiduo-offset"]
}

func diffDeadLetters(want, got []Output) []string {
	w, g := map[string]Output{}, map[string]Output{}
	faults := map[string]fault{}
	for _, o := range want {
		if o.Topic == DeadLetters {
			w[origin(o)] = o
		}
	}
	for _, o := range got {
		if o.Topic != DeadLetters {
			continue
		}
		id := origin(o)
		if _, there := g[id]; there {
			faults[id] = fault{text: "is there twice"}
		}
		g[id] = o
		if _, there := w[id]; !there {
			faults[id] = fault{text: "not expected: " + o.Headers["asiduo-reason"]}
		}
	}
	for id, o := range w {
		other, there := g[id]
		reason, otherReason := o.Headers["asiduo-reason"], other.Headers["asiduo-reason"]
		switch {
		case !there:
			faults[id] = fault{text: "missing: " + reason}
		case reason != otherReason:
			faults[id] = fault{text: "wanted " + reason + ", got " + otherReason}
		case keyOf(o) != keyOf(other):
			faults[id] = fault{text: "key: wanted " + keyOf(o) + ", got " + keyOf(other)}
		case !o.RawUnknown && !other.RawUnknown && ((o.Raw == nil) != (other.Raw == nil) || !bytes.Equal(o.Raw, other.Raw)):
			faults[id] = fault{text: "value is not the original value"}
		}
	}
	return sentences("dead letter ", faults)
}

func sentences(of string, faults map[string]fault) []string {
	var s []string
	for _, key := range slices.SortedFunc(maps.Keys(faults), cmp.Compare[string]) {
		s = append(s, of+key+": "+faults[key].text)
	}
	return s
}
