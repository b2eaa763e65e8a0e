package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state/store"
)

// fakeBroker is an embedded broker without any topic of ours.
func fakeBroker(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.BrokerConfigs(map[string]string{
		"group.initial.rebalance.delay.ms": "0",
	})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()[0]
}

// adminOf asks a broker directly.
func adminOf(t *testing.T, broker string) (*kgo.Client, *kadm.Client) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl, kadm.NewClient(cl)
}

// refused holds that a command fails with a message and no more.
func refused(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	if got := command(t, args...); got.code != code || got.err != "asiduo: "+want+"\n" {
		t.Errorf("asiduo %s:\n got %d %s\nwant %d asiduo: %s", strings.Join(args, " "), got.code, got.err, code, want)
	}
}

var aHistory = "order_id,customer_id,ordered_at,amount\n1,ana,2020-01-01T00:00:00Z,5\n"

// TestNoBroker is told at once by every command that needs one.
func TestNoBroker(t *testing.T) {
	file, history := configFile(t, "127.0.0.1:1", ""), written(t, "h.csv", aHistory)
	for _, args := range [][]string{{"run"}, {"init"}, {"check", "--connect"}, {"replay", history}} {
		refused(t, exitFailed, "no broker reachable at 127.0.0.1:1: connect: connection refused", append(args, "-c", file)...)
	}
}

// TestLogin tells apart what may be wrong between us and brokers that are there.
func TestLogin(t *testing.T) {
	users, at := fakeBroker(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "asiduo", "right"), kfake.Superuser("PLAIN", "asiduo", "right"))
	file := func(mechanism, password string) string {
		return written(t, "asiduo.yaml", fmt.Sprintf("app: shop\ncurrency: EUR\nkafka: {brokers: [%q], sasl: {mechanism: %s, username: asiduo, password: %s}}\napi: {listen: \"\"}\nadmin: {listen: \"\"}\n", at, mechanism, password))
	}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256"} {
		refused(t, exitFailed, "input topic \"purchases\" is missing\ninput topic \"interactions\" is missing", "init", "-c", file(mechanism, "right"))
		for _, name := range []string{"init", "run"} {
			refused(t, exitFailed, "the brokers at "+at+" hang up when user \"asiduo\" logs in with "+mechanism+": do they know the user, this mechanism, and TLS as it is set here?",
				name, "-c", file(mechanism, "wrong"))
		}
	}
	refused(t, exitFailed, "the brokers at "+at+" hang up at once: do they want a user (kafka.sasl) or TLS (kafka.tls)?", "init", "-c", configFile(t, at, ""))
	users.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) { // as Kafka does it
		users.KeepControl()
		no := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		no.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return no, nil, true
	})
	refused(t, exitFailed, "the brokers at "+at+" refuse user \"asiduo\" with PLAIN: wrong user or password", "run", "-c", file("PLAIN", "wrong"))
	users.ControlKey(int16(kmsg.SASLHandshake), func(r kmsg.Request) (kmsg.Response, error, bool) {
		users.KeepControl()
		no := r.ResponseKind().(*kmsg.SASLHandshakeResponse)
		no.ErrorCode, no.SupportedMechanisms = kerr.UnsupportedSaslMechanism.Code, []string{"GSSAPI"}
		return no, nil, true
	})
	refused(t, exitFailed, "the brokers at "+at+" do not let users log in with PLAIN: set kafka.sasl.mechanism to one they offer", "run", "-c", file("PLAIN", "right"))
}

