package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// appendField writes one text field of a canonical record. The text is UTF-8 already.
func appendField(dst []byte, name, text string) []byte {
	if len(dst) > 1 {
		dst = append(dst, ',')
	}
	dst = append(append(append(dst, '"'), name...), `":`...)
	dst, _ = jsontext.AppendQuote(dst, text)
	return dst
}

// orderValue returns a canonical order.
func orderValue(order, customer string, at int64, amount, currency string) []byte {
	v := appendField([]byte("{"), "order_id", order)
	v = appendField(v, "customer_id", customer)
	v = appendField(v, "ordered_at", string(appendTime(nil, at)))
	v = appendField(v, "amount", amount)
	return append(appendField(v, "currency", currency), '}')
}

// refundValue returns a canonical refund.
func refundValue(order, customer, refund string, at int64, amount, currency string) []byte {
	v := appendField([]byte("{"), "type", "refund")
	v = appendField(v, "order_id", order)
	v = appendField(v, "customer_id", customer)
	v = appendField(v, "refund_id", refund)
	v = appendField(v, "refunded_at", string(appendTime(nil, at)))
	v = appendField(v, "amount", amount)
	return append(appendField(v, "currency", currency), '}')
}

// readCDNOW reads the CDNOW sample: id in the master file, id, yyyymmdd, number of CDs, dollars, between blanks; or
// the master file, which lacks the first. A line is an order; records are sorted by time.
func (r *historyReader) readCDNOW(files []string) {
	var records []historyRecord
	seen := map[string]int{} // orders of a customer on a day
	for _, file := range files {
		r.open(file, func(in *bufio.Reader) error {
			return r.eachLine(file, in, func(line int, text []byte) bool {
				record, err := r.cdnowRecord(string(text), seen)
				if err != nil {
					return r.failLine(fmt.Errorf("%s:%d: %w", file, line, err))
				}
				record.File, record.Line = file, line
				records = append(records, record)
				return true
			})
		})
	}
	slices.SortStableFunc(records, func(a, b historyRecord) int { return cmp.Compare(a.At, b.At) })
	for _, record := range records {
		if !r.emit(record) {
			return
		}
	}
}

func (r *historyReader) cdnowRecord(line string, seen map[string]int) (historyRecord, error) {
	fields := strings.Fields(line)
	if n := len(fields); n < 4 || n > 5 {
		return historyRecord{}, fmt.Errorf("%d fields; CDNOW has 5: id in master, id, date, CDs, dollars", n)
	}
	fields = fields[len(fields)-4:]
	id, date, dollars := fields[0], fields[1], fields[3]
	day, err := time.Parse("20060102", date)
	if err != nil {
		return historyRecord{}, fmt.Errorf("%q is not a date as 19970131", date)
	}
	at, err := sinceEpoch(day, date)
	if err != nil {
		return historyRecord{}, err
	}
	if !decimalPattern.MatchString(dollars) || dollars[0] == '-' {
		return historyRecord{}, fmt.Errorf("%q is not an amount as 12.34", dollars)
	}
	if !integerPattern.MatchString(strings.TrimLeft(id, "0")) {
		return historyRecord{}, fmt.Errorf("%q is not a customer number", id)
	}
	order := id + "-" + date
	seen[order]++
	order += "-" + strconv.Itoa(seen[order])
	value := orderValue(order, id, at, dollars, cmp.Or(r.Currency, "USD"))
	return historyRecord{Topic: r.Topic, Key: []byte(id), Value: value, At: at}, nil
}

// Reasons in historyCounts.Skipped of online-retail.
const (
	skipNoPrice    = "no price"
	skipAdjustment = "adjustment"
	skipUnmatched  = "unmatched cancellation"
	skipNoValue    = "order without value" // counts orders
)

// retailColumns are the columns of the data set; historyFormat.Columns may name others.
var retailColumns = map[string]string{
	"order_id": "InvoiceNo", "customer_id": "CustomerID", "ordered_at": "InvoiceDate",
	"item": "StockCode", "quantity": "Quantity", "price": "UnitPrice",
}

