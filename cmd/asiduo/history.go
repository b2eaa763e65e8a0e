package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
)

// The roles of input topics, as a history file is read for one of them.
const (
	rolePurchases    = "purchases"
	roleInteractions = "interactions"
)

// historyFormat says how history files are to be understood. The zero value reads canonical purchases, with
// the format taken from each file's name.
type historyFormat struct {
	Format     string            // jsonl or csv; "" = by file name (.jsonl, .csv, .txt), whatever is packed by gzip
	Preset     string            // "", cdnow or online-retail: a published data set
	Topic      string            // role of the records: purchases (default) or interactions
	Columns    map[string]string // CSV: canonical field -> column name or 1-based number; default: the same name
	Comma      rune              // CSV: between fields; default a comma
	NoHeader   bool              // CSV: the first line is data, so columns are numbers
	TimeLayout string            // Go layout of time columns; default RFC 3339, date with or without a time of day
	Zone       *time.Location    // of times that name no zone; default UTC
	Currency   string            // of all amounts, when no column says it
	Sparse     bool              // CSV: without a column of order ids each line is an order, without one of amounts of nothing
}

// historyRecord is one canonical input record, ready to be produced.
type historyRecord struct {
	Topic string // role
	Key   []byte // the customer id
	Value []byte // canonical JSON
	At    int64  // event time in ms since the epoch, to become the record's timestamp
	Line  int    // where the record, or its first part, was read
	File  string
}

// historyCounts tells what became of the lines of the files.
type historyCounts struct {
	Read    int            // lines with data; a header is none
	Written int            // records handed out; several lines may make one record, and one line several
	Skipped map[string]int // reason -> what was left out, lines unless the reason names something else
	// Unmatched is the value of the cancelled goods for which no order was found, "" outside online-retail.
	Unmatched string
}

// Reasons in historyCounts.Skipped.
const (
	skipUnreadable = "unreadable"
	skipNoCustomer = "no customer"
)

// readHistory reads the files one after the other and hands out their records. Generic formats keep the order of
// the lines; presets sort by event time, because their sources are not in that order.
//
// An error names file and line. The iteration may be continued after it: the next line follows, so that all faults
// can be listed in one run, and the line is counted as unreadable. The counts are final when the iteration has ended.
func readHistory(files []string, f historyFormat) (iter.Seq2[historyRecord, error], *historyCounts) {
	counts := &historyCounts{}
	return func(yield func(historyRecord, error) bool) {
		*counts = historyCounts{Skipped: map[string]int{}}
		if err := f.check(files); err != nil {
			yield(historyRecord{}, err)
			return
		}
		r := &historyReader{historyFormat: f, counts: counts, yield: yield}
		if r.Topic == "" {
			r.Topic = rolePurchases
		}
		if r.Zone == nil {
			r.Zone = time.UTC
		}
		r.read(files)
	}, counts
}

// writeHistory writes the values of all records, one a line, and stops at the first error.
func writeHistory(w io.Writer, files []string, f historyFormat) (*historyCounts, error) {
	records, counts := readHistory(files, f)
	buffered := bufio.NewWriter(w)
	for record, err := range records {
		if err != nil {
			return counts, err
		}
		if _, err := buffered.Write(record.Value); err != nil {
			return counts, err
		}
		if err := buffered.WriteByte('\n'); err != nil {
			return counts, err
		}
	}
	return counts, buffered.Flush()
}

// check finds what can be known to be wrong before a file is opened.
func (f historyFormat) check(files []string) error {
	switch {
	case len(files) == 0:
		return errors.New("no history files given")
	case !slices.Contains([]string{"", "jsonl", "csv"}, f.Format):
		return fmt.Errorf("unknown format %q; formats are jsonl and csv", f.Format)
	case !slices.Contains([]string{"", "cdnow", "online-retail"}, f.Preset):
		return fmt.Errorf("unknown preset %q; presets are cdnow and online-retail", f.Preset)
	case !slices.Contains([]string{"", rolePurchases, roleInteractions}, f.Topic):
		return fmt.Errorf("unknown topic %q; topics are purchases and interactions", f.Topic)
	case f.Preset != "" && f.Topic == roleInteractions:
		return fmt.Errorf("preset %s holds purchases, not interactions", f.Preset)
	case f.Preset != "" && f.Format != "":
		return fmt.Errorf("preset %s has its own format; leave out format %s", f.Preset, f.Format)
	case f.Currency != "" && !currencyPattern.MatchString(f.Currency):
		return fmt.Errorf("currency %q is not three letters A-Z", f.Currency)
	case strings.ContainsRune("\"\r\n\uFFFD", f.Comma) || !utf8.ValidRune(f.Comma):
		return fmt.Errorf("%q cannot be between the fields of a CSV file", f.Comma)
	case f.Preset == "cdnow" && len(f.Columns) > 0:
		return errors.New("preset cdnow has fixed columns; none can be mapped")
	}
	return nil
}

// formatOf returns the format of a file without a preset.
func (f historyFormat) formatOf(file string) (string, error) {
	if f.Format != "" {
		return f.Format, nil
	}
	switch strings.ToLower(filepath.Ext(strings.TrimSuffix(file, ".gz"))) {
	case ".jsonl", ".ndjson":
		return "jsonl", nil
	case ".csv", ".txt":
		return "csv", nil
	}
	return "", fmt.Errorf("%s: the name does not tell the format; give jsonl or csv", file)
}

// historyReader is one iteration over the files.
type historyReader struct {
	historyFormat
	counts  *historyCounts
	yield   func(historyRecord, error) bool
	stopped bool // the consumer wants no more
}

