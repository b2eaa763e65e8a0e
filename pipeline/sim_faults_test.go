//go:build synctests

package pipeline_test

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/state"
)

// fault is something that goes wrong. One of a process is given one that lives.
type fault struct {
	name string
	of   func(w *world, p *process)
}

var faults = []fault{
	{"stop", func(w *world, p *process) { w.stop(p.name) }},
	{"kill", func(w *world, p *process) { w.kill(p.name, false) }},
	{"power cut", func(w *world, p *process) { w.kill(p.name, true) }},
	{"wiped disk", func(w *world, p *process) {
		w.kill(p.name, true)
		delete(w.disks, p.name)
	}},
	{"old disk", func(w *world, p *process) {
		w.kill(p.name, w.rng.IntN(2) == 0)
		old := w.copies[p.name]
		w.copies[p.name] = w.disks[p.name].clone(100, w.crashRNG())
		if old != nil {
			w.disks[p.name] = old
			w.hit("an old disk is put back")
		}
		w.start(p.name)
	}},
	{"flipped bits", func(w *world, p *process) {
		if w.rng.IntN(2) == 0 {
			w.stop(p.name) // its tables are written
		} else {
			w.kill(p.name, false)
		}
		d := w.disks[p.name]
		if err := d.spoil(d.flip); err != nil {
			w.t.Fatal(err)
		}
		w.start(p.name)
	}},
	{"lost tables", func(w *world, p *process) { // as a power cut may lose the names of files
		w.stop(p.name)
		d := w.disks[p.name]
		if err := d.spoil(d.mem.Remove); err != nil {
			w.t.Fatal(err)
		}
		w.start(p.name)
	}},
	{"cut connections", func(_ *world, p *process) { p.net.cut(false) }},
	{"off the network", func(w *world, p *process) {
		down := w.some(6 * time.Second)
		p.net.cut(true)
		time.Sleep(down)
		p.net.cut(false)
	}},
	{"stands still", func(w *world, p *process) { // longer than its session, so that somebody else may take over
		p.net.pause()
		time.Sleep(w.some(20 * time.Second))
		p.net.resume()
	}},
	{"slow", func(w *world, p *process) { p.net.slow(w.some(800 * time.Millisecond)) }},
	{"lost answers", func(w *world, p *process) {
		keys := []kmsg.Key{kmsg.EndTxn, kmsg.EndTxn, kmsg.Produce, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.Fetch, kmsg.JoinGroup, kmsg.Heartbeat}
		key, n := keys[w.rng.IntN(len(keys))], 1+w.rng.IntN(3)
		w.note("%s: %d answers to %s", p.name, n, key.Name())
		p.net.loseAnswers(key, n)
		if key == kmsg.InitProducerID { // it is sent by who acquires a shard
			p.mu.Lock()
			p.traps = append(p.traps, &trap{step: pipeline.AfterEnd, n: 1, do: "fail"})
			p.mu.Unlock()
		}
	}},
	{"refusing broker", func(w *world, _ *process) { w.refuse() }},
	{"expelled", func(w *world, p *process) { // and it does not know yet
		_, _ = w.adm.LeaveGroup(w.t.Context(), kadm.LeaveGroup(w.cfg.App).InstanceIDs(w.instanceOf(p.disk)))
	}},
	{"fenced", func(w *world, _ *process) { // by somebody who takes the transactional id
		w.fence(w.ids()[w.rng.Int32N(w.cfg.Shards)])
	}},
	{"two owners", func(w *world, _ *process) {
		if w.live["intruder"] != nil {
			w.kill("intruder", false)
			return
		}
		d := w.disks["intruder"]
		if d == nil {
			d = newDisk(newMem(w), w.hit)
			w.disks["intruder"] = d
		}
		w.start("intruder")
		time.Sleep(w.some(5 * time.Second))
	}},
	{"twin", func(w *world, p *process) { // a copy of a data directory, with its identity
		if w.live["twin"] != nil {
			w.kill("twin", false)
			return
		}
		w.disks["twin"] = p.disk.clone(100, w.crashRNG())
		w.start("twin")
	}},
	{"no space", func(w *world, p *process) {
		p.disk.set(func(d *disk) { d.full = true })
		time.Sleep(w.some(6 * time.Second))
		p.disk.set(func(d *disk) { d.full = false })
	}},
	{"nearly full", func(w *world, p *process) {
		p.disk.set(func(d *disk) { d.low = true })
		time.Sleep(w.some(6 * time.Second))
		p.disk.set(func(d *disk) { d.low = false })
	}},
	{"reads fail", func(w *world, p *process) {
		n := 1 + w.rng.IntN(3)
		p.disk.set(func(d *disk) { d.reads = n })
		p.net.cut(false)
	}},
	{"opens fail", func(w *world, p *process) {
		n, name := 1+w.rng.IntN(3), p.name
		w.kill(name, false)
		w.disks[name].set(func(d *disk) { d.opens = n })
		w.start(name)
	}},
	{"trap", func(w *world, p *process) { w.trap(p) }},
	{"panic", func(w *world, p *process) { // twice at one record is not yet a dead letter
		p.mu.Lock()
		p.panic = 1 + w.rng.IntN(2)
		p.mu.Unlock()
	}},
	{"compaction", func(w *world, _ *process) { w.compact() }},
	{"other leader", func(w *world, _ *process) {
		topics := append(pipeline.InputTopics(w.cfg), w.cfg.App+".changelog", w.cfg.App+".segment-changes")
		topic := topics[w.rng.IntN(len(topics))]
		n := w.cfg.Shards
		if of := w.partitions[topic]; of > 0 {
			n = of
		}
		at, node := w.rng.Int32N(n), w.rng.Int32N(3)
		w.note("%s/%d to broker %d", topic, at, node)
		if err := w.cluster.MoveTopicPartition(topic, at, node); err != nil {
			w.t.Fatal(err)
		}
	}},
	{"more partitions", func(w *world, _ *process) { w.grow(pipeline.InputTopics(w.cfg)[w.rng.IntN(2)]) }},
	{"new parameters", func(w *world, _ *process) { w.publish() }},
	{"the clock moves", func(w *world, _ *process) { w.moveClock() }},
}

