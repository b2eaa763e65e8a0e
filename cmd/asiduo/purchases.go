package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model/holdout"
)

// purchaseFlags say where a log of purchases is and how it is to be understood.
type purchaseFlags struct {
	inputs  []string
	format  historyFormat
	columns []string
	comma   string
	zone    string
	free    bool
}

func (f *purchaseFlags) add(cmd *cobra.Command) {
	s := cmd.Flags()
	s.StringArrayVar(&f.inputs, "input", nil, "file with orders, JSON lines or CSV, may be packed by gzip; may be given more than once")
	s.StringVar(&f.format.Preset, "preset", "", "the input is a published data set: cdnow or online-retail")
	s.StringVar(&f.format.Format, "format", "", "jsonl or csv; default: by the file's name")
	s.StringArrayVar(&f.columns, "column", nil, "FIELD=COLUMN of a CSV file, by name or number from 1: customer_id and ordered_at, and order_id, amount, currency and more if it has them")
	s.StringVar(&f.comma, "comma", "", "separator of a CSV file; \"tab\" for tabulators")
	s.BoolVar(&f.format.NoHeader, "no-header", false, "the CSV file has no line of names")
	s.StringVar(&f.format.TimeLayout, "time-layout", "", "layout of times as Go writes it, for example 02.01.2006; default: RFC 3339 or a date")
	s.StringVar(&f.zone, "zone", "", "zone of calendar days, and of times that name none; default: the configuration's, or UTC")
	s.StringVar(&f.format.Currency, "currency", "", "currency where no column says it")
	s.BoolVar(&f.free, "free-orders", false, "orders of nothing count too, as in the published studies; the pipeline does not count them")
}

// check completes the format.
func (f *purchaseFlags) check(cfg *config.Config) (err error) {
	kept := f.format
	if f.format, err = historyOf(kept.Preset, f.columns, kept.Currency, rolePurchases); err != nil {
		return usageError{err}
	}
	f.format.Format, f.format.NoHeader, f.format.TimeLayout, f.format.Sparse = kept.Format, kept.NoHeader, kept.TimeLayout, true
	cfg.Time.Zone = cmp.Or(f.zone, cfg.Time.Zone)
	if f.format.Zone, err = time.LoadLocation(cfg.Time.Zone); err != nil {
		return usageError{fmt.Errorf("--zone: %w", err)}
	}
	if f.format.Comma, err = commaOf(f.comma); err != nil {
		return usageError{err}
	}
	if cfg.Currency == "" {
		cfg.Currency = f.format.Currency
	} else if f.format.Currency == "" {
		f.format.Currency = cfg.Currency
	}
	return nil
}

// purchaseLog are the orders and refunds of a log.
type purchaseLog struct {
	cfg      config.Config
	facts    []state.Fact
	rows     int            // records, used or not
	rejected map[string]int // reason -> records that a pipeline would not take
	digest   string         // of all records, SHA-256 in hexadecimal

	deals map[order]deal // where records tell
}

// readPurchases reads a whole log. A line that cannot be read is an error; a record that a pipeline would refuse is counted.
func readPurchases(ctx context.Context, cfg config.Config, records iter.Seq2[*kgo.Record, error]) (*purchaseLog, error) {
	l := &purchaseLog{cfg: cfg, rejected: map[string]int{}}
	l.cfg.Limits.MaxRecordBytes = math.MaxInt32
	l.cfg.Limits.FutureHours = math.MaxInt32 / 2 // a timestamp from a file says nothing about when it was written
	var dec *pipeline.Purchases
	sum := sha256.New()
	for r, err := range records {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		l.rows++
		fmt.Fprintf(sum, "%d\n", len(r.Value))
		sum.Write(r.Value)
		if dec == nil {
			if l.cfg.Currency == "" {
				l.cfg.Currency = currencyOf(r.Value)
			}
			if dec, err = pipeline.NewPurchases(l.cfg); err != nil {
				return nil, err
			}
		}
		fact, err := dec.Decode(r)
		if err != nil {
			reason, _, _ := strings.Cut(err.Error(), ":")
			l.rejected[reason]++
			continue
		}
		l.facts = append(l.facts, fact)
		l.note(&fact, r.Value)
	}
	l.digest = hex.EncodeToString(sum.Sum(nil))
	if len(l.facts) == 0 {
		return nil, fmt.Errorf("no orders in the log: %d records, %s", l.rows, l.refused())
	}
	return l, nil
}

// currencyOf is the currency of a canonical record.
func currencyOf(value []byte) string {
	var v struct {
		Currency string `json:"currency"`
	}
	_ = json.Unmarshal(value, &v) // the decoder says what is wrong with it
	return v.Currency
}

// refused tells the records that were not taken.
func (l *purchaseLog) refused() string {
	if len(l.rejected) == 0 {
		return "none refused"
	}
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(l.rejected)) {
		list = append(list, fmt.Sprintf("%s %d", reason, l.rejected[reason]))
	}
	return "refused: " + strings.Join(list, ", ")
}

// fromFiles are the records of files.
func fromFiles(f *purchaseFlags) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		history, _ := readHistory(f.inputs, f.format)
		for h, err := range history {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&kgo.Record{Key: h.Key, Value: h.Value, Timestamp: time.UnixMilli(h.At)}, nil) {
				return
			}
		}
	}
}

