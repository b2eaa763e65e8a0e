package state

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files of the current format")

// example is a value whose bytes are kept for ever in testdata.
type example struct {
	name   string
	about  string
	encode func() []byte
}

func golden() []example {
	customer := func(c *Customer) func() []byte { return func() []byte { return c.AppendTo(nil) } }
	inter := func(n *Interactions) func() []byte { return func() []byte { return n.AppendTo(nil) } }
	fresh := newCustomer()
	waiting := newCustomer()
	waiting.Evaluated, waiting.EvaluatedAt = true, 1_714_557_600_000
	waiting.Refunds = []Refund{{Order: 0x1122334455667788, ID: 0x99aabbccddeeff00, At: 1_714_557_000_000, Amount: 1_250}}
	return []example{
		{"customer-new", "a customer of whom nothing is known", customer(fresh)},
		{"customer-waiting", "a refund that came before its order; the customer was never anything but a prospect", customer(waiting)},
		{"customer-one-order", "one order, now in the second segment", customer(oneOrder())},
		{"customer-rich", "every flag and every field", customer(richCustomer())},
		{"interactions-none", "interactions of whom nothing is known", inter(&Interactions{})},
		{"interactions-rich", "an open complaint and two consents", inter(richInteractions())},
	}
}

func oneOrder() *Customer {
	c := newCustomer()
	c.Evaluated, c.EvaluatedAt, c.Due = true, 1_717_149_600_001, 1_717_236_000_000
	c.Orders = []Order{{ID: 0x0102030405060708, OrderedAt: 1_714_557_600_000, UpdatedAt: 1_714_557_600_000, Status: Completed, Amount: 4_990, Day: 19_844}}
	c.Standing = Standing{
		Published: 7, Since: 1_717_149_600_001, Seen: 1<<6 | 1<<7, R: 4, F: 1, M: 1, Lifecycle: Trier, Band: Medium, Reference: 603_571,
		SegmentSeq: 2, RiskSeq: 1, Threshold: Threshold{Days: 47, Band: High},
	}
	return c
}

func richCustomer() *Customer {
	c := newCustomer()
	c.Evaluated, c.EvaluatedAt, c.Due = true, 1_717_149_600_001, 1_717_236_000_000
	c.Truncated = true
	c.Settled = Settled{
		Orders: 12, Net: 123_456, First: 1_514_764_800_000, Last: 1_600_000_000_000,
		Occasions: Occasions{Days: 11, FirstDay: 17_531, LastDay: 18_518, Eve: true},
	}
	c.Orders = []Order{
		{ID: 0xfedcba9876543210, Revision: 3, UpdatedAt: 1_714_561_200_000, Status: PartiallyRefunded, Refunded: 500, Amount: 4_990, OrderedAt: 1_714_557_600_000, Day: 19_844},
		{ID: 0x0102030405060708, UpdatedAt: 1_714_600_000_000, Status: Pending, Amount: 999_999_999_999_999, OrderedAt: 1_714_600_000_000, Day: 19_845, Test: true},
		{ID: 0x0102030405060709, UpdatedAt: 1_714_500_000_000, Status: Voided, OrderedAt: 1_714_608_000_000, Day: 19_844},
	}
	c.Refunds = []Refund{
		{Order: 0x0102030405060708, ID: 1, At: 1_714_610_000_000, Amount: 1},
		{Order: 0x0102030405060708, ID: 1 << 63, At: 1_714_610_000_001, Amount: 250},
	}
	c.Standing = Standing{
		Published: 12, Since: 1_700_000_000_000, Seen: 1<<12 | 1<<2 | 1<<1, R: 5, F: 3, M: 2, Lifecycle: WonBack, Band: High, Reference: 712_345,
		SegmentSeq: 9, RiskSeq: 300, Threshold: Threshold{Days: 3_650, Band: Medium}, Versions: Versions{Rules: 1, Cuts: 200, Model: 3},
	}
	return c
}

