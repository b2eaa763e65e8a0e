//go:build kafka

package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// network is what lies between one process and the brokers: a proxy for each broker, at the address that the broker
// advertises on the process's link.
type network struct {
	proxies   []*proxy
	bootstrap []string
}

// newNetwork listens for a link as kafka.sh prints it: for each broker where it listens / where it says that it does.
func newNetwork(t testing.TB, link string) *network {
	t.Helper()
	n := &network{}
	for pair := range strings.SplitSeq(link, ",") {
		broker, advertised, ok := strings.Cut(pair, "/")
		if !ok {
			t.Fatalf("%q is no link of kafka.sh: run make chaos", link)
		}
		p, err := newProxy(advertised, broker)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		n.proxies, n.bootstrap = append(n.proxies, p), append(n.bootstrap, advertised)
	}
	return n
}

// each does something to all proxies.
func (n *network) each(what func(*proxy)) {
	for _, p := range n.proxies {
		what(p)
	}
}

// proxy passes bytes between clients and one broker, and does worse when told to.
type proxy struct {
	broker   string
	listener net.Listener
	running  sync.WaitGroup

	refuse  atomic.Bool  // new connections are reset
	swallow atomic.Bool  // what the broker answers is thrown away
	deaf    atomic.Bool  // what the client asks is thrown away
	delay   atomic.Int64 // of each piece, in either direction

	mu    sync.Mutex
	pairs map[*pair]bool
}

// pair is a connection of a client and the one to the broker that belongs to it.
type pair struct{ client, broker *net.TCPConn }

func newProxy(at, broker string) (*proxy, error) {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &proxy{broker: broker, listener: l, pairs: map[*pair]bool{}}
	p.running.Go(p.accept)
	return p, nil
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.cut()
	p.running.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.running.Go(func() { p.connect(client.(*net.TCPConn)) })
		}
	}
}

// connect passes bytes until both directions have ended. A broker that does not answer resets the client's connection, as
// a broker that is gone would.
func (p *proxy) connect(client *net.TCPConn) {
	broker, err := net.DialTimeout("tcp", p.broker, 2*time.Second)
	if err != nil || p.refuse.Load() {
		reset(client)
		if err == nil {
			_ = broker.Close()
		}
		return
	}
	c := &pair{client, broker.(*net.TCPConn)}
	p.mu.Lock()
	p.pairs[c] = true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(c.broker, c.client, &p.deaf) })
	both.Go(func() { p.pass(c.client, c.broker, &p.swallow) })
	both.Wait()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
	_, _ = client.Close(), broker.Close()
}

// pass copies one direction. Its end is passed on as what it is, the end of one direction.
func (p *proxy) pass(to, from *net.TCPConn, lost *atomic.Bool) {
	defer func() { _ = to.CloseWrite() }()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if wait := p.delay.Load(); wait > 0 {
			time.Sleep(time.Duration(wait))
		}
		if n > 0 && !lost.Load() {
			if _, err := to.Write(b[:n]); err != nil {
				_ = from.CloseRead()
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut resets all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		reset(c.client)
		reset(c.broker)
	}
}

// halfClose ends one direction of all connections: clients see the end of what the broker says, or the broker the end
// of what clients say.
func (p *proxy) halfClose(clients bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		if clients {
			_ = c.client.CloseWrite()
		} else {
			_ = c.broker.CloseWrite()
		}
	}
}

func reset(c *net.TCPConn) {
	_, _ = c.SetLinger(0), c.Close()
}

// TestChaosProxy holds that the proxy does what its faults are called.
func TestChaosProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // echo
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 100)
				for {
					n, err := c.Read(b)
					if err != nil {
						_ = c.Close()
						return
					}
					_, _ = c.Write(b[:n])
				}
			}()
		}
	}()
	p, err := newProxy("127.0.0.1:0", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	echo := func(c net.Conn, wait time.Duration) error {
		b := make([]byte, 4)
		if _, err := c.Write([]byte("ping")); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		_, err := c.Read(b)
		return err
	}
	c := dial()
	if err := echo(c, 10*time.Second); err != nil {
		t.Fatalf("passes: %v", err)
	}
	for name, lost := range map[string]*atomic.Bool{"swallow": &p.swallow, "deaf": &p.deaf} {
		lost.Store(true)
		var slow net.Error
		if err := echo(c, 100*time.Millisecond); !errors.As(err, &slow) || !slow.Timeout() {
			t.Errorf("%s: %v", name, err)
		}
		lost.Store(false)
	}
	p.delay.Store(int64(50 * time.Millisecond))
	began := time.Now()
	if err := echo(c, 10*time.Second); err != nil || time.Since(began) < 100*time.Millisecond {
		t.Errorf("delay: %v after %v", err, time.Since(began))
	}
	p.delay.Store(0)
	p.cut()
	if err := echo(c, 10*time.Second); err == nil {
		t.Error("cut, and yet it answers")
	}
	c = dial()
	if err := echo(c, 10*time.Second); err != nil {
		t.Errorf("after a cut: %v", err)
	}
	p.halfClose(true)
	if err := echo(c, 10*time.Second); err == nil {
		t.Error("half closed, and yet it answers")
	}
	p.refuse.Store(true)
	if c, err := net.Dial("tcp", p.listener.Addr().String()); err == nil { // a reset may come as early as that
		if err := echo(c, 10*time.Second); err == nil {
			t.Error("refused, and yet it answers")
		}
		_ = c.Close()
	}
}
