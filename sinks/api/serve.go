package api

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"
)

// Limits of a connection. An answer that takes longer to make or to send moves its own deadline.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	closeTimeout  = 5 * time.Second
	maxHeader     = 16 << 10 // bytes
)

// Serve answers on a TCP address until ctx ends, host:port where port 0 means any; addr is the one it got. Then it
// stops to listen, gives what is under way five seconds and cuts off the rest; long answers, whose contexts end with
// ctx, end at once. wait returns when all of that is done: nil, or why it ended before ctx did.
//
// With a guard that has a certificate it speaks TLS, and HTTP/1.1 either way: one request at a time on a connection, so that
// what bounds connections bounds requests.
func Serve(ctx context.Context, listen string, h http.Handler, g *Guard, log *slog.Logger) (addr string, wait func() error, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return "", nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	return l.Addr().String(), serveOn(ctx, l, h, g, log), nil
}

func serveOn(ctx context.Context, l net.Listener, h http.Handler, g *Guard, log *slog.Logger) (wait func() error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	serve := (*http.Server).Serve
	if g.TLS() != nil {
		serve = func(s *http.Server, l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	if g != nil && g.rates != nil { // else one address may be everybody: a proxy
		l = share(l)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &http.Server{
		Handler: h, TLSConfig: g.TLS(), Protocols: new(http.Protocols),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ErrorLog:                     errorLog(log),
	}
	s.Protocols.SetHTTP1(true)
	var fault error // set before done is closed
	served, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer cancel()
		served <- serve(s, netutil.LimitListener(l, maxConnections))
	}()
	go func() {
		defer close(done)
		<-ctx.Done()
		closing, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer stop()
		if err := s.Shutdown(closing); err != nil {
			log.Warn("cut off requests that did not end in time", "address", l.Addr().String())
			_ = s.Close()
		}
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			fault = fmt.Errorf("serve HTTP on %s: %w", l.Addr(), e)
		}
	}()
	return func() error { <-done; return fault }
}

// complaints are what net/http logs about its clients, each failed handshake too: anybody could fill the log.
type complaints struct {
	to      *slog.Logger
	seldom  rate.Sometimes
	leftOut int
}

// errorLog has one line a minute.
func errorLog(to *slog.Logger) *log.Logger {
	return log.New(&complaints{to: to, seldom: rate.Sometimes{Interval: time.Minute}}, "", 0)
}

// Write is called by one goroutine at a time, as log.Logger promises.
func (c *complaints) Write(line []byte) (int, error) {
	c.leftOut++
	c.seldom.Do(func() {
		c.to.Warn(strings.TrimSpace(string(line)), "left_out", c.leftOut-1)
		c.leftOut = 0
	})
	return len(line), nil
}
