// Package state is what is known about a customer: the facts as a join, the standing as a path, and the scores as a
// pure function of facts, parameters and an instant. It is pure: no clock, disk, network, logger or goroutine; time is
// an argument, and calendar arithmetic has happened before.
package state

import "math"

// Instant is milliseconds since 1970-01-01T00:00:00Z.
type Instant int64

// Day is 24 hours. Calendar days exist only in Order.Day.
const Day Instant = 86_400_000

// Never is later than every instant that can occur.
const Never Instant = 1<<63 - 1

// Money is an amount in minor units of the pipeline's currency.
type Money int64

// MaxMoney bounds every single amount, so that the sums over a ledger cannot overflow.
const MaxMoney Money = 999_999_999_999_999

// Millionths is a probability as an integer; None is the absence of one.
type Millionths int32

// None is the Millionths of a customer who has no probability.
const None Millionths = -1

// One is certainty.
const One Millionths = 1_000_000

// InMillionths rounds a probability half up; the conversion keeps the compiler from fusing the product with the sum.
func InMillionths(p float64) Millionths { return Millionths(math.Floor(float64(p*1e6) + 0.5)) }
