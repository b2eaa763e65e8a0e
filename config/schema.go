package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"sync"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

//go:generate go test . -run TestSchemaFile -update

// instantPattern only guides editors; whether the day exists is found on reading.
const instantPattern = `^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2}))?$`

// Schema is the JSON Schema (draft 2020-12) of the configuration file, with descriptions and defaults, for editors.
func Schema() ([]byte, error) {
	text, err := json.MarshalIndent(reflected(), "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

func reflected() *jsonschema.Schema {
	r := &jsonschema.Reflector{
		Anonymous:                  true,
		DoNotReference:             true,
		RequiredFromJSONSchemaTags: true,
		Mapper:                     textSchema,
	}
	s := r.ReflectFromType(configType)
	s.Title = "Configuration of asiduo"
	c := Default()
	addDefaults(s, reflect.ValueOf(c))
	return s
}

// textSchema is the schema of our own types, which reflection takes for any text. Numbers are let through where a
// file may hold them unquoted; the loader hands them to the validator as text.
func textSchema(t reflect.Type) *jsonschema.Schema {
	switch t {
	case secretType:
		return &jsonschema.Schema{Type: "string"}
	case reflect.TypeFor[Instant]():
		return &jsonschema.Schema{Type: "string", Pattern: instantPattern}
	case reflect.TypeFor[Duration]():
		s := textOr("integer", durationPattern)
		s.Minimum, s.Maximum = "0", "0"
		return s
	case reflect.TypeFor[Size]():
		s := textOr("integer", sizePattern)
		s.Minimum = "0"
		return s
	case reflect.TypeFor[Decimal]():
		return textOr("number", decimalPattern)
	case reflect.TypeFor[Scores]():
		return textOr("integer", scoresPattern)
	}
	return nil
}

func textOr(other, pattern string) *jsonschema.Schema {
	return &jsonschema.Schema{Pattern: pattern, Extras: map[string]any{"type": []string{"string", other}}}
}

// addDefaults writes the default of every key into its schema; required keys have none.
func addDefaults(s *jsonschema.Schema, v reflect.Value) {
	required := map[string]bool{}
	for _, key := range s.Required {
		required[key] = true
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		f, _ := field(v.Type(), p.Key)
		value := v.FieldByIndex(f.Index)
		switch {
		case required[p.Key]:
		case value.Kind() == reflect.Struct && !textual(value.Type()):
			addDefaults(p.Value, value)
		default:
			p.Value.Default = defaultOf(value)
		}
	}
}

// defaultOf is a value as a file holds it.
func defaultOf(v reflect.Value) any {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return nil
		}
		return string(text)
	}
	return v.Interface()
}

// compiled is the schema ready to check with. It is our own text, so that an error is a bug of this package.
var compiled = sync.OnceValue(func() *validator.Schema {
	text, err := Schema()
	if err != nil {
		panic(err)
	}
	tree, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	c := validator.NewCompiler()
	const name = "asiduo.schema.json"
	if err := c.AddResource(name, tree); err != nil {
		panic(err)
	}
	return c.MustCompile(name)
})
