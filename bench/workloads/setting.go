package main

import (
	"context"
	"time"
)

// setting is a load, and what reads it.
type setting struct {
	history
	customers, shards int
	more              string // of the configuration
}

// mix is one purchase to nine interactions, nine tenths of them of a tenth of the customers.
func (o *options) mix() setting {
	return setting{history: history{events: o.events, purchases: 1, hot: 0.9}, customers: o.customers, shards: shards}
}

// orders is purchases alone; the first of them are one of each customer.
func (o *options) orders(events int) setting {
	return setting{history: history{events: events, purchases: 10, rounds: 1}, customers: o.customers, shards: shards}
}

// warm is a process that has read the past of its customers and caught up, and what that has cost. All of it was news, so that every
// topic of the outputs has been written to: what the first record of one costs is no latency of the others.
func (o *options) warm(ctx context.Context, app string, l setting) (*engine, *book, cost, error) {
	now := time.Now()
	e, err := newEngine(ctx, o, app, l.shards, l.more)
	if err != nil {
		return nil, nil, cost{}, err
	}
	b := newBook(e, l.customers)
	if err = o.load(ctx, b.past(l.history, now)); err == nil {
		err = e.start(ctx)
	}
	var c cost
	if err == nil {
		c, err = caughtUp(ctx, b.records, e.began, e)
	}
	if err != nil {
		e.remove()
		return nil, nil, c, err
	}
	return e, b, c, nil
}
