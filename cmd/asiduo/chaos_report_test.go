//go:build kafka

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// witness says everything that was wrong again when all is over, below the logs of the processes: what a test printed
// last is what is kept.
type witness struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func newWitness(t *testing.T) *witness {
	w := &witness{TB: t}
	t.Cleanup(func() {
		if len(w.said) > 0 {
			t.Logf("What was wrong:\n%s", strings.Join(w.said, "\n"))
		}
	})
	return w
}

func (w *witness) note(text string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
	return text
}

func (w *witness) Error(a ...any) {
	w.Helper()
	w.TB.Error(w.note(fmt.Sprint(a...)))
}

func (w *witness) Errorf(format string, a ...any) {
	w.Helper()
	w.TB.Error(w.note(fmt.Sprintf(format, a...)))
}

func (w *witness) Fatal(a ...any) {
	w.Helper()
	w.TB.Fatal(w.note(fmt.Sprint(a...)))
}

func (w *witness) Fatalf(format string, a ...any) {
	w.Helper()
	w.TB.Fatal(w.note(fmt.Sprintf(format, a...)))
}

// distribution is what was measured, for the report.
type distribution []time.Duration

func (d distribution) String() string {
	if len(d) == 0 {
		return "never"
	}
	slices.Sort(d)
	at := func(percent int) time.Duration { return d[(len(d)-1)*percent/100].Round(10 * time.Millisecond) }
	return fmt.Sprintf("%d times, p50 %v, p95 %v, longest %v", len(d), at(50), at(95), at(100))
}

// takeover is from when a process does nothing any more to the first committed cycle of one of its shards under a new
// owner: another process, or the same one started again.
type takeover struct {
	fault  int // its number
	shard  int
	took   time.Duration
	itself bool
	alone  bool // nothing else was wrong meanwhile
}

func (a *arena) takeovers(l *tail) (list []takeover) {
	process := map[string]string{}
	for _, v := range a.all {
		for id := range v.instances {
			process[id] = v.name
		}
	}
	for i := range l.shards {
		s := &l.shards[i]
		by := map[string]string{}
		for _, o := range s.owners {
			by[o.owner] = process[o.instance]
		}
		for n, f := range a.faults {
			was := slices.IndexFunc(s.owners, func(o ownership) bool { return o.at.After(f.at) })
			if !f.gone || was == 0 {
				continue
			}
			if was < 0 {
				was = len(s.owners)
			}
			owner := s.owners[was-1].owner
			if by[owner] != f.to {
				continue
			}
			next := slices.IndexFunc(s.cycles, func(c cycleSeen) bool { return c.at.After(f.at) && c.owner != owner })
			wentOn := func(c cycleSeen) bool { return c.owner == owner && c.at.After(f.at.Add(time.Second)) } // it thawed before its session was over
			if next >= 0 && !slices.ContainsFunc(s.cycles[:next], wentOn) {
				c := s.cycles[next]
				list = append(list, takeover{n, i, c.at.Sub(f.at), by[c.owner] == f.to, a.alone(n, c.at)})
			}
		}
	}
	slices.SortFunc(list, func(a, b takeover) int { return cmp.Compare(b.took, a.took) })
	return list
}

// alone says whether a fault was the only one from shortly before it to an instant; what others had begun may go on for
// some seconds.
func (a *arena) alone(n int, until time.Time) bool {
	for i, f := range a.faults {
		if i != n && f.at.After(a.faults[n].at.Add(-15*time.Second)) && f.at.Before(until) {
			return false
		}
	}
	return true
}

// distribution is that of take-overs for which a condition holds.
func (a *arena) distribution(list []takeover, when func(takeover) bool) (d distribution) {
	for _, t := range list {
		if when(t) {
			d = append(d, t.took)
		}
	}
	return d
}

// flaps counts shards that came back within ten seconds to whom they had been taken from.
func (a *arena) flaps(l *tail) (n int) {
	for i := range l.shards {
		owners := slices.CompactFunc(slices.Clone(l.shards[i].owners), func(a, b ownership) bool { return a.instance == b.instance })
		for k := 2; k < len(owners); k++ {
			if owners[k].instance == owners[k-2].instance && owners[k].at.Sub(owners[k-2].at) < 10*time.Second {
				n++
			}
		}
	}
	return n
}

// diary is what the processes have logged about themselves.
type diary struct {
	closed, rebuilt, exits map[string]int
	bad                    []string // what must not be
	restored, unmarked     int
}

// readLogs reads the logs of all processes.
func (a *arena) readLogs() diary {
	g := diary{map[string]int{}, map[string]int{}, map[string]int{}, nil, 0, 0}
	for _, v := range a.all {
		for _, e := range v.exits {
			if e.reachless() {
				g.exits["no broker reachable at the start"]++
			} else {
				g.bad = append(g.bad, v.name+" ended: "+e.String())
			}
		}
		f, err := os.Open(v.log)
		if err != nil {
			g.bad = append(g.bad, err.Error())
			continue
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var m struct{ Msg, Reason, Err string }
			if json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &m) != nil {
				if strings.Contains(lines.Text(), "panic") || strings.Contains(lines.Text(), "goroutine ") {
					g.bad = append(g.bad, v.name+": "+lines.Text())
				}
				continue
			}
			switch {
			case strings.Contains(m.Msg, "panic") || strings.Contains(m.Err, "panic"), m.Msg == "shard stopped":
				g.bad = append(g.bad, v.name+": "+lines.Text())
			case m.Msg == "shard restored":
				g.restored++
			case strings.HasPrefix(m.Msg, "the brokers have not marked the last transaction as committed"):
				g.unmarked++
			case m.Msg == "shard closed, acquiring it again":
				g.closed[m.Reason]++
			case strings.HasPrefix(m.Msg, "store does not open"):
				g.bad = append(g.bad, v.name+": "+lines.Text())
			case strings.HasPrefix(m.Msg, "store is set aside"):
				g.rebuilt[rebuildReason(m.Err)]++
			}
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			g.bad = append(g.bad, v.name+": "+err.Error())
		}
	}
	return g
}

func rebuildReason(err string) string {
	for _, s := range []string{
		"older than half", "leader epoch", "its checkpoint is not at offset", "begins where the changelog does not reach", "made again",
	} {
		if strings.Contains(err, s) {
			return s
		}
	}
	return err
}

// counted prints counts, the greatest first.
func counted(m map[string]int) string {
	var parts []string
	for _, k := range slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	}) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
