package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

// Verdicts keeps verdicts in the topic of that name, keyed by the partition that
// they are about: those of one partition lie in one partition of the topic, in
// order, beside those of others.
type Verdicts struct {
	client *Client
	topic  string
}

var _ ingest.VerdictLog = (*Verdicts)(nil)

// NewVerdicts uses the topic of the client's configuration.
func NewVerdicts(c *Client) *Verdicts { return &Verdicts{client: c, topic: c.cfg.Topics.Verdicts} }

// verdictFetch bounds one read; many may be at work.
const verdictFetch = 256 << 10

// place is where the verdicts about a partition lie. Partitions that are added to
// the topic move it: what was written before is then not found.
func (v *Verdicts) place(ctx context.Context, p event.Partition) (int32, error) {
	parts, err := v.client.Partitions(ctx, v.topic)
	if err != nil {
		return 0, err
	}
	return v.client.partitioner(parts)([]byte(p.String())), nil
}

// Write implements ingest.VerdictLog; records are acknowledged by all in-sync
// replicas.
func (v *Verdicts) Write(ctx context.Context, p event.Partition, records [][]byte) error {
	place, err := v.place(ctx, p)
	if err != nil {
		return fmt.Errorf("write verdicts: %w", err)
	}
	now := event.At(time.Now())
	msgs := make([]kafkawire.Message, len(records))
	for i, r := range records {
		msgs[i] = kafkawire.Message{Time: now, Key: []byte(p.String()), Value: r}
	}
	for len(msgs) > 0 {
		n := batchOf(msgs)
		if _, err := v.client.send(ctx, v.topic, place, msgs[:n]); err != nil {
			return fmt.Errorf("write verdicts: %w", err)
		}
		msgs = msgs[n:]
	}
	return nil
}

// Begin implements ingest.VerdictLog by the topic's index of append times.
func (v *Verdicts) Begin(ctx context.Context, p event.Partition, t event.Instant) (int64, error) {
	place, err := v.place(ctx, p)
	if err != nil {
		return 0, fmt.Errorf("look for verdicts: %w", err)
	}
	return v.client.OffsetAt(ctx, event.Partition{Topic: v.topic, ID: place}, t)
}

// Read implements ingest.VerdictLog.
func (v *Verdicts) Read(ctx context.Context, p event.Partition, position int64) (records [][]byte, next int64, end bool, err error) {
	place, err := v.place(ctx, p)
	if err != nil {
		return nil, 0, false, fmt.Errorf("read verdicts: %w", err)
	}
	res, err := v.client.wire.Fetch(ctx, kafkawire.FetchRequest{
		Topic: v.topic, Partition: place, Offset: position, MinBytes: 1, MaxBytes: verdictFetch, MaxWait: time.Millisecond,
	})
	if errors.Is(err, kafkago.OffsetOutOfRange) {
		return v.outOfRange(ctx, place, position)
	}
	if err != nil {
		return nil, 0, false, fmt.Errorf("read verdicts: %w", err)
	}
	dec := v.client.decoder.Decode(res, position, func(r *kafkawire.Record) {
		if string(r.Key) == p.String() && r.Value != nil {
			records = append(records, r.Value)
		}
	})
	if dec.Next == position && position < res.HighWatermark {
		return nil, 0, false, fmt.Errorf("read verdicts: no progress at offset %d of %s/%d", position, v.topic, place)
	}
	return records, dec.Next, dec.Next >= res.HighWatermark, nil
}

// outOfRange goes on at the beginning, when retention overtook the reader, else at
// the end: the topic was made anew.
func (v *Verdicts) outOfRange(ctx context.Context, place int32, position int64) ([][]byte, int64, bool, error) {
	first, end, err := v.client.wire.Bounds(ctx, v.topic, place)
	if err != nil {
		return nil, 0, false, fmt.Errorf("read verdicts: %w", err)
	}
	if position < first {
		return nil, first, first >= end, nil
	}
	return nil, end, true, nil
}
