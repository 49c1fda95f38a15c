package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/metrics"
)

func testConfig(addr string) Config {
	cfg := DefaultConfig()
	cfg.Brokers = []string{addr}
	cfg.ReplicationFactor = 1
	return cfg
}

func testClient(t testing.TB, addr string, change ...func(*Config)) *Client {
	t.Helper()
	cfg := testConfig(addr)
	for _, f := range change {
		f(&cfg)
	}
	if errs := cfg.Validate(); len(errs) > 0 {
		t.Fatal(errs)
	}
	c, err := NewClient(cfg, Deps{Metrics: metrics.New()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// producer is franz-go's client, so that what we read was not written by us.
func producer(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// readAll fetches until the position reaches end.
func readAll(t testing.TB, c *Client, p event.Partition, from, end int64) []ingest.Record {
	t.Helper()
	var out []ingest.Record
	for from < end {
		f, err := c.Fetch(t.Context(), p, from)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Unreadable) > 0 {
			t.Fatalf("unreadable: %v", f.Unreadable)
		}
		out = append(out, f.Records...)
		from = f.Next
	}
	return out
}

func values(records []ingest.Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Value))
	}
	return out
}

func TestFetchCodecs(t *testing.T) {
	t.Parallel()
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		for name, codec := range codecs {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				topic := devstacktest.CreateTopic(t, addr, 1, devstack.LogAppendTime())
				c := testClient(t, addr)
				before := time.Now().Add(-2 * time.Second)
				var records []*kgo.Record
				var want []string
				for i := range 100 {
					v := fmt.Sprintf("%d-%s", i, strings.Repeat("x", 200))
					want = append(want, v)
					records = append(records, &kgo.Record{Topic: topic, Value: []byte(v), Timestamp: time.Unix(1000, 0),
						Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}})
				}
				if err := producer(t, addr, kgo.ProducerBatchCompression(codec)).ProduceSync(t.Context(), records...).FirstErr(); err != nil {
					t.Fatal(err)
				}
				got := readAll(t, c, event.Partition{Topic: topic}, 0, 100)
				if diff := cmp.Diff(want, values(got)); diff != "" {
					t.Errorf("values (-want +got):\n%s", diff)
				}
				for _, r := range got {
					if !r.Appended || r.Time.Time().Before(before) || r.Time.Time().After(time.Now().Add(2*time.Second)) {
						t.Fatalf("time %s, appended %t: not the broker's", r.Time, r.Appended)
					}
					if diff := cmp.Diff([]ingest.Header{{Key: "h", Value: []byte("1")}}, r.Headers); diff != "" {
						t.Fatalf("headers (-want +got):\n%s", diff)
					}
				}
			})
		}
	})
}

func TestFetchProducerTime(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, nil)
		at := time.Date(2020, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
		if err := producer(t, addr).ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: nil, Key: []byte("k"), Timestamp: at}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, testClient(t, addr), event.Partition{Topic: topic}, 0, 1)
		want := []ingest.Record{{Time: event.At(at), Key: []byte("k")}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

func TestFetchTransactions(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, devstack.LogAppendTime())
		tx := producer(t, addr, kgo.TransactionalID(topic))
		ctx := t.Context()
		write := func(end kgo.TransactionEndTry, vs ...string) {
			t.Helper()
			if err := tx.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for _, v := range vs {
				if err := tx.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.EndTransaction(ctx, end); err != nil {
				t.Fatal(err)
			}
		}
		plain := producer(t, addr)
		write(kgo.TryAbort, "aborted 1", "aborted 2") // 0, 1, marker 2
		write(kgo.TryCommit, "kept 1")                // 3, marker 4
		if err := plain.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("kept 2")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		write(kgo.TryAbort, "aborted 3") // 6, marker 7
		c := testClient(t, addr)
		got := readAll(t, c, event.Partition{Topic: topic}, 0, 8)
		if diff := cmp.Diff([]string{"kept 1", "kept 2"}, values(got)); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		// An open transaction is not read beyond its first record.
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("open")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		f, err := c.Fetch(ctx, event.Partition{Topic: topic}, 8)
		if err != nil {
			t.Fatal(err)
		}
		if f.Next != 8 || len(f.Records) != 0 || f.HighWatermark != 9 {
			t.Errorf("got next %d, %d records, high watermark %d; want 8, 0, 9", f.Next, len(f.Records), f.HighWatermark)
		}
		if err := tx.EndTransaction(ctx, kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFetchBounds(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, devstack.LogAppendTime())
		p := event.Partition{Topic: topic}
		pr := producer(t, addr)
		for i := range 5 {
			if err := pr.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte{'a' + byte(i)}}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		deleteBefore(t, pr, topic, 3)
		c := testClient(t, addr)

		_, err := c.Fetch(t.Context(), p, 1)
		var gone *ingest.OffsetGone
		if !errors.As(err, &gone) {
			t.Fatalf("got %v, want OffsetGone", err)
		}
		if diff := cmp.Diff(&ingest.OffsetGone{Partition: p, Wanted: 1, LogStart: 3}, gone); diff != "" {
			t.Errorf("gone (-want +got):\n%s", diff)
		}
		if _, err = c.Fetch(t.Context(), p, 99); !errors.Is(err, ErrBeyondEnd) {
			t.Errorf("beyond the end: got %v, want ErrBeyondEnd", err)
		}
		f, err := c.Fetch(t.Context(), p, 5)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&ingest.Fetched{Next: 5, HighWatermark: 5, LogStart: 3}, f); diff != "" {
			t.Errorf("at the end (-want +got):\n%s", diff)
		}
		first, end, err := c.Bounds(t.Context(), p)
		if first != 3 || end != 5 || err != nil {
			t.Errorf("bounds %d, %d, %v; want 3, 5", first, end, err)
		}
	})
}

