package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

// shortly is what a finding about a secret says, shortly.
func shortly(list []finding.Finding) (out []string) {
	for _, f := range list {
		out = append(out, fmt.Sprintf("%s %s %s=%s %s", f.RuleID, f.Severity, f.Subject.Field, f.Subject.Value, f.Facts[0].Value+"/"+f.Facts[1].Value))
	}
	return out
}

// TestSecretsOpenATicketADay: a secret of any kind is told of its producer and
// field, once a day, with its number, and never in clear.
func TestSecretsOpenATicketADay(t *testing.T) {
	t.Parallel()
	token := "ghp_" + strings.Repeat("a1B2c3D4e5", 4)[:36]
	reg := metrics.New()
	d := newCountedDecoder(t, reg)
	record := func(offset int64, at event.Instant, reason string) Record {
		e := goodEvent(at)
		e.SetString(event.FieldReason, reason)
		return Record{Offset: offset, Time: at, Value: event.Append(nil, &e)}
	}
	b := decodeAll(t, d, testPart, record(0, testNow, "used "+token), record(1, testNow, "again "+token),
		record(2, testNow, "password=hunter2"), record(3, testNow, "invalid token: expired"), record(4, testNow, "fine"))
	seen := map[string]event.Instant{}
	found := OwnFindings(b, seen, testNow)
	want := []string{"ingest.secret_in_event ticket host=web-1 reason/token", "ingest.secret_in_event ticket host=web-1 reason/named"}
	if diff := cmp.Diff(want, shortly(found)); diff != "" {
		t.Fatal(diff)
	}
	if found[0].Count != 2 || found[0].Kind != finding.SecretLeak || len(found[0].Evidence) != 1 || found[0].Evidence[0].Ref.Offset != 0 {
		t.Errorf("%+v", found[0])
	}
	if text := fmt.Sprintf("%+v", found); strings.Contains(text, token) || strings.Contains(text, "hunter2") {
		t.Errorf("a secret is in %s", text)
	}
	if got := b.Events[3].Reason; got != "invalid token: [redacted:named]" || !b.Events[3].Redacted {
		t.Errorf("a word is not masked: %q", got)
	}
	if n, _ := counted(t, reg, "redacted_total", "reason", "named"); n != 2 {
		t.Errorf("counted %v, want 2: words are counted too", n)
	}
	if again := OwnFindings(b, seen, testNow); len(again) != 0 {
		t.Errorf("told again: %v", shortly(again))
	}
	anew := OwnFindings(b, map[string]event.Instant{}, testNow)
	if anew[0].ID != found[0].ID {
		t.Error("after a restart the same day has another id")
	}
	b = decodeAll(t, d, testPart, record(9, testNow.Add(-24*time.Hour), "used "+token))
	if next := OwnFindings(b, map[string]event.Instant{}, testNow); len(next) != 1 || next[0].ID == found[0].ID {
		t.Errorf("another day: %v", shortly(next))
	}
}

// TestHistoryIsOneMatter: the days of imported records are not days on which
// somebody has to be told.
func TestHistoryIsOneMatter(t *testing.T) {
	t.Parallel()
	token := "ghp_" + strings.Repeat("a1B2c3D4e5", 4)[:36]
	d := newTestDecoder(t, TopicConfig{Name: testPart.Topic, Origin: event.OriginBackend, Observed: ObservedProducer})
	seen, told := map[string]event.Instant{}, 0
	for i := range 100 {
		at := testNow.Add(-time.Duration(100-i) * 24 * time.Hour)
		e := goodEvent(at)
		e.SetString(event.FieldReason, "used "+token)
		b := decodeAll(t, d, testPart, Record{Offset: int64(i), Time: at, Value: event.Append(nil, &e)})
		if len(b.Events) != 1 || !b.Events[0].Redacted {
			t.Fatalf("got %+v, %+v", b.Events, b.Rejects)
		}
		told += len(OwnFindings(b, seen, testNow))
	}
	if told != 1 {
		t.Errorf("%d days of history were told %d times, want once", 100, told)
	}
}

