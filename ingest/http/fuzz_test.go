package httpingest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
)

// FuzzRecords: of whatever body, either records come that put together are the body
// (but for white space, and the brackets and commas of an array), each of them one
// JSON object; or a refusal, and no record.
func FuzzRecords(f *testing.F) {
	for _, s := range []string{
		"", " \n", "{}", "[]", "[{}]", "[{},{\"host\":\"h\"}]", "{\"a\":1}\n\n{\"b\":\"\\u00e9 x\"}\r\n", "{} {}", "[{}]x", "[1]", "null", "\xef\xbb\xbf{}", "{\"a\":\"\xff\"}",
		`{"a":"\ud800"}`, `[{"a":[1,2.50,-3e7,"],{"]} , {"b":{}}]`, "{\"a\":\"\n\"}", `{"specversion":"1.0","data":{"host":"h"}}`, "[{}\n,{}", "{\"a\":tru", `{"data":[{"host":1}],"host":{}}`,
	} {
		for kind := range formatCloudParts + 1 {
			f.Add([]byte(s), byte(kind))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, kind byte) {
		form := format(kind) % (formatCloudParts + 1)
		before := bytes.Clone(body)
		records, refused := recordsOf(form, body, http.Header{"Ce-Id": {"1"}}, &source{maxEvent: 1 << 10, keyed: true})
		if !bytes.Equal(before, body) {
			t.Fatal("the body changed")
		}
		if refused != nil {
			if len(records) > 0 {
				t.Fatalf("%d records beside a refusal", len(records))
			}
			holds(t, refused, body)
			return
		}
		var values [][]byte
		for _, r := range records {
			if err := event.CheckJSON(r.Value, event.Limits{MaxBytes: minEnvelope, MaxDepth: maxDepth}); err != nil || r.Value[0] != '{' {
				t.Fatalf("%q is no object: %v", r.Value, err)
			}
			values = append(values, r.Value)
		}
		whole := string(bytes.Join(values, nil))
		if trimmed := bytes.Trim(body, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
			whole = "[" + string(bytes.Join(values, []byte{','})) + "]"
		}
		if got, want := squeeze(whole), squeeze(string(body)); got != want {
			t.Fatalf("put together %q, want %q", got, want)
		}
	})
}

// squeeze drops white space, inside of texts too: there it is the same on both
// sides.
func squeeze(s string) string {
	return strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(s)
}

// holds checks that a refusal names places that are in the body.
func holds(t *testing.T, a *answer, body []byte) {
	t.Helper()
	text, err := json.Marshal(a.body)
	var r Refusal
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || r.Error == "" || a.status < 400 || a.status > 499 {
		t.Fatalf("%d %s: %v", a.status, text, err)
	}
	last := -1
	for _, fault := range r.Faults {
		if fault.Position < 0 || fault.Position > len(body) || fault.Line < 1 || fault.Index <= last || fault.Reason == "" || fault.Detail == "" {
			t.Fatalf("%s", text)
		}
		last = fault.Index
	}
}
