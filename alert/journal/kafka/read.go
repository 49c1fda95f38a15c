package kafkajournal

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

// The size and the patience of one fetch. Records arrive at once; the wait only
// spares requests while there are none.
const (
	fetchBytes = 4 << 20
	fetchWait  = 500 * time.Millisecond
)

// batch is what one fetch returned.
type batch struct {
	records []journal.Raw
	next    int64
}

// fetch reads from offset on. Transactions are not looked at: an open one, which
// anybody with the right to write could begin, must not stop the readers, and
// its records are strays without the key.
func (l *Log) fetch(ctx context.Context, offset int64) (*batch, error) {
	maxBytes := int32(fetchBytes)
	for {
		res, err := l.deps.Wire.Fetch(ctx, kafkawire.FetchRequest{
			Topic: l.deps.Topic, Offset: offset,
			MinBytes: 1, MaxBytes: maxBytes, MaxWait: fetchWait, Isolation: kafkawire.ReadUncommitted,
		})
		if errors.Is(err, kafkago.OffsetOutOfRange) {
			return nil, l.outOfRange(ctx, offset)
		}
		if err != nil {
			return nil, err
		}
		out := &batch{}
		// A transaction that was aborted is read like any other.
		res.Aborted = nil
		dec := kafkawire.Decoder{}.Decode(res, offset, func(r *kafkawire.Record) {
			out.records = append(out.records, journal.Raw{Offset: r.Offset, Time: r.Time, Value: r.Value})
		})
		if dec.Cut {
			if dec.Need <= int(maxBytes) {
				return nil, fmt.Errorf("offset %d: %w", offset, kafkawire.ErrCut)
			}
			maxBytes = int32(dec.Need)
			continue
		}
		for _, g := range dec.Gaps {
			l.met.strays.WithLabelValues(string(journal.StrayBadJSON)).Add(float64(g.To - g.From))
			l.log.Error("the journal has an unreadable batch", "from", g.From, "to", g.To, "reason", g.Reason)
		}
		out.next = dec.Next
		return out, nil
	}
}

// outOfRange tells a lost beginning from a topic that was made anew.
func (l *Log) outOfRange(ctx context.Context, offset int64) error {
	first, end, err := l.deps.Wire.Bounds(ctx, l.deps.Topic, 0)
	switch {
	case err != nil:
		return err
	case offset < first:
		return fmt.Errorf("%w (first offset is %d)", ErrBeginningGone, first)
	}
	return fmt.Errorf("%w: read up to %d, the topic ends at %d", ErrBeginningGone, offset, end)
}

// ReadAll reads the whole topic as it lies there, strays too, up to its end at
// the time of the call. It needs no Run.
func (l *Log) ReadAll(ctx context.Context) ([]journal.Raw, error) {
	next, end, err := l.deps.Wire.Bounds(ctx, l.deps.Topic, 0)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var out []journal.Raw
	for next < end {
		b, err := l.fetch(ctx, next)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		out = append(out, b.records...)
		next = b.next
	}
	return out, nil
}
