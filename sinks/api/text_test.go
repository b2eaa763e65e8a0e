package api

import (
	"encoding/json"
	"testing"

	"github.com/asiduo/asiduo/state"
)

func TestText(t *testing.T) {
	for _, test := range []struct {
		money  state.Money
		digits int
		want   string
	}{
		{0, 0, "0"}, {0, 2, "0.00"}, {7, 2, "0.07"}, {-7, 3, "-0.007"}, {12_345, 2, "123.45"}, {-100, 2, "-1.00"},
		{1<<63 - 1, 3, "9223372036854775.807"}, {-1 << 63, 0, "-9223372036854775808"},
	} {
		if got := moneyText(test.money, test.digits); got != test.want {
			t.Errorf("%d with %d digits: %s, want %s", test.money, test.digits, got, test.want)
		}
	}
	for at, want := range map[state.Instant]string{
		0: "1970-01-01T00:00:00.000Z", -1: "1969-12-31T23:59:59.999Z", today + 5: "2026-03-01T12:00:00.005Z",
	} {
		if got := *timeText(at, true); got != want {
			t.Errorf("%d: %s, want %s", at, got, want)
		}
	}
	if got := hashText(0xab); got != "00000000000000ab" {
		t.Error(got)
	}
	if got := dayText(-1); got != "1969-12-31" {
		t.Error(got)
	}
	for p, want := range map[state.Millionths]string{
		state.None: "null", 0: "0", 1: "0.000001", 100_000: "0.1", 333_333: "0.333333", 999_999: "0.999999", state.One: "1",
	} {
		if got, err := json.Marshal(probability(p)); err != nil || string(got) != want {
			t.Errorf("%d: %s, %v; want %s", p, got, err, want)
		}
	}
}
