package kafkawire

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func testMessage(version int16) *fetchMessage {
	return &fetchMessage{clientID: "daemon", correlationID: 77, version: version, req: FetchRequest{
		Topic: "auth.events", Partition: 4, Offset: 1 << 40, MinBytes: 3, MaxBytes: 5000, MaxWait: 250 * time.Millisecond, Isolation: ReadCommitted,
	}}
}

// Every version of the request must be what franz-go reads it to be.
func TestFetchRequestMatchesTheOracle(t *testing.T) {
	t.Parallel()
	for version := int16(minFetchVersion); version <= maxFetchVersion; version++ {
		b := testMessage(version).encode()
		head := cursor{b: b}
		if size, key, v, id := head.i32(), head.i16(), head.i16(), head.i32(); int(size) != len(b)-4 || key != 1 || v != version || id != 77 {
			t.Fatalf("version %d: header %d %d %d %d", version, size, key, v, id)
		}
		if client := string(head.bytes(int(head.i16()))); client != "daemon" {
			t.Errorf("version %d: client id %q", version, client)
		}
		var got kmsg.FetchRequest
		got.Version = version
		if err := got.ReadFrom(head.b); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		want := kmsg.NewFetchRequest()
		want.Version, want.MaxWaitMillis, want.MinBytes, want.MaxBytes, want.IsolationLevel = version, 250, 3, 5000, 1
		if version >= 7 {
			want.SessionEpoch = -1
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = 4, 1<<40, 5000
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.Partitions = "auth.events", append(topic.Partitions, p)
		want.Topics = append(want.Topics, topic)
		if diff := cmp.Diff(want.AppendTo(nil), got.AppendTo(nil)); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", version, diff)
		}
	}
}

// oracleResponse is the answer to testMessage as franz-go writes it.
func oracleResponse(version int16, change func(*kmsg.FetchResponseTopicPartition)) []byte {
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition, p.HighWatermark, p.LastStableOffset, p.LogStartOffset, p.RecordBatches = 4, 900, 800, 5, []byte("records")
	p.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 1, FirstOffset: 2}, {ProducerID: 3, FirstOffset: 4}}
	if change != nil {
		change(&p)
	}
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic, topic.Partitions = "auth.events", append(topic.Partitions, p)
	res := kmsg.NewFetchResponse()
	res.Version, res.ThrottleMillis, res.Topics = version, 9, append(res.Topics, topic)
	body := res.AppendTo(be32(nil, 77))
	return append(be32(nil, int32(len(body))), body...)
}

// wireOf is a connection that answers with b.
type wireOf struct {
	io.Reader
	io.Writer
}

func exchange(m *fetchMessage, answer []byte) (protocol.Message, error) {
	return m.RawExchange(wireOf{bytes.NewReader(answer), io.Discard})
}

func TestFetchResponseMatchesTheOracle(t *testing.T) {
	t.Parallel()
	for version := int16(minFetchVersion); version <= maxFetchVersion; version++ {
		got, err := exchange(testMessage(version), oracleResponse(version, nil))
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		want := &FetchResponse{HighWatermark: 900, LastStable: 800, LogStart: 5, Aborted: []Aborted{{1, 2}, {3, 4}}, Records: []byte("records")}
		if version < 5 {
			want.LogStart = -1
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(FetchResponse{})); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", version, diff)
		}
		got, err = exchange(testMessage(version), oracleResponse(version, func(p *kmsg.FetchResponseTopicPartition) {
			p.ErrorCode, p.RecordBatches, p.AbortedTransactions = 1, nil, nil
		}))
		if err != nil || got.(*FetchResponse).code != 1 {
			t.Errorf("version %d: error answer: %+v, %v", version, got, err)
		}
	}
}

func TestFetchResponseRefuses(t *testing.T) {
	t.Parallel()
	good := oracleResponse(11, nil)
	change := func(at int, b ...byte) []byte { out := bytes.Clone(good); copy(out[at:], b); return out }
	tests := map[string]struct {
		version int16
		answer  []byte
	}{
		"old broker":           {3, good},
		"nothing":              {11, nil},
		"cut":                  {11, good[:len(good)-20]},
		"size negative":        {11, change(0, 0xff)},
		"size beyond limit":    {11, change(0, 0x7f)},
		"another request's":    {11, change(4, 1, 1, 1, 1)},
		"too many topics":      {11, change(18, 0x7f)},
		"another partition":    {11, oracleResponse(11, func(p *kmsg.FetchResponseTopicPartition) { p.Partition = 5 })},
		"records beyond frame": {11, func() []byte { b := bytes.Clone(good); b[len(b)-8] = 99; return b }()},
	}
	for name, tt := range tests {
		if got, err := exchange(testMessage(tt.version), tt.answer); err == nil {
			t.Errorf("%s: got %+v and no error", name, got)
		}
	}
}

func FuzzFetchResponse(f *testing.F) {
	for v := int16(minFetchVersion); v <= maxFetchVersion; v++ {
		f.Add(v, oracleResponse(v, nil)[4:])
	}
	f.Fuzz(func(t *testing.T, version int16, frame []byte) {
		version = minFetchVersion + max(version, -version, 0)%(maxFetchVersion-minFetchVersion+1)
		var res FetchResponse
		if res.decode(frame, testMessage(version)) == nil && len(res.Records) > len(frame) {
			t.Fatal("more records than bytes")
		}
	})
}

func TestTransient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{kafkago.NotLeaderForPartition, true},
		{kafkago.BrokerNotAvailable, true},
		{kafkago.TopicAuthorizationFailed, false},
		{kafkago.MessageSizeTooLarge, false},
		{protocol.NewErrNoTopic("t"), true},
		{protocol.NewErrNoLeader("t", 1), true},
		{io.EOF, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{context.DeadlineExceeded, true},
		{context.Canceled, false},
		{x509.UnknownAuthorityError{}, false},
		{errors.New("anything else"), false},
	} {
		if got := Transient(fmt.Errorf("wrapped: %w", tt.err)); got != tt.want {
			t.Errorf("%v: got %t, want %t", tt.err, got, tt.want)
		}
	}
}

func TestRetryIsBounded(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Brokers, cfg.RetryFor = []string{"127.0.0.1:1"}, 200*time.Millisecond
	c, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	tests := []struct {
		name  string
		fails int
		err   error
		calls [2]int // at least, at most
		ok    bool
	}{
		{"passes", 2, io.EOF, [2]int{3, 3}, true},
		{"final at once", 9, kafkago.TopicAuthorizationFailed, [2]int{1, 1}, false},
		{"given up", 1000, io.EOF, [2]int{2, 6}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			err := c.Retry(t.Context(), "try", func(context.Context) error {
				if calls++; calls <= tt.fails {
					return tt.err
				}
				return nil
			})
			if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, tt.err) {
				t.Errorf("got %v", err)
			}
			if calls < tt.calls[0] || calls > tt.calls[1] {
				t.Errorf("%d calls, want %d to %d", calls, tt.calls[0], tt.calls[1])
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Retry(ctx, "try", func(context.Context) error { return io.EOF }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v", err)
	}
}
