package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// profile is what is looked at in one.
type profile struct {
	Orders  uint32     `json:"orders_lifetime"`
	Revenue string     `json:"net_revenue_lifetime"`
	Last    *time.Time `json:"last_interaction_at"`
}

func (p profile) account() (a account, err error) {
	n, err := cents(p.Revenue)
	a.orders, a.cents = p.Orders, uint32(n) // #nosec G115 -- as much as was sent, or it is wrong anyway
	if p.Last != nil {
		a.last = uint32(p.Last.Unix()) // #nosec G115 -- until 2106
	}
	return a, err
}

// cents is an amount with two digits behind the point.
func cents(text string) (int64, error) {
	return strconv.ParseInt(strings.Replace(text, ".", "", 1), 10, 64)
}

// right holds the answers against what was sent. The last profile of every customer: all orders counted once and none left out, all
// money, the last interaction. No dead letters. Events: each customer's in order, none twice and none left out. It says how many customers there are.
func (e *engine) right(ctx context.Context, b *book) (int64, error) {
	if err := e.o.committed(ctx, e.topic("dead-letters"), func(r *kgo.Record) error {
		return fmt.Errorf("a record of %s is in the dead letters", r.Key)
	}); err != nil {
		return 0, err
	}
	for _, topic := range []string{"segment-changes", "churn-risk"} {
		if err := e.inOrder(ctx, topic); err != nil {
			return 0, err
		}
	}
	is := book{customers: make([]account, len(b.customers)), newcomers: make([]account, len(b.newcomers))}
	if err := e.o.committed(ctx, e.topic("profiles"), func(r *kgo.Record) error {
		kind, n, err := number(r.Key)
		if err != nil {
			return err
		}
		a, err := is.of(kind, n)
		if err != nil {
			return err
		}
		var p profile
		if err := json.Unmarshal(r.Value, &p); err != nil {
			return fmt.Errorf("profile of %s: %w", r.Key, err)
		}
		*a, err = p.account()
		return err
	}); err != nil {
		return 0, err
	}
	for _, kind := range []byte{known, newcomer} {
		list, should := is.customers, b.customers
		if kind == newcomer {
			list, should = is.newcomers, b.newcomers
		}
		for n := range list {
			if list[n] != should[n] {
				return 0, fmt.Errorf("customer %s: orders, cents and last interaction are %v and should be %v", name(kind, n), list[n], should[n])
			}
		}
	}
	return is.seen(), nil
}

// inOrder holds that the sequences of each customer's events have neither gaps nor repeats.
func (e *engine) inOrder(ctx context.Context, topic string) error {
	last := map[byte][]int32{}
	return e.o.committed(ctx, e.topic(topic), func(r *kgo.Record) error {
		kind, n, err := number(r.Key)
		if err != nil {
			return err
		}
		var event struct {
			Sequence int32 `json:"sequence"`
		}
		if err := json.Unmarshal(r.Value, &event); err != nil {
			return fmt.Errorf("event of %s: %w", r.Key, err)
		}
		for len(last[kind]) <= n {
			last[kind] = append(last[kind], 0)
		}
		if was := last[kind][n]; event.Sequence != was+1 {
			return fmt.Errorf("%s of %s: event %d follows event %d", topic, r.Key, event.Sequence, was)
		}
		last[kind][n] = event.Sequence
		return nil
	})
}

// ends is where the partitions of a topic now end for those who read what is committed.
func (o *options) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	listed, err := o.broker.Admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	ends := map[int32]int64{}
	listed.Each(func(l kadm.ListedOffset) { ends[l.Partition] = l.Offset })
	return ends, err
}

// settled waits until no transaction is open in a topic, and says where its partitions end then: a commit has been promised before
// its marks are in all of them.
func (o *options) settled(ctx context.Context, topic string) (map[int32]int64, error) {
	for limit := time.Now().Add(o.limit); ; {
		all, err := o.broker.Admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = all.Error()
		}
		if err != nil {
			return nil, err
		}
		ends, err := o.ends(ctx, topic)
		if err != nil {
			return nil, err
		}
		open := false
		all.Each(func(l kadm.ListedOffset) { open = open || l.Offset > ends[l.Partition] })
		switch {
		case !open:
			return ends, nil
		case time.Now().After(limit):
			return nil, fmt.Errorf("transactions in %s do not end", topic)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// committed reads a topic up to where it now ends.
func (o *options) committed(ctx context.Context, topic string, take func(*kgo.Record) error) error {
	left, err := o.settled(ctx, topic)
	if err != nil {
		return err
	}
	maps.DeleteFunc(left, func(_ int32, end int64) bool { return end == 0 })
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.broker.Address), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(left) > 0 {
		step, cancel := context.WithTimeout(ctx, time.Minute) // bounded by progress
		fetched := cl.PollFetches(step)
		cancel()
		if err := fetched.Err(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		for it := fetched.RecordIter(); !it.Done(); {
			r := it.Next()
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				if err := take(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
