package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/asiduo/asiduo/sinks/archive"
)

// DriftSeries is the drift from snapshot to snapshot.
type DriftSeries struct {
	Every   int        `json:"every_days"`
	Steps   []*Drifted `json:"steps"`
	Skipped []string   `json:"skipped,omitempty"` // days whose snapshots were made while a new version was adopted
}

// series goes from the first snapshot to the last, each time to the next that is at least so many days later.
func (c *drifting) series(ctx context.Context) (*DriftSeries, error) {
	days, err := archive.Days(c.archive)
	if err != nil {
		return nil, err
	}
	s, from := &DriftSeries{Every: c.every}, c.from
	next, err := later(from, c.every)
	if err != nil {
		return nil, err
	}
	for _, to := range days {
		if to < next || to > c.to {
			continue
		}
		d, err := c.between(ctx, from, to)
		if adopting, ok := errors.AsType[*adoptingError](err); ok && adopting.day == to {
			s.Skipped = append(s.Skipped, to)
			continue
		}
		if err != nil {
			return nil, err
		}
		s.Steps = append(s.Steps, d)
		from = to
		if next, err = later(from, c.every); err != nil {
			return nil, err
		}
	}
	if len(s.Steps) == 0 {
		return nil, fmt.Errorf("no snapshot up to %s is %d days later than that of %s", c.to, c.every, c.from)
	}
	return s, nil
}

// later is the day so many days after another.
func later(day string, days int) (string, error) {
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return "", usageError{fmt.Errorf("%q is not a day such as 2026-05-01", day)}
	}
	return at.AddDate(0, 0, days).Format(time.DateOnly), nil
}

// writeText is a line for each step, and what they come to. A ratio of one week says little where few order.
func (s *DriftSeries) writeText(out io.Writer) error {
	w := columnsOf(out)
	fmt.Fprintln(w, "up to the end of\tdays\tmodel\tcustomers\torders expected\tcame\tratio\twho order, expected\tcame\tratio\tstability\t")
	var expected, came float64
	for _, d := range s.Steps {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t", d.To, d.Days, d.Version, d.Known)
		if d.Orders == nil {
			fmt.Fprint(w, "-\t-\t-\t-\t-\t-\t")
		} else {
			fmt.Fprintf(w, "%.1f\t%.0f\t%.3f\t%.1f\t%.0f\t%.3f\t", d.Orders.Expected, d.Orders.Came, d.Orders.Ratio, d.Buyers.Expected, d.Buyers.Came, d.Buyers.Ratio)
			expected, came = expected+d.Orders.Expected, came+d.Orders.Came
		}
		if d.Stable == nil {
			fmt.Fprintln(w, "-\t")
		} else {
			fmt.Fprintf(w, "%.4f\t\n", *d.Stable)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if expected > 0 {
		fmt.Fprintf(out, "\n%.1f orders expected, each step with what was known at its beginning; %.0f came: ratio %.3f\n", expected, came, came/expected)
	}
	for _, day := range s.Skipped {
		fmt.Fprintf(out, "the snapshot of %s was made while a new version was adopted, and is left out\n", day)
	}
	return nil
}