func deleteBefore(t *testing.T, c *kgo.Client, topic string, offset int64) {
	t.Helper()
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Offset = offset
	tp := kmsg.NewDeleteRecordsRequestTopic()
	tp.Topic, tp.Partitions = topic, append(tp.Partitions, part)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis, req.Topics = 5000, append(req.Topics, tp)
	res, err := req.RequestWith(t.Context(), c)
	if err != nil || res.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("delete records: %v %+v", err, res)
	}
}

func TestOffsetAt(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, nil)
		p := event.Partition{Topic: topic}
		c := testClient(t, addr)
		for i := range 4 {
			if _, err := c.Produce(t.Context(), topic, Message{Time: event.Instant(i+1) * 1e9, Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
		}
		for at, want := range map[event.Instant]int64{0: 0, 1e9: 0, 1e9 + 1: 1, 3e9: 2, 5e9: 4} {
			if got, err := c.OffsetAt(t.Context(), p, at); err != nil || got != want {
				t.Errorf("at %d: got %d, %v; want %d", at, got, err, want)
			}
		}
	})
}

func TestFetchBatchLargerThanMaxBytes(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, devstack.LogAppendTime())
		big := bytes.Repeat([]byte("0123456789"), 50_000)
		if err := producer(t, addr).ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: big}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c := testClient(t, addr, func(c *Config) { c.Fetch.MaxBytes = 1000 })
		got := readAll(t, c, event.Partition{Topic: topic}, 0, 1)
		if len(got) != 1 || !bytes.Equal(got[0].Value, big) {
			t.Errorf("got %d records", len(got))
		}
	})
}

func TestFetchBomb(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, map[string]string{"max.message.bytes": "20000000"})
		pr := producer(t, addr, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(16<<20))
		ctx := t.Context()
		for _, v := range [][]byte{[]byte("before"), make([]byte, 8<<20), []byte("after")} {
			if err := pr.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: v}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		c := testClient(t, addr, func(c *Config) { c.Fetch.MaxDecompressed = 1 << 20 })
		f, err := c.Fetch(ctx, event.Partition{Topic: topic}, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := []ingest.Unreadable{{From: 1, To: 2, Reason: "zstd: larger than the limit when decompressed of 1048576 bytes"}}
		if diff := cmp.Diff(want, f.Unreadable); diff != "" {
			t.Errorf("unreadable (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"before", "after"}, values(f.Records)); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

func TestFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	addr := devstacktest.FakeKafka(t)
	topic := devstacktest.CreateTopic(t, addr, 1, nil)
	c := testClient(t, addr, func(c *Config) { c.Fetch.MaxWait = 5 * time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	start := time.Now()
	_, err := c.Fetch(ctx, event.Partition{Topic: topic}, 0)
	if !errors.Is(err, context.Canceled) || time.Since(start) > 4*time.Second {
		t.Errorf("got %v after %s", err, time.Since(start))
	}
}

func TestNoBroker(t *testing.T) {
	t.Parallel()
	c := testClient(t, "127.0.0.1:1", func(c *Config) { c.RequestTimeout, c.RetryFor = 300*time.Millisecond, 600*time.Millisecond })
	if err := c.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("ping: got %v, want an error that names the broker", err)
	}
	if _, err := c.Fetch(t.Context(), event.Partition{Topic: "t"}, 0); err == nil {
		t.Error("fetch: got no error")
	}
	if _, err := c.CheckTopics(t.Context(), []string{"t"}); err == nil {
		t.Error("check topics: got no error")
	}
}

func TestProduceBatch(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 3, devstack.LogAppendTime())
		c := testClient(t, addr)
		var msgs []Message
		for i := range 9000 {
			msgs = append(msgs, Message{Key: fmt.Appendf(nil, "key-%d", i%7), Value: fmt.Appendf(nil, "%05d%s", i, strings.Repeat("v", 300)),
				Headers: []ingest.Header{{Key: "n", Value: []byte{1}}}})
		}
		if err := c.ProduceBatch(t.Context(), topic, msgs); err != nil {
			t.Fatal(err)
		}
		total := 0
		home := map[string]int32{}
		for id := range int32(3) {
			p := event.Partition{Topic: topic, ID: id}
			_, end, err := c.Bounds(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			last := map[string]string{}
			for _, r := range readAll(t, c, p, 0, end) {
				k := string(r.Key)
				if h, ok := home[k]; ok && h != id {
					t.Fatalf("key %s in partitions %d and %d", k, h, id)
				}
				home[k] = id
				if string(r.Value) <= last[k] {
					t.Fatalf("key %s: %.5s after %.5s", k, r.Value, last[k])
				}
				last[k] = string(r.Value)
				total++
			}
		}
		if total != len(msgs) {
			t.Errorf("read %d records, wrote %d", total, len(msgs))
		}
		if _, err := c.Produce(t.Context(), topic+"-none", Message{}); err == nil {
			t.Error("unknown topic: got no error")
		}
	})
}
