package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/bench/measure"
)

// account is what a customer's profile must say in the end.
type account struct {
	orders uint32
	cents  uint32
	last   uint32 // interaction, seconds
}

// book makes records and remembers what must come out. Customers are known from the beginning, newcomers appear meanwhile.
type book struct {
	purchases, interactions string // topics
	rng                     *rand.Rand
	customers, newcomers    []account
	records                 int64
}

func newBook(e *engine, customers int) *book {
	return &book{purchases: e.purchases(), interactions: e.interactions(), rng: rand.New(rand.NewPCG(1, 2)), customers: make([]account, customers)} // #nosec G404 -- the same load each time
}

const (
	known    = 'c'
	newcomer = 'n'
)

func name(kind byte, n int) []byte { return fmt.Appendf(nil, "%c%09d", kind, n) }

// number is whose name that is.
func number(key []byte) (kind byte, n int, err error) {
	if len(key) != 10 {
		return 0, 0, fmt.Errorf("no customer of ours: %q", key)
	}
	n, err = strconv.Atoi(string(key[1:]))
	return key[0], n, err
}

func (b *book) of(kind byte, n int) (*account, error) {
	list := b.customers
	if kind == newcomer {
		list = b.newcomers
	}
	if n >= len(list) {
		return nil, fmt.Errorf("nobody has sent anything of %s", name(kind, n))
	}
	return &list[n], nil
}

// purchase is a new order, in the members that the peers' job has too.
func (b *book) purchase(kind byte, n int, at time.Time) *kgo.Record {
	if kind == newcomer && n == len(b.newcomers) {
		b.newcomers = append(b.newcomers, account{})
	}
	b.records++
	a, _ := b.of(kind, n)
	cents := 300 + b.rng.Uint32N(20_000)
	a.orders++
	a.cents += cents
	id, when := name(kind, n), at.UTC().Format("2006-01-02T15:04:05.000Z")
	value := fmt.Appendf(make([]byte, 0, 320), `{"order_id":"o-%012d","customer_id":"%s","ordered_at":"%s","amount":"%d.%02d","currency":"EUR","status":"completed","channel":"web","revision":1,"items":[{"sku":"sku-%06d","category":"shoes","quantity":1,"amount":"%d.%02d"}]}`,
		b.records, id, when, cents/100, cents%100, b.rng.IntN(50_000), cents/100, cents%100)
	return &kgo.Record{Topic: b.purchases, Key: id, Value: value, Timestamp: at}
}

func (b *book) interaction(n int, at time.Time) *kgo.Record {
	b.records++
	b.customers[n].last = uint32(at.Unix()) // #nosec G115 -- until 2106
	id, when := name(known, n), at.UTC().Format("2006-01-02T15:04:05.000Z")
	value := fmt.Appendf(make([]byte, 0, 200), `{"id":"i-%d","customer_id":"%s","type":"product_view","at":"%s","channel":"web","properties":{"sku":"sku-%06d"}}`,
		b.records, id, when, b.rng.IntN(50_000))
	return &kgo.Record{Topic: b.interactions, Key: id, Value: value, Timestamp: at}
}

// seen is how many customers there must be.
func (b *book) seen() (n int64) {
	for _, list := range [][]account{b.customers, b.newcomers} {
		for _, a := range list {
			if a != (account{}) {
				n++
			}
		}
	}
	return n
}

// cents is what all orders have brought in.
func (b *book) cents() (n int64) {
	for _, list := range [][]account{b.customers, b.newcomers} {
		for _, a := range list {
			n += int64(a.cents)
		}
	}
	return n
}

// producer sends at once, however much waits for an answer: who sends by a schedule must not wait.
func producer(b *measure.Broker, linger time.Duration) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(b.Address), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // murmur2, as Java
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(linger), kgo.MaxBufferedRecords(1<<18))
}

// load sends all records as fast as it can.
func (o *options) load(ctx context.Context, records func(yield func(*kgo.Record) bool)) error {
	cl, err := producer(o.broker, 20*time.Millisecond)
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed atomic.Pointer[error]
	for r := range records {
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return errors.Join(errors.New("load"), *err)
	}
	return nil
}

// history is what has happened in the last four weeks, in the order of time.
type history struct {
	events    int
	purchases int     // of ten records
	hot       float64 // share of the records that goes to a tenth of the customers
	rounds    int     // so many times, the first records are one of each customer, in no order
	fresh     bool    // all of it has happened within the last second
	padding   int     // bytes of a member that nobody asks for, in each record
}

func (b *book) past(h history, now time.Time) func(yield func(*kgo.Record) bool) {
	span := 28 * 24 * time.Hour
	if h.fresh {
		span = time.Second
	}
	return func(yield func(*kgo.Record) bool) {
		step := span / time.Duration(h.events)
		for i := range h.events {
			n, tenth := b.rng.IntN(len(b.customers)), len(b.customers)/10
			switch {
			case h.hot == 0: // all are alike
			case b.rng.Float64() < h.hot:
				n %= tenth
			default:
				n = tenth + n%(len(b.customers)-tenth)
			}
			if i/len(b.customers) < h.rounds {
				n = int(int64(i) * 7_368_787 % int64(len(b.customers)))
			}
			at := now.Add(step * time.Duration(i-h.events)).Truncate(time.Millisecond)
			r := b.purchase
			if b.rng.IntN(10) >= h.purchases {
				r = func(_ byte, n int, at time.Time) *kgo.Record { return b.interaction(n, at) }
			}
			record := r(known, n, at)
			pad(record, h.padding)
			if !yield(record) {
				return
			}
		}
	}
}

// pad makes a record longer by about so many bytes, which do not repeat themselves.
func pad(r *kgo.Record, by int) {
	if by == 0 {
		return
	}
	value := append(r.Value[:len(r.Value)-1], `,"note":"`...)
	for rng := rand.NewPCG(uint64(r.Timestamp.UnixMilli()), uint64(len(value))); by > 0; by -= 16 { // #nosec G115 -- a seed
		value = fmt.Appendf(value, "%016x", rng.Uint64())
	}
	r.Value = append(value, `"}`...)
}
