package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline"
)

// The customers of TestNobodyIsNamed have ids that are recognised by these bytes, however they are written: an id that is a
// UUID is stored as its sixteen bytes.
var idBytes = []string{"canary", "\xca\x0a\x71\xca\x0a\x71"}

const aUUID = "ca0a71ca-0a71-4ca0-8a71-ca0a71ca0a71"

// traces are the forms in which logs show bytes: text, hexadecimal, decimal, base64 at any of three places.
var traces = func() (all []string) {
	all = append(all, strings.ToLower(aUUID))
	for _, mark := range idBytes {
		decimals := make([]string, len(mark))
		for i := range len(mark) {
			decimals[i] = strconv.Itoa(int(mark[i]))
		}
		all = append(all, mark, hex.EncodeToString([]byte(mark)), strings.Join(decimals, " "), strings.Join(decimals, ","))
		for before := range 3 {
			text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + mark))
			all = append(all, strings.ToLower(text[(before*4+2)/3:(before+len(mark))*4/3]))
		}
	}
	return all
}()

// namesNobody holds that a text has no trace of a customer.
func namesNobody(t *testing.T, what, text string) {
	t.Helper()
	lower := strings.ToLower(text)
	for _, trace := range traces {
		if at := strings.Index(lower, trace); at >= 0 {
			t.Errorf("%s names a customer: ...%s...", what, text[max(0, at-200):min(len(text), at+100)])
		}
	}
}

// badRecord is one that ends as a dead letter, with a customer in every place where one may be.
type badRecord struct {
	topic, key, value string
	elsewhere         bool          // on another partition than its key belongs to
	ahead             time.Duration // of now, of its timestamp
}

// badRecords are some for every reason that a record can give, by reason.
func badRecords() map[string][]badRecord {
	order := func(fields string) string {
		return `{"order_id":"o-canary","customer_id":"canary-bad","ordered_at":"` + time.Now().UTC().Format(time.RFC3339) + `","amount":"1","currency":"EUR"` + fields + `}`
	}
	without := func(old, with string) string { return strings.Replace(order(""), old, with, 1) }
	is := func(values ...string) (all []badRecord) {
		for _, v := range values {
			all = append(all, badRecord{topic: "purchases", key: "canary-bad", value: v})
		}
		return all
	}
	touch := func(purpose string) badRecord {
		return badRecord{topic: "interactions", key: "canary-touch", value: fmt.Sprintf(
			`{"id":"canary-i","customer_id":"canary-touch","type":"consent","at":"2026-01-01T00:00:00Z","properties":{"purpose":%q,"status":"granted"}}`, purpose)}
	}
	return map[string][]badRecord{
		"too_large":             is(order(`,"note":"` + strings.Repeat("canary", 1000) + `"`)),
		"undecodable":           is("canary", `{"canary":`, `"canary"`, order("")+"canary", order(`,"canary":1,"canary":2`), order(`,"x":"canary`+"\xff"+`"`), `{"`+aUUID+`":}`, "["+order("")+"]"),
		"missing_field":         is(without(`"amount":"1",`, ""), without(`"amount":"1",`, `"amount":null,"canary":1,`)),
		"empty_order_id":        is(without(`"o-canary"`, `""`)),
		"bad_field":             is(order(`,"status":"canary"`), order(`,"test":"canary"`), order(`,"revision":"canary"`), order(`,"type":"canary"`), without(`"o-canary"`, `{"canary":"canary"}`)),
		"key_mismatch":          {{topic: "purchases", key: "canary-other", value: order("")}, {topic: "purchases", key: aUUID, value: order("")}},
		"bad_time":              is(regexp.MustCompile(`"ordered_at":"[^"]*"`).ReplaceAllString(order(""), `"ordered_at":"canary"`)),
		"future_time":           {{topic: "purchases", key: "canary-bad", value: order(""), ahead: 24 * time.Hour}},
		"unknown_currency":      is(without(`"EUR"`, `"CAN"`), without(`"EUR"`, `"CAN","fx":{"canary":1}`)),
		"bad_amount":            is(without(`"amount":"1"`, `"amount":"canary"`), order(`,"refunded":"1canary"`)),
		"negative_total":        is(without(`"amount":"1"`, `"amount":"-1"`)),
		"too_late":              is(regexp.MustCompile(`"ordered_at":"[^"]*"`).ReplaceAllString(order(""), `"ordered_at":"2001-01-01T00:00:00Z"`)),
		"misrouted":             {{topic: "purchases", key: "canary-bad", value: order(""), elsewhere: true}},
		"consent_purpose_bytes": {touch(strings.Repeat("canary", 60))},
	}
}

