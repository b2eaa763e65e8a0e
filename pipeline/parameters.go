package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/model"
	"github.com/asiduo/asiduo/state/store"
)

func days(n int) state.Instant { return state.Instant(n) * state.Day }

func millis(d config.Duration) state.Instant { return state.Instant(d.Std().Milliseconds()) }

// Parameters are the scoring parameters of a configuration: version 0. It proves the rule set.
func Parameters(c config.Config) (*state.Parameters, error) {
	rules, err := state.NewRuleSet(c.Rules.Name, segments(c.Rules))
	if err != nil {
		return nil, err
	}
	p := &state.Parameters{Rules: rules, Window: days(c.Rules.WindowDays)}
	for i := range 4 {
		p.Recency[i] = days(c.Rules.RecencyDays[i])
		p.Frequency[i] = c.Rules.Frequency[i]
		m, err := c.Rules.Money.Cuts[i].Minor(c.Digits())
		if err != nil {
			return nil, fmt.Errorf("rules.money.cuts: %w", err)
		}
		p.Money[i] = state.Money(m)
	}
	p.Limits = state.Limits{Orders: c.Limits.OrdersPerCustomer, Refunds: c.Limits.RefundsPerCustomer, Purposes: c.Limits.ConsentPurposes}
	p.Churn, err = churn(c.Churn)
	return p, err
}

func segments(c config.Rules) []state.SegmentRule {
	if c.Name == "rfm11" {
		return state.RFM11()
	}
	rules := make([]state.SegmentRule, len(c.Segments))
	for i, g := range c.Segments {
		rules[i] = state.SegmentRule{Name: g.Name, Rank: g.Rank}
		for _, w := range g.When {
			rules[i].When = append(rules[i].When, state.Cell{R: state.Span(w.R), F: state.Span(w.F), M: state.Span(w.M)})
		}
	}
	return rules
}

func churn(c config.Churn) (m state.Churn, err error) {
	method, ok := state.ParseChurnMethod(c.Method)
	if !ok {
		return m, fmt.Errorf("churn.method: unknown method %q", c.Method)
	}
	m = state.Churn{
		Method: method, Horizon: c.HorizonDays,
		MBGNBD: model.MBGNBD{R: c.Params.R, Alpha: c.Params.Alpha, A: c.Params.A, B: c.Params.B},
		Rhythm: model.Rhythm{ShopGap: c.Params.ShopGapDays},
	}
	for _, x := range []struct {
		to   *state.Millionths
		from config.Decimal
		key  string
	}{
		{&m.Bands[0], c.Bands[0], "bands"}, {&m.Bands[1], c.Bands[1], "bands"},
		{&m.Hysteresis, c.Hysteresis, "hysteresis"}, {&m.Jump, c.Jump, "jump"},
	} {
		n, err := x.from.Millionths()
		if err != nil {
			return m, fmt.Errorf("churn.%s: %w", x.key, err)
		}
		*x.to = state.Millionths(n)
	}
	return m, nil
}

func newDecoder(c config.Config) (*decoder, error) {
	zone, err := time.LoadLocation(c.Time.Zone)
	if err != nil {
		return nil, fmt.Errorf("time.zone: %w", err)
	}
	return &decoder{
		currency: c.Currency, minorDigits: c.Digits(), zone: zone, payloadTime: c.Time.EventTime == "payload",
		maxBytes: c.Limits.MaxRecordBytes, future: state.Instant(c.Limits.FutureHours) * 3_600_000, maxFuture: millis(c.Time.MaxFuture),
	}, nil
}

// Partitioner places a key on one of n partitions as producers do. Whenever s divides n, the key's partition among n
// modulo s is its partition among s: that makes shards independent of partition counts.
type Partitioner func(key []byte, n int32) int32

// NewPartitioner is the partitioner of a name of the configuration.
func NewPartitioner(name string) (Partitioner, error) {
	switch name {
	case "murmur2":
		t := kgo.StickyKeyPartitioner(nil).ForTopic("")
		return func(key []byte, n int32) int32 { return int32(t.Partition(&kgo.Record{Key: key}, int(n))) }, nil
	case "crc32":
		return func(key []byte, n int32) int32 { return int32(crc32.ChecksumIEEE(key) % uint32(n)) }, nil
	case "fnv1a":
		return func(key []byte, n int32) int32 {
			h := fnv.New32a()
			_, _ = h.Write(key)
			return max(int32(h.Sum32())%n, -(int32(h.Sum32()) % n))
		}, nil
	}
	return nil, fmt.Errorf("inputs.partitioner: unknown partitioner %q", name)
}

// made is what the state is made with.
func (p *Pipeline) made() store.Made {
	digest := func(v ...any) string {
		sum := sha256.Sum256(fmt.Appendf(nil, "%+v", v))
		return hex.EncodeToString(sum[:6])
	}
	c, s := p.cfg, p.params
	return store.Made{
		Shards: p.Shards(), Partitioner: c.Inputs.Partitioner, Epoch: c.Epoch, Currency: c.Currency, Digits: c.Digits(), Zone: c.Time.Zone,
		Rules: digest(segments(c.Rules), s.Recency, s.Frequency, s.Money, s.Window), Churn: digest(s.Churn),
	}
}

// madeError says by which keys of the configuration two differ.
func madeError(was, is store.Made) error {
	var keys []string
	for _, k := range []struct {
		key  string
		diff bool
	}{
		{"shards", was.Shards != is.Shards}, {"inputs.partitioner", was.Partitioner != is.Partitioner}, {"epoch", was.Epoch != is.Epoch},
		{"currency", was.Currency != is.Currency}, {"minor_digits", was.Digits != is.Digits}, {"time.zone", was.Zone != is.Zone},
		{"rules", was.Rules != is.Rules}, {"churn", was.Churn != is.Churn},
	} {
		if k.diff {
			keys = append(keys, k.key)
		}
	}
	return fmt.Errorf("the state was made with another %s than the configuration has now: change it back, or begin a new application (another app)", strings.Join(keys, ", "))
}
