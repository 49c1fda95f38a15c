package kafkawire

import (
	"context"
	"errors"
	"math"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Operation is what an access rule of Kafka allows, by its number in the
// protocol.
type Operation = kafkago.ACLOperationType

// The operations that Keysentry speaks of.
const (
	OpAll             = kafkago.ACLOperationTypeAll
	OpRead            = kafkago.ACLOperationTypeRead
	OpWrite           = kafkago.ACLOperationTypeWrite
	OpCreate          = kafkago.ACLOperationTypeCreate
	OpDescribe        = kafkago.ACLOperationTypeDescribe
	OpDescribeConfigs = kafkago.ACLOperationTypeDescribeConfigs
)

// Operations is the set of operations that the connected user may perform on
// something, as the broker tells it (KIP-430): bit n is the operation n.
type Operations int32

// unknownOperations is what a broker answers that does not tell.
const unknownOperations Operations = math.MinInt32

// Known reports whether the broker told.
func (o Operations) Known() bool { return o != unknownOperations }

// May reports whether op is in the set.
func (o Operations) May(op Operation) bool { return o.Known() && o&(1<<op) != 0 }

// Topic is one topic of a Cluster. Err is the broker's reason for telling
// nothing: UnknownTopicOrPartition, or TopicAuthorizationFailed.
type Topic struct {
	Name       string
	Err        error
	Partitions int
	// Replicas and InSync are the least of any partition.
	Replicas, InSync int
	Operations       Operations
}

// Cluster is what the brokers tell the connected user.
type Cluster struct {
	Brokers    int
	Topics     []Topic // in the order of the question
	Operations Operations
}

// Versions of the requests below: the first that tell what the user may do, in
// brokers since 2.3, and the last before the flexible encoding.
const (
	metadataVersion       = 8
	describeGroupsVersion = 3
)

// groupAsk is an ask that the group's coordinator answers.
type groupAsk struct {
	ask
	group string
}

var _ protocol.GroupMessage = (*groupAsk)(nil)

// Group routes to the coordinator.
func (m *groupAsk) Group() string { return m.group }

// Describe asks a broker, past the library's cache, for topics and for what the
// user may do with them and with the cluster.
func (c *Client) Describe(ctx context.Context, topics []string) (*Cluster, error) {
	body := be32(nil, int32(len(topics)))
	for _, t := range topics {
		body = beString(body, t)
	}
	body = append(body, 0, 1, 1) // create nothing; tell the operations on the cluster and on topics
	var out *Cluster
	err := c.Retry(ctx, "look at topics", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
		defer cancel()
		found := &Cluster{Topics: make([]Topic, len(topics))}
		for i, name := range topics {
			found.Topics[i] = Topic{Name: name, Err: kafkago.UnknownTopicOrPartition, Operations: unknownOperations}
		}
		_, err := c.transport.RoundTrip(ctx, c.addr, &ask{key: protocol.Metadata, version: metadataVersion,
			clientID: c.cfg.ClientID, correlationID: c.ids.next(), body: body, decode: found.decode})
		out = found
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// decode reads a Metadata response:
// https://kafka.apache.org/protocol#The_Messages_Metadata.
func (c *Cluster) decode(d *cursor) {
	d.i32() // throttle time
	for range d.count() {
		d.i32() // node id
		d.str() // host
		d.i32() // port
		d.str() // rack
		c.Brokers++
	}
	d.str() // cluster id
	d.i32() // controller
	for range d.count() {
		code := d.i16()
		t := Topic{Name: d.str()}
		d.bytes(1) // internal
		t.partitions(d)
		t.Operations = Operations(d.i32())
		if code != 0 {
			t.Err = kafkago.Error(code)
		}
		for i := range c.Topics {
			if c.Topics[i].Name == t.Name {
				c.Topics[i] = t
			}
		}
	}
	c.Operations = Operations(d.i32())
}

func (t *Topic) partitions(d *cursor) {
	for i := range d.count() {
		d.i16() // error
		d.i32() // partition
		d.i32() // leader
		d.i32() // leader epoch
		replicas, inSync := d.ints(), d.ints()
		d.ints() // offline
		if i == 0 || replicas < t.Replicas {
			t.Replicas = replicas
		}
		if i == 0 || inSync < t.InSync {
			t.InSync = inSync
		}
		t.Partitions++
	}
}

// GroupOperations is what the user may do with a consumer group, which need not
// exist. Without the right to describe it the error is GroupAuthorizationFailed.
func (c *Client) GroupOperations(ctx context.Context, group string) (Operations, error) {
	body := append(beString(be32(nil, 1), group), 1) // tell the operations
	ops := unknownOperations
	err := c.Retry(ctx, "look at the consumer group", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
		defer cancel()
		code := kafkago.Unknown
		_, err := c.transport.RoundTrip(ctx, c.addr, &groupAsk{group: group, ask: ask{
			key: protocol.DescribeGroups, version: describeGroupsVersion, clientID: c.cfg.ClientID,
			correlationID: c.ids.next(), body: body, decode: func(d *cursor) { code, ops = decodeGroup(d) },
		}})
		if err == nil && code != 0 {
			return code
		}
		return err
	})
	return ops, err
}

// decodeGroup reads a DescribeGroups response about one group:
// https://kafka.apache.org/protocol#The_Messages_DescribeGroups.
func decodeGroup(d *cursor) (kafkago.Error, Operations) {
	d.i32() // throttle time
	if d.count() != 1 {
		d.err = errors.Join(d.err, errors.New("the answer does not fit the question"))
		return 0, unknownOperations
	}
	code := kafkago.Error(d.i16())
	for range 4 { // group, state, protocol type, protocol
		d.str()
	}
	for range d.count() {
		d.str() // member id
		d.str() // client id
		d.str() // client host
		d.bytes(int(d.i32()))
		d.bytes(int(d.i32()))
	}
	ops := Operations(d.i32())
	if d.err != nil {
		return code, unknownOperations
	}
	return code, ops
}

// str reads a text of two length bytes; an absent one is empty.
func (d *cursor) str() string { return string(d.bytes(int(d.i16()))) }

// ints skips an array of numbers and returns its length.
func (d *cursor) ints() int {
	n := d.count()
	d.bytes(4 * n)
	return n
}
