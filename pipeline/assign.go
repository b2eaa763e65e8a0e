package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// membership is the process as a member of the group. The group only hints which shards the process should own; safety
// never depends on it.
type membership struct {
	p     *Pipeline
	cl    *kgo.Client
	start time.Time
	beat  atomic.Int64 // when the last answered heartbeat was sent, since start

	joined atomic.Bool // the group has given us shards, or told us that there are none for us

	mu     sync.Mutex
	shards map[int32]*assignment
}

// assignment is a shard the group gave us.
type assignment struct {
	cancel context.CancelFunc
	again  chan struct{} // asks for the present life of the shard to end
	done   chan struct{}
}

// OnBrokerE2E notes when an answered heartbeat was sent; not when the answer was read, which after a pause of the
// process may be long ago.
func (m *membership) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	const heartbeat, syncGroup = 12, 14
	if e.Err() == nil && (key == heartbeat || key == syncGroup) {
		m.beat.Store(int64(time.Since(m.start) - e.DurationE2E()))
		m.joined.Store(true)
	}
	if e.Err() == nil && key == syncGroup {
		m.p.setGroup(nil)
	}
}

// OnGroupManageError notes that the group does not have us, until it has us again.
func (m *membership) OnGroupManageError(err error) { m.p.setGroup(err) }

func (p *Pipeline) setGroup(err error) {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	p.board.group = err
}

// silent is how long ago the last answered heartbeat was sent.
func (m *membership) silent() time.Duration {
	return time.Since(m.start) - time.Duration(m.beat.Load())
}

// waitFresh waits until a heartbeat younger than half the session timeout has been answered; false when ctx ends.
func (m *membership) waitFresh(ctx context.Context) bool {
	for ctx.Err() == nil {
		if m.silent() < m.p.cfg.Group.SessionTimeout.Std()/2 {
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

func (p *Pipeline) join() (m *membership, err error) {
	m = &membership{p: p, start: time.Now(), shards: map[int32]*assignment{}}
	changelog := changelogTopic(p.cfg.App)
	m.cl, err = p.client(
		kgo.WithHooks(m), kgo.ClientID(clientID(p.deps.Advertise)),
		kgo.ConsumerGroup(p.cfg.App), kgo.InstanceID(p.dir.Instance),
		kgo.ConsumeTopics(changelog),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(p.cfg.Group.SessionTimeout.Std()), kgo.HeartbeatInterval(p.cfg.Group.Heartbeat.Std()),
		kgo.RebalanceTimeout(10*time.Second),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, t map[string][]int32) { m.assigned(t[changelog]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, t map[string][]int32) { m.removed(t[changelog], "revoked") }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, t map[string][]int32) { m.removed(t[changelog], "lost") }),
	)
	if err != nil {
		return nil, err
	}
	p.member.Store(m)
	m.cl.PauseFetchTopics(changelog) // for ever: no record is read by this client
	return m, nil
}

func (m *membership) assigned(shards []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range shards {
		if m.shards[s] != nil {
			continue
		}
		m.p.log.Info("shard assigned", "shard", s)
		m.p.setState(s, "assigned", nil)
		ctx, cancel := context.WithCancel(context.Background())
		a := &assignment{cancel, make(chan struct{}, 1), make(chan struct{})}
		m.shards[s] = a
		go func() { defer close(a.done); m.own(ctx, s, a.again) }()
	}
	m.p.metrics.rebalances.Inc()
}

// removed returns when the shards are closed, which takes the two seconds that own leaves to a transaction and the
// flush of a store. A store that cannot be closed ends the process: others wait for its shards.
func (m *membership) removed(shards []int32, why string) {
	m.mu.Lock()
	var waits []*assignment
	for _, s := range shards {
		if a := m.shards[s]; a != nil {
			m.p.log.Info("shard "+why, "shard", s)
			a.cancel()
			waits = append(waits, a)
			delete(m.shards, s)
		}
	}
	m.mu.Unlock()
	limit := make(chan struct{})
	dog := watch(2*m.p.stuck, func() { close(limit) })
	defer dog.stop()
	for _, a := range waits {
		select {
		case <-a.done:
		case <-limit:
			m.p.fail(fmt.Errorf("a shard does not close within %v: is the disk full or broken?", 2*m.p.stuck))
			return
		}
	}
	for _, s := range shards {
		m.p.forget(s)
	}
}

// all are the shards assigned now.
func (m *membership) all() []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]int32, 0, len(m.shards))
	for s := range m.shards {
		list = append(list, s)
	}
	return list
}

// own keeps the shard for as long as ctx, the assignment, lives. It is the only recovery there is: whatever happens,
// the shard object is closed and, while the shard is still ours, acquired again.
func (m *membership) own(ctx context.Context, id int32, again <-chan struct{}) {
	hard, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(ctx, func() { // a transaction in flight may still end
		time.AfterFunc(2*time.Second, cancel)
	})()
	var poison poisoned
	var told seldom
	backoff, reached := m.p.backoff, uint64(0)
	for m.waitFresh(ctx) {
		err := lasting(m.life(ctx, hard, id, &poison, again))
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue // asked to begin again
		}
		err = poison.note(err)
		reason := reasonOf(err)
		m.p.metrics.closed.WithLabelValues(reason).Inc()
		wait := backoff
		if stop, ok := errors.AsType[*stopError](err); ok {
			m.p.setState(id, "stopped", err)
			if told.lets(stop.reason) {
				m.p.log.Error("shard stopped", "shard", id, "reason", stop.reason, "err", err)
			}
			wait = max(wait, m.p.again) // somebody has to act; look now and then whether they have
		} else {
			m.p.setState(id, "closed", err)
			if told.lets(reason) {
				m.p.log.Warn("shard closed, acquiring it again", "shard", id, "reason", reason, "err", err, "in", wait)
			}
		}
		if cycle := m.p.cycleOf(id); cycle > reached { // it gets on
			backoff, reached = m.p.backoff, cycle
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		most := 40 * m.p.backoff
		if reason == "not_authorized" { // for somebody to put right
			most = max(most, m.p.again)
		}
		backoff = min(2*backoff, most)
	}
}

