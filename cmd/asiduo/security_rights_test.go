//go:build kafka

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// TestSecurityRights runs an application as a user with the rights that "init --acls" prints and no others: purchases
// in, events out, who is there changes his password, certificate and token meanwhile, the broker its authority, and others take over. Then it takes
// the rights away, one by one.
func TestSecurityRights(t *testing.T) {
	g := newGuarded(t)
	w := newWorldOf(t, "guarded", []string{g.plain}, smallScale, uint64(time.Now().UnixNano()), func(w *world) {
		w.cfg.Kafka = g.over(g.secure, config.SASL{Mechanism: "SCRAM-SHA-512", Username: "test", PasswordFile: g.file("test.password", "test-secret\n")})
	})
	g.grantPrinted(w, "User:app")
	t.Run("rotation", func(t *testing.T) { g.rotation(t, w) })
	g.used(t, "app", rightsOf(w.cfg, "run")) // also if something has failed: it may be for want of a right
	if !t.Failed() {
		t.Run("operators", func(t *testing.T) { g.operators(t, w) })
		t.Run("without", func(t *testing.T) { g.runWithout(t, w) })
		t.Run("init", func(t *testing.T) { g.initWithout(t, w) })
	}
}

func rightsOf(c config.Config, command string) (list []pipeline.Right) {
	for _, r := range pipeline.Rights(c) {
		if r.Command == command {
			list = append(list, r)
		}
	}
	return list
}

// grantPrinted does what is printed for the processes, in a shell, as the administrator of the brokers.
func (g *guarded) grantPrinted(w *world, principal string) {
	g.t.Helper()
	p := newProcess(g.t, w, "printing")
	p.configure(func(c *config.Config) {
		c.Kafka = config.Kafka{Brokers: []string{g.plain}, SASL: config.SASL{Mechanism: "none"}}
	})
	script, _, _ := strings.Cut(p.command("init", "--acls", "--principal", principal), "# asiduo init\n")
	kafka, err := filepath.Abs("../../deploy/kafka/kafka.sh")
	if err != nil {
		g.t.Fatal(err)
	}
	tool := fmt.Sprintf("set -e\nkafka-acls.sh() { bash %s tool org.apache.kafka.tools.AclCommand \"$@\"; }\n", kafka)
	if out, err := exec.CommandContext(g.t.Context(), "bash", "-c", tool+script).CombinedOutput(); err != nil {
		g.t.Fatalf("%v\n%s\n%s", err, script, out)
	}
}

// grant lets a user do something.
func (g *guarded) grant(w *world, user string, rights ...pipeline.Right) {
	g.t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	for _, r := range rights {
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, _ = kmsg.ParseACLResourceType(strings.ReplaceAll(r.Resource, "-", "_"))
		c.ResourcePatternType, _ = kmsg.ParseACLResourcePatternType(r.Pattern)
		c.Operation, _ = kmsg.ParseACLOperation(r.Operation)
		c.ResourceName, c.Principal, c.Host, c.PermissionType = r.Name, "User:"+user, "*", kmsg.ACLPermissionTypeAllow
		req.Creations = append(req.Creations, c)
	}
	resp, err := req.RequestWith(g.t.Context(), w.cl)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, r := range resp.Results {
		if r.ErrorCode != 0 {
			g.t.Fatalf("grant: %s", *r.ErrorMessage)
		}
	}
}

