package fit

import (
	"fmt"

	"github.com/asiduo/asiduo/state/model"
)

// Kind names a model of repeat buying as configuration and files do.
type Kind string

// The kinds, the default first.
const (
	MBGNBD    Kind = "mbg_nbd"
	BGNBD     Kind = "bg_nbd"
	ParetoNBD Kind = "pareto_nbd"
	NBD       Kind = "nbd"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{MBGNBD, BGNBD, ParetoNBD, NBD} }

// Names are the names of the parameters; alpha and beta are in units of time.
func (k Kind) Names() []string {
	switch k {
	case MBGNBD, BGNBD:
		return []string{"r", "alpha", "a", "b"}
	case ParetoNBD:
		return []string{"r", "alpha", "s", "beta"}
	case NBD:
		return []string{"r", "alpha"}
	}
	return nil
}

// New is the model with the given parameters, in the order of Names.
func (k Kind) New(p []float64) (model.Model, error) {
	if n := len(k.Names()); n == 0 {
		return nil, fmt.Errorf("unknown model %q; models are %v", k, Kinds())
	} else if len(p) != n {
		return nil, fmt.Errorf("model %s has %d parameters, found %d", k, n, len(p))
	}
	for i, v := range p {
		if !(v > 0 && v < 1e12) {
			return nil, fmt.Errorf("model %s: %s must be a positive number, found %v", k, k.Names()[i], v)
		}
	}
	switch k {
	case MBGNBD:
		return model.MBGNBD{R: p[0], Alpha: p[1], A: p[2], B: p[3]}, nil
	case BGNBD:
		return model.BGNBD{R: p[0], Alpha: p[1], A: p[2], B: p[3]}, nil
	case ParetoNBD:
		return model.ParetoNBD{R: p[0], Alpha: p[1], S: p[2], Beta: p[3]}, nil
	}
	return model.NBD{R: p[0], Alpha: p[1]}, nil
}

func textf(format string, args ...any) string { return fmt.Sprintf(format, args...) }
