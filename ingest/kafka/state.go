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

// numSlots: the former head's slot, that of a head whose writing failed and which
// may be there all the same, and one to write to.
const numSlots = 3

// stateHead is the record that makes a state valid. The chunks of a state are
// written to a slot that no head names, and the head last, so that a crash or an
// error in between leaves the former state whole.
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
	c.mu.Lock()
	slot := (c.slots[name] + 1) % numSlots
	c.mu.Unlock()
	head := stateHead{Slot: slot, SHA256: hex.EncodeToString(sum[:]), At: now}
	for b := packed.Bytes(); len(b) > 0; head.Chunks++ {
		n := min(len(b), stateChunk)
		m := kafkawire.Message{Time: now, Key: stateKey(name, slot, head.Chunks), Value: b[:n]}
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
	_, err = c.client.send(ctx, c.topic, 0, []kafkawire.Message{m})
	c.used(name, slot) // after an error the head may have been written all the same
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// used notes that a head may name the slot.
func (c *Control) used(name string, slot int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots[name] = slot
}

func stateKey(name string, slot, chunk int) []byte {
	return []byte(statePrefix + name + ":" + strconv.Itoa(slot) + ":" + strconv.Itoa(chunk))
}

// LoadState reads what SaveState kept last, or says ErrNoState.
func (c *Control) LoadState(ctx context.Context, name string) ([]byte, error) {
	records := map[string][]byte{}
	err := c.scan(ctx, func(r *kafkawire.Record) {
		if strings.HasPrefix(string(r.Key), statePrefix+name) {
			records[string(r.Key)] = bytes.Clone(r.Value)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
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
	c.used(name, head.Slot)
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
