package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Set to write golden files, and the shipped data set, instead of comparing with them.
const updateVariable = "ASIDUO_UPDATE"

// golden compares text with a file, or writes it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if os.Getenv(updateVariable) != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s:\n%s", file, got)
	}
}

var shopFormat = historyFormat{
	Columns: map[string]string{"order_id": "Number", "customer_id": "Client", "ordered_at": "Date", "amount": "Total",
		"status": "5", "type": "Kind", "refund_id": "Refund", "refunded_at": "When"},
	Comma: ';', TimeLayout: "02.01.2006 15:04", Zone: time.FixedZone("", 2*60*60), Currency: "EUR",
}

func TestHistoryGolden(t *testing.T) {
	for _, c := range []struct {
		file    string
		format  historyFormat
		read    int
		skipped map[string]int
		rest    string
	}{
		{"CDNOW_sample.txt", historyFormat{Preset: "cdnow"}, 10, map[string]int{}, ""},
		// The discount, 46 of the 47 hairbands cancelled before the order that they were meant for, and nothing else.
		{"online_retail.csv", historyFormat{Preset: "online-retail"}, 32,
			map[string]int{skipNoCustomer: 4, skipNoPrice: 1, skipNoValue: 1, skipUnmatched: 2}, "66.60"},
		{"orders.csv", shopFormat, 4, map[string]int{skipNoCustomer: 1}, ""},
	} {
		t.Run(c.file, func(t *testing.T) {
			var out bytes.Buffer
			counts, err := writeHistory(&out, []string{"testdata/history/" + c.file}, c.format)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/history/"+strings.TrimSuffix(c.file, filepath.Ext(c.file))+".golden.jsonl", out.Bytes())
			if counts.Read != c.read || counts.Written != bytes.Count(out.Bytes(), []byte("\n")) ||
				!maps.Equal(counts.Skipped, c.skipped) || counts.Unmatched != c.rest {
				t.Errorf("counts are %+v", *counts)
			}
			checkCanonical(t, out.String())
		})
	}
}

// checkCanonical writes text to a file and demands that it is read as it stands.
func checkCanonical(t *testing.T, text string) {
	t.Helper()
	var again bytes.Buffer
	if _, err := writeHistory(&again, []string{historyFile(t, "again.jsonl", text)}, historyFormat{}); err != nil {
		t.Fatal(err)
	}
	if again.String() != text {
		t.Error("what was written is not read as the same records")
	}
}

func historyFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// historyLines reads a text and describes what comes out of it: key, time and line of a record, or an error without the directory.
func historyLines(t *testing.T, name, text string, f historyFormat) ([]string, *historyCounts) {
	t.Helper()
	file := historyFile(t, name, text)
	var lines []string
	records, counts := readHistory([]string{file}, f)
	for record, err := range records {
		if err != nil {
			lines = append(lines, strings.ReplaceAll(err.Error(), filepath.Dir(file)+string(filepath.Separator), ""))
			continue
		}
		if record.File != file {
			t.Errorf("record of file %q", record.File)
		}
		lines = append(lines, fmt.Sprintf("%s %s %d line %d", record.Topic, record.Key, record.At, record.Line))
	}
	return lines, counts
}

func TestHistoryRecords(t *testing.T) {
	for _, c := range []struct {
		about, name, text string
		format            historyFormat
		want              []string
	}{
		{"order, refund and a later version", "h.jsonl", `{"customer_id":"a","ordered_at":"1970-01-01T00:00:01Z"}

{"customer_id":"b","type":"refund","refunded_at":"1970-01-01T01:00:02.5+01:00","ordered_at":"1971-01-01T00:00:00Z"}
 {"customer_id":"ü","type":"order","ordered_at":"1970-01-01T00:00:01Z","updated_at":"1970-01-01T00:00:09Z","status":null}`, historyFormat{},
			[]string{"purchases a 1000 line 1", "purchases b 2500 line 3", "purchases ü 9000 line 4"}},
		{"interactions", "h.ndjson", `{"id":"1","customer_id":"a","type":"visit","at":"1970-01-01T00:00:01Z"}`,
			historyFormat{Topic: "interactions"}, []string{"interactions a 1000 line 1"}},
		{"interactions in a table", "h.csv", "at,who,id,type\n1970-01-02,a,1,visit\n",
			historyFormat{Topic: "interactions", Columns: map[string]string{"customer_id": "who"}}, []string{"interactions a 86400000 line 2"}},
		{"a table without header, a quoted line break", "h.txt", "1,\"a\n\",1970-01-01T00:00:01,5\n2,b,1970-01-01 00:00:02,5\n",
			historyFormat{NoHeader: true, Currency: "EUR", Columns: map[string]string{"order_id": "1", "customer_id": "2", "ordered_at": "3", "amount": "4"}},
			[]string{"purchases a\n 1000 line 1", "purchases b 2000 line 3"}},
		{"a later version in a table", "h.csv", "order_id,customer_id,ordered_at,updated_at,amount,currency\n1,a,1970-01-01,1970-01-02,5,EUR\n",
			historyFormat{}, []string{"purchases a 86400000 line 2"}},
		{"an empty table without header", "h.csv", "", historyFormat{NoHeader: true}, nil},
		{"after an error the next line follows", "h.jsonl", "x\n{\"customer_id\":\"a\",\"ordered_at\":\"1970-01-01T00:00:01Z\"}\n", historyFormat{},
			[]string{"h.jsonl:1: not a JSON object", "purchases a 1000 line 2"}},
	} {
		t.Run(c.about, func(t *testing.T) {
			got, counts := historyLines(t, c.name, c.text, c.format)
			if strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if counts.Read != counts.Written+counts.Skipped[skipUnreadable] {
				t.Errorf("lines are lost: %+v", *counts)
			}
		})
	}
}

