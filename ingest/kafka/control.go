package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

// Checkpoint is how far detection came in one partition.
type Checkpoint struct {
	// Detected is the next offset to judge.
	Detected int64 `json:"detected"`
	// Clocks is the state of the partition's clock estimator, which belongs to
	// exactly this offset.
	Clocks json.RawMessage `json:"clocks,omitempty"`
	At     event.Instant   `json:"at"`
}

// Control keeps checkpoints in the compacted control topic, one key for each
// partition.
type Control struct {
	client *Client
	topic  string
	slot   int // of the state that was saved or loaded last
}

// NewControl uses the topic of the client's configuration.
func NewControl(c *Client) *Control { return &Control{client: c, topic: c.cfg.Topics.Control} }

// Save writes the checkpoints in one request. Only the holder of the partitions
// may call it.
func (c *Control) Save(ctx context.Context, points map[event.Partition]Checkpoint) error {
	if len(points) == 0 {
		return nil
	}
	// The record's own time is the wall clock's: brokers refuse one from the future,
	// which a checkpoint's may be when time is simulated.
	now := event.At(time.Now())
	msgs := make([]kafkawire.Message, 0, len(points))
	for p, cp := range points {
		value, err := json.Marshal(cp)
		if err != nil {
			return fmt.Errorf("encode checkpoint of %s: %w", p, err)
		}
		msgs = append(msgs, kafkawire.Message{Time: now, Key: []byte(p.String()), Value: value})
	}
	for len(msgs) > 0 {
		n := batchOf(msgs)
		if _, err := c.client.send(ctx, c.topic, 0, msgs[:n]); err != nil {
			return fmt.Errorf("save checkpoints: %w", err)
		}
		msgs = msgs[n:]
	}
	return nil
}

// Load reads the topic to its end and returns the last checkpoint of each
// partition. A record that cannot be read is skipped: a lost checkpoint costs a
// longer replay, and the next Save replaces it.
func (c *Control) Load(ctx context.Context) (map[event.Partition]Checkpoint, error) {
	out := map[event.Partition]Checkpoint{}
	next, end, err := c.client.wire.Bounds(ctx, c.topic, 0)
	if err != nil {
		return nil, fmt.Errorf("load checkpoints: %w", err)
	}
	for next < end {
		res, err := c.client.wire.Fetch(ctx, kafkawire.FetchRequest{
			Topic: c.topic, Offset: next, MinBytes: 1, MaxBytes: c.client.cfg.Fetch.MaxBytes, MaxWait: 100 * time.Millisecond,
		})
		if err != nil {
			return nil, fmt.Errorf("load checkpoints: %w", err)
		}
		dec := c.client.decoder.Decode(res, next, func(r *kafkawire.Record) { c.take(out, r) })
		if dec.Next == next && len(res.Records) > 0 {
			return nil, fmt.Errorf("load checkpoints: %w at offset %d", errStuck, next)
		}
		next = dec.Next
	}
	return out, nil
}

var errStuck = errors.New("no progress reading the control topic")

func (c *Control) take(out map[event.Partition]Checkpoint, r *kafkawire.Record) {
	if strings.HasPrefix(string(r.Key), statePrefix) {
		return
	}
	p, ok := parsePartition(string(r.Key))
	if !ok {
		c.client.log.Warn("control topic: unknown key", "offset", r.Offset)
		return
	}
	if r.Value == nil {
		delete(out, p)
		return
	}
	var cp Checkpoint
	if err := json.Unmarshal(r.Value, &cp); err != nil {
		c.client.log.Warn("control topic: unreadable checkpoint", "offset", r.Offset, "partition", p.String())
		return
	}
	out[p] = cp
}

// parsePartition is the inverse of event.Partition.String.
func parsePartition(s string) (event.Partition, bool) {
	i := strings.LastIndexByte(s, '/')
	if i <= 0 {
		return event.Partition{}, false
	}
	id, err := strconv.ParseInt(s[i+1:], 10, 32)
	return event.Partition{Topic: s[:i], ID: int32(id)}, err == nil && id >= 0
}
