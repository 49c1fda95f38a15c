package devstack

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Rule is an access rule of a broker with an authorizer: a principal, for
// example "User:ada", may do operations from everywhere.
type Rule struct {
	Principal  string
	Topic      string // one of Topic, Group and Cluster is set
	Group      string
	Cluster    bool
	Prefix     bool     // the name is a prefix of names
	Operations []string // as kafka-acls.sh spells them in capitals: READ, DESCRIBE_CONFIGS, ...
}

// Authorizer are the properties of a broker that checks rights. Its plain
// listener, which asks for no name, may do everything.
func Authorizer() map[string]string {
	return map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":           "User:ANONYMOUS",
	}
}

// Allow adds access rules at the broker at addr.
func Allow(ctx context.Context, addr string, rules ...Rule) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return fmt.Errorf("add access rules: %w", err)
	}
	defer cl.Close()
	req := kmsg.NewPtrCreateACLsRequest()
	for _, r := range rules {
		for _, name := range r.Operations {
			op, err := kmsg.ParseACLOperation(name)
			if err != nil {
				return fmt.Errorf("add access rules: %w", err)
			}
			c := kmsg.NewCreateACLsRequestCreation()
			c.Principal, c.Host, c.Operation, c.PermissionType = r.Principal, "*", op, kmsg.ACLPermissionTypeAllow
			c.ResourceType, c.ResourceName = kmsg.ACLResourceTypeTopic, r.Topic
			if r.Group != "" {
				c.ResourceType, c.ResourceName = kmsg.ACLResourceTypeGroup, r.Group
			}
			if r.Cluster {
				c.ResourceType, c.ResourceName = kmsg.ACLResourceTypeCluster, "kafka-cluster"
			}
			c.ResourcePatternType = kmsg.ACLResourcePatternTypeLiteral
			if r.Prefix {
				c.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
			}
			req.Creations = append(req.Creations, c)
		}
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("add access rules: %w", err)
	}
	for _, r := range resp.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return fmt.Errorf("add access rules: %w", err)
		}
	}
	return nil
}
