package config

import (
	"fmt"
	"reflect"
	"time"

	"go.yaml.in/yaml/v4"
)

// Validate finds everything that is wrong with a configuration built in code. The error is Faults, without positions.
func (c Config) Validate() error {
	root, err := node(reflect.ValueOf(c))
	if err != nil {
		return err
	}
	d := &doc{root: root, bad: map[string]bool{}, fromEnv: map[*yaml.Node]bool{}}
	d.structure()
	d.rules(c)
	for i := range d.faults {
		d.faults[i].Line, d.faults[i].Col = 0, 0
	}
	return d.faults.orNil()
}

// checker applies the rules that go beyond the schema.
type checker struct {
	d *doc
	c Config
}

// rules checks a configuration whose structure was checked before.
func (d *doc) rules(c Config) {
	r := checker{d: d, c: c}
	r.money()
	r.clock()
	r.segments()
	r.churn()
	r.value()
	r.cycle()
	r.state()
	r.kafka()
	r.inputs()
	r.listeners()
	r.tracing()
}

// need reports a rule that does not hold. The rule looks at the values at the paths and is left out when one of them
// already has a fault; the first path is blamed, at the position of the first that the file has.
func (r checker) need(holds bool, message string, paths ...string) {
	if holds {
		return
	}
	for _, path := range paths {
		if r.d.spoilt(path) {
			return
		}
	}
	at := r.d.root
	for _, path := range paths {
		if n := r.d.key(path); n != nil {
			at = n
			break
		}
	}
	r.d.faults = append(r.d.faults, Fault{File: r.d.file, Line: max(at.Line, 1), Col: max(at.Column, 1), Message: paths[0] + ": " + message})
}

// key is the node of a key by its path, of the entry for the entry of a list; nil if the file does not have it.
func (d *doc) key(path string) *yaml.Node {
	at, n := (*yaml.Node)(nil), d.root
	for _, step := range steps(path) {
		if n.Kind == yaml.SequenceNode {
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(n.Content) {
				return nil
			}
			at, n = n.Content[i], n.Content[i]
			continue
		}
		if at, n = lookup(n, step); at == nil {
			return nil
		}
	}
	return at
}

func (r checker) money() {
	r.need(r.c.MinorDigits >= 0 || !noMinorUnit[r.c.Currency],
		"ISO 4217 gives "+r.c.Currency+" no minor unit; say how many digits it has", "minor_digits", "currency")
	m := r.c.Rules.Money
	r.cuts("rules.money.cuts", m.Cuts[:])
	r.need(len(m.InitialCuts) == 0 || len(m.InitialCuts) == 4, fmt.Sprintf("must have four entries or none, found %d", len(m.InitialCuts)), "rules.money.initial_cuts")
	r.need(len(m.InitialCuts) == 0 || m.Mode == "quintiles", "has no effect unless rules.money.mode is quintiles", "rules.money.initial_cuts", "rules.money.mode")
	r.cuts("rules.money.initial_cuts", m.InitialCuts)
}

// cuts holds that amounts ascend, as they are after rounding.
func (r checker) cuts(path string, list []Decimal) {
	digits := r.c.Digits()
	previous := int64(0)
	for i, cut := range list {
		at := index(path, i)
		n, err := cut.Minor(digits)
		if err != nil {
			r.need(false, err.Error(), at)
			return
		}
		if i > 0 {
			r.need(n > previous, fmt.Sprintf("the cuts must ascend, rounded to %d digits of %s; %s does not exceed %s",
				digits, r.c.Currency, cut, list[i-1]), at, index(path, i-1), "currency", "minor_digits")
		}
		previous = n
	}
}

func (r checker) clock() {
	t := r.c.Time
	_, err := time.LoadLocation(t.Zone)
	r.need(err == nil && t.Zone != "Local",
		fmt.Sprintf("%q is not a time zone such as UTC or Europe/Madrid", t.Zone), "time.zone")
	every := r.c.Archive.Every.Std()
	r.need(every == 0 || every >= time.Minute && every <= day, "must be between 1m and 24h, or 0 for snapshots by command only", "archive.every")
}

func (r checker) segments() {
	rules := r.c.Rules
	r.need(rules.Name == "own" || len(rules.Segments) == 0, "has no effect unless rules.name is own", "rules.segments", "rules.name")
	r.need(rules.Name != "own" || len(rules.Segments) > 0, "needs rules.segments", "rules.name", "rules.segments")
	r.ascending("rules.recency_days", rules.RecencyDays, 1)
	r.ascending("rules.frequency", rules.Frequency, 2)
	r.need(rules.WindowDays > rules.RecencyDays[3],
		fmt.Sprintf("must exceed the last of rules.recency_days (%d), or customers leave the window before R is 1", rules.RecencyDays[3]),
		"rules.window_days", "rules.recency_days")
	r.need(r.c.Limits.OrdersPerCustomer >= rules.Frequency[3],
		fmt.Sprintf("must be at least the last of rules.frequency (%d), or nobody reaches F 5", rules.Frequency[3]),
		"limits.orders_per_customer", "rules.frequency")
}

func (r checker) ascending(path string, list [4]int, least int) {
	r.need(list[0] >= least, fmt.Sprintf("must be at least %d, found %d", least, list[0]), index(path, 0))
	for i := 1; i < len(list); i++ {
		r.need(list[i] > list[i-1], fmt.Sprintf("the entries must ascend; %d does not exceed %d", list[i], list[i-1]),
			index(path, i), index(path, i-1))
	}
}

