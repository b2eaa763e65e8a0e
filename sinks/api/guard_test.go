package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asiduo/asiduo/state/store"
)

// file writes one into a directory of the test.
func file(t testing.TB, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	rewrite(t, name, text)
	return name
}

// rewrite replaces a file as tools that care do: at once.
func rewrite(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func guard(t testing.TB, a Access, log *slog.Logger) *Guard {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g, err := NewGuard(a, log)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// with asks with a token.
func with(h http.Handler, authorization, target string) *http.Response {
	r := httptest.NewRequest("GET", target, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result()
}

const (
	token1 = "one-0123456789abcdef"
	token2 = "two/0123456789+abcdef=="
)

// Without a token nobody is told anything but health, not even what there is.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.people()
	w.o.Guard = guard(t, Access{Tokens: []string{token1, token2}}, nil)
	public, admin := Public(w.o), Admin(w.o)
	tried := 0
	for _, h := range []http.Handler{public, admin} {
		for _, r := range append(h.(*server).routes, route{"GET", "/nothing", nil}) {
			for _, method := range []string{r.method, "HEAD", "DELETE"} {
				target := strings.NewReplacer("{id}", "ann").Replace(r.pattern)
				got := answerTo(h, method, target)
				open := r.pattern == "/livez" || r.pattern == "/readyz"
				if body := bodyOf(t, got); (got.StatusCode == http.StatusUnauthorized) == open || strings.Contains(body, "ann") {
					t.Errorf("%s %s: %s %s", method, target, got.Status, body)
				}
				tried++
			}
		}
	}
	if tried < 50 {
		t.Errorf("only %d requests", tried)
	}
	golden(t, "customer-no-token", "GET /v1/customers/ann", with(public, "", "/v1/customers/ann"))
	for authorization, want := range map[string]int{
		"Bearer " + token1: 200, "bearer  " + token2: 200, "BEARER " + token1 + " ": 200,
		"": 401, token1: 401, "Bearer": 401, "Bearer ": 401, "Basic " + token1: 401, "Bearer " + token1[1:]: 401, "Bearer " + token1 + "x": 401,
		"Bearer " + token1 + "," + token2: 401, "Bearer\t" + token1: 401, "Bearer " + strings.ToUpper(token1): 401,
	} {
		if r := with(public, authorization, "/v1/customers/ann"); r.StatusCode != want {
			t.Errorf("Authorization: %s: %s", authorization, r.Status)
		}
	}
	if r := answerTo(public, "GET", "/v1/customers/ann?access_token="+token1); r.StatusCode != 401 {
		t.Errorf("a token in a URL, where logs and redirections have it: %s", r.Status)
	}
}

// A new token counts a second after it is in the file, the old one until it is out of it. A file that is being written
// or gone shuts nobody out.
func TestTokensRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		name := file(t, "tokens", "# for the shop\n\n"+token1+"\n")
		w := newWorld(t)
		w.o.Guard = guard(t, Access{TokensFile: name}, slog.New(slog.NewTextHandler(&logs, nil)))
		h := Public(w.o)
		counts := func(when string, first, second bool) {
			t.Helper()
			time.Sleep(lookEvery)
			for token, want := range map[string]bool{token1: first, token2: second} {
				if got := with(h, "Bearer "+token, "/v1/shards").StatusCode == 200; got != want {
					t.Errorf("%s: %s counts: %v", when, token, got)
				}
			}
		}
		counts("first", true, false)
		rewrite(t, name, token1+"\n"+token2)
		counts("both", true, true)
		rewrite(t, name, token2+"\n")
		counts("second", false, true)
		for _, broken := range []string{"", "# nobody\n", token1 + "\nshort\n"} {
			rewrite(t, name, broken)
			counts("broken", false, true)
			counts("broken still", false, true)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		counts("gone", false, true)
		rewrite(t, name, token1)
		counts("back", true, false)
		// Each trouble is told once, without a token.
		for _, want := range []string{"tokens holds no token", "tokens:2: a token is 16 to 512", "no such file"} {
			if n := strings.Count(logs.String(), want); n != 1 {
				t.Errorf("%d times %q:\n%s", n, want, logs.String())
			}
		}
		if strings.Contains(logs.String(), "0123456789") || strings.Contains(logs.String(), "short") {
			t.Errorf("the log has tokens:\n%s", logs.String())
		}
	})
}

