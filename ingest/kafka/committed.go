package kafka

import (
	"context"
	"fmt"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/event"
)

// Committed asks the broker for the offsets that a group has committed in a
// topic, without being a member. A partition that was never committed is absent.
func (c *Client) Committed(ctx context.Context, group, topic string) (map[event.Partition]int64, error) {
	parts, err := c.Partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	req := &kafkago.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: make([]int, len(parts))}}
	for i, p := range parts {
		req.Topics[topic][i] = int(p)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	res, err := c.wire.Kafka().OffsetFetch(ctx, req)
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, fmt.Errorf("fetch committed offsets of %s: %w", group, err)
	}
	out := map[event.Partition]int64{}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("fetch committed offsets of %s: %s/%d: %w", group, topic, p.Partition, p.Error)
		}
		if p.CommittedOffset >= 0 {
			out[event.Partition{Topic: topic, ID: int32(p.Partition)}] = p.CommittedOffset
		}
	}
	return out, nil
}
