package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// TestOperatingPage holds docs/operating.md to the configuration and to what "init --acls" prints.
func TestOperatingPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if _, err := config.Parse("page.yaml", []byte("app: shop\ncurrency: EUR\n"+block[1]), nil); err != nil {
			t.Errorf("%v\n%s", err, block[1])
		}
		n++
	}
	if n != 4 {
		t.Errorf("%d configurations, want 4", n)
	}
	got := command(t, "init", "-c", written(t, "asiduo.yaml", "app: shop\ncurrency: EUR\nkafka: {brokers: [\"kafka:9093\"]}\n"), "--acls", "--principal", "User:shop")
	if got.code != exitGood || !strings.Contains(string(page), "```text\n"+got.out+"```\n") {
		t.Errorf("the page does not have what is printed: %d %s\n%s", got.code, got.err, got.out)
	}
}

// TestACLs is what is printed for other applications, to whom, and as JSON; no broker is there.
func TestACLs(t *testing.T) {
	file := written(t, "asiduo.yaml", "app: shop\ncurrency: EUR\nkafka: {sasl: {mechanism: SCRAM-SHA-512, username: ana, password: x}}\ninputs: {interactions: \"\"}\noutputs: {profiles: false}\n")
	got := command(t, "init", "-c", file, "--acls", "--json")
	var list []struct {
		pipeline.Right
		Principal string
	}
	if err := json.Unmarshal([]byte(got.out), &list); err != nil || got.code != exitGood {
		t.Fatalf("%v %+v", err, got)
	}
	commands := map[string]int{}
	for _, r := range list {
		commands[r.Command]++
		if r.Principal != "User:ana" || r.Name == "interactions" || r.Name == "shop.profiles" {
			t.Errorf("%+v", r)
		}
	}
	if commands["run"] != 15 || commands["init"] != 18 || len(commands) != 2 {
		t.Errorf("rights by command: %v", commands)
	}
	if got := command(t, "init", "-c", file, "--acls", "--principal", "User:O=Shop's,CN=a b"); !strings.Contains(got.out, ` --allow-principal 'User:O=Shop'\''s,CN=a b' `) {
		t.Errorf("%+v", got)
	}
	nobody := written(t, "nobody.yaml", "app: shop\ncurrency: EUR\n")
	refused(t, exitUsage, "whom to grant the rights? kafka.sasl.username does not tell: give --principal User:NAME", "init", "-c", nobody, "--acls")
	refused(t, exitUsage, "whom to grant the rights? kafka.sasl.username does not tell: give --principal User:NAME", "init", "-c", nobody, "--acls", "--principal", "shop")
	refused(t, exitUsage, "--json and --principal are for --acls", "init", "-c", nobody, "--json")
}

// TestMissingRight takes each right away in turn, on the embedded broker; make security-test does it on a real one.
func TestMissingRight(t *testing.T) {
	cfg := config.Default()
	cfg.App = "shop"
	for _, name := range []string{"run", "init"} {
		rights := slices.DeleteFunc(pipeline.Rights(cfg), func(r pipeline.Right) bool { return r.Command != name })
		there := topicNames(cfg)
		if name == "init" {
			there = pipeline.InputTopics(cfg)
		}
		opts := []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "asiduo", "x"), kfake.SeedTopics(1, there...)}
		for i := range rights {
			var acls []kfake.ACL
			for j, r := range rights {
				if j != i {
					acls = append(acls, granted(r))
				}
			}
			opts = append(opts, kfake.User("PLAIN", fmt.Sprintf("u%d", i), "x", acls...))
		}
		_, at := fakeBroker(t, opts...)
		for i, r := range rights {
			file := written(t, "asiduo.yaml", fmt.Sprintf("app: shop\ncurrency: EUR\nkafka: {brokers: [%q], sasl: {mechanism: PLAIN, username: u%d, password: x}}\noutputs: {replication_factor: 1}\n", at, i))
			refused(t, exitFailed, "the brokers do not let this user do what "+name+" needs: "+r.String()+" (\"asiduo init --acls\" prints all that is needed)", name, "-c", file)
		}
	}
}

// TestCreateOnCluster: who may create topics by a right on the cluster needs none on their names.
func TestCreateOnCluster(t *testing.T) {
	cfg := config.Default()
	cfg.App = "shop"
	acls := []kfake.ACL{granted(pipeline.Right{Resource: "cluster", Name: "kafka-cluster", Pattern: "literal", Operation: "Create"})}
	for _, r := range pipeline.Rights(cfg) {
		if r.Command == "init" && r.Operation != "Create" {
			acls = append(acls, granted(r))
		}
	}
	_, at := fakeBroker(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "asiduo", "x"),
		kfake.User("PLAIN", "u", "x", acls...), kfake.SeedTopics(1, pipeline.InputTopics(cfg)...))
	file := written(t, "asiduo.yaml", fmt.Sprintf("app: shop\ncurrency: EUR\nkafka: {brokers: [%q], sasl: {mechanism: PLAIN, username: u, password: x}}\noutputs: {replication_factor: 1}\n", at))
	if got := command(t, "init", "-c", file); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func granted(r pipeline.Right) kfake.ACL {
	a := kfake.ACL{Name: r.Name, Allow: true}
	a.Resource, _ = kmsg.ParseACLResourceType(strings.ReplaceAll(r.Resource, "-", "_"))
	a.Pattern, _ = kmsg.ParseACLResourcePatternType(r.Pattern)
	a.Operation, _ = kmsg.ParseACLOperation(r.Operation)
	return a
}
