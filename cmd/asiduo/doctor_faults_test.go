package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state/store"
)

// finds holds that a check of doctor finds a thing and what is to be done, and tells it with the right exit code.
func finds(t *testing.T, file, check, status, detail, fix string, more ...string) {
	t.Helper()
	all, code := examined(t, file, more...)
	var seen []finding
	for _, f := range all {
		if f.Check != check {
			continue
		}
		if f.Status == status && regexp.MustCompile("^"+detail+"$").MatchString(f.Detail) && regexp.MustCompile("^"+fix+"$").MatchString(f.Fix) {
			if status == "fault" && code != exitFailed {
				t.Errorf("exit code %d with a fault", code)
			}
			return
		}
		seen = append(seen, f)
	}
	t.Errorf("%s: %s (%s) is not found:\n%+v", status, detail, fix, seen)
}

// forge makes the brokers answer a request as they do now, but for a change, until it is undone.
func forge[R kmsg.Response](t *testing.T, cluster *kfake.Cluster, req kmsg.Request, change func(R)) (undo func()) {
	t.Helper()
	cl, _ := adminOf(t, cluster.ListenAddrs()[0])
	resp, err := cl.Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	change(resp.(R))
	answer := resp.AppendTo(nil)
	var over atomic.Bool
	cluster.ControlKey(req.Key(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if over.Load() {
			return nil, nil, false
		}
		cluster.KeepControl()
		copied := r.ResponseKind() // each is written by another goroutine
		copied.SetVersion(resp.GetVersion())
		err := copied.ReadFrom(answer)
		copied.SetVersion(r.GetVersion())
		return copied, err, true
	})
	return func() { over.Store(true) }
}

// changed is a configuration in which one text is another.
func changed(t *testing.T, file, old, new string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("no %q in the configuration", old)
	}
	return written(t, "asiduo.yaml", strings.Replace(string(text), old, new, 1))
}

// skipLost is what to do about records that are lost.
const skipLost = `set inputs\.lost: skip, start "asiduo run", and set it back to stop when a dead letter \(input_lost\) has told of it`

