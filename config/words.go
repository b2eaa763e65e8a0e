package config

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// patternWords says in words what the patterns of the struct tags ask for.
var patternWords = map[string]string{
	"^[a-z0-9-]+$": "lower-case letters, digits and hyphens",
	"^[A-Z]{3}$":   "three capital letters such as EUR",
}

// expected is a type in words.
func expected(t reflect.Type) string {
	switch t {
	case nil:
		return "nothing"
	case secretType:
		return "text"
	case reflect.TypeFor[Duration]():
		return "a duration such as 250ms, 10s, 5m, 24h or 7d"
	case reflect.TypeFor[Size]():
		return "a size such as 64KiB, 8MiB or 1GiB"
	case reflect.TypeFor[Decimal]():
		return "a decimal number such as 12.50"
	case reflect.TypeFor[Instant]():
		return "an instant such as 2026-01-31T00:00:00Z"
	}
	switch t.Kind() {
	case reflect.Struct:
		return "a mapping of keys"
	case reflect.Slice:
		return "a list"
	case reflect.Array:
		return fmt.Sprintf("a list of %d entries", t.Len())
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// kindWords is a node in words without what it holds.
func kindWords(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping of keys"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind != yaml.ScalarNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "a truth value"
	case "!!int", "!!float":
		return "a number"
	}
	return "text"
}

// found is a node in words with what it holds, unless that is or may be a secret.
func found(n *yaml.Node, t reflect.Type) string {
	words := kindWords(n)
	composite := t == nil || t.Kind() == reflect.Struct && !textual(t) || element(t) != nil
	if n.Kind != yaml.ScalarNode || words == "nothing" || t == secretType || composite {
		return words
	}
	value := n.Value
	if runes := []rune(value); len(runes) > 60 {
		value = string(runes[:60]) + "..."
	}
	switch words {
	case "a truth value":
		return value
	case "a number":
		return "the number " + value
	}
	return "the text " + strconv.Quote(value)
}

// hint says how to repair the usual slips with types.
func hint(n *yaml.Node, t reflect.Type) string {
	if n.Kind != yaml.ScalarNode || t == nil {
		return ""
	}
	words := kindWords(n)
	_, isNumber := number(n.Value)
	switch {
	case words == "nothing":
		return "; give it a value or remove the key"
	case t == reflect.TypeFor[Duration]() && isNumber:
		return "; add a unit"
	case t == reflect.TypeFor[Size]() && words == "text":
		return "; units are KiB, MiB, GiB and TiB"
	case t == reflect.TypeFor[Decimal]():
		return ""
	case (t.Kind() == reflect.String || t == secretType) && words != "text":
		return "; put it in quotes"
	case t.Kind() == reflect.Bool:
		return ""
	case words == "text" && isNumber:
		return "; remove the quotes"
	case words == "a number" && !isNumber:
		return "; write plain decimal digits"
	case element(t) != nil:
		return "; write [a, b] or one entry a line after a hyphen"
	}
	return ""
}

// oneOf names the choices of a key.
func oneOf(want []any, n *yaml.Node, t reflect.Type) string {
	choices := make([]string, len(want))
	for i, w := range want {
		choices[i] = fmt.Sprint(w)
	}
	text := "expected one of " + strings.Join(choices, ", ")
	if len(choices) == 1 {
		text = "expected " + choices[0] + ", the only choice"
	}
	text += "; found " + found(n, t)
	if n.Kind == yaml.ScalarNode {
		if near := nearest(n.Value, choices); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
	}
	return text
}

// inside says which mapping a key is in.
func inside(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

// unknownKey says so, and what was probably meant: a similar key here, or this one elsewhere.
func unknownKey(t reflect.Type, path, key string) string {
	text := fmt.Sprintf("unknown key %q%s", key, inside(path))
	if near := nearest(key, keysOf(t)); near != "" {
		return text + fmt.Sprintf("; did you mean %q?", near)
	}
	var places []string
	allKeys(configType, "", func(place string) {
		if place == key || strings.HasSuffix(place, "."+key) {
			places = append(places, place)
		}
	})
	if len(places) == 1 {
		return text + fmt.Sprintf("; did you mean %q?", places[0])
	}
	if keys := keysOf(t); len(keys) > 0 && path != "" {
		sort.Strings(keys)
		return text + "; known keys are " + strings.Join(keys, ", ")
	}
	return text
}

func keysOf(t reflect.Type) []string {
	if t == nil || t.Kind() != reflect.Struct || textual(t) {
		return nil
	}
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("json")
	}
	return keys
}

// allKeys visits the path of every key there is.
func allKeys(t reflect.Type, path string, visit func(string)) {
	for _, key := range keysOf(t) {
		f, _ := field(t, key)
		visit(join(path, key))
		allKeys(f.Type, join(path, key), visit)
	}
}

// nearest is the choice that a misspelt text was most likely meant to be, empty if none is near.
func nearest(text string, choices []string) string {
	best, bestDistance := "", len(text)/3+1
	for _, c := range choices {
		if d := distance(fold(text), fold(c)); d < len(text) && (d < bestDistance || d == bestDistance && best == "") {
			best, bestDistance = c, d
		}
	}
	return best
}

func fold(text string) string { return strings.ReplaceAll(strings.ToLower(text), "-", "_") }

// distance counts the insertions, deletions and replacements between two texts.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