func (w *town) put(r badRecord) {
	w.t.Helper()
	partition := w.place([]byte(r.key), townShards)
	if r.elsewhere {
		partition = (partition + 1) % townShards
	}
	record := &kgo.Record{Topic: r.topic, Partition: partition, Key: []byte(r.key), Value: []byte(r.value), Timestamp: time.Now().Add(r.ahead)}
	if err := w.cl.ProduceSync(w.t.Context(), record).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// deadLetters reads so many, by reason.
func (w *town) deadLetters(n int) map[string][]*kgo.Record {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.ConsumeTopics("shop.dead-letters"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	all := map[string][]*kgo.Record{}
	for read := 0; read < n; {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			w.t.Fatalf("dead letters: %v, have %v of %d", err, all, n)
		}
		for r := range f.RecordsAll() {
			read++
			for _, h := range r.Headers {
				if h.Key == "asiduo-reason" {
					all[string(h.Value)] = append(all[string(h.Value)], r)
				}
			}
		}
	}
	return all
}

// TestNobodyIsNamed sends good and bad records of recognisable customers through a process that logs everything, asks for
// them in every way, and looks for them in its log, its metrics and its errors. Who needs to know whose record was bad
// finds the record itself in the dead letter.
func TestNobodyIsNamed(t *testing.T) {
	w := newTown(t)
	s := w.run("kafka: ", "limits: {max_record_bytes: 5000}\nkafka: ")
	s.ready(townShards)
	for _, id := range []string{"canary-ana", aUUID, "canary\n\"\u202e<b>"} {
		w.buy(id, "o-canary", time.Now())
		w.expect(id, "", "new", "order")
	}
	bad := badRecords()
	n := 0
	for reason, records := range bad {
		for _, r := range records {
			n++
			w.put(r)
		}
		if len(records) == 0 {
			t.Errorf("none for %s", reason)
		}
	}
	letters := w.deadLetters(n)
	for reason := range maps.Keys(bad) {
		if len(letters[reason]) != len(bad[reason]) {
			t.Errorf("%s: %d letters of %d records", reason, len(letters[reason]), len(bad[reason]))
		}
		for _, r := range letters[reason] {
			if !strings.Contains(string(r.Key), "canary") && string(r.Key) != aUUID {
				t.Errorf("%s: the letter does not say whose record it is: %s", reason, r.Key)
			}
			for _, h := range r.Headers { // which tools show in lists
				namesNobody(t, "the header "+h.Key+" of a dead letter", string(h.Value))
			}
		}
	}
	beyond := map[string]bool{ // need more than one record, or none; the tests of the pipeline have them
		"batch_too_large": true, "orders_per_customer": true, "refunds_per_customer": true, "consent_purposes": true, "unprocessable": true, "input_lost": true,
	}
	for reason := range pipeline.Reasons() {
		if (bad[reason] == nil) != beyond[reason] {
			t.Errorf("reason %s: records %v", reason, bad[reason])
		}
	}
	s.askForThem()
	namesNobody(t, "the metrics", s.body(s.admin, "/metrics"))
	namesNobody(t, "readiness", s.body(s.api, "/readyz"))
	namesNobody(t, "the list of shards", s.body(s.api, "/v1/shards"))
	namesNobody(t, "the list of goroutines", s.body(s.admin, "/debug/pprof/goroutine?debug=2"))
	doctor := command(t, "doctor", "-c", s.file)
	namesNobody(t, "doctor", doctor.out+doctor.err)
	s.stop()
	if text := s.log.String(); strings.Count(text, "\n") < 10 || !strings.Contains(text, `"level":"DEBUG"`) && !strings.Contains(text, "shard restored") {
		t.Errorf("the log says little:\n%s", text)
	}
	namesNobody(t, "the log", s.log.String())
}

func (s *service) body(at, path string) string {
	s.t.Helper()
	status, body, _ := s.ask("GET", at, path)
	if status != http.StatusOK {
		s.t.Errorf("%s: %d %s", path, status, body)
	}
	return body
}

// askForThem asks for customers who are there, who are not, and in ways that are refused.
func (s *service) askForThem() {
	t := s.t
	t.Helper()
	for _, id := range []string{"canary-ana", aUUID} {
		eventually(t, "the customer is shown", func() bool { status, _, _ := s.ask("GET", s.api, "/v1/customers/"+id); return status == http.StatusOK })
	}
	for _, at := range []string{s.api, s.admin} {
		for _, path := range []string{
			"/v1/customers/canary-nobody", "/v1/customers/" + strings.Repeat("canary", 50), "/canary", "/v1/canary/" + aUUID,
			"/v1/customers/canary-nobody?canary=" + aUUID, "/v1/state/customers/canary-nobody", "/v1/state/scan?shard=canary",
			"/v1/state/scan?shard=99&after=canary", "/v1/state/scan?canary=1", "/v1/state/records?shard=canary", "/v1/snapshot?as_of=canary",
			"/v1/snapshot?" + url.QueryEscape("canary\n"), "/v1/moves?canary", "/debug/pprof/canary", "//canary", "/v1/customers/../" + aUUID + "x",
		} {
			for _, method := range []string{"GET", "POST", "DELETE", "CANARY"} {
				status, body, h := s.ask(method, at, path)
				if status == http.StatusOK {
					continue // a snapshot, counts of moves: no errors
				}
				namesNobody(t, fmt.Sprintf("%s %s: %d", method, path, status), body+fmt.Sprint(h))
			}
		}
	}
}

// TestStoppedShardNamesNobody has a record at which a shard stops. Where it lies is told, and whose it is is there.
func TestStoppedShardNamesNobody(t *testing.T) {
	w := newTown(t)
	s := w.run("kafka: ", "inputs: {misrouted: fail}\nkafka: ")
	s.ready(townShards)
	for _, r := range badRecords()["misrouted"] {
		w.put(r)
	}
	stopped := ""
	eventually(t, "the shard stops", func() bool {
		_, body, _ := s.ask("GET", s.api, "/v1/shards")
		stopped = body
		return strings.Contains(body, `"stopped"`)
	})
	if !regexp.MustCompile(`record purchases/\d@0 is on the wrong partition`).MatchString(stopped) {
		t.Errorf("where is it? %s", stopped)
	}
	namesNobody(t, "the shard", stopped)
	_, ready, _ := s.ask("GET", s.api, "/readyz")
	namesNobody(t, "readiness", ready)
	s.stop()
	namesNobody(t, "the log", s.log.String())
}

// TestTraces are recognised.
func TestTraces(t *testing.T) {
	for _, id := range []string{"xcanary", "the-canary", aUUID} {
		raw := []byte(id)
		if id == aUUID {
			raw, _ = hex.DecodeString(strings.ReplaceAll(id, "-", ""))
		}
		for _, text := range []string{
			id, strings.ToUpper(id), fmt.Sprintf("%q", id), fmt.Sprintf("%x", raw), fmt.Sprintf("%X", raw), fmt.Sprint(raw),
			base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(append([]byte("k"), raw...)), base64.StdEncoding.EncodeToString(append([]byte("kk"), raw...)),
		} {
			found := false
			for _, trace := range traces {
				found = found || strings.Contains(strings.ToLower(text), trace)
			}
			if !found {
				t.Errorf("%s is not recognised", text)
			}
		}
	}
}
