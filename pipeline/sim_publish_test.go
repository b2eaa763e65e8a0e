//go:build synctests

package pipeline_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
	"github.com/asiduo/asiduo/pipeline/oracle"
	"github.com/asiduo/asiduo/pipeline/parameters"
)

// publish makes a new version of the rules or of the model, and things go wrong while it is adopted. Silence has been
// played to now before, and now stays and no records come until all customers are moved. So it is known at which instant and
// between which records that was; TestAdoption has records that come meanwhile.
func (w *world) publish() {
	if w.cfg.Time.Clock != "manual" { // its clock does not stay
		return
	}
	if w.moveClock(); w.now == 0 {
		return // nothing has begun
	}
	w.heal()
	w.read()
	w.await("silence to be played", func() bool {
		return shardsAre(w.cfg.Shards, w.live, func(s pipeline.ShardStatus) bool { return s.Horizon >= w.now })
	})
	for _, name := range slices.Sorted(maps.Keys(w.live)) {
		if w.rng.IntN(2) == 0 {
			w.live[name].set(w.newTrap(name, cycleSteps))
		}
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
	if err := publish(w.t, file, announce, kgo.Dialer(w.network.DialContext)); errors.Is(err, parameters.ErrSame) {
		return
	} else if err != nil {
		w.t.Fatal(err)
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
	w.announced[what], w.moving = announce, true
	w.note("%s is published, announce %t", what, announce)
	w.hit("published: " + what[:5])
	for range 1 + w.rng.IntN(2) {
		time.Sleep(w.some(200 * time.Millisecond))
		w.fault(w.meanwhile)
	}
	w.settleAdoption()
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
