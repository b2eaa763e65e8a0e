package state

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
)

// FuzzCustomer reads what the changelog and the store may hold: no bytes make a panic or take more memory than they have a right
// to; what decodes is what this code writes, byte for byte; and it can be scored, shown and played on.
func FuzzCustomer(f *testing.F) {
	for _, g := range golden() {
		f.Add(g.encode())
	}
	p := defaults()
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again Customer
		if err := c.Decode(b); err != nil {
			checkRefusal(t, b, err)
			return
		}
		if len(c.Orders)*11+len(c.Refunds)*18 > len(b) {
			t.Fatalf("%d orders and %d refunds from %d bytes", len(c.Orders), len(c.Refunds), len(b))
		}
		if e := c.AppendTo(nil); !bytes.Equal(e, b) {
			t.Fatalf("% x decodes to\n%+v\nwhich encodes to % x", b, c, e)
		}
		if err := again.Decode(b); err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("decoded\n%+v\nand once more\n%+v: %v", c, again, err)
		}
		if int(c.Published) >= len(p.Rules.names) {
			return // of a rule set with more segments
		}
		use(t, p, &c)
	})
}

// use does with a customer what is done with every one.
func use(t *testing.T, p *Parameters, c *Customer) {
	_, _, _ = c.Profile(p), c.Lifecycle.String(), p.Rules.SegmentName(c.Published)
	_, _, _ = c.Band.String(), c.Threshold.Band.String(), c.Chance(p, c.EvaluatedAt)
	for _, o := range c.Orders {
		_ = o.Status.String()
	}
	var out []Change
	end := max(c.EvaluatedAt, 0) + 20*365*Day
	for steps := 0; c.Evaluated && c.Due <= end; steps++ {
		at := c.Due
		if out = c.Advance(p, at, always, out[:0]); c.Due <= at {
			t.Fatalf("silence at %d leads to %d", at, c.Due)
		}
		if steps > 16+4*len(c.Orders) {
			t.Fatalf("%d steps of silence with %d orders", steps, len(c.Orders))
		}
	}
	if end > latest {
		return
	}
	facts := []Fact{order(1, end, 100), refund(1, 1, end+1, 40)}
	for i := range facts {
		if c.Refuse(p, &facts[i]) == "" {
			c.Advance(p, facts[i].At, always, nil)
			c.Apply(p, &facts[i], always, nil)
		}
	}
	var again Customer
	if err := again.Decode(c.AppendTo(nil)); err != nil {
		t.Fatalf("played on it is no longer readable: %v\n%+v", err, c)
	}
}

func checkRefusal(t *testing.T, b []byte, err error) {
	newer, ok := errors.AsType[*NewerFormatError](err)
	if ok && (len(b) < 2 || newer.Format != b[0] || b[0] <= Format) || !ok && !errors.Is(err, ErrCorrupt) {
		t.Fatalf("% x: %v", b, err)
	}
}

// FuzzInteractions is FuzzCustomer for the other kind of record.
func FuzzInteractions(f *testing.F) {
	for _, g := range golden() {
		f.Add(g.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var n, again Interactions
		if err := n.Decode(b); err != nil {
			checkRefusal(t, b, err)
			return
		}
		if len(n.Consents)*3 > len(b) {
			t.Fatalf("%d consents from %d bytes", len(n.Consents), len(b))
		}
		if e := n.AppendTo(nil); !bytes.Equal(e, b) {
			t.Fatalf("% x decodes to\n%+v\nwhich encodes to % x", b, n, e)
		}
		if err := again.Decode(b); err != nil || !reflect.DeepEqual(n, again) {
			t.Fatalf("decoded\n%+v\nand once more\n%+v: %v", n, again, err)
		}
		// What is known is found, so that no purpose can be there twice.
		for i, c := range slices.Clone(n.Consents) {
			if k, known := n.find(c.Purpose); !known || k != i {
				t.Fatalf("purpose %d of %+v is not found", i, n.Consents)
			}
			_ = c.Status.String()
		}
		limits := Limits{Purposes: len(n.Consents)}
		for _, c := range slices.Clone(n.Consents) {
			if why := n.Apply(&limits, &Interaction{At: c.At + 1, Purpose: c.Purpose, Consent: Revoked}); why != "" {
				t.Fatalf("a known purpose is refused: %s", why)
			}
		}
	})
}
