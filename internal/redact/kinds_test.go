package redact_test

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

// TestForms: each form of a secret is masked, and what only looks like it is not.
func TestForms(t *testing.T) {
	t.Parallel()
	const at = "[redacted:named]"
	for name, tc := range map[string]struct{ in, want string }{ // want empty: stays
		"percent-encoded":             {"q=password%3Dhunter2%26x=1", "q=password%3D" + at + "%26x=1"},
		"percent-encoded JSON":        {"body=%7B%22token%22%3A%22abc12%22%7D", "body=%7B%22token%22%3A%22" + at + "%22%7D"},
		"percent-encoded twice":       {"%2522password%2522%253A%2522abc12%2522", "%2522password%2522%253A%2522" + at + "%2522"},
		"whole value encoded":         {strings.ReplaceAll(url.QueryEscape(github), "_", "%5F"), "[redacted:token]"},
		"unicode escapes":             {`{"pass\u0077ord":"hunt\u0065r2"}`, `{"pass\u0077ord":"` + at + `"}`},
		"escaped token":               {`"\u0067hp_` + github[4:] + `"`, `"[redacted:token]"`},
		"nginx escapes":               {`{\x22password\x22:\x22hunter2\x22}`, `{\x22password\x22:\x22` + at + `\x22}`},
		"JSON in JSON in JSON":        {`"{\"a\":\"{\\\"password\\\":\\\"hunter2\\\"}\"}"`, `"{\"a\":\"{\\\"password\\\":\\\"` + at + `\\\"}\"}"`},
		"per cent":                    {"99% of 100%ab and 5%", ""},
		"user without a scheme":       {"fetch //app:s3cr3t@db/x", "fetch //app:[redacted:password]@db/x"},
		"port without a scheme":       {"fetch //db:5432/x@y", ""},
		"password in an encoded URL":  {"u=https%3A%2F%2Fapp%3As3cr3t%40db%2F", "u=https%3A%2F%2Fapp%3A[redacted:password]%40db%2F"},
		"digest":                      {`Authorization: Digest username="bob", realm="r", response="6629fae49393a053"`, `Authorization: Digest ` + at + `"`},
		"digest alone":                {`sent Digest username="bob", response="6629fae4" to x`, `sent Digest ` + at + `" to x`},
		"word digest":                 {"the digest of it", ""},
		"token scheme":                {"Authorization: Token abcdef12", "Authorization: Token " + at},
		"AWS signature":               {"Authorization: AWS4-HMAC-SHA256 Credential=abc/2026/x, SignedHeaders=host, Signature=fe5f80 ok", "Authorization: AWS4-HMAC-SHA256 " + at + " ok"},
		"array":                       {`{"tokens":["abc12","def34"],"n":1}`, `{"tokens":[` + at + `],"n":1}`},
		"object":                      {`{"password":{"value":"a}b"},"n":1}`, `{"password":{` + at + `},"n":1}`},
		"array without an end":        {`{"secrets":["abc12`, `{"secrets":[` + at},
		"numbers":                     {`{"tokens":[1,2]} tokens=1523`, ""},
		"words in brackets":           {"invalid token: [expired] or {0}", ""},
		"plural":                      {"passwords=hunter2", "passwords=" + at},
		"key in a query":              {"/x?key=0123456789abcdef0&a=1", "/x?key=" + at + "&a=1"},
		"code in a query":             {"/cb?state=1&code=SplxlOBeZQQYbYS6WxSbIA", "/cb?state=1&code=" + at},
		"sig in a query":              {"/b?sv=2&sig=abc%2Fdef%3D1234567890", "/b?sv=2&sig=" + at},
		"short words in a query":      {"/x?key=sort&code=404&auth=basic&hash=top", ""},
		"key elsewhere":               {"cache key=users-by-country-list code=invalid_credentials_given auth=required", ""},
		"pass":                        {"user=a pass=hunter2", "user=a pass=" + at},
		"tests pass":                  {"pass: everything", ""},
		"behind a path segment":       {"GET /reset/Ab3dEf9hIjKl2mNo", "GET /reset/" + at},
		"token in a path":             {"/api/token/ab3def9hijkl2mno/x", "/api/token/" + at + "/x"},
		"names in a path":             {"/reset/the-password-of-somebody /users/Ab3dEf9hIjKl2mNo", ""},
		"id behind a token":           {"/tokens/550e8400-e29b-41d4-a716-446655440000", ""},
		"slack webhook":               {"https://hooks.slack.com/services/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", "https://hooks.slack.com/services/T0AAAAAAA/B0AAAAAAA/[redacted:token]"},
		"discord webhook":             {"https://discord.com/api/webhooks/123456789012345678/abcDEF-123_abcDEF-123_abcDEF", "https://discord.com/api/webhooks/123456789012345678/[redacted:token]"},
		"telegram":                    {"/bot123456789:AAabcdefghijklmnopqrstuvwxyz0123456/x", "/bot[redacted:token]/x"},
		"telegram alone":              {"t 123456789:AAabcdefghijklmnopqrstuvwxyz0123456 x", "t [redacted:token] x"},
		"terraform":                   {"t a1b2c3d4e5f6g7.atlasv1." + strings.Repeat("x1", 32), "t [redacted:token]"},
		"doppler":                     {"dp.pt." + strings.Repeat("x1", 20), "[redacted:token]"},
		"sendgrid":                    {"SG." + strings.Repeat("x1", 11) + "." + strings.Repeat("y2", 21), "[redacted:token]"},
		"discord bot":                 {"MTIzNDU2Nzg5MDEyMzQ1Njc4." + "GabcDe." + strings.Repeat("x1", 14), "[redacted:token]"},
		"glued":                       {"token" + github + " and x_" + slack, "token[redacted:token] and x_[redacted:token]"},
		"glued JSON web token":        {"session_" + jwt, "session_[redacted:jwt]"},
		"words with short prefixes":   {"disk-usage-of-all-task-managers-2026 half_hf_transfer_enabled_by_default key-value-store-replica-set", ""},
		"end of a PEM":                {"x: MIIEowIBAAKCAQEA/abc\n-----END RSA " + "PRIVATE KEY----- y", "x:[redacted:private_key] y"},
		"public certificate":          {"-----BEGIN CERTIFICATE----- abc -----END CERTIFICATE-----", ""},
		"mask of before":              {"password=[redacted:named] //u:[redacted:password]@h", ""},
		"prose about a scheme":        {"Authorization: Bearer [redacted:named]", ""},
		"one-time password":           {`{"otp":"123456"}`, `{"otp":"` + at + `"}`},
		"azure account":               {"AccountName=a;AccountKey=abc/def+12==;x", "AccountName=a;AccountKey=" + at + ";x"},
		"anthropic":                   {"sk-ant-" + "api03-abcdefghij", "[redacted:token]"},
		"secret of a run of escapes":  {`\\\\\\\\\\\"`, ""},
		"cut off escapes":             {`%`, ""},
		"cut off unicode escape here": {`password \u00`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := tc.want
			if want == "" {
				want = tc.in
			}
			got, hit := redact.New().String(tc.in)
			if got != want || hit != (want != tc.in) {
				t.Errorf("got  %q, %v\nwant %q", got, hit, want)
			}
			if again, hit := redact.New().String(got); hit || again != got {
				t.Errorf("masked again: %q", again)
			}
		})
	}
}

