package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/pipeline/transaction"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// Snapshot is what an import needs of one.
type Snapshot struct {
	App    string
	Name   string // for people
	Digest string // of all that it is
	Parts  []SnapshotPart
}

// SnapshotPart is the state of a shard.
type SnapshotPart struct {
	Checkpoint store.Checkpoint // its owner does not matter
	Records    iter.Seq2[store.Record, error]
}

// Importing is an import that has been looked at and not been done.
type Importing struct {
	Epoch   int   // as it will be
	Resumed bool  // an import that died in the middle is completed
	Again   int64 // records of the inputs that will be processed again

	adm     *kadm.Client
	connect parameters.Connect
	cfg     config.Config
	from    Snapshot

	// Step is told what is about to be done; an error ends the import there.
	Step func(what string) error
}

// PlanImport looks at what an import would do, refuses what cannot be done, and changes nothing.
func PlanImport(ctx context.Context, adm *kadm.Client, connect parameters.Connect, c config.Config, from Snapshot) (*Importing, error) {
	m := &Importing{adm: adm, connect: connect, cfg: c, from: from, Step: func(string) error { return nil }}
	set, err := parameters.Read(ctx, connect, c.App)
	if err != nil {
		return nil, err
	}
	return m, m.look(ctx, set)
}

// look refuses what would not lead to the state that the snapshot is of.
func (m *Importing) look(ctx context.Context, set parameters.Set) error {
	if set.Epoch.Reset != nil {
		return ready(set)
	}
	if under := set.Epoch.Import; under != nil {
		if m.Resumed = under.Digest == m.from.Digest; !m.Resumed {
			return fmt.Errorf("an import of %s has begun and is not finished, and this is another snapshot: finish that one, or run \"asiduo reset\"", under.Snapshot)
		}
	}
	look, err := lookAround(ctx, m.adm, m.cfg)
	if err != nil {
		return err
	}
	if m.from.App != m.cfg.App {
		return fmt.Errorf("the snapshot is of application %q, not %q", m.from.App, m.cfg.App)
	}
	if n := int32(len(m.from.Parts)); n != look.shards {
		return fmt.Errorf("the snapshot is of %d shards, topic %q has %d partitions: make it again with as many as the snapshot has shards", n, changelogTopic(m.cfg.App), look.shards)
	}
	if err := m.made(look.shards, set.Epoch.Epoch); err != nil {
		return err
	}
	if err := m.published(&set); err != nil {
		return err
	}
	if !m.Resumed {
		if err := m.empty(ctx, look.shards); err != nil {
			return err
		}
	}
	return m.reach(ctx, look)
}

// made refuses a snapshot that was made with another configuration, or before a reset.
func (m *Importing) made(shards int32, epoch int) error {
	for _, p := range m.from.Parts {
		was := p.Checkpoint.Made
		if keys := madeKeys(was, madeWith(m.cfg, shards, was.Epoch)); len(keys) > 0 {
			return fmt.Errorf("the snapshot was made with another %s than the configuration has now: change it back", strings.Join(keys, ", "))
		}
		if was.Epoch < epoch {
			return fmt.Errorf("the snapshot is of epoch %d, the published epoch is %d: the application was reset since", was.Epoch, epoch)
		}
		if m.Epoch = was.Epoch; was.Epoch != m.from.Parts[0].Checkpoint.Made.Epoch {
			return errors.New("the parts of the snapshot are of different epochs")
		}
	}
	return nil
}

// published refuses a snapshot whose customers stand under parameters that nobody knows any more.
func (m *Importing) published(set *parameters.Set) error {
	for _, p := range m.from.Parts {
		stand := []state.Versions{versioned(p.Checkpoint.Versions)}
		if p.Checkpoint.Sweep != nil {
			stand = append(stand, versioned(p.Checkpoint.Sweep.Was))
		}
		for _, v := range stand {
			if _, err := Parameters(m.cfg, set, v); err != nil {
				return fmt.Errorf("the snapshot is of customers under parameters that are gone: %w: was the topic of the parameters lost too?", err)
			}
		}
	}
	return nil
}

// empty refuses a changelog that has a state.
func (m *Importing) empty(ctx context.Context, shards int32) error {
	topic := changelogTopic(m.cfg.App)
	is, err := readable(ctx, m.adm, topic)
	if err != nil {
		return err
	}
	for s := range shards {
		for r, err := range Committed(ctx, m.connect, topic, s, is.first[topic][s], is.stable[topic][s]) {
			if err != nil {
				return err
			}
			if string(r.Key) != ownerKey {
				return fmt.Errorf("partition %d of topic %q has a state: an import is for a changelog that was lost. To import nevertheless, stop all processes, delete the topic, and run \"asiduo init\"", s, topic)
			}
		}
	}
	return nil
}

