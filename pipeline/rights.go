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
	answers := map[Right]grant{}
	var missing []string
	for _, r := range Rights(c) {
		if r.Command != command {
			continue
		}
		of := Right{Resource: r.Resource, Name: r.Name, Pattern: r.Pattern} // one question for all operations
		if r.Operation == "Create" {
			of.Operation = r.Operation
		}
		g, asked := answers[of]
		if !asked {
			g = ask(ctx, cl, of)
			answers[of] = g
		}
		if !g.allows(r.Operation) {
			missing = append(missing, r.String())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the brokers do not let this user do what %s needs: %s (\"asiduo init --acls\" prints all that is needed)", command, strings.Join(missing, ", "))
}

// grant is what brokers say about something: what a user may do with it, nothing if they do not tell, or that it is not
// for him. Another error is not about rights: whoever needs the thing will meet it.
type grant struct {
	may []kadm.ACLOperation
	err error
}

func (g grant) refused() bool {
	return slices.ContainsFunc([]error{kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed},
		func(refused error) bool { return errors.Is(g.err, refused) })
}

// allows says whether an operation may be tried. Who may not describe a thing may neither read nor write it, but of its
// configuration that says nothing.
func (g grant) allows(operation string) bool {
	if g.refused() {
		return operation == "DescribeConfigs"
	}
	needed, err := kmsg.ParseACLOperation(operation)
	return err != nil || len(g.may) == 0 || slices.Contains(g.may, needed)
}

// ask asks what may be done with a resource, or whether a topic may be made.
func ask(ctx context.Context, cl *kgo.Client, r Right) grant {
	switch {
	case r.Operation == "Create":
		return mayCreate(ctx, cl, r.Name)
	case r.Resource == "topic":
		return mayTopic(ctx, cl, r.Name)
	case r.Resource == "group":
		groups, err := kadm.NewClient(cl).DescribeGroups(ctx, r.Name)
		return grant{groups[r.Name].AuthorizedOperations, errors.Join(err, groups[r.Name].Err)}
	}
	id := r.Name
	if r.Pattern == "prefixed" {
		id += "0"
	}
	all, err := kadm.NewClient(cl).DescribeTransactions(ctx, id) // which is for whom may write it
	return grant{err: errors.Join(err, all[id].Err)}
}

// mayTopic is what the user may do with a topic, also one that is not there yet, if he may describe it.
func mayTopic(ctx context.Context, cl *kgo.Client, name string) grant {
	req, t := kmsg.NewPtrMetadataRequest(), kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	req.Topics, req.IncludeTopicAuthorizedOperations = append(req.Topics, t), true
	resp, err := req.RequestWith(ctx, cl)
	if err != nil || len(resp.Topics) != 1 {
		return grant{err: err}
	}
	return grant{kadm.DecodeACLOperations(resp.Topics[0].AuthorizedOperations), kerr.ErrorForCode(resp.Topics[0].ErrorCode)}
}

// mayCreate says whether a topic may be made: by a right on its name, or by one on the cluster, of which a topic does not
// tell.
func mayCreate(ctx context.Context, cl *kgo.Client, name string) grant {
	made, err := kadm.NewClient(cl).ValidateCreateTopics(ctx, -1, -1, nil, name)
	return grant{err: errors.Join(err, made[name].Err)}
}