// TestNames: in a name what tells itself is masked, and what only looks random is a
// name.
func TestNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"user=bob;password=hunter2x":           "user=bob;password=[redacted:named]",
		`{"password":"hunter2x"}`:              `{"password":"[redacted:named]"}`,
		"%7B%22password%22%3A%22hunter2%22%7D": "%7B%22password%22%3A%22[redacted:named]%22%7D",
		"postgres://app:s3cr3t@db/x":           "postgres://app:[redacted:password]@db/x",
		"login-" + jwt:                         "login-[redacted:jwt]",
		mixed + hexKey:                         "",
		"token:refresh:of:somebody":            "",
		"arn:aws:iam::123456789012:user/bob":   "",
	} {
		var e event.Event
		e.SetString(event.FieldUserID, in)
		hits := redact.New().Event(&e)
		if want == "" {
			want = in
		}
		if e.UserID != want || len(hits) > 0 != (want != in) {
			t.Errorf("%q became %q, %+v", in, e.UserID, hits)
		}
	}
}

// TestWideKeys: a key of ours is found whatever characters it has.
func TestWideKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"q7/x0Lw2.Vb9~Nc4Mf8=Hk1", "ab+/cd==", "correct horse battery", "0123456789abcdef0123456789abcdef", "cGxhaW4ga2V5IG9mIG91cnM="} {
		r := redact.New()
		id := r.AddValue(secret.New("k"), secret.New(key))
		if id != event.Fingerprint([]byte("k"), key) {
			t.Fatal("another fingerprint")
		}
		if strings.Contains(key, " ") || len(key) < 16 {
			continue // no key of a server; only that nothing breaks
		}
		for _, text := range []string{key, "was " + key + " here", `{"a":"` + key + `"}`, "/x?a=" + key, "/x?a=" + url.QueryEscape(key), strings.Trim(strconv.QuoteToASCII("é"+key), `"`)} {
			var e event.Event
			e.SetString(event.FieldReason, text)
			hits := r.Event(&e)
			if len(hits) != 1 || hits[0].KeyID != id || strings.Contains(e.Reason, key[4:]) {
				t.Errorf("%q: hits %+v, left %q", text, hits, e.Reason)
			}
		}
		if text := fmt.Sprintf("%+v", r); strings.Contains(text, key) {
			t.Error("the value is kept")
		}
	}
}

// TestLongTextsAreMaskedBeforeTheyAreCut: wherever the cut falls, no part of a secret
// stays.
func TestLongTextsAreMaskedBeforeTheyAreCut(t *testing.T) {
	t.Parallel()
	r := redact.New()
	for shift := range 120 {
		in := strings.Repeat("a ", 512-60) + strings.Repeat("b", shift%2) + strings.Repeat(" ", shift) + "x=" + jwt + " " + github + strings.Repeat(" c", 6000)
		out, hits := r.Long(event.FieldReason, in)
		out = event.Cut(out, 1024)
		if len(hits) != 2 || strings.Contains(out, jwt[:16]) || strings.Contains(out, github[4:12]) {
			t.Fatalf("shift %d: %d hits, %q", shift, len(hits), out[900:])
		}
	}
}
