package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// story writes changes one a line, to be compared with what they should be.
func story(p *Parameters, changes []Change) string {
	var b strings.Builder
	for i := range changes {
		c := &changes[i]
		at := fmt.Sprintf("day %d+%d %s %s #%d", (c.At-start)/Day, (c.At-start)%Day, c.Cause, c.Mode, c.Sequence)
		if c.Kind == SegmentChange {
			first := ""
			if c.FirstTime() {
				first = " first"
			}
			next := "for ever"
			if c.Next.At != Never {
				next = fmt.Sprintf("then %s on day %d+%d", p.Rules.SegmentName(c.Next.Segment), (c.Next.At-start)/Day, (c.Next.At-start)%Day)
			}
			fmt.Fprintf(&b, "%s: %s -> %s %s%s %d%d%d %s, %s\n", at, p.Rules.SegmentName(c.Was.Published), p.Rules.SegmentName(c.Is.Published),
				c.Direction(p.Rules), first, c.Is.R, c.Is.F, c.Is.M, c.Is.Lifecycle, next)
			continue
		}
		fmt.Fprintf(&b, "%s: risk %s -> %s, %d -> %d\n", at, c.Was.Band, c.Is.Band, c.Was.Reference, c.Is.Reference)
	}
	return b.String()
}

func checkStory(t *testing.T, p *Parameters, changes []Change, want string) {
	t.Helper()
	if got := story(p, changes); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// One order, and then nothing for ever: all of it is told at the exact millisecond.
func TestSilentDecay(t *testing.T) {
	p := defaults()
	p.Churn.Method = ByRhythm // a gap of 30 days: p = 1 - 2^-(e/60)^2
	c := newCustomer()
	out := mustTake(t, c, p, order(1, start, 20_000))
	out = c.Advance(p, start+2000*Day, always, out)
	checkStory(t, p, out, `day 0+0 order live #1:  -> new initial first 514 trier, then promising on day 30+1
day 0+0 order live #1: risk  -> low, -1 -> 0
day 30+0 timer live #2: risk low -> low, 0 -> 159104
day 30+1 timer live #2: new -> promising down first 414 trier, then about_to_sleep on day 90+1
day 44+0 timer live #3: risk low -> low, 159104 -> 311169
day 46+0 timer live #4: risk low -> medium, 311169 -> 334633
day 59+0 timer live #5: risk medium -> medium, 334633 -> 488412
day 73+0 timer live #6: risk medium -> medium, 488412 -> 641580
day 75+0 timer live #7: risk medium -> high, 641580 -> 661436
day 90+1 timer live #3: promising -> about_to_sleep down first 314 at_risk, then hibernating on day 180+1
day 94+0 timer live #8: risk high -> high, 661436 -> 817552
day 134+0 timer live #9: risk high -> high, 817552 -> 968484
day 180+1 timer live #4: about_to_sleep -> hibernating down first 214 dormant, then lost on day 365+1
day 365+1 timer live #5: hibernating -> lost down first 114 lost, for ever
`)
}

// A customer who came often falls as orders leave the window, comes back, and falls to prospect when all is cancelled.
func TestComeAndGo(t *testing.T) {
	p := defaults()
	p.Churn.Method = NoChurn
	c := newCustomer()
	var out []Change
	for i := range 5 {
		out = append(out, mustTake(t, c, p, order(uint64(i), start+Instant(i)*Day, 8_000))...)
	}
	out = c.Advance(p, start+340*Day, always, out)
	back := order(9, start+340*Day, 1_000)
	out = append(out, mustTake(t, c, p, back)...)
	out = c.Advance(p, start+800*Day, always, out)
	checkStory(t, p, out, `day 0+0 order live #1:  -> new initial first 512 trier, then promising on day 30+1
day 1+0 order live #2: new -> potential_loyalist up first 523 recent, then about_to_sleep on day 91+1
day 2+0 order live #3: potential_loyalist -> loyal up first 534 regular, then needs_attention on day 92+1
day 4+0 order live #4: loyal -> champions up first 545 loyal, then needs_attention on day 94+1
day 94+1 timer live #5: champions -> needs_attention down first 345 at_risk, then at_risk on day 184+1
day 184+1 timer live #6: needs_attention -> at_risk down first 245 dormant, then cant_lose on day 369+1
day 340+0 order live #7: at_risk -> champions up 545 won_back, then needs_attention on day 430+1
day 430+1 timer live #8: champions -> needs_attention down 345 at_risk, then at_risk on day 520+1
day 520+1 timer live #9: needs_attention -> at_risk down 245 dormant, then cant_lose on day 705+1
day 705+1 timer live #10: at_risk -> cant_lose down first 145 lost, then lost on day 731+1
day 731+1 timer live #11: cant_lose -> lost down first 134 lost, for ever
`)
	if got := c.Profile(p).Figures; got != (Figures{First: start, Last: back.At, Idle: 394*Day + 1, Orders: 1, Net: 1_000, Lifetime: 6, LifetimeNet: 41_000}) {
		t.Errorf("figures %+v", got)
	}
}

// What counts: refunds in both views of the same money, test orders, states, and the fall back to prospect.
func TestWhatCounts(t *testing.T) {
	p := defaults()
	paid := func(f Fact, change func(*Order)) Fact {
		change(&f.Order)
		return f
	}
	one := order(1, start, 1_000)
	for _, test := range []struct {
		name  string
		facts []Fact
		net   Money
	}{
		{"completed", []Fact{one}, 1_000},
		{"paid", []Fact{paid(one, func(o *Order) { o.Status = Paid })}, 1_000},
		{"partially refunded", []Fact{paid(one, func(o *Order) { o.Status, o.Refunded = PartiallyRefunded, 400 })}, 600},
		{"pending", []Fact{paid(one, func(o *Order) { o.Status = Pending })}, 0},
		{"refunded", []Fact{paid(one, func(o *Order) { o.Status = Refunded })}, 0},
		{"cancelled", []Fact{paid(one, func(o *Order) { o.Status = Cancelled })}, 0},
		{"voided", []Fact{paid(one, func(o *Order) { o.Status = Voided })}, 0},
		{"test", []Fact{paid(one, func(o *Order) { o.Test = true })}, 0},
		{"free", []Fact{order(1, start, 0)}, 0},
		{"one cent left", []Fact{one, refund(1, 1, start, 999)}, 1},
		{"nothing left", []Fact{one, refund(1, 1, start, 1_000)}, 0},
		{"more than all back", []Fact{one, refund(1, 1, start, 2_000)}, 0},
		{"refund first", []Fact{refund(1, 1, start, 300), one}, 700},
		{"refund of another order", []Fact{one, refund(2, 1, start, 300)}, 1_000},
		{"two refunds", []Fact{one, refund(1, 1, start, 300), refund(1, 2, start, 300)}, 400},
		{"the same money told twice", []Fact{paid(one, func(o *Order) { o.Refunded = 400 }), refund(1, 1, start, 300)}, 600},
		{"records tell more", []Fact{paid(one, func(o *Order) { o.Refunded = 400 }), refund(1, 1, start, 300), refund(1, 2, start, 200)}, 500},
		{"later refund version", []Fact{one, refund(1, 1, start, 300), refund(1, 1, start-1, 900)}, 700},
		{"greater refund version", []Fact{one, refund(1, 1, start, 300), refund(1, 1, start, 200)}, 700},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCustomer()
			for _, f := range test.facts {
				f.At = start
				mustTake(t, c, p, f)
			}
			f := c.Profile(p).Figures
			if f.Net != test.net || f.LifetimeNet != test.net || (f.Orders > 0) != (test.net > 0) {
				t.Errorf("net %d of %d orders, %d ever; want %d", f.Net, f.Orders, f.LifetimeNet, test.net)
			}
			if never := c.Published == NoSegment; never != (test.net == 0 && !slices.Contains([]string{"nothing left", "more than all back"}, test.name)) {
				t.Errorf("published %d", c.Published)
			}
		})
	}
}

