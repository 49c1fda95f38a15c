package redact_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

// The samples are put together here, so that no scanner takes this file for a
// leak.
var (
	jwt     = enc(`{"alg":"HS256","typ":"JWT"}`) + "." + enc(`{"sub":"1"}`) + ".c2lnbmF0dXJlLW9mLWl0"
	aws     = "AKIA" + "TFQR7NSC8Q4X20BJ"
	github  = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
	slack   = "xoxb-" + "263594206564-2343594206574-FGqddMF8t08v8N7Oq4i57vs1"
	vault   = "hvs." + "CAESIJlWh3uKp2vXr7"
	hexKey  = "b0efec0f3adbf4364c308f1f550b1288d85a4cb7e1"
	mixed   = "tQ7zLm2vXw9KpR4sYb8NcHd3"
	pem     = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA " + "PRIVATE KEY-----"
	session = "IQoJb3JpZ2lu" + "X2VjECwaCXVzLWVhc3QtMSJGMEQCIG5r8GtgiCtAWhn8jGZJYQeQoSpsQs9ByQevFxCvFLaA/8iBriVKp6q=="
)

func enc(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestString(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"jwt":                    {"token " + jwt + " refused", "token [redacted:jwt] refused"},
		"jwt alone":              {jwt, "[redacted:jwt]"},
		"aws key":                {"key " + aws + ".", "key [redacted:aws_key]"},
		"aws session":            {"t " + session, "t [redacted:aws_key]"},
		"github":                 {github + " was used", "[redacted:token] was used"},
		"slack":                  {"bot(" + slack + ")", "bot([redacted:token])"},
		"vault":                  {"vault " + vault, "vault [redacted:token]"},
		"hexadecimal":            {"bad key " + hexKey, "bad key [redacted:random]"},
		"mixed":                  {"bad key '" + mixed + "'", "bad key '[redacted:random]'"},
		"pem":                    {"x " + pem + " y", "x [redacted:private_key] y"},
		"half a pem":             {strings.TrimSuffix(pem, "-----"), "[redacted:private_key]"},
		"password=":              {"login?user=bob&password=hunter2&x=1", "login?user=bob&password=[redacted:named]&x=1"},
		"json password":          {`{"user":"bob","Password": "hun\"ter2"}`, `{"user":"bob","Password": "[redacted:named]"}`},
		"api key header":         {"X-Server-Key: abcd1234", "X-Server-Key: [redacted:named]"},
		"authorization":          {"authorization: abcdef12", "authorization: [redacted:named]"},
		"authorization in JSON":  {`{"Proxy-Authorization":"abcdef12"}`, `{"Proxy-Authorization":"[redacted:named]"}`},
		"auth token header":      {"X-Auth-Token: abcdef12", "X-Auth-Token: [redacted:named]"},
		"admin token":            {"admin_token=abcdef12&x=1", "admin_token=[redacted:named]&x=1"},
		"long name":              {"the_password_of_the_service_db_password=abcdef12", "the_password_of_the_service_db_password=[redacted:named]"},
		"cookies":                {"Cookie: a=abcdef12; b=ghijkl34, next", "Cookie: [redacted:named], next"},
		"attribute":              {`{"key":"http.request.header.x-server-key","value":{"stringValue":"abcdef12"}}`, `{"key":"http.request.header.x-server-key","value":{[redacted:named]}}`},
		"attribute with spaces":  {`{ "key": "password", "value": { "stringValue": "abcdef12" } }`, `{ "key": "password", "value": {[redacted:named]} }`},
		"header as a pair":       {`[{"name":"Authorization","value":"abcdef12"},{"name":"a","value":"ghijkl34"}]`, `[{"name":"Authorization","value":"[redacted:named]"},{"name":"a","value":"ghijkl34"}]`},
		"attribute in a text":    {`"data":"{\"key\":\"password\",\"value\":{\"stringValue\":\"abcdef12\"}}"`, `"data":"{\"key\":\"password\",\"value\":{[redacted:named]}}"`},
		"harmless attribute":     {`{"key":"http.route","value":{"stringValue":"abcdef12"}}`, ""},
		"bearer":                 {"Authorization: Bearer abcdef", "Authorization: Bearer [redacted:named]"},
		"basic":                  {"authorization: basic dXNlcjpwYXNz", "authorization: basic [redacted:named]"},
		"client_secret":          {"client_secret=abcdef", "client_secret=[redacted:named]"},
		"url":                    {"postgres://app:s3cr3t@db/x", "postgres://app:[redacted:password]@db/x"},
		"two":                    {aws + " and " + github, "[redacted:aws_key] and [redacted:token]"},
		"short":                  {"tok=1", "tok=1"},
		"clean words":            {"invalid server key for this network", "invalid server key for this network"},
		"clean user agent":       {"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", ""},
		"clean java agent":       {"[S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.488 Linux/5.4.247-169.350.amzn2int.x86_64 OpenJDK_64-Bit_Server_VM/25.372-b08 java/1.8.0_372 vendor/Oracle_Corporation cfg/retry-mode/standard]", ""},
		"clean path":             {"/api/v4/authentication/token/for/somebody", ""},
		"uuid":                   {"request 550e8400-e29b-41d4-a716-446655440000 failed", ""},
		"fingerprint":            {"key v1:0123456789abcdef0123456789abcdef refused", ""},
		"arn":                    {"User: arn:aws:iam::123837392027:user/bert-jan is not authorized to perform: sts:AssumeRole", ""},
		"sentence about a token": {"token: null, password: true", ""},
		"long words":             {"donaudampfschifffahrtsgesellschaftskapitaen", ""},
		"many zeros":             {"00000000000000000000000000000000000000", ""},
		"url without password":   {"https://example.com/a:b@c", ""},
		"empty":                  {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := tc.want
			if want == "" {
				want = tc.in
			}
			got, hit := redact.New().String(tc.in)
			if got != want || hit != (want != tc.in) {
				t.Errorf("got %q, %v, want %q", got, hit, want)
			}
		})
	}
}

