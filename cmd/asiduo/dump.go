package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
)

// logLine is one record of a dump.
type logLine struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Timestamp int64             `json:"timestamp"`
	Key       *string           `json:"key"`
	Value     json.RawMessage   `json:"value,omitempty"`
	Binary    *[]byte           `json:"value_b64,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
}

// isDump looks at the first line of a file.
func isDump(name string) (bool, error) {
	f, err := openText(name)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	line, err := f.ReadString('\n')
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	var l struct {
		Topic     string `json:"topic"`
		Partition *int32 `json:"partition"`
	}
	return strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &l) == nil && l.Topic != "" && l.Partition != nil, nil
}

// readDumps reads the records of dumps, one file after the other.
func readDumps(names []string) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		for _, name := range names {
			for r, err := range readDump(name) {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

func readDump(name string) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		f, err := openText(name)
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = f.Close() }()
		for n := 1; ; n++ {
			line, err := f.ReadBytes('\n')
			if len(line) > 1 {
				var l logLine
				if err := json.Unmarshal(line, &l); err != nil {
					yield(nil, fmt.Errorf("%s:%d: %w", name, n, err))
					return
				}
				r, err := l.record()
				if err != nil {
					err = fmt.Errorf("%s:%d: %w", name, n, err)
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("%s:%d: %w", name, n, err))
				return
			}
		}
	}
}

func (l *logLine) record() (*kgo.Record, error) {
	r := &kgo.Record{Topic: l.Topic, Partition: l.Partition, Timestamp: time.UnixMilli(l.Timestamp)}
	if l.Topic == "" || l.Partition < 0 {
		return nil, errors.New("topic or partition is missing")
	}
	if l.Key != nil {
		r.Key = []byte(*l.Key)
	}
	switch {
	case l.Binary != nil:
		r.Value = *l.Binary
	case len(l.Value) > 0 && l.Value[0] == '"':
		var text string
		if err := json.Unmarshal(l.Value, &text); err != nil {
			return nil, err
		}
		r.Value = []byte(text)
	case len(l.Value) > 0 && string(l.Value) != "null":
		r.Value = l.Value
	}
	for k, v := range l.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	return r, nil
}

// dump writes the committed records of the output topics, a file for each.
func (r *rehearsal) dump(ctx context.Context, dir string) error {
	for _, t := range pipeline.OutputTopics(r.cfg) {
		if err := r.dumpTopic(ctx, t.Name, filepath.Join(dir, t.Name+".jsonl")); err != nil {
			return fmt.Errorf("write %s: %w", t.Name, err)
		}
	}
	return nil
}

func (r *rehearsal) dumpTopic(ctx context.Context, topic, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	defer func() { err = errors.Join(err, w.Flush(), f.Close()) }()
	for record, err := range r.committed(ctx, topic) {
		if err != nil {
			return err
		}
		b, err := json.Marshal(lineOf(record))
		if err != nil {
			return err
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func lineOf(r *kgo.Record) *logLine {
	l := &logLine{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Headers: map[string]string{}}
	if r.Key != nil {
		key := string(r.Key)
		l.Key = &key
	}
	for _, h := range r.Headers {
		l.Headers[h.Key] = string(h.Value)
	}
	switch {
	case r.Value == nil:
		l.Value = json.RawMessage("null")
	case !strings.HasSuffix(r.Topic, ".dead-letters"):
		l.Value = r.Value
	case utf8.Valid(r.Value):
		l.Value, _ = json.Marshal(string(r.Value))
	default:
		l.Binary = &r.Value
	}
	return l
}

// committed are the committed records of a topic up to its present end, partition by partition.
func (r *rehearsal) committed(ctx context.Context, topic string) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		ends, err := r.adm.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for _, p := range slices.Sorted(maps.Keys(ends[topic])) {
			for record, err := range pipeline.Committed(ctx, pipeline.Connector(r.cfg.Kafka), topic, p, -1, ends[topic][p].Offset) {
				if !yield(record, err) || err != nil {
					return
				}
			}
		}
	}
}