func TestFallToProspect(t *testing.T) {
	p := defaults()
	c := newCustomer()
	out := mustTake(t, c, p, order(1, start, 1_000), refund(1, 1, start+Day, 1_000), order(2, start+2*Day, 1_000))
	checkStory(t, p, out, fmt.Sprintf(`day 0+0 order live #1:  -> new initial first 511 trier, then promising on day 30+1
day 0+0 order live #1: risk  -> high, -1 -> %[1]d
day 1+0 refund live #2: new -> prospect down first 000 prospect, for ever
day 1+0 refund live #2: risk high -> , %[1]d -> -1
day 2+0 order live #3: prospect -> new up 511 trier, then promising on day 32+1
day 2+0 order live #3: risk  -> high, -1 -> %[1]d
`, 712_728))
}

// A band is entered at its boundary and left only more than the hysteresis below it.
func TestBand(t *testing.T) {
	c := &defaults().Churn
	for _, test := range []struct {
		was  Band
		p    Millionths
		want Band
	}{
		{NoBand, 329_999, Low}, {NoBand, 330_000, Medium}, {NoBand, 659_999, Medium}, {NoBand, 660_000, High}, {NoBand, One, High},
		{Low, 329_999, Low}, {Low, 330_000, Medium}, {Low, 660_000, High},
		{Medium, 299_999, Low}, {Medium, 300_000, Medium}, {Medium, 659_999, Medium}, {Medium, 660_000, High},
		{High, 299_999, Low}, {High, 300_000, Medium}, {High, 629_999, Medium}, {High, 630_000, High},
		{High, None, NoBand}, {NoBand, None, NoBand}, {NoBand, 0, Low},
	} {
		if got := c.band(test.was, test.p); got != test.want {
			t.Errorf("from %q at %d: %q, want %q", test.was, test.p, got, test.want)
		}
	}
	for _, test := range []struct {
		reference, p Millionths
		want         bool
	}{
		{500_000, 649_999, false}, {500_000, 650_000, true}, {500_000, 350_001, false}, {500_000, 350_000, true},
		{None, 500_000, false}, {500_000, None, false},
	} {
		if got := c.jumped(test.reference, test.p); got != test.want {
			t.Errorf("from %d to %d jumps: %v", test.reference, test.p, got)
		}
	}
}

