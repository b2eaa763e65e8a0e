package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// maxMessage is the greatest record that simulate and demo put into an input: it must hold what is too large for the
// pipeline.
const maxMessage = 64 << 20

// embeddedBroker starts a broker inside this process, on loopback, without anything on disk.
func embeddedBroker() (address string, stop func(), err error) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second), kfake.BrokerConfigs(map[string]string{
		"group.initial.rebalance.delay.ms": "0",
		"message.max.bytes":                fmt.Sprint(maxMessage),
	}))
	if err != nil {
		return "", nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	return cluster.ListenAddrs()[0], cluster.Close, nil
}

// admin is a client for everything but the pipeline itself.
func admin(ctx context.Context, c config.Kafka, more ...kgo.Opt) (*kgo.Client, *kadm.Client, error) {
	cl, err := pipeline.Connector(c)(more...)
	if err != nil {
		return nil, nil, err
	}
	if err := pipeline.Ping(ctx, cl, c); err != nil {
		cl.Close()
		return nil, nil, err
	}
	return cl, kadm.NewClient(cl), nil
}

// createInputs makes the input topics of a simulation: they keep producers' timestamps, however old or far ahead.
func createInputs(ctx context.Context, adm *kadm.Client, c config.Config, partitions int32) error {
	forever, any, size := "-1", "9223372036854775807", fmt.Sprint(maxMessage)
	create := "CreateTime"
	for _, topic := range pipeline.InputTopics(c) {
		_, err := adm.CreateTopic(ctx, partitions, c.Outputs.ReplicationFactor, map[string]*string{
			"retention.ms": &forever, "message.timestamp.type": &create, "max.message.bytes": &size,
			"message.timestamp.before.max.ms": &any, "message.timestamp.after.max.ms": &any,
		}, topic)
		if err != nil {
			return fmt.Errorf("create topic %q: %w (a simulation needs a broker without the topics of the application)", topic, err)
		}
	}
	return nil
}

// fitting lets records through that the inputs of n partitions can take.
func fitting(c config.Config, n int32, records iter.Seq2[*kgo.Record, error]) iter.Seq2[*kgo.Record, error] {
	inputs := pipeline.InputTopics(c)
	return func(yield func(*kgo.Record, error) bool) {
		for r, err := range records {
			switch {
			case err != nil:
			case !slices.Contains(inputs, r.Topic):
				err = fmt.Errorf("topic %q in the log is none of the inputs (%s)", r.Topic, strings.Join(inputs, ", "))
			case r.Partition >= n:
				err = fmt.Errorf("partition %d of topic %q is in the log, but there are %d partitions", r.Partition, r.Topic, n)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// topicNames are all topics that a simulation makes.
func topicNames(c config.Config) []string {
	names := pipeline.InputTopics(c)
	for _, t := range pipeline.OwnTopics(c) {
		names = append(names, t.Name)
	}
	return names
}

// refuseTopics makes sure that a simulation touches nothing that was there before it: it deletes its topics when it ends.
func refuseTopics(ctx context.Context, adm *kadm.Client, c config.Config) error {
	found, err := adm.ListTopics(ctx, topicNames(c)...)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	var there []string
	for _, t := range found.Sorted() {
		if len(t.Partitions) > 0 {
			there = append(there, t.Topic)
		}
	}
	if len(there) > 0 {
		return usageError{fmt.Errorf("the broker has topics of the application (%s): a simulation needs one without, nothing was touched", strings.Join(there, ", "))}
	}
	return nil
}

// deleteTopics removes what a simulation has made on a broker that lives on, and waits until it is gone.
func deleteTopics(ctx context.Context, adm *kadm.Client, c config.Config) error {
	names := topicNames(c)
	err := deleteGroup(ctx, adm, c.App)
	deleted, topicErr := adm.DeleteTopics(ctx, names...)
	if topicErr == nil {
		topicErr = deleted.Error()
	}
	if err = errors.Join(err, topicErr); err != nil {
		return fmt.Errorf("delete topics: %w", err)
	}
	return gone(ctx, adm, names)
}

// gone waits until no broker knows the topics any more. Questions for authorizations go past the client's cache, which
// would give the same answer for five seconds.
func gone(ctx context.Context, adm *kadm.Client, topics []string) error {
	for {
		found, err := adm.ListTopics(kadm.WithAuthorizedOps(ctx), topics...)
		if err != nil {
			return fmt.Errorf("list topics: %w", err)
		}
		left := 0
		for _, t := range found {
			left += len(t.Partitions)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// deleteGroup removes a group whose members have ended. They are static and did not leave: a member that comes next
// would wait for its shards until the session of the last one is over.
func deleteGroup(ctx context.Context, adm *kadm.Client, group string) error {
	found, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return err
	}
	leave := kadm.LeaveGroup(group).Reason("the simulation is over")
	for _, m := range found[group].Members {
		if m.InstanceID != nil {
			leave.InstanceIDs(*m.InstanceID)
		}
	}
	if _, err := adm.LeaveGroup(ctx, leave); err != nil {
		return fmt.Errorf("leave group: %w", err)
	}
	deleted, err := adm.DeleteGroups(ctx, group)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("delete group: %w", err)
	}
	return nil
}
