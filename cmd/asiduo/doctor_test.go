package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// examined are the findings of a doctor, as JSON tells them.
func examined(t *testing.T, file string, more ...string) (all []finding, code int) {
	t.Helper()
	got := command(t, append([]string{"doctor", "--json", "-c", file}, more...)...)
	if err := json.Unmarshal([]byte(got.out), &all); err != nil {
		t.Fatalf("doctor: %v\n%+v", err, got)
	}
	return all, got.code
}

// TestDoctorOfHealth: nothing is wrong with a process that runs as it should, nor with one that has been stopped.
func TestDoctorOfHealth(t *testing.T) {
	w, s, _, _ := photographed(t)
	look := func(group string) {
		t.Helper()
		all, code := examined(t, s.file)
		var checks []string
		for _, f := range all {
			if checks = append(checks, f.Check); f.Status != "ok" && f.Check != group {
				t.Errorf("%+v", f)
			}
		}
		if want := []string{"brokers", "version", "epoch", "topics", "settings", "transactions", "group", "clock", "partitioner", "inputs", "retention", "shards", "disk", "stores", "archive"}; !slices.Equal(checks, want) || code != exitGood {
			t.Errorf("%d, checks %v, want %v", code, checks, want)
		}
	}
	look("")
	text := command(t, "doctor", "-c", s.file)
	if lines := strings.Split(text.out, "\n"); text.code != exitGood || !strings.HasPrefix(text.out, "ok       brokers        "+w.broker+" answer\n") || lines[len(lines)-2] != "15 ok, 0 warnings, 0 faults" {
		t.Errorf("doctor: %d\n%s", text.code, text.out)
	}
	s.stop()
	look("group") // stays a member until its session is over
}

// alterTopic gives a topic a setting, or takes it away if the value is empty.
func alterTopic(t *testing.T, adm *kadm.Client, topic, key, value string) {
	t.Helper()
	op := kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value}
	if value == "" {
		op.Op, op.Value = kadm.DeleteConfig, nil
	}
	done, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{op}, topic)
	if err != nil || done[0].Err != nil {
		t.Fatalf("%v %+v", err, done)
	}
}

