package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline/parameters"
)

// Right is something that a user of the brokers must be allowed, in the words of kafka-acls.sh.
type Right struct {
	Command   string `json:"command"`  // that needs it: run or init
	Resource  string `json:"resource"` // topic, group or transactional-id
	Name      string `json:"name"`
	Pattern   string `json:"pattern"` // literal, or prefixed: all names that begin so
	Operation string `json:"operation"`
}

func (r Right) String() string {
	name := fmt.Sprintf("%q", r.Name)
	if r.Pattern == "prefixed" {
		name = fmt.Sprintf("\"%s*\"", r.Name)
	}
	return fmt.Sprintf("%s on %s %s", r.Operation, r.Resource, name)
}

// Rights are all that the users of an application need, none of them in vain: those of the processes, and those of
// whoever makes the topics. Read and Write let a user describe as well; a producer with a transactional id needs
// nothing of the cluster.
func Rights(c config.Config) []Right {
	var list []Right
	add := func(command, resource, pattern, name string, operations ...string) {
		for _, o := range operations {
			list = append(list, Right{command, resource, name, pattern, o})
		}
	}
	const literal = "literal"
	for _, name := range InputTopics(c) {
		add("run", "topic", literal, name, "Read")
	}
	for _, name := range []string{changelogTopic(c.App), parameters.Topic(c.App)} {
		add("run", "topic", literal, name, "Read", "Write", "DescribeConfigs")
	}
	for _, t := range OutputTopics(c) {
		add("run", "topic", literal, t.Name, "Write", "DescribeConfigs")
	}
	add("run", "group", literal, c.App, "Read")
	add("run", "transactional-id", "prefixed", transactionalPrefix(c.App), "Write")

	for _, name := range InputTopics(c) {
		add("init", "topic", literal, name, "Describe")
	}
	add("init", "topic", literal, changelogTopic(c.App), "Create", "Read", "DescribeConfigs")
	add("init", "topic", literal, parameters.Topic(c.App), "Create", "Read", "Write", "DescribeConfigs")
	for _, t := range OutputTopics(c) {
		add("init", "topic", literal, t.Name, "Create", "Describe", "DescribeConfigs")
	}
	add("init", "transactional-id", literal, transactionalPrefix(c.App)+"parameters", "Write")
	return list
}

// transactionalPrefix is what the transactional ids of shards and of commands begin with.
func transactionalPrefix(app string) string { return app + "-" }

// Allowed proves that the client's user has the rights of a command, before it begins: it would meet what is missing one
// after the other, a shard would try for ever, and init would stop between two topics.
func Allowed(ctx context.Context, cl *kgo.Client, c config.Config, command string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var missing []string
	for _, r := range Rights(c) {
		if r.Command == command && !allowed(ctx, cl, r) {
			missing = append(missing, r.String())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the brokers do not let this user do what %s needs: %s (\"asiduo init --acls\" prints all that is needed)", command, strings.Join(missing, ", "))
}

// allowed asks for what r is about. Brokers tell what a user may do with it, also with a topic that is not there yet, if
// he may describe it. Who may not may neither read nor write it; of other rights that tells nothing. Another error is not
// about rights: whoever needs the thing will meet it.
func allowed(ctx context.Context, cl *kgo.Client, r Right) bool {
	var may []kadm.ACLOperation
	var err error
	switch r.Resource {
	case "topic":
		may, err = mayTopic(ctx, cl, r.Name)
	case "group":
		var groups kadm.DescribedGroups
		groups, err = kadm.NewClient(cl).DescribeGroups(ctx, r.Name)
		may, err = groups[r.Name].AuthorizedOperations, errors.Join(err, groups[r.Name].Err)
	case "transactional-id":
		id := r.Name
		if r.Pattern == "prefixed" {
			id += "0"
		}
		var all kadm.DescribedTransactions
		all, err = kadm.NewClient(cl).DescribeTransactions(ctx, id) // which is for whom may write it
		err = errors.Join(err, all[id].Err)
	}
	for _, refused := range []error{kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed} {
		if errors.Is(err, refused) {
			return r.Operation == "Create" || r.Operation == "DescribeConfigs"
		}
	}
	needed, err := kmsg.ParseACLOperation(r.Operation)
	return err != nil || len(may) == 0 || slices.Contains(may, needed)
}

// mayTopic is what the user may do with a topic; nothing if the brokers do not tell.
func mayTopic(ctx context.Context, cl *kgo.Client, name string) ([]kadm.ACLOperation, error) {
	req, t := kmsg.NewPtrMetadataRequest(), kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	req.Topics, req.IncludeTopicAuthorizedOperations = append(req.Topics, t), true
	resp, err := req.RequestWith(ctx, cl)
	if err != nil || len(resp.Topics) != 1 {
		return nil, err
	}
	return kadm.DecodeACLOperations(resp.Topics[0].AuthorizedOperations), kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}
