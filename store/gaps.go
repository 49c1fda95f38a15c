package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// The reasons for which nothing is stored of an offset.
const (
	gapEmpty      = "empty"
	gapLost       = "lost"
	gapUnreadable = "unreadable"
)

// offsetGap is a range of offsets, both included, of which nothing is stored. It
// is written before the range is acknowledged, so that whoever looks for what is
// missing finds every offset that was consumed either stored or explained.
type offsetGap struct {
	part        event.Partition
	first, last int64
	reason      string
}

// appendGaps notes the offsets of b, from known on, that brought no row. Events
// are in the order of their offsets; rejects need not be.
func appendGaps(gaps []offsetGap, b *ingest.Batch, known int64) []offsetGap {
	next := max(b.First, known)
	if b.Lost {
		if next < b.Next {
			gaps = append(gaps, offsetGap{b.Partition, next, b.Next - 1, gapLost})
		}
		return gaps
	}
	held := make([]offsetGap, 0, len(b.Rejects)+len(b.Unreadable))
	for i := range b.Rejects {
		o := b.Rejects[i].Ref.Offset
		held = append(held, offsetGap{first: o, last: o})
	}
	for _, u := range b.Unreadable {
		held = append(held, offsetGap{first: u.From, last: u.To - 1})
		if u.To > max(u.From, known) {
			gaps = append(gaps, offsetGap{b.Partition, max(u.From, known), u.To - 1, gapUnreadable})
		}
	}
	slices.SortFunc(held, func(a, b offsetGap) int { return cmp.Compare(a.first, b.first) })
	holds := func(first, last int64) {
		if first > next {
			gaps = append(gaps, offsetGap{b.Partition, next, first - 1, gapEmpty})
		}
		next = max(next, last+1)
	}
	for i := range b.Events {
		o := b.Events[i].Ref.Offset
		for len(held) > 0 && held[0].first <= o {
			holds(held[0].first, held[0].last)
			held = held[1:]
		}
		holds(o, o)
	}
	for _, h := range held {
		holds(h.first, h.last)
	}
	holds(b.Next, b.Next)
	return gaps
}

// storeGaps writes them; written twice, they fold away.
func (w *Writer) storeGaps(ctx context.Context, gaps []offsetGap) error {
	if len(gaps) == 0 {
		return nil
	}
	ctx, cancel := attemptContext(ctx, w.cfg.Timeout)
	defer cancel()
	if err := w.client.noteGaps(ctx, gaps); err != nil {
		return fmt.Errorf("note gaps of offsets: %w", err)
	}
	for _, g := range gaps {
		w.met.gaps.WithLabelValues(g.reason).Add(float64(g.last - g.first + 1))
	}
	return nil
}

func (c *Client) noteGaps(ctx context.Context, gaps []offsetGap) error {
	b, err := c.conn.PrepareBatch(ctx, "INSERT INTO offset_gaps (topic, partition, first, last, reason)")
	if err != nil {
		return err
	}
	defer b.Close()
	for _, g := range gaps {
		if err := b.Append(g.part.Topic, g.part.ID, g.first, g.last, g.reason); err != nil {
			return err
		}
	}
	return b.Send()
}