// rotation is the life of an application whose user logs in by password, by certificate and by token.
func (g *guarded) rotation(t *testing.T, w *world) {
	password := func(to string) string {
		t.Helper()
		_, err := w.adm.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "app", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: to}})
		if err != nil {
			t.Fatal(err)
		}
		return g.file("app.password", to+"\n")
	}
	instance := func(name string, k config.Kafka) *process {
		p := newProcess(t, w, name)
		p.configure(func(c *config.Config) { c.Kafka = k })
		return p
	}
	goesOn := func(p *process) {
		t.Helper()
		awaitCycles(t, 20*time.Second, p.shards(), p)
	}
	const reauth = 5 * time.Second // of .ci/kafka-test.sh
	a := instance("a", g.over(g.secure, config.SASL{Mechanism: "SCRAM-SHA-512", Username: "app", PasswordFile: password("first")}))
	await(t, 10*time.Second, "the password is known", func() bool {
		cl, _, err := admin(t.Context(), a.cfg.Kafka)
		if err == nil {
			cl.Close()
		}
		return err == nil
	})
	a.start()
	awaitAll(t, 30*time.Second, "start with a password", 1, a)
	w.startLoad(20, a)
	w.cl.Produce(t.Context(), &kgo.Record{Topic: w.cfg.Inputs.Purchases, Key: []byte("x"), Value: []byte("{")}, w.written) // a dead letter
	password("second")
	g.renewBrokers(t, w)
	time.Sleep(reauth + time.Second)
	goesOn(a)

	const life = 25 * time.Second
	b, issued := instance("b", g.certified("app", life)), time.Now()
	b.start()
	awaitAll(t, 30*time.Second, "another with a certificate", 1, a, b)
	g.certified("app", time.Hour)
	time.Sleep(time.Until(issued.Add(life + time.Second)))
	a.kill()
	awaitAll(t, 40*time.Second, "take-over with a new certificate", worldShards, b)

	c := instance("c", g.bearing("app", life))
	issued = time.Now()
	c.start()
	awaitAll(t, 30*time.Second, "another with a token", 1, b, c)
	g.token("app", time.Hour)
	time.Sleep(time.Until(issued.Add(life + time.Second)))
	goesOn(c)
	w.finish(b, c)
}

