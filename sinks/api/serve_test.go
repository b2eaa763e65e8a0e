package api

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func readCloser(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

// get asks and reads the answer to its end.
func get(c *http.Client, url string) (int, string, error) {
	r, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// When its context ends, Serve lets short answers end, ends long ones and gives the port back.
func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	under, finish, long := make(chan string, 2), make(chan struct{}), make(chan struct{})
	h := http.NewServeMux()
	h.Handle("/", Public(newWorld(t).o))
	h.HandleFunc("/short", func(w http.ResponseWriter, r *http.Request) {
		under <- "short"
		<-finish
		_, _ = io.WriteString(w, "done")
	})
	h.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		under <- "long"
		<-r.Context().Done()
		close(long)
	})
	addr, wait, err := Serve(ctx, "127.0.0.1:0", h, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	if code, body, err := get(client, "http://"+addr+"/livez"); code != 200 || err != nil || body != "{\"status\":\"ok\"}\n" {
		t.Errorf("/livez: %d %q, %v", code, body, err)
	}
	if _, _, err := Serve(ctx, addr, h, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "listen for HTTP: ") {
		t.Errorf("listen on a taken port: %v", err)
	}
	type result struct {
		code int
		body string
		err  error
	}
	short := make(chan result, 1)
	go func() {
		code, body, err := get(client, "http://"+addr+"/short")
		short <- result{code, body, err}
	}()
	go func() { _, _, _ = get(client, "http://"+addr+"/long") }()
	<-under
	<-under
	cancel()
	<-long
	close(finish)
	if r := <-short; r.code != 200 || r.body != "done" || r.err != nil {
		t.Errorf("what was under way: %+v", r)
	}
	for range 2 { // as often as one likes
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	_ = l.Close()
}

// pipes is a listener without a network, whose clients live in virtual time.
type pipes struct {
	clients chan net.Conn
	once    sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.clients
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.clients) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Nobody keeps a connection by doing nothing: not with half a header or half a body, not without another request, not
// with an answer that is not read.
func TestSlowClients(t *testing.T) {
	for name, test := range map[string]struct {
		sends  string
		within time.Duration
		reads  bool
	}{
		"nothing":          {"", headerTimeout, true},
		"half a header":    {"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", headerTimeout, true},
		"half a body":      {"POST /v1/moves HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", readTimeout + time.Second, true},
		"no other request": {"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", idleTimeout, true},
		"does not read":    {"GET /v1/shards HTTP/1.1\r\nHost: x\r\n\r\n", writeTimeout, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.o.Moves = func(context.Context, []byte) (any, error) { return nil, nil }
				ctx, cancel := context.WithCancel(t.Context())
				l := &pipes{clients: make(chan net.Conn)}
				wait := serveOn(ctx, l, Admin(w.o), nil, nil)
				here, there := net.Pipe()
				watched := &watchedConn{Conn: there, closed: make(chan struct{})}
				l.clients <- watched
				began := time.Now()
				if _, err := io.WriteString(here, test.sends); err != nil {
					t.Fatal(err)
				}
				if test.reads {
					go func() { _, _ = io.Copy(io.Discard, here) }()
				}
				<-watched.closed
				if took := time.Since(began); took > test.within || took < test.within/2 {
					t.Errorf("the connection was kept for %v, want %v", took, test.within)
				}
				_ = here.Close()
				cancel()
				if err := wait(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Connections beyond a number wait until another ends.
func TestManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &pipes{clients: make(chan net.Conn)}
		wait := serveOn(ctx, l, Public(newWorld(t).o), nil, nil)
		var ours []net.Conn
		connect := func() {
			here, there := net.Pipe()
			ours = append(ours, here)
			l.clients <- there
		}
		for range maxConnections {
			connect()
		}
		accepted := make(chan struct{})
		go func() { connect(); close(accepted) }()
		synctest.Wait()
		select {
		case <-accepted:
			t.Error("one too many")
		default:
		}
		_ = ours[0].Close()
		<-accepted
		for _, c := range ours {
			_ = c.Close()
		}
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
	})
}

// watchedConn says when it is closed.
type watchedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Headers may not grow without end, and a request that is no HTTP harms nobody.
func TestServeRefuses(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var logs bytes.Buffer
	addr, wait, err := Serve(ctx, "127.0.0.1:0", Public(newWorld(t).o), nil, slog.New(slog.NewTextHandler(&logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                                  "HTTP/1.1 200 OK",
		"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n":        "HTTP/1.1 431 Request Header Fields Too Large",
		"GET /v1/customers/%zz HTTP/1.1\r\nHost: x\r\n\r\n":                                            "HTTP/1.1 400 Bad Request",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                                   "HTTP/1.1 404 Not Found",
		"GET /v1/customers/a//../b%2F HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                "HTTP/1.1 404 Not Found",
		"GET /v1/customers/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc": "HTTP/1.1 404 Not Found",
		"no HTTP\r\n\r\n": "HTTP/1.1 400 Bad Request",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, request)
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		got, _ := io.ReadAll(c) // a refused request may end in a reset
		if !strings.HasPrefix(string(got), want) {
			t.Errorf("%.60q: got %.60q, want %q", request, got, want)
		}
		_ = c.Close()
	}
	cancel()
	if err := wait(); err != nil {
		t.Error(err)
	}
}