// An order can be corrected for exactly the window; then it is frozen, and its id means another order.
func TestSettling(t *testing.T) {
	p := defaults()
	p.Churn.Method = NoChurn
	edge := start + p.Window
	for _, test := range []struct {
		name  string
		after []Fact
		want  Figures
		cause Cause
	}{
		{"inside at the edge", []Fact{neutral(edge)}, Figures{Orders: 1, Net: 1_000, Lifetime: 1, LifetimeNet: 1_000}, OrderCause},
		{"outside a millisecond later", []Fact{neutral(edge + 1)}, Figures{Lifetime: 1, LifetimeNet: 1_000}, OrderCause},
		{"refund at the edge", []Fact{refund(1, 1, edge, 400)}, Figures{Orders: 1, Net: 600, Lifetime: 1, LifetimeNet: 600}, RefundCause},
		{"refund too late to matter", []Fact{refund(1, 1, edge+1, 400)}, Figures{Lifetime: 1, LifetimeNet: 1_000}, RefundCause},
		{"same id at the edge", []Fact{order(1, edge, 50)}, Figures{Orders: 1, Net: 50, Lifetime: 1, LifetimeNet: 50}, OrderUpdate},
		{"same id afterwards", []Fact{order(1, edge+1, 50)}, Figures{Orders: 1, Net: 50, Lifetime: 2, LifetimeNet: 1_050}, OrderCause},
		{"a refund waits for the new order", []Fact{refund(1, 1, edge+1, 40), order(1, edge+2, 50)}, Figures{Orders: 1, Net: 10, Lifetime: 2, LifetimeNet: 1_010}, OrderCause},
		{"a refund waits for the window", []Fact{refund(2, 1, start+Day, 40), order(2, edge+Day, 50)}, Figures{Orders: 1, Net: 10, Lifetime: 2, LifetimeNet: 1_010}, OrderCause},
		{"a refund waits no longer", []Fact{refund(2, 1, start+Day, 40), order(2, edge+Day+1, 50)}, Figures{Orders: 1, Net: 50, Lifetime: 2, LifetimeNet: 1_050}, OrderCause},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCustomer()
			mustTake(t, c, p, order(1, start, 1_000))
			mustTake(t, c, p, test.after[:len(test.after)-1]...)
			last := test.after[len(test.after)-1]
			c.Advance(p, last.At, always, nil)
			known := slices.Clone(c.Orders)
			c.settle(last.At, p.Window)
			if last.Kind == OrderFact {
				if cause := (&Ledger{Orders: slices.Clone(c.Orders)}).addOrder(last.Order); cause != test.cause {
					t.Errorf("cause %v, want %v; known %+v", cause, test.cause, known)
				}
			}
			c.Apply(p, &last, always, nil)
			got := c.Profile(p).Figures
			got.First, got.Last, got.Idle = 0, 0, 0
			if got != test.want {
				t.Errorf("figures %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestTooLate(t *testing.T) {
	p := defaults()
	c := newCustomer()
	edge := start + p.Window
	for _, test := range []struct {
		f    Fact
		want Refusal
	}{
		{Fact{At: edge, Order: order(1, start, 1).Order}, ""},
		{Fact{At: edge + 1, Order: order(1, start, 1).Order}, TooLate},
		{Fact{Kind: RefundFact, At: edge, Refund: refund(1, 1, start, 1).Refund}, ""},
		{Fact{Kind: RefundFact, At: edge + 1, Refund: refund(1, 1, start, 1).Refund}, TooLate},
	} {
		if got := c.Refuse(p, &test.f); got != test.want {
			t.Errorf("new customer, %d ms after: %q, want %q", test.f.At-start, got, test.want)
		}
	}
	mustTake(t, c, p, order(2, edge+1, 1))
	f := order(1, start, 1) // its own instant is long before what has been played
	if got := c.Refuse(p, &f); got != TooLate {
		t.Errorf("customer evaluated later: %q", got)
	}
}

func TestLimits(t *testing.T) {
	p := defaults()
	p.Limits = Limits{Orders: 2, Refunds: 2, Purposes: 2}
	c := newCustomer()
	mustTake(t, c, p, order(1, start, 100), order(2, start+Day, 100), refund(1, 1, start+Day, 1), refund(7, 1, start+2*Day, 1))
	edge := start + p.Window
	update := order(1, start+3*Day, 50)
	for _, test := range []struct {
		name string
		f    Fact
		want Refusal
	}{
		{"third order", order(3, start+3*Day, 1), TooManyOrders},
		{"known order", update, ""},
		{"third order while the first is in the window", order(3, edge, 1), TooManyOrders},
		{"third order when the first has settled", order(3, edge+1, 1), ""},
		{"third refund", refund(1, 2, start+3*Day, 1), TooManyRefund},
		{"third refund of another order", refund(2, 1, start+3*Day, 1), TooManyRefund},
		{"known refund", refund(7, 1, start+3*Day, 2), ""},
		{"third refund while its order is in the window", refund(2, 1, edge, 1), TooManyRefund},
		{"third refund when an order has settled", refund(2, 1, edge+1, 1), ""},
	} {
		if got := c.Refuse(p, &test.f); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	var n Interactions
	for i, purpose := range []string{"b", "a", "b", "c", "a"} {
		want := Refusal("")
		if purpose == "c" {
			want = TooManyTopics
		}
		if got := n.Apply(&p.Limits, &Interaction{At: start + Instant(i), Purpose: purpose, Consent: Granted}); got != want {
			t.Errorf("purpose %q: %q, want %q", purpose, got, want)
		}
	}
	if !n.Truncated || len(n.Consents) != 2 || n.LastAt != start+4 {
		t.Errorf("interactions %+v", n)
	}
}

// A comeback is an order after a gap of more than the third recency cut, and it lasts for the second.
func TestComeback(t *testing.T) {
	p := defaults()
	for _, test := range []struct {
		gap, later Instant
		want       Lifecycle
	}{
		{180 * Day, 0, Recent},
		{180*Day + 1, 0, WonBack},
		{180*Day + 1, 90 * Day, WonBack},
		{180*Day + 1, 90*Day + 1, AtRisk},
	} {
		c := newCustomer()
		mustTake(t, c, p, order(1, start, 100), order(2, start+test.gap, 100))
		c.Advance(p, start+test.gap+test.later, always, nil)
		if c.Lifecycle != test.want {
			t.Errorf("%d ms after a gap of %d ms: %v, want %v", test.later, test.gap, c.Lifecycle, test.want)
		}
	}
	c := newCustomer()
	mustTake(t, c, p, order(1, start, 100), order(2, start+200*Day, 100), order(3, start+289*Day, 100))
	if c.Lifecycle != WonBack {
		t.Errorf("another order within the comeback: %v", c.Lifecycle)
	}
	c.Advance(p, start+290*Day+1, always, nil)
	if c.Lifecycle != Regular {
		t.Errorf("the comeback is over, the customer came again: %v", c.Lifecycle)
	}
}
