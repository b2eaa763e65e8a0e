package pipeline

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/asiduo/asiduo/pipeline/transaction"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// shard is one acquisition of one shard: one goroutine, one store, one client. It is never repaired: any error closes
// it, and the shard is acquired again.
type shard struct {
	p     *Pipeline
	id    int32
	owner string
	cl    *kgo.Client
	adm   *kadm.Client
	store *store.Store
	mark  store.Mark // as committed
	epoch int32      // leader epoch of the changelog when the owner record was read
	clock clock
	ended time.Time         // when the last transaction had ended
	ids   map[string]string // topic ids as they were when the shard was acquired
	made  store.Made        // what the state is made with

	purchases int32 // partitions of the purchases, those of all shards

	dec     *decoder
	adopted adopted
	people  people
	place   Partitioner
	overlay *overlay
	cycle   cycle
	silence horizon
	pending []*kgo.Record                // polled, not yet in a cycle
	unread  []*kgo.ErrDecompressTooLarge // batches that came up after them and cannot be read
	next    map[string]map[int32]int64   // offsets of the inputs, by topic and partition
	epochs  map[string]map[int32]int32   // of the leaders who wrote the records before them; -1 where nobody knows
	tail    int64                        // offset in the changelog of the last record that we have committed
	missing []lost                       // of the inputs, until a cycle has told it
	poison  *poisoned
	gaining trace.Span // the acquisition; nil when nobody wants traces
	part    bool       // the store has never seen a cycle of its own: it may be part of one that is being restored
}

// Step is a point between two steps of an acquisition or a cycle, where a test may stop the shard as a crash would.
type Step string

// The steps in their order.
const (
	BeforeInit    Step = "before_init"
	AfterInit     Step = "after_init"
	BeforeOwner   Step = "before_owner" // before the owner record's transaction ends
	AfterOwner    Step = "after_owner"
	WithinRestore Step = "within_restore" // after records of the changelog were written to the store
	AfterRestore  Step = "after_restore"
	AfterResume   Step = "after_resume" // before the first cycle
	BeforeProduce Step = "before_produce"
	BeforeEnd     Step = "before_end"
	AfterEnd      Step = "after_end"
	WithinApply   Step = "within_apply" // an error is one of the store, which takes nothing of the cycle
	AfterApply    Step = "after_apply"
)

// stopError is a reason that another attempt will not heal soon: somebody has to act.
type stopError struct {
	reason string
	err    error
}

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// lasting makes a reason to stop of what a newer release has written, wherever it was met: the next attempt would meet
// it again.
func lasting(err error) error {
	if _, ok := errors.AsType[*state.NewerFormatError](err); ok {
		return &stopError{"newer_format", err}
	}
	return err
}

var (
	errFenced   = errors.New("a newer owner has taken the shard")
	errDiverged = errors.New("the store holds what the changelog does not")
)

// reasonOf is a short word for metrics.
func reasonOf(err error) string {
	if stop, ok := errors.AsType[*stopError](err); ok {
		return stop.reason
	}
	if _, ok := errors.AsType[*poisonError](err); ok {
		return "poison"
	}
	switch {
	case errors.Is(err, errFenced), errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch):
		return "fenced"
	case errors.Is(err, errDiverged):
		return "diverged"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed):
		return "not_authorized"
	}
	return "error"
}

func transactionalID(app string, shard int32) string { return fmt.Sprintf("%s-%d", app, shard) }

