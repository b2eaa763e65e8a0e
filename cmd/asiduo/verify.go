package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/state/store"
)

func newStateVerify() *cobra.Command {
	var file, temp string
	shard, show := int32(-1), false
	cmd := &cobra.Command{
		Use:   "verify -c FILE",
		Short: "Hold the stores against the changelog, byte by byte",
		Long: `verify restores each shard from the changelog into a temporary store, as a new owner would, up to the position of the store of
this instance, and compares the two: every record must be the same, and every customer must have a timer that is not too late.
It needs room for two copies of a shard below --temp, changes nothing, and exits with 1 if anything differs.`,
		Example: "  asiduo state verify -c asiduo.yaml\n  asiduo state verify -c asiduo.yaml --shard 3 --show-ids",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			shards := []int32{shard}
			if shard < 0 {
				if shards, err = shardsOf(cmd.Context(), cfg); err != nil {
					return err
				}
			}
			var cl *kgo.Client
			brokers := sync.OnceValues(func() (adm *kadm.Client, err error) { // what is wrong with the stores themselves is said without them
				cl, adm, err = admin(cmd.Context(), cfg.Kafka)
				return adm, err
			})
			defer func() {
				if cl != nil {
					cl.Close()
				}
			}()
			different := 0
			var unread verifyFaults
			for _, s := range shards {
				equal, err := true, cmd.Context().Err()
				if err == nil {
					if equal, err = verifyShard(cmd.Context(), brokers, cfg, s, temp, show, cmd.OutOrStdout()); err != nil {
						err = cmp.Or(cmd.Context().Err(), err)
					}
				}
				if err != nil { // the others are looked at all the same
					unread.add(s, err)
				} else if !equal {
					different++
				}
			}
			err = unread.err()
			if different > 0 {
				err = errors.Join(err, fmt.Errorf("%d of %d stores differ from the changelog, which is what counts. To repair one, stop its process, remove its directory (%s), and start the process: it is built again from the changelog. Keep a copy for whoever looks for the cause",
					different, len(shards), filepath.Join(cfg.State.Dir, "shard-N")))
			}
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().Int32Var(&shard, "shard", -1, "only this shard")
	cmd.Flags().BoolVar(&show, "show-ids", false, "print customer ids, not their hashes")
	cmd.Flags().StringVar(&temp, "temp", "", "directory for temporary stores; default: the system's")
	return cmd
}

// verifyFaults are what has kept shards from being looked at.
type verifyFaults struct {
	texts  []string
	shards map[string][]string // by text
}

func (f *verifyFaults) add(shard int32, err error) {
	text := err.Error()
	if f.shards == nil {
		f.shards = map[string][]string{}
	}
	if f.shards[text] == nil {
		f.texts = append(f.texts, text)
	}
	f.shards[text] = append(f.shards[text], fmt.Sprint(shard))
}

// err says each once, with the shards.
func (f *verifyFaults) err() (all error) {
	for _, text := range f.texts {
		shards := f.shards[text]
		word := "shard"
		if len(shards) > 1 {
			word = "shards"
		}
		all = errors.Join(all, fmt.Errorf("%s %s: %s", word, strings.Join(shards, ", "), text))
	}
	return all
}

// verifyShard tells what differs in one shard.
func verifyShard(ctx context.Context, brokers func() (*kadm.Client, error), cfg config.Config, shard int32, temp string, show bool, out io.Writer) (equal bool, err error) {
	dir, err := os.MkdirTemp(temp, "asiduo-verify-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cache := pebble.NewCache(32 << 20)
	defer cache.Unref()
	o := store.Options{FS: vfs.Default, Cache: cache, Memtable: 4 << 20}
	is, err := store.Open(filepath.Join(dir, "store"), o)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, is.Close(false)) }()
	err = fetchStore(ctx, cfg, shard, is)
	if found, ok := errors.AsType[damage](err); ok {
		what, _, _ := strings.Cut(found.Error(), "\n") // the database adds lines for its own use
		fmt.Fprintf(out, "shard %d: the store is damaged: %s\n", shard, what)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	empty, err := store.Open(filepath.Join(dir, "changelog"), o)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, empty.Close(false)) }()
	view, err := is.View()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	if view.Mark.Owner == "" {
		bare, err := is.Bare()
		if err == nil && bare {
			fmt.Fprintf(out, "shard %d: the store is empty\n", shard)
		} else if err == nil {
			tellVerified(out, shard, view.Mark, &pipeline.Verified{Differences: []pipeline.Difference{{
				What: "checkpoint", How: "it has records and no checkpoint: a restore is under way, or was interrupted, and begins anew",
			}}}, show)
		}
		return bare, err
	}
	adm, err := brokers()
	if err != nil {
		return false, err
	}
	v, err := pipeline.Verify(ctx, adm, pipeline.Connector(cfg.Kafka), cfg, shard, view, empty)
	if err != nil {
		return false, err
	}
	tellVerified(out, shard, view.Mark, v, show)
	return len(v.Differences) == 0, nil
}

