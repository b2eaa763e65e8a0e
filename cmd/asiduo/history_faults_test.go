package main

import (
	"strings"
	"testing"
)

// historyFault is a file with one thing wrong, and what is said about it.
type historyFault struct {
	name, text string
	format     historyFormat
	want       string
}

func checkFaults(t *testing.T, faults []historyFault) {
	t.Helper()
	for _, c := range faults {
		got, _ := historyLines(t, c.name, c.text, c.format)
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%q:\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

func TestHistoryFaultsOfFormat(t *testing.T) {
	checkFaults(t, []historyFault{
		{"h.csv", "", historyFormat{Format: "xml"}, `unknown format "xml"; formats are jsonl and csv`},
		{"h.csv", "", historyFormat{Preset: "uci"}, `unknown preset "uci"; presets are cdnow and online-retail`},
		{"h.csv", "", historyFormat{Topic: "orders"}, `unknown topic "orders"; topics are purchases and interactions`},
		{"h.csv", "", historyFormat{Preset: "cdnow", Topic: "interactions"}, `preset cdnow holds purchases, not interactions`},
		{"h.csv", "", historyFormat{Preset: "cdnow", Format: "csv"}, `preset cdnow has its own format; leave out format csv`},
		{"h.csv", "", historyFormat{Preset: "cdnow", Columns: map[string]string{"id": "1"}}, `preset cdnow has fixed columns; none can be mapped`},
		{"h.csv", "", historyFormat{Currency: "euro"}, `currency "euro" is not three letters A-Z`},
		{"h.csv", "", historyFormat{Comma: '"'}, `'"' cannot be between the fields of a CSV file`},
		{"h.dat", "", historyFormat{}, `h.dat: the name does not tell the format; give jsonl or csv`},
		{"h.jsonl", "", historyFormat{Columns: map[string]string{"id": "1"}}, `h.jsonl: columns can be mapped in CSV files only`},
		{"h.jsonl", "\x1f\x8bx", historyFormat{}, `h.jsonl: unexpected EOF`},
		{"h.jsonl", string(pack(t, []byte(`{"customer_id":"a"}`))[:20]), historyFormat{}, `h.jsonl:1: unexpected EOF`},
		{"h.csv", string(pack(t, []byte("customer_id\na\n"))[:20]), historyFormat{}, `h.csv:1: unexpected EOF`},
	})
	for _, files := range [][]string{nil, {"testdata/history/missing.csv"}} {
		records, _ := readHistory(files, historyFormat{})
		for _, err := range records {
			if err == nil || files != nil && !strings.Contains(err.Error(), files[0]) {
				t.Errorf("files %q: error %v", files, err)
			}
		}
	}
}

func TestHistoryFaultsOfJSONL(t *testing.T) {
	all := historyFormat{}
	checkFaults(t, []historyFault{
		{"h.jsonl", "\n\n[1]\n", all, `h.jsonl:3: not a JSON object`},
		{"h.jsonl", `{"customer_id":"a"}`, all, `h.jsonl:1: no ordered_at`},
		{"h.jsonl", `{"customer_id":"a","type":"refund"}`, all, `h.jsonl:1: no refunded_at`},
		{"h.jsonl", `{"customer_id":"a"}`, historyFormat{Topic: "interactions"}, `h.jsonl:1: no at`},
		{"h.jsonl", `{"customer_id":null,"ordered_at":"2024-01-01T00:00:00Z"}`, all, `h.jsonl:1: no customer_id`},
		{"h.jsonl", `{"customer_id":"a","type":"visit"}`, all, `h.jsonl:1: type "visit" is neither order nor refund; does this file hold interactions?`},
		{"h.jsonl", `{"customer_id":"a","ordered_at":"2024-01-01"}`, all, `h.jsonl:1: ordered_at: "2024-01-01" is not a time as 2006-01-02T15:04:05Z`},
		{"h.jsonl", `{"customer_id":"a","ordered_at":"2023-02-29T00:00:00Z"}`, all, `h.jsonl:1: ordered_at: "2023-02-29T00:00:00Z" is not a time: no such day or hour`},
		{"h.jsonl", `{"customer_id":"a","ordered_at":"1969-12-31T23:59:59Z"}`, all, `h.jsonl:1: ordered_at: "1969-12-31T23:59:59Z" is before 1970`},
		{"h.jsonl", `{"customer_id":"a","ordered_at":"2024-01-01T00:00:00Z","updated_at":"now"}`, all, `h.jsonl:1: updated_at: "now" is not a time as 2006-01-02T15:04:05Z`},
	})
	// The words are those of the JSON package; the place and the kind of fault are ours.
	for _, text := range []string{`{"customer_id":"a"`, `{"customer_id":"a"} x`, `{"customer_id":7}`, `{"x":1,"x":2}`, "{\"x\":\"\xff\"}"} {
		got, counts := historyLines(t, "h.jsonl", text, all)
		if len(got) != 1 || !strings.HasPrefix(got[0], "h.jsonl:1: not a canonical JSON object: ") || counts.Skipped[skipUnreadable] != 1 {
			t.Errorf("%q: %q, %+v", text, got, *counts)
		}
	}
}

func TestHistoryFaultsOfColumns(t *testing.T) {
	mapped := func(field, column string) historyFormat {
		return historyFormat{Currency: "EUR", Columns: map[string]string{field: column}}
	}
	header := "order_id,customer_id,ordered_at,amount\n"
	checkFaults(t, []historyFault{
		{"h.csv", "", historyFormat{}, `h.csv: empty file, not even a header`},
		{"h.csv", header, mapped("sku", "x"), `h.csv: no field "sku" can be filled; fields are type, refund_id, refunded_at, order_id, customer_id, ` +
			`ordered_at, amount, currency, status, refunded, revision, updated_at, channel, coupon, cost, discount, test`},
		{"h.csv", header, mapped("amount", "total"), `h.csv:1: amount: no column "total"; columns are order_id, customer_id, ordered_at, amount`},
		{"h.csv", header, mapped("amount", "5"), `h.csv:1: amount: there is no column 5, the line has 4`},
		{"h.csv", "amount,amount\n", historyFormat{}, `h.csv:1: two columns are called "amount"; map amount by number`},
		{"h.csv", "1,2\n", historyFormat{NoHeader: true, Columns: map[string]string{"amount": "total"}}, `h.csv: amount: without a header a column is a number, not "total"`},
		{"h.csv", "1,2\n", historyFormat{NoHeader: true}, `h.csv: no column for customer_id; columns are numbers, as there is no header`},
		{"h.csv", "order,customer\n", historyFormat{}, `h.csv: no column for customer_id; columns are order, customer`},
		{"h.csv", header + "1,a,2024-01-01,5\n", historyFormat{}, `h.csv:2: no column for currency; columns are order_id, customer_id, ordered_at, amount`},
		{"h.csv", "customer_id\na,b\n", historyFormat{}, `h.csv:2: 2 fields, but 1 in the first line`},
		{"h.csv", "customer_id\n\n\"a\" b\n", historyFormat{}, `h.csv:3: extraneous or missing " in quoted-field`},
		{"h.csv", "customer_id\n\"a", historyFormat{}, `h.csv:2: extraneous or missing " in quoted-field`},
		{"h.csv", "\"a\" b\n", historyFormat{}, `h.csv:1: extraneous or missing " in quoted-field`},
		{"h.csv", "Invoice,StockCode\n", historyFormat{Preset: "online-retail"}, `h.csv:1: order_id: no column "InvoiceNo"; columns are Invoice, StockCode`},
	})
}

func TestHistoryFaultsOfCells(t *testing.T) {
	cell := func(column, value, want string) historyFault {
		row := map[string]string{"order_id": "1", "customer_id": "a", "Day": "2024-01-01", "amount": "5", "currency": "EUR"}
		row[column] = value
		var names, values []string
		for _, name := range []string{"type", "order_id", "customer_id", "Day", "refund_id", "refunded_at", "amount", "currency", "status", "revision", "test"} {
			names = append(names, name)
			values = append(values, `"`+row[name]+`"`)
		}
		text := strings.Join(names, ",") + "\n" + strings.Join(values, ",") + "\n"
		return historyFault{"h.csv", text, historyFormat{Columns: map[string]string{"ordered_at": "Day"}}, "h.csv:2: column " + column + ": " + want}
	}
	checkFaults(t, []historyFault{
		cell("type", "visit", `"visit" is neither order nor refund`),
		cell("type", "refund", "").as("h.csv:2: column refund_id: empty"),
		cell("order_id", "", `empty`),
		cell("order_id", "\xff", `"\xff" is not UTF-8`),
		cell("order_id", strings.Repeat("x", 257), `257 bytes; an id has at most 256`),
		cell("Day", " ", `empty`),
		cell("Day", "1.2.2024", `"1.2.2024" is not a time as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05; give the layout`),
		cell("Day", "1969-12-31", `"1969-12-31" is before 1970`),
		cell("amount", "", `empty`),
		cell("amount", "1,5", `"1,5" is not a decimal number as 1234.56`),
		cell("amount", "1e3", `"1e3" is not a decimal number as 1234.56`),
		cell("amount", "-5", `-5 is negative; money given back is a refund`),
		cell("currency", "eur", `"eur" is not a currency of three letters A-Z`),
		cell("currency", "", `empty`),
		cell("status", "Paid", `"Paid" is not one of pending, paid, completed, partially_refunded, refunded, cancelled, voided`),
		cell("revision", "01", `"01" is not a whole number`),
		cell("revision", "9223372036854775808", `"9223372036854775808" is not a whole number`),
		cell("test", "yes", `"yes" is not true or false`),
		{"h.csv", "type,order_id,customer_id,refund_id,refunded_at,amount,currency\nrefund,1,a,r,2024-01-01,0.00,EUR\n", historyFormat{},
			`h.csv:2: column amount: a refund of nothing`},
		{"h.csv", "customer_id,order_id,ordered_at\na,1,2024-01-01\n", historyFormat{TimeLayout: "02.01.2006"},
			`h.csv:2: column ordered_at: "2024-01-01" is not a time of the layout "02.01.2006"`},
		{"h.csv", "a,\n", historyFormat{NoHeader: true, Columns: map[string]string{"customer_id": "1", "order_id": "2"}}, `h.csv:1: column 2: empty`},
	})
}

func (f historyFault) as(want string) historyFault { f.want = want; return f }

func TestHistoryFaultsOfPresets(t *testing.T) {
	cdnow, retail := historyFormat{Preset: "cdnow"}, historyFormat{Preset: "online-retail"}
	header := "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID\n"
	checkFaults(t, []historyFault{
		{"c.txt", "\n 1 2 3\n", cdnow, `c.txt:2: 3 fields; CDNOW has 5: id in master, id, date, CDs, dollars`},
		{"c.txt", "1 2 19970230 1 5.00", cdnow, `c.txt:1: "19970230" is not a date as 19970131`},
		{"c.txt", "1 2 19690101 1 5.00", cdnow, `c.txt:1: "19690101" is before 1970`},
		{"c.txt", "1 2 19970101 1 $5", cdnow, `c.txt:1: "$5" is not an amount as 12.34`},
		{"c.txt", "1 x 19970101 1 5.00", cdnow, `c.txt:1: "x" is not a customer number`},
		{"r.csv", header + ",A,1,2011-01-01,1,7\n", retail, `r.csv:2: column InvoiceNo: empty`},
		{"r.csv", header + "1,A,1,soon,1,7\n", retail, `r.csv:2: column InvoiceDate: "soon" is not a time as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05; give the layout`},
		{"r.csv", header + "1,A,1.5,2011-01-01,1,7\n", retail, `r.csv:2: column Quantity: "1.5" is not a whole number`},
		{"r.csv", header + "1,A,1,2011-01-01,1.2345678,7\n", retail, `r.csv:2: column UnitPrice: "1.2345678" is not a price as 12.34, with at most 9 and 6 digits`},
		{"r.csv", header + "1,A,99999999,2011-01-01,999999999,7\n", retail, `r.csv:2: column UnitPrice: quantity times price is too big`},
	})
}

func TestHistoryAdjustments(t *testing.T) {
	text := "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID\n" +
		"1,A,3,12/1/2010 8:26,2.505,7\n" + // the time as other copies of the data set write it
		"1,A,-1,12/1/2010 8:26,2.505,7\n1,A,1,12/1/2010 8:26,-2,7\nC2,A,1,12/1/2010 8:30,2.505,7\nA3,B,1,12/1/2010 8:30,1,7\n" +
		"C4,A,-1,12/1/2010 8:26,2.5050,7\n" + // at the same minute, the price written otherwise
		"C5,A,-3,12/1/2010 8:40,2.505,7\n" + // more than is left
		"C6,A,-1,12/1/2010 8:40,2.505,8\n" // of another customer
	want := `{"order_id":"1","customer_id":"7","ordered_at":"2010-12-01T08:26:00Z","amount":"7.515","currency":"GBP"}
{"type":"refund","order_id":"1","customer_id":"7","refund_id":"C4","refunded_at":"2010-12-01T08:26:00Z","amount":"2.505","currency":"GBP"}
{"type":"refund","order_id":"1","customer_id":"7","refund_id":"C5","refunded_at":"2010-12-01T08:40:00Z","amount":"5.01","currency":"GBP"}
`
	var out strings.Builder
	counts, err := writeHistory(&out, []string{historyFile(t, "r.csv", text)}, historyFormat{Preset: "online-retail"})
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
	if counts.Skipped[skipAdjustment] != 4 || counts.Skipped[skipUnmatched] != 2 || counts.Unmatched != "5.01" {
		t.Errorf("counts are %+v", *counts)
	}
}
