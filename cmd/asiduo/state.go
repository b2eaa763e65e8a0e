package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/api"
	"github.com/asiduo/asiduo/state/store"
)

// offline opens the data directory of an instance that does not run, to read it.
type offline struct {
	dir    *store.Dir
	cache  *pebble.Cache
	stores map[int32]*store.Store
}

func openOffline(cfg config.Config) (*offline, error) {
	shards, err := shardsIn(cfg)
	if err != nil {
		return nil, err
	}
	o, err := holdOffline(cfg)
	if err != nil {
		return nil, err
	}
	for _, shard := range shards {
		if err := o.open(shard); err != nil {
			return nil, errors.Join(err, o.close())
		}
	}
	return o, nil
}

// holdOffline takes the data directory and opens no store.
func holdOffline(cfg config.Config) (*offline, error) {
	dir, err := store.Hold(vfs.Default, cfg.State.Dir, cfg.App)
	if err != nil {
		return nil, fmt.Errorf("no instance answers at admin.listen (%s): %w", cfg.Admin.Listen, err)
	}
	return &offline{dir: dir, cache: pebble.NewCache(8 << 20), stores: map[int32]*store.Store{}}, nil
}

// open opens a store. One that was never made is empty.
func (o *offline) open(shard int32) (err error) {
	opts := store.Options{FS: vfs.Default, Cache: o.cache, Memtable: 1 << 20, ReadOnly: true}
	if !o.holds(shard) {
		opts.FS, opts.ReadOnly = vfs.NewMem(), false
	}
	s, err := store.Open(o.dir.Shard(shard), opts)
	if err == nil {
		o.stores[shard] = s
	}
	return err
}

// holds says whether there is a manifest, a marker or a table. A process that is killed before it has made a database leaves
// none.
func (o *offline) holds(shard int32) bool {
	made, err := filepath.Glob(filepath.Join(o.dir.Shard(shard), "[Mm0-9]*"))
	return err != nil || len(made) > 0
}

// shardsIn are the shards that the data directory holds.
func shardsIn(cfg config.Config) (list []int32, err error) {
	found, err := filepath.Glob(filepath.Join(cfg.State.Dir, "shard-*"))
	for _, path := range found {
		n, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(path), "shard-"), 10, 32)
		if err == nil && filepath.Base(path) == fmt.Sprintf("shard-%d", n) { // else it is set aside, or not ours
			list = append(list, int32(n))
		}
	}
	if err != nil || len(list) == 0 {
		return nil, fmt.Errorf("no instance answers at admin.listen (%s), and data directory %s holds no shards", cfg.Admin.Listen, cfg.State.Dir)
	}
	slices.Sort(list)
	return list, nil
}

func (o *offline) close() error {
	var err error
	for _, s := range o.stores {
		err = errors.Join(err, s.Close(false))
	}
	o.cache.Unref()
	return errors.Join(err, o.dir.Release())
}

func newState() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "state",
		Short:   "Look at customers as they are stored",
		Long:    "state asks the instance that runs with this configuration (admin.listen); if none does, it reads the data directory itself.",
		Example: "  asiduo state get -c asiduo.yaml 12347\n  asiduo state scan -c asiduo.yaml | head",
	}
	cmd.AddCommand(newStateGet(), newStateScan(), newStateVerify())
	return cmd
}

func newStateGet() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "get -c FILE CUSTOMER",
		Short:   "One customer as JSON",
		Example: "  asiduo state get -c asiduo.yaml 12347",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			err = ask(cmd.Context(), cfg, http.MethodGet, "/v1/state/customers/"+url.PathEscape(args[0]), cmd.OutOrStdout())
			if !errors.Is(err, errNotRunning) {
				return err
			}
			return offlineRequest(cmd.Context(), cfg, "/v1/state/customers/"+url.PathEscape(args[0]), cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func newStateScan() *cobra.Command {
	var file string
	shard := int32(-1)
	cmd := &cobra.Command{
		Use:     "scan -c FILE",
		Short:   "All customers of this instance as JSON lines, shard by shard in the order of their ids",
		Example: "  asiduo state scan -c asiduo.yaml --shard 0 > customers.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			path := func(s int32) string { return "/v1/state/scan?shard=" + strconv.Itoa(int(s)) }
			shards := []int32{shard}
			if shard < 0 {
				if shards, err = shardsOf(cmd.Context(), cfg); err != nil {
					return err
				}
			}
			for _, s := range shards {
				err := ask(cmd.Context(), cfg, http.MethodGet, path(s), cmd.OutOrStdout())
				if errors.Is(err, errNotRunning) {
					err = offlineRequest(cmd.Context(), cfg, path(s), cmd.OutOrStdout())
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().Int32Var(&shard, "shard", -1, "only this shard")
	return cmd
}

// shardsOf are the shards that the instance serves, or that the data directory holds.
func shardsOf(ctx context.Context, cfg config.Config) (list []int32, err error) {
	list, err = askShards(ctx, cfg)
	if errors.Is(err, errNotRunning) {
		return shardsIn(cfg)
	}
	return list, err
}

// askShards are the shards that the instance serves.
func askShards(ctx context.Context, cfg config.Config) (list []int32, err error) {
	var text strings.Builder
	if err := ask(ctx, cfg, http.MethodGet, "/v1/shards", &text); err != nil {
		return nil, err
	}
	var answer struct {
		Shards []struct {
			Shard int32 `json:"shard"`
		} `json:"shards"`
	}
	if err := json.Unmarshal([]byte(text.String()), &answer); err != nil {
		return nil, err
	}
	for _, s := range answer.Shards {
		list = append(list, s.Shard)
	}
	return list, nil
}

// offlineRequest answers a request of the admin API from the data directory.
func offlineRequest(ctx context.Context, cfg config.Config, path string, out io.Writer) error {
	o, err := openOffline(cfg)
	if err != nil {
		return err
	}
	opts, err := offlineOptions(cfg, o)
	if err != nil {
		return errors.Join(err, o.close())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return errors.Join(err, o.close())
	}
	w := &plainResponse{out: out, header: http.Header{}}
	return errors.Join(w.serve(api.Admin(opts), req), o.close())
}

// plainResponse writes the body of an answer to out, or keeps it as an error.
type plainResponse struct {
	out    io.Writer
	header http.Header
	status int
	fault  strings.Builder
}

func (w *plainResponse) Header() http.Header    { return w.header }
func (w *plainResponse) WriteHeader(status int) { w.status = status }
func (w *plainResponse) Write(b []byte) (int, error) {
	if w.status != 0 && w.status != http.StatusOK {
		return w.fault.Write(b)
	}
	return w.out.Write(b)
}

// serve lets a handler answer. One that breaks off in the middle of an answer panics, which a server would make a
// broken connection.
func (w *plainResponse) serve(h http.Handler, req *http.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the answer broke off: %v", v)
		}
	}()
	h.ServeHTTP(w, req)
	if w.status == 0 || w.status == http.StatusOK {
		return nil
	}
	return fmt.Errorf("%s: %s", http.StatusText(w.status), strings.TrimSpace(w.fault.String()))
}