// some is a time of up to a limit.
func (w *world) some(most time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(most)))
}

// swarm is the faults of this seed: all kinds in every other one, else a few kinds that come often.
func (w *world) swarm() (few []fault) {
	if w.seed%2 == 0 {
		return faults
	}
	for range 1 + w.rng.IntN(3) {
		few = append(few, faults[w.rng.IntN(len(faults))])
	}
	return few
}

// fault does something to one of the processes, or starts one.
func (w *world) fault(kinds []fault) {
	names := []string{"a", "b", "c"}
	name, f := names[w.rng.IntN(len(names))], kinds[w.rng.IntN(len(kinds))]
	p := w.live[name]
	if p == nil {
		w.note("start %s", name)
		if w.rng.IntN(2) == 0 {
			w.start(name)
		} else {
			w.start(name, w.newTrap(w.rng, name, steps))
		}
		return
	}
	w.trapLater()
	w.note("%s: %s", name, f.name)
	f.of(w, p)
	w.hit("fault: " + f.name)
}

// refusals are requests that the processes send, and what a broker may answer instead of doing them.
var refusals = []struct {
	key    kmsg.Key
	errors []*kerr.Error
}{
	{kmsg.AddPartitionsToTxn, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.UnknownServerError, kerr.TopicAuthorizationFailed, kerr.TransactionAbortable}}, // first: only old brokers are asked
	{kmsg.Produce, []*kerr.Error{kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.InvalidProducerEpoch, kerr.UnknownServerError, kerr.KafkaStorageError, kerr.MessageTooLarge, kerr.TopicAuthorizationFailed, kerr.TransactionAbortable, kerr.OutOfOrderSequenceNumber, kerr.InvalidProducerIDMapping}},
	{kmsg.InitProducerID, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.UnknownServerError}},
	{kmsg.EndTxn, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.ProducerFenced, kerr.InvalidTxnState, kerr.UnknownServerError, kerr.RequestTimedOut, kerr.TransactionAbortable}},
	{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownLeaderEpoch, kerr.KafkaStorageError}},
	{kmsg.Metadata, []*kerr.Error{kerr.LeaderNotAvailable}},
	{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError}},
	{kmsg.OffsetForLeaderEpoch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError}},
	{kmsg.DescribeConfigs, []*kerr.Error{kerr.UnknownServerError}},
	{kmsg.OffsetFetch, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress}},
	{kmsg.OffsetCommit, []*kerr.Error{kerr.IllegalGeneration, kerr.NotCoordinator}},
	{kmsg.Heartbeat, []*kerr.Error{kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.NotCoordinator}},
	{kmsg.JoinGroup, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.UnknownMemberID}},
	{kmsg.SyncGroup, []*kerr.Error{kerr.RebalanceInProgress, kerr.NotCoordinator}},
	{kmsg.FindCoordinator, []*kerr.Error{kerr.CoordinatorNotAvailable}},
	{kmsg.DescribeGroups, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownServerError}},
	{kmsg.DescribeTransactions, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownServerError}},
}

