package kafka

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// TestErrorsTellWhatWasNotWritten: who waits for a record has to know whether
// sending it again can help, and whether it may be there already.
func TestErrorsTellWhatWasNotWritten(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		small := devstacktest.CreateTopic(t, addr, 1, map[string]string{"max.message.bytes": "2000"})
		nobody, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := nobody.Close(); err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			addr, topic string
			size        int
			want        error
		}{
			"good":            {addr, small, 1000, nil},
			"too large":       {addr, small, 5000, ErrTooLarge},
			"no such topic":   {addr, small + "-none", 1, ErrNotSent},
			"no such address": {nobody.Addr().String(), small, 1, ErrNotSent},
		} {
			c := testClient(t, tc.addr, func(cfg *Config) { cfg.RequestTimeout, cfg.RetryFor = 2*time.Second, 2*time.Second })
			err := c.ProduceBatch(t.Context(), tc.topic, []Message{{Value: bytes.Repeat([]byte("x"), tc.size)}})
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) || errors.Is(err, ErrNotSent) && errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: got %v, want %v", name, err, tc.want)
			}
		}
		if got := readAll(t, testClient(t, addr), event.Partition{Topic: small}, 0, 1); len(got) != 1 {
			t.Errorf("%d records were written, want the good one", len(got))
		}
	})
}
