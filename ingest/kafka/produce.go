package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

// Message is a record to be produced. Records with the same key go to the same
// partition, the one that the Java client would choose; records without a key
// are spread.
type Message struct {
	Time       event.Instant // zero: now
	Key, Value []byte
	Headers    []ingest.Header
}

// maxBatch stays below the broker's message.max.bytes, 1 MiB by default.
const maxBatch = 768 << 10

// maxParallel bounds the partitions that are written at the same time.
const maxParallel = 8

// The errors that tell more of what was not written. ErrNotSent: no record was
// sent, for the topic's partitions are not known. ErrTooLarge: the broker takes no
// record of this size.
var (
	ErrNotSent  = errors.New("nothing was sent")
	ErrTooLarge = errors.New("too large for the topic")
)

// Produce writes one record, acknowledged by all in-sync replicas, and says
// where it lies. It retries what may pass, so that after a lost answer the record
// may be there twice; the last one is returned.
func (c *Client) Produce(ctx context.Context, topic string, m Message) (event.Ref, error) {
	parts, err := c.Partitions(ctx, topic)
	if err != nil {
		return event.Ref{}, err
	}
	p := c.partitioner(parts)(m.Key)
	base, err := c.send(ctx, topic, p, []kafkawire.Message{wireMessage(m, event.At(time.Now()))})
	return event.Ref{Topic: topic, Partition: p, Offset: base}, err
}

// ProduceBatch writes many records, acknowledged by all in-sync replicas. Within
// a partition they keep their order. Like Produce it may write records twice
// after a lost answer, and on an error other than ErrNotSent it may have written
// some.
func (c *Client) ProduceBatch(ctx context.Context, topic string, msgs []Message) error {
	parts, err := c.Partitions(ctx, topic)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	choose := c.partitioner(parts)
	byPart := make(map[int32][]kafkawire.Message, len(parts))
	now := event.At(time.Now())
	for _, m := range msgs {
		p := choose(m.Key)
		byPart[p] = append(byPart[p], wireMessage(m, now))
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for p, list := range byPart {
		group.Go(func() error {
			for len(list) > 0 {
				n := batchOf(list)
				if _, err := c.send(ctx, topic, p, list[:n]); err != nil {
					return err
				}
				list = list[n:]
			}
			return nil
		})
	}
	return group.Wait()
}

// batchOf is how many of the messages make one batch, at least one.
func batchOf(msgs []kafkawire.Message) int {
	size := 0
	for i := range msgs {
		if size += msgs[i].Size(); size > maxBatch && i > 0 {
			return i
		}
	}
	return len(msgs)
}

func (c *Client) send(ctx context.Context, topic string, p int32, msgs []kafkawire.Message) (int64, error) {
	batch := kafkawire.EncodeBatch(nil, msgs)
	base := int64(-1)
	err := c.wire.Retry(ctx, "produce", func(ctx context.Context) (err error) {
		base, err = c.wire.Produce(ctx, topic, p, batch)
		return err
	})
	switch {
	case errors.Is(err, kafkago.MessageSizeTooLarge), errors.Is(err, kafkago.RecordListTooLarge):
		return -1, fmt.Errorf("%s/%d: %w: %w", topic, p, ErrTooLarge, err)
	case err != nil:
		return -1, fmt.Errorf("%s/%d: %w", topic, p, err)
	}
	return base, nil
}

// Partitions lists the partitions of a topic.
func (c *Client) Partitions(ctx context.Context, topic string) ([]int32, error) {
	info, err := c.topics(ctx, []string{topic})
	if err != nil {
		return nil, err
	}
	if !info[0].Exists {
		return nil, fmt.Errorf("topic %s: %w", topic, kafkago.UnknownTopicOrPartition)
	}
	out := make([]int32, info[0].Partitions)
	for i := range out {
		out[i] = int32(i)
	}
	return out, nil
}

// partitioner chooses partitions as the Java client does for keys, and in turn
// for records without one.
func (c *Client) partitioner(parts []int32) func(key []byte) int32 {
	ids := make([]int, len(parts))
	for i, p := range parts {
		ids[i] = int(p)
	}
	hash := kafkago.Murmur2Balancer{Consistent: true}
	return func(key []byte) int32 {
		if key == nil {
			return parts[int(c.spread.Add(1))%len(parts)]
		}
		return int32(hash.Balance(kafkago.Message{Key: key}, ids...))
	}
}

func wireMessage(m Message, now event.Instant) kafkawire.Message {
	if m.Time == 0 {
		m.Time = now // retention would delete a record of 1970 at once
	}
	out := kafkawire.Message{Time: m.Time, Key: m.Key, Value: m.Value}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, kafkawire.Header{Key: []byte(h.Key), Value: h.Value})
	}
	return out
}