func richInteractions() *Interactions {
	return &Interactions{
		LastAt: 1_717_149_600_001, ComplaintAt: 1_714_557_600_000, Complaining: true, Truncated: true,
		Consents: []Consent{{"email", 1_714_557_600_000, Granted}, {"reklame på sms", 1_714_557_600_001, Revoked}},
	}
}

// describe writes the decoded value for a reader.
func describe(name string, b []byte) (string, error) {
	var s strings.Builder
	line := func(name string, v any) { fmt.Fprintf(&s, "%-14s %+v\n", name, v) }
	at := func(i Instant) string {
		if i == Never {
			return "never"
		}
		return time.UnixMilli(int64(i)).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	line("bytes", len(b))
	if strings.HasPrefix(name, "interactions") {
		var n Interactions
		if err := n.Decode(b); err != nil {
			return "", err
		}
		line("last", at(n.LastAt))
		line("complaint", fmt.Sprintf("%s open=%v", at(n.ComplaintAt), n.Complaining))
		line("truncated", n.Truncated)
		for _, c := range n.Consents {
			line("consent", fmt.Sprintf("%q %s since %s", c.Purpose, c.Status, at(c.At)))
		}
		return s.String(), nil
	}
	var c Customer
	if err := c.Decode(b); err != nil {
		return "", err
	}
	line("evaluated", fmt.Sprintf("%v %s", c.Evaluated, at(c.EvaluatedAt)))
	line("due", at(c.Due))
	line("segment", fmt.Sprintf("code %d since %s, seen %#b", c.Published, at(c.Since), c.Seen))
	line("scores", fmt.Sprintf("r=%d f=%d m=%d", c.R, c.F, c.M))
	line("lifecycle", c.Lifecycle)
	line("band", fmt.Sprintf("%q reference %d", c.Band.String(), c.Reference))
	line("threshold", fmt.Sprintf("%q on day %d", c.Threshold.Band.String(), c.Threshold.Days))
	line("sequences", fmt.Sprintf("segment %d risk %d", c.SegmentSeq, c.RiskSeq))
	line("versions", c.Versions)
	line("truncated", c.Truncated)
	line("settled", fmt.Sprintf("%+v", c.Settled))
	for _, o := range c.Orders {
		line("order", fmt.Sprintf("%016x at %s day %d, amount %d refunded %d, %s test=%v, revision %d updated %s",
			o.ID, at(o.OrderedAt), o.Day, o.Amount, o.Refunded, o.Status, o.Test, o.Revision, at(o.UpdatedAt)))
	}
	for _, r := range c.Refunds {
		line("refund", fmt.Sprintf("%016x of order %016x at %s, amount %d", r.ID, r.Order, at(r.At), r.Amount))
	}
	return s.String(), nil
}

// What is written today is what was written when the format was made.
func TestGoldenBytes(t *testing.T) {
	dir := filepath.Join("testdata", fmt.Sprintf("v%d", Format))
	for _, g := range golden() {
		file := filepath.Join(dir, g.name)
		b := g.encode()
		text, err := describe(g.name, b)
		if err != nil {
			t.Fatal(err)
		}
		text = g.about + "\n\n" + text
		if *update {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string][]byte{file + ".bin": b, file + ".txt": []byte(text)} {
				if err := os.WriteFile(name, content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		want, err := os.ReadFile(file + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, b) {
			t.Errorf("%s: the encoding has changed, which is a new format (FORMAT.md says how one is made)\nwant %x\n got %x", g.name, want, b)
		}
	}
}

// Every file that was ever written can still be read, and means what its description says.
func TestGoldenFilesAreReadable(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "v*", "*.bin"))
	if err != nil || len(files) < len(golden()) {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(file, ".bin") + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		got, err := describe(filepath.Base(file), b)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if _, values, _ := strings.Cut(string(want), "\n\n"); values != got {
			t.Errorf("%s means\n%swant\n%s", file, got, values)
		}
	}
}
