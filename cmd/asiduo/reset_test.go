package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
)

var errDied = errors.New("died")

// refusedLike holds that a command fails with a message that matches, and no more.
func refusedLike(t *testing.T, want string, args ...string) {
	t.Helper()
	if got := command(t, args...); got.code != exitFailed || !regexp.MustCompile("^asiduo: "+want+"\n$").MatchString(got.err) {
		t.Errorf("asiduo %s:\n got %d %s\nwant 1 asiduo: %s", strings.Join(args, " "), got.code, got.err, want)
	}
}

// profiles are the last profiles, by customer; empty where it was removed.
func (w *town) profiles() map[string]string {
	w.t.Helper()
	cfg, err := loadConfig(configFile(w.t, w.broker, ""))
	if err != nil {
		w.t.Fatal(err)
	}
	_, adm := adminOf(w.t, w.broker)
	last := map[string]string{}
	for r, err := range (&rehearsal{cfg: cfg, adm: adm}).committed(w.t.Context(), "shop.profiles") {
		if err != nil {
			w.t.Fatal(err)
		}
		last[string(r.Key)] = string(r.Value)
	}
	return last
}

func (w *town) topicID(topic string) string {
	w.t.Helper()
	_, adm := adminOf(w.t, w.broker)
	found, err := adm.ListTopics(w.t.Context(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	return found[topic].ID.String()
}

// TestReset lets a reset die before each of its steps: nobody can start in between, and the next one completes it.
func TestReset(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	people := []string{"a", "b", "c", "d", "e", "f"}
	for _, who := range people {
		w.buy(who, "o1", time.Now())
		w.expect(who, "", "new", "order")
	}
	refusedLike(t, `reset: processes run: [A-Z0-9]{26} \(127\.0\.0\.1[:0-9]*, http://`+s.api+`\) with shards 0, 1, 2, 3: stop them first`, "reset", "-c", s.file, "--yes")
	if status, _, _ := s.ask("GET", s.api, "/readyz"); status != 200 {
		t.Errorf("a reset that was refused leaves readiness %d", status)
	}
	s.stop()
	ghost := &kgo.Record{Topic: "shop.profiles", Partition: w.place([]byte("ghost"), townShards), Key: []byte("ghost"), Value: []byte("{}")}
	if err := w.cl.ProduceSync(t.Context(), ghost).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "reset", "-c", s.file); got.code != exitFailed || got.err != "asiduo: not confirmed: nothing was done\n" {
		t.Errorf("not confirmed: %+v", got)
	}
	was := w.topicID("shop.changelog")
	_, adm := adminOf(t, w.broker)
	unfinished := "a reset to epoch 2 has begun and is not finished: run \"asiduo reset\" again"
	steps := 0
	for died := true; died; steps++ {
		r, err := pipeline.PlanReset(t.Context(), adm, pipeline.Connector(s.cfg.Kafka), s.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if r.To != 2 || r.Resumed != (steps > 1) {
			t.Errorf("death %d: %+v", steps, r)
		}
		n := 0
		died = false
		r.Step = func(what string) error {
			if n++; n > steps {
				died = true
				return fmt.Errorf("%w before: %s", errDied, what)
			}
			return nil
		}
		if err := r.Do(t.Context()); died != errors.Is(err, errDied) || !died && err != nil {
			t.Fatalf("death %d: %v", steps, err)
		}
		if died && steps > 0 { // the gate is closed
			for _, name := range []string{"run", "init"} {
				refused(t, exitFailed, unfinished, name, "-c", s.file)
			}
		}
	}
	if steps < 10 {
		t.Errorf("only %d steps", steps)
	}
	if is := w.topicID("shop.changelog"); is == was {
		t.Error("the changelog is the same")
	}
	if got := command(t, "check", "--connect", "-c", s.file); got.code != exitGood || strings.Contains(got.out, "warning") {
		t.Errorf("the topics are not as before: %+v", got)
	}
	for who, p := range w.profiles() {
		if (p == "") != (who == "ghost") {
			t.Errorf("profile of %s: %q", who, p)
		}
	}
	s = w.again(s.file)
	seen := map[string]bool{}
	for range people {
		select {
		case c := <-w.news:
			if c.From != nil || c.Sequence != 1 || seen[c.Customer] {
				t.Errorf("after the reset: %+v", c)
			}
			seen[c.Customer] = true
		case <-time.After(patience):
			t.Fatalf("only %v have changed", seen)
		}
	}
	w.buy("newcomer", "o1", time.Now())
	w.expect("newcomer", "", "new", "order")
	if aside, err := filepath.Glob(filepath.Join(s.cfg.State.Dir, "*.set-aside")); err != nil || len(aside) != townShards {
		t.Errorf("set aside: %v %v", aside, err)
	}
	s.stop()
}

// TestResetOfTruncatedInputs: a state that would be smaller must be wanted.
func TestResetOfTruncatedInputs(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	w.buy("a", "o1", time.Now())
	w.expect("a", "", "new", "order")
	other := "b"
	for w.place([]byte(other), townShards) == w.place([]byte("a"), townShards) {
		other += "b"
	}
	w.buy(other, "o1", time.Now())
	w.expect(other, "", "new", "order")
	s.stop()
	_, adm := adminOf(t, w.broker)
	place := w.place([]byte("a"), townShards)
	cut := kadm.Offsets{}
	cut.AddOffset("purchases", place, 1, -1)
	if _, err := adm.DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	refused(t, exitFailed, fmt.Sprintf("purchases/%d no longer begin with their first records: the new state will be smaller than the old one. If that is wanted, add --accept-lost-history", place),
		"reset", "-c", s.file, "--yes")
	cmd := newRoot()
	var out bytes.Buffer
	cmd.SetArgs([]string{"reset", "-c", s.file, "--accept-lost-history"})
	cmd.SetIn(strings.NewReader("shop\n"))
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"Application shop, 4 shards: epoch 1 ends, epoch 2 begins.\n", fmt.Sprintf("  purchases/%d: no records; offsets below 1 are gone\n", place), "  interactions/0: no records\n",
		"- ids of the new epoch (shop:2:...), so that nothing is taken for a repeat; sequences begin at 1 again\n", "epoch 2 begins: start the processes again.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not said:\n%s", want, out.String())
		}
	}
	if p := w.profiles(); p["a"] != "" || p[other] == "" {
		t.Errorf("profiles: %v", p)
	}
	if err := os.RemoveAll(s.cfg.State.Dir); err != nil {
		t.Fatal(err)
	}
	s = w.again(s.file)
	w.expect(other, "", "new", "order")
	w.buy("a", "o2", time.Now())
	w.expect("a", "", "new", "order")
	s.stop()
}

