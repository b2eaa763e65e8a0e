// Package store keeps the customers of one shard in a Pebble database: customers, interactions, timers and the
// checkpoint that says how far they go. It writes no log of its own: the changelog topic is the log, and what a crash
// takes is read from there again. It knows neither Kafka nor what the bytes of a customer mean, but for the instant at
// which silence matters.
package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/asiduo/asiduo/state"
)

// Options are how a store is opened. All are needed.
type Options struct {
	FS       vfs.FS
	Cache    *pebble.Cache // shared by the stores of a process
	Memtable uint64        // bytes
	Report   Report
	ReadOnly bool
}

// Report is told what a database says about itself; its functions are called from the database's goroutines.
type Report struct {
	Trouble func(error)         // a background fault: it retries until the cause is gone
	Stall   func(time.Duration) // writes had to wait
}

// Checkpoint is how far a shard has come: the last record of each cycle in the changelog, and the store's own copy.
type Checkpoint struct {
	Owner    string                    `json:"owner"` // one acquisition, not one process
	Cycle    uint64                    `json:"cycle"`
	Inputs   map[string]InputPositions `json:"inputs"`   // by topic
	Horizon  state.Instant             `json:"horizon"`  // silence has been played up to here
	Versions state.Versions            `json:"versions"` // of the parameters, as adopted
	Sweep    *Sweep                    `json:"sweep,omitempty"`
	CaughtUp bool                      `json:"caught_up,omitempty"` // once: the end of the inputs has been reached
	LiveFrom state.Instant             `json:"live_from,omitempty"` // changes are news from then on; 0: not yet
	Made     Made                      `json:"made,omitzero"`
}

// ReadCheckpoint reads the value of a checkpoint record. One without an owner, a cycle or the positions of the inputs is
// none: to go on from it would count everything a second time.
func ReadCheckpoint(b []byte) (c Checkpoint, err error) {
	if err := json.Unmarshal(b, &c); err != nil {
		return c, err
	}
	return c, c.check()
}

func (c *Checkpoint) check() error {
	if c.Owner == "" || c.Cycle == 0 || len(c.Inputs) == 0 || c.Horizon < 0 {
		return errors.New("it lacks an owner, a cycle, the positions of the inputs or a horizon")
	}
	for topic, at := range c.Inputs {
		for partition, next := range at.Next {
			if partition < 0 || next < 0 {
				return fmt.Errorf("it has read %s/%d up to %d", topic, partition, next)
			}
		}
	}
	return nil
}

// Sweep is the move of all customers to an adopted version, under way.
type Sweep struct {
	Family   string         `json:"family"` // of the version: rules, cuts or model
	Was      state.Versions `json:"was"`
	At       state.Instant  `json:"at"` // of the adoption
	Announce bool           `json:"announce,omitempty"`
	Cursor   []byte         `json:"cursor,omitempty"` // key of the next customer to be moved; none: from the first
	Done     int64          `json:"done"`             // customers moved, for showing how far it is
}

// Made is what a state was made with: with anything else its bytes would mean something else.
type Made struct {
	Shards      int32  `json:"shards"`
	Partitioner string `json:"partitioner"`
	Epoch       int    `json:"epoch"`
	Currency    string `json:"currency"`
	Digits      int    `json:"digits"`
	Zone        string `json:"zone"`
}

// InputPositions are the next offsets to read of one input, by partition, and the leader epochs of the records before
// them, where they are known: with both it can be seen that the input was cut and written again (KIP-101).
type InputPositions struct {
	TopicID string          `json:"topic_id"`
	Next    map[int32]int64 `json:"next"`
	Epochs  map[int32]int32 `json:"epochs,omitempty"`
}

// Position is where a checkpoint lies in the changelog.
type Position struct {
	TopicID string `json:"topic_id"`
	Offset  int64  `json:"offset"`
	Epoch   int32  `json:"epoch"`   // of the leader
	Written int64  `json:"written"` // the brokers' time, ms
}

// Mark is a checkpoint and where it lies: what a store is the state of.
type Mark struct {
	Checkpoint
	Position
}

// ErrClosed is returned to readers of a store that is being closed.
var ErrClosed = errors.New("the shard is being closed")

