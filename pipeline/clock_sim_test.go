//go:build synctests

package pipeline_test

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// lateMarkers lets the coordinator write the markers of transactions some time after it has said that they have ended, as
// one does whose other brokers are slow.
func (w *crew) lateMarkers(by time.Duration) {
	type transaction struct {
		id    string
		epoch int16
	}
	var late sync.Map // those whose end comes again
	w.cluster.ControlKey(int16(kmsg.EndTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		req := r.(*kmsg.EndTxnRequest)
		is, again := transaction{req.TransactionalID, req.ProducerEpoch}, *req
		if _, ends := late.LoadOrStore(is, true); ends {
			return nil, nil, false
		}
		time.AfterFunc(by, func() {
			// Who has begun another one has ended it.
			if resp, err := again.RequestWith(w.t.Context(), w.cl); err != nil || resp.ErrorCode != 0 && resp.ErrorCode != kerr.ProducerFenced.Code {
				w.t.Errorf("the marker: %v %+v", err, resp)
			}
		})
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		if resp.ProducerID = req.ProducerID; req.Version >= 5 {
			resp.ProducerEpoch = req.ProducerEpoch + 1
		}
		return resp, nil, true
	})
}

// TestClockAnchor: markers that come late put nobody's clock ahead of the brokers'; it would call customers silent before
// they are.
func TestClockAnchor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := plain(t, func(c *config.Config) { c.Time.LiveFrom = config.At(time.Now()) })
		w.start("a", nil, "", 0)
		w.shardsAre("running", func(s pipeline.ShardStatus) bool { return s.CaughtUp })
		time.Sleep(15 * time.Minute)
		w.lateMarkers(5 * time.Second)
		w.write(w.order("ana", "o1", time.Now(), 100, nil), w.order("bob", "o1", time.Now(), 100, nil))
		var worst, least time.Duration
		for range 25 * 60 {
			time.Sleep(time.Second)
			now, known := w.live["a"].pipe.Now()
			if !known {
				t.Fatal("the brokers' time is not known")
			}
			ahead := time.Until(time.UnixMilli(int64(now)))
			worst, least = max(worst, ahead), min(least, ahead)
		}
		if worst > 0 || least < -time.Second {
			t.Errorf("the clock is up to %v ahead of the brokers', and up to %v behind", worst, -least)
		}
	})
}
