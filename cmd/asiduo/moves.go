package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// movesOf answers the admin API.
func movesOf(ctx context.Context, pipe *pipeline.Pipeline, body []byte) (*pipeline.Moves, error) {
	var c pipeline.Candidate
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, &api.BadCandidateError{Err: err}
	}
	m, err := pipe.Moves(ctx, &c)
	if err != nil && !errors.Is(err, store.ErrClosed) && ctx.Err() == nil {
		err = &api.BadCandidateError{Err: err}
	}
	return m, err
}

// findMoves asks the instance that runs with this configuration what a candidate would change, or reads its data
// directory if it does not run.
func findMoves(ctx context.Context, cfg config.Config, c *pipeline.Candidate) (*pipeline.Moves, error) {
	m, err := askMoves(ctx, cfg, c)
	if !errors.Is(err, errNotRunning) {
		return m, err
	}
	o, err := openOffline(cfg)
	if err != nil {
		return nil, err
	}
	set, err := o.published(cfg)
	if err == nil {
		views := map[int32]func() (*store.View, error){}
		for shard := range o.stores {
			views[shard] = func() (*store.View, error) { return o.view(cfg, shard) }
		}
		m, err = pipeline.MovesOf(ctx, cfg, set, c, views)
	}
	return m, errors.Join(err, o.close())
}

// snapshotMoves counts what a candidate would change for the customers of a snapshot, from stores that are made of it.
func snapshotMoves(ctx context.Context, cfg config.Config, set *parameters.Set, c *pipeline.Candidate, name, temp string) (_ *pipeline.Moves, err error) {
	l, err := archive.Load(ctx, name)
	if err != nil {
		return nil, err
	}
	if l.App != cfg.App {
		return nil, fmt.Errorf("the snapshot is of application %q, not %q", l.App, cfg.App)
	}
	dir, err := os.MkdirTemp(temp, "asiduo-snapshot-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cache := pebble.NewCache(32 << 20)
	defer cache.Unref()
	views := map[int32]func() (*store.View, error){}
	var open *store.Store // of one shard at a time
	defer func() {
		if open != nil {
			err = errors.Join(err, open.Close(false))
		}
	}()
	for _, part := range l.Parts {
		views[part.Shard] = func() (*store.View, error) {
			if open != nil {
				last := open
				open = nil
				if err := last.Close(false); err != nil {
					return nil, err
				}
			}
			s, err := store.Open(filepath.Join(dir, fmt.Sprint(part.Shard)), store.Options{FS: vfs.Default, Cache: cache, Memtable: 4 << 20})
			if err != nil {
				return nil, err
			}
			open = s
			mark := store.Mark{Checkpoint: part.Checkpoint(), Position: part.Changelog}
			mark.Owner = "snapshot"
			if err := fillStore(s, l.Records(ctx, part.Shard), &mark); err != nil {
				return nil, err
			}
			v, err := s.View()
			if err == nil {
				err = pipeline.Adopt(cfg, set, v)
			}
			return v, err
		}
	}
	return pipeline.MovesOf(ctx, cfg, set, c, views)
}

// fillStore writes the records of a state and, last, its mark.
func fillStore(s *store.Store, records iter.Seq2[store.Record, error], mark *store.Mark) error {
	b := s.NewBatch()
	defer func() { b.Discard() }()
	for r, err := range records {
		if err == nil {
			err = b.Put(r.Key, r.Value)
		}
		if err == nil && b.Len() > 1<<20 {
			err = b.Commit()
			b = s.NewBatch()
		}
		if err != nil {
			return err
		}
	}
	if err := b.SetMark(mark); err != nil {
		return err
	}
	return b.Commit()
}

func askMoves(ctx context.Context, cfg config.Config, c *pipeline.Candidate) (*pipeline.Moves, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	m := new(pipeline.Moves)
	err = askWith(ctx, cfg, http.MethodPost, "/v1/moves", bytes.NewReader(body), func(answer io.Reader) error {
		return json.NewDecoder(answer).Decode(m)
	})
	return m, err
}

// printMoves prints tables of how many customers would go from where to where.
func printMoves(out io.Writer, m *pipeline.Moves, shards int32) {
	fmt.Fprintf(out, "%d customers in %d of %d shards\n", m.Customers, len(m.Shards), shards)
	if int(shards) > len(m.Shards) {
		fmt.Fprintln(out, "The other shards are at other instances: ask each, or take these for a sample.")
	}
	for _, t := range []struct {
		title, none string
		moves       []pipeline.Move
	}{
		{"segment", "No customer would change segment.", m.Segments}, {"churn band", "No customer would change churn band.", m.Bands},
	} {
		if len(t.moves) == 0 {
			fmt.Fprintln(out, t.none)
			continue
		}
		total := int64(0)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "%s\tto\tcustomers\n", t.title)
		for _, v := range t.moves {
			total += v.Customers
			fmt.Fprintf(w, "%s\t%s\t%d\n", orNone(v.From), orNone(v.To), v.Customers)
		}
		fmt.Fprintf(w, "all\t\t%d\n", total)
		_ = w.Flush() // to a writer that the command's own writes go to
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// printCube prints which combination of scores belongs to which segment.
func printCube(out io.Writer, prefix string, rules *state.RuleSet) {
	letters := map[string]byte{}
	for i, name := range rules.Segments() {
		letters[name] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh"[i]
	}
	fmt.Fprintf(out, "%swhich cell goes where: one letter for each of m = 1 2 3 4 5\n%s", prefix, prefix)
	for r := 5; r >= 1; r-- {
		fmt.Fprintf(out, "     r=%d", r)
	}
	for f := uint8(5); f >= 1; f-- {
		fmt.Fprintf(out, "\n%sf=%d", prefix, f)
		for r := uint8(5); r >= 1; r-- {
			fmt.Fprint(out, "  ")
			for m := uint8(1); m <= 5; m++ {
				fmt.Fprintf(out, "%c", letters[rules.SegmentName(rules.Of(r, f, m))])
			}
			fmt.Fprint(out, " "[:min(1, int(r-1))])
		}
	}
	fmt.Fprintf(out, "\n%s", prefix)
	for i, name := range rules.Segments() {
		if i > 0 {
			fmt.Fprint(out, ", ")
		}
		fmt.Fprintf(out, "%c %s", letters[name], name)
	}
	fmt.Fprintln(out)
}
