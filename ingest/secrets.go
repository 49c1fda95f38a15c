package ingest

import (
	"slices"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/redact"
)

// secrets is what decoding knows of the secrets in the current record.
type secrets struct {
	// cut are the hits in texts that were cut, of the event being decoded.
	cut     []redact.Hit
	dropped bool     // a field of the record is no part of its event
	refused bool     // the record, or a part of it, became no event
	keys    []string // own keys that are told already
	events  int      // events of the batch before the record's first
}

func (s *secrets) begin(events int) {
	*s = secrets{cut: s.cut[:0], keys: s.keys[:0], events: events}
}

// cut masks a text that is to be cut, for afterwards nobody would recognise half a
// secret.
func (w *work) cut(f event.Field, text string) string {
	w.d.m.cut(f)
	text, hits := w.d.redactor.Long(f, text)
	w.secrets.cut = append(w.secrets.cut, hits...)
	return text
}

// tell counts the hits in an event and keeps them for the findings.
func (w *work) tell(e *event.Event, hits []redact.Hit) {
	cut := w.secrets.cut
	w.secrets.cut = cut[:0]
	if len(hits)+len(cut) == 0 {
		return
	}
	e.Redacted = true
	from, first := producer{e.Network, e.Service, e.Host}, finding.FromEvent(e)
	for _, list := range [...][]redact.Hit{cut, hits} {
		for _, h := range list {
			w.count(h.Field.String(), h)
			if !h.Word {
				w.b.addLeak(leak{producer: from, place: h.Field.String(), kind: h.Kind, keyID: h.KeyID, first: first})
			}
		}
	}
}

// tellRest is tell for a part of a record that is no field of an event.
func (w *work) tellRest(place string, at event.Instant, hits []redact.Hit) {
	for _, h := range append(hits, w.secrets.cut...) {
		w.count(place, h)
		if !h.Word {
			w.b.addLeak(leak{place: place, kind: h.Kind, keyID: h.KeyID, first: finding.Evidence{Ref: w.ref, TS: at}})
		}
	}
	w.secrets.cut = w.secrets.cut[:0]
}

func (w *work) count(place string, h redact.Hit) {
	w.d.m.redacted.WithLabelValues(place, string(h.Kind)).Inc()
	if h.Kind == redact.OwnKey {
		w.secrets.keys = append(w.secrets.keys, h.KeyID)
	}
}

// searchRest looks for own keys where nothing of the record is kept, for the topic
// holds them there too: its key and headers, and what of its value is in no event.
func (w *work) searchRest(r *Record) {
	if !w.d.redactor.HasKeys() {
		return
	}
	if w.secrets.dropped || w.secrets.refused || w.t.mapping != nil || w.t.auto != nil {
		w.ownKeys(r, inRecord, r.Value)
	}
	w.ownKeys(r, inKey, r.Key)
	for i := range r.Headers {
		w.ownKeys(r, inHeader, []byte(r.Headers[i].Key))
		w.ownKeys(r, inHeader, r.Headers[i].Value)
	}
}

func (w *work) ownKeys(r *Record, place string, text []byte) {
	for _, id := range w.d.redactor.OwnKeys(text) {
		if slices.Contains(w.secrets.keys, id) {
			continue
		}
		h := redact.Hit{Kind: redact.OwnKey, KeyID: id}
		w.count(place, h)
		l := leak{place: place, kind: h.Kind, keyID: id, first: finding.Evidence{Ref: w.ref, TS: r.Time}}
		if checkObserved(r.Time, w.now) != nil {
			l.first.TS = 0
		}
		if w.secrets.events < len(w.b.Events) {
			e := &w.b.Events[w.secrets.events]
			l.producer, l.first = producer{e.Network, e.Service, e.Host}, finding.FromEvent(e)
		}
		w.b.addLeak(l)
	}
}