// acquire makes this process the only owner of the shard and its store equal to the changelog. It ends with ctx.
func (p *Pipeline) acquire(ctx context.Context, id int32, poison *poisoned) (_ *shard, err error) {
	s := &shard{p: p, id: id, owner: rand.Text(), poison: poison, gaining: p.gaining(ctx)}
	s.clock.kind, s.clock.manual, s.clock.wall = p.cfg.Time.Clock, p.deps.Manual, p.wall
	defer func() {
		if v := recover(); v != nil {
			err = p.caught(id, v)
		}
		if err != nil {
			s.close(err)
		}
	}()
	soft := ctx
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Cycle.TransactionTimeout.Std()+45*time.Second)
	defer cancel()
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.at(BeforeInit); err != nil {
		return nil, err
	}
	// The lock. When it returns, every older transaction of this id has ended and every older owner is fenced.
	if _, _, err := s.cl.ProducerID(ctx); err != nil {
		return nil, fmt.Errorf("take transactional id %s: %w", transactionalID(p.cfg.App, id), err)
	}
	if err := s.at(AfterInit); err != nil {
		return nil, err
	}
	set, err := p.fresh(ctx, s.cl)
	if err != nil {
		return nil, err
	}
	look, err := lookAround(ctx, s.adm, p.cfg)
	if err != nil {
		return nil, err
	}
	if look.shards != p.Shards() {
		return nil, &stopError{"configuration_changed", fmt.Errorf("the changelog has %d partitions now, it had %d: the number of shards is fixed when the topics are created", look.shards, p.Shards())}
	}
	p.emptied(look.ids)
	s.ids, s.made = look.ids, p.made(set.Epoch.Epoch)
	if err := p.checkSettings(ctx, s.adm); err != nil {
		return nil, err
	}
	value, err := json.Marshal(map[string]string{"owner": s.owner, "instance": p.dir.Instance})
	if err != nil {
		return nil, err
	}
	record := &kgo.Record{Topic: changelogTopic(p.cfg.App), Partition: id, Key: []byte(ownerKey), Value: value}
	if err := s.transact(ctx, []*kgo.Record{record}, BeforeOwner, AfterOwner); err != nil {
		return nil, fmt.Errorf("write owner record: %w", err)
	}
	s.tail = record.Offset
	p.setState(id, "restoring", nil)
	if err := s.restore(soft, record.Offset); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := s.at(AfterRestore); err != nil {
		return nil, err
	}
	if was := s.mark.Made; s.mark.Owner != "" && was != s.made {
		return nil, &stopError{"configuration_changed", madeError(was, s.made)}
	}
	if err := s.goOn(set); err != nil {
		return nil, err
	}
	if err := s.resume(soft, nil); err != nil {
		return nil, err
	}
	return s, s.at(AfterResume)
}

// open opens the store and the client. A store that does not open is set aside: the changelog has everything.
func (s *shard) open() (err error) {
	p := s.p
	if s.store, err = store.Open(p.dir.Shard(s.id), p.storeOptions(s.id)); err != nil {
		if !store.Damaged(err) {
			return err
		}
		p.log.Warn("store does not open and is set aside", "shard", s.id, "err", err)
		p.metrics.rebuilds.WithLabelValues(rebuilding(err)).Inc()
		if err := p.dir.SetAside(s.id); err != nil {
			return err
		}
		if s.store, err = store.Open(p.dir.Shard(s.id), p.storeOptions(s.id)); err != nil {
			return err
		}
	}
	whole, err := s.store.Whole()
	if err != nil {
		return err
	}
	s.part = !whole
	var found bool
	if s.mark, found, err = s.store.Mark(); err != nil {
		return err
	}
	from := kgo.NewOffset().AtStart()
	if found {
		from = kgo.NewOffset().At(s.mark.Offset)
	} else if bare, err := s.store.Bare(); err != nil {
		return err
	} else if !bare {
		return fmt.Errorf("%w: it has records and no mark, its restore has not come to a checkpoint", errDiverged)
	}
	unpack, err := newUnpacker(maxBatchBytes(p.cfg), unpackedBatches*maxBatchBytes(p.cfg))
	if err != nil {
		return err
	}
	c := p.cfg.Cycle
	if s.cl, err = p.client(append(unpack.within(),
		kgo.TransactionalID(transactionalID(p.cfg.App, s.id)),
		kgo.TransactionTimeout(c.TransactionTimeout.Std()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{changelogTopic(p.cfg.App): {s.id: from}}),
		kgo.KeepControlRecords(), // our position must pass them to reach the end
		kgo.FetchMaxBytes(int32(c.FetchBuffer.Bytes())), kgo.FetchMaxPartitionBytes(int32(min(c.FetchBuffer.Bytes()/2, 2<<20))),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ProducerBatchMaxBytesFn(p.batchLimit), kgo.MaxBufferedRecords(1<<20), kgo.ProducerLinger(50*time.Millisecond), // flushed at the end of each cycle
	)...); err != nil {
		return err
	}
	s.adm = kadm.NewClient(s.cl)
	return nil
}

