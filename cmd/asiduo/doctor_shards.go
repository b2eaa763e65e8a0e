package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// serving asks the process that runs with this configuration how its shards do.
func (d *doctor) serving(ctx context.Context) {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	n := len(d.found)
	at := d.cfg.Admin.Listen
	var text strings.Builder
	err := ask(ctx, d.cfg, "GET", "/v1/shards", &text)
	if errors.Is(err, errNotRunning) {
		d.ok("shards", "no process answers at admin.listen (%q)", at)
		return
	}
	var answer struct {
		Shards []struct {
			Shard         int32
			State, Reason string
		}
	}
	if err == nil {
		err = json.Unmarshal([]byte(text.String()), &answer)
	}
	if err != nil {
		d.fault("shards", "see its log, and restart it if it stays so", "%v", err)
		return
	}
	for _, s := range answer.Shards {
		what := fmt.Sprintf("shard %d is %s", s.Shard, s.State)
		if s.Reason != "" {
			what += ": " + s.Reason
		}
		switch {
		case s.State == "running" && s.Reason == "":
		case s.State == "running":
			d.warn("shards", d.remedy(s.Reason, "see deploy/runbooks/AsiduoSilenceLate.md"), "%s", what)
		case s.State == "stopped":
			d.fault("shards", d.remedy(s.Reason, "see deploy/runbooks/AsiduoShardNotServed.md"), "%s", what)
		case s.State == "disk_full":
			d.fault("shards", "make room below "+d.cfg.State.Dir, "%s", what)
		case s.State == "closed":
			d.fault("shards", "it tries again by itself; if that does not help, see deploy/runbooks/AsiduoCommitFailing.md", "%s", what)
		default:
			d.warn("shards", "look again in a moment", "%s", what)
		}
	}
	d.quiet(n, "shards", "the process at %s runs %d", at, len(answer.Shards))
}
