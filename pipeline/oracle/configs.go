package oracle

import (
	"fmt"

	"pgregory.net/rapid"
)

// firstInstant is where generated logs begin: 2024-01-15, so that the clock
// changes of a year lie ahead.
const firstInstant int64 = 1_705_276_800_000

// Configs generates valid configurations of every kind.  The simplest one, to which
// failures shrink, is live from the start and has one partition.
func Configs() *rapid.Generator[Config] {
	return rapid.Custom(func(t *rapid.T) Config {
		currency := rapid.IntRange(0, 2).Draw(t, "currency")
		cfg := Config{
			App:         rapid.SampledFrom([]string{"conf", "shop-eu"}).Draw(t, "app"),
			Epoch:       rapid.IntRange(1, 3).Draw(t, "epoch"),
			Clock:       "manual",
			EventTime:   rapid.SampledFrom([]string{"record", "payload"}).Draw(t, "event_time"),
			EndClock:    timeText(instantAfter(t, "end_clock")),
			Backfill:    rapid.SampledFrom([]string{"silent", "emit"}).Draw(t, "backfill"),
			Partitions:  rapid.SampledFrom([]int32{1, 2, 4}).Draw(t, "partitions"),
			Inputs:      Inputs{Purchases: "purchases", Interactions: "interactions"},
			Currency:    []string{"EUR", "JPY", "KWD"}[currency],
			MinorDigits: []int{2, 0, 3}[currency],
			TimeZone:    rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York"}).Draw(t, "time_zone"),
			Limits: Limits{
				MaxRecordBytes: rapid.SampledFrom([]int{1024, 4096}).Draw(t, "max_record_bytes"),
				FutureHours:    int64(rapid.SampledFrom([]int{24, 1, 48}).Draw(t, "future_hours")),
			},
		}
		cfg.Rules = drawRules(t, cfg.MinorDigits)
		cfg.Churn = drawChurn(t)
		if rapid.Bool().Draw(t, "has live_from") {
			at := timeText(instantAfter(t, "live_from"))
			cfg.LiveFrom = &at
		}
		return cfg
	})
}

// instantAfter draws an instant within some years of the log's begin, often on a whole day.
func instantAfter(t *rapid.T, label string) int64 {
	return firstInstant + int64(rapid.IntRange(0, 2000).Draw(t, label+" day"))*day +
		int64(rapid.IntRange(0, 3).Draw(t, label+" ms"))
}

// ascending draws n integers, each at least one step above the one before.
func ascending(t *rapid.T, label string, n, first, step int) []int {
	cuts := make([]int, n)
	below := 0
	for i := range cuts {
		if i == 0 {
			cuts[i] = rapid.IntRange(1, first).Draw(t, label)
		} else {
			cuts[i] = below + rapid.IntRange(1, step).Draw(t, label)
		}
		below = cuts[i]
	}
	return cuts
}

func drawRules(t *rapid.T, digits int) Rules {
	rules := Rules{Name: "rfm11", RecencyDays: []int{30, 90, 180, 365}, WindowDays: 730, Money: Money{Mode: "fixed"}}
	if rapid.Bool().Draw(t, "own recency cuts") {
		rules.RecencyDays = ascending(t, "recency_days", 4, 30, 90)
		rules.WindowDays = rules.RecencyDays[3] + rapid.IntRange(1, 400).Draw(t, "window_days")
	}
	rules.Frequency = ascending(t, "frequency", 4, 1, 3)
	for i := range rules.Frequency {
		rules.Frequency[i]++ // the first cut is above one order
	}
	for _, cut := range ascending(t, "money", 4, 20_000, 20_000) {
		rules.Money.Cuts = append(rules.Money.Cuts, moneyText(int64(cut), digits))
	}
	return rules
}

func drawChurn(t *rapid.T) Churn {
	percent := func(n int) string { return fmt.Sprintf("0.%02d", n) }
	thousandths := func(label string, from, to int) float64 {
		return float64(rapid.IntRange(from, to).Draw(t, label)) / 1000
	}
	low := rapid.IntRange(15, 60).Draw(t, "low band")
	c := Churn{
		Method:      rapid.SampledFrom([]string{"mbg_nbd", "heuristic"}).Draw(t, "method"),
		HorizonDays: rapid.SampledFrom([]int{90, 1, 30, 365}).Draw(t, "horizon_days"),
		Bands:       []string{percent(low), percent(low + rapid.IntRange(12, 35).Draw(t, "high band"))},
		Hysteresis:  percent(rapid.IntRange(0, 10).Draw(t, "hysteresis")),
		Jump:        percent(rapid.IntRange(5, 50).Draw(t, "jump")),
	}
	if c.Method == "heuristic" {
		c.Params.ShopGapDays = float64(rapid.IntRange(1, 60).Draw(t, "shop_gap_days"))
		return c
	}
	c.Params.R = thousandths("r", 100, 3000)
	c.Params.Alpha = thousandths("alpha", 1000, 90_000)
	c.Params.A = thousandths("a", 100, 3000)
	c.Params.B = thousandths("b", 100, 3000)
	return c
}
