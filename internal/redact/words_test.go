package redact_test

import (
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/redact"
)

// TestWordsCallNobody: what names a fault is masked where a secret would stand, but
// is no reason for a ticket; what could be a secret is one.
func TestWordsCallNobody(t *testing.T) {
	t.Parallel()
	r := redact.New()
	for text, word := range map[string]bool{
		"invalid token: expired":                     true,
		"secret: not_found":                          true,
		"token: AUTH_401":                            true,
		"signature: ES256":                           true,
		"session token: rotation-2":                  true,
		"invalid credentials: user_not_found":        true,
		"password: Tr0ub4dor":                        false,
		"password=hunter22x":                         false,
		"password\t=\thunter22x":                     false,
		"password => hunter22x":                      false,
		`{"pass":"hunter22x"}`:                       false,
		"DB_PASS=hunter22x":                          false,
		"SECRET_KEY_BASE=hunter22xyz":                false,
		"X-Amz-Signature=0123abcd0123abcd":           false,
		"JSESSIONID=AB12CD34EF56":                    false,
		"token: k7Qz-11-x9Lm":                        false,
		"/v1/reset/k7Qz11x9LmPw33Zs":                 false,
		`{"tokens":["k7Qz11x9LmPw","p9Lm11xk7Qz0"]}`: false,
	} {
		e := event.Event{Reason: text}
		hits := r.Event(&e)
		if len(hits) != 1 || hits[0].Word != word {
			t.Errorf("%q became %q with %+v, want one hit, word %t", text, e.Reason, hits, word)
		}
	}
}

// TestNamesInPathsStay: behind a step of a path stands a name as often as a secret.
func TestNamesInPathsStay(t *testing.T) {
	t.Parallel()
	r := redact.New()
	for _, path := range []string{"/sso/okta-prod-tenant-42", "/api/v3/users/verify/order-2024-11-0001", "/v1/confirm/step-2"} {
		e := event.Event{Endpoint: path}
		if hits := r.Event(&e); len(hits) > 0 || e.Endpoint != path {
			t.Errorf("%q became %q with %+v", path, e.Endpoint, hits)
		}
	}
}

// TestFingerprintsAreNoSecrets whatever their name.
func TestFingerprintsAreNoSecrets(t *testing.T) {
	t.Parallel()
	id := event.Fingerprint([]byte("k"), "some session")
	text := "JSESSIONID=" + id + " token: " + id
	if got, hit := redact.New().String(text); hit {
		t.Errorf("%q became %q", text, got)
	}
}

// BenchmarkHostile searches 64 KiB that a caller made up to take long: the time per
// byte must not grow with the length.
func BenchmarkHostile(b *testing.B) {
	r := redact.New()
	for _, unit := range []string{"token=[", "token={", `token=["`, `password="`, "aaaaaaaaaaaaaa.", "eyJaaaaaaaaaaaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY----- ", "aaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbb.", "dp.aaaaaaa.", "%25", `\u005c`, "//a:", `value":`} {
		for _, size := range []int{4 << 10, 64 << 10} {
			text := strings.Repeat(unit, size/len(unit))
			b.Run(strings.ReplaceAll(unit, "/", "")+"_"+map[bool]string{true: "64K", false: "4K"}[size > 8<<10], func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					r.String(text)
				}
			})
		}
	}
}