// TestSilentBroker is a port that takes connections and does not answer what we say.
func TestSilentBroker(t *testing.T) {
	_, at := fakeBroker(t)
	c := config.Kafka{Brokers: []string{at}, TLS: config.TLS{Enabled: true}, SASL: config.SASL{Mechanism: "none"}}
	cl, err := pipeline.Connector(c)()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // not the whole ten seconds
	defer cancel()
	err = pipeline.Ping(ctx, cl, c)
	if want := "no answer from the brokers at " + at + " within 10s: is it the right port, and TLS or SASL as they expect?"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestTopics are those that do not fit, at init and at run.
func TestTopics(t *testing.T) {
	_, at := fakeBroker(t, kfake.SeedTopics(6, "purchases"), kfake.SeedTopics(9, "interactions"))
	file := func(more string) string { return configFile(t, at, more) }
	refused(t, exitFailed, "input topic \"orders\" is missing", "init", "-c", file("inputs: {purchases: orders}\n"))
	const create = "\" is missing: create it with \"asiduo init\""
	own := []string{"shop.changelog", "shop.parameters", "shop.segment-changes", "shop.churn-risk", "shop.dead-letters", "shop.profiles"}
	missing := "topic \"" + strings.Join(own, create+"\ntopic \"") + create
	refused(t, exitFailed, missing, "run", "-c", file(""))
	refused(t, exitFailed, "input topic \"orders\" is missing\n"+missing, "run", "-c", file("inputs: {purchases: orders}\n"))
	const four = "4 shards do not divide the inputs: topic \"interactions\" has 9 partitions, topic \"purchases\" has 6 partitions; the partition count of every input must be a multiple of the number of shards"
	refused(t, exitUsage, four, "init", "-c", file("shards: 4\n"))
	if got := command(t, "init", "-c", file("")); got.code != exitGood || !strings.HasPrefix(got.out, "3 shards\nshop.changelog: created\n") {
		t.Fatalf("init: %+v", got)
	}
	for _, name := range [][]string{{"run"}, {"check", "--connect"}} {
		refused(t, exitFailed, "shards is 1, but topic \"shop.changelog\" has 3 partitions: the number of shards is fixed when the topics are created", append(name, "-c", file("shards: 1\n"))...)
	}
	_, adm := adminOf(t, at)
	policy := "delete"
	if _, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}}, "shop.changelog"); err != nil {
		t.Fatal(err)
	}
	for _, name := range [][]string{{"run"}, {"init"}} {
		refused(t, exitFailed, "topic \"shop.changelog\" has cleanup.policy=delete: only compact keeps every customer", append(name, "-c", file(""))...)
	}
	remake(t, adm, "shop.profiles", 2)
	refused(t, exitFailed, "topic \"shop.profiles\" has 2 partitions, not one per shard (3)", "run", "-c", file(""))
	remake(t, adm, "interactions", 4)
	refused(t, exitFailed, "topic \"shop.profiles\" has 2 partitions, not one per shard (3)\n"+
		"3 shards do not divide the inputs: topic \"interactions\" has 4 partitions; the partition count of every input must be a multiple of the number of shards", "run", "-c", file(""))
}

// remake deletes a topic and makes it again with another number of partitions.
func remake(t *testing.T, adm *kadm.Client, topic string, partitions int32) {
	t.Helper()
	if _, err := adm.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// TestDataDirectory are those that cannot be ours.
func TestDataDirectory(t *testing.T) {
	_, at := fakeBroker(t, kfake.SeedTopics(2, "purchases", "interactions"))
	first := configFile(t, at, "")
	if got := command(t, "init", "-c", first); got.code != exitGood {
		t.Fatalf("init: %+v", got)
	}
	run := func(dir, want string) {
		t.Helper()
		file := written(t, "asiduo.yaml", fmt.Sprintf("app: shop\ncurrency: EUR\nkafka: {brokers: [%q]}\napi: {listen: \"\"}\nadmin: {listen: \"\"}\nstate: {dir: %q}\noutputs: {replication_factor: 1}\n", at, dir))
		refused(t, exitFailed, want, "run", "-c", file)
	}
	other := t.TempDir()
	held, err := store.Hold(vfs.Default, other, "another")
	if err != nil {
		t.Fatal(err)
	}
	run(other, "data directory "+other+" is in use by another process: lock held by current process")
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	run(other, "data directory "+other+" belongs to application \"another\", not \"shop\": set state.dir to another")
	plain := written(t, "file", "")
	run(filepath.Join(plain, "data"), "data directory "+plain+"/data: mkdir "+plain+": not a directory")
	broken := filepath.Dir(written(t, "identity.json", "{"))
	run(broken, "data directory "+broken+": "+broken+"/identity.json is not readable: remove the directory, or set state.dir to another")
}

// TestReplayRefuses topics that would not keep old records, and says how to change them.
func TestReplayRefuses(t *testing.T) {
	_, at := fakeBroker(t, kfake.SeedTopics(2, "purchases", "interactions"))
	_, adm := adminOf(t, at)
	file, history := configFile(t, at, ""), written(t, "h.csv", aHistory)
	set := func(pairs ...string) {
		t.Helper()
		var all []kadm.AlterConfig
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, kadm.AlterConfig{Name: pairs[i], Value: &pairs[i+1]})
		}
		answer, err := adm.AlterTopicConfigs(t.Context(), all, "purchases")
		if err != nil || answer[0].Err != nil {
			t.Fatal(err, answer)
		}
	}
	want := func(settings string) {
		t.Helper()
		refused(t, exitFailed, "topic \"purchases\" would not keep records of 2020-01-01; fix it with\n  kafka-configs.sh --bootstrap-server "+at+
			" --alter --topic purchases --add-config "+settings, "replay", "-c", file, history)
	}
	want("retention.ms=-1")
	set("message.timestamp.type", "LogAppendTime", "retention.ms", "86400000")
	want("message.timestamp.type=CreateTime,retention.ms=-1")
	set("retention.ms", "-1")
	want("message.timestamp.type=CreateTime")
	refused(t, exitFailed, "open missing.csv: no such file or directory", "replay", "-c", file, "missing.csv")
	refused(t, exitFailed, "input topic \"orders\" is missing", "replay", "-c", configFile(t, at, "inputs: {purchases: orders}\n"), history)
}
