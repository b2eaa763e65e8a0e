//go:build synctests

package pipeline_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// cable is the connections of one process. They can be cut, be stopped for a while as those of a stopped process are, be
// slow, and lose the answers to requests that the broker has done.
type cable struct {
	dialer func(context.Context, string, string) (net.Conn, error)

	mu     sync.Mutex
	down   bool
	paused chan struct{} // closed when it goes on
	delay  time.Duration // of each request
	lose   map[kmsg.Key]int
	lost   func(kmsg.Key)
	open   map[*wire]bool
}

func newCable(dialer func(context.Context, string, string) (net.Conn, error), lost func(kmsg.Key)) *cable {
	return &cable{dialer: dialer, lose: map[kmsg.Key]int{}, lost: lost, open: map[*wire]bool{}}
}

var errNoNetwork = errors.New("no network")

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	paused := c.paused
	c.mu.Unlock()
	if paused != nil {
		select {
		case <-paused:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	conn, err := c.dialer(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, c: c, closed: make(chan struct{}), sent: map[int32]kmsg.Key{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		_ = conn.Close()
		return nil, errNoNetwork
	}
	c.open[w] = true
	return w, nil
}

// cut closes every connection, in the middle of whatever is under way; down stays without.
func (c *cable) cut(down bool) {
	c.mu.Lock()
	c.down = down
	open := c.open
	c.open = map[*wire]bool{}
	c.mu.Unlock()
	for w := range open {
		_ = w.Close()
	}
}

// pause stops everything that comes and goes until resume.
func (c *cable) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused == nil {
		c.paused = make(chan struct{})
	}
}

func (c *cable) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused != nil {
		close(c.paused)
		c.paused = nil
	}
}

// slow makes each request take longer.
func (c *cable) slow(delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = delay
}

// loseAnswers makes the next answers to requests of a kind be lost, together with their connection.
func (c *cable) loseAnswers(key kmsg.Key, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose[key] = n
}

// heal ends every fault but cut connections.
func (c *cable) heal() {
	c.resume()
	c.slow(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.lose)
	c.down = false
}

// wire is one connection. One goroutine writes and one reads.
type wire struct {
	net.Conn
	c      *cable
	once   sync.Once
	closed chan struct{}
	answer []byte // not yet read

	mu   sync.Mutex
	sent map[int32]kmsg.Key // requests under way, by correlation id
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// gate waits while the process is stopped.
func (w *wire) gate() (delay time.Duration, err error) {
	for {
		w.c.mu.Lock()
		paused, delay := w.c.paused, w.c.delay
		w.c.mu.Unlock()
		if paused == nil {
			return delay, nil
		}
		select {
		case <-paused:
		case <-w.closed:
			return 0, net.ErrClosed
		}
	}
}

// least is how long a fetch takes. While it waits for metadata, a client whose partition has moved fetches from the former leader again
// and again (franz-go 1.22.2), and where that takes no time, nothing else ever happens.
const least = 100 * time.Microsecond

// Write is called with whole requests.
func (w *wire) Write(b []byte) (int, error) {
	delay, err := w.gate()
	if err != nil {
		return 0, err
	}
	if len(b) >= 12 && int(binary.BigEndian.Uint32(b)) == len(b)-4 {
		key := kmsg.Key(binary.BigEndian.Uint16(b[4:]))
		w.mu.Lock()
		w.sent[int32(binary.BigEndian.Uint32(b[8:]))] = key
		w.mu.Unlock()
		if key == kmsg.Fetch {
			delay = max(delay, least)
		}
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-w.closed:
			return 0, net.ErrClosed
		}
	}
	return w.Conn.Write(b)
}

func (w *wire) Read(b []byte) (int, error) {
	if len(w.answer) == 0 {
		if err := w.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(b, w.answer)
	w.answer = w.answer[n:]
	return n, nil
}

// receive reads one answer, and loses it if it is to be lost.
func (w *wire) receive() error {
	frame := make([]byte, 8)
	if _, err := io.ReadFull(w.Conn, frame); err != nil {
		return err
	}
	rest := make([]byte, int(binary.BigEndian.Uint32(frame))-4)
	if _, err := io.ReadFull(w.Conn, rest); err != nil {
		return err
	}
	if _, err := w.gate(); err != nil {
		return err
	}
	id := int32(binary.BigEndian.Uint32(frame[4:]))
	w.mu.Lock()
	key, known := w.sent[id]
	delete(w.sent, id)
	w.mu.Unlock()
	w.c.mu.Lock()
	lost := known && w.c.lose[key] > 0
	if lost {
		w.c.lose[key]--
	}
	w.c.mu.Unlock()
	if lost {
		w.c.lost(key)
		_ = w.Close()
		return io.ErrUnexpectedEOF
	}
	w.answer = append(frame, rest...)
	return nil
}