// TestProducersOfSecretsAreBounded: names in messages are for the producer to
// choose, so a thousand of them must not be a thousand tickets.
func TestProducersOfSecretsAreBounded(t *testing.T) {
	t.Parallel()
	b := &Batch{Partition: testPart}
	seen := map[string]event.Instant{}
	n := 0
	for i := range 1000 {
		b.leaks = nil
		b.addLeak(leak{producer: producer{host: fmt.Sprint("web-", i)}, place: "reason", kind: redact.Token, first: finding.Evidence{TS: testNow}})
		n += len(OwnFindings(b, seen, testNow))
	}
	if n != maxProducers+1 {
		t.Errorf("%d findings, want %d and one of the topic", n, maxProducers)
	}
	for i := range 1000 {
		b.addLeak(leak{producer: producer{host: fmt.Sprint("web-", i)}, place: "reason", kind: redact.Token})
	}
	if len(b.leaks) != maxLeaks {
		t.Errorf("a batch keeps %d leaks", len(b.leaks))
	}
}

// TestOwnKeysAnywhereInARecord: a key of ours pages wherever a topic holds it, once
// per key and day, even where nothing of it would be stored.
func TestOwnKeysAnywhereInARecord(t *testing.T) {
	t.Parallel()
	const key = "Zq7xLw2Vb9Nc4Mf8Hk1Jd6Sg3Ta5Ry0Ue7Io2Pq"
	id := event.Fingerprint(hmacKey, key)
	good := `{"type":"request.unauthorized","time":"2026-03-01T11:59:59Z","endpoint":"/a","host":"web-1"%s}`
	plain := []byte(fmt.Sprintf(good, ""))
	for name, tc := range map[string]struct {
		r           Record
		place, host string
	}{
		"unknown field":      {Record{Value: []byte(fmt.Sprintf(good, `,"extra":{"a":["`+key+`"]}`))}, inRecord, "web-1"},
		"name of a field":    {Record{Value: []byte(fmt.Sprintf(good, `,"`+key+`":1`))}, inRecord, "web-1"},
		"record key":         {Record{Value: plain, Key: []byte(key)}, inKey, "web-1"},
		"header":             {Record{Value: plain, Headers: []Header{{"x", []byte("Bearer " + key)}}}, inHeader, "web-1"},
		"name of a header":   {Record{Value: plain, Headers: []Header{{key, nil}}}, inHeader, "web-1"},
		"broken record":      {Record{Value: []byte(`{"server_key":"` + key)}, inRecord, ""},
		"far in a broken":    {Record{Value: []byte(`{"a":"` + strings.Repeat("x y ", 5000) + key + `"`)}, inRecord, ""},
		"key of a broken":    {Record{Value: []byte(`{`), Key: []byte(key)}, inKey, ""},
		"header of a broken": {Record{Value: []byte(`{`), Headers: []Header{{"x", []byte(key)}}}, inHeader, ""},
		"across a cut":       {Record{Value: []byte(fmt.Sprintf(good, `,"reason":"`+strings.Repeat("é ", 330)+strings.Repeat("-.", 10)+key+` and more"`))}, "reason", "web-1"},
		"beyond a cut":       {Record{Value: []byte(fmt.Sprintf(good, `,"user_agent":"`+strings.Repeat("x y ", 1000)+key+`"`))}, "user_agent", "web-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newTestDecoder(t)
			d.redactor.AddKey(secret.New(string(hmacKey)), id, len(key))
			tc.r.Time = testNow
			b := decodeAll(t, d, testPart, tc.r)
			found := OwnFindings(b, map[string]event.Instant{}, testNow)
			if len(found) == 0 || found[0].RuleID != RuleOwnKey || found[0].Severity != finding.Page || found[0].Subject.Value != id || found[0].Facts[0].Value != tc.place {
				t.Fatalf("findings %+v", found)
			}
			host := ""
			for _, p := range found[0].Facts {
				if p.Field == "host" {
					host = p.Value
				}
			}
			if text := fmt.Sprintf("%+v %+v %+v", found, b.Events, b.Rejects); host != tc.host || strings.Contains(text, key[:12]) || strings.Contains(text, key[len(key)-12:]) {
				t.Errorf("host %q in %s", host, text)
			}
		})
	}
	d := newTestDecoder(t)
	d.redactor.AddKey(secret.New(string(hmacKey)), id, len(key))
	if b := decodeAll(t, d, testPart, Record{Time: testNow, Value: plain, Key: []byte("web-1"), Headers: []Header{{"traceparent", []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")}}}); len(b.leaks) != 0 {
		t.Errorf("a clean record has leaks: %+v", b.leaks)
	}
}
