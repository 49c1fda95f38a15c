package kafkawire

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadataSample is an answer as the oracle writes it, without the correlation id.
func metadataSample() []byte {
	m := kmsg.NewMetadataResponse()
	m.SetVersion(metadataVersion)
	m.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "a", Port: 9092}, {NodeID: 2, Host: "b", Port: 9092, Rack: kmsg.StringPtr("r")}}
	m.ControllerID, m.ClusterID, m.AuthorizedOperations = 1, kmsg.StringPtr("id"), 1<<OpDescribe
	m.Topics = []kmsg.MetadataResponseTopic{
		{Topic: kmsg.StringPtr("t"), AuthorizedOperations: 1<<OpRead | 1<<OpDescribe, Partitions: []kmsg.MetadataResponseTopicPartition{
			{Partition: 0, Leader: 1, Replicas: []int32{1, 2}, ISR: []int32{1, 2}}, {Partition: 1, Leader: 2, Replicas: []int32{1, 2}, ISR: []int32{2}, OfflineReplicas: []int32{1}}}},
		{Topic: kmsg.StringPtr("hidden"), ErrorCode: int16(kafkago.TopicAuthorizationFailed), AuthorizedOperations: int32(unknownOperations)},
	}
	return m.AppendTo(nil)
}

func TestMetadataMatchesTheOracle(t *testing.T) {
	t.Parallel()
	c := Cluster{Topics: []Topic{{Name: "hidden"}, {Name: "t"}, {Name: "none", Err: kafkago.UnknownTopicOrPartition}}}
	d := cursor{b: metadataSample()}
	c.decode(&d)
	if d.err != nil || len(d.b) != 0 {
		t.Fatalf("error %v, %d bytes left", d.err, len(d.b))
	}
	want := Cluster{Brokers: 2, Operations: 1 << OpDescribe, Topics: []Topic{
		{Name: "hidden", Err: kafkago.TopicAuthorizationFailed, Operations: unknownOperations},
		{Name: "t", Partitions: 2, Replicas: 2, InSync: 1, Operations: 1<<OpRead | 1<<OpDescribe},
		{Name: "none", Err: kafkago.UnknownTopicOrPartition},
	}}
	same := cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })
	if diff := cmp.Diff(want, c, same); diff != "" {
		t.Error(diff)
	}
	if ops := c.Topics[1].Operations; !ops.May(OpRead) || ops.May(OpWrite) || c.Topics[0].Operations.May(OpRead) {
		t.Error("the operations are read wrongly")
	}
}

func groupSample(code int16) []byte {
	m := kmsg.NewDescribeGroupsResponse()
	m.SetVersion(describeGroupsVersion)
	m.Groups = []kmsg.DescribeGroupsResponseGroup{{Group: "g", State: "Stable", ProtocolType: "consumer", ErrorCode: code, AuthorizedOperations: 1 << OpRead,
		Members: []kmsg.DescribeGroupsResponseGroupMember{{MemberID: "m", ProtocolMetadata: []byte{1, 2}, MemberAssignment: []byte{3}}}}}
	return m.AppendTo(nil)
}

func TestDescribeGroupsMatchesTheOracle(t *testing.T) {
	t.Parallel()
	for _, code := range []int16{0, int16(kafkago.GroupAuthorizationFailed)} {
		d := cursor{b: groupSample(code)}
		got, ops := decodeGroup(&d)
		if d.err != nil || len(d.b) != 0 || got != kafkago.Error(code) || !ops.May(OpRead) || ops.May(OpWrite) {
			t.Errorf("code %d: got %d, operations %b, error %v, %d bytes left", code, got, ops, d.err, len(d.b))
		}
	}
}

// FuzzRights: a damaged answer is an error, and never takes memory that it does
// not hold.
func FuzzRights(f *testing.F) {
	f.Add(metadataSample())
	f.Add(groupSample(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Cluster{Topics: []Topic{{Name: "t"}}}
		d := cursor{b: b}
		c.decode(&d)
		if c.Brokers > len(b) || c.Topics[0].Partitions > len(b) {
			t.Errorf("%d bytes gave %d brokers and %d partitions", len(b), c.Brokers, c.Topics[0].Partitions)
		}
		d = cursor{b: b}
		if _, ops := decodeGroup(&d); d.err != nil && ops.May(OpRead) {
			t.Error("a right out of a damaged answer")
		}
	})
}
