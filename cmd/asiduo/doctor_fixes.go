package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

const (
	fixLost     = `set inputs.lost: skip, start "asiduo run", and set it back to stop when a dead letter (input_lost) has told of it`
	fixSkipped  = `start "asiduo run", and set inputs.lost back to stop when a dead letter (input_lost) has told of it`
	fixClock    = "synchronise the clocks of this machine and the brokers (NTP)"
	fixDescribe = "let this user describe the topics and their settings"
	fixMade     = "change it back, or begin over with another app"
)

// remedies are what to do about the sentences of package pipeline, by what they say; $1 and so on are parts of the sentence.
var remedies = []struct {
	says *regexp.Regexp
	do   func(d *doctor, part []string) string
}{
	{regexp.MustCompile(`topic "(.+)" has (\S+)=\S+, should be (\S+)$`), func(d *doctor, part []string) string { return d.alter(part[1], part[2]+"="+part[3]) }},
	{regexp.MustCompile(`topic "(.+)" has cleanup\.policy=`), func(d *doctor, part []string) string { return d.alter(part[1], "cleanup.policy=compact") }},
	{regexp.MustCompile(`topic "(.+)" has max\.message\.bytes=\d+, but a record may have (\d+) bytes`), func(d *doctor, part []string) string {
		return d.alter(part[1], "max.message.bytes="+part[2])
	}},
	{regexp.MustCompile(`input topic "(.+)" is missing`), func(d *doctor, part []string) string {
		create := d.topics("--create", part[1])
		if d.shards > 0 {
			create += " --partitions " + strconv.Itoa(int(d.shards))
		}
		return "correct inputs in the configuration, or " + create
	}},
	{regexp.MustCompile(`create it with "asiduo init"|no parameters are published`), always(`run "asiduo init"`)},
	{regexp.MustCompile(`(\d+) shards do not divide the inputs: (.+);`), (*doctor).grown},
	{regexp.MustCompile(`topic "(.+)" has (\d+) partitions, not one per shard \((\d+)\)`), (*doctor).onePerShard},
	{regexp.MustCompile(`topic "(.+)" has \d+ partitions, not 1$`), func(d *doctor, part []string) string {
		return d.topics("--delete", part[1]) + " && asiduo init -c " + d.file + `; if rules or models were published since the first ones, shards stop until "asiduo reset"`
	}},
	{regexp.MustCompile(`shards is \d+, but topic ".+" has (\d+) partitions`), func(_ *doctor, part []string) string {
		return "set shards: " + part[1] + ", or begin over with another app"
	}},
	{regexp.MustCompile(`input "(.+)" keeps records for .+, less than two snapshot intervals`), func(d *doctor, part []string) string {
		return d.alter(part[1], "retention.ms="+strconv.FormatInt(2*d.cfg.Archive.Every.Std().Milliseconds(), 10)) + ", or lower archive.every"
	}},

	{regexp.MustCompile(`made again \(id|no longer has (the records at our position|its first records)|has lost records that were processed|brokers were set back`), func(d *doctor, _ []string) string { return d.leave() }},
	{regexp.MustCompile(`run "(asiduo \w+)" again`), func(_ *doctor, part []string) string { return `run "` + part[1] + `" again` }},
	{regexp.MustCompile(`run the newer release|was it written by a newer release`), always(`install the newer release again; else "asiduo reset" begins over`)},
	{regexp.MustCompile(`has no state, but there was one`), always(`"asiduo import --snapshot DIR" brings back a snapshot, "asiduo reset" begins over`)},
	{regexp.MustCompile(`checkpoint is not readable`), always(`"asiduo reset" begins over; find out first who writes there`)},
	{regexp.MustCompile(`the state was made with another|the number of shards is fixed`), always(fixMade)},
	{regexp.MustCompile(`is on the wrong partition for its key`), always("set inputs.partitioner to what the producers use, or inputs.misrouted to dead_letter")},
	{regexp.MustCompile(`was the topic of the parameters deleted and made again`), always(`"asiduo reset" begins over with the parameters that are published now`)},
	{regexp.MustCompile(`^lso_pinned`), always(`"asiduo doctor --open-for 10s" says whose it is`)},
	{regexp.MustCompile(`^clock: `), always(fixClock)},
}

func always(fix string) func(*doctor, []string) string {
	return func(*doctor, []string) string { return fix }
}

// remedy is what to do about a sentence, or what else is to be said.
func (d *doctor) remedy(sentence, other string) string {
	for _, r := range remedies {
		if part := r.says.FindStringSubmatch(sentence); part != nil {
			return r.do(d, part)
		}
	}
	return other
}

func (d *doctor) bootstrap() string {
	return "--bootstrap-server " + strings.Join(d.cfg.Kafka.Brokers, ",")
}

func (d *doctor) alter(topic, setting string) string {
	return "kafka-configs.sh " + d.bootstrap() + " --alter --entity-type topics --entity-name " + topic + " --add-config " + setting
}

func (d *doctor) topics(do, topic string) string {
	return "kafka-topics.sh " + d.bootstrap() + " " + do + " --topic " + topic
}

var countOfTopic = regexp.MustCompile(`topic "(\S+)" has (\d+) partitions`)

// leave is how to go on without what is lost.
func (d *doctor) leave() string {
	if d.cfg.Inputs.Lost == "skip" {
		return fixSkipped
	}
	return fixLost
}

// grown gives inputs partitions up to the next multiple of the shards.
func (d *doctor) grown(part []string) string {
	shards, _ := strconv.Atoi(part[1])
	var steps []string
	for _, t := range countOfTopic.FindAllStringSubmatch(part[2], -1) {
		n, _ := strconv.Atoi(t[2])
		steps = append(steps, d.topics("--alter", t[1])+" --partitions "+strconv.Itoa((n+shards-1)/shards*shards))
	}
	return strings.Join(steps, " && ")
}

// onePerShard gives a topic partitions; they cannot be taken away.
func (d *doctor) onePerShard(part []string) string {
	n, _ := strconv.Atoi(part[2])
	if shards, _ := strconv.Atoi(part[3]); n < shards {
		return d.topics("--alter", part[1]) + " --partitions " + part[3]
	}
	return d.topics("--delete", part[1]) + " && asiduo init -c " + d.file + "; what subscribers have not read of it is lost"
}

// reassign gives a topic three replicas, or more if more are wanted.
func (d *doctor) reassign(t kadm.TopicDetail, brokers kadm.BrokerDetails) string {
	type partition struct {
		Topic     string  `json:"topic"`
		Partition int32   `json:"partition"`
		Replicas  []int32 `json:"replicas"`
	}
	var all []partition
	for i, p := range t.Partitions.Sorted() {
		on := slices.Clone(p.Replicas)
		for j := range brokers { // not all to the same brokers
			if id := brokers[(i+j)%len(brokers)].NodeID; len(on) < max(3, int(d.cfg.Outputs.ReplicationFactor)) && !slices.Contains(on, id) {
				on = append(on, id)
			}
		}
		all = append(all, partition{t.Topic, p.Partition, on})
	}
	plan, err := json.Marshal(map[string]any{"version": 1, "partitions": all})
	if err != nil {
		return ""
	}
	return fmt.Sprintf("echo '%s' >replicas.json && kafka-reassign-partitions.sh %s --reassignment-json-file replicas.json --execute", plan, d.bootstrap())
}

func joined(ids []int32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ", "), "[]")
}

// sentences are those of a joined error.
func sentences(err error) []string {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		var list []string
		for _, e := range all.Unwrap() {
			list = append(list, sentences(e)...)
		}
		return list
	}
	return []string{err.Error()}
}