func TestOwnKeys(t *testing.T) {
	t.Parallel()
	const key = "sk2-network-shop-0f9a" // no shape, little randomness
	hmacKey := []byte("network key")
	for name, length := range map[string]int{"length known": len(key), "length unknown": 0} {
		r := redact.New()
		in := "somebody wrote " + key + " here"
		if _, hit := r.String(in); hit {
			t.Fatal("found before it was known")
		}
		r.AddKey(secret.New(string(hmacKey)), event.Fingerprint(hmacKey, key), length)
		r.AddKey(secret.New("another"), event.Fingerprint([]byte("another"), "not this one, never"), 0)
		if got, _ := r.String(in); got != "somebody wrote [redacted:own_key] here" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestEvent(t *testing.T) {
	t.Parallel()
	r := redact.New()
	key := "plain-looking-key-of-ours"
	id := event.Fingerprint([]byte("k"), key)
	r.AddKey(secret.New("k"), id, 0)
	var e event.Event
	e.SetString(event.FieldReason, "invalid token "+jwt)
	e.SetString(event.FieldEndpoint, "/sessions?token=abcdef&x="+key+"#f")
	e.SetString(event.FieldUserID, key)
	e.SetString(event.FieldRequestID, "4bf92f3577b34da6a3ce929d0e0e4736")
	e.SetString(event.FieldKeyID, id)
	hits := r.Event(&e)
	want := []redact.Hit{
		{Field: event.FieldReason, Kind: redact.JWT},
		{Field: event.FieldEndpoint, Kind: redact.Named},
		{Field: event.FieldEndpoint, Kind: redact.OwnKey, KeyID: id},
		{Field: event.FieldUserID, Kind: redact.OwnKey, KeyID: id},
	}
	if d := cmp.Diff(want, hits); d != "" {
		t.Error(d)
	}
	if e.Reason != "invalid token [redacted:jwt]" || e.Endpoint != "/sessions" || e.UserID != "[redacted:own_key]" || !e.Redacted {
		t.Errorf("%q %q %q %v", e.Reason, e.Endpoint, e.UserID, e.Redacted)
	}
	if e.RequestID != "4bf92f3577b34da6a3ce929d0e0e4736" || e.KeyID != id {
		t.Error("an identity was masked")
	}
}

// TestEndpointIsNeverLost: an endpoint that is all query stays an endpoint, which
// types of event require.
func TestEndpointIsNeverLost(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"?a=b": "/", "#f": "/", "/?a=b": "/", "/x#f": "/x", "": ""} {
		var e event.Event
		e.SetString(event.FieldEndpoint, in)
		if redact.New().Event(&e); e.Endpoint != want {
			t.Errorf("%q became %q, want %q", in, e.Endpoint, want)
		}
	}
}

func TestCleanEventIsUntouched(t *testing.T) {
	t.Parallel()
	e := clean()
	want := e
	if hits := redact.New().Event(&e); hits != nil || e.Redacted {
		t.Errorf("hits %v", hits)
	}
	if d := cmp.Diff(want.Reason+want.UserAgent+want.Endpoint, e.Reason+e.UserAgent+e.Endpoint); d != "" {
		t.Error(d)
	}
}

func clean() event.Event {
	var e event.Event
	e.SetString(event.FieldID, "01J8Z6K3V5Q2W7X9Y1A4B6C8D0")
	e.SetString(event.FieldHost, "login-api-7c9f-2")
	e.SetString(event.FieldUserID, "user-1182")
	e.SetString(event.FieldEndpoint, "/api/v4/authentication/token")
	e.SetString(event.FieldReason, "invalid server key")
	e.SetString(event.FieldUserAgent, "okhttp/4.12.0 (Linux; Android 14) shop-backend/2.9.1")
	e.SetString(event.FieldRequestID, "550e8400-e29b-41d4-a716-446655440000")
	return e
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	r := redact.New()
	for name, tc := range map[string]struct{ in, want string }{
		"raw key id":       {`{"key_id":"short-raw-key","host":"a"}`, `{"key_id":"[redacted:named]","host":"a"}`},
		"fingerprint":      {`{"key_id":"v1:0123456789abcdef0123456789abcdef"}`, `{"key_id":"v1:0123456789abcdef0123456789abcdef"}`},
		"access key":       {`{"accessKeyId": "whatever"}`, `{"accessKeyId": "[redacted:named]"}`},
		"not text":         {"\x00\xffab\n\u2028c", " .ab  c"},
		"nothing":          {"", ""},
		"terminal escapes": {"a\x1b[31mb", "a [31mb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, _ := r.Excerpt([]byte(tc.in), 512); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	for shift := range 100 { // a secret must not survive in halves at the edge
		in := strings.Repeat("a ", 200-shift/2) + strings.Repeat(" ", shift%2) + hexKey + strings.Repeat(" b", 5000)
		if got, _ := r.Excerpt([]byte(in), 64); strings.Contains(got, hexKey[:8]) {
			t.Fatalf("shift %d: %q", shift, got)
		}
	}
}

func TestHandlerLeaksNothing(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(redact.New().Handler(slog.NewJSONHandler(&out, nil)))
	log.With("auth", "Bearer "+mixed).WithGroup("g").Info("got "+jwt,
		"error", fmt.Errorf("call: %w", errors.New("refused "+github)),
		slog.Group("req", "url", "https://u:"+"p4ssw0rd@h/x", "n", 5),
		"password", "hunter2", "any", struct{ V string }{aws}, "value", lazy{})
	for _, leak := range []string{mixed, jwt, github, "p4ssw0rd", "hunter2", aws, hexKey} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%s is in the log: %s", leak, out.String())
		}
	}
	for _, kept := range []string{`"n":5`, "call: refused [redacted:token]", "[redacted:jwt]"} {
		if !strings.Contains(out.String(), kept) {
			t.Errorf("%s is not in the log: %s", kept, out.String())
		}
	}
	if log.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("the level of the wrapped handler is lost")
	}
}