// TestResetMeetsOthers are those who have made or unmade what a reset needs.
func TestResetMeetsOthers(t *testing.T) {
	_, at := fakeBroker(t)
	file := configFile(t, at, "")
	refused(t, exitFailed, "read topic \"shop.parameters\": it is missing: no parameters are published: run \"asiduo init\"", "reset", "-c", file, "--yes")
	w := newTown(t)
	file = configFile(t, w.broker, "")
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	_, adm := adminOf(t, w.broker)
	plan := func() *pipeline.Resetting {
		t.Helper()
		r, err := pipeline.PlanReset(t.Context(), adm, pipeline.Connector(cfg.Kafka), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := plan()
	r.Step = func(what string) error {
		if what == "create the changelog" {
			return errDied
		}
		return nil
	}
	if err := r.Do(t.Context()); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(t.Context(), 3, 1, nil, "shop.changelog"); err != nil { // as a broker that makes topics by itself does
		t.Fatal(err)
	}
	refused(t, exitFailed, "reset: topic \"shop.changelog\" was made by somebody else, with 3 partitions instead of 4: delete it, and run the reset again", "reset", "-c", file, "--yes")
	if _, err := adm.DeleteTopic(t.Context(), "shop.changelog"); err != nil {
		t.Fatal(err)
	}
	stale := plan()
	if got := command(t, "reset", "-c", file, "--yes"); got.code != exitGood || !strings.HasPrefix(got.out, "A reset to epoch 2 has begun and is not finished: it will be completed.\n") {
		t.Errorf("completed: %+v", got)
	}
	if err := stale.Do(t.Context()); err == nil || err.Error() != "the epoch is 2, it was 1: somebody else has reset the application" {
		t.Errorf("a plan of before: %v", err)
	}
}