// unrefused are requests that the processes send and that are not refused here, and why.
var unrefused = map[kmsg.Key]string{
	kmsg.ApiVersions: "begins each connection, of which many are cut",
	kmsg.LeaveGroup:  "ends a client: nothing waits for its answer",
}

// sendings are told what the processes ask of the brokers.
type sendings struct{ hit func(string) }

func (s sendings) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	s.hit("sent: " + kmsg.Key(key).Name())
}

// refuse makes the broker answer the next requests of a kind with an error. The test's own producers are left alone.
func (w *world) refuse() {
	among, ofTransaction := refusals, 4
	if !w.later.old {
		among, ofTransaction = refusals[1:], 3
	}
	r := among[(int(w.seed/2)+len(w.refusing))%len(among)] // in turn, so that none is left out
	if len(w.refusing) > 0 && w.rng.IntN(2) == 0 {
		r = among[w.rng.IntN(ofTransaction)]
	}
	f := kfake.Fault{Keys: []kmsg.Key{r.key}, Err: r.errors[w.rng.IntN(len(r.errors))], Count: 1 + w.rng.IntN(4), When: w.ours}
	if r.key == kmsg.Produce && w.rng.IntN(2) == 0 { // the rest of the transaction is taken
		own := pipeline.OwnTopics(w.cfg)
		f.Topic = own[w.rng.IntN(len(own))].Name
	}
	w.note("refuse %s %s %d times: %v", r.key.Name(), f.Topic, f.Count, f.Err)
	w.refusing = append(w.refusing, refusal{r.key, w.cluster.Fault(f)})
}

// refusal is a fault of the broker that has been set.
type refusal struct {
	key   kmsg.Key
	fault *kfake.FaultHandle
}

// ours says whether a request is one of the processes', as far as it can be told.
func (w *world) ours(r kmsg.Request) bool {
	ours := func(id string) bool { return strings.HasPrefix(id, w.cfg.App+"-") }
	switch r := r.(type) {
	case *kmsg.ProduceRequest:
		return r.TransactionID != nil && ours(*r.TransactionID)
	case *kmsg.InitProducerIDRequest:
		return r.TransactionalID != nil && ours(*r.TransactionalID)
	case *kmsg.EndTxnRequest:
		return ours(r.TransactionalID)
	case *kmsg.AddPartitionsToTxnRequest:
		return ours(r.TransactionalID)
	}
	return true
}

// compact compacts the changelog and the profiles, after everything there has been looked at.
func (w *world) compact() {
	for _, p := range w.live {
		p.net.pause()
	}
	if w.tail.caughtUp(5 * time.Second) {
		w.gather()
		w.cluster.Compact()
		w.hit("compacted")
	}
	for _, p := range w.live {
		p.net.resume()
	}
}

