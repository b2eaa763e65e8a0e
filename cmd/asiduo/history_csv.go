package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// columnKind says what a cell may hold and how it is written in JSON.
type columnKind int

const (
	textColumn columnKind = iota
	idColumn
	timeColumn
	decimalColumn
	currencyColumn
	statusColumn
	integerColumn
	booleanColumn
)

// historyField is a canonical field that a CSV file can fill.
type historyField struct {
	name     string
	kind     columnKind
	required bool
}

// The fields of canonical records, in the order in which they are written.
var (
	orderFields = []historyField{
		{"order_id", idColumn, true}, {"customer_id", idColumn, true}, {"ordered_at", timeColumn, true},
		{"amount", decimalColumn, true}, {"currency", currencyColumn, true}, {"status", statusColumn, false},
		{"refunded", decimalColumn, false}, {"revision", integerColumn, false}, {"updated_at", timeColumn, false},
		{"channel", textColumn, false}, {"coupon", textColumn, false}, {"cost", decimalColumn, false},
		{"discount", decimalColumn, false}, {"test", booleanColumn, false},
	}
	refundFields = []historyField{
		{"order_id", idColumn, true}, {"customer_id", idColumn, true}, {"refund_id", idColumn, true},
		{"refunded_at", timeColumn, true}, {"amount", decimalColumn, true}, {"currency", currencyColumn, true},
	}
	interactionFields = []historyField{
		{"id", idColumn, true}, {"customer_id", idColumn, true}, {"type", idColumn, true}, {"at", timeColumn, true},
		{"channel", textColumn, false}, {"campaign", textColumn, false}, {"order_id", textColumn, false},
	}
	purchaseColumns    = append([]string{"type", "refund_id", "refunded_at"}, fieldNames(orderFields)...)
	interactionColumns = fieldNames(interactionFields)

	orderStatuses = []string{"pending", "paid", "completed", "partially_refunded", "refunded", "cancelled", "voided"}

	currencyPattern = regexp.MustCompile(`^[A-Z]{3}$`)
	decimalPattern  = regexp.MustCompile(`^-?[0-9]{1,15}(\.[0-9]{1,12})?$`)
	integerPattern  = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
)

func fieldNames(fields []historyField) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// historyTable reads a CSV file by canonical field names.
type historyTable struct {
	file   string
	csv    *csv.Reader
	header []string       // nil without one
	column map[string]int // field -> index
	row    []string
	line   int
	first  []string // the first row of a file without header, not handed out yet
	err    error    // that of the first row
}

