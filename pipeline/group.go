package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/pipeline/transaction"
)

// Member is a process in the group of an application.
type Member struct {
	Instance string  // of its data directory
	Host     string  // as the brokers see it
	URL      string  // of its API; may be empty
	Shards   []int32 // that it should own
}

func (m Member) String() string {
	at := strings.TrimPrefix(m.Host, "/")
	if m.URL != "" {
		at += ", " + m.URL
	}
	shards := make([]string, len(m.Shards))
	for i, s := range m.Shards {
		shards[i] = label(s)
	}
	return fmt.Sprintf("%s (%s) with shards %s", m.Instance, at, strings.Join(shards, ", "))
}

// Members are the processes in the group, by instance.
func Members(ctx context.Context, adm *kadm.Client, app string) ([]Member, error) {
	groups, err := adm.DescribeGroups(ctx, app)
	if err != nil {
		return nil, fmt.Errorf("describe group %q: %w", app, err)
	}
	var list []Member
	for _, m := range groups[app].Members {
		is := Member{Instance: m.MemberID, Host: m.ClientHost}
		if m.InstanceID != nil {
			is.Instance = *m.InstanceID
		}
		_, is.URL, _ = strings.Cut(m.ClientID, " ")
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				is.Shards = append(is.Shards, t.Partitions...)
			}
		}
		slices.Sort(is.Shards)
		list = append(list, is)
	}
	return list, nil
}

// awaitNobody returns when the group has no members. A process that has ended stays one until its session is over, so
// those that are there are given that long to go.
func awaitNobody(ctx context.Context, adm *kadm.Client, c config.Config) error {
	session := c.Group.SessionTimeout.Std()
	for began := time.Now(); ; {
		all, err := Members(ctx, adm, c.App)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return nil
		}
		if time.Since(began) > session+time.Second {
			names := make([]string, len(all))
			for i, m := range all {
				names[i] = m.String()
			}
			return fmt.Errorf("processes run: %s: stop them first", strings.Join(names, "; "))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// seize takes a shard from whoever owns it: what its owner has begun has ended when this returns, and nobody but a newer
// owner can write under its transactional id. The client writes to the partitions that records name.
func seize(ctx context.Context, connect parameters.Connect, app string, shard int32) (*kgo.Client, error) {
	cl, err := connect(kgo.TransactionalID(transactionalID(app, shard)), kgo.TransactionTimeout(time.Minute), kgo.MaxBufferedRecords(1<<20))
	if err != nil {
		return nil, err
	}
	if _, _, err := cl.ProducerID(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("take transactional id %s: %w", transactionalID(app, shard), err)
	}
	return cl, nil
}

// bounds of a transaction of a command.
const (
	bulkRecords = 5000
	bulkBytes   = 4 << 20
)

// bulk writes records in transactions of bounded size.
type bulk struct {
	cl    *kgo.Client
	out   []*kgo.Record
	bytes int
}

func (b *bulk) add(ctx context.Context, r *kgo.Record) error {
	b.out = append(b.out, r)
	if b.bytes += len(r.Key) + len(r.Value); len(b.out) < bulkRecords && b.bytes < bulkBytes {
		return nil
	}
	return b.flush(ctx)
}

// flush makes what was added true. After an error the client is of no more use.
func (b *bulk) flush(ctx context.Context) error {
	if len(b.out) == 0 {
		return nil
	}
	err := transaction.Commit(ctx, b.cl, b.out)
	clear(b.out)
	b.out, b.bytes = b.out[:0], 0
	return err
}
