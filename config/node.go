package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

var (
	configType = reflect.TypeFor[Config]()
	secretType = reflect.TypeFor[Secret]()
	textType   = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// doc is a configuration on its way from nodes to a Config.
type doc struct {
	file   string
	root   *yaml.Node
	getenv func(string) (string, bool)
	faults Faults
	// bad holds the paths that already have a fault, so that no second one is built upon it.
	bad map[string]bool
	// fromEnv marks unquoted values with ${NAME}: the key, not the look of the variable, decides what they are.
	fromEnv map[*yaml.Node]bool
}

func valueOf(c *Config) reflect.Value { return reflect.ValueOf(c).Elem() }

// textual tells whether values of a type are written as text of their own form.
func textual(t reflect.Type) bool { return t != nil && reflect.PointerTo(t).Implements(textType) }

// field is the field of a struct with that key.
func field(t reflect.Type, key string) (reflect.StructField, bool) {
	if t == nil || t.Kind() != reflect.Struct || textual(t) {
		return reflect.StructField{}, false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("json") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// element is the type of the entries of a list, nil if t is not one.
func element(t reflect.Type) reflect.Type {
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		return t.Elem()
	}
	return nil
}

// join is the path of a key. Only keys that are unknown anyway can need quotes, which keep messages on one line.
func join(path, key string) string {
	if quoted := strconv.Quote(key); quoted != `"`+key+`"` || strings.ContainsAny(key, ". ") {
		key = quoted
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// fault notes what is wrong at a node and takes the path out of further checks.
func (d *doc) fault(at *yaml.Node, path, message string) {
	if path != "" {
		d.bad[path] = true
	}
	d.faults = append(d.faults, Fault{File: d.file, Line: max(at.Line, 1), Col: max(at.Column, 1), Message: message})
}

// prepare refuses what a configuration has no use for (aliases, tags, keys twice) and puts in the environment.
func (d *doc) prepare(n *yaml.Node, t reflect.Type, path string) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fault(n, path, path+": anchors and aliases are not supported; write the value out, or put a text that starts with & or * in quotes")
		return
	case !plainTag(n.ShortTag()):
		d.fault(n, path, path+": tags are not supported; put a text that starts with ! in quotes")
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		d.prepareMapping(n, t, path)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			d.prepare(item, element(t), index(path, i))
		}
	case yaml.ScalarNode:
		d.substitute(n, path)
	}
}

func (d *doc) prepareMapping(n *yaml.Node, t reflect.Type, path string) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fault(key, "", "a key must be plain text"+inside(path))
			continue
		}
		if line, twice := first[key.Value]; twice {
			d.fault(key, "", fmt.Sprintf("duplicate key %q%s; first at line %d", key.Value, inside(path), line))
			continue
		}
		first[key.Value] = key.Line
		f, _ := field(t, key.Value)
		d.prepare(value, f.Type, join(path, key.Value))
	}
}

func plainTag(tag string) bool {
	switch tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!map", "!!seq", "!!merge", "":
		return true
	}
	return false
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// substitute replaces ${NAME}, ${NAME:-default} and $$ in one value. It runs after parsing, so that no variable can
// add keys.
func (d *doc) substitute(n *yaml.Node, path string) {
	var out strings.Builder
	rest, changed := n.Value, false
	for {
		at := strings.IndexByte(rest, '$')
		if at < 0 || at+1 == len(rest) {
			break
		}
		out.WriteString(rest[:at])
		rest = rest[at:]
		if rest[1] == '$' {
			out.WriteByte('$')
			rest = rest[2:]
			continue
		}
		if rest[1] != '{' {
			out.WriteByte('$')
			rest = rest[1:]
			continue
		}
		inner, after, closed := strings.Cut(rest[2:], "}")
		name, fallback, hasFallback := strings.Cut(inner, ":-")
		if !closed || !envName.MatchString(name) {
			d.fault(n, path, path+": only ${NAME} and ${NAME:-default} are understood; write $$ for a $ of its own")
			return
		}
		value, set := d.getenv(name)
		switch {
		case hasFallback && value == "":
			value = fallback
		case !set:
			d.fault(n, path, fmt.Sprintf("%s: the environment variable %s is not set; ${%s:-default} gives it a default", path, name, name))
			return
		case !utf8.ValidString(value):
			d.fault(n, path, fmt.Sprintf("%s: the environment variable %s is not UTF-8", path, name))
			return
		}
		out.WriteString(value)
		rest, changed = after, true
	}
	out.WriteString(rest)
	n.Value = out.String()
	if changed && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0 {
		d.fromEnv[n] = true
		n.Tag = bareTag(n.Value)
	}
}

// bareTag is what YAML takes an unquoted text for.
func bareTag(text string) string {
	_, isNumber := number(text)
	switch {
	case text == "":
		return "!!null"
	case strings.EqualFold(text, "true") || strings.EqualFold(text, "false"):
		return "!!bool"
	case isNumber:
		return "!!float"
	}
	return "!!str"
}

// plain is a node as the JSON Schema validator wants it. The type decides between readings of a scalar, so that a
// decimal or a duration keeps its exact text.
func (d *doc) plain(n *yaml.Node, t reflect.Type) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if _, twice := m[key.Value]; !twice && key.Kind == yaml.ScalarNode {
				f, _ := field(t, key.Value)
				m[key.Value] = d.plain(n.Content[i+1], f.Type)
			}
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = d.plain(item, element(t))
		}
		return list
	case yaml.ScalarNode:
		return d.plainScalar(n, t)
	}
	return nil
}

func (d *doc) plainScalar(n *yaml.Node, t reflect.Type) any {
	isText := textual(t) || t != nil && t.Kind() == reflect.String
	if isText && d.fromEnv[n] {
		return n.Value
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if textual(t) && t != secretType {
			return n.Value
		}
		if x, ok := number(n.Value); ok {
			return x
		}
		if isText {
			return 0
		}
	}
	return n.Value
}

var numberText = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// number reads plain decimal digits only: YAML's octal, hexadecimal and underscored forms surprise.
func number(text string) (any, bool) {
	if !numberText.MatchString(text) {
		return nil, false
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i, true
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

// assign lays a node over a value, leaving out what has a fault.
func (d *doc) assign(n *yaml.Node, v reflect.Value, path string) {
	if d.bad[path] {
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			d.fault(n, path, path+": "+err.Error())
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.assignStruct(n, v, path)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		fallthrough
	case reflect.Array:
		for i, item := range n.Content {
			d.assign(item, v.Index(i), index(path, i))
		}
	default:
		d.assignScalar(n, v, path)
	}
}

func (d *doc) assignStruct(n *yaml.Node, v reflect.Value, path string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		f, known := field(v.Type(), key)
		if known && !seen[key] {
			d.assign(n.Content[i+1], v.FieldByIndex(f.Index), join(path, key))
		}
		seen[key] = true
	}
}

func (d *doc) assignScalar(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil {
			d.fault(n, path, path+": the number is out of range")
			return
		}
		v.SetFloat(f)
	default:
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		if err != nil {
			message := ": the number is out of range"
			if strings.ContainsAny(n.Value, ".eE") {
				message = ": expected a whole number without point or exponent, found " + found(n, v.Type())
			}
			d.fault(n, path, path+message)
			return
		}
		v.SetInt(i)
	}
}
