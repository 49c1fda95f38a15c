package redact_test

import (
	"slices"
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

// TestEveryTextFieldIsSearched: an own key is recognised in any field that a
// message may fill with text; fingerprints are held to their form by the decoder.
func TestEveryTextFieldIsSearched(t *testing.T) {
	t.Parallel()
	const key = "sk2-network-shop-0f9a"
	r := redact.New()
	id := event.Fingerprint([]byte("k"), key)
	r.AddKey(secret.New("k"), id, len(key))
	fingerprints := []event.Field{event.FieldKeyID, event.FieldTokenID, event.FieldSessionID, event.FieldDeviceID}
	searched := 0
	for f := event.FieldID; f < event.FieldOrigin; f++ {
		if f.Kind() != event.KindString || slices.Contains(fingerprints, f) {
			continue
		}
		searched++
		var e event.Event
		e.SetString(f, key)
		hits := r.Event(&e)
		if got, _ := e.Text(f); got != "[redacted:own_key]" || !e.Redacted || len(hits) != 1 || hits[0].Field != f || hits[0].KeyID != id {
			t.Errorf("%s: %q, hits %+v", f, got, hits)
		}
	}
	if searched != 19 {
		t.Errorf("%d fields of text", searched)
	}
}
