package kafka

import (
	"context"
	"errors"
	"slices"
	"strings"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/internal/kafkawire"
)

// Access is who may do something with one topic or group, as the brokers' access
// rules say. Super users of the brokers are in no rule.
type Access struct {
	// Principals may do it, in order of their names.
	Principals []string
	// Ruled: at least one rule names the resource. Brokers with
	// allow.everyone.if.no.acl.found let anyone at one without.
	Ruled bool
}

// ErrNoAuthorizer says that the brokers check no rights at all.
var ErrNoAuthorizer = errors.New("the brokers have no authorizer: whoever reaches them may read and write every topic and join every group")

// WhoMayWrite lists the principals that may write to a topic.
func (c *Client) WhoMayWrite(ctx context.Context, topic string) (Access, error) {
	return c.access(ctx, kafkago.ResourceTypeTopic, topic, kafkawire.OpWrite)
}

// WhoMayJoin lists the principals that may join the consumer group, and so take
// partitions and move offsets.
func (c *Client) WhoMayJoin(ctx context.Context) (Access, error) {
	return c.access(ctx, kafkago.ResourceTypeGroup, c.cfg.Group.ID, kafkawire.OpRead)
}

// access asks for the rules that match a resource: those of its name, of a
// prefix of it, and of every name.
func (c *Client) access(ctx context.Context, kind kafkago.ResourceType, name string, op kafkawire.Operation) (Access, error) {
	var res *kafkago.DescribeACLsResponse
	err := c.wire.Retry(ctx, "list access rules", func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
		defer cancel()
		res, err = c.wire.Kafka().DescribeACLs(ctx, &kafkago.DescribeACLsRequest{Filter: kafkago.ACLFilter{
			ResourceTypeFilter: kind, ResourceNameFilter: name, ResourcePatternTypeFilter: kafkago.PatternTypeMatch,
			Operation: kafkago.ACLOperationTypeAny, PermissionType: kafkago.ACLPermissionTypeAny,
		}})
		if err == nil {
			err = res.Error
		}
		return err
	})
	if errors.Is(err, kafkago.SecurityDisabled) {
		return Access{}, ErrNoAuthorizer
	}
	if err != nil {
		return Access{}, err
	}
	return accessOf(res.Resources, op), nil
}

// accessOf applies the rules: who is allowed op, or everything, and is not denied
// it from everywhere.
func accessOf(resources []kafkago.ACLResource, op kafkawire.Operation) Access {
	var out Access
	var denied []string
	for _, r := range resources {
		for _, rule := range r.ACLs {
			out.Ruled = true
			if rule.Operation != op && rule.Operation != kafkawire.OpAll {
				continue
			}
			switch {
			case rule.PermissionType == kafkago.ACLPermissionTypeAllow:
				out.Principals = append(out.Principals, rule.Principal)
			case rule.PermissionType == kafkago.ACLPermissionTypeDeny && rule.Host == "*":
				denied = append(denied, rule.Principal)
			}
		}
	}
	out.Principals = slices.DeleteFunc(out.Principals, func(p string) bool {
		return slices.Contains(denied, p) || slices.Contains(denied, "User:*")
	})
	slices.Sort(out.Principals)
	out.Principals = slices.Compact(out.Principals)
	return out
}

// Principal is what the brokers call this user, as far as the configuration
// tells: it is empty without SASL, because a broker may map the names of client
// certificates.
func (c *Client) Principal() string {
	if c.cfg.SASL.Mechanism == "" {
		return ""
	}
	return "User:" + c.cfg.SASL.Username
}

// lacking names the operations of want that are not in have.
func lacking(have kafkawire.Operations, want ...kafkawire.Operation) []string {
	var out []string
	for _, op := range want {
		if !have.May(op) {
			out = append(out, op.String())
		}
	}
	return out
}

// MissingRights lists what this user lacks for a start with these input topics,
// each as the command that grants it; written are those that Keysentry writes
// to as well (events over HTTP). Empty is good. Topics that do not exist are not spoken
// of: no broker tells what a user may do with them.
func (c *Client) MissingRights(ctx context.Context, inputs []string, written func(topic string) bool) ([]string, error) {
	own := c.ownTopics()
	names := slices.Clone(inputs)
	for _, t := range own {
		names = append(names, t.name)
	}
	all, err := c.wire.Describe(ctx, names)
	if err != nil {
		return nil, err
	}
	var out []string
	for i, t := range all.Topics {
		want := []kafkawire.Operation{kafkawire.OpRead, kafkawire.OpDescribe, kafkawire.OpDescribeConfigs}
		if i >= len(inputs) || written(t.Name) {
			want = append(want, kafkawire.OpWrite)
		}
		if ops := t.Operations; t.Err == nil && ops.Known() {
			out = append(out, c.grant("--topic "+t.Name, lacking(ops, want...))...)
		}
	}
	ops, err := c.wire.GroupOperations(ctx, c.cfg.Group.ID)
	switch {
	case errors.Is(err, kafkago.GroupAuthorizationFailed):
		out = append(out, c.grant("--group "+c.cfg.Group.ID, []string{kafkawire.OpRead.String()})...)
	case err != nil:
		return out, err
	case ops.Known():
		out = append(out, c.grant("--group "+c.cfg.Group.ID, lacking(ops, kafkawire.OpRead))...)
	}
	return out, nil
}

// grant is the command that gives this user operations; none for none.
func (c *Client) grant(resource string, ops []string) []string {
	if len(ops) == 0 {
		return nil
	}
	who := c.Principal()
	if who == "" {
		who = "User:NAME"
	}
	return []string{"kafka-acls.sh --bootstrap-server HOST:PORT --add --allow-principal " + who + " " + resource + " --operation " + strings.Join(ops, " --operation ")}
}
