package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestListenersAreGuarded has listeners that other machines reach and that ask nobody anything.
func TestListenersAreGuarded(t *testing.T) {
	file := written(t, "asiduo.yaml", `app: shop
currency: EUR
kafka: {brokers: ["127.0.0.1:1"]}
api: {listen: "0.0.0.0:8080", advertise: "http://asiduo-0.example:8080"}
admin: {listen: ":9100"}
`)
	const want = "%[1]s:4:7: api.listen: 0.0.0.0:8080 can be reached from other machines: set api.access.tokens_file or api.access.client_ca_file, " +
		"or say api.access.insecure: true if everybody who reaches it may ask\n" +
		"%[1]s:5:9: admin.listen: :9100 can be reached from other machines: set admin.access.tokens_file or admin.access.client_ca_file, " +
		"or say admin.access.insecure: true if everybody who reaches it may ask\n"
	for _, name := range []string{"run", "check"} {
		if got := command(t, name, "-c", file); got.code != exitUsage || got.err != fmt.Sprintf(want, file) {
			t.Errorf("asiduo %s: got %d %s", name, got.code, got.err)
		}
	}
}

// TestRunRefusesAccess has files that cannot be used: nothing listens, and no broker is asked.
func TestRunRefusesAccess(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	file := func(listener, access string) string {
		return written(t, "asiduo.yaml", fmt.Sprintf("app: shop\ncurrency: EUR\nkafka: {brokers: [\"127.0.0.1:1\"]}\nstate: {dir: %q}\n%s: {listen: \"127.0.0.1:0\", access: {%s}}\n",
			filepath.Join(t.TempDir(), "data"), listener, access))
	}
	missing := "open " + none + ": no such file or directory"
	refused(t, exitFailed, "api.access: tokens: "+missing, "run", "-c", file("api", "tokens_file: "+none))
	refused(t, exitFailed, "admin.access: TLS: "+missing, "run", "-c", file("admin", "cert_file: "+none+", key_file: "+none))
	refused(t, exitFailed, "admin.access: "+missing, "state", "get", "-c", file("admin", "tokens_file: "+none), "ana")
}

// TestRunWithTokens is a process whose listeners are on every address. Who has no token is told whether it is well, and
// commands have theirs from the configuration.
func TestRunWithTokens(t *testing.T) {
	w := newTown(t)
	const token, commands = "shop-0123456789abcdef", "commands-0123456789abcdef"
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokens, []byte(commands+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ASIDUO_TEST_TOKEN", token)
	port := func() string { _, p, _ := strings.Cut(unused(t), ":"); return p }
	here := port()
	s := w.run("api: {listen: ", `api: {access: {tokens: ["${ASIDUO_TEST_TOKEN}"]}, listen: `,
		"admin: {listen: ", fmt.Sprintf(`admin: {access: {tokens_file: %q}, listen: ":%s"}`+"\n# ", tokens, here))
	s.ready(townShards)
	w.buy("canary-ana", "o1", time.Now())
	w.expect("canary-ana", "", "new", "order")
	s.admin = "127.0.0.1:" + here
	for _, request := range [][2]string{{s.api, "/v1/customers/canary-ana"}, {s.api, "/v1/shards"}, {s.admin, "/metrics"}, {s.admin, "/v1/state/scan?shard=0"}} {
		if status, body, h := s.ask("GET", request[0], request[1]); status != http.StatusUnauthorized || h.Get("WWW-Authenticate") == "" || strings.Contains(body, "canary") {
			t.Errorf("%s: %d %s", request[1], status, body)
		}
	}
	if status, _, _ := s.ask("GET", s.admin, "/livez"); status != http.StatusOK {
		t.Errorf("health: %d", status)
	}
	eventually(t, "the customer is shown", func() bool {
		status, _ := s.askWith(token, s.api, "/v1/customers/canary-ana")
		return status == http.StatusOK
	})
	if status, body := s.askWith(token, s.admin, "/metrics"); status != http.StatusUnauthorized {
		t.Errorf("a token of the other listener: %d %s", status, body)
	}
	if got := command(t, "state", "get", "-c", s.file, "canary-ana"); got.code != exitGood || !strings.Contains(got.out, `"customer_id":"canary-ana"`) {
		t.Errorf("state get: %+v", got)
	}
	if got := command(t, "snapshot", "-c", s.file); got.code != exitGood {
		t.Errorf("snapshot: %+v", got)
	}
	if err := os.WriteFile(tokens, []byte("another-0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old token counts no more", func() bool {
		status, _ := s.askWith(commands, s.admin, "/metrics")
		return status == http.StatusUnauthorized
	})
	if got := command(t, "check", "-c", s.file); got.code != exitGood || strings.Contains(got.out, token) {
		t.Errorf("check: %+v", got)
	}
	s.stop()
	if text := s.log.String(); strings.Contains(text, "0123456789") || strings.Contains(text, "canary") {
		t.Errorf("the log has a token or names a customer:\n%s", text)
	}
}
