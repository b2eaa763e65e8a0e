package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/archive"
)

// topicRecords are the committed records of a topic up to its end as of now, from all partitions as they come.
func topicRecords(ctx context.Context, c config.Config, topic string) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		cl, adm, err := admin(ctx, c.Kafka, kgo.KeepControlRecords())
		if err != nil {
			yield(nil, err)
			return
		}
		defer cl.Close()
		left, err := unread(ctx, adm, topic)
		if err != nil {
			yield(nil, err)
			return
		}
		from := map[int32]kgo.Offset{}
		for p := range left {
			from[p] = kgo.NewOffset().AtStart()
		}
		cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
		for len(left) > 0 {
			fetched := cl.PollFetches(ctx)
			if err := errors.Join(ctx.Err(), fetched.Err()); err != nil {
				yield(nil, err)
				return
			}
			for it := fetched.RecordIter(); !it.Done(); {
				r := it.Next()
				end, waiting := left[r.Partition]
				if r.Offset+1 >= end {
					delete(left, r.Partition)
				}
				if waiting && r.Offset < end && !r.Attrs.IsControl() && !yield(r, nil) {
					return
				}
			}
		}
	}
}

// unread are the ends of the partitions that have records.
func unread(ctx context.Context, adm *kadm.Client, topic string) (map[int32]int64, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if start, ok := starts.Lookup(topic, o.Partition); ok && start.Offset < o.Offset {
			left[o.Partition] = o.Offset
		}
	})
	return left, nil
}

// buying is the newest snapshot of an archive, for those who ask about its buyers.
type buying struct {
	archive.Manifest
	source string
	buyers []archive.Buyer
	until  int32 // the last day that is over as of it, unless somebody has ordered on the next one already
}

func readBuying(dir, zone string) (*buying, error) {
	day, err := archive.Newest(dir)
	if err != nil {
		return nil, err
	}
	b := &buying{source: fmt.Sprintf("snapshot of %s below %s", day, dir)}
	if b.Manifest, err = archive.ReadManifest(dir, day); err != nil {
		return nil, err
	}
	if b.buyers, err = archive.ReadBuyers(dir, b.Manifest); err != nil {
		return nil, err
	}
	if len(b.buyers) == 0 {
		return nil, fmt.Errorf("nobody in the snapshot of %s has an order", day)
	}
	if b.until, err = lastDay(&b.Manifest, zone); err != nil {
		return nil, err
	}
	for _, known := range b.buyers {
		b.until = max(b.until, known.LastDay)
	}
	return b, nil
}

// shop is that of the buyers.
func (b *buying) shop() *shop {
	s := &shop{first: math.MaxInt32, last: math.MinInt32, money: true}
	for i := range b.buyers {
		s.add(&b.buyers[i].Ledger, b.Digits)
	}
	return s
}

// readSnapshot is what the newest snapshot of an archive teaches.
func (c *estimation) readSnapshot() (*lesson, error) {
	m, err := readBuying(c.snapshot, c.cfg.Time.Zone)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	for _, p := range m.Parts {
		sum.Write([]byte(p.SHA256))
	}
	log := &purchaseLog{cfg: c.cfg, rows: int(m.Rows), digest: hex.EncodeToString(sum.Sum(nil))}
	log.cfg.Currency = m.Currency
	return log.lesson(m.shop(), m.until, c.births == "known", m.source), nil
}