func tellVerified(out io.Writer, shard int32, at store.Mark, v *pipeline.Verified, show bool) {
	what := "equal"
	if n := len(v.Differences) + v.More; n > 0 {
		what = fmt.Sprintf("%d differences", n)
	}
	fmt.Fprintf(out, "shard %d at offset %d of the changelog (cycle %d): %d records, %d timers: %s\n", shard, at.Offset, at.Cycle, v.Records, v.Timers, what)
	if v.Passed > 0 {
		fmt.Fprintf(out, "  %d records were not compared: they have been written again since\n", v.Passed)
	}
	for _, d := range v.Differences {
		who := "the store"
		if d.Customer != "" {
			who = "customer " + d.Customer
			if !show {
				sum := sha256.Sum256([]byte(d.Customer))
				who = "customer #" + hex.EncodeToString(sum[:6])
			}
			who += ", " + d.What
		}
		fmt.Fprintf(out, "  %s: %s\n", who, d.How)
	}
	if v.More > 0 {
		fmt.Fprintf(out, "  and %d more\n", v.More)
	}
}

// damage is what keeps the files of a store from being read.
type damage struct{ error }

// fetchStore copies a shard, as the running instance or the data directory has it in one cycle, into an empty store.
func fetchStore(ctx context.Context, cfg config.Config, shard int32, into *store.Store) error {
	path := fmt.Sprintf("/v1/state/records?shard=%d", shard)
	err := askWith(ctx, cfg, http.MethodGet, path, http.NoBody, func(answer io.Reader) error { return copyStore(sent(answer), into) })
	if errors.Is(err, errNotRunning) {
		return fetchOffline(ctx, cfg, shard, into)
	}
	return err
}

// fetchOffline opens the one store, so that another that is damaged does not matter.
func fetchOffline(ctx context.Context, cfg config.Config, shard int32, into *store.Store) (err error) {
	if shards, err := shardsIn(cfg); err != nil {
		return err
	} else if !slices.Contains(shards, shard) {
		return fmt.Errorf("no instance answers at admin.listen (%s), and data directory %s does not hold it", cfg.Admin.Listen, cfg.State.Dir)
	}
	o, err := holdOffline(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if err := o.open(shard); err != nil {
		return damaged(err)
	}
	view, err := o.stores[shard].View()
	if err != nil {
		return damaged(err)
	}
	return copyStore(func(yield func(api.RawLine, error) bool) {
		for l, err := range api.RawLines(view) {
			if !yield(l, cmp.Or(ctx.Err(), damaged(err))) {
				return
			}
		}
	}, into)
}

func damaged(err error) error {
	if store.Damaged(err) {
		return damage{err}
	}
	return err
}

// sent are the lines of an answer, which says last how many they are.
func sent(answer io.Reader) iter.Seq2[api.RawLine, error] {
	return func(yield func(api.RawLine, error) bool) {
		d := json.NewDecoder(bufio.NewReaderSize(answer, 1<<16))
		for n := 0; ; n++ {
			var l api.RawLine
			err := d.Decode(&l)
			switch {
			case errors.Is(err, io.EOF):
				err = errBrokeOff
			case err == nil && l.Lines == n && n > 0:
				return
			case err == nil && l.Lines > 0:
				err = fmt.Errorf("%d lines came, %d were sent", n, l.Lines)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

func copyStore(lines iter.Seq2[api.RawLine, error], into *store.Store) error {
	b := into.NewBatch()
	defer func() { b.Discard() }()
	for l, err := range lines {
		switch {
		case err != nil:
			return err
		case l.Mark != nil:
			if l.Mark.Owner != "" { // else the store is empty
				err = b.SetMark(l.Mark)
			}
		case l.Key != nil:
			err = b.Put(l.Key, l.Value)
		default:
			err = b.Arm(l.At, l.ID)
		}
		if err == nil && b.Len() > 1<<20 {
			err = b.Commit()
			b = into.NewBatch()
		}
		if err != nil {
			return err
		}
	}
	return b.Commit()
}
