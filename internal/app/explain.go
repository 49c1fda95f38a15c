package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/store"
	"github.com/keysentry/keysentry/store/past"
)

// Explained is an event and why it was refused.
type Explained struct {
	Event       event.Event
	Explanation detect.Explanation
}

// ErrNotRefused says that an event is about nothing that was refused.
var ErrNotRefused = errors.New("nothing was refused: there is no cause to explain")

// ErrNoEvent says that an event is not stored.
var ErrNoEvent = errors.New("no such event is stored")

// ExplainRef explains the stored event at a place in Kafka.
func ExplainRef(ctx context.Context, cfg *config.Config, s *store.Client, ref event.Ref) ([]Explained, error) {
	e, ok, err := past.Reader{Client: s}.EventAt(ctx, ref)
	switch {
	case err != nil:
		return nil, err
	case ok:
		return explainAll(ctx, cfg, s, []event.Event{e})
	}
	if q, held, err := s.QuarantineGet(ctx, ref); err == nil && held {
		return nil, fmt.Errorf("%w at this place: the record is in quarantine, %s", ErrNoEvent, q.Reason)
	}
	return nil, ErrNoEvent
}

// ExplainID explains the stored events that a producer gave an id.
func ExplainID(ctx context.Context, cfg *config.Config, s *store.Client, id string) ([]Explained, error) {
	got, err := past.Reader{Client: s}.EventsByID(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case len(got) == 0:
		return nil, ErrNoEvent
	}
	return explainAll(ctx, cfg, s, got)
}

// ExplainRecord explains canonical events that are not stored, one after the other,
// by what is stored. origin is who saw them.
func ExplainRecord(ctx context.Context, cfg *config.Config, s *store.Client, raw []byte, origin event.Origin) ([]Explained, error) {
	decode, _, err := RecordDecoder(Canonical)
	if err != nil {
		return nil, err
	}
	got, err := decode(raw)
	if err != nil {
		return nil, err
	}
	for i := range got {
		got[i] = got[i].Clone()
		got[i].Origin = origin
	}
	return explainAll(ctx, cfg, s, got)
}

// explainAll explains those that were refused; none is an error.
func explainAll(ctx context.Context, cfg *config.Config, s *store.Client, events []event.Event) ([]Explained, error) {
	var out []Explained
	for i := range events {
		e := &events[i]
		if !e.Refused() {
			continue
		}
		known, err := past.Reader{Client: s}.Past(ctx, e)
		if err != nil {
			return nil, err
		}
		out = append(out, Explained{*e, detect.Explain(cfg.Detect, declared(cfg), known, e)})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %w", events[0].Type, ErrNotRefused)
	}
	return out, nil
}