// reach refuses if the inputs do not have all that came after the snapshot.
func (m *Importing) reach(ctx context.Context, look *layout) error {
	topics := InputTopics(m.cfg)
	is, err := readable(ctx, m.adm, topics...)
	if err != nil {
		return err
	}
	m.Again = 0
	missing, where := int64(0), []string{}
	for s, p := range m.from.Parts {
		for _, topic := range topics {
			was := p.Checkpoint.Inputs[topic]
			if was.TopicID != "" && was.TopicID != look.ids[topic] {
				return fmt.Errorf("input topic %q was deleted and made again since the snapshot (id %s, was %s): its offsets mean other records now", topic, look.ids[topic], was.TopicID)
			}
			if was.TopicID == "" { // it was not read yet
				continue
			}
			for n := int32(s); n < look.partitions[topic]; n += look.shards { // of those that were added since: from their beginning
				next, first, end := was.Next[n], is.first[topic][n], is.stable[topic][n]
				if next > end {
					return fmt.Errorf("input %s/%d ends at offset %d, before %d, where the snapshot was made: it has lost its newest records", topic, n, end, next)
				}
				m.Again += end - next
				if first > next {
					missing += first - next
					where = append(where, fmt.Sprintf("%s/%d: %d", topic, n, first-next))
				}
			}
		}
	}
	if missing > 0 {
		return fmt.Errorf("the inputs do not reach back to the snapshot: %d records are missing (%s). Take a newer snapshot, or start over with \"asiduo reset\"", missing, strings.Join(where, ", "))
	}
	return nil
}

// Do writes the state of the snapshot into the changelog. It may die anywhere: until it has been run to its end no process
// owns a shard, and running it again completes it.
func (m *Importing) Do(ctx context.Context) error {
	if err := awaitNobody(ctx, m.adm, m.cfg); err != nil {
		return err
	}
	pub, err := parameters.Open(ctx, m.connect, m.cfg.App)
	if err != nil {
		return err
	}
	defer pub.Close()
	if err := m.look(ctx, pub.Set); err != nil { // again: somebody may have run since
		return err
	}
	if err := m.Step("close the gate"); err != nil {
		return err
	}
	gate := parameters.Import{Snapshot: m.from.Name, Digest: m.from.Digest}
	if err := pub.PublishEpoch(ctx, parameters.Epoch{Epoch: m.Epoch, Import: &gate}); err != nil {
		return err
	}
	for s := range m.from.Parts {
		if err := m.fill(ctx, int32(s)); err != nil {
			return fmt.Errorf("shard %d: %w", s, err)
		}
	}
	if err := m.Step("open the gate"); err != nil {
		return err
	}
	return pub.PublishEpoch(ctx, parameters.Epoch{Epoch: m.Epoch})
}

// fill writes the records of a shard and, last, its checkpoint, which says that all are there.
func (m *Importing) fill(ctx context.Context, shard int32) error {
	cl, err := seize(ctx, m.connect, m.cfg.App, shard)
	if err != nil {
		return err
	}
	defer cl.Close()
	topic := changelogTopic(m.cfg.App)
	is, err := readable(ctx, m.adm, topic)
	if err != nil {
		return err
	}
	owner := "import " + m.from.Digest
	was, err := lastCheckpoint(ctx, m.connect, topic, shard, is.first[topic][shard], is.stable[topic][shard])
	if err != nil || was.Owner == owner {
		return err
	}
	if err := m.Step("fill shard " + label(shard)); err != nil {
		return err
	}
	b := bulk{cl: cl}
	for r, err := range m.from.Parts[shard].Records {
		if err != nil {
			return err
		}
		if err := b.add(ctx, &kgo.Record{Topic: topic, Partition: shard, Key: r.Key, Value: bytes.Clone(r.Value)}); err != nil {
			return err
		}
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	if err := m.Step("write the checkpoint of shard " + label(shard)); err != nil {
		return err
	}
	c := m.from.Parts[shard].Checkpoint
	c.Owner = owner
	value, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return transaction.Commit(ctx, cl, []*kgo.Record{{Topic: topic, Partition: shard, Key: []byte(checkpointKey), Value: value}})
}