// resume turns the client from the changelog to the inputs, at the last checkpoint. It asks a second time before it stops, or leaves
// anything behind, on the word of a leader who may be none any more; those in asked have been.
func (s *shard) resume(ctx context.Context, asked map[partitionID]bool) error {
	p := s.p
	// Restoring may have taken long: an input that was made again meanwhile would be taken for the one that was.
	look, err := lookAround(ctx, s.adm, p.cfg)
	if err != nil {
		return err
	}
	if topic := changelogTopic(p.cfg.App); look.ids[topic] != s.ids[topic] {
		return fmt.Errorf("topic %q was deleted and made again while it was read", topic)
	}
	s.ids = look.ids
	missing, err := s.resumeAt(ctx, look)
	if err != nil {
		return err
	}
	again := map[partitionID]bool{}
	maps.Copy(again, asked)
	for _, l := range missing {
		if at := (partitionID{l.topic, l.partition}); l.doubtful && !asked[at] {
			again[at] = true
			p.setState(s.id, "restoring", errors.New(l.why+"; it is asked again"))
		}
	}
	if len(again) > len(asked) {
		p.log.Warn("a leader of an input knows less than we have read: it is asked again before it is believed", "shard", s.id, "in", p.again)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(p.again):
			return s.resume(ctx, again)
		}
	}
	if err := s.leaveBehind(missing); err != nil {
		return err
	}
	s.purchases = look.partitions[p.cfg.Inputs.Purchases]
	from := map[string]map[int32]kgo.Offset{}
	for topic, at := range s.next {
		from[topic] = map[int32]kgo.Offset{}
		for n, next := range at {
			// Without the epoch: the client would ask whether the log was cut, behind a fetch that may wait for half a second. We
			// have asked, and ask once more when the next record is of another epoch.
			from[topic][n] = kgo.NewOffset().At(next)
		}
	}
	if s.dec, err = newDecoder(p.cfg); err != nil {
		return err
	}
	if s.place, err = NewPartitioner(p.cfg.Inputs.Partitioner); err != nil {
		return err
	}
	if s.overlay, err = newOverlay(s.store, newHotCache(p.cfg.State.HotCache.Bytes()/int64(p.Shards()))); err != nil {
		return err
	}
	s.silence.played = s.mark.Horizon
	if err := s.beginCount(); err != nil {
		return err
	}
	s.cl.RemoveConsumePartitions(map[string][]int32{changelogTopic(p.cfg.App): {s.id}})
	s.cl.AddConsumePartitions(from)
	return nil
}

// transact writes records in one transaction. After an error the shard is closed, so nothing is aborted here: the next
// owner's InitProducerID does it.
func (s *shard) transact(ctx context.Context, rs []*kgo.Record, before, after Step) error {
	if err := transaction.Write(ctx, s.cl, rs); err != nil {
		return err
	}
	return s.end(ctx, before, after)
}

// end is the only place that ends a transaction.
func (s *shard) end(ctx context.Context, before, after Step) error {
	if err := s.at(before); err != nil {
		return err
	}
	began := time.Now()
	if err := s.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	s.ended = time.Now()
	observe(ctx, s.p.metrics.commit.WithLabelValues(label(s.id)), s.ended.Sub(began))
	return s.at(after)
}

// at is where the shard has come to; a test may stop it there.
func (s *shard) at(step Step) error {
	s.step(step)
	if s.p.deps.Interrupt == nil {
		return nil
	}
	return s.p.deps.Interrupt(s.id, step)
}

func rebuilding(why error) string {
	if errors.Is(why, errDiverged) {
		return "diverged"
	}
	return "corrupt"
}

// close ends the client and the store. After an error what the store has in memory is not worth writing: the changelog
// has it.
func (s *shard) close(why error) {
	if s.cl != nil {
		s.cl.Close()
	}
	if s.store == nil {
		return
	}
	if err := s.guarded(func() error { return s.store.Close(why == nil) }); err != nil {
		s.p.log.Warn("close store", "shard", s.id, "err", err)
	}
	// What somebody has to look at is not the store's fault: a corrupt record of the changelog, say, would be met again, and
	// this store may be the only place that still has it.
	if _, stopped := errors.AsType[*stopError](why); stopped || !errors.Is(why, errDiverged) && !store.Corrupt(why) {
		return
	}
	s.p.metrics.rebuilds.WithLabelValues(rebuilding(why)).Inc()
	give, how := s.p.dir.SetAside, "store is set aside and will be rebuilt from the changelog"
	if s.part { // not worth keeping, least of all in the place of one that is
		give, how = s.p.dir.Remove, "store is removed and will be rebuilt from the changelog"
	}
	s.p.log.Warn(how, "shard", s.id, "err", why)
	if err := give(s.id); err != nil {
		s.p.log.Error("give up store", "shard", s.id, "err", err)
	}
}
