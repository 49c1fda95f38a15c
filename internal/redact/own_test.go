package redact

import (
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

func TestOwnKeyGluedToOtherCharacters(t *testing.T) {
	t.Parallel()
	const key = "q7Zx0Lw2Vb9Nc4Mf8Hk1Jd6Sg3Ta5Ry0Ue7Io2Pq"
	hmacKey := []byte("fingerprint key")
	r := New()
	r.AddKey(secret.New(string(hmacKey)), event.Fingerprint(hmacKey, key), len(key))
	for name, text := range map[string]string{
		"alone":              key,
		"behind an escape":   "body=%22" + key + "%22",
		"behind a letter":    "x" + key,
		"before letters":     key + "abc",
		"behind a backslash": `{"a":"\n` + key + `"}`,
		"behind its name":    "/x?server_key=" + key,
		"in a named quote":   `{"x-server-key": "` + key + `"}`,
		"in a header":        "X-Server-Key: " + key + ", next",
		"in a long run":      strings.Repeat("a", 200) + key + strings.Repeat("b", 50),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, hit := r.String(text)
			if !hit || strings.Contains(got, key) {
				t.Errorf("hit %t, the key is still in the text", hit)
			}
			var e event.Event
			e.SetString(event.FieldReason, text)
			hits := r.Event(&e)
			if len(hits) != 1 || hits[0].Kind != OwnKey || hits[0].KeyID != event.Fingerprint(hmacKey, key) {
				t.Errorf("got %+v, want our own key by its fingerprint", hits)
			}
		})
	}
	if got, hit := r.String("an ordinary sentence about /api/v4/authentication/token"); hit {
		t.Errorf("an ordinary text was masked: %q", got)
	}
}
