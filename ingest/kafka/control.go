package kafka

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

// Checkpoint is how far detection came in one partition.
type Checkpoint struct {
	// Detected is the next offset to judge.
	Detected int64 `json:"detected"`
	// Clocks is the state of the partition's clock estimator at an offset that it
	// names itself and that may differ from Detected. It is kept as a state of its
	// own: that of many hosts is larger than one message may be.
	Clocks json.RawMessage `json:"clocks,omitempty"`
	At     event.Instant   `json:"at"`
}

// Control keeps checkpoints in the compacted control topic, one key for each
// partition, and states beside them. Its methods may be called concurrently, but
// for two savers of one state.
type Control struct {
	client *Client
	topic  string

	mu     sync.Mutex
	slots  map[string]int                        // of each state, where its head was written last
	clocks map[event.Partition][sha256.Size]byte // what was saved last
}

// NewControl uses the topic of the client's configuration.
func NewControl(c *Client) *Control {
	return &Control{client: c, topic: c.cfg.Topics.Control, slots: map[string]int{}, clocks: map[event.Partition][sha256.Size]byte{}}
}

// Save writes the positions in one request and then the clocks that changed
// since the last Save. Only the holder of the partitions may call it.
func (c *Control) Save(ctx context.Context, points map[event.Partition]Checkpoint) error {
	if len(points) == 0 {
		return nil
	}
	// The record's own time is the wall clock's: brokers refuse one from the future,
	// which a checkpoint's may be when time is simulated.
	now := event.At(time.Now())
	msgs := make([]kafkawire.Message, 0, len(points))
	for p, cp := range points {
		cp.Clocks = nil
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
	for p, cp := range points {
		if err := c.saveClocks(ctx, p, cp.Clocks, now); err != nil {
			return fmt.Errorf("save clocks of %s: %w", p, err)
		}
	}
	return nil
}

// saveClocks writes the clocks of a partition, unless they are as they were:
// ingest renews them once a minute, and positions are saved once a second.
func (c *Control) saveClocks(ctx context.Context, p event.Partition, clocks json.RawMessage, now event.Instant) error {
	sum := sha256.Sum256(clocks)
	c.mu.Lock()
	same := c.clocks[p] == sum
	c.mu.Unlock()
	if same || len(clocks) == 0 {
		return nil
	}
	if err := c.SaveState(ctx, clocksPrefix+p.String(), clocks, now); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clocks[p] = sum
	return nil
}

// clocksPrefix begins the names of the states that hold clocks.
const clocksPrefix = "clocks/"

// Load reads the topic to its end and returns the last checkpoint of each
// partition. A record that cannot be read is skipped: a lost checkpoint costs a
// longer replay, and the next Save replaces it.
func (c *Control) Load(ctx context.Context) (map[event.Partition]Checkpoint, error) {
	out := map[event.Partition]Checkpoint{}
	states := map[string][]byte{}
	err := c.scan(ctx, func(r *kafkawire.Record) {
		if strings.HasPrefix(string(r.Key), statePrefix+clocksPrefix) {
			states[string(r.Key)] = bytes.Clone(r.Value)
			return
		}
		c.take(out, r)
	})
	if err != nil {
		return nil, fmt.Errorf("load checkpoints: %w", err)
	}
	for p, cp := range out {
		name := clocksPrefix + p.String()
		if states[statePrefix+name] == nil {
			continue
		}
		clocks, err := c.assemble(name, states)
		if err != nil {
			c.client.log.Warn("control topic: unreadable clocks begin anew", "partition", p.String(), "error", err)
			continue
		}
		cp.Clocks = clocks
		out[p] = cp
	}
	return out, nil
}

// scan reads the topic from its beginning to its present end.
func (c *Control) scan(ctx context.Context, visit func(*kafkawire.Record)) error {
	next, end, err := c.client.wire.Bounds(ctx, c.topic, 0)
	if err != nil {
		return err
	}
	for next < end {
		res, err := c.client.wire.Fetch(ctx, kafkawire.FetchRequest{
			Topic: c.topic, Offset: next, MinBytes: 1, MaxBytes: c.client.cfg.Fetch.MaxBytes, MaxWait: 100 * time.Millisecond,
		})
		if err != nil {
			return err
		}
		dec := c.client.decoder.Decode(res, next, visit)
		if dec.Next == next && len(res.Records) > 0 {
			return fmt.Errorf("%w at offset %d", errStuck, next)
		}
		next = dec.Next
	}
	return nil
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
