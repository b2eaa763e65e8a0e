package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// historyOf is the format that flags describe.
func historyOf(preset string, columns []string, currency, topic string) (historyFormat, error) {
	f := historyFormat{Preset: preset, Topic: topic, Currency: currency}
	for _, c := range columns {
		field, column, ok := strings.Cut(c, "=")
		if !ok || field == "" || column == "" {
			return f, fmt.Errorf("--column %q is not FIELD=COLUMN", c)
		}
		if f.Columns == nil {
			f.Columns = map[string]string{}
		}
		f.Columns[field] = column
	}
	return f, nil
}

var backfillHeader = kgo.RecordHeader{Key: "asiduo-mode", Value: []byte("backfill")}

// placed are the records of a history for inputs of n partitions.
func placed(c config.Config, history iter.Seq2[historyRecord, error], n int32, headers []kgo.RecordHeader) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		place, err := pipeline.NewPartitioner(c.Inputs.Partitioner)
		if err != nil {
			yield(nil, err)
			return
		}
		for h, err := range history {
			if err != nil {
				yield(nil, err)
				return
			}
			topic := c.Inputs.Purchases
			if h.Topic == roleInteractions {
				topic = c.Inputs.Interactions
			}
			if !yield(&kgo.Record{
				Topic: topic, Partition: place(h.Key, n), Timestamp: time.UnixMilli(h.At), Key: h.Key, Value: h.Value, Headers: headers,
			}, nil) {
				return
			}
		}
	}
}

// replay loads a history into the inputs.
type replay struct {
	cfg     config.Config
	files   []string
	history historyFormat
	rate    int
	print   bool
}

func newReplay() *cobra.Command {
	var r replay
	var file, broker, zone, comma string
	var columns []string
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Load histories into the input topics",
		Long: `replay reads histories, canonical JSON lines or CSV with columns mapped by flags, and writes them into the input topics: event
time becomes the record's timestamp, and the header asiduo-mode: backfill keeps old changes from being announced.

It may be stopped and started again: orders are upserts, so records that come twice have no effect. The topic must keep
old timestamps (retention.ms=-1 or longer than the history, message.timestamp.type=CreateTime); replay refuses one that does not.

Presets: cdnow (the CDNOW sample of Fader & Hardie), online-retail (the UCI data set of invoice lines).`,
		Example: "  asiduo replay -c asiduo.yaml orders.jsonl.gz\n" +
			"  asiduo replay -c asiduo.yaml --column order_id=OrderNo --column customer_id=3 --column ordered_at=Date --column amount=Total --currency EUR orders.csv\n" +
			"  asiduo replay --print --preset online-retail online_retail.csv > orders.jsonl",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.files = args
			role, currency := r.history.Topic, r.history.Currency
			kept := r.history
			if r.history, err = historyOf(kept.Preset, columns, currency, role); err != nil {
				return usageError{err}
			}
			r.history.Format, r.history.NoHeader, r.history.TimeLayout = kept.Format, kept.NoHeader, kept.TimeLayout
			if r.history.Zone, err = time.LoadLocation(zone); err != nil {
				return usageError{fmt.Errorf("--zone: %w", err)}
			}
			if r.history.Comma, err = commaOf(comma); err != nil {
				return usageError{err}
			}
			if err := notNegative(cmd, "rate"); err != nil {
				return err
			}
			if err := r.history.check(r.files); err != nil {
				return usageError{err}
			}
			if r.print {
				counts, err := writeHistory(cmd.OutOrStdout(), r.files, r.history)
				r.tell(counts)
				return err
			}
			if r.cfg, err = loadConfig(file); err != nil {
				return err
			}
			if broker != "" {
				r.cfg.Kafka.Brokers = strings.Split(broker, ",")
			}
			if r.history.Currency == "" {
				r.history.Currency = r.cfg.Currency
			}
			return r.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	configFlag(cmd, &file)
	f.StringVar(&broker, "broker", "", "write to the brokers at this address instead of the configured ones")
	f.StringVar(&r.history.Preset, "preset", "", "a published data set: cdnow or online-retail")
	f.StringVar(&r.history.Format, "format", "", "jsonl or csv; default: by the file's name")
	f.StringVar(&r.history.Topic, "topic", rolePurchases, "what the records are: purchases or interactions")
	f.StringArrayVar(&columns, "column", nil, "FIELD=COLUMN of a CSV file, by name or number from 1; may be given more than once")
	f.StringVar(&comma, "comma", "", "separator of a CSV file; \"tab\" for tabulators")
	f.BoolVar(&r.history.NoHeader, "no-header", false, "the CSV file has no line of names")
	f.StringVar(&r.history.TimeLayout, "time-layout", "", "layout of times as Go writes it, for example 02.01.2006 15:04; default: RFC 3339 or a date")
	f.StringVar(&zone, "zone", "UTC", "zone of times that name none")
	f.StringVar(&r.history.Currency, "currency", "", "currency where no column says it; default: the pipeline's")
	f.IntVar(&r.rate, "rate", 0, "most records a second; 0: as fast as it goes")
	f.BoolVar(&r.print, "print", false, "print canonical JSON lines and write nothing to Kafka")
	return cmd
}

