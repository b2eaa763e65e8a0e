package api

import (
	"hash/maphash"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

const (
	buckets        = 1024
	maxConnections = 1024               // of a listener; those beyond wait to be accepted
	maxOfOne       = maxConnections / 8 // of one address, which would keep out probes and all others
	maxHeavy       = 4                  // answers of a listener that read much, at once
	maxScrapes     = 4                  // at once
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

// of is the limit of an address, host:port.
func (r *rates) of(address string) *rate.Limiter {
	return r.limit[maphash.String(r.seed, owner(address))%buckets]
}

// owner is who counts as one in an address, host:port. Who has an IPv6 network has 2^64 addresses, and is still one.
func owner(address string) string {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	host := ap.Addr().Unmap()
	if host.Is6() {
		if p, err := host.Prefix(64); err == nil {
			host = p.Addr()
		}
	}
	return host.String()
}

// shared is a listener that closes at once what an address opens beyond its share.
type shared struct {
	net.Listener
	mu   sync.Mutex
	open map[string]int // connections, by owner; none is there with 0
}

func share(l net.Listener) *shared { return &shared{Listener: l, open: map[string]int{}} }

func (l *shared) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		by := owner(c.RemoteAddr().String())
		if l.take(by) {
			return &sharedConn{Conn: c, release: sync.OnceFunc(func() { l.release(by) })}, nil
		}
		_ = c.Close()
	}
}

func (l *shared) take(by string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[by] >= maxOfOne {
		return false
	}
	l.open[by]++
	return true
}

func (l *shared) release(by string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[by]--; l.open[by] == 0 {
		delete(l.open, by)
	}
}

// sharedConn gives its place back when it is closed.
type sharedConn struct {
	net.Conn
	release func()
}

func (c *sharedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
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
