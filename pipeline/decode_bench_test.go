package pipeline

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/state"
)

// sold is an order as a shop writes it, 330 bytes, most of which the pipeline does not need.
const sold = `{"order_id":"o-000000012345","customer_id":"` + canary + `","ordered_at":"2024-05-01T09:00:00Z","amount":"48.90","currency":"EUR",` +
	`"status":"completed","channel":"web","revision":1,"items":[{"sku":"sku-012345","category":"shoes","quantity":1,"amount":"24.45"},` +
	`{"sku":"sku-023456","category":"toys","quantity":2,"amount":"24.45"}]}`

// ordinary are the records that a stream is made of.
func ordinary() []struct {
	name   string
	from   role
	record *kgo.Record
} {
	return []struct {
		name   string
		from   role
		record *kgo.Record
	}{
		{"order", purchases, &kgo.Record{Key: []byte(canary), Value: []byte(sold), Timestamp: time.UnixMilli(draftedAt)}},
		{"refund", purchases, aRefund().kafka()},
		{"interaction", interactions, anInteraction().kafka()},
		{"consent", interactions, aConsent().kafka()},
	}
}

// TestDecodeAllocates what is kept of a record, its texts, and nothing else.
func TestDecodeAllocates(t *testing.T) {
	most := map[string]float64{"order": 1, "refund": 1, "interaction": 1, "consent": 2}
	d := testDecoder()
	for _, o := range ordinary() {
		var f state.Fact
		n := testing.AllocsPerRun(100, func() {
			if bad := d.decode(o.from, o.record, 0, false, &f); bad != nil {
				t.Fatal(bad.detail)
			}
		})
		if n > most[o.name] {
			t.Errorf("%s: %v allocations, want %v", o.name, n, most[o.name])
		}
	}
}

// BenchmarkDecode is one record of each kind.
func BenchmarkDecode(b *testing.B) {
	d := testDecoder()
	for _, o := range ordinary() {
		b.Run(o.name, func(b *testing.B) {
			b.SetBytes(int64(len(o.record.Value)))
			b.ReportAllocs()
			var f state.Fact
			for b.Loop() {
				if bad := d.decode(o.from, o.record, 0, false, &f); bad != nil {
					b.Fatal(bad.detail)
				}
			}
		})
	}
}