// moveClock moves the manual clock onto or beside the time of a record.
func (w *world) moveClock() {
	if w.cfg.Time.Clock != "manual" || len(w.log) == 0 {
		return
	}
	at := w.log[w.rng.IntN(len(w.log))].Timestamp + int64(w.rng.IntN(3)-1)
	if w.rng.IntN(3) == 0 {
		at += w.rng.Int64N(400 * 24 * 3600 * 1000)
	}
	if state.Instant(at) > w.now {
		w.note("the clock is %s", time.UnixMilli(at).UTC().Format(time.RFC3339Nano))
		w.set(state.Instant(at))
		w.hit("silence while records come")
	}
}

// sayings are what processes must have said in some seed.
var sayings = map[string]func(message string, attrs map[string]string) bool{
	"recovery: restored with a tail": func(m string, a map[string]string) bool {
		return m == "shard restored" && a["from"] != "0" && a["cycle"] != a["from"]
	},
	"recovery: rebuilt": func(m string, a map[string]string) bool {
		return m == "shard restored" && a["from"] == "0" && a["cycle"] != "0"
	},
	"recovery: store does not open": func(m string, _ map[string]string) bool { return strings.HasPrefix(m, "store does not open") },
	"recovery: store set aside":     func(m string, _ map[string]string) bool { return strings.HasPrefix(m, "store is set aside") },
	"recovery: diverged, too old":   because("older than half"),
	"recovery: fenced":              closedFor("fenced"),
	"recovery: poison":              closedFor("poison"),
	"recovery: error":               closedFor("error"),
	"recovery: partitions added":    func(m string, _ map[string]string) bool { return strings.HasPrefix(m, "partitions of the inputs") },
	"recovery: shard revoked":       func(m string, _ map[string]string) bool { return m == "shard revoked" },
	"recovery: shard lost":          func(m string, _ map[string]string) bool { return m == "shard lost" },
	"recovery: another with our identity": func(m string, a map[string]string) bool {
		return m == "consumer group" && strings.Contains(a["err"], "FENCED_INSTANCE_ID")
	},
}

func closedFor(reason string) func(string, map[string]string) bool {
	return func(m string, a map[string]string) bool {
		return strings.HasPrefix(m, "shard closed") && a["reason"] == reason
	}
}

func because(what string) func(string, map[string]string) bool {
	return func(_ string, a map[string]string) bool { return strings.Contains(a["err"], what) }
}

// always is what a batch of seeds must have seen beside every fault and saying.
func always() []string {
	all := []string{
		"input: aborted transaction", "input: transaction", "an old disk is put back", "compacted", "partitions added",
		"silence while records come", "panic at a record", "store: no space", "store: read fails", "store: open fails", "store: stalls for too long", "disk: nearly full",
		"lost answer: EndTxn", "lost answer: Produce", "lost answer: InitProducerID", "lost answer: AddPartitionsToTxn", "sent: AddPartitionsToTxn", "dead letter", "output: aborted transaction",
		"clock: broker", "end: input truncated", "end: input recreated", "end: input has lost its tail", "end: store of a shard that goes on: true", "end: store of a shard that goes on: false", "published: rules", "published: model",
		"store: as the changelog", "partitions added while records wait", "partitions added in peace", "input: a leader epoch begins", "input: retention",
		"input: cut before it is read", "input: a loss is told", "input: a record is lost",
		"published: while records come", "a file differs", "building has ended", "cuts adopted", "population: as counted", "cuts: of the population",
		"silence of somebody who is moved", "silence: too late to be news", "silence: news",
	}
	for _, f := range faults {
		all = append(all, "fault: "+f.name)
	}
	for _, r := range refusals {
		all = append(all, "refused: "+r.key.Name())
	}
	for _, step := range slices.Concat(steps, laterSteps) {
		for _, what := range []string{"kill", "power cut", "fail", "stall", "crash"} {
			all = append(all, what+" at "+string(step))
		}
	}
	return slices.Concat(all, slices.Sorted(maps.Keys(sayings)))
}