func commaOf(s string) (rune, error) {
	switch s {
	case "":
		return 0, nil // the format's own
	case "tab":
		return '\t', nil
	}
	if r := []rune(s); len(r) == 1 {
		return r[0], nil
	}
	return 0, fmt.Errorf("--comma %q is not one character", s)
}

func (r *replay) run(ctx context.Context) error {
	topic := r.cfg.Inputs.Purchases
	if r.history.Topic == roleInteractions {
		if topic = r.cfg.Inputs.Interactions; topic == "" {
			return usageError{errors.New("--topic interactions: inputs.interactions is empty, the pipeline has no such input")}
		}
	}
	cl, adm, err := admin(ctx, r.cfg.Kafka, kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	keep, err := r.inspect(ctx, adm, topic)
	if err != nil {
		return err
	}
	history, counts := readHistory(r.files, r.history)
	progress := newProgress(os.Stderr)
	progress.phase("replay into " + topic)
	defer progress.done()
	var failed atomic.Pointer[error]
	began, n := time.Now(), 0
	for record, err := range placed(r.cfg, history, keep.partitions, []kgo.RecordHeader{backfillHeader}) {
		if err == nil {
			err = keep.check(record, r.cfg)
		}
		if err != nil {
			return errors.Join(err, cl.Flush(ctx))
		}
		if r.rate > 0 {
			if wait := time.Until(began.Add(time.Duration(float64(n) / float64(r.rate) * float64(time.Second)))); wait > 0 {
				select {
				case <-ctx.Done():
				case <-time.After(wait):
				}
			}
		}
		cl.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
		n++
		progress.count(n)
		if ctx.Err() != nil || failed.Load() != nil {
			break
		}
	}
	err = cl.Flush(ctx)
	if e := failed.Load(); e != nil {
		err = *e
	}
	if err != nil {
		return fmt.Errorf("stopped after about %d records, start it again with the same files: %w", n, err)
	}
	progress.done()
	r.tell(counts)
	return nil
}

// keeper is what a topic would do to what is replayed.
type keeper struct {
	partitions int32
	since      time.Time // older records are not kept; zero: all are
	fixes      []string  // settings that would keep them
}

// inspect looks at the settings of a topic.
func (r *replay) inspect(ctx context.Context, adm *kadm.Client, topic string) (k keeper, err error) {
	counts, err := pipeline.InputPartitions(ctx, adm, r.cfg)
	if err != nil {
		return k, err
	}
	k.partitions = counts[topic]
	found, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return k, fmt.Errorf("read settings of topic %q: %w", topic, err)
	}
	c, err := found.On(topic, nil)
	if err != nil {
		return k, fmt.Errorf("read settings of topic %q: %w", topic, err)
	}
	now := time.Now()
	limit := func(ms string, fix string) {
		if n, err := strconv.ParseInt(ms, 10, 64); err == nil && n >= 0 && n < now.UnixMilli() {
			k.fixes = append(k.fixes, fix)
			if oldest := now.Add(-time.Duration(n) * time.Millisecond); oldest.After(k.since) {
				k.since = oldest
			}
		}
	}
	for _, kv := range c.Configs {
		switch v := kv.MaybeValue(); kv.Key {
		case "message.timestamp.type":
			if v == "LogAppendTime" {
				k.fixes, k.since = append(k.fixes, "message.timestamp.type=CreateTime"), now.AddDate(1000, 0, 0)
			}
		case "retention.ms":
			limit(v, "retention.ms=-1")
		case "message.timestamp.before.max.ms":
			limit(v, "message.timestamp.before.max.ms=9223372036854775807")
		}
	}
	slices.Sort(k.fixes)
	return k, nil
}

// check says how to make a topic keep a record that it would not.
func (k *keeper) check(r *kgo.Record, c config.Config) error {
	if !r.Timestamp.Before(k.since) {
		return nil
	}
	return fmt.Errorf("topic %q would not keep records of %s; fix it with\n  kafka-configs.sh --bootstrap-server %s --alter --topic %s --add-config %s",
		r.Topic, r.Timestamp.UTC().Format(time.DateOnly), c.Kafka.Brokers[0], r.Topic, strings.Join(k.fixes, ","))
}

// tell says what became of the lines.
func (r *replay) tell(c *historyCounts) {
	if c == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "%d lines read, %d records\n", c.Read, c.Written)
	for _, why := range slices.Sorted(maps.Keys(c.Skipped)) {
		fmt.Fprintf(os.Stderr, "  left out, %s: %d\n", why, c.Skipped[why])
	}
}
