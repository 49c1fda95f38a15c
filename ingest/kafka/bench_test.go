package kafka

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

func benchMessages(n int) []Message {
	msgs := make([]Message, n)
	for i := range msgs {
		msgs[i] = Message{Key: fmt.Appendf(nil, "network-%d", i%100), Value: fmt.Appendf(nil, `{"id":"%012d","pad":"%s"}`, i, strings.Repeat("x", 270))}
	}
	return msgs
}

func BenchmarkProduceBatch(b *testing.B) {
	for name, start := range map[string]func(testing.TB) string{"kfake": devstacktest.FakeKafka, "kafka": devstacktest.ApacheKafka} {
		b.Run(name+"/100000_records_of_300_bytes_6_partitions", func(b *testing.B) {
			addr := start(b)
			topic := devstacktest.CreateTopic(b, addr, 6, map[string]string{"retention.bytes": "100000000"})
			c := testClient(b, addr)
			msgs := benchMessages(100_000)
			for b.Loop() {
				if err := c.ProduceBatch(b.Context(), topic, msgs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(msgs))/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	for name, start := range map[string]func(testing.TB) string{"kfake": devstacktest.FakeKafka, "kafka": devstacktest.ApacheKafka} {
		b.Run(name+"/200000_records_of_300_bytes", func(b *testing.B) {
			addr := start(b)
			topic := devstacktest.CreateTopic(b, addr, 1, devstack.LogAppendTime())
			c := testClient(b, addr)
			msgs := benchMessages(200_000)
			if err := c.ProduceBatch(b.Context(), topic, msgs); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if got := len(readAll(b, c, event.Partition{Topic: topic}, 0, int64(len(msgs)))); got != len(msgs) {
					b.Fatalf("read %d", got)
				}
			}
			b.ReportMetric(float64(b.N*len(msgs))/b.Elapsed().Seconds(), "records/s")
		})
	}
}
