package oracle

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// line is a record as the files of cases and dumps hold it.
type line struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    *int64            `json:"offset"`
	Timestamp int64             `json:"timestamp"`
	Key       *string           `json:"key"`
	Value     json.RawMessage   `json:"value"`
	ValueB64  *[]byte           `json:"value_b64"`
	Headers   map[string]string `json:"headers"`
}

// ReadCase reads case.json, input.jsonl and expected.jsonl of a folder; the
// latter two may be gzip files with the further extension .gz.
func ReadCase(dir string) (Case, error) {
	text, err := os.ReadFile(filepath.Join(dir, "case.json"))
	if err != nil {
		return Case{}, err
	}
	var c Case
	if err := json.Unmarshal(text, &c); err != nil {
		return Case{}, fmt.Errorf("%s: %w", dir, err)
	}
	inputs, err := readLines(filepath.Join(dir, "input.jsonl"))
	if err != nil {
		return Case{}, err
	}
	original := map[string][]byte{}
	for _, l := range inputs {
		r := Record{Topic: l.Topic, Partition: l.Partition, Timestamp: l.Timestamp, Key: l.key(), Headers: l.Headers}
		if l.Offset != nil {
			r.Offset = *l.Offset
		}
		if r.Value, err = l.bytes(); err != nil {
			return Case{}, fmt.Errorf("%s: %w", dir, err)
		}
		c.Input = append(c.Input, r)
		original[origin(deadLetter(r, ""))] = r.Value
	}
	expected, err := readLines(filepath.Join(dir, "expected.jsonl"))
	if err != nil {
		return Case{}, err
	}
	for _, l := range expected {
		o, err := l.output(c.Config.App)
		if err != nil {
			return Case{}, fmt.Errorf("%s: %w", dir, err)
		}
		if o.Topic == DeadLetters {
			o.Raw, o.RawUnknown = original[origin(o)], false
		}
		c.Want = append(c.Want, o)
	}
	return c, nil
}

// WriteInput writes records in the format of input.jsonl.
func WriteInput(w io.Writer, rs []Record) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range rs {
		members := map[string]any{"topic": r.Topic, "partition": r.Partition, "offset": r.Offset, "timestamp": r.Timestamp,
			"key": nil, "value": nil}
		if r.Key != nil {
			if !utf8.Valid(r.Key) {
				return fmt.Errorf("oracle: the key %q cannot be written as text", r.Key)
			}
			members["key"] = string(r.Key)
		}
		switch {
		case r.Value != nil && utf8.Valid(r.Value):
			members["value"] = string(r.Value)
		case r.Value != nil:
			delete(members, "value")
			members["value_b64"] = r.Value
		}
		if len(r.Headers) > 0 {
			members["headers"] = r.Headers
		}
		if err := enc.Encode(members); err != nil {
			return err
		}
	}
	return nil
}

// ReadOutputs reads a folder with a file <app>.<topic>.jsonl or <topic>.jsonl
// per output topic, each maybe with .gz.
func ReadOutputs(dir, app string) ([]Output, error) {
	var lines []line
	found := false
	for _, topic := range []string{SegmentChanges, ChurnRisk, Profiles, DeadLetters} {
		for _, name := range []string{app + "." + topic, topic} {
			of, err := readLines(filepath.Join(dir, name+".jsonl"))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			found = true
			for _, l := range of {
				l.Topic = cmp.Or(l.Topic, topic)
				lines = append(lines, l)
			}
			break
		}
	}
	if !found {
		return nil, fmt.Errorf("oracle: %s: no %s.<topic>.jsonl in it", dir, app)
	}
	if !slices.ContainsFunc(lines, func(l line) bool { return l.Offset == nil }) {
		slices.SortStableFunc(lines, func(a, b line) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(*a.Offset, *b.Offset))
		})
	}
	outputs := make([]Output, len(lines))
	for i, l := range lines {
		var err error
		if outputs[i], err = l.output(app); err != nil {
			return nil, fmt.Errorf("oracle: %s: %w", dir, err)
		}
	}
	return outputs, nil
}

// readLines reads a file, or the same with .gz.
func readLines(path string) ([]line, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var packed []byte
		if packed, err = os.ReadFile(path + ".gz"); err == nil {
			var z *gzip.Reader
			if z, err = gzip.NewReader(bytes.NewReader(packed)); err == nil {
				text, err = io.ReadAll(z)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	var lines []line
	n := 0
	for row := range bytes.Lines(text) {
		n++
		if len(bytes.TrimSpace(row)) == 0 {
			continue
		}
		var l line
		if err := json.Unmarshal(row, &l); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func (l line) key() []byte {
	if l.Key == nil {
		return nil
	}
	return []byte(*l.Key)
}

// bytes returns the value's bytes where it is given as text or in base64.
func (l line) bytes() ([]byte, error) {
	if l.ValueB64 != nil {
		return *l.ValueB64, nil
	}
	if len(l.Value) == 0 || string(l.Value) == "null" {
		return nil, nil
	}
	var text string
	err := json.Unmarshal(l.Value, &text)
	return []byte(text), err
}

func (l line) output(app string) (Output, error) {
	o := Output{Topic: strings.TrimPrefix(l.Topic, app+"."), Key: l.key(), Headers: l.Headers}
	if o.Topic == DeadLetters {
		var err error
		o.Raw, err = l.bytes()
		o.RawUnknown = err != nil || l.ValueB64 == nil && len(l.Value) == 0
		return o, nil
	}
	text := []byte(l.Value)
	if l.ValueB64 != nil || len(text) > 0 && text[0] == '"' {
		var err error
		if text, err = l.bytes(); err != nil {
			return Output{}, err
		}
	}
	if len(text) == 0 {
		return o, nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&o.Value); err != nil {
		return Output{}, fmt.Errorf("value of a %s record: %w", o.Topic, err)
	}
	return o, nil
}
