package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestPast holds the mix of a load, and what the book says must come out, against the records themselves.
func TestPast(t *testing.T) {
	const events, customers = 50_000, 1000
	b := &book{purchases: "p", interactions: "i", rng: rand.New(rand.NewPCG(1, 2)), customers: make([]account, customers)}
	is := make([]account, customers)
	var purchases, hot int
	last := time.Time{}
	now := time.Now()
	for r := range b.past(history{events: events, purchases: 1, hot: 0.9}, now) {
		if r.Timestamp.Before(last) || r.Timestamp.After(now) {
			t.Fatal(r.Timestamp, "follows", last)
		}
		last = r.Timestamp
		kind, n, err := number(r.Key)
		if err != nil || kind != known {
			t.Fatal(kind, err)
		}
		if n < customers/10 {
			hot++
		}
		var v struct {
			Customer string    `json:"customer_id"`
			Amount   string    `json:"amount"`
			At       time.Time `json:"at"`
		}
		if err := json.Unmarshal(r.Value, &v); err != nil || v.Customer != string(r.Key) {
			t.Fatal(err, v.Customer)
		}
		if r.Topic == "i" {
			is[n].last = uint32(v.At.Unix())
			continue
		}
		purchases++
		c, err := cents(v.Amount)
		if err != nil {
			t.Fatal(err)
		}
		is[n].orders++
		is[n].cents += uint32(c)
	}
	if math.Abs(float64(purchases)/events-0.1) > 0.01 || math.Abs(float64(hot)/events-0.9) > 0.01 || b.records != events {
		t.Error(purchases, hot, b.records)
	}
	for n := range is {
		if is[n] != b.customers[n] {
			t.Error(n, is[n], b.customers[n])
		}
	}
}

// TestRounds counts what comes of each customer, and reads records that were made longer.
func TestRounds(t *testing.T) {
	const customers, rounds, padding = 1000, 3, 500
	b := &book{purchases: "p", interactions: "i", rng: rand.New(rand.NewPCG(1, 2)), customers: make([]account, customers)}
	seen, i := map[string]int{}, 0
	for r := range b.past(history{events: rounds * customers, purchases: 10, rounds: rounds, padding: padding}, time.Now()) {
		seen[string(r.Key)]++
		if i++; len(seen) != min(i, customers) || seen[string(r.Key)] != (i-1)/customers+1 {
			t.Fatalf("record %d is the %d. of %s; %d customers", i, seen[string(r.Key)], r.Key, len(seen))
		}
		var v struct{ Note string }
		if err := json.Unmarshal(r.Value, &v); err != nil || len(v.Note) < padding || len(v.Note) > padding+16 {
			t.Fatal(err, v.Note)
		}
	}
	if i != rounds*customers {
		t.Error(i)
	}
}

// TestProfile reads what a profile says of an account.
func TestProfile(t *testing.T) {
	for text, want := range map[string]account{
		`{"orders_lifetime":2,"net_revenue_lifetime":"203.07","last_interaction_at":"1970-01-01T00:01:00.900Z"}`: {2, 20307, 60},
		`{"orders_lifetime":0,"net_revenue_lifetime":"0.00","last_interaction_at":null}`:                         {},
	} {
		var p profile
		err := json.Unmarshal([]byte(text), &p)
		if a, wrong := p.account(); a != want || wrong != nil || err != nil {
			t.Error(text, a, wrong, err)
		}
	}
}

// TestLatencies holds percentiles and ratios against plain lists.
func TestLatencies(t *testing.T) {
	l := make(latencies, 1000)
	for i := range l {
		l[i] = time.Duration(i+1) * time.Millisecond
	}
	if got := l.text(); got != "501 / 991 / 1000 ms (of 1000)" {
		t.Error(got)
	}
	if got := l.ratio(l[:500]); got != 991./496 {
		t.Error(got)
	}
	if got := (latencies{}).text(); got != "0 / 0 / 0 ms (of 0)" {
		t.Error(got)
	}
}