func (r *historyReader) read(files []string) {
	switch r.Preset {
	case "cdnow":
		r.readCDNOW(files)
		return
	case "online-retail":
		r.readRetail(files)
		return
	}
	for _, file := range files {
		format, err := r.formatOf(file)
		if err != nil {
			r.fail(err)
			continue
		}
		if format == "csv" {
			r.open(file, func(in *bufio.Reader) error { return r.readCSV(file, in) })
		} else {
			r.open(file, func(in *bufio.Reader) error { return r.readJSONL(file, in) })
		}
	}
}

// emit hands out a record and reports whether to go on.
func (r *historyReader) emit(record historyRecord) bool {
	if !r.stopped {
		r.counts.Written++
		r.stopped = !r.yield(record, nil)
	}
	return !r.stopped
}

// fail hands out an error and reports whether to go on.
func (r *historyReader) fail(err error) bool {
	if !r.stopped {
		r.stopped = !r.yield(historyRecord{}, err)
	}
	return !r.stopped
}

// failLine is fail for an error that costs one line.
func (r *historyReader) failLine(err error) bool {
	r.counts.Skipped[skipUnreadable]++
	return r.fail(err)
}

// open calls read with the file's text. An error of read ends the file.
func (r *historyReader) open(name string, read func(*bufio.Reader) error) {
	if r.stopped {
		return
	}
	f, err := openText(name)
	if err == nil {
		err = read(f.Reader)
		_ = f.Close()
	}
	if err != nil {
		r.fail(err)
	}
}

// textFile is a file's text: unpacked if it is gzip, without a byte order mark.
type textFile struct {
	*bufio.Reader
	io.Closer
}

func openText(name string) (*textFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	t := &textFile{bufio.NewReaderSize(f, 1<<16), f}
	// The first bytes decide, not the name: downloads lose their endings.
	if head, _ := t.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(t.Reader)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		t.Reader = bufio.NewReaderSize(unpacked, 1<<16)
	}
	if head, _ := t.Peek(3); string(head) == "\uFEFF" {
		_, _ = t.Discard(3)
	}
	return t, nil
}

// eachLine calls do with every line that is not blank, until do says stop.
func (r *historyReader) eachLine(file string, in *bufio.Reader, do func(line int, text []byte) bool) error {
	for line := 1; ; line++ {
		text, err := in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("%s:%d: %w", file, line, err)
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			r.counts.Read++
			if !do(line, text) {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

func (r *historyReader) readJSONL(file string, in *bufio.Reader) error {
	if len(r.Columns) > 0 {
		return fmt.Errorf("%s: columns can be mapped in CSV files only", file)
	}
	return r.eachLine(file, in, func(line int, text []byte) bool {
		record := historyRecord{Topic: r.Topic, Value: text, File: file, Line: line}
		var err error
		if record.Key, record.At, err = canonicalKey(r.Topic, text); err != nil {
			return r.failLine(fmt.Errorf("%s:%d: %w", file, line, err))
		}
		return r.emit(record)
	})
}

// canonicalKey returns key and event time of a canonical value. It looks at nothing else: what is wrong with the
// rest is for the pipeline to say, in its dead letters.
func canonicalKey(topic string, value []byte) ([]byte, int64, error) {
	var v struct {
		CustomerID string `json:"customer_id"`
		Type       string `json:"type"`
		OrderedAt  string `json:"ordered_at"`
		UpdatedAt  string `json:"updated_at"`
		RefundedAt string `json:"refunded_at"`
		At         string `json:"at"`
	}
	if value[0] != '{' {
		return nil, 0, errors.New("not a JSON object")
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, 0, fmt.Errorf("not a canonical JSON object: %w", err)
	}
	if v.CustomerID == "" {
		return nil, 0, errors.New("no customer_id")
	}
	field, text := "ordered_at", v.OrderedAt
	switch {
	case topic == roleInteractions:
		field, text = "at", v.At
	case v.Type == "refund":
		field, text = "refunded_at", v.RefundedAt
	case v.Type != "" && v.Type != "order":
		return nil, 0, fmt.Errorf("type %q is neither order nor refund; does this file hold interactions?", v.Type)
	}
	if text == "" {
		return nil, 0, fmt.Errorf("no %s", field)
	}
	at, err := canonicalTime(text)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", field, err)
	}
	if field == "ordered_at" && v.UpdatedAt != "" {
		// A version of an order cannot be known before it was made: a record older than its updated_at is refused
		// as coming from the future.
		updated, err := canonicalTime(v.UpdatedAt)
		if err != nil {
			return nil, 0, fmt.Errorf("updated_at: %w", err)
		}
		at = max(at, updated)
	}
	return []byte(v.CustomerID), at, nil
}

var timePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$`)

// canonicalTime returns a time as canonical records write it in ms since the epoch.
func canonicalTime(text string) (int64, error) {
	if !timePattern.MatchString(text) {
		return 0, fmt.Errorf("%q is not a time as 2006-01-02T15:04:05Z", text)
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time: no such day or hour", text)
	}
	return sinceEpoch(t, text)
}

func sinceEpoch(t time.Time, text string) (int64, error) {
	if t.Unix() < 0 {
		return 0, fmt.Errorf("%q is before 1970", text)
	}
	return t.UnixMilli(), nil
}

// appendTime writes ms since the epoch as canonical records do.
func appendTime(dst []byte, at int64) []byte {
	return time.UnixMilli(at).UTC().AppendFormat(dst, "2006-01-02T15:04:05.999Z07:00")
}
