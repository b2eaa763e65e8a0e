//go:build synctests

package pipeline_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/pipeline/parameters"
)

// publish makes a new version of the rules or of the model. In some runs records come, the clock moves and everything goes
// wrong while it is adopted. In others silence has been played to now before, and now stays and no records come until all
// customers are moved, so that nothing but the adoption is at work.
func (w *world) publish() {
	if !w.among.amid && !w.still() {
		return
	}
	cfg, other := w.c, oracle.Configs().Example(w.rng.IntN(1_000))
	cfg.Rules, cfg.Churn = w.rules[w.versions.Rules-1], w.models[w.versions.Model-1]
	announce := w.rng.IntN(2) == 0
	rules := w.rng.IntN(2) == 0
	if rules {
		cfg.Rules.Frequency = other.Rules.Frequency
		if other.Rules.RecencyDays[3] < cfg.Rules.WindowDays {
			cfg.Rules.RecencyDays = other.Rules.RecencyDays
		}
		if other.MinorDigits == cfg.MinorDigits {
			cfg.Rules.Money = other.Rules.Money
		}
	} else {
		cfg.Churn = other.Churn
	}
	file := configOf(w.t, cfg)
	file.Kafka = w.cfg.Kafka
	w.among.money(&file)
	if !w.publishes(file, announce) {
		return
	}
	what := ""
	if rules {
		w.versions.Rules++
		w.rules = append(w.rules, cfg.Rules)
		what = fmt.Sprint("rules/", w.versions.Rules)
	} else {
		w.versions.Model++
		w.models = append(w.models, cfg.Churn)
		what = fmt.Sprint("model/", w.versions.Model)
	}
	w.announced[what], w.moving = announce, !w.among.amid
	w.note("%s is published, announce %t", what, announce)
	w.hit("published: " + what[:5])
	if w.among.amid {
		w.hit("published: while records come")
		return
	}
	for range 1 + w.rng.IntN(2) {
		time.Sleep(w.some(200 * time.Millisecond))
		w.fault(w.meanwhile)
	}
	w.settleAdoption()
}

// publishes publishes what is new in a file; false if nothing is. What brokers refuse is tried again, and may have come about.
func (w *world) publishes(file config.Config, announce bool) bool {
	for tries := range 10 {
		err := publish(w.t, file, announce, kgo.Dialer(w.network.DialContext))
		if errors.Is(err, parameters.ErrSame) && tries > 0 {
			is := w.published().Newest
			return is.Rules != w.versions.Rules || is.Model != w.versions.Model
		}
		if err == nil || errors.Is(err, parameters.ErrSame) {
			return err == nil
		}
		w.note("publish: %v", err)
		w.heal()
	}
	w.t.Fatal("[progress] nothing can be published")
	return false
}

// still lets silence be played to now by everybody; false if that cannot be.
func (w *world) still() bool {
	if w.cfg.Time.Clock != "manual" { // its clock does not stay
		return false
	}
	if w.moveClock(); w.now == 0 {
		return false // nothing has begun
	}
	w.heal()
	w.read()
	w.await("silence to be played", func() bool {
		return shardsAre(w.cfg.Shards, w.live, func(s pipeline.ShardStatus) bool { return s.Horizon >= w.now })
	})
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		if w.rng.IntN(2) == 0 {
			w.live[name].set(w.newTrap(w.rng, name, cycleSteps))
		}
	}
	return true
}

// settleAdoption waits until everybody stands under what is published.
func (w *world) settleAdoption() {
	if w.moving && !w.adopted() {
		w.heal()
		w.await("new parameters to be adopted", w.adopted)
	}
	w.moving = false
}

// adopted says whether everybody stands under what is published.
func (w *world) adopted() bool {
	return shardsAre(w.cfg.Shards, w.live, func(s pipeline.ShardStatus) bool { return s.Versions == w.versions && s.Sweep == nil })
}
