// Package parameters owns the topic <app>.parameters: what all shards of an application go by and no file can say,
// because it must be the same for all of them. The topic is compacted and has one partition; each key is one value,
// JSON:
//
//	epoch               the epoch of the application
//	rules/<n> model/<n> a version of the rules or of the churn model, published by commands
//	cuts/<n>            a version of the cuts of money, published by the owner of shard 0
//	population/<shard>  what the customers of a shard count as, and how far the shard has come
//	live                when changes began to be news
//
// Each key has one writer at a time. Versions are never changed and never deleted.
package parameters

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Topic is the topic of an application.
func Topic(app string) string { return app + ".parameters" }

// Connect makes a client of the application's brokers that reads committed records only, with more options.
type Connect func(more ...kgo.Opt) (*kgo.Client, error)

// Keys beside those of versions, which are their family's name, a slash and the number.
const (
	epochKey      = "epoch"
	liveKey       = "live"
	populationKey = "population"
)

// Epoch is the value under the key epoch: the second part of event ids. It is 1 at first and raised by a reset, so
// that true events never look like repeats.
type Epoch struct {
	Epoch  int     `json:"epoch"`
	Reset  *Reset  `json:"reset,omitempty"`  // into this epoch, begun and not finished: nobody may own a shard
	Import *Import `json:"import,omitempty"` // begun and not finished: nobody may own a shard
}

// Import is what an import that died in the middle can be told by.
type Import struct {
	Snapshot string `json:"snapshot"` // as it was named
	Digest   string `json:"digest"`   // of its manifest
}

// Reset is what a reset that died in the middle needs to be completed.
type Reset struct {
	Shards    int32             `json:"shards"`
	Changelog string            `json:"changelog"` // topic id of the one to be deleted
	Replicas  int16             `json:"replicas"`  // of the one to be made
	Settings  map[string]string `json:"settings"`
}

// ErrNone is returned for a topic that is missing or empty: the application was not set up.
var ErrNone = errors.New("no parameters are published")

// errMissing is ErrNone of a topic that a broker does not know: it does not exist, or not yet.
var errMissing = fmt.Errorf("it is missing: %w: run \"asiduo init\"", ErrNone)

// Read reads the set as it is when it is called, or somewhat later: whatever was published before is in it. A publisher
// that died in the middle makes it wait, at most for the time-out of its transaction. ErrNone if there is nothing.
func Read(ctx context.Context, connect Connect, app string) (Set, error) {
	r, err := open(connect, app)
	if err != nil {
		return Set{}, err
	}
	defer r.cl.Close()
	end, err := r.begin(ctx)
	for err == nil && r.next < end {
		err = r.poll(ctx)
	}
	if err != nil {
		return Set{}, readError(r.topic, err)
	}
	if r.set.Epoch.Epoch < 1 {
		return *r.set, fmt.Errorf("topic %q is empty: %w: run \"asiduo init\"", r.topic, ErrNone)
	}
	return *r.set, nil
}

func readError(topic string, err error) error {
	if _, ok := errors.AsType[*UnreadableError](err); ok {
		return fmt.Errorf("topic %q, %w", topic, err)
	}
	return fmt.Errorf("read topic %q: %w", topic, err)
}

// Complete is ErrNone while there is not all that a pipeline needs to run.
func (s *Set) Complete() error {
	var missing []string
	for _, f := range []struct {
		name string
		have bool
	}{{"epoch", s.Epoch.Epoch > 0}, {"rules", s.Newest.Rules > 0}, {"model", s.Newest.Model > 0}} {
		if !f.have {
			missing = append(missing, f.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w of: %s: run \"asiduo init\"", ErrNone, strings.Join(missing, ", "))
}

// reader reads the topic from its beginning.
type reader struct {
	cl    *kgo.Client
	topic string
	id    string // of the topic; another one if it was deleted and made again
	next  int64
	set   *Set
}

func open(connect Connect, app string) (*reader, error) {
	topic := Topic(app)
	cl, err := connect(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.KeepControlRecords(), // our position must pass them to reach the end
		kgo.FetchMaxWait(500*time.Millisecond),
	)
	if err != nil {
		return nil, err
	}
	return &reader{cl: cl, topic: topic, set: &Set{}}, nil
}

// begin goes to the first record and says where the topic ends now.
func (r *reader) begin(ctx context.Context) (end int64, err error) {
	r.id, r.next, end, err = ends(ctx, r.cl, r.topic)
	return end, err
}

// poll takes what has come, waiting for something.
func (r *reader) poll(ctx context.Context) error {
	fetched := r.cl.PollRecords(ctx, 1000)
	for _, e := range fetched.Errors() {
		return e.Err
	}
	for it := fetched.RecordIter(); !it.Done(); {
		record := it.Next()
		if !record.Attrs.IsControl() {
			set, err := r.set.with(string(record.Key), record.Value)
			if err != nil {
				return &UnreadableError{record.Offset, err}
			}
			r.set = set
		}
		r.next = record.Offset + 1
	}
	return nil
}

// UnreadableError is a record that means nothing to this release.
type UnreadableError struct {
	Offset int64
	Err    error
}

func (e *UnreadableError) Error() string { return fmt.Sprintf("offset %d: %v", e.Offset, e.Err) }
func (e *UnreadableError) Unwrap() error { return e.Err }

// ends are the id of the topic, its first offset and the one behind its last record, committed or not: it is known of
// each record before it whether it was.
func ends(ctx context.Context, cl *kgo.Client, topic string) (id string, first, behind int64, err error) {
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return "", 0, 0, err
	}
	is := topics[topic]
	if errors.Is(is.Err, kerr.UnknownTopicOrPartition) {
		return "", 0, 0, errMissing
	}
	if is.Err != nil {
		return "", 0, 0, is.Err
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return "", 0, 0, err
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return "", 0, 0, err
	}
	start, began := starts.Lookup(topic, 0)
	end, ended := ends.Lookup(topic, 0)
	if err = errors.Join(start.Err, end.Err); err == nil && !(began && ended) { // it may have no leader for a moment
		err = kerr.LeaderNotAvailable
	}
	return is.ID.String(), start.Offset, end.Offset, err
}
