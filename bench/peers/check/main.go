// Command check runs the reference model over an input topic and compares a peer's committed output with it:
// the same multiset of records, byte for byte, and for every customer the same order. With -final, only the last segment of
// every customer: the output may have another form.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"flag"
	"fmt"
	"hash/fnv"
	"log"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/asiduo/asiduo/bench/peers/job"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// tally describes a set of change records, whatever their order across customers.
type tally struct {
	N     int
	Sum   uint64            // of record hashes, each with its place in the customer's sequence
	Last  map[string]string // final segment per customer
	Seq   map[string]uint64
	Moves map[[2]string]int
}

func newTally() *tally {
	return &tally{Last: map[string]string{}, Seq: map[string]uint64{}, Moves: map[[2]string]int{}}
}

func (t *tally) add(id string, value []byte, from, to string) {
	t.N++
	t.Seq[id]++
	h := fnv.New64a()
	h.Write(value)
	h.Write(binary.LittleEndian.AppendUint64(nil, t.Seq[id]))
	t.Sum += h.Sum64()
	t.Last[id] = to
	t.Moves[[2]string{from, to}]++
}

func main() {
	brokers := flag.String("brokers", "127.0.0.1:39092", "bootstrap server")
	in := flag.String("input", "purchases", "input topic")
	out := flag.String("output", "", "output topic to compare; empty: print the expectation")
	cache := flag.String("cache", "", "file that keeps the expectation for this input")
	final := flag.Bool("final", false, "compare the last segment of every customer only")
	count := flag.Bool("count", false, "only count the output")
	flag.Parse()

	if *count {
		n := 0
		read(*brokers, *out, func(*kgo.Record) { n++ })
		fmt.Printf("check=none outputs=%d\n", n)
		return
	}
	want, err := load(*cache)
	if err != nil {
		want = expect(*brokers, *in)
		if *cache != "" {
			save(*cache, want)
		}
	}
	if *out == "" {
		fmt.Printf("customers=%d outputs=%d\n", len(want.Last), want.N)
		show(want)
		return
	}
	got := newTally()
	read(*brokers, *out, func(r *kgo.Record) {
		from, to := field(r.Value, `"from":"`), field(r.Value, `"to":"`)
		if *final {
			_, after, _ := bytes.Cut(r.Value, []byte(`"to":`))
			to = field(after, `"segment":"`)
		}
		got.add(string(r.Key), r.Value, from, to)
	})
	if got.N == want.N && got.Sum == want.Sum {
		fmt.Printf("check=same outputs=%d customers=%d\n", got.N, len(got.Last))
		return
	}
	if *final && maps.Equal(got.Last, want.Last) {
		fmt.Printf("check=final outputs=%d customers=%d\n", got.N, len(got.Last))
		return
	}
	differ := 0
	for id, to := range want.Last {
		if got.Last[id] != to {
			differ++
		}
	}
	fmt.Printf("check=DIFFERENT outputs=%d expected=%d customers=%d expected_customers=%d final_segment_differs=%d\n",
		got.N, want.N, len(got.Last), len(want.Last), differ)
	for _, k := range sorted(want.Moves) {
		if got.Moves[k] != want.Moves[k] {
			fmt.Printf("  %s -> %s: %d, expected %d\n", k[0], k[1], got.Moves[k], want.Moves[k])
		}
	}
	os.Exit(1)
}

// expect runs the reference model.
func expect(brokers, in string) *tally {
	want := newTally()
	customers := map[string]*job.Customer{}
	clock := map[int32]int64{}
	partition := map[string]int32{}
	var p job.Purchase
	var buf []byte
	emitTo := func(id string) func(job.Change) {
		return func(ch job.Change) {
			buf = ch.AppendJSON(buf[:0], id)
			want.add(id, buf, ch.From.String(), ch.To.String())
		}
	}
	read(brokers, in, func(r *kgo.Record) {
		if err := job.Decode(r.Value, &p); err != nil {
			log.Fatal(err)
		}
		o, err := p.Order()
		if err != nil {
			log.Fatal(err)
		}
		c := customers[p.CustomerID]
		if c == nil {
			c = new(job.Customer)
			customers[p.CustomerID] = c
			partition[p.CustomerID] = r.Partition
		}
		t := r.Timestamp.UnixMilli()
		clock[r.Partition] = max(clock[r.Partition], t)
		c.Apply(o, t, emitTo(p.CustomerID))
	})
	for id, c := range customers {
		c.Advance(clock[partition[id]], emitTo(id))
	}
	return want
}

func load(file string) (*tally, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := newTally()
	return t, gob.NewDecoder(f).Decode(t)
}

func save(file string, t *tally) {
	f, err := os.Create(file)
	if err == nil {
		err = gob.NewEncoder(f).Encode(t)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
}

func show(t *tally) {
	for _, k := range sorted(t.Moves) {
		fmt.Printf("  %-18s -> %-18s %8d\n", k[0], k[1], t.Moves[k])
	}
	final := map[string]int{}
	for _, to := range t.Last {
		final[to]++
	}
	for _, s := range slices.Sorted(maps.Keys(final)) {
		fmt.Printf("  final %-18s %8d\n", s, final[s])
	}
}

func sorted(m map[[2]string]int) [][2]string {
	return slices.SortedFunc(maps.Keys(m), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
}

// field returns the string that follows name up to the next quote.
func field(v []byte, name string) string {
	s := string(v)
	for i := 0; i+len(name) < len(s); i++ {
		if s[i:i+len(name)] == name {
			j := i + len(name)
			for k := j; k < len(s); k++ {
				if s[k] == '"' {
					return s[j:k]
				}
			}
		}
	}
	return ""
}

// read hands over every committed record of a topic.
func read(brokers, topic string, f func(*kgo.Record)) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		log.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err != nil {
		log.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			log.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				f(r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
}