// TestDoctorOfBrokenSystems breaks one thing after the other, and holds what is found and what is to be done.
func TestDoctorOfBrokenSystems(t *testing.T) {
	w, s, _, _ := photographed(t)
	s.stop()
	cl, adm := adminOf(t, w.broker)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	alter := func(topic, key, value string) {
		t.Helper()
		alterTopic(t, adm, topic, key, value)
	}
	with := func(old, new string) string {
		t.Helper()
		return changed(t, s.file, old, new)
	}
	at := regexp.QuoteMeta(w.broker)
	configs := func(topic, setting string) string {
		return `kafka-configs\.sh --bootstrap-server ` + at + ` --alter --entity-type topics --entity-name ` + topic + ` --add-config ` + setting
	}
	good := s.file

	finds(t, with(w.broker, "127.0.0.1:1"), "brokers", "fault", "no broker reachable at 127.0.0.1:1: connect: connection refused", "correct kafka.brokers, kafka.tls and kafka.sasl, or start the brokers")
	eventually(t, "the session of the last process is over", func() bool {
		all, err := pipeline.Members(t.Context(), adm, "shop")
		return err == nil && len(all) == 0
	})
	finds(t, good, "group", "warning", "no process runs", `start "asiduo run"`)

	alter("shop.changelog", "message.timestamp.type", "CreateTime")
	finds(t, good, "topics", "warning", `topic "shop.changelog" has message.timestamp.type=CreateTime, should be LogAppendTime`, configs("shop.changelog", "message.timestamp.type=LogAppendTime"))
	alter("shop.changelog", "message.timestamp.type", "LogAppendTime")
	alter("shop.changelog", "cleanup.policy", "delete")
	finds(t, good, "topics", "fault", `topic "shop.changelog" has cleanup.policy=delete: only compact keeps every customer`, configs("shop.changelog", "cleanup.policy=compact"))
	alter("shop.changelog", "cleanup.policy", "compact")
	alter("shop.changelog", "delete.retention.ms", "60000")
	finds(t, good, "settings", "warning", `topic "shop.changelog" has delete.retention.ms=60000: a store that is older than half of it is built again`, configs("shop.changelog", "delete.retention.ms=86400000"))
	alter("shop.changelog", "delete.retention.ms", "86400000")
	alter("shop.changelog", "min.insync.replicas", "5")
	finds(t, good, "settings", "fault", `topic "shop.changelog" has min.insync.replicas=5 and 1 replicas: nothing can be written`, configs("shop.changelog", "min.insync.replicas=1"))
	alter("shop.changelog", "min.insync.replicas", "1")
	alter("shop.profiles", "max.message.bytes", "1000")
	finds(t, good, "topics", "fault", `topic "shop.profiles" has max.message.bytes=1000, but a record may have \d+ bytes with these limits: raise it, or lower limits`, configs("shop.profiles", `max.message.bytes=\d+`))
	alter("shop.profiles", "max.message.bytes", "1048588")
	alter("purchases", "max.message.bytes", "2097152")
	finds(t, good, "settings", "warning", `input "purchases" takes 2097152 bytes, more than limits.max_record_bytes \(1048576\): what is larger becomes a dead letter`, "raise limits.max_record_bytes to 2097152")
	alter("purchases", "max.message.bytes", "1048588")

	alter("purchases", "retention.ms", "90000000")
	finds(t, with("every: 0s", "every: 24h"), "retention", "warning", `input "purchases" keeps records for 25h0m0s, less than two snapshot intervals \(archive.every 24h0m0s\): after a loss of the changelog a snapshot may be of no use`, configs("purchases", "retention.ms=172800000, or lower archive.every"))
	if got := command(t, "check", "--connect", "-c", with("every: 0s", "every: 24h")); !strings.Contains(got.out, `# warning: input "purchases" keeps records for 25h0m0s, less than two snapshot intervals`) {
		t.Errorf("check: %+v", got)
	}
	who := "c1"
	place := w.place([]byte(who), townShards)
	w.buy(who, "unread", time.Now().Add(-24*time.Hour))
	finds(t, good, "retention", "fault", fmt.Sprintf(`purchases/%d: the oldest record that is not yet read, at offset \d+, is deleted in \S+`, place), configs("purchases", "retention.ms=180000000, and see why the shard is behind"))
	alter("purchases", "retention.ms", "144000000")
	finds(t, good, "retention", "warning", fmt.Sprintf(`purchases/%d: the oldest record that is not yet read, at offset \d+, is deleted in 1\dh\S+`, place), configs("purchases", "retention.ms=288000000, and see why the shard is behind"))
	alter("purchases", "retention.ms", "-1")
	ends, err := adm.ListEndOffsets(t.Context(), "purchases")
	must(err)
	end, _ := ends.Lookup("purchases", place)
	cut := kadm.Offsets{}
	cut.AddOffset("purchases", place, end.Offset, -1)
	_, err = adm.DeleteRecords(t.Context(), cut)
	must(err)
	finds(t, good, "inputs", "fault", fmt.Sprintf(`input purchases/%d no longer has the records at our position: %d to %d were deleted before they were read`, place, end.Offset-1, end.Offset-1), skipLost)

	finds(t, with("archive: {", "inputs: {partitioner: crc32}\narchive: {"), "partitioner", "fault", `\d+ of \d+ keys lie where crc32 puts them, all of them where murmur2 does`, "set inputs.partitioner to murmur2")
	must(cl.ProduceSync(t.Context(), &kgo.Record{Topic: "purchases", Partition: 0, Value: []byte("no key")}).FirstErr())
	finds(t, good, "partitioner", "warning", `of the last \d+ records 1 have no key: such a record becomes a dead letter \(key_mismatch\)`, "key the inputs by customer id")
	finds(t, good, "partitioner", "ok", `\d+ keys lie where murmur2 puts them`, "")
	must(cl.ProduceSync(t.Context(), &kgo.Record{Topic: "purchases", Partition: (place + 1) % townShards, Key: []byte(who), Value: []byte("{}")}).FirstErr())
	finds(t, good, "partitioner", "fault", `only \d+ of \d+ keys lie where murmur2 puts them, and no other partitioner fits all`, "key the inputs by customer id, with .*")

	finds(t, with("state: {", "state: {min_free: 1024TiB, "), "disk", "fault", `\d+ MiB are free below \S+, less than state.min_free \(1073741824 MiB\): intake is stopped`, "make room, .*")
	must(os.MkdirAll(filepath.Join(s.cfg.State.Dir, "shard-1.set-aside"), 0o700))
	finds(t, good, "stores", "warning", `\S+/shard-1.set-aside was set aside: it was damaged, too old, not of this changelog, or its restore was interrupted`, "keep it until the shard runs again; then look for the cause in the log, and remove it")
	must(os.Remove(filepath.Join(s.cfg.State.Dir, "shard-1.set-aside")))
	newer := store.CustomerKey(nil, "0") // the first to be looked at
	s.spoil(place, func(_ *store.Store, b *store.Batch) { must(b.Put(newer, []byte{state.Format + 1, 0, 0})) })
	finds(t, good, "stores", "fault", fmt.Sprintf("shard %d: state record of format %d; this release reads up to %d: run the newer release", place, state.Format+1, state.Format), "install that release again")
	s.spoil(place, func(_ *store.Store, b *store.Batch) { must(b.Put(newer, nil)) })
	tables, err := filepath.Glob(filepath.Join(s.cfg.State.Dir, "shard-*", "MANIFEST-*"))
	must(err)
	was, err := os.ReadFile(tables[0])
	must(err)
	must(os.Truncate(tables[0], 3))
	finds(t, good, "stores", "fault", `shard \d: open store (?s:.*)`, "if it is damaged, remove the directory of the shard: it is built again")
	dir, err := store.Hold(vfs.Default, s.cfg.State.Dir, "shop")
	must(err)
	finds(t, with("admin: {listen: \""+s.admin, "admin: {listen: \""), "stores", "fault", `no instance answers at admin\.listen \(\): data directory \S+ is in use by another process: .*`, "if a process uses the directory, set admin.listen so that it can be asked")
	must(dir.Release())
	must(os.WriteFile(tables[0], was, 0o600))

	finds(t, with(s.cfg.Archive.Dir, t.TempDir()), "archive", "warning", `there is no snapshot below \S+`, `"asiduo snapshot" writes one now`)
	old := with(fmt.Sprintf("{dir: %q, every: 0s}", s.cfg.Archive.Dir), fmt.Sprintf("{dir: %q, every: 1h}", t.TempDir()))
	if got := command(t, "snapshot", "-c", old, "--as-of", time.Now().UTC().Add(-3*time.Hour).Format(time.RFC3339)); got.code != exitGood {
		t.Errorf("snapshot: %+v", got)
	}
	finds(t, old, "archive", "warning", `the newest snapshot \(dt=\S+\) is 3h\S+ old, more than two of archive.every \(1h0m0s\)`, "see the log of the process that has shard 0")
	manifests, err := filepath.Glob(filepath.Join(s.cfg.Archive.Dir, "snapshots", "*", "_manifest.json"))
	must(err)
	must(os.Truncate(manifests[0], 10))
	finds(t, good, "archive", "fault", "snapshot .*: read manifest: unexpected end of JSON input", `"asiduo snapshot" writes another one`)

	alter("shop.changelog", "message.timestamp.type", "CreateTime") // so that the brokers' clock can be ahead
	must(cl.ProduceSync(t.Context(), &kgo.Record{Topic: "shop.changelog", Key: []byte("owner"), Value: []byte("{}"), Timestamp: time.Now().Add(10 * time.Minute)}).FirstErr())
	finds(t, good, "clock", "fault", `this machine differs by -(10m0|9m5\d\.\d+)s from the brokers, and time.clock is wall: silence is played at the wrong time`, `synchronise the clocks of this machine and the brokers \(NTP\)`)
	finds(t, with("clock: wall", "clock: broker"), "clock", "warning", `this machine differs by -(10m0|9m5\d\.\d+)s from the brokers`, `synchronise the clocks of this machine and the brokers \(NTP\)`)

	pub, err := parameters.Open(t.Context(), pipeline.Connector(s.cfg.Kafka), "shop")
	must(err)
	must(pub.PublishEpoch(t.Context(), parameters.Epoch{Epoch: 2, Reset: &parameters.Reset{Shards: 4}}))
	finds(t, good, "epoch", "fault", "a reset to epoch 2 has begun and is not finished: no process starts", `run "asiduo reset" again`)
	must(pub.PublishEpoch(t.Context(), parameters.Epoch{Epoch: 2, Import: &parameters.Import{Snapshot: "x"}}))
	finds(t, good, "epoch", "fault", "an import of x has begun and is not finished: no process starts", `run "asiduo import" again`)
	must(pub.PublishEpoch(t.Context(), parameters.Epoch{Epoch: 2}))
	pub.Close()

	_, err = adm.DeleteTopics(t.Context(), "shop.churn-risk", "shop.parameters")
	must(err)
	finds(t, good, "epoch", "fault", `read topic "shop.parameters": it is missing: no parameters are published: run "asiduo init"`, `run "asiduo init"`)
	finds(t, good, "topics", "fault", `topic "shop.parameters" is missing: create it with "asiduo init"`, `run "asiduo init"`)
	finds(t, good, "topics", "fault", `topic "shop.churn-risk" is missing: create it with "asiduo init"`, `run "asiduo init"`)
}

// TestDoctorOfOldBrokers: those that cannot verify transactions are a fault, those that have it switched off a warning.
func TestDoctorOfOldBrokers(t *testing.T) {
	for _, c := range []struct {
		version      *kversion.Versions
		status, want string
	}{
		{kversion.V3_5_0(), "fault", "broker 0 is older than Kafka 3.6"},
		{kversion.V3_6_0(), "warning", "broker 0 has transaction.version 0: transactions of Kafka 4 (KIP-890) are not on"},
	} {
		_, at := fakeBroker(t, kfake.MaxVersions(c.version))
		all, code := examined(t, configFile(t, at, ""))
		i := slices.IndexFunc(all, func(f finding) bool { return f.Check == "version" })
		if code != exitFailed || i < 0 || all[i].Status != c.status || all[i].Detail != c.want {
			t.Errorf("%s: %+v", c.want, all)
		}
	}
}