// Store is one shard's database. One goroutine writes; others read through Views.
type Store struct {
	db       *pebble.DB
	closing  atomic.Bool
	reading  sync.RWMutex // held while a view reads, so that the database outlives that
	viewing  sync.Mutex
	views    map[*View]struct{}     // that are not closed; guarded by viewing
	takeBack func()                 // what the cache has lent
	trouble  *atomic.Bool           // the database cannot write in the background
	broken   *atomic.Pointer[error] // what the database has found corrupt, perhaps in the background

	// No timer is earlier. Those that have come up lie before it, deleted, until they are compacted away: who began with them would
	// pass over all of them each time.
	earliest state.Instant
}

// Open opens the database in dir, making it if there is none.
func Open(dir string, o Options) (*Store, error) {
	files := patient{o.FS, &atomic.Int64{}}
	opts := &pebble.Options{
		FS: files, Cache: o.Cache, MemTableSize: o.Memtable, DisableWAL: true, ReadOnly: o.ReadOnly,
		FormatMajorVersion: pebble.FormatTableFormatV6, Logger: panicLogger{},
		EventListener: &pebble.EventListener{},
		// Keys come without order: each compaction of level 0 rewrites all that lies below, so it waits for four times as many flushes as usual.
		L0CompactionThreshold: 16, L0StopWritesThreshold: 32,
	}
	for i := range opts.Levels { // newcomers, and interactions of those without any, are looked for in vain
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	opts.Levels[len(opts.Levels)-1].FilterPolicy = pebble.NoFilterPolicy // Get does not read that one
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	trouble := &atomic.Bool{}
	opts.EventListener.FlushEnd = func(i pebble.FlushInfo) {
		if i.Err == nil {
			trouble.Store(false)
		}
	}
	broken := &atomic.Pointer[error]{}
	tell := func(err error) {
		if Corrupt(err) {
			broken.Store(&err)
		}
		if o.Report.Trouble != nil {
			o.Report.Trouble(err)
		}
	}
	opts.EventListener.BackgroundError = func(err error) {
		trouble.Store(true)
		files.failed()
		tell(err)
	}
	// Corruption must not be fatal, which is Pebble's default: the reads fail anyway.
	opts.EventListener.DataCorruption = func(i pebble.DataCorruptionInfo) { tell(i.Details) }
	if o.Report.Stall != nil {
		var since atomic.Int64
		opts.EventListener.WriteStallBegin = func(pebble.WriteStallBeginInfo) { since.Store(time.Now().UnixNano()) }
		opts.EventListener.WriteStallEnd = func() { o.Report.Stall(time.Since(time.Unix(0, since.Load()))) }
	}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s := &Store{db: db, views: map[*View]struct{}{}, trouble: trouble, broken: broken}
	// Pebble takes write buffers out of the cache, two of each database: those of a few shards would leave nothing to the blocks.
	s.takeBack = o.Cache.Reserve(-2 * int(o.Memtable)) // #nosec G115 -- at most 1 GiB
	return s, nil
}

// FatalError is what a panic of the database carries: a fault after which it cannot go on.
type FatalError struct{ err error }

func (e *FatalError) Error() string { return "store: " + e.err.Error() }
func (e *FatalError) Unwrap() error { return e.err }

// panicLogger turns what Pebble calls fatal into a panic: on the shard's own goroutine it closes the shard, on one of
// Pebble's it ends the process with the reason, as the default would without one. Either way the changelog has
// everything.
type panicLogger struct{}

func (panicLogger) Infof(string, ...any)           {}
func (panicLogger) Errorf(string, ...any)          {}
func (panicLogger) Fatalf(format string, a ...any) { panic(&FatalError{fmt.Errorf(format, a...)}) }

// Close ends all views and closes the database. It waits for what they are reading at the moment, not for what their
// readers do with it. With flush, what is in memory is written first, unless the database has just failed to write: it
// would try for ever.
func (s *Store) Close(flush bool) error {
	s.closing.Store(true)
	s.reading.Lock()
	defer s.reading.Unlock()
	err := s.endViews()
	if flush && !s.trouble.Load() {
		err = errors.Join(err, s.db.Flush())
	}
	defer s.takeBack()
	return errors.Join(err, s.db.Close())
}

// Flush begins to write what is in memory and does not wait.
func (s *Store) Flush() error {
	_, err := s.db.AsyncFlush()
	return err
}

// Broken is the corruption that the database has found, nil if it has found none. Merging tables meets what no reader
// does, and would fail for ever.
func (s *Store) Broken() error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// Corrupt says whether an error means that the bytes on disk are wrong, so that the store must be rebuilt.
func Corrupt(err error) bool {
	return errors.Is(err, state.ErrCorrupt) || pebble.IsCorruptionError(err)
}

// Damaged says whether a store that does not open must be rebuilt: its bytes are wrong, a file has lost its name in a
// power cut, or its end, for which the database has no error of its own. One that has lost the name of its manifest is
// only missed by who does not write: another is made.
func Damaged(err error) bool {
	return Corrupt(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, pebble.ErrDBDoesNotExist) || (err != nil && strings.Contains(err.Error(), "object size mismatch"))
}

// Mark is what the store is the state of; false if it is empty.
func (s *Store) Mark() (m Mark, ok bool, err error) { return mark(s.db) }

func mark(r pebble.Reader) (m Mark, ok bool, err error) {
	b, ok, err := get(r, metaKey("mark"), nil)
	if err != nil || !ok {
		return m, false, err
	}
	err = json.Unmarshal(b, &m)
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return m, false, fmt.Errorf("read mark: %w", errors.Join(state.ErrCorrupt, err))
	}
	return m, true, nil
}

