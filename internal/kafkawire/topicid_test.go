package kafkawire

import (
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestTopicIDsRequestMatchesTheOracle(t *testing.T) {
	t.Parallel()
	b := askTopicIDs("daemon", 77, []string{"auth.events", "t"}, nil).encode()
	head := cursor{b: b}
	if size, key, v, id := head.i32(), head.i16(), head.i16(), head.i32(); int(size) != len(b)-4 || key != 3 || v != topicIDsVersion || id != 77 {
		t.Fatalf("header %d %d %d %d", size, key, v, id)
	}
	if client := string(head.bytes(int(head.i16()))); client != "daemon" {
		t.Errorf("client id %q", client)
	}
	head.tags()
	got := kmsg.NewMetadataRequest()
	got.Version = topicIDsVersion
	if err := got.ReadFrom(head.b); err != nil {
		t.Fatal(err)
	}
	if len(got.Topics) != 2 || *got.Topics[0].Topic != "auth.events" || *got.Topics[1].Topic != "t" || got.Topics[0].TopicID != ([16]byte{}) ||
		got.AllowAutoTopicCreation || got.IncludeClusterAuthorizedOperations || got.IncludeTopicAuthorizedOperations {
		t.Errorf("read as %+v", got)
	}
}

// answer is a response as the oracle writes it.
func answer() []byte {
	res := kmsg.NewMetadataResponse()
	res.Version = topicIDsVersion
	rack := "a"
	for i := range 3 {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = int32(i), "broker.example", 9092
		if i == 1 {
			b.Rack = &rack
		}
		res.Brokers = append(res.Brokers, b)
	}
	for i, name := range []string{"auth.events", "gone", "old"} {
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr(name)
		for p := range 2 {
			part := kmsg.NewMetadataResponseTopicPartition()
			part.Partition, part.Replicas, part.ISR, part.OfflineReplicas = int32(p), []int32{0, 1, 2}, []int32{0, 1}, []int32{2}
			topic.Partitions = append(topic.Partitions, part)
		}
		switch i {
		case 0:
			topic.TopicID = [16]byte{0xab, 15: 1}
		case 1:
			topic.ErrorCode, topic.TopicID = 3, [16]byte{1}
		}
		res.Topics = append(res.Topics, topic)
	}
	return res.AppendTo([]byte{0, 0, 0, 77, 0})
}

// readTopicIDs reads a whole answer to the request of that correlation id.
func readTopicIDs(id int32, frame []byte) (map[string]string, error) {
	found := map[string]string{}
	err := askTopicIDs("daemon", id, nil, found).read(frame)
	return found, err
}

func TestTopicIDsResponseMatchesTheOracle(t *testing.T) {
	t.Parallel()
	got, err := readTopicIDs(77, answer())
	want := map[string]string{"auth.events": "ab000000000000000000000000000001"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := readTopicIDs(76, answer()); err == nil {
		t.Error("the answer to another request was taken")
	}
	const unread = 5 // the cluster's own operations, and tags
	for n := range len(answer()) - unread {
		if got, err := readTopicIDs(77, answer()[:n]); err == nil {
			t.Fatalf("cut to %d bytes: %v without an error", n, got)
		}
	}
}

// FuzzTopicIDs: an answer that is no answer ends with an error, and soon.
func FuzzTopicIDs(f *testing.F) {
	f.Add(answer())
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := readTopicIDs(77, b)
		if err != nil && len(ids) > 0 {
			t.Error("an error and ids")
		}
		for _, id := range ids {
			if len(id) != 32 {
				t.Errorf("id %q", id)
			}
		}
	})
}
