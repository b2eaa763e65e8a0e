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

// Versions say by which parameters a standing was made. Version 0 is the configuration file.
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
}

// Limits are what one customer may hold; what goes beyond is refused, never silently dropped.
type Limits struct {
	Orders   int // inside the window
	Refunds  int // inside the window
	Purposes int // of consent
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

// Mode of a change effective at t, caused by silence or by a record that may be loaded history.
func (s Telling) mode(t Instant, cause Cause, history bool) Mode {
	if t < s.LiveFrom || (cause == Timer && t < s.StaleBefore) || (cause != Timer && history) {
		return Backfill
	}
	return Live
}
