package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// from is a connection of an address.
type from struct {
	net.Conn
	address string
}

func (c from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.address))
}

// No address, and no network of one owner, takes more than its share of the connections; others are answered meanwhile.
func TestConnectionsOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.o.Guard = guard(t, Access{Rate: 1}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		l := &pipes{clients: make(chan net.Conn)}
		wait := serveOn(ctx, l, Monitor(w.o), w.o.Guard, nil)
		answered := func(c net.Conn) bool {
			go func() { _, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") }()
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			return err == nil && r.StatusCode == http.StatusOK
		}
		connect := func(address string) net.Conn {
			here, there := net.Pipe()
			t.Cleanup(func() { _ = here.Close() })
			l.clients <- from{there, address}
			return here
		}
		for _, address := range []string{"10.0.0.1:%d", "[2001:db8::%x]:1"} {
			var ours []net.Conn
			for i := range maxOfOne {
				ours = append(ours, connect(fmt.Sprintf(address, i+1)))
			}
			for range maxConnections { // more than there would be room for
				if answered(connect(fmt.Sprintf(address, 9999))) {
					t.Errorf("%s: one too many", address)
					break
				}
			}
			for _, other := range []string{"10.0.0.2:1", "[2001:db8:0:1::1]:1"} {
				if !answered(connect(other)) {
					t.Errorf("%s is not answered because of %s", other, address)
				}
			}
			_ = ours[0].Close()
			synctest.Wait()
			if c := connect(fmt.Sprintf(address, 9999)); !answered(c) {
				t.Errorf("%s: none, after one has ended", address)
			}
		}
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
	})
}

// An address is forgotten with its last connection, however often that is closed.
func TestConnectionsForgotten(t *testing.T) {
	p := &pipes{clients: make(chan net.Conn, 4)}
	l := share(p)
	for i := range 4 {
		_, there := net.Pipe()
		p.clients <- from{there, fmt.Sprintf("10.0.0.%d:1", i/2)}
	}
	var conns []net.Conn
	for range 4 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for i, want := range []int{2, 1, 1, 0} {
		_, _ = conns[i].Close(), conns[i].Close()
		if len(l.open) != want {
			t.Errorf("%d closed, %d addresses", i+1, len(l.open))
		}
	}
}

// Whoever fails handshakes does not fill the log: it has a line a minute, and how many there would have been.
func TestFailedHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, files := newAuthority(t), newCredentials(t)
		cert, key := ca.issue(t, "asiduo.example")
		files.write(t, cert, key, ca.pem)
		var logs bytes.Buffer
		g := guard(t, files.Access, nil)
		ctx, cancel := context.WithCancel(t.Context())
		l := &pipes{clients: make(chan net.Conn)}
		wait := serveOn(ctx, l, http.NotFoundHandler(), g, slog.New(slog.NewTextHandler(&logs, nil)))
		for minute, want := range []string{"TLS handshake error", "left_out=99"} {
			for range 100 {
				here, there := net.Pipe()
				l.clients <- there
				_ = here.Close()
			}
			synctest.Wait()
			if told := logs.String(); strings.Count(told, "\n") != minute+1 || !strings.Contains(told, want) {
				t.Errorf("minute %d: the log says\n%s", minute, told)
			}
			time.Sleep(time.Minute)
		}
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
	})
}