// newTable finds the columns: those that are mapped, then those in defaults, then those named like their field.
func newTable(f historyFormat, file string, in io.Reader, fields []string, defaults map[string]string) (*historyTable, error) {
	for field := range f.Columns {
		if !slices.Contains(fields, field) {
			return nil, fmt.Errorf("%s: no field %q can be filled; fields are %s", file, field, strings.Join(fields, ", "))
		}
	}
	t := &historyTable{file: file, csv: csv.NewReader(in), column: map[string]int{}}
	t.csv.ReuseRecord = true
	if f.Comma != 0 {
		t.csv.Comma = f.Comma
	}
	row, err := t.csv.Read()
	switch {
	case err == io.EOF && f.NoHeader:
		t.err = io.EOF
		return t, nil
	case err == io.EOF:
		return nil, fmt.Errorf("%s: empty file, not even a header", file)
	case err != nil:
		return nil, t.readError(err)
	}
	t.line, _ = t.csv.FieldPos(0)
	if row = slices.Clone(row); f.NoHeader {
		t.first = row
	} else {
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		t.header = row
	}
	for _, field := range fields {
		name, mapped := f.Columns[field]
		if !mapped && defaults != nil {
			name, mapped = defaults[field], true
		}
		if !mapped && slices.Contains(t.header, field) {
			name, mapped = field, true
		}
		if !mapped {
			continue
		}
		if t.column[field], err = t.find(field, name, len(row)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// find returns the index of the column with that name, or of that number.
func (t *historyTable) find(field, name string, width int) (int, error) {
	if i := slices.Index(t.header, name); i >= 0 {
		if slices.Contains(t.header[i+1:], name) {
			return 0, fmt.Errorf("%s:%d: two columns are called %q; map %s by number", t.file, t.line, name, field)
		}
		return i, nil
	}
	if number, err := strconv.Atoi(name); err == nil {
		if number < 1 || number > width {
			return 0, fmt.Errorf("%s:%d: %s: there is no column %d, the line has %d", t.file, t.line, field, number, width)
		}
		return number - 1, nil
	}
	if t.header == nil {
		return 0, fmt.Errorf("%s: %s: without a header a column is a number, not %q", t.file, field, name)
	}
	return 0, fmt.Errorf("%s:%d: %s: no column %q; columns are %s", t.file, t.line, field, name, t.columns())
}

func (t *historyTable) columns() string {
	if t.header == nil {
		return "numbers, as there is no header"
	}
	return strings.Join(t.header, ", ")
}

// require reports the first field that has no column.
func (t *historyTable) require(fields ...string) error {
	for _, field := range fields {
		if !t.has(field) {
			return fmt.Errorf("%s: no column for %s; columns are %s", t.file, field, t.columns())
		}
	}
	return nil
}

func (t *historyTable) has(field string) bool { _, ok := t.column[field]; return ok }

// next reads a row. After an error of one row there may be others; the end is io.EOF.
func (t *historyTable) next() error {
	if t.err != nil {
		return t.err
	}
	if t.row = t.first; t.row != nil {
		t.first = nil
		return nil
	}
	var err error
	if t.row, err = t.csv.Read(); err != nil {
		var syntax *csv.ParseError
		if !errors.As(err, &syntax) {
			t.err = io.EOF // what broke is below the CSV: it would break again
		}
		return t.readError(err)
	}
	t.line, _ = t.csv.FieldPos(0)
	return nil
}

func (t *historyTable) readError(err error) error {
	var syntax *csv.ParseError
	switch {
	case err == io.EOF:
		return io.EOF
	case !errors.As(err, &syntax):
		return fmt.Errorf("%s:%d: %w", t.file, t.line+1, err)
	case errors.Is(err, csv.ErrFieldCount):
		return fmt.Errorf("%s:%d: %d fields, but %d in the first line", t.file, syntax.StartLine, len(t.row), t.csv.FieldsPerRecord)
	}
	return fmt.Errorf("%s:%d: %w", t.file, syntax.Line, syntax.Err)
}

func (t *historyTable) cell(field string) string {
	if i, ok := t.column[field]; ok {
		return t.row[i]
	}
	return ""
}

// fault is an error about the current row's cell of a field.
func (t *historyTable) fault(field, message string, args ...any) error {
	i, ok := t.column[field]
	err := fmt.Errorf(message, args...)
	if !ok {
		return fmt.Errorf("%s:%d: %s: %w", t.file, t.line, field, err)
	}
	name := strconv.Itoa(i + 1)
	if t.header != nil {
		name = t.header[i]
	}
	return fmt.Errorf("%s:%d: column %s: %w", t.file, t.line, name, err)
}

func (r *historyReader) readCSV(file string, in *bufio.Reader) error {
	columns := purchaseColumns
	if r.Topic == roleInteractions {
		columns = interactionColumns
	}
	t, err := newTable(r.historyFormat, file, in, columns, nil)
	if err != nil {
		return err
	}
	if t.err == nil {
		if err := t.require("customer_id"); err != nil {
			return err
		}
	}
	return r.eachRow(t, func() error {
		if t.cell("customer_id") == "" {
			r.counts.Skipped[skipNoCustomer]++
			return nil
		}
		record, err := r.csvRecord(t)
		if err == nil {
			r.emit(record)
		}
		return err
	})
}

// eachRow calls do for every row; its error costs the row only.
func (r *historyReader) eachRow(t *historyTable, do func() error) error {
	for !r.stopped {
		err := t.next()
		if err == io.EOF {
			return nil
		}
		r.counts.Read++
		if err == nil {
			err = do()
		}
		if err != nil {
			r.failLine(err)
		}
	}
	return nil
}

// csvRecord makes the canonical record of the current row.
func (r *historyReader) csvRecord(t *historyTable) (historyRecord, error) {
	record := historyRecord{Topic: r.Topic, Key: []byte(t.cell("customer_id")), File: t.file, Line: t.line}
	fields, value, refund := orderFields, []byte("{"), false
	if r.Topic == roleInteractions {
		fields = interactionFields
	} else {
		switch t.cell("type") {
		case "", "order":
		case "refund":
			fields, value, refund = refundFields, []byte(`{"type":"refund",`), true
		default:
			return record, t.fault("type", "%q is neither order nor refund", t.cell("type"))
		}
	}
	for _, field := range fields {
		text := t.cell(field.name)
		if !t.has(field.name) {
			text = r.absent(t, field)
		}
		if text == "" && !field.required {
			continue
		}
		value = append(append(append(value, '"'), field.name...), `":`...)
		var at int64
		var err error
		if value, at, err = r.appendCell(value, field, text); err != nil {
			if text == "" && !t.has(field.name) {
				return record, fmt.Errorf("%s:%d: no column for %s; columns are %s", t.file, t.line, field.name, t.columns())
			}
			return record, t.fault(field.name, "%w", err)
		}
		if refund && field.name == "amount" && strings.Trim(text, " 0.") == "" {
			return record, t.fault(field.name, "a refund of nothing")
		}
		record.At = max(record.At, at) // of an order the latest: see canonicalKey
		value = append(value, ',')
	}
	value[len(value)-1] = '}'
	record.Value = value
	return record, nil
}

// appendCell writes a cell as a JSON value and returns the time it holds.
func (r *historyReader) appendCell(dst []byte, field historyField, text string) ([]byte, int64, error) {
	if field.kind != idColumn && field.kind != textColumn {
		text = strings.TrimSpace(text)
	}
	switch {
	case text == "":
		return dst, 0, errors.New("empty")
	case !utf8.ValidString(text):
		return dst, 0, fmt.Errorf("%q is not UTF-8", text)
	}
	bad := func(want string) ([]byte, int64, error) { return dst, 0, fmt.Errorf("%q is not %s", text, want) }
	switch field.kind {
	case idColumn:
		if len(text) > 256 {
			return dst, 0, fmt.Errorf("%d bytes; an id has at most 256", len(text))
		}
	case timeColumn:
		at, err := r.parseTime(text)
		if err != nil {
			return dst, 0, err
		}
		return append(appendTime(append(dst, '"'), at), '"'), at, nil
	case decimalColumn:
		if !decimalPattern.MatchString(text) {
			return bad("a decimal number as 1234.56")
		}
		if text[0] == '-' {
			return dst, 0, fmt.Errorf("%s is negative; money given back is a refund", text)
		}
	case currencyColumn:
		if !currencyPattern.MatchString(text) {
			return bad("a currency of three letters A-Z")
		}
	case statusColumn:
		if !slices.Contains(orderStatuses, text) {
			return bad("one of " + strings.Join(orderStatuses, ", "))
		}
	case integerColumn:
		if _, err := strconv.ParseInt(text, 10, 64); err != nil || !integerPattern.MatchString(text) {
			return bad("a whole number")
		}
		return append(dst, text...), 0, nil
	case booleanColumn:
		if text != "true" && text != "false" {
			return bad("true or false")
		}
		return append(dst, text...), 0, nil
	}
	dst, err := jsontext.AppendQuote(dst, text)
	return dst, 0, err
}

// timeLayouts are tried when none is given.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, "2006-01-02 15:04", time.DateOnly}

// parseTime returns a time of a column in ms since the epoch. More layouts follow those that every file may use.
func (r *historyReader) parseTime(text string, more ...string) (int64, error) {
	layouts := append(timeLayouts[:len(timeLayouts):len(timeLayouts)], more...)
	want := "a time as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05; give the layout"
	if r.TimeLayout != "" {
		layouts, want = []string{r.TimeLayout}, fmt.Sprintf("a time of the layout %q", r.TimeLayout)
	}
	for _, layout := range layouts {
		if at, err := time.ParseInLocation(layout, text, r.Zone); err == nil {
			return sinceEpoch(at, text)
		}
	}
	return 0, fmt.Errorf("%q is not %s", text, want)
}
