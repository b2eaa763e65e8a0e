package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/sinks/api"
)

// errNotRunning says that nothing answers at admin.listen.
var errNotRunning = errors.New("no instance runs")

// errBrokeOff is an answer of which only a part came.
var errBrokeOff = errors.New("the answer broke off: was the shard closed? try again; if it breaks off again, the log of the instance says why")

// ask sends a request to the instance that runs with this configuration.
func ask(ctx context.Context, cfg config.Config, method, path string, out io.Writer) error {
	return askWith(ctx, cfg, method, path, http.NoBody, func(answer io.Reader) error {
		_, err := io.Copy(out, answer)
		return err
	})
}

// askWith sends one with a body and reads the answer, if it is a good one.
func askWith(ctx context.Context, cfg config.Config, method, path string, body io.Reader, read func(io.Reader) error) error {
	if cfg.Admin.Listen == "" {
		return errNotRunning
	}
	c, err := api.NewClient(cfg.Admin.Listen, access(cfg.Admin.Access))
	if err != nil {
		return fmt.Errorf("admin.access: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL(path), body)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return errNotRunning
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("the instance at %s answers %s: %s", cfg.Admin.Listen, resp.Status, strings.TrimSpace(string(text)))
	}
	if err := read(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return errBrokeOff
}

// access is who may ask a listener, as HTTP knows it.
func access(a config.Access) api.Access {
	b := api.Access{TokensFile: a.TokensFile, CertFile: a.CertFile, KeyFile: a.KeyFile, ClientCAFile: a.ClientCAFile, Rate: a.Rate}
	for _, token := range a.Tokens {
		b.Tokens = append(b.Tokens, string(token))
	}
	return b
}
