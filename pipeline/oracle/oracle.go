// Package oracle is a brute-force scorer, used only by tests: it says what a
// log of records must lead to.
//
// It keeps every accepted fact of a customer and scores the customer anew from
// all of them at each instant at which anything could change.  It imports
// nothing else of this module, so that a fault of the product cannot be a
// fault of its judge as well.  Comments give the sections of the semantics
// page that a piece of code follows.
//
// [Play] computes outputs, [Diff] judges others against them, [ReadCase],
// [WriteInput] and [ReadOutputs] read and write the files of the conformance
// cases, [Configs] and [Logs] generate inputs for property tests.
package oracle

import (
	"fmt"
	"time"
)

// The names of the output topics, without the application's prefix.
const (
	SegmentChanges = "segment-changes"
	ChurnRisk      = "churn-risk"
	Profiles       = "profiles"
	DeadLetters    = "dead-letters"
)

// Config mirrors "config" of case.json.
type Config struct {
	App         string  `json:"app"`
	Epoch       int     `json:"epoch"`
	Clock       string  `json:"clock"`
	EventTime   string  `json:"event_time"`
	EndClock    string  `json:"end_clock"`
	LiveFrom    *string `json:"live_from"`
	Backfill    string  `json:"backfill"`
	Partitions  int32   `json:"partitions"`
	Inputs      Inputs  `json:"inputs"`
	Currency    string  `json:"currency"`
	MinorDigits int     `json:"minor_digits"`
	TimeZone    string  `json:"time_zone"`
	Rules       Rules   `json:"rules"`
	Churn       Churn   `json:"churn"`
	Limits      Limits  `json:"limits"`
}

// Inputs names the two input topics.
type Inputs struct {
	Purchases    string `json:"purchases"`
	Interactions string `json:"interactions"`
}

// Rules are the cuts of the three scores and the window of frequency and money.
type Rules struct {
	Name        string `json:"name"`
	RecencyDays []int  `json:"recency_days"`
	Frequency   []int  `json:"frequency"`
	Money       Money  `json:"money"`
	WindowDays  int    `json:"window_days"`
}

// Money holds the cuts of the money score as decimals of the pipeline's currency.
type Money struct {
	Mode string   `json:"mode"`
	Cuts []string `json:"cuts"`
}

// Churn is the churn model, its bands and the distances that make an event.
type Churn struct {
	Method      string      `json:"method"`
	Params      ChurnParams `json:"params"`
	HorizonDays int         `json:"horizon_days"`
	Bands       []string    `json:"bands"`
	Hysteresis  string      `json:"hysteresis"`
	Jump        string      `json:"jump"`
}

// ChurnParams has R, Alpha, A and B for mbg_nbd, ShopGapDays for heuristic.
type ChurnParams struct {
	R           float64 `json:"r,omitempty"`
	Alpha       float64 `json:"alpha,omitempty"`
	A           float64 `json:"a,omitempty"`
	B           float64 `json:"b,omitempty"`
	ShopGapDays float64 `json:"shop_gap_days,omitempty"`
}

// Limits bound what a record may be.
type Limits struct {
	MaxRecordBytes int   `json:"max_record_bytes"`
	FutureHours    int64 `json:"future_hours"`
}

// Record is one input record.  A nil Key or Value is null.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	Timestamp  int64
	Key, Value []byte
	Headers    map[string]string
}

// GoString shows a record as Go source with readable key and value, so that the
// logs that property tests fail with can be read and pasted.
func (r Record) GoString() string {
	bytes := func(b []byte) string {
		if b == nil {
			return "nil"
		}
		return fmt.Sprintf("[]byte(%#q)", b)
	}
	return fmt.Sprintf("oracle.Record{Topic: %q, Partition: %d, Offset: %d, Timestamp: %d, Key: %s, Value: %s, Headers: %#v}",
		r.Topic, r.Partition, r.Offset, r.Timestamp, bytes(r.Key), bytes(r.Value), r.Headers)
}

// Output is one output record.
type Output struct {
	// Topic is without the application's prefix.
	Topic string
	// Key is nil for null.
	Key     []byte
	Headers map[string]string
	// Value is the decoded JSON object, numbers as json.Number.  It is nil for
	// tombstones and dead letters.
	Value map[string]any
	// Raw is the original value of a dead letter, nil for null.
	Raw []byte
	// RawUnknown marks a dead letter read from a dump that leaves the value out.
	RawUnknown bool
}

// Case is one conformance case.
type Case struct {
	Name   string
	About  string
	Config Config
	Input  []Record
	Want   []Output
}

// plan is a Config with its texts turned into numbers.
type plan struct {
	Config
	zone             *time.Location
	liveFrom         *int64
	end              int64
	recency          []int64  // c1..c4 in milliseconds
	window           int64    // W in milliseconds
	moneyCuts        []int64  // minor units
	bands            [2]int64 // millionths, as are the next two
	hysteresis, jump int64
}

func newPlan(cfg Config) (*plan, error) {
	p := &plan{Config: cfg}
	var err error
	if p.zone, err = time.LoadLocation(cfg.TimeZone); err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	var ok bool
	if p.end, ok = parseTime(cfg.EndClock); !ok {
		return nil, fmt.Errorf("oracle: end_clock %q is not a time", cfg.EndClock)
	}
	if cfg.LiveFrom != nil {
		at, ok := parseTime(*cfg.LiveFrom)
		if !ok {
			return nil, fmt.Errorf("oracle: live_from %q is not a time", *cfg.LiveFrom)
		}
		p.liveFrom = &at
	}
	if len(cfg.Rules.RecencyDays) != 4 || len(cfg.Rules.Frequency) != 4 || len(cfg.Rules.Money.Cuts) != 4 || len(cfg.Churn.Bands) != 2 {
		return nil, fmt.Errorf("oracle: four cuts of each score and two bands are needed")
	}
	for _, c := range cfg.Rules.RecencyDays {
		p.recency = append(p.recency, int64(c)*day)
	}
	p.window = int64(cfg.Rules.WindowDays) * day
	for _, c := range cfg.Rules.Money.Cuts {
		minor, ok := scaled(c, cfg.MinorDigits)
		if !ok {
			return nil, fmt.Errorf("oracle: money cut %q is not a decimal", c)
		}
		p.moneyCuts = append(p.moneyCuts, minor)
	}
	for i, text := range []string{cfg.Churn.Bands[0], cfg.Churn.Bands[1], cfg.Churn.Hysteresis, cfg.Churn.Jump} {
		millionths, ok := scaled(text, 6)
		if !ok {
			return nil, fmt.Errorf("oracle: churn threshold %q is not a decimal", text)
		}
		*[]*int64{&p.bands[0], &p.bands[1], &p.hysteresis, &p.jump}[i] = millionths
	}
	return p, nil
}
