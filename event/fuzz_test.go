package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
)

func FuzzDecode(f *testing.F) {
	m := mint()
	f.Add(event.Append(nil, &m))
	w := whole(event.TypeHeartbeat)
	f.Add(event.Append(nil, &w))
	for _, s := range []string{``, `{}`, `null`, `[1,2]`, `{"x":[{"y":"\ud83d\ude00"}],"host":"a\u0041"}`, `{"time":"2026-03-01T00:00:00.123+01:00"}`, `{"seq":1e3}`, "\xEF\xBB\xBF{}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		input := bytes.Clone(data)
		before := mint()
		got := before
		err := event.Decode(data, event.Limits{}, &got)
		if !bytes.Equal(input, data) {
			t.Fatal("the input changed")
		}
		if err != nil {
			var de *event.DecodeError
			if !errors.As(err, &de) {
				t.Fatalf("error %T", err)
			}
			if d := cmp.Diff(before, got, equal); d != "" {
				t.Fatalf("error, and the event changed: %s", d)
			}
			syntaxOracle(t, data, de)
			return
		}
		valueOracle(t, data, &got)
		again := event.Append(nil, &got)
		var second event.Event
		if err := event.Decode(again, event.Limits{}, &second); err != nil {
			t.Fatalf("re-encoded: %v: %s", err, again)
		}
		if d := cmp.Diff(got, second, equal); d != "" {
			t.Fatal(d)
		}
	})
}

// syntaxOracle: what is called bad JSON must be bad JSON for encoding/json too.
func syntaxOracle(t *testing.T, data []byte, de *event.DecodeError) {
	t.Helper()
	if de.Problem == event.ProblemBadJSON && json.Valid(data) {
		t.Fatalf("valid JSON is refused: %v: %q", de, data)
	}
}

// valueOracle: every value is what encoding/json reads.
func valueOracle(t *testing.T, data []byte, e *event.Event) {
	t.Helper()
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		t.Fatalf("encoding/json refuses: %v: %q", err, data)
	}
	for _, f := range event.MessageFields() {
		want, ok := m[f.String()]
		if ok = ok && want != nil; ok != e.Has(f) {
			t.Fatalf("%s: present %v, want %v", f, e.Has(f), ok)
		}
		if s, isText := want.(string); ok && isText {
			textOracle(t, e, f, s)
		}
	}
}

func textOracle(t *testing.T, e *event.Event, f event.Field, want string) {
	t.Helper()
	got, _ := e.Text(f)
	switch f.Kind() {
	case event.KindString:
		if got != want && !(f.Spec().Cut && strings.HasPrefix(want, got)) {
			t.Fatalf("%s: got %q, want %q", f, got, want)
		}
	case event.KindInstant:
		at, err := time.Parse(time.RFC3339Nano, want)
		if err != nil {
			t.Fatalf("%s: %q is accepted, time.Parse says %v", f, want, err)
		}
		if got != event.At(at).String() {
			t.Fatalf("%s: got %s, want %s", f, got, want)
		}
	}
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-03-01T12:00:00Z", "2026-03-01T12:00:00.123456789+05:30", "2000-01-01T00:00:00-23:59", "2100-12-31T23:59:59.9999999999Z", "2024-02-29T00:00:00,5Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted, _ := json.Marshal(s)
		var e event.Event
		err := event.Decode([]byte(`{"time":`+string(quoted)+`}`), event.Limits{}, &e)
		want, perr := time.Parse(time.RFC3339Nano, s)
		in := perr == nil && event.At(want).InRange() && want.Year() >= 1999 && want.Year() <= 2101
		if (err == nil) != in {
			// time.Parse takes hours of one digit and offsets of 24 hours, which RFC 3339 does not.
			if err != nil && (len(s) < 20 || s[13] != ':' || strings.Contains(s[19:], "24:")) {
				return
			}
			t.Fatalf("%q: Decode says %v, time.Parse %v %v", s, err, want, perr)
		}
		if err == nil && e.Time != event.At(want) {
			t.Fatalf("%q: got %s, want %s", s, e.Time, want)
		}
	})
}
