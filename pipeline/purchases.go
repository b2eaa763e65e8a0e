package pipeline

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/state"
)

// Purchases decodes records of the purchases input where no pipeline runs, as a pipeline of the same configuration would.
type Purchases struct{ dec *decoder }

// NewPurchases makes one for a configuration.
func NewPurchases(c config.Config) (*Purchases, error) {
	dec, err := newDecoder(c)
	if err != nil {
		return nil, err
	}
	return &Purchases{dec}, nil
}

// Decode returns the order or refund of a record, or why a pipeline would put the record into the dead letters.
func (p *Purchases) Decode(r *kgo.Record) (state.Fact, error) {
	var f state.Fact
	if bad := p.dec.decode(purchases, r, 0, false, &f); bad != nil {
		return f, fmt.Errorf("%s: %s", bad.reason, bad.detail)
	}
	return f, nil
}
