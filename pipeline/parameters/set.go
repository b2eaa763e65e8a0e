package parameters

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"

	strict "github.com/go-json-experiment/json"

	"github.com/asiduo/asiduo/state"
	"github.com/asiduo/asiduo/state/population"
)

// Set is everything that is published. It is never changed once it is handed out.
type Set struct {
	Epoch       Epoch
	Rules       map[uint32]*Rules
	Cuts        map[uint32]*Cuts
	Models      map[uint32]*Model
	Newest      state.Versions // 0: none
	Populations map[int32]*Population
	Live        *Live
}

// The families of versions, in the order in which they are adopted.
const (
	RulesFamily = "rules"
	CutsFamily  = "cuts"
	ModelFamily = "model"
)

// ErrUnknown is returned for versions that the topic does not have.
var ErrUnknown = errors.New("not published")

// with is the set and what a record says.
func (s *Set) with(key string, value []byte) (*Set, error) {
	next := *s
	family, number, numbered := strings.Cut(key, "/")
	n, err := strconv.ParseUint(number, 10, 31)
	if numbered != (family != epochKey && family != liveKey) || (numbered && err != nil) {
		return s, unknownKey(key)
	}
	switch family {
	case epochKey:
		next.Epoch, err = read(value, func(e *Epoch) error { return need(e.Epoch >= 1, "it is less than 1") })
	case liveKey:
		var l Live
		l, err = read(value, func(l *Live) error { return need(l.From > 0, "it has no live_from") })
		next.Live = &l
	case RulesFamily:
		next.Rules, err = version(s.Rules, uint32(n), &next.Newest.Rules, value, func(r *Rules) (*Publication, error) { return &r.Publication, r.check() })
	case CutsFamily:
		next.Cuts, err = version(s.Cuts, uint32(n), &next.Newest.Cuts, value, func(c *Cuts) (*Publication, error) { return &c.Publication, c.check() })
	case ModelFamily:
		next.Models, err = version(s.Models, uint32(n), &next.Newest.Model, value, func(m *Model) (*Publication, error) { return &m.Publication, m.check() })
	case populationKey:
		var p Population
		p, err = read(value, func(*Population) error { return nil })
		if next.Populations = maps.Clone(s.Populations); next.Populations == nil {
			next.Populations = map[int32]*Population{}
		}
		next.Populations[int32(n)] = &p
	default:
		return s, unknownKey(key)
	}
	if err != nil {
		return s, fmt.Errorf("%s is not readable: %w: %.200q", key, err, value)
	}
	return &next, nil
}

func unknownKey(key string) error {
	return fmt.Errorf("unknown key %q: was it written by a newer release, or by somebody else?", key)
}

func need(holds bool, why string) error {
	if holds {
		return nil
	}
	return errors.New(why)
}

func read[T any](value []byte, check func(*T) error) (v T, err error) {
	if err := strict.Unmarshal(value, &v); err != nil {
		return v, err
	}
	return v, check(&v)
}

func version[T any](was map[uint32]*T, n uint32, newest *uint32, value []byte, check func(*T) (*Publication, error)) (map[uint32]*T, error) {
	v, err := read(value, func(v *T) error {
		about, err := check(v)
		if err == nil && (n == 0 || about.Version != n) {
			err = fmt.Errorf("it says that it is version %d", about.Version)
		}
		return err
	})
	if err != nil {
		return was, err
	}
	is := maps.Clone(was)
	if is == nil {
		is = map[uint32]*T{}
	}
	is[n], *newest = &v, max(*newest, n)
	return is, nil
}

// Parameters are those of the versions, without limits. ErrUnknown if one of them is not published.
func (s *Set) Parameters(v state.Versions) (*state.Parameters, error) {
	rules, model := s.Rules[v.Rules], s.Models[v.Model]
	switch {
	case rules == nil:
		return nil, fmt.Errorf("version %d of the rules is %w", v.Rules, ErrUnknown)
	case model == nil:
		return nil, fmt.Errorf("version %d of the model is %w", v.Model, ErrUnknown)
	}
	p := &state.Parameters{Recency: rules.Recency, Frequency: rules.Frequency, Window: rules.Window, Versions: v}
	var err error
	if p.Rules, err = rules.Proved(s.Rules[s.Newest.Rules].Codes); err != nil {
		return nil, err
	}
	if p.Churn, err = model.churn(); err != nil {
		return nil, err
	}
	switch cuts := s.Cuts[v.Cuts]; {
	case rules.Money.Mode == Quintiles && cuts != nil:
		for i, c := range cuts.Cuts {
			p.Money[i] = state.Money(c)
		}
	case rules.Money.Mode == Quintiles && v.Cuts > 0:
		return nil, fmt.Errorf("version %d of the cuts is %w", v.Cuts, ErrUnknown)
	case len(rules.Money.Cuts) == 4:
		p.Money = [4]state.Money(rules.Money.Cuts)
	default: // nothing is known about what customers spend: M is 3 for everybody
		p.Money = [4]state.Money{0, 0, math.MaxInt64, math.MaxInt64}
	}
	return p, nil
}

