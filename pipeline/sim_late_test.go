//go:build synctests

package pipeline_test

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/oracle"
)

// said is what a subscriber sees of the time of an event.
type said struct {
	Mode       string
	Cause      string
	Transition struct{ Cause string }
	at, when   time.Time // the instant it is of, and that of its production
}

// checkLate holds that silence is told as news exactly if it is found within time.announce_late_over of its instant. The oracle, which
// does not know when something was found, calls all of it news: what it says of the mode is judged here, and taken away.
func (w *world) checkLate(want []oracle.Output, visible map[place][]*kgo.Record) {
	w.t.Helper()
	const slack = 10 * time.Minute // from the instant that a cycle goes by to the production of what it says, with all faults
	limit := w.cfg.Time.AnnounceLateOver.Std()
	all := map[string]said{}
	for at, rs := range visible {
		if topic := strings.TrimPrefix(at.topic, w.cfg.App+"."); topic != oracle.SegmentChanges && topic != oracle.ChurnRisk {
			continue
		}
		for _, r := range rs {
			var e said
			err := json.Unmarshal(r.Value, &e)
			headers := w.output(r).Headers
			if err == nil {
				e.at, err = time.Parse(time.RFC3339, headers["ce_time"])
			}
			if err != nil {
				w.t.Errorf("[late] %s: %v", headers["ce_id"], err)
				continue
			}
			e.when = r.Timestamp
			all[headers["ce_id"]] = e
		}
	}
	for _, o := range want {
		e, there := all[o.Headers["ce_id"]]
		if !there || o.Value["mode"] != "live" || e.Cause != "timer" && e.Transition.Cause != "timer" {
			continue
		}
		delete(o.Value, "mode")
		switch age := e.when.Sub(e.at); {
		case e.Mode == "live" && age > limit+slack:
			w.t.Errorf("[late] %s is told as news %v after its instant", o.Headers["ce_id"], age)
		case e.Mode != "live" && age < limit-slack:
			w.t.Errorf("[late] %s is told as history %v after its instant", o.Headers["ce_id"], age)
		case e.Mode != "live":
			w.hit("silence: too late to be news")
		default:
			w.hit("silence: news")
		}
	}
}
