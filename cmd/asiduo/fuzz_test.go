package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// FuzzHistory reads any bytes as a history file of every kind there is. Each line becomes a canonical record, or is
// counted and left out, or an error names file and line; what the pipeline is given as key and time is what the record
// says.
func FuzzHistory(f *testing.F) {
	plain := map[string]string{"customer_id": "1", "order_id": "2", "ordered_at": "3", "amount": "4"}
	kinds := []historyFormat{
		{Format: "jsonl"}, {Format: "jsonl", Topic: roleInteractions}, {Format: "csv"}, {Format: "csv", Topic: roleInteractions},
		{Format: "csv", NoHeader: true, Columns: plain, Currency: "EUR"}, shopFormat, {Preset: "cdnow"}, {Preset: "online-retail"},
	}
	for kind, files := range []string{"*.jsonl", "*.jsonl", "*.csv", "*.csv", "*.csv", "orders.csv", "CDNOW*.txt", "online*.csv"} {
		names, err := filepath.Glob(filepath.Join("testdata/history", files))
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(kind), data)
		}
	}
	file := filepath.Join(f.TempDir(), "h")
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		format := kinds[int(kind)%len(kinds)]
		if format.Preset == "" {
			format.Format = cmp.Or(format.Format, "csv")
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		records, counts := readHistory([]string{file}, format)
		written := 0
		for r, err := range records {
			if err != nil {
				if !strings.HasPrefix(err.Error(), file+":") && !errors.Is(err, os.ErrNotExist) {
					t.Fatalf("%q: an error that does not say where it is: %v", data, err)
				}
				continue
			}
			written++
			checkRecord(t, format, file, data, r)
		}
		left := 0
		for why, n := range counts.Skipped {
			if n <= 0 {
				t.Fatalf("%q: %d %s", data, n, why)
			}
			left += n
		}
		if counts.Written != written || format.Preset == "" && counts.Read != written+left {
			t.Fatalf("%q: %d records, and the counts are %+v", data, written, *counts)
		}
	})
}

func checkRecord(t *testing.T, format historyFormat, file string, data []byte, r historyRecord) {
	if r.File != file || r.Line < 1 || r.Line > bytes.Count(data, []byte("\n"))+1 && data[0] != 0x1f || r.Topic != cmp.Or(format.Topic, rolePurchases) {
		t.Fatalf("%q: a record of %s %s:%d", data, r.Topic, r.File, r.Line)
	}
	if !utf8.Valid(r.Value) || bytes.ContainsAny(r.Value, "\n") {
		t.Fatalf("%q: %q is no line", data, r.Value)
	}
	key, at, err := canonicalKey(r.Topic, r.Value)
	if err != nil || !bytes.Equal(key, r.Key) || at != r.At || at < 0 {
		t.Fatalf("%q: %s has the key %q and the time %d, the record %q and %d: %v", data, r.Value, key, at, r.Key, r.At, err)
	}
}

// FuzzDump reads any bytes as the dump of a topic, writes its records as a dump, and reads them once more: they are the same.
func FuzzDump(f *testing.F) {
	for _, line := range []string{
		`{"topic":"p","partition":0,"offset":1,"timestamp":1714557600000,"key":"a","value":{"a":1},"headers":{"h":"v"}}`,
		`{"topic":"p","partition":0,"offset":1,"timestamp":-1,"key":null,"value":null}`,
		`{"topic":"s.dead-letters","partition":2,"offset":1,"timestamp":0,"key":"a","value_b64":"/w=="}`,
		`{"topic":"s.dead-letters","partition":2,"offset":1,"timestamp":9223372036854775807,"key":"\u0000","value":"{"}`, `{"partition":-1}`,
	} {
		f.Add([]byte(line + "\n"))
	}
	name := filepath.Join(f.TempDir(), "dump.jsonl")
	read := func(t *testing.T, data []byte) (rs []*kgo.Record, err error) {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := isDump(name); err != nil && len(data) > 1 && data[0] != 0x1f {
			t.Fatalf("%q: %v", data, err)
		}
		for r, err := range readDump(name) {
			if err != nil {
				return rs, err
			}
			rs = append(rs, r)
		}
		return rs, nil
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rs, err := read(t, data)
		if err != nil && !strings.HasPrefix(err.Error(), name+":") {
			t.Fatalf("%q: an error that does not say where it is: %v", data, err)
		}
		var lines []byte
		for _, r := range rs {
			if r.Topic == "" || r.Partition < 0 {
				t.Fatalf("%q is a record of %q/%d", data, r.Topic, r.Partition)
			}
			if r.Value != nil && (!bytes.HasPrefix(r.Value, []byte("{")) || !json.Valid(r.Value)) {
				r.Topic = "s.dead-letters" // only there are values that are no JSON object
			}
			line, err := json.Marshal(lineOf(r))
			if err != nil {
				t.Fatalf("%q cannot be written: %v", data, err)
			}
			lines = append(append(lines, line...), '\n')
		}
		again, err := read(t, lines)
		if err != nil || len(again) != len(rs) {
			t.Fatalf("%q are %d records, %q are %d: %v", data, len(rs), lines, len(again), err)
		}
		for i, r := range rs {
			sameRecord(t, r, again[i])
		}
	})
}

// sameRecord holds that a record that was written and read is what it was, values that are JSON but for spaces and escapes.
func sameRecord(t *testing.T, r, again *kgo.Record) {
	value, headers := r.Value, func(r *kgo.Record) map[string]string {
		m := map[string]string{}
		for _, h := range r.Headers {
			m[h.Key] = string(h.Value)
		}
		return m
	}
	if !strings.HasSuffix(r.Topic, ".dead-letters") && value != nil {
		value, _ = json.Marshal(json.RawMessage(value))
	}
	if again.Topic != r.Topic || again.Partition != r.Partition || !again.Timestamp.Equal(r.Timestamp) ||
		!bytes.Equal(again.Key, r.Key) || (again.Key == nil) != (r.Key == nil) ||
		!bytes.Equal(again.Value, value) || (again.Value == nil) != (value == nil) || !maps.Equal(headers(again), headers(r)) {
		t.Fatalf("%+v was written, %+v read", r, again)
	}
}
