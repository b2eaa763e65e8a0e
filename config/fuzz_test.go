package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzParse reads any text as a configuration. It loads, and then it is valid, can be printed, and is the same when that
// is read again; or every fault says on one line what is wrong, and where.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			if len(data) < 4096 {
				f.Add(data)
			}
		}
	}
	getenv := environment(map[string]string{"NAME": "value", "EMPTY": "", "NUMBER": "7", "BINARY": "\xff", "LINES": "x: y\n- z"})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("c.yaml", data, getenv)
		if err != nil {
			checkFaults(t, data, err)
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("%q loads, and is not valid: %v", data, err)
		}
		var text, again bytes.Buffer
		if err := Print(&text, c); err != nil {
			t.Fatalf("%q loads, and cannot be printed: %v", data, err)
		}
		c2, err := Parse("c.yaml", text.Bytes(), nil)
		if err != nil {
			t.Fatalf("%q loads, and what is printed of it does not: %v\n%s", data, err, text.Bytes())
		}
		if err := Print(&again, c2); err != nil || !bytes.Equal(text.Bytes(), again.Bytes()) {
			t.Fatalf("%q is printed as\n%s\nand that as\n%s: %v", data, text.Bytes(), again.Bytes(), err)
		}
		c.Kafka.SASL.Password, c2.Kafka.SASL.Password = "", ""
		if !reflect.DeepEqual(c, c2) {
			t.Fatalf("%q is\n%+v\nand once printed\n%+v", data, c, c2)
		}
	})
}

func checkFaults(t *testing.T, data []byte, err error) {
	var faults Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("%q: %v", data, err)
	}
	lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + bytes.Count(data, []byte("\u0085")) +
		bytes.Count(data, []byte("\u2028")) + bytes.Count(data, []byte("\u2029")) + 2
	for _, f := range faults {
		if f.File != "c.yaml" || f.Line < 1 || f.Line > lines || f.Col < 1 || f.Message == "" || strings.ContainsAny(f.Message, "\n\r\x00") {
			t.Fatalf("%q: %#v", data, f)
		}
	}
}
