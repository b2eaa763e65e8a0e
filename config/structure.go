package config

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v4"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// structure checks keys, types, choices and ranges by the JSON Schema.
func (d *doc) structure() {
	var ve *validator.ValidationError
	if err := compiled().Validate(d.plain(d.root, configType)); errors.As(err, &ve) {
		d.leaves(ve)
	}
}

func (d *doc) leaves(e *validator.ValidationError) {
	for _, cause := range e.Causes {
		d.leaves(cause)
	}
	if len(e.Causes) > 0 {
		return
	}
	n, t, path := d.walk(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, key := range k.Properties {
			d.fault(keyNode(n, key), join(path, key), unknownKey(t, path, key))
		}
	case *kind.Required:
		for _, key := range k.Missing {
			d.fault(n, join(path, key), fmt.Sprintf("missing key %q%s; it is required and has no default", key, inside(path)))
		}
	default:
		if !d.bad[path] {
			d.fault(n, path, path+": "+wrong(e.ErrorKind, n, t))
		}
	}
}

// walk finds the node, type and path of a JSON pointer.
func (d *doc) walk(pointer []string) (*yaml.Node, reflect.Type, string) {
	n, t, path := d.root, configType, ""
	for _, step := range pointer {
		if n.Kind == yaml.SequenceNode {
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(n.Content) {
				break
			}
			n, t, path = n.Content[i], element(t), index(path, i)
			continue
		}
		_, value := lookup(n, step)
		if value == nil {
			break
		}
		f, _ := field(t, step)
		n, t, path = value, f.Type, join(path, step)
	}
	return n, t, path
}

// lookup is the key and the value of a mapping, nil if it has no such key.
func lookup(n *yaml.Node, key string) (k, v *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Kind == yaml.ScalarNode && n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

func keyNode(n *yaml.Node, key string) *yaml.Node {
	if k, _ := lookup(n, key); k != nil {
		return k
	}
	return n
}

// spoilt tells whether a path, something above it or something below it already has a fault.
func (d *doc) spoilt(path string) bool {
	for bad := range d.bad {
		if under(bad, path) || under(path, bad) {
			return true
		}
	}
	return false
}

// under tells whether path is at or below root.
func under(path, root string) bool {
	rest, ok := strings.CutPrefix(path, root)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// wrong says in plain words what a value should have been.
func wrong(k validator.ErrorKind, n *yaml.Node, t reflect.Type) string {
	switch k := k.(type) {
	case *kind.Type:
		return "expected " + expected(t) + ", found " + found(n, t) + hint(n, t)
	case *kind.Pattern:
		if words, ok := patternWords[k.Want]; ok {
			return "expected " + words + ", found " + found(n, t)
		}
		return "expected " + expected(t) + ", found " + found(n, t) + hint(n, t)
	case *kind.Enum:
		return oneOf(k.Want, n, t)
	case *kind.MinItems:
		return entries(t, k.Want, k.Got)
	case *kind.MaxItems:
		return entries(t, k.Want, k.Got)
	case *kind.Minimum:
		return fmt.Sprintf("must be at least %s, found %s", rat(k.Want), n.Value)
	case *kind.Maximum:
		return fmt.Sprintf("must be at most %s, found %s", rat(k.Want), n.Value)
	case *kind.MinLength:
		return "must not be empty"
	case *kind.MaxLength:
		return fmt.Sprintf("must be at most %d characters, found %d", k.Want, k.Got)
	}
	return k.LocalizedString(message.NewPrinter(language.English))
}

func rat(r *big.Rat) string {
	text := r.FloatString(6)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

func entries(t reflect.Type, want, got int) string {
	if t.Kind() == reflect.Array {
		return fmt.Sprintf("expected exactly %d entries, found %d", want, got)
	}
	return fmt.Sprintf("expected at least %s, found %d", plural(want, "entry", "entries"), got)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