const million = 1_000_000

func (r checker) churn() {
	c := r.c.Churn
	p := c.Params
	within := func(method string, value, most float64, key string) {
		r.need(c.Method != method || value >= 1e-4 && value <= most, fmt.Sprintf("must be from 0.0001 to %g for the method %s, found %v", most, method, value),
			"churn.params."+key, "churn.method")
	}
	within("mbg_nbd", p.R, 1e6, "r")
	within("mbg_nbd", p.Alpha, 1e7, "alpha")
	within("mbg_nbd", p.A, 1e6, "a")
	within("mbg_nbd", p.B, 1e6, "b")
	within("heuristic", p.ShopGapDays, 1e7, "shop_gap_days")

	medium, okMedium := r.millionths("churn.bands[0]", c.Bands[0])
	high, okHigh := r.millionths("churn.bands[1]", c.Bands[1])
	for i, band := range []int64{medium, high} {
		ok := []bool{okMedium, okHigh}[i]
		r.need(!ok || band > 0 && band < million, fmt.Sprintf("must lie between 0 and 1, found %s", c.Bands[i]), index("churn.bands", i))
	}
	r.need(!okMedium || !okHigh || medium < high, fmt.Sprintf("the bands must ascend; %s does not exceed %s", c.Bands[1], c.Bands[0]),
		"churn.bands[1]", "churn.bands[0]")
	if h, ok := r.millionths("churn.hysteresis", c.Hysteresis); ok && okMedium {
		r.need(h >= 0 && h < medium, fmt.Sprintf("must be at least 0 and less than the first of churn.bands (%s), found %s", c.Bands[0], c.Hysteresis),
			"churn.hysteresis", "churn.bands[0]")
	}
	if jump, ok := r.millionths("churn.jump", c.Jump); ok {
		r.need(jump > 0 && jump <= million, fmt.Sprintf("must be more than 0 and at most 1, found %s", c.Jump), "churn.jump")
	}
}

func (r checker) value() {
	v := r.c.Value
	if rate, ok := r.millionths("value.annual_rate", v.AnnualRate); ok {
		r.need(rate >= 0 && rate <= 10*million, fmt.Sprintf("must be at least 0 and at most 10, found %s", v.AnnualRate), "value.annual_rate")
	}
	if margin, ok := r.millionths("value.margin", v.Margin); ok {
		r.need(margin > 0 && margin <= million, fmt.Sprintf("must be more than 0 and at most 1, found %s", v.Margin), "value.margin")
	}
}

func (r checker) millionths(path string, d Decimal) (int64, bool) {
	n, err := d.Millionths()
	if err != nil {
		r.need(false, err.Error(), path)
	}
	return n, err == nil
}

func (r checker) cycle() {
	c, g := r.c.Cycle, r.c.Group
	r.between("cycle.transaction_timeout", c.TransactionTimeout, Duration(time.Second), Duration(15*time.Minute))
	r.need(c.Deadline > 0, "must be more than 0", "cycle.deadline")
	r.need(c.Deadline <= c.TransactionTimeout,
		fmt.Sprintf("must not exceed cycle.transaction_timeout (%s), found %s", c.TransactionTimeout, c.Deadline), "cycle.deadline", "cycle.transaction_timeout")
	r.need(c.Min < c.Deadline || c.Deadline <= 0, fmt.Sprintf("must be less than cycle.deadline (%s), found %s", c.Deadline, c.Min), "cycle.min", "cycle.deadline")
	r.need(c.Bytes >= 1<<10, fmt.Sprintf("must be at least 1KiB, found %s", c.Bytes), "cycle.bytes")
	r.need(c.FetchBuffer >= 64<<10, fmt.Sprintf("must be at least 64KiB, found %s", c.FetchBuffer), "cycle.fetch_buffer")
	r.between("group.session_timeout", g.SessionTimeout, Duration(time.Second), Duration(30*time.Minute))
	r.need(g.Heartbeat > 0, "must be more than 0", "group.heartbeat")
	r.need(g.Heartbeat < g.SessionTimeout/2, fmt.Sprintf("must be less than half of group.session_timeout (%s), found %s", g.SessionTimeout, g.Heartbeat),
		"group.heartbeat", "group.session_timeout")
}

func (r checker) between(path string, d, least, most Duration) {
	r.need(d >= least && d <= most, fmt.Sprintf("must be between %s and %s, found %s", least, most, d), path)
}

// cacheMemtables is how many write buffers the block cache must have room for: the database charges them to it.
const cacheMemtables = 4

func (r checker) state() {
	s := r.c.State
	r.need(s.Memtable >= 64<<10 && s.Memtable <= 1<<30, fmt.Sprintf("must be between 64KiB and 1GiB, found %s", s.Memtable), "state.memtable")
	r.need(s.BlockCache/cacheMemtables >= s.Memtable, fmt.Sprintf("must have room for %d write buffers of state.memtable (%s), found %s", cacheMemtables, s.Memtable, s.BlockCache),
		"state.block_cache", "state.memtable")
	r.between("state.flush_every", s.FlushEvery, Duration(100*time.Millisecond), Duration(time.Hour))
	r.need(r.c.Outputs.ReplicationFactor != 0, "must be at least 1, or -1 for the brokers' default", "outputs.replication_factor")
}