// maxRetailLine in micros keeps the sum of a million lines within an int64.
const maxRetailLine = math.MaxInt64 / 1_000_000

// retailInvoice is an order, or a cancellation of goods of earlier orders.
type retailInvoice struct {
	id, customer string
	at           int64 // its earliest line
	lines        []retailLine
	file         string
	line         int
}

type retailLine struct {
	item     string
	quantity int64 // > 0, of a cancellation too
	price    int64 // micros
}

// retail is what has been read of the data set.
type retail struct {
	orders, cancellations []*retailInvoice
	byID                  map[[2]string]*retailInvoice // invoice and customer
	unmatched             int64                        // micros of cancelled goods that belong to no order
}

// readRetail reads the UCI Online Retail data set: lines of invoices and of cancellations. data/README.md states the
// rule by which they become orders and refunds.
func (r *historyReader) readRetail(files []string) {
	d := &retail{byID: map[[2]string]*retailInvoice{}}
	fields := []string{"order_id", "customer_id", "ordered_at", "item", "quantity", "price"}
	for _, file := range files {
		r.open(file, func(in *bufio.Reader) error {
			t, err := newTable(r.historyFormat, file, in, fields, retailColumns)
			if err != nil {
				return err
			}
			return r.eachRow(t, func() error { return r.retailRow(t, d) })
		})
	}
	if r.stopped {
		return
	}
	records := append(r.retailOrders(d), r.retailRefunds(d)...)
	r.counts.Unmatched = decimalOf(d.unmatched)
	slices.SortStableFunc(records, func(a, b retailRecord) int {
		return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.invoice, b.invoice), strings.Compare(a.order, b.order))
	})
	for _, record := range records {
		if !r.emit(record.historyRecord) {
			return
		}
	}
}

// retailRow adds a row to its invoice, or counts why not.
func (r *historyReader) retailRow(t *historyTable, d *retail) error {
	customer, id := t.cell("customer_id"), t.cell("order_id")
	if customer == "" {
		r.counts.Skipped[skipNoCustomer]++
		return nil
	}
	for _, field := range []string{"customer_id", "order_id", "item"} {
		if _, _, err := r.appendCell(nil, historyField{kind: idColumn}, t.cell(field)); err != nil {
			return t.fault(field, "%w", err)
		}
	}
	at, err := r.parseTime(t.cell("ordered_at"), "1/2/2006 15:04")
	if err != nil {
		return t.fault("ordered_at", "%w", err)
	}
	quantity, err := strconv.ParseInt(t.cell("quantity"), 10, 32)
	if err != nil {
		return t.fault("quantity", "%q is not a whole number", t.cell("quantity"))
	}
	price, err := microsOf(t.cell("price"))
	if err != nil {
		return t.fault("price", "%w", err)
	}
	if price != 0 && max(quantity, -quantity) > maxRetailLine/max(price, -price) {
		return t.fault("price", "quantity times price is too big")
	}
	cancelled := id[0] == 'C'
	switch {
	case !cancelled && (id[0] < '0' || id[0] > '9'), price < 0, quantity == 0, (quantity < 0) != cancelled:
		r.counts.Skipped[skipAdjustment]++
		return nil
	}
	invoice := d.invoice(id, customer, cancelled)
	if invoice.line == 0 {
		invoice.at, invoice.file, invoice.line = at, t.file, t.line
	}
	invoice.at = min(invoice.at, at)
	if price == 0 {
		r.counts.Skipped[skipNoPrice]++
		return nil
	}
	invoice.lines = append(invoice.lines, retailLine{strings.Clone(t.cell("item")), max(quantity, -quantity), price})
	return nil
}

func (d *retail) invoice(id, customer string, cancelled bool) *retailInvoice {
	if invoice := d.byID[[2]string{id, customer}]; invoice != nil {
		return invoice
	}
	id, customer = strings.Clone(id), strings.Clone(customer)
	invoice := &retailInvoice{id: id, customer: customer}
	d.byID[[2]string{id, customer}] = invoice
	if cancelled {
		d.cancellations = append(d.cancellations, invoice)
	} else {
		d.orders = append(d.orders, invoice)
	}
	return invoice
}

