package kafka

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

// statePrefix marks the keys of saved states among those of checkpoints.
const statePrefix = "state:"

// Bounds of a state: one chunk stays below the broker's message.max.bytes.
const (
	stateChunk = 512 << 10
	maxState   = 256 << 20 // when unpacked
)

// stateHead is the record that makes a state valid. The chunks of a state are
// written to the slot that the state before did not use, and the head last, so
// that a crash in between leaves the former state whole.
type stateHead struct {
	Slot   int           `json:"slot"`
	Chunks int           `json:"chunks"`
	SHA256 string        `json:"sha256"` // of the packed bytes
	At     event.Instant `json:"at"`
}

// ErrNoState says that no state of that name was saved, or that it is damaged:
// either way there is none to begin from.
var ErrNoState = errors.New("no saved state")

// SaveState keeps data under a name, packed, in the control topic; the former
// state of that name is replaced. Only the leader may call it.
func (c *Control) SaveState(ctx context.Context, name string, data []byte, now event.Instant) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(data); err != nil {
		return fmt.Errorf("pack state: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("pack state: %w", err)
	}
	sum := sha256.Sum256(packed.Bytes())
	c.slot = 1 - c.slot
	head := stateHead{Slot: c.slot, SHA256: hex.EncodeToString(sum[:]), At: now}
	for b := packed.Bytes(); len(b) > 0; head.Chunks++ {
		n := min(len(b), stateChunk)
		m := kafkawire.Message{Time: now, Key: stateKey(name, head.Slot, head.Chunks), Value: b[:n]}
		if _, err := c.client.send(ctx, c.topic, 0, []kafkawire.Message{m}); err != nil {
			return fmt.Errorf("save state: %w", err)
		}
		b = b[n:]
	}
	value, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	m := kafkawire.Message{Time: now, Key: []byte(statePrefix + name), Value: value}
	if _, err := c.client.send(ctx, c.topic, 0, []kafkawire.Message{m}); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

func stateKey(name string, slot, chunk int) []byte {
	return []byte(statePrefix + name + ":" + strconv.Itoa(slot) + ":" + strconv.Itoa(chunk))
}

// LoadState reads what SaveState kept last, or says ErrNoState.
func (c *Control) LoadState(ctx context.Context, name string) ([]byte, error) {
	records := map[string][]byte{}
	next, end, err := c.client.wire.Bounds(ctx, c.topic, 0)
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	for next < end {
		res, err := c.client.wire.Fetch(ctx, kafkawire.FetchRequest{
			Topic: c.topic, Offset: next, MinBytes: 1, MaxBytes: c.client.cfg.Fetch.MaxBytes, MaxWait: 100 * time.Millisecond,
		})
		if err != nil {
			return nil, fmt.Errorf("load state: %w", err)
		}
		dec := c.client.decoder.Decode(res, next, func(r *kafkawire.Record) {
			if strings.HasPrefix(string(r.Key), statePrefix+name) {
				records[string(r.Key)] = bytes.Clone(r.Value)
			}
		})
		if dec.Next == next && len(res.Records) > 0 {
			return nil, fmt.Errorf("load state: %w at offset %d", errStuck, next)
		}
		next = dec.Next
	}
	return c.assemble(name, records)
}

func (c *Control) assemble(name string, records map[string][]byte) ([]byte, error) {
	value, ok := records[statePrefix+name]
	if !ok {
		return nil, ErrNoState
	}
	var head stateHead
	if err := json.Unmarshal(value, &head); err != nil {
		return nil, fmt.Errorf("%w: its head is unreadable", ErrNoState)
	}
	c.slot = head.Slot
	var packed []byte
	for i := range head.Chunks {
		packed = append(packed, records[string(stateKey(name, head.Slot, i))]...)
	}
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != head.SHA256 {
		return nil, fmt.Errorf("%w: its parts do not fit together", ErrNoState)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoState, err)
	}
	data, err := io.ReadAll(io.LimitReader(z, maxState+1))
	if err != nil || len(data) > maxState {
		return nil, fmt.Errorf("%w: it cannot be unpacked", ErrNoState)
	}
	return data, nil
}
