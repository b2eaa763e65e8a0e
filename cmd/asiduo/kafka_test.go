//go:build kafka

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/asiduo/asiduo/pipeline/oracle"
)

// realBroker are the addresses of the real Kafka that .ci/kafka-test.sh has started for these tests.
func realBroker(t testing.TB) []string {
	t.Helper()
	at := os.Getenv("ASIDUO_BROKER")
	if at == "" {
		t.Fatal("ASIDUO_BROKER is not set: run make kafka-test")
	}
	return strings.Split(at, ",")
}

// TestKafkaConformance runs the cases through simulate on a real broker.
func TestKafkaConformance(t *testing.T) {
	broker := realBroker(t)
	for _, name := range caseNames(t) {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(casesDir(), name)
			c, err := oracle.ReadCase(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range realMatrix(c) {
				t.Run(v.String(), func(t *testing.T) {
					report(t, oracle.Diff(c.Want, simulated(t, dir, c, v, broker[0])))
					nothingLeft(t, broker[0])
				})
			}
		})
	}
}

// nothingLeft holds that a simulation leaves somebody else's broker as it was: the next one takes the same names.
func nothingLeft(t *testing.T, broker string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(t.Context())
	if err != nil || len(topics) > 0 {
		t.Errorf("topics are left: %v %v", topics.Names(), err)
	}
	groups, err := adm.ListGroups(t.Context())
	if err != nil || len(groups) > 0 {
		t.Errorf("groups are left: %v %v", groups.Groups(), err)
	}
}
