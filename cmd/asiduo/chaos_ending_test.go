//go:build kafka

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ending is how a process ended.
type ending struct {
	err    error         // exit code or signal, nil for 0
	lived  time.Duration // from its start to its end
	logged string        // the last line of its log
	words  []string      // what it said outside its log, after that line: an error may have several lines
}

// ending looks how the process ended that has just done so.
func (v *victim) ending() ending {
	e := ending{err: v.err, lived: v.over.Sub(v.began)}
	text, err := os.ReadFile(v.log)
	if err != nil {
		e.words = []string{err.Error()}
		return e
	}
	e.logged, e.words = said(text[min(v.from, int64(len(text))):])
	return e
}

// said parts the last line of a log from what comes after it.
func said(text []byte) (logged string, words []string) {
	for line := range bytes.SplitSeq(bytes.TrimSpace(text), []byte("\n")) {
		switch line = bytes.TrimSpace(line); {
		case json.Valid(line):
			logged, words = string(line), nil
		case len(line) > 0:
			words = append(words, string(line))
		}
	}
	return logged, words
}

func (e ending) String() string {
	how, words := "exit status 0", e.words
	if e.err != nil {
		how = e.err.Error()
	}
	if len(words) > 20 { // a panic
		words = append(slices.Clone(words[:20]), "...")
	}
	if len(words) == 0 {
		return fmt.Sprintf("%s after %v, and says nothing; last logged: %s", how, e.lived.Round(time.Second), e.logged)
	}
	return fmt.Sprintf("%s after %v: %s", how, e.lived.Round(time.Second), strings.Join(words, "; "))
}

// early says whether SIGTERM came before the process listened to signals: it had not said a word.
func (e ending) early() bool {
	exit, ok := errors.AsType[*exec.ExitError](e.err)
	if !ok || e.logged != "" || len(e.words) > 0 {
		return false
	}
	how, ok := exit.Sys().(syscall.WaitStatus)
	return ok && how.Signaled() && how.Signal() == syscall.SIGTERM
}

// reachless says whether the process has given up because no broker could be reached when it started, or because they
// did not answer as they should for half a minute, which is what it promises to say. Every line must be about that.
func (e ending) reachless() bool {
	exit, ok := errors.AsType[*exec.ExitError](e.err)
	if !ok || exit.ExitCode() != exitFailed || len(e.words) == 0 {
		return false
	}
	for _, line := range e.words {
		if !unreached(line) && !(e.lived >= 30*time.Second && troubled(line)) {
			return false
		}
	}
	return true
}

// unreached knows what pipeline.Ping says of brokers that are away.
func unreached(line string) bool {
	return slices.ContainsFunc([]string{"no broker reachable", "no answer from the brokers", "hang up at once"}, func(s string) bool {
		return strings.Contains(line, s)
	})
}

// troubled knows what pipeline.Run says of brokers that have answered and then were in trouble for longer than it is
// patient, at the start: what it was about, and an error that may pass. That a topic is not there is no such error.
func troubled(line string) bool {
	line = strings.TrimPrefix(line, "asiduo: ")
	if !slices.ContainsFunc([]string{"list topics: ", "read topic ", "topic "}, func(s string) bool { return strings.HasPrefix(line, s) }) {
		return false
	}
	for _, s := range []string{"EOF", "connection refused", "connection reset by peer", "broken pipe", "i/o timeout"} {
		if strings.HasSuffix(line, ": "+s) {
			return true
		}
	}
	for code := range int16(200) {
		e, ok := kerr.ErrorForCode(code).(*kerr.Error)
		if ok && (e.Retriable || e == kerr.UnknownServerError) && e != kerr.UnknownTopicOrPartition && e != kerr.UnknownTopicID && strings.HasSuffix(line, ": "+e.Error()) {
			return true
		}
	}
	return false
}

// TestChaosEnding holds that endings are told apart.
func TestChaosEnding(t *testing.T) {
	exits := func(script string) error { return exec.Command("sh", "-c", script).Run() }
	leader, missing := kerr.LeaderNotAvailable.Error(), kerr.UnknownTopicOrPartition.Error()
	const log = `{"msg":"listening"}` + "\n"
	for _, c := range []struct {
		name, script, text string
		lived              time.Duration
		early, reachless   bool
		string             string
	}{
		{"unreached", "exit 1", log + "asiduo: no broker reachable at x: connection refused\n", 0, false, true, "exit status 1 after 0s: asiduo: no broker reachable at x: connection refused"},
		{"killed after it was unreached", "kill -9 $$", "asiduo: no broker reachable at x\n", 0, false, false, "signal: killed after 0s: asiduo: no broker reachable at x"},
		{"killed", "kill -9 $$", log, time.Second, false, false, `signal: killed after 1s, and says nothing; last logged: {"msg":"listening"}`},
		{"terminated before it listens", "kill $$", "", 0, true, false, "signal: terminated after 0s, and says nothing; last logged: "},
		{"terminated", "kill $$", log, 0, false, false, `signal: terminated after 0s, and says nothing; last logged: {"msg":"listening"}`},
		{"ended good", "exit 0", log, 0, false, false, `exit status 0 after 0s, and says nothing; last logged: {"msg":"listening"}`},
		{"patient", "exit 1", log + "asiduo: topic \"a\": " + leader + "\ntopic \"b\": " + leader, 31 * time.Second, false, true, "exit status 1 after 31s: asiduo: topic \"a\": " + leader + "; topic \"b\": " + leader},
		{"not patient", "exit 1", log + "asiduo: topic \"a\": " + leader, 3 * time.Second, false, false, "exit status 1 after 3s: asiduo: topic \"a\": " + leader},
		{"cut", "exit 1", "asiduo: list topics: read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer", 31 * time.Second, false, true, "exit status 1 after 31s: asiduo: list topics: read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer"},
		{"missing", "exit 1", "asiduo: read topic \"a\": " + missing, 31 * time.Second, false, false, "exit status 1 after 31s: asiduo: read topic \"a\": " + missing},
		{"something else too", "exit 1", "asiduo: no broker reachable at x\nthe lock does not close", 0, false, false, "exit status 1 after 0s: asiduo: no broker reachable at x; the lock does not close"},
	} {
		logged, words := said([]byte(c.text))
		e := ending{exits(c.script), c.lived, logged, words}
		if e.early() != c.early || e.reachless() != c.reachless || e.String() != c.string {
			t.Errorf("%s: early %v, reachless %v, %s", c.name, e.early(), e.reachless(), e)
		}
	}
}
