package devstack

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// allowWithin bounds how long rules take from the controller, which keeps them, to
// the broker, which goes by them.
const allowWithin = 15 * time.Second

// Allow adds access rules at the broker at addr and returns when they are in force
// there.
func Allow(ctx context.Context, addr string, rules ...Rule) error {
	if err := allow(ctx, addr, rules); err != nil {
		return fmt.Errorf("add access rules: %w", err)
	}
	return nil
}

func allow(ctx context.Context, addr string, rules []Rule) error {
	req := kmsg.NewPtrCreateACLsRequest()
	for _, r := range rules {
		cs, err := r.creations()
		if err != nil {
			return err
		}
		req.Creations = append(req.Creations, cs...)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, allowWithin)
	defer cancel()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for _, r := range resp.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return err
		}
	}
	return awaitRules(ctx, cl, req.Creations)
}

// creations are the rule's entries, one for each operation.
func (r Rule) creations() ([]kmsg.CreateACLsRequestCreation, error) {
	var out []kmsg.CreateACLsRequestCreation
	for _, name := range r.Operations {
		op, err := kmsg.ParseACLOperation(name)
		if err != nil {
			return nil, err
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
		out = append(out, c)
	}
	return out, nil
}

// awaitRules waits until the broker knows the entries. It is told of them after the
// controller has confirmed them; what it lists is what its authorizer goes by.
func awaitRules(ctx context.Context, cl *kgo.Client, want []kmsg.CreateACLsRequestCreation) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		known, err := knownRules(ctx, cl)
		missing := 0
		for _, c := range want {
			if !known[entry(c)] {
				missing++
			}
		}
		if err == nil && missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the broker knows all %d, of which %d are missing: %w", len(want), missing, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// ruleEntry is an entry of an access list.
type ruleEntry struct {
	resource   kmsg.ACLResourceType
	name       string
	pattern    kmsg.ACLResourcePatternType
	principal  string
	host       string
	operation  kmsg.ACLOperation
	permission kmsg.ACLPermissionType
}

func entry(c kmsg.CreateACLsRequestCreation) ruleEntry {
	return ruleEntry{c.ResourceType, c.ResourceName, c.ResourcePatternType, c.Principal, c.Host, c.Operation, c.PermissionType}
}

// knownRules are the entries that the broker lists.
func knownRules(ctx context.Context, cl *kgo.Client) (map[ruleEntry]bool, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	out := map[ruleEntry]bool{}
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			out[ruleEntry{r.ResourceType, r.ResourceName, r.ResourcePatternType, a.Principal, a.Host, a.Operation, a.PermissionType}] = true
		}
	}
	return out, nil
}
