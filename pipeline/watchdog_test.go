package pipeline

import (
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var barked atomic.Int32
		w := watch(10*time.Second, func() { barked.Add(1) })
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if barked.Load() != 0 {
			t.Error("it barks too early")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if barked.Load() != 1 {
			t.Errorf("it barks %d times", barked.Load())
		}
		w.stop()
		w = watch(10*time.Second, func() { t.Error("it barks at what has come back") })
		time.Sleep(5 * time.Second)
		w.stop()
		time.Sleep(time.Minute)
	})
}

// TestWatchdogStoodStill: a process that stood still for longer than a write may take has not been writing for so long.
func TestWatchdogStoodStill(t *testing.T) {
	if os.Getenv("ASIDUO_FREEZES") == "" { // in a process of its own, or whoever watches the tests would be told
		cmd := exec.Command(os.Args[0], "-test.run=^TestWatchdogStoodStill$", "-test.count=1")
		cmd.Env = append(os.Environ(), "ASIDUO_FREEZES=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	w := watch(time.Second, func() { t.Error("it barks at the time that it has stood still") })
	defer w.stop()
	if out, err := exec.Command("sh", "-c", "kill -STOP $PPID; sleep 1.5; kill -CONT $PPID").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	time.Sleep(100 * time.Millisecond) // what is due comes now
}