// TestDoctorOfLostInputs loses inputs in every way that stops a shard, and looks before and after it has stopped.
func TestDoctorOfLostInputs(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	who := "c1"
	place := w.place([]byte(who), townShards)
	w.buy(who, "o1", time.Now())
	_, adm := adminOf(t, w.broker)
	var was store.Checkpoint
	eventually(t, "the order is read", func() bool {
		all, err := pipeline.Checkpoints(t.Context(), adm, pipeline.Connector(s.cfg.Kafka), "shop")
		was = all[place]
		return err == nil && was.Inputs["purchases"].Next[place] == 1
	})
	s.stop()
	at := fmt.Sprintf("purchases/%d", place)
	finds(t, s.file, "inputs", "ok", "8 partitions go on at our positions", "")
	finds(t, s.file, "shards", "ok", `no process answers at admin\.listen \("`+s.admin+`"\)`, "")

	w.checkpoint(was, place, 7)
	finds(t, s.file, "inputs", "fault", "input "+at+" ends at 1, before our position 7: it has lost records that were processed", skipLost)
	if err := w.cluster.MoveTopicPartition("purchases", place, w.cluster.PartitionInfo("purchases", place).Leader); err != nil { // begins an epoch
		t.Fatal(err)
	}
	for i := range 3 {
		w.buy(who, fmt.Sprintf("o%d", i+2), time.Now())
	}
	w.checkpoint(was, place, 3)
	cut := "input " + at + " was cut at 1 and written again, before our position 3: it has lost records that were processed"
	finds(t, s.file, "inputs", "fault", cut, skipLost)
	finds(t, changed(t, s.file, "archive: {", "inputs: {lost: skip}\narchive: {"), "inputs", "warning", cut,
		`start "asiduo run", and set inputs\.lost back to stop when a dead letter \(input_lost\) has told of it`)
	w.checkpoint(was, place, 1)

	for _, topic := range []string{"purchases", "interactions"} {
		if _, err := adm.DeleteTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		finds(t, s.file, "topics", "fault", `input topic "`+topic+`" is missing`,
			`correct inputs in the configuration, or kafka-topics\.sh --bootstrap-server \S+ --create --topic `+topic+` --partitions 4`)
		if _, err := adm.CreateTopic(t.Context(), townShards, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	again := `input topic "purchases" was deleted and made again \(id \S+, was \S+\): its offsets mean other records now`
	finds(t, s.file, "inputs", "fault", again, skipLost)
	s = w.again(s.file)
	eventually(t, "the shard has stopped", func() bool {
		_, body, _ := s.ask("GET", s.admin, "/v1/shards")
		return regexp.MustCompile(fmt.Sprintf(`"shard":\s*%d,\s*"state":\s*"stopped"`, place)).MatchString(body)
	})
	finds(t, s.file, "shards", "fault", fmt.Sprintf("shard %d is stopped: .*%s", place, again), skipLost)
}

// TestDoctorOfLostChangelog makes it again, empty.
func TestDoctorOfLostChangelog(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	w.buy("c1", "o1", time.Now())
	w.expect("c1", "", "new", "order")
	s.stop()
	_, adm := adminOf(t, w.broker)
	if _, err := adm.DeleteTopic(t.Context(), "shop.changelog"); err != nil {
		t.Fatal(err)
	}
	finds(t, s.file, "topics", "fault", `topic "shop.changelog" is missing: create it with "asiduo init"`, `run "asiduo init"`)
	if got := command(t, "init", "-c", s.file); got.code != exitGood {
		t.Fatalf("init: %+v", got)
	}
	place := w.place([]byte("c1"), townShards)
	eventually(t, "the session of the last process is over", func() bool {
		all, err := pipeline.Members(t.Context(), adm, "shop")
		return err == nil && len(all) == 0
	})
	read := kadm.Offsets{} // a process commits them every few seconds
	read.Add(kadm.Offset{Topic: "purchases", Partition: place, At: 1, LeaderEpoch: -1, Metadata: "epoch 1"})
	if err := adm.CommitAllOffsets(t.Context(), "shop", read); err != nil {
		t.Fatal(err)
	}
	finds(t, s.file, "positions", "fault", fmt.Sprintf(`partition %d of the changelog has no state, but there was one \(purchases/%d was read up to 1\): import a snapshot, or begin over with "asiduo reset"`, place, place),
		`"asiduo import --snapshot DIR" brings back a snapshot, "asiduo reset" begins over`)
}

// checkpoint writes one of a shard that has read the purchases so far.
func (w *town) checkpoint(c store.Checkpoint, shard int32, next int64) {
	w.t.Helper()
	at := c.Inputs["purchases"]
	at.Next = map[int32]int64{shard: next}
	c.Inputs = map[string]store.InputPositions{"purchases": at, "interactions": c.Inputs["interactions"]}
	value, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.cl.ProduceSync(w.t.Context(), &kgo.Record{Topic: "shop.changelog", Partition: shard, Key: []byte("checkpoint"), Value: value}).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// TestDoctorOfPartitionCounts alters the counts in both directions.
func TestDoctorOfPartitionCounts(t *testing.T) {
	w := newTown(t)
	file := configFile(t, w.broker, "")
	_, adm := adminOf(t, w.broker)
	grow := func(topic string, to int) {
		t.Helper()
		if done, err := adm.UpdatePartitions(t.Context(), to, topic); err != nil || done.Error() != nil {
			t.Fatal(err, done.Error())
		}
	}
	remake := func(topic string, partitions int32) {
		t.Helper()
		if _, err := adm.DeleteTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if _, err := adm.CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	tool := `kafka-topics\.sh --bootstrap-server ` + regexp.QuoteMeta(w.broker)
	remake("interactions", 2)
	grow("purchases", 6)
	finds(t, file, "topics", "fault", `4 shards do not divide the inputs: topic "interactions" has 2 partitions, topic "purchases" has 6 partitions; the partition count of every input must be a multiple of the number of shards`,
		tool+` --alter --topic interactions --partitions 4 && `+tool+` --alter --topic purchases --partitions 8`)
	grow("interactions", 4)
	grow("purchases", 8)
	finds(t, file, "topics", "ok", `4 shards; purchases has 8 partitions, interactions has 4 partitions`, "")
	grow("shop.churn-risk", 5)
	remake("shop.profiles", 3)
	finds(t, file, "topics", "fault", `topic "shop.churn-risk" has 5 partitions, not one per shard \(4\)`, tool+` --delete --topic shop\.churn-risk && asiduo init -c \S+; what subscribers have not read of it is lost`)
	finds(t, file, "topics", "fault", `topic "shop.profiles" has 3 partitions, not one per shard \(4\)`, tool+` --alter --topic shop\.profiles --partitions 4`)
	remake("shop.churn-risk", 4)
	remake("shop.profiles", 4)
	if err := w.cl.ProduceSync(t.Context(), &kgo.Record{Topic: "shop.changelog", Partition: 1, Key: []byte("checkpoint"), Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	finds(t, file, "positions", "fault", `changelog partition 1, offset 0: checkpoint is not readable: .*`, `"asiduo reset" begins over; find out first who writes there`)
	grow("shop.parameters", 2)
	finds(t, file, "topics", "fault", `topic "shop.parameters" has 2 partitions, not 1`, tool+` --delete --topic shop\.parameters && asiduo init -c \S+; .* "asiduo reset"`)
	finds(t, configFile(t, w.broker, "shards: 8\n"), "topics", "fault", `shards is 8, but topic "shop.changelog" has 4 partitions: .*`, `set shards: 4, or begin over with another app`)
}

// TestDoctorOfMissingKeys: inputs that have none at all do nothing.
func TestDoctorOfMissingKeys(t *testing.T) {
	w := newTown(t)
	file := configFile(t, w.broker, "")
	finds(t, file, "partitioner", "ok", "the inputs have no records to look at", "")
	if err := w.cl.ProduceSync(t.Context(), &kgo.Record{Topic: "purchases", Partition: 1, Value: []byte("{}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	finds(t, file, "partitioner", "fault", `of the last 1 records 1 have no key: such a record becomes a dead letter \(key_mismatch\)`, "key the inputs by customer id")
}

// TestDoctorOfBombs: what unpacks to too much is not taken for a lack of rights.
func TestDoctorOfBombs(t *testing.T) {
	w := newTown(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.BrokerMaxWriteBytes(1<<28), kgo.ProducerBatchMaxBytes(1<<27), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "purchases", Key: []byte("c1"), Value: make([]byte, 65<<20)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	finds(t, configFile(t, w.broker, ""), "partitioner", "warning", `the inputs cannot be read: read purchases/\d at offset 0: .*decompresses to more than .*`,
		`find who produces such batches: run skips what unpacks to more than .*, with a dead letter \(batch_too_large\)`)
}

// TestDoctorOfReplicas looks at brokers that keep too few copies, are behind, or are not there.
func TestDoctorOfReplicas(t *testing.T) {
	three := func(replicas string) (cluster *kfake.Cluster, file string) {
		t.Helper()
		cluster, at := fakeBroker(t, kfake.NumBrokers(3), kfake.SeedTopics(2, "purchases", "interactions"))
		file = changed(t, configFile(t, at, ""), "replication_factor: 1", "replication_factor: "+replicas)
		if got := command(t, "init", "-c", file); got.code != exitGood {
			t.Fatalf("init: %+v", got)
		}
		return cluster, file
	}
	_, file := three("2")
	finds(t, file, "settings", "warning", `topic "shop.changelog" has 2 replicas on 3 brokers: what a broker loses is lost`,
		`echo '\{"partitions":\[\{"topic":"shop\.changelog","partition":0,"replicas":\[\d,\d,\d\]\},\{"topic":"shop\.changelog","partition":1,"replicas":\[\d,\d,\d\]\}\],"version":1\}' >replicas\.json && `+
			`kafka-reassign-partitions\.sh --bootstrap-server \S+ --reassignment-json-file replicas\.json --execute`)

	more := changed(t, file, "replication_factor: 2", "replication_factor: 3")
	const few = `topic "shop.changelog" has 2 replicas, fewer than outputs.replication_factor \(3\): add some, or lower it if what a broker loses may be lost`
	finds(t, more, "settings", "fault", few, `echo .* kafka-reassign-partitions\.sh --bootstrap-server \S+ --reassignment-json-file replicas\.json --execute`)
	for _, line := range []string{"run", "init", "check --connect"} {
		args := strings.Fields(line)
		got := command(t, append([]string{args[0], "-c", more}, args[1:]...)...)
		if got.code != exitFailed || !regexp.MustCompile(few).MatchString(got.err) {
			t.Errorf("%s: %+v", line, got)
		}
	}

	cluster, file := three("3")
	_, adm := adminOf(t, cluster.ListenAddrs()[0])
	if got := command(t, "check", "-c", file, "--connect"); got.code != exitGood {
		t.Errorf("check: %+v", got)
	}
	alterTopic(t, adm, "shop.changelog", "min.insync.replicas", "1")
	const alone = `topic "shop.changelog" has min.insync.replicas=1: a record that only one broker has is taken for written`
	finds(t, file, "settings", "fault", alone+`; set it to 2, or lower outputs.replication_factor if that may be lost`,
		`kafka-configs\.sh --bootstrap-server \S+ --alter --entity-type topics --entity-name shop\.changelog --add-config min\.insync\.replicas=2`)
	if got := command(t, "run", "-c", file); got.code != exitFailed || !strings.Contains(got.err, alone) {
		t.Errorf("run: %+v", got)
	}
	as := changed(t, file, "replication_factor: 3", "replication_factor: -1")
	finds(t, as, "settings", "warning", alone, `kafka-configs.*min\.insync\.replicas=2`)
	alterTopic(t, adm, "shop.changelog", "min.insync.replicas", "2")
	lag := int32(-1)
	undo := forge(t, cluster, kmsg.NewPtrMetadataRequest(), func(r *kmsg.MetadataResponse) {
		for _, topic := range r.Topics {
			if *topic.Topic == "shop.changelog" {
				p := &topic.Partitions[1]
				lag = p.Replicas[2]
				p.ISR = p.Replicas[:2]
			}
		}
	})
	finds(t, file, "settings", "warning", `shop\.changelog/\d has 2 of 3 replicas in sync`, fmt.Sprintf(`start broker %d, or see in its log why it is behind`, lag))
	undo()
	undo = forge(t, cluster, kmsg.NewPtrMetadataRequest(), func(r *kmsg.MetadataResponse) {
		gone := kmsg.NewMetadataResponseBroker()
		gone.NodeID, gone.Host, gone.Port = 9, "127.0.0.1", 1
		r.Brokers = append(r.Brokers, gone)
	})
	finds(t, file, "version", "fault", `broker 9 does not answer: .*`, "start broker 9")
	undo()
}

// TestDoctorOfGroup: a shard that the group has given to nobody is served by nobody.
func TestDoctorOfGroup(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{"shop"}
	forge(t, w.cluster, req, func(r *kmsg.DescribeGroupsResponse) {
		var a kmsg.ConsumerMemberAssignment
		m := &r.Groups[0].Members[0]
		if err := a.ReadFrom(m.MemberAssignment); err != nil || len(a.Topics) != 1 {
			t.Fatal(err, a)
		}
		a.Topics[0].Partitions = []int32{0, 3}
		m.MemberAssignment = a.AppendTo(nil)
	})
	finds(t, s.file, "group", "fault", `shards 1, 2 have no owner; members: \S+ \(127\.0\.0\.1:\d+, http://\S+\) with shards 0, 3`,
		`look again in a moment: a rebalance gives them to somebody; if it does not, restart the processes`)
}

// TestDoctorOfInstance asks a process that says it is not well.
func TestDoctorOfInstance(t *testing.T) {
	w := newTown(t)
	file := configFile(t, w.broker, "")
	shards, metrics := "[]", ""
	instance := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/metrics":
			fmt.Fprint(rw, metrics)
		case shards == "":
			rw.WriteHeader(http.StatusInternalServerError)
		default:
			fmt.Fprintf(rw, `{"app":"shop","version":"1","shards":%s}`, shards)
		}
	}))
	defer instance.Close()
	at := strings.TrimPrefix(instance.URL, "http://")
	file = changed(t, file, `admin: {listen: ""}`, fmt.Sprintf("admin: {listen: %q}", at))
	const ntp = `synchronise the clocks of this machine and the brokers \(NTP\)`
	for _, c := range []struct{ seconds, status, by, fix string }{
		{"1.5", "ok", "1.5s", ""},
		{"30", "warning", "30s", ntp},
		{"3600", "warning", "1h0m0s", ntp},
		{"-400", "warning", "-6m40s", ntp},
	} {
		metrics = "# TYPE asiduo_clock_difference_seconds gauge\nasiduo_clock_difference_seconds " + c.seconds + "\n"
		finds(t, file, "clock", c.status, "this machine differs by "+c.by+" from the brokers", c.fix)
	}
	wall := changed(t, file, "app: shop\n", "app: shop\ntime: {clock: wall}\n")
	finds(t, wall, "clock", "fault", "this machine differs by -6m40s from the brokers, and time.clock is wall: silence is played at the wrong time", ntp)
	metrics = "asiduo_clock_difference_seconds 3601\n"
	for _, f := range []string{file, wall} {
		finds(t, f, "clock", "fault", "this machine differs by 1h0m1s from the brokers, more than 1h0m0s: nobody is called silent until they agree", ntp)
	}

	for _, c := range []struct{ state, reason, status, detail, fix string }{
		{"running", "", "ok", "the process at " + at + " runs 1", ""},
		{"running", "clock: one of them must be wrong: silence waits", "warning", "shard 2 is running: clock: one of them must be wrong: silence waits", ntp},
		{"running", "lso_pinned: a transaction", "warning", "shard 2 is running: lso_pinned: a transaction", `"asiduo doctor --open-for 10s" says whose it is`},
		{"restoring", "", "warning", "shard 2 is restoring", "look again in a moment"},
		{"closed", "commit: broken pipe", "fault", "shard 2 is closed: commit: broken pipe", `it tries again by itself; if that does not help, see deploy/runbooks/AsiduoCommitFailing\.md`},
		{"disk_full", "intake is stopped until there is room", "fault", "shard 2 is disk_full: intake is stopped until there is room", "make room below .*"},
		{"stopped", "the state was made with another currency than the configuration has now", "fault", "shard 2 is stopped: the state was made .*", "change it back, or begin over with another app"},
		{"stopped", "input purchases/2 is led under epoch 1, and we have read records of epoch 4: its brokers were set back, its offsets may mean other records now", "fault", "shard 2 is stopped: input .*", skipLost},
		{"stopped", "poison", "fault", "shard 2 is stopped: poison", `see deploy/runbooks/AsiduoShardNotServed\.md`},
		{"stopped", `topic "shop.changelog" has cleanup.policy=delete: only compact keeps every customer`, "fault", "shard 2 is stopped: topic .*", `kafka-configs\.sh .* --entity-name shop\.changelog --add-config cleanup\.policy=compact`},
	} {
		line, err := json.Marshal([]map[string]any{{"shard": 2, "state": c.state, "reason": c.reason}})
		if err != nil {
			t.Fatal(err)
		}
		shards = string(line)
		finds(t, file, "shards", c.status, c.detail, c.fix)
	}
	shards = ""
	finds(t, file, "shards", "fault", "the instance at "+at+" answers 500 Internal Server Error: ", "see its log, and restart it if it stays so")
}