type lazy struct{}

func (lazy) LogValue() slog.Value { return slog.StringValue("x " + hexKey) }

func FuzzString(f *testing.F) {
	for _, s := range []string{jwt, aws, github, pem, "password=hunter2", "https://a:b@c/", "Authorization: Bearer x", mixed + "=="} {
		f.Add(s)
	}
	r := redact.New()
	r.AddKey(secret.New("k"), event.Fingerprint([]byte("k"), mixed), 0)
	f.Fuzz(func(t *testing.T, s string) {
		got, hit := r.String(s)
		if !hit && got != s {
			t.Fatal("changed without a hit")
		}
		if hit && !strings.Contains(got, "[redacted:") {
			t.Fatalf("a hit without a mask: %q", got)
		}
		if again, hit := r.String(got); hit || again != got {
			t.Fatalf("masked twice: %q, then %q", got, again)
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Fatalf("no UTF-8 any more: %q", got)
		}
		if x, _ := r.Excerpt([]byte(s), 64); len(x) > 64 || !utf8.ValidString(x) {
			t.Fatalf("excerpt %q", x)
		}
	})
}

// BenchmarkEvent is the redaction cost per event: an ordinary event without a secret,
// for a daemon without keys of its own and for one with a key.
func BenchmarkEvent(b *testing.B) {
	r := redact.New()
	b.Run("clean", func(b *testing.B) {
		b.ReportAllocs()
		e := clean()
		for b.Loop() {
			r.Event(&e)
		}
	})
	known := redact.New()
	known.AddKey(secret.New("k"), event.Fingerprint([]byte("k"), hexKey), len(hexKey))
	b.Run("clean_one_own_key", func(b *testing.B) {
		b.ReportAllocs()
		e := clean()
		for b.Loop() {
			known.Event(&e)
		}
	})
}