// Step is the next version to adopt for who stands under was: one family at a time, always its newest version. Cuts
// are left alone while the rules have their own. ok is false if there is nothing newer.
func (s *Set) Step(was state.Versions) (is state.Versions, family string, announce, ok bool) {
	is = was
	switch {
	case s.Newest.Rules > was.Rules:
		is.Rules = s.Newest.Rules
		return is, RulesFamily, s.Rules[is.Rules].Announce, true
	case s.Newest.Cuts > was.Cuts && s.Quintiles():
		is.Cuts = s.Newest.Cuts
		return is, CutsFamily, s.Cuts[is.Cuts].Announce, true
	case s.Newest.Model > was.Model:
		is.Model = s.Newest.Model
		return is, ModelFamily, s.Models[is.Model].Announce, true
	}
	return was, "", false, false
}

// Latest is where the steps from was lead.
func (s *Set) Latest(was state.Versions) state.Versions {
	for {
		is, _, _, more := s.Step(was)
		if !more {
			return was
		}
		was = is
	}
}

// Quintiles says whether the newest rules leave the cuts of money to the population.
func (s *Set) Quintiles() bool {
	r := s.Rules[s.Newest.Rules]
	return r != nil && r.Money.Mode == Quintiles
}

// LiveFrom is when the building of the epoch has ended; 0 while it has not.
func (s *Set) LiveFrom() state.Instant {
	if s.Live == nil || s.Live.Epoch != s.Epoch.Epoch {
		return 0
	}
	return s.Live.From
}

// whole is the population of all shards, once all of them have caught up.
func (s *Set) whole(shards int32) (all population.Population, ok bool) {
	for i := range shards {
		p := s.Populations[i]
		if p == nil || p.Epoch != s.Epoch.Epoch || !p.CaughtUp {
			return all, false
		}
		all.Merge(&p.Population)
	}
	return all, true
}

// Counted says whether all shards have caught up and have told what their customers count as.
func (s *Set) Counted(shards int32) bool {
	_, whole := s.whole(shards)
	return whole
}

// week is how long cuts stay at least.
const week = 7 * state.Day

// NextCuts are the cuts that are to be published now, if any (semantics 9.1): the first ones as soon as all shards have
// caught up and there are enough orders, quintiles as soon as there are enough buyers, then at most weekly and only if
// one has moved.
func (s *Set) NextCuts(shards int32, now state.Instant) *Cuts {
	if !s.Quintiles() {
		return nil
	}
	all, whole := s.whole(shards)
	cuts, enough := all.Cuts()
	if !whole || !enough {
		return nil
	}
	next := &Cuts{
		Publication: Publication{Version: s.Newest.Cuts + 1, PublishedAt: now},
		Cuts:        cuts, Buyers: all.Buyers.Total(), Orders: all.Orders.Total(),
	}
	was := s.Cuts[s.Newest.Cuts]
	switch {
	case was == nil:
		return next
	case !all.Quintiles() || !cuts.Moved(was.Cuts):
		return nil
	case was.Buyers >= population.EnoughBuyers && now < was.PublishedAt+week:
		return nil
	}
	return next
}

// NextLive ends the building, when it is time: all shards have caught up, cuts are published as far as the population
// allows, and all customers stand under the newest versions.
func (s *Set) NextLive(shards int32, now state.Instant) *Live {
	if _, whole := s.whole(shards); !whole || s.LiveFrom() > 0 || s.NextCuts(shards, now) != nil {
		return nil
	}
	for i := range shards {
		p := s.Populations[i]
		if _, _, _, more := s.Step(p.Versions); more || !p.Swept {
			return nil
		}
	}
	return &Live{Epoch: s.Epoch.Epoch, From: now}
}

// Extract is the part of the set that versions need, for reading the state where the topic cannot be asked. ReadExtract
// reads it back.
func (s *Set) Extract(vs ...state.Versions) ([]byte, error) {
	part := map[string]any{epochKey: s.Epoch}
	for _, v := range append(vs, s.Newest) { // the newest rules name everything
		if r := s.Rules[v.Rules]; r != nil {
			part[key(RulesFamily, v.Rules)] = r
		}
		if c := s.Cuts[v.Cuts]; c != nil {
			part[key(CutsFamily, v.Cuts)] = c
		}
		if m := s.Models[v.Model]; m != nil {
			part[key(ModelFamily, v.Model)] = m
		}
	}
	return json.Marshal(part)
}

// ReadExtract reads what Extract has written.
func ReadExtract(b []byte) (*Set, error) {
	var part map[string]json.RawMessage
	if err := json.Unmarshal(b, &part); err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	s := &Set{}
	for k, v := range part {
		var err error
		if s, err = s.with(k, v); err != nil {
			return nil, fmt.Errorf("read parameters: %w", err)
		}
	}
	return s, nil
}

func key(family string, n uint32) string { return family + "/" + strconv.FormatUint(uint64(n), 10) }
