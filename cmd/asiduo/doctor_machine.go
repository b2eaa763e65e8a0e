package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/asiduo/asiduo/sinks/archive"
	"github.com/asiduo/asiduo/state"
)

// disk: intake stops when there is no room.
func (d *doctor) disk() {
	path := d.cfg.State.Dir
	for !exists(path) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
	}
	u, err := vfs.Default.GetDiskUsage(path)
	least := uint64(d.cfg.State.MinFree.Bytes())
	const fix = "make room, or set state.dir to a larger disk: the directory can be moved while the process is stopped"
	switch {
	case err != nil || u.TotalBytes == 0:
		d.warn("disk", "none: the low-water mark does not work on it", "the file system below %s does not say what is free", path)
	case u.AvailBytes < least:
		d.fault("disk", fix, "%d MiB are free below %s, less than state.min_free (%d MiB): intake is stopped", u.AvailBytes>>20, path, least>>20)
	case u.AvailBytes < 4*least:
		d.warn("disk", fix, "%d MiB are free below %s; intake stops below %d MiB (state.min_free)", u.AvailBytes>>20, path, least>>20)
	default:
		d.ok("disk", "%d MiB are free below %s", u.AvailBytes>>20, path)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// stores looks into the data directory, unless a process holds it: that one tells by itself.
func (d *doctor) stores(ctx context.Context) {
	n := len(d.found)
	aside, _ := filepath.Glob(filepath.Join(d.cfg.State.Dir, "*.set-aside"))
	for _, path := range aside {
		d.warn("stores", "keep it until the shard runs again; then look for the cause in the log, and remove it", "%s was set aside: it was damaged, too old, not of this changelog, or its restore was interrupted", path)
	}
	found, _ := filepath.Glob(filepath.Join(d.cfg.State.Dir, "shard-*"))
	if len(found) == len(aside) {
		d.quiet(n, "stores", "%s holds none", d.cfg.State.Dir)
		return
	}
	if list, err := askShards(ctx, d.cfg); err == nil {
		d.quiet(n, "stores", "the running process holds %d", len(list))
		return
	}
	shards, err := shardsIn(d.cfg)
	if err != nil {
		d.fault("stores", "set state.dir to the directory of the stores", "%v", err)
		return
	}
	o, err := holdOffline(d.cfg)
	if err != nil {
		d.fault("stores", "if a process uses the directory, set admin.listen so that it can be asked", "%v", err)
		return
	}
	defer func() { _ = o.close() }()
	for _, shard := range shards {
		err := o.open(shard)
		if err == nil {
			err = d.format(o, shard)
		}
		if err != nil {
			d.fault("stores", "if it is damaged, remove the directory of the shard: it is built again", "shard %d: %v", shard, err)
		}
	}
	d.quiet(n, "stores", "%d, of format %d", len(o.stores), state.Format)
}

// format reads a record, all of which one release has written.
func (d *doctor) format(o *offline, shard int32) (err error) {
	v, err := o.stores[shard].View()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	for _, err := range v.Rows() {
		if newer, ok := errors.AsType[*state.NewerFormatError](err); ok {
			d.fault("stores", "install that release again", "shard %d: %v", shard, newer)
			return nil
		}
		return err // one is enough
	}
	return nil
}

// archive looks how old the newest snapshot is, and whether an import could use it.
func (d *doctor) archive(ctx context.Context) {
	every := d.cfg.Archive.Every.Std()
	if d.cfg.Archive.Dir == "" {
		d.warn("archive", "set archive.dir", "no snapshots are written: if the changelog is lost, all depends on how far back the inputs reach")
		return
	}
	all, err := filepath.Glob(filepath.Join(d.cfg.Archive.Dir, "snapshots", "dt=*", "_SUCCESS"))
	if err != nil || len(all) == 0 {
		if _, err := os.Stat(d.cfg.Archive.Dir); errors.Is(err, fs.ErrPermission) {
			d.fault("archive", "let this user read and write it", "%v", err)
			return
		}
		d.warn("archive", "\"asiduo snapshot\" writes one now", "there is no snapshot below %s", d.cfg.Archive.Dir)
		return
	}
	newest := filepath.Dir(slices.Max(all))
	l, err := archive.Load(ctx, newest)
	if err != nil {
		d.fault("archive", "\"asiduo snapshot\" writes another one", "%v", err)
		return
	}
	age := time.Since(time.UnixMilli(int64(l.AsOf))).Round(time.Second)
	what := fmt.Sprintf("the newest snapshot (%s) is %v old", filepath.Base(newest), age)
	if every > 0 && age > 2*every {
		d.warn("archive", "see the log of the process that has shard 0", "%s, more than two of archive.every (%v)", what, every)
		return
	}
	d.ok("archive", "%s", what)
}