// What is wrong with the files of a listener is said before it listens.
func TestGuardRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ca := newAuthority(t)
	cert, key := ca.issue(t, "asiduo.example")
	_, otherKey := ca.issue(t, "asiduo.example")
	half := cert[:len(cert)/2] + "\n"
	mutual := func(authorities string) Access {
		return Access{CertFile: at("cert"), KeyFile: at("key"), ClientCAFile: at(authorities)}
	}
	for name, text := range map[string]string{
		"empty": "", "short": token1 + "\n\n0123456789abcde\n", "spaces": "0123456789 abcdef", "long": strings.Repeat("x", maxFile+1),
		"cert": cert, "key": key, "other": otherKey,
		"cut": cert + half, "mended": half + cert, "mangled": cert + strings.Replace(cert, "\nM", "\n!", 1) + cert,
		"no x509": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
	} {
		rewrite(t, at(name), text)
	}
	for want, a := range map[string]Access{
		"tokens: open " + at("none") + ": no such file or directory":                       {TokensFile: at("none")},
		"tokens: " + at("empty") + " holds no token":                                       {TokensFile: at("empty")},
		"tokens: " + at("short") + ":3: a token is 16 to 512 letters, digits and -._~+/=":  {TokensFile: at("short")},
		"tokens: " + at("spaces") + ":1: a token is 16 to 512 letters, digits and -._~+/=": {TokensFile: at("spaces")},
		"tokens: " + at("long") + " is longer than 1 MiB":                                  {TokensFile: at("long")},
		"TLS: open " + at("none") + ": no such file or directory":                          {CertFile: at("cert"), KeyFile: at("none")},
		"TLS: " + at("cert") + ", " + at("other") + ": tls: private key does not match public key": {
			CertFile: at("cert"), KeyFile: at("other")},
		"TLS: " + at("key") + " holds no certificate in PEM":     mutual("key"),
		"TLS: " + at("cut") + " ends inside a certificate":       mutual("cut"),
		"TLS: " + at("mended") + " holds a broken certificate":   mutual("mended"),
		"TLS: " + at("mangled") + " holds a broken certificate":  mutual("mangled"),
		"TLS: " + at("no x509") + " holds no certificate in PEM": mutual("no x509"),
	} {
		if g, err := NewGuard(a, slog.New(slog.DiscardHandler)); err == nil || err.Error() != want {
			t.Errorf("got  %v %v\nwant %s", g, err, want)
		}
	}
}

// An address has so many requests in a second; others, and probes, have theirs.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 5
		w := newWorld(t)
		w.o.Guard = guard(t, Access{Rate: perSecond, Tokens: []string{token1}}, nil)
		h := Public(w.o)
		from := func(address, target string) *http.Response {
			r := httptest.NewRequest("GET", target, nil)
			r.RemoteAddr = address
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			return rec.Result()
		}
		refusals := func(address string) (n int) {
			for i := range 3 * perSecond {
				if from(fmt.Sprintf("%s:%d", address, 1024+i), "/v1/shards").StatusCode == http.StatusTooManyRequests {
					n++
				}
			}
			return n
		}
		other := "10.0.0.2" // in another bucket than the first
		for i := 2; w.o.Guard.rates.of(other+":1") == w.o.Guard.rates.of("10.0.0.1:1"); i++ {
			other = fmt.Sprintf("10.0.0.%d", i)
		}
		for range 2 { // now, and a second later; who guesses tokens is slowed down as well
			if n := refusals("10.0.0.1"); n != 2*perSecond {
				t.Errorf("%d refused", n)
			}
			time.Sleep(time.Second)
		}
		refusals("10.0.0.1")
		golden(t, "too-many-requests", "GET /v1/shards", from("10.0.0.1:1", "/v1/shards"))
		if r := from(other+":1", "/v1/shards"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("another address: %s", r.Status)
		}
		for _, probe := range []string{"/livez", "/readyz"} {
			if r := from("10.0.0.1:1", probe); r.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", probe, r.Status)
			}
		}
		time.Sleep(time.Second)
		if n := refusals("[2001:db8::1]") + refusals("[2001:db8::ffff:2]"); n != 5*perSecond {
			t.Errorf("%d of a network's requests are refused", n)
		}
	})
}