// occurred is when a fact became known, as far as the log tells.
func occurred(f *state.Fact) state.Instant {
	if f.Kind == state.RefundFact {
		return f.Refund.At
	}
	return max(f.Order.OrderedAt, f.Order.UpdatedAt)
}

// shop are the customers of a log.
type shop struct {
	customers []holdout.Customer
	index     map[string]int // id -> customer
	first     int32          // the first day with an order
	last      int32          // the last
	since     int32          // from this day on all are known; before it, of everybody, the first, the last and the number
	orders    int            // counted
	money     bool           // any order brought money
	free      bool           // orders of nothing were counted
}

// shop is what was known of the customers at the end of a day: orders and refunds up to then.
func (l *purchaseLog) shop(day int32, free bool) (*shop, error) {
	ledgers, err := l.ledgers(day)
	if err != nil {
		return nil, err
	}
	s := &shop{index: map[string]int{}, first: math.MaxInt32, last: math.MinInt32}
	for _, ledger := range ledgers {
		for i := range ledger.Orders {
			s.money = s.money || ledger.Net(&ledger.Orders[i]) > 0
		}
	}
	s.free = free || !s.money
	for _, id := range slices.Sorted(maps.Keys(ledgers)) {
		if s.add(ledgers[id], l.cfg.Digits()) {
			s.index[id] = len(s.customers) - 1
		}
	}
	if len(s.customers) == 0 {
		return nil, fmt.Errorf("no customer has a counted order up to %s", dateOf(day))
	}
	return s, nil
}

// add adds a customer with counted orders. Days between the first and the last settled order are spread evenly, and so is what was
// paid on them.
func (s *shop) add(l *state.Ledger, digits int) bool {
	var c holdout.Customer
	unit := math.Pow10(digits)
	if old := &l.Settled; old.Days > 0 {
		for k := range old.Days {
			c.Days = append(c.Days, old.FirstDay+int32(int64(old.LastDay-old.FirstDay)*k/max(1, old.Days-1)))
			c.Paid = append(c.Paid, float64(old.Net)/float64(old.Days)/unit)
		}
		s.orders, s.since = s.orders+int(old.Orders), max(s.since, old.LastDay+1)
	}
	for i := range l.Orders {
		o := &l.Orders[i]
		net := l.Net(o)
		if net == 0 && !(isFree(o) && s.free) {
			continue
		}
		s.orders++
		if n := len(c.Days); n == 0 || o.Day > c.Days[n-1] {
			c.Days, c.Paid = append(c.Days, o.Day), append(c.Paid, 0)
		}
		c.Paid[len(c.Paid)-1] += float64(net) / unit
	}
	if len(c.Days) == 0 {
		return false
	}
	s.customers = append(s.customers, c)
	s.first, s.last = min(s.first, c.Days[0]), max(s.last, c.Days[len(c.Days)-1])
	return true
}

// ledgers are the customers' orders and refunds as they were known at the end of a day.
func (l *purchaseLog) ledgers(day int32) (map[string]*state.Ledger, error) {
	zone, err := time.LoadLocation(l.cfg.Time.Zone)
	if err != nil {
		return nil, err
	}
	end := state.Instant(dayTime(day+1, zone).UnixMilli())
	ledgers := map[string]*state.Ledger{}
	for i := range l.facts {
		f := &l.facts[i]
		if occurred(f) >= end {
			continue
		}
		if ledgers[f.Customer] == nil {
			ledgers[f.Customer] = &state.Ledger{}
		}
		ledgers[f.Customer].Add(f)
	}
	return ledgers, nil
}

// readShop reads a log to the end of a day; without one, of the last with an order.
func readShop(ctx context.Context, cfg config.Config, records iter.Seq2[*kgo.Record, error], day string, free bool) (*purchaseLog, *shop, int32, error) {
	log, err := readPurchases(ctx, cfg, records)
	if err != nil {
		return nil, nil, 0, err
	}
	until := int32(1 << 20)
	if day != "" {
		if until, err = dayNamed("until", day); err != nil {
			return nil, nil, 0, err
		}
	}
	s, err := log.shop(until, free)
	if err != nil {
		return nil, nil, 0, err
	}
	if day == "" {
		until = s.last
	}
	return log, s, until, nil
}

// isFree says whether an order counts but for its amount, which is nothing.
func isFree(o *state.Order) bool {
	return o.Amount == 0 && !o.Test && (o.Status == state.Paid || o.Status == state.Completed)
}

func dayTime(day int32, zone *time.Location) time.Time {
	return time.Date(1970, 1, 1+int(day), 0, 0, 0, 0, zone)
}

func dateOf(day int32) string { return dayTime(day, time.UTC).Format(time.DateOnly) }

// dayNamed is the day of a flag such as 2026-05-31.
func dayNamed(flag, text string) (int32, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return 0, usageError{fmt.Errorf("--%s %q is not a date such as 2026-05-31", flag, text)}
	}
	return int32(t.Unix() / 86400), nil
}

// noCurrency is the code of ISO 4217 for none.
const noCurrency = "XXX"

// absent is the text of a field that has no column.
func (r *historyReader) absent(t *historyTable, field historyField) string {
	switch {
	case field.kind == currencyColumn && r.Sparse && !t.has("amount"):
		return cmp.Or(r.Currency, noCurrency)
	case field.kind == currencyColumn:
		return r.Currency
	case r.Sparse && field.name == "order_id":
		return fmt.Sprintf("%s:%d", t.file, t.line)
	case r.Sparse && field.name == "amount":
		return "0"
	}
	return ""
}
