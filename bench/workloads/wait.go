package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/asiduo/asiduo/bench/measure"
)

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return text, err
}

// cut is what follows the name of a metric in a series; false if the series is of another.
func cut(series, name string) (rest string, found bool) {
	rest, found = strings.CutPrefix(series, name)
	return rest, found && (rest == "" || rest[0] == '{')
}

// cost is what a load has cost.
type cost struct {
	whole, half, rate float64 // as measure.Account says
	took              time.Duration
}

// grace is the default of time.grace.
const grace = 2 * time.Second

// caughtUp waits until processes of one application have done so many records, which are there, and all silence until an instant.
func caughtUp(ctx context.Context, records int64, until time.Time, es ...*engine) (c cost, err error) {
	var samples []measure.Sample
	silence := float64(until.Add(-grace).UnixMilli()) / 1000
	err = es[0].until(ctx, "read what is there", 500*time.Millisecond, func() (bool, error) {
		s := measure.Sample{At: time.Since(es[0].began)}
		var horizons []float64 // of all shards
		for _, e := range es {
			f, err := e.metrics(ctx)
			if err != nil {
				return false, err
			}
			s.CPU += e.cpu()
			s.Done += int64(f.sum("asiduo_records_consumed_total"))
			horizons = append(horizons, f.of("asiduo_horizon_timestamp_seconds")...)
		}
		samples = append(samples, s)
		if s.Done > records {
			return false, fmt.Errorf("%d records read, there are %d", s.Done, records)
		}
		return s.Done == records && len(horizons) >= es[0].shards && slices.Min(horizons) >= silence, nil
	})
	if err != nil {
		return c, err
	}
	c.took = samples[len(samples)-1].At
	c.whole, c.half, c.rate = measure.Account(samples, records)
	return c, nil
}

// consumed waits until the process, which began before there was anything, has read so many records.
func (e *engine) consumed(ctx context.Context, records int64) error {
	return e.until(ctx, "read all", 250*time.Millisecond, func() (bool, error) {
		f, err := e.metrics(ctx)
		return err == nil && int64(f.sum("asiduo_records_consumed_total")) >= records, err
	})
}

// halfLoad is how many records a second make half of the load that the machine can bear: half of its cores are asiduo's, the others
// the broker's and ours, and asiduo is to be busy half of the time.
func (o *options) halfLoad(c cost) float64 {
	if o.rate > 0 {
		return o.rate
	}
	return float64(runtime.NumCPU()) / 4 / (c.half / 1e6)
}

// between keeps a length of time that follows from the load in bounds.
func between(least, is, most time.Duration) time.Duration { return min(max(least, is), most) }

// pause waits while a process runs.
func (e *engine) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.ended:
		return e.broken(errors.New("it has ended"))
	case <-time.After(d):
		return nil
	}
}
