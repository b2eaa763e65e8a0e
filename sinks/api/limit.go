package api

import (
	"hash/maphash"
	"net/http"
	"net/netip"

	"golang.org/x/time/rate"
)

const (
	buckets        = 1024
	maxConnections = 1024 // of a listener; those beyond wait to be accepted
	maxHeavy       = 4    // answers of a listener that read much, at once
	maxScrapes     = 4    // at once
)

// rates limits every address. There are as many buckets as there is memory for, however many addresses there are: some
// share one, and nobody can choose with whom.
type rates struct {
	seed  maphash.Seed
	limit [buckets]*rate.Limiter
}

func newRates(perSecond int) *rates {
	r := &rates{seed: maphash.MakeSeed()}
	for i := range r.limit {
		r.limit[i] = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	}
	return r
}

// of is the limit of an address, host:port. Who has an IPv6 network has 2^64 addresses, and still one limit.
func (r *rates) of(address string) *rate.Limiter {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		host := ap.Addr().Unmap()
		if host.Is6() {
			if p, err := host.Prefix(64); err == nil {
				host = p.Addr()
			}
		}
		address = host.String()
	}
	return r.limit[maphash.String(r.seed, address)%buckets]
}

// heavy bounds how many of the answers that read much are made at once: the disk and the processor are needed elsewhere.
func (s *server) heavy(answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.reading <- struct{}{}:
			defer func() { <-s.reading }()
			answer(w, r)
		default:
			unavailable(w, "busy", "Too many long answers are being made already.")
		}
	}
}