func TestHistoryCanonicalValue(t *testing.T) {
	text := "order_id,customer_id,ordered_at,amount,currency,status,refunded,revision,updated_at,channel,coupon,cost,discount,test\n" +
		"1,\"a\"\"b\",1999-12-31T23:59:59.9999+01:00, 999999999999999.123456789012 ,EUR,completed,0.50,7,2000-01-01,web,X,1,2,true\n"
	want := `{"order_id":"1","customer_id":"a\"b","ordered_at":"1999-12-31T22:59:59.999Z","amount":"999999999999999.123456789012",` +
		`"currency":"EUR","status":"completed","refunded":"0.50","revision":7,"updated_at":"2000-01-01T00:00:00Z","channel":"web",` +
		`"coupon":"X","cost":"1","discount":"2","test":true}` + "\n"
	var out bytes.Buffer
	if _, err := writeHistory(&out, []string{historyFile(t, "h.csv", text)}, historyFormat{}); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

func TestHistoryPackedAndStopped(t *testing.T) {
	packed := historyFile(t, "h.jsonl.gz", string(pack(t, []byte(`{"customer_id":"a","ordered_at":"1970-01-01T00:00:01Z"}`))))
	records, counts := readHistory([]string{packed, packed, packed}, historyFormat{})
	for record, err := range records {
		if err != nil || string(record.Key) != "a" {
			t.Fatal(record, err)
		}
		if counts.Written == 2 {
			break
		}
	}
	if counts.Written != 2 || counts.Read != 2 {
		t.Errorf("stopped after the second record, but %+v", *counts)
	}
}

// pack compresses without name and time, so that the same text gives the same bytes.
func pack(t *testing.T, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const shippedHistory = "data/online_retail.jsonl.gz"

// TestHistoryShipped keeps the shipped data set and its README together. With ASIDUO_ONLINE_RETAIL naming the source
// (a CSV file, gzip or not) it converts again and compares; with ASIDUO_UPDATE it writes the shipped file.
func TestHistoryShipped(t *testing.T) {
	if source := os.Getenv("ASIDUO_ONLINE_RETAIL"); source != "" {
		var out bytes.Buffer
		counts, err := writeHistory(&out, []string{source}, historyFormat{Preset: "online-retail"})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", *counts)
		if os.Getenv(updateVariable) != "" {
			golden(t, shippedHistory, pack(t, out.Bytes()))
			text, err := json.Marshal(counts)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "data/online_retail.counts.json", append(text, '\n'))
		} else if !bytes.Equal(out.Bytes(), unpack(t, shippedHistory)) {
			t.Errorf("%s is not what %s becomes", shippedHistory, source)
		}
	}
	checkCanonical(t, string(unpack(t, shippedHistory)))
	orders, refunds, last := 0, 0, int64(0)
	customers := map[string]bool{}
	records, _ := readHistory([]string{shippedHistory}, historyFormat{})
	for record, err := range records {
		if err != nil {
			t.Fatal(err)
		}
		if record.At < last {
			t.Fatalf("line %d is not in the order of time", record.Line)
		}
		last = record.At
		customers[string(record.Key)] = true
		if bytes.HasPrefix(record.Value, []byte(`{"type":"refund"`)) {
			refunds++
		} else {
			orders++
		}
	}
	readme, err := os.ReadFile("data/README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d orders and %d refunds of %d customers", orders, refunds, len(customers))
	if !strings.Contains(string(readme), want) {
		t.Errorf("data/README.md does not say %q", want)
	}
}

func unpack(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