// retailRecord is a record with what it is sorted by.
type retailRecord struct {
	historyRecord
	invoice, order string
}

func (r *historyReader) retailRecord(invoice *retailInvoice, order string, value []byte) retailRecord {
	return retailRecord{historyRecord{Topic: r.Topic, Key: []byte(invoice.customer), Value: value, At: invoice.at,
		Line: invoice.line, File: invoice.file}, invoice.id, order}
}

func (r *historyReader) retailOrders(d *retail) []retailRecord {
	var records []retailRecord
	for _, o := range d.orders {
		if len(o.lines) == 0 {
			r.counts.Skipped[skipNoValue]++
			continue
		}
		var sum int64
		for _, line := range o.lines {
			sum += line.quantity * line.price
		}
		value := orderValue(o.id, o.customer, o.at, decimalOf(sum), cmp.Or(r.Currency, "GBP"))
		records = append(records, r.retailRecord(o, o.id, value))
	}
	return records
}

// goods are what a cancelled line has in common with the lines it takes back.
type goods struct {
	customer, item string
	price          int64
}

// bought is what is left of an order's line.
type bought struct {
	order    string
	quantity int64
}

// retailRefunds finds the orders of the cancelled goods: per line the latest that was not later than the cancellation,
// as long as any of its goods are left, then the one before it, and so on.
func (r *historyReader) retailRefunds(d *retail) []retailRecord {
	byTime := func(a, b *retailInvoice) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.id, b.id)) }
	orders := slices.SortedStableFunc(slices.Values(d.orders), byTime)
	slices.SortStableFunc(d.cancellations, byTime)
	left := map[goods][]bought{} // latest last
	var records []retailRecord
	for _, c := range d.cancellations {
		for ; len(orders) > 0 && orders[0].at <= c.at; orders = orders[1:] {
			for _, line := range orders[0].lines {
				g := goods{orders[0].customer, line.item, line.price}
				left[g] = append(left[g], bought{orders[0].id, line.quantity})
			}
		}
		amounts := map[string]int64{} // of each order
		for _, line := range c.lines {
			rest := line.quantity
			g := goods{c.customer, line.item, line.price}
			stack := left[g]
			for rest > 0 && len(stack) > 0 {
				top := &stack[len(stack)-1]
				n := min(rest, top.quantity)
				rest, top.quantity = rest-n, top.quantity-n
				amounts[top.order] += n * line.price
				if top.quantity == 0 {
					stack = stack[:len(stack)-1]
				}
			}
			left[g] = stack
			if rest > 0 {
				r.counts.Skipped[skipUnmatched]++
				d.unmatched += rest * line.price
			}
		}
		for order, amount := range amounts {
			value := refundValue(order, c.customer, c.id, c.at, decimalOf(amount), cmp.Or(r.Currency, "GBP"))
			records = append(records, r.retailRecord(c, order, value))
		}
	}
	return records
}

var microsPattern = regexp.MustCompile(`^-?[0-9]{1,9}(\.[0-9]{1,6})?$`)

// microsOf returns a decimal as millionths, exactly.
func microsOf(text string) (int64, error) {
	if !microsPattern.MatchString(text) {
		return 0, fmt.Errorf("%q is not a price as 12.34, with at most 9 and 6 digits", text)
	}
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole+(fraction + "000000")[:6], 10, 64)
	if err != nil {
		return 0, errors.New("not a number")
	}
	return n, nil
}

// decimalOf writes millionths with two decimals, or more where needed.
func decimalOf(micros int64) string {
	text := fmt.Appendf(nil, "%d.%06d", micros/1e6, micros%1e6)
	keep := len(text) - 4
	return string(text[:keep]) + string(bytes.TrimRight(text[keep:], "0"))
}
