package pipeline

import (
	"sync"
	"time"
)

// watchdog barks when something has not come back within a limit, of which only time counts in which this process runs:
// after it stood still (SIGSTOP, a virtual machine that was moved), all its timers are due at once.
type watchdog struct {
	mu    sync.Mutex
	timer *time.Timer
	every time.Duration
	left  int // beats until it barks; 0: it never does
	bark  func()
}

const beats = 10

func watch(limit time.Duration, bark func()) *watchdog {
	w := &watchdog{every: limit / beats, left: beats, bark: bark}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.every, w.beat)
	return w
}

func (w *watchdog) beat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 {
		return
	}
	if w.left--; w.left == 0 {
		w.bark()
		return
	}
	w.timer.Reset(w.every)
}

// stop is called when it has come back.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = 0
	w.timer.Stop()
}