// life is one life of the shard, which may also be asked to end.
func (m *membership) life(ctx, hard context.Context, id int32, poison *poisoned, again <-chan struct{}) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-again:
			end()
		case <-ctx.Done():
		}
	}()
	err := m.serve(ctx, hard, id, poison)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// serve acquires the shard and runs it.
func (m *membership) serve(soft, hard context.Context, id int32, poison *poisoned) (err error) {
	defer func() { // a fault of a library, or of ours outside a record: it ends this life, not the process
		if v := recover(); v != nil {
			err = m.p.caught(id, v)
		}
	}()
	m.p.setState(id, "acquiring", nil)
	m.p.metrics.begin(id, m.p)
	began := time.Now()
	ctx, span := m.p.span(soft, "acquire", id, began)
	s, err := m.p.acquire(ctx, id, poison)
	finish(span, err)
	if err != nil {
		return err
	}
	observe(ctx, m.p.metrics.acquire.WithLabelValues(label(id)), time.Since(began))
	m.p.serving(id, s)
	defer func() {
		v := recover()
		if v != nil {
			err = m.p.caught(id, v)
		}
		m.p.serving(id, nil)
		s.close(err)
	}()
	return s.run(soft, hard)
}

// run serves the group until ctx ends. The process stays a member when it stops: a restart within the session timeout
// moves nothing.
func (m *membership) run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { m.watch(ctx) })
	watched := lookout{p: m.p}
	looks := time.NewTicker(m.p.look)
	defer looks.Stop()
	tick, settled := time.NewTicker(5*time.Second), time.NewTicker(m.p.recheck)
	defer tick.Stop()
	defer settled.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-looks.C:
			watched.look(ctx, kadm.NewClient(m.cl))
		case <-settled.C:
			if err := m.p.checkSettings(ctx, kadm.NewClient(m.cl)); err != nil {
				m.p.log.Error("topics no longer have the settings they need", "err", err)
				m.beginAgain(m.p.serves) // each stops with the reason; who is being acquired looks anyway
			}
		case <-tick.C:
			if err := m.commitAdvisory(ctx); err != nil && ctx.Err() == nil {
				m.p.log.Debug("commit advisory offsets", "err", err)
			}
			if err := m.checkLayout(ctx); err != nil {
				m.p.fail(err)
			}
		}
	}
	m.removedAll()
	m.cl.Close()
	group.Wait()
}

func (m *membership) removedAll() {
	last, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	all := m.all()
	positions := m.p.committed()
	m.removed(all, "released")
	_ = m.commit(last, positions) // what is missing shows as lag, and is no proof that there was a state (changelogLost)
}

// watch reads the group's errors: there is nothing else to come out of a client that never fetches.
func (m *membership) watch(ctx context.Context) {
	fenced, at := 0, time.Now()
	var told seldom
	for ctx.Err() == nil {
		fetched := m.cl.PollFetches(ctx)
		if fetched.IsClientClosed() {
			return
		}
		for _, e := range fetched.Errors() {
			if ctx.Err() != nil {
				return
			}
			if told.lets(e.Err.Error()) {
				m.p.log.Warn("consumer group", "err", e.Err)
			}
			if !errors.Is(e.Err, kerr.FencedInstanceID) {
				continue
			}
			if time.Since(at) > time.Minute {
				fenced = 0
			}
			at = time.Now()
			if fenced++; fenced == 3 {
				m.p.fail(fmt.Errorf("another process uses the identity of data directory %s: was it copied? remove identity.json from the copy", m.p.dir.Path))
			}
		}
	}
}

// beginAgain ends the present life of shards; the assignments stay what the group says.
func (m *membership) beginAgain(which func(int32) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, a := range m.shards {
		if !which(id) {
			continue
		}
		select {
		case a.again <- struct{}{}:
		default:
		}
	}
}

func (m *membership) commitAdvisory(ctx context.Context) error { return m.commit(ctx, m.p.committed()) }

// commit writes input offsets for lag tools. Where to go on from is never read from them; that they are there proves that there was a
// state (changelogLost).
func (m *membership) commit(ctx context.Context, positions map[string]map[int32]int64) error {
	if len(positions) == 0 {
		return nil
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.InstanceID = m.p.cfg.App, &m.p.dir.Instance
	req.MemberID, req.Generation = m.cl.GroupMetadata() // of now: who stands still below and wakes up after a reset is refused
	epoch := epochText(m.p.Epoch())
	found, err := kadm.NewClient(m.cl).ListTopics(ctx, InputTopics(m.p.cfg)...)
	if err != nil {
		return err
	}
	for topic, at := range positions {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID = topic, found[topic].ID // version 10 names topics by id only
		for n, next := range at {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset, rp.Metadata = n, next, &epoch
			t.Partitions = append(t.Partitions, rp)
		}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, m.cl)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, rp := range t.Partitions {
			err = errors.Join(err, kerr.ErrorForCode(rp.ErrorCode))
		}
	}
	return err
}
