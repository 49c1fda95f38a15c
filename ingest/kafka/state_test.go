package kafka

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

func TestState(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		topic := devstacktest.CreateTopic(t, addr, 1, map[string]string{"cleanup.policy": "compact"})
		c := testClient(t, addr, func(c *Config) { c.Topics.Control = topic })
		now := event.At(time.Now())
		if _, err := NewControl(c).LoadState(ctx, "engine"); !errors.Is(err, ErrNoState) {
			t.Fatalf("nothing was saved: got %v, want ErrNoState", err)
		}
		// Random bytes do not pack: the first state needs several chunks.
		big := make([]byte, 3*stateChunk/2)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range big {
			big[i] = byte(rng.Uint32())
		}
		ctl := NewControl(c)
		for _, data := range [][]byte{big, []byte("small"), {}, []byte("last")} {
			if err := ctl.SaveState(ctx, "engine", data, now); err != nil {
				t.Fatal(err)
			}
			got, err := NewControl(c).LoadState(ctx, "engine")
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("got %d bytes, %v, want the %d that were saved", len(got), err, len(data))
			}
		}
		// A crash after the chunks and before the head leaves the former state.
		if err := c.wireSend(ctx, topic, stateKey("engine", (ctl.slots["engine"]+1)%numSlots, 0), []byte("half")); err != nil {
			t.Fatal(err)
		}
		if got, err := NewControl(c).LoadState(ctx, "engine"); err != nil || string(got) != "last" {
			t.Errorf("got %q, %v after half a save, want the former state", got, err)
		}
		// Neither do saves that fail.
		for range 2 {
			failed, stop := context.WithCancel(ctx)
			stop()
			if err := ctl.SaveState(failed, "engine", []byte("lost"), now); err == nil {
				t.Fatal("a save without time succeeded")
			}
		}
		if err := c.wireSend(ctx, topic, stateKey("engine", (ctl.slots["engine"]+1)%numSlots, 0), []byte("half")); err != nil {
			t.Fatal(err)
		}
		if got, err := NewControl(c).LoadState(ctx, "engine"); err != nil || string(got) != "last" {
			t.Errorf("got %q, %v after failed saves, want the former state", got, err)
		}
		// A damaged chunk is no state, and no panic.
		if err := c.wireSend(ctx, topic, stateKey("engine", ctl.slots["engine"], 0), []byte("damaged")); err != nil {
			t.Fatal(err)
		}
		if _, err := NewControl(c).LoadState(ctx, "engine"); !errors.Is(err, ErrNoState) {
			t.Errorf("got %v for a damaged state, want ErrNoState", err)
		}
		if points, err := ctl.Load(ctx); err != nil || len(points) != 0 {
			t.Errorf("checkpoints: got %v, %v, want none: states are not checkpoints", points, err)
		}
	})
}

// wireSend writes one record to partition 0.
func (c *Client) wireSend(ctx context.Context, topic string, key, value []byte) error {
	_, err := c.send(ctx, topic, 0, []kafkawire.Message{{Time: event.At(time.Now()), Key: key, Value: value}})
	return err
}
