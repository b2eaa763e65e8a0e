package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
	"github.com/asiduo/asiduo/sinks/events"
	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/store"
)

// adopted are the parameters as a shard has adopted them. A version is adopted at a cut, the start of a cycle, by all
// customers at once; while the sweep is under way, whoever touches one carries out what is so since then.
type adopted struct {
	set      *parameters.Set // as it was at the last cut
	is       *state.Parameters
	enc      *events.Encoder
	move     *state.Adoption // of the customers, while the sweep is under way
	was      *events.Encoder // of the parameters before it
	sweep    store.Sweep     // how far it is
	liveFrom state.Instant   // 0 while the application is building
	caughtUp bool            // the end of the inputs has been reached once
	news     bool            // something of this is not yet in a checkpoint
	extract  []byte          // what the versions mean, not yet in the store
}

// fresh is the set with everything in it that was published before the call. While a reset is not finished nobody may
// own a shard.
func (p *Pipeline) fresh(ctx context.Context, cl *kgo.Client) (*parameters.Set, error) {
	set, err := p.tail.Fresh(ctx, cl)
	if err == nil {
		err = ready(*set)
	}
	if _, unreadable := errors.AsType[*parameters.UnreadableError](err); unreadable {
		err = &stopError{"parameters", err}
	}
	if err == nil {
		p.epoch.Store(int64(set.Epoch.Epoch))
	}
	return set, err
}

// goOn takes the parameters of the checkpoint, or the newest for a shard that begins.
func (s *shard) goOn(set *parameters.Set) (err error) {
	m, a := &s.mark, &s.adopted
	*a = adopted{set: set, caughtUp: m.CaughtUp, liveFrom: m.LiveFrom}
	versions := set.Latest(m.Versions)
	if m.Owner != "" {
		versions = versioned(m.Versions)
	}
	if a.is, err = s.parameters(versions); err != nil {
		return err
	}
	a.enc = s.encoder(a.is)
	if m.Sweep != nil {
		a.sweep = *m.Sweep
		if err := s.begin(versions); err != nil {
			return err
		}
	}
	s.p.compareFile(set)
	a.extract, err = set.Extract(s.versions()...)
	return err
}

// versioned are the versions of a checkpoint. The first releases had none: what they were configured with has become
// version 1.
func versioned(v state.Versions) state.Versions {
	v.Rules, v.Model = max(v.Rules, 1), max(v.Model, 1)
	return v
}

func (s *shard) parameters(v state.Versions) (*state.Parameters, error) {
	is, err := s.p.parameters(s.adopted.set, v)
	if errors.Is(err, parameters.ErrUnknown) {
		return nil, &stopError{"parameters", fmt.Errorf("the state stands under parameters that are gone: %w: was the topic of the parameters deleted and made again?", err)}
	}
	return is, err
}

func (s *shard) encoder(p *state.Parameters) *events.Encoder {
	return events.New(s.p.cfg.App, s.made.Epoch, p, s.p.cfg.Currency, s.p.cfg.Digits())
}

// versions are those that the shard's customers stand under.
func (s *shard) versions() []state.Versions {
	if s.adopted.move == nil {
		return []state.Versions{s.adopted.is.Versions}
	}
	return []state.Versions{s.adopted.move.Was.Versions, s.adopted.is.Versions}
}

// begin begins or goes on with the sweep to the adopted versions.
func (s *shard) begin(is state.Versions) (err error) {
	a := &s.adopted
	if a.is, err = s.parameters(is); err != nil {
		return err
	}
	was, err := s.parameters(versioned(a.sweep.Was))
	if err != nil {
		return err
	}
	a.move = adoption(&a.sweep, was, a.is)
	a.enc, a.was = s.encoder(a.is), s.encoder(was)
	return nil
}

var causes = map[string]state.Cause{
	parameters.RulesFamily: state.RulesCause, parameters.CutsFamily: state.CutsCause, parameters.ModelFamily: state.ModelCause,
}

// adopt takes what has been published since the last cut: the end of the building, or the next version of one family.
// One sweep is under way at a time, and none before the shard has caught up once.
func (s *shard) adopt() error {
	a := &s.adopted
	set := s.p.tail.Current()
	if set.Epoch.Epoch != s.made.Epoch || a.move != nil { // a reset will fence us
		return nil
	}
	if set != a.set {
		a.set = set
		s.p.compareFile(set)
	}
	if live := set.LiveFrom(); s.p.builds() && a.liveFrom == 0 && live > 0 {
		a.liveFrom, a.news = live, true
		s.p.log.Info("building has ended: changes are announced from now on", "shard", s.id)
	}
	is, family, announce, newer := set.Step(a.is.Versions)
	if !newer || !a.caughtUp || !s.silence.settled() { // after a long rest what is adopted is adopted now, not then
		return nil
	}
	a.sweep = store.Sweep{Family: family, Was: a.is.Versions, At: s.silence.played, Announce: announce}
	if err := s.begin(is); err != nil {
		return err
	}
	a.news = true
	s.p.log.Info("new parameters adopted", "shard", s.id, "family", family, "versions", is, "announce", announce)
	var err error
	a.extract, err = set.Extract(s.versions()...)
	return err
}

// builds says whether a new application builds in silence until it is live.
func (p *Pipeline) builds() bool { return p.cfg.Time.Clock != "manual" && p.cfg.Time.LiveFrom.IsZero() }

// liveFrom is when changes of the shard began to be news.
func (s *shard) liveFrom() state.Instant {
	switch {
	case !s.p.builds():
		return s.p.liveFrom
	case s.adopted.liveFrom == 0:
		return state.Never
	}
	return s.adopted.liveFrom
}

// checkpoint puts what is adopted into a checkpoint.
func (a *adopted) checkpoint(c *store.Checkpoint) {
	c.Versions, c.CaughtUp, c.LiveFrom = a.is.Versions, a.caughtUp, a.liveFrom
	if a.move != nil {
		sweep := a.sweep
		c.Sweep = &sweep
	}
}

// Adopt makes a view show its customers under the parameters of its mark, as a set has them.
func Adopt(c config.Config, set *parameters.Set, v *store.View) error {
	return adoptView(set, v, func(vs state.Versions) (*state.Parameters, error) { return Parameters(c, set, vs) })
}

func adoptView(set *parameters.Set, v *store.View, of func(state.Versions) (*state.Parameters, error)) error {
	versions := set.Latest(state.Versions{})
	if v.Mark.Owner != "" {
		versions = versioned(v.Mark.Versions)
	}
	is, err := of(versions)
	if err != nil {
		return err
	}
	var move *state.Adoption
	if sweep := v.Mark.Sweep; sweep != nil {
		was, err := of(versioned(sweep.Was))
		if err != nil {
			return err
		}
		move = adoption(sweep, was, is)
	}
	v.Adopt(is, move)
	return nil
}

func adoption(sweep *store.Sweep, was, is *state.Parameters) *state.Adoption {
	return &state.Adoption{Was: was, Is: is, At: sweep.At, Cause: causes[sweep.Family], Announce: sweep.Announce}
}