// Whole says whether the store was whole once (SetWhole), and is not a part of a new one.
func (s *Store) Whole() (bool, error) {
	_, whole, err := get(s.db, metaKey("whole"), nil)
	return whole, err
}

// Bare says whether the store holds no customers and no interactions.
func (s *Store) Bare() (bool, error) {
	customers, err := s.some(customerPrefix)
	if err != nil || customers {
		return false, err
	}
	interactions, err := s.Interactions()
	return !interactions, err
}

// Interactions says whether the store holds those of anybody.
func (s *Store) Interactions() (bool, error) { return s.some(interactionPrefix) }

func (s *Store) some(prefix byte) (bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return false, fmt.Errorf("scan store: %w", err)
	}
	some := it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return false, fmt.Errorf("scan store: %w", err)
	}
	return some, nil
}

// Get appends the value of key to b.
func (s *Store) Get(key, b []byte) ([]byte, bool, error) { return get(s.db, key, b) }

func get(r pebble.Reader, key, b []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return b, false, nil
	}
	if err != nil {
		return b, false, fmt.Errorf("read store: %w", err)
	}
	b = append(b, v...)
	return b, true, closer.Close()
}

// Customers shows customers in the order of their keys, from a key on, at most n of them, and returns the key of the
// next; nil if there is none. An id and its bytes are valid until see returns.
func (s *Store) Customers(from []byte, n int, see func(id string, b []byte) error) (next []byte, err error) {
	bounds := &pebble.IterOptions{LowerBound: []byte{customerPrefix}, UpperBound: []byte{customerPrefix + 1}}
	it, err := s.db.NewIter(bounds)
	if err != nil {
		return nil, fmt.Errorf("scan store: %w", err)
	}
	defer closeInto(it, &err)
	for ok := it.SeekGE(from); ok; ok = it.Next() {
		if n == 0 {
			return bytes.Clone(it.Key()), nil
		}
		if err := see(CustomerID(it.Key()), it.Value()); err != nil {
			return nil, err
		}
		n--
	}
	if err := it.Error(); err != nil {
		return nil, fmt.Errorf("scan store: %w", err)
	}
	return nil, nil
}

// Timer is a customer to be looked at.
type Timer struct {
	At state.Instant
	ID string
}

// Due appends the earliest timers up to and including the instant until, at most n of them.
func (s *Store) Due(until state.Instant, n int, ts []Timer) (_ []Timer, err error) {
	if until < s.earliest {
		return ts, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: TimerKey(nil, s.earliest, "")[:9],
		UpperBound: TimerKey(nil, until+1, "")[:9],
	})
	if err != nil {
		return ts, fmt.Errorf("read timers: %w", err)
	}
	defer closeInto(it, &err)
	ok, earliest := it.First(), until+1
	if ok {
		earliest, _ = timerOf(it.Key())
	}
	for ; ok && n > 0; ok = it.Next() {
		at, id := timerOf(it.Key())
		ts = append(ts, Timer{at, id})
		n--
	}
	if err := it.Error(); err != nil {
		return ts, fmt.Errorf("read timers: %w", err)
	}
	s.earliest = earliest
	return ts, nil
}

func closeInto(c io.Closer, err *error) { *err = errors.Join(*err, c.Close()) }
