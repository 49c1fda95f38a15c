package devstack

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The producers of these tests say 2001; the broker's clock says otherwise.
var producerTime = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

func startFake(t *testing.T, o FakeOptions) *FakeKafka {
	t.Helper()
	f, err := StartFakeKafka(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Stop(context.Background()) })
	return f
}

// ownClient has connections of its own: the shared ones of the default
// transport outlive a broker, and the next one on its port.
func ownClient(t *testing.T, addr string) *kafka.Client {
	t.Helper()
	tr := &kafka.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(addr), Timeout: 10 * time.Second, Transport: tr}
}

// produce writes n records in one batch through kafka-go and returns the
// append time in the broker's answer.
func produce(t *testing.T, addr, topic string, n int, codec kafka.Compression) time.Time {
	t.Helper()
	var recs []kafka.Record
	for i := range n {
		recs = append(recs, kafka.Record{
			Time:  producerTime.Add(time.Duration(i) * time.Second),
			Value: kafka.NewBytes(fmt.Appendf(nil, "value %d", i)),
		})
	}
	cl := ownClient(t, addr)
	resp, err := cl.Produce(t.Context(), &kafka.ProduceRequest{
		Topic: topic, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(recs...), Compression: codec,
	})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Error != nil {
		t.Fatal(resp.Error)
	}
	return resp.LogAppendTime
}

// consume reads n records of partition 0 from the start. The franz-go client
// checks checksums and knows the timestamp-type bit.
func consume(t *testing.T, addr, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {0: kgo.NewOffset().AtStart()},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var recs []*kgo.Record
	for len(recs) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(recs), n, err)
		}
		recs = append(recs, fetches.Records()...)
	}
	return recs
}

func TestFakeKafkaAppendTime(t *testing.T) {
	t.Parallel()
	// The clock moves at every look, so a batch stamped twice would show.
	brokerTime := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		configs map[string]string
		codec   kafka.Compression
		stamped bool
	}{
		{"append time", LogAppendTime(), 0, true},
		{"append time, gzip", LogAppendTime(), kafka.Gzip, true},
		{"append time, zstd", LogAppendTime(), kafka.Zstd, true},
		{"create time said", map[string]string{timestampType: "CreateTime"}, 0, false},
		{"nothing said", nil, kafka.Snappy, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, FakeOptions{
				Topics: []Topic{{Name: "in", Configs: tc.configs}},
				Now:    func() time.Time { return brokerTime },
			})
			answered := produce(t, f.Addr(), "in", 3, tc.codec)
			recs := consume(t, f.Addr(), "in", 3)
			for i, r := range recs {
				want := producerTime.Add(time.Duration(i) * time.Second)
				if tc.stamped {
					want = brokerTime
				}
				if !r.Timestamp.Equal(want) || (r.Attrs.TimestampType() == 1) != tc.stamped {
					t.Errorf("record %d: time %v, timestamp type %d; want %v", i, r.Timestamp.UTC(), r.Attrs.TimestampType(), want)
				}
			}
			if tc.stamped != answered.Equal(brokerTime) {
				t.Errorf("the produce answer says append time %v", answered)
			}
		})
	}
}

func TestFakeKafkaTopicFollowsItsConfig(t *testing.T) {
	t.Parallel()
	f := startFake(t, FakeOptions{})
	ctx := t.Context()
	if err := CreateTopic(ctx, f.Addr(), Topic{Name: "x", Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	if err := CreateTopic(ctx, f.Addr(), Topic{Name: "x", Partitions: 3}); err != nil {
		t.Fatalf("a topic that exists: %v", err)
	}
	produce(t, f.Addr(), "x", 1, 0)

	cl := ownClient(t, f.Addr())
	_, err := cl.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: "x",
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: timestampType, Value: logAppendTime, ConfigOperation: kafka.ConfigOperationSet}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := describeTopic(t, f.Addr(), "x"); got != logAppendTime {
		t.Errorf("DescribeConfigs: %s = %q", timestampType, got)
	}
	produce(t, f.Addr(), "x", 1, 0)
	var types []int8
	for _, r := range consume(t, f.Addr(), "x", 2) {
		types = append(types, r.Attrs.TimestampType())
	}
	if diff := cmp.Diff([]int8{0, 1}, types); diff != "" {
		t.Errorf("timestamp types (-want +got):\n%s", diff)
	}
}

// describeTopic is the topic's timestamp type as clients see it.
func describeTopic(t *testing.T, addr, topic string) string {
	t.Helper()
	cl := ownClient(t, addr)
	resp, err := cl.DescribeConfigs(t.Context(), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{timestampType},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resp.Resources {
		for _, e := range r.ConfigEntries {
			if e.ConfigName == timestampType {
				return e.ConfigValue
			}
		}
	}
	return ""
}

func TestFakeKafkaSurvivesRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := FakeOptions{Dir: dir, Topics: []Topic{{Name: "in", Configs: LogAppendTime()}}}
	f := startFake(t, o)
	if _, err := StartFakeKafka(t.Context(), o); err == nil {
		t.Error("a second broker started on a data folder in use")
	}
	const batches = 50 // the clock moves between them
	for range batches {
		produce(t, f.Addr(), "in", 2, 0)
	}
	before := consume(t, f.Addr(), "in", 2*batches)
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.Port = f.Port()
	again := startFake(t, o)
	if again.Addr() != f.Addr() {
		t.Errorf("address %s, was %s", again.Addr(), f.Addr())
	}
	after := consume(t, again.Addr(), "in", 2*batches)
	for i := range before {
		b, a := before[i], after[i]
		if a.Offset != b.Offset || !a.Timestamp.Equal(b.Timestamp) || !bytes.Equal(a.Value, b.Value) {
			t.Fatalf("record %d after the restart: %+v, was %+v", i, a, b)
		}
	}
	if got := describeTopic(t, again.Addr(), "in"); got != logAppendTime {
		t.Errorf("after the restart %s = %q", timestampType, got)
	}
}

// A batch with a wrong checksum must reach kfake as it is, and be refused.
func TestStampBatchLeavesCorruptBatches(t *testing.T) {
	t.Parallel()
	b := kmsg.RecordBatch{Magic: 2, Length: batchHeader - batchPrefix, FirstTimestamp: 1, MaxTimestamp: 2}
	raw := b.AppendTo(nil)
	want := bytes.Clone(raw)
	stampBatch(raw, 99)
	if diff := cmp.Diff(want, raw); diff != "" {
		t.Errorf("a corrupt batch was changed (-want +got):\n%s", diff)
	}
}

func FuzzEachBatch(f *testing.F) {
	good := kmsg.RecordBatch{Magic: 2, Length: batchHeader - batchPrefix}
	f.Add(good.AppendTo(nil))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		eachBatch(bytes.Clone(b), func(batch []byte) {
			n += len(batch)
			stampBatch(batch, 1)
			unmarkBatch(batch)
		})
		if n > len(b) {
			t.Fatalf("batches of %d bytes in %d", n, len(b))
		}
	})
}