// renewBrokers gives the listener for passwords and tokens a certificate of another authority. Kafka wants the name to be
// the same.
func (g *guarded) renewBrokers(t *testing.T, w *world) {
	t.Helper()
	cert, key := g.signed(&x509.Certificate{
		Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}, nil)
	g.file("ca.pem", g.authority()+cert)
	const listener = "listener.name.secure.ssl.keystore."
	at, kind := g.file("broker.pem", key+cert), "PEM"
	alter := func(op kadm.IncrementalOp) {
		_, err := w.adm.AlterBrokerConfigs(context.Background(), []kadm.AlterConfig{{Op: op, Name: listener + "location", Value: &at}, {Op: op, Name: listener + "type", Value: &kind}}, 1)
		if err != nil {
			t.Error(err)
		}
	}
	alter(kadm.SetConfig)
	t.Cleanup(func() { alter(kadm.DeleteConfig) }) // for other tests
	only := x509.NewCertPool()
	only.AppendCertsFromPEM([]byte(cert))
	await(t, 10*time.Second, "the broker has a new certificate", func() bool {
		conn, err := tls.Dial("tcp", g.secure, &tls.Config{RootCAs: only})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// operators look at the application, and publish, with the rights of its processes; only the settings of the inputs are
// closed to them.
func (g *guarded) operators(t *testing.T, w *world) {
	p := newProcess(t, w, "b")
	p.configure(func(c *config.Config) { c.Kafka = g.bearing("app", time.Hour) })
	p.command("check", "--connect")
	p.command("state", "verify")
	p.configure(func(c *config.Config) { c.Churn.HorizonDays++ })
	p.command("model", "publish", "--yes")
	out, _ := attempt(t, p, "doctor", "--json") // the keys of dead letters are a fault
	var found []finding
	if err := json.Unmarshal([]byte(out[:strings.LastIndex(out, "]")+1]), &found); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, f := range found {
		if refused := strings.Contains(f.Detail, "AUTHORIZATION"); refused != (f.Check == "settings" || f.Check == "retention") || f.Check == "rights" {
			t.Errorf("%+v", f)
		}
	}
}

var audited = regexp.MustCompile(`Principal = User:(\S+) is (Allowed|Denied) operation = (\S+) from .* on resource = (\w+):LITERAL:(\S+) for request = (\w+)`)

// used holds that a user has asked for just what the rights of an application are for, as the authorizer has written down:
// nothing else, so that they suffice, and for each of them, so that none can be left out. With several applications, it
// may have been for another of them.
func (g *guarded) used(t *testing.T, user string, rights ...[]pipeline.Right) {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(g.run, "1.log.acl"))
	if err != nil {
		t.Fatal(err)
	}
	is := map[pipeline.Right]string{} // by which request
	for _, line := range audited.FindAllStringSubmatch(string(log), -1) {
		if line[1] != user {
			continue
		}
		kind := map[string]string{"Topic": "topic", "Group": "group", "TransactionalId": "transactional-id"}[line[4]]
		known := false
		for _, r := range slices.Concat(rights...) {
			if r.Resource != kind || line[5] != r.Name && (r.Pattern == "literal" || !strings.HasPrefix(line[5], r.Name)) {
				continue
			}
			switch asked := strings.ReplaceAll(line[3], "_", ""); {
			case strings.EqualFold(asked, r.Operation):
				known, is[r] = true, line[6]
			case asked == "DESCRIBE" && (r.Operation == "Read" || r.Operation == "Write"):
				known = true
			}
		}
		if !known || line[2] == "Denied" {
			t.Errorf("not granted: %s", line[0])
		}
	}
	for i, r := range rights[0] {
		by := ""
		for _, of := range rights {
			by = cmp.Or(by, is[of[i]])
		}
		if by == "" {
			t.Errorf("%v: nothing has asked for it", r)
		}
		t.Logf("%v: %s, and perhaps others", r, by)
	}
}

// attempt runs a command that must end by itself.
func attempt(t *testing.T, p *process, args ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	text, err := exec.CommandContext(ctx, p.binary, append(args, "-c", p.file)...).CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("asiduo %v has not ended", args)
	}
	return string(text), err
}

// without are all but one.
func without(rights []pipeline.Right, i int) []pipeline.Right {
	return append(append([]pipeline.Right{}, rights[:i]...), rights[i+1:]...)
}

// runWithout runs a process without one right after the other.
func (g *guarded) runWithout(t *testing.T, w *world) {
	rights := rightsOf(w.cfg, "run")
	for i, r := range rights {
		user := fmt.Sprintf("poor-%d", i)
		g.grant(w, user, without(rights, i)...)
		p := newProcess(t, w, user)
		p.configure(func(c *config.Config) { c.Kafka = g.bearing(user, time.Hour) })
		t.Run(r.String(), func(t *testing.T) {
			out, err := attempt(t, p, "run")
			if want := "asiduo: the brokers do not let this user do what run needs: " + r.String() + ` ("asiduo init --acls"`; err == nil || !strings.Contains(out, want) {
				t.Errorf("got %s, want %s", out, want)
			}
		})
	}
}

// initWithout makes the topics of an application, and of others without one right after the other.
func (g *guarded) initWithout(t *testing.T, w *world) {
	application := func(name string) *process {
		p := newProcess(t, w, name)
		p.configure(func(c *config.Config) { c.App, c.Shards, c.Kafka = name, 1, g.bearing(name, time.Hour) })
		return p
	}
	// The topics of one are not there, and those of the other are, with all that a life has left in them.
	whole := application("made")
	rights, others := rightsOf(whole.cfg, "init"), rightsOf(w.cfg, "init")
	g.grant(w, "made", slices.Concat(rights, others)...)
	for range 2 {
		if out, err := attempt(t, whole, "init"); err != nil || strings.Contains(out, "warning") {
			t.Errorf("%v %s", err, out)
		}
		whole.configure(func(c *config.Config) { c.App, c.Shards = w.cfg.App, w.cfg.Shards })
	}
	g.used(t, "made", rights, others)
	for i := range rights {
		name := fmt.Sprintf("made-%d", i)
		p := application(name)
		rights := rightsOf(p.cfg, "init")
		g.grant(w, name, without(rights, i)...)
		r := rights[i]
		t.Run(r.String(), func(t *testing.T) {
			out, err := attempt(t, p, "init")
			if want := "asiduo: the brokers do not let this user do what init needs: " + r.String() + ` ("asiduo init --acls"`; err == nil || !strings.Contains(out, want) {
				t.Errorf("got %s, want %s", out, want)
			}
		})
	}
}
