package app

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

func TestParseDieAt(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"before-insert:1", "after-insert:20", "rebalance:2", "take-over:1"} {
		d, err := ParseDieAt(s)
		if err != nil || d.String() != s {
			t.Errorf("%s: got %v, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "rebalance", "rebalance:", "rebalance:0", "rebalance:-1", "rebalance:x", "lunch:1", ":1", "rebalance:1:1"} {
		if d, err := ParseDieAt(s); err == nil || !strings.Contains(err.Error(), "before-insert") {
			t.Errorf("%q: got %v, %v; want an error that names the points", s, d, err)
		}
	}
}

// ackingWriter acknowledges at once.
type ackingWriter struct{ appended int }

func (w *ackingWriter) Assign(context.Context, event.Partition, int64) error { return nil }
func (w *ackingWriter) Healthy() bool                                        { return true }
func (w *ackingWriter) Revoke(event.Partition)                               {}
func (w *ackingWriter) Append(_ context.Context, b *ingest.Batch, acked func(int64)) error {
	w.appended++
	acked(b.Next)
	return nil
}

func TestDoomStrikesAtItsPoint(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		at   DieAt
		want []string // what had happened when it died
	}{
		"before the second insert": {DieAt{DieBeforeInsert, 2}, []string{"acked 1", "died with 2 appended", "acked 3"}},
		"after the second insert":  {DieAt{DieAfterInsert, 2}, []string{"acked 1", "died with 3 appended", "acked 3"}},
		"elsewhere":                {DieAt{DieInRebalance, 1}, []string{"acked 1", "acked 3"}},
		"never":                    {DieAt{}, []string{"acked 1", "acked 3"}},
	}
	for name, tt := range tests {
		var out bytes.Buffer
		var got []string
		inner := &ackingWriter{}
		d := newDoom(tt.at, slog.New(slog.NewTextHandler(&out, nil)))
		d.die = func() { got = append(got, "died with "+string(rune('0'+inner.appended))+" appended") }
		w := &doomed{inner, d}
		for next := int64(1); next <= 3; next++ {
			b := &ingest.Batch{Next: next, Events: make([]event.Event, next%2)} // the second has no rows
			err := w.Append(t.Context(), b, func(next int64) {
				if next != 2 {
					got = append(got, "acked "+string(rune('0'+next)))
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
		if died := len(tt.want) == 3; died != strings.Contains(out.String(), DyingWords) {
			t.Errorf("%s: it said %q", name, out.String())
		}
	}
}
