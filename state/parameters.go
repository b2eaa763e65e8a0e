package state

import "github.com/asiduo/asiduo/state/model"

// Parameters are everything a score depends on besides facts and time. They are a value: a new version is a new value.
type Parameters struct {
	Recency   [4]Instant // elapsed time after which R falls to 4, 3, 2, 1
	Frequency [4]int     // orders in the window from which F is 2, 3, 4, 5
	Money     [4]Money   // net revenue in the window from which M is 2, 3, 4, 5
	Window    Instant    // length of the window
	Rules     *RuleSet
	Churn     Churn
	Limits    Limits
	Versions  Versions
}

// Versions say by which parameters a standing was made. Cuts of version 0 are those of the rules.
type Versions struct {
	Rules uint32 `json:"rules"`
	Cuts  uint32 `json:"cuts"`
	Model uint32 `json:"model"`
}

// ChurnMethod names how the churn probability is made.
type ChurnMethod uint8

// The churn methods.
const (
	NoChurn ChurnMethod = iota
	ByMBGNBD
	ByRhythm
)

var methodNames = [...]string{"none", "mbg_nbd", "heuristic"}

func (m ChurnMethod) String() string { return methodNames[m] }

// ParseChurnMethod is the inverse of String.
func ParseChurnMethod(s string) (ChurnMethod, bool) {
	for i, name := range methodNames {
		if name == s {
			return ChurnMethod(i), true
		}
	}
	return 0, false
}

// Churn is how the chance of no further order is made and judged.
type Churn struct {
	Method     ChurnMethod
	MBGNBD     model.MBGNBD
	Rhythm     model.Rhythm
	Horizon    int // days
	Bands      [2]Millionths
	Hysteresis Millionths
	Jump       Millionths
	Map        *model.Map        // from the method's probabilities to order to those that are published; nil: as they are
	Ranks      model.Percentiles // of the method's own probabilities; nil: none are published
	Value      *model.Value      // of customers under ByMBGNBD, in minor units; nil: none is told
	Confidence string            // low, medium or high, see Confidences
}

// Percentile is how many percent of the customers with about as many days of orders did not exceed the probability that the
// method itself gives, when the model was made; -1 if no table is published with it.
func (c *Churn) Percentile(p Millionths, orders int64) int {
	if percent, known := c.Ranks.At(int32(p), int(orders)); p != None && known {
		return percent
	}
	return -1
}

// Confidences are how far a model has proved itself: low is a rule of thumb, or parameters of another shop; medium a fit that could not
// be held against what came afterwards, or was not calibrated there; high one that was.
func Confidences() []string { return []string{"low", "medium", "high"} }

// Limits are what one customer may hold; what goes beyond is refused, never silently dropped.
type Limits struct {
	Orders   int // inside the window
	Refunds  int // inside the window
	Purposes int // of consent
}

// MaxBytes is more than any customer within the limits takes when encoded, and any interactions.
func (l *Limits) MaxBytes() (customer, interactions int) {
	const fixed, order, refund, consent = 8 << 10, 56, 34, 272
	return fixed + order*l.Orders + refund*l.Refunds, fixed + consent*l.Purposes
}

// Mode says whether a change is news.
type Mode uint8

// The modes of a change.
const (
	Live Mode = iota
	Backfill
)

func (m Mode) String() string {
	if m == Live {
		return "live"
	}
	return "backfill"
}

// Telling decides which changes are announced. It is the operator's, not the customer's.
type Telling struct {
	LiveFrom     Instant // changes effective earlier are backfill; 0 or less: none are
	EmitBackfill bool    // backfill is announced, marked as such
	StaleBefore  Instant // silence due earlier than this is backfill: found so late that it is no news
}

// Mode of a change effective at t, caused by silence, or by a record or new parameters that may be no news.
func (s Telling) mode(t Instant, cause Cause, history bool) Mode {
	if t < s.LiveFrom || (cause == Timer && t < s.StaleBefore) || (cause != Timer && history) {
		return Backfill
	}
	return Live
}