// A crowd that asks for long answers gets some, and holds up neither short ones nor health.
func TestHeavyAnswers(t *testing.T) {
	w := newWorld(t)
	w.people()
	began, finish := make(chan struct{}, 2*maxHeavy), make(chan struct{})
	scan := w.o.Scan
	w.o.Scan = func(ctx context.Context, shard int32) (*store.View, error) {
		began <- struct{}{}
		select {
		case <-finish:
			return scan(ctx, shard)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	h := Admin(w.o)
	codes := make(chan int)
	for range maxHeavy {
		go func() { codes <- answerTo(h, "GET", "/v1/state/scan?shard=0").StatusCode }()
		<-began
	}
	golden(t, "busy", "GET /v1/state/scan?shard=0", answerTo(h, "GET", "/v1/state/scan?shard=0"))
	for target, want := range map[string]int{
		"/debug/pprof/heap": 503, "/v1/state/customers/ann": 200, "/livez": 200, "/readyz": 200, "/metrics": 200,
	} {
		if r := answerTo(h, "GET", target); r.StatusCode != want {
			t.Errorf("%s: %s", target, r.Status)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // so that one that is let in does not wait for the others
	for _, target := range []string{"/v1/state/records?shard=0", "/v1/state/scan?shard=1"} {
		r := httptest.NewRecorder()
		h.ServeHTTP(r, httptest.NewRequestWithContext(ctx, "GET", target, nil))
		if r.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", target, r.Code)
		}
	}
	close(finish)
	for range maxHeavy {
		if code := <-codes; code != 200 {
			t.Errorf("one of those: %d", code)
		}
	}
	if r := answerTo(h, "GET", "/v1/state/scan?shard=0"); r.StatusCode != 200 {
		t.Errorf("afterwards: %s", r.Status)
	}
}

// A body is read up to a limit.
func TestLongBody(t *testing.T) {
	w := newWorld(t)
	w.o.Moves = func(_ context.Context, body []byte) (any, error) { return len(body), nil }
	for length, want := range map[int]int{maxCandidate: http.StatusOK, maxCandidate + 1: http.StatusRequestEntityTooLarge} {
		r := httptest.NewRecorder()
		Admin(w.o).ServeHTTP(r, httptest.NewRequest("POST", "/v1/moves", strings.NewReader(strings.Repeat("x", length))))
		if r.Code != want {
			t.Errorf("%d bytes: %d", length, r.Code)
		}
		if want != http.StatusOK {
			golden(t, "moves-too-large", "POST /v1/moves, 1 MiB and a byte", r.Result())
		}
	}
}

// Every answer says that it is to be kept by nobody and is no page; a method that a route does not know is told which it
// does.
func TestEveryAnswer(t *testing.T) {
	w := newWorld(t)
	w.people()
	for _, h := range []http.Handler{Public(w.o), Admin(w.o), Monitor(w.o)} {
		for _, r := range append(h.(*server).routes, route{"GET", "/nothing", nil}) {
			target := strings.NewReplacer("{id}", "ann", "/profile", "/profile?seconds=x", "/trace", "/trace?seconds=0.001").Replace(r.pattern)
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
				if strings.HasSuffix(r.pattern, "/profile") && (method == "GET" || method == "HEAD") {
					continue // it takes half a minute
				}
				got := answerTo(h, method, target)
				for name, want := range map[string]string{
					"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
					"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Server": "", "X-Powered-By": "",
				} {
					if header := got.Header.Get(name); header != want {
						t.Errorf("%s %s: %s: %q", method, target, name, header)
					}
				}
				known := method == r.method || method == "HEAD" && r.method == "GET"
				if refused := got.StatusCode == http.StatusMethodNotAllowed; r.answer != nil && refused == known {
					t.Errorf("%s %s: %s", method, target, got.Status)
				} else if allow := got.Header.Get("Allow"); refused && !strings.HasPrefix(allow, r.method) {
					t.Errorf("%s %s: Allow: %q", method, target, allow)
				}
			}
		}
	}
}
