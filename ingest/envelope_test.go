package ingest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

// hs makes headers of names and values in turn.
func hs(pairs ...string) []Header {
	var out []Header
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Header{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return out
}

// told is what one record became.
func told(b *Batch) []string {
	out := make([]string, len(b.Events)+len(b.Rejects))
	for i := range b.Events {
		e := &b.Events[i]
		out[e.Ref.Idx] = e.Type.String() + " " + e.ID + " " + e.Time.Time().Format("15:04:05") + " " + e.UserID
	}
	for _, r := range b.Rejects {
		out[r.Ref.Idx] = string(r.Reason)
	}
	return out
}

// TestCloudEvents: what an envelope holds is decoded as the topic says, in every
// mode; what it cannot hold is refused with a reason of its own.
func TestCloudEvents(t *testing.T) {
	t.Parallel()
	binary := hs("ce_specversion", "1.0", "ce_id", "ce-1", "ce_source", "/s", "ce_type", "session.denied", "ce_time", "2026-03-01T11:00:00Z")
	env := func(data string) string {
		return `{"specversion":"1.0","id":"ce-1","source":"/s","type":"session.denied","time":"2026-03-01T11:00:00Z","data":` + data + `}`
	}
	okta := `{"uuid":"ok-1","published":"2026-03-01T10:00:00Z","eventType":"user.session.start","actor":{"id":"u"},"outcome":{"result":"FAILURE"}}`
	trail := `{"Records":[{"eventVersion":"1","eventID":"t-1","eventName":"X","eventSource":"s","eventTime":"2026-03-01T10:00:00Z"},{"eventVersion":"1","eventID":"t-2","eventName":"Y","eventSource":"s","eventTime":"never"}]}`
	for name, tc := range map[string]struct {
		mapping, value string
		headers        []Header
		want           []string
	}{
		"binary, whole event":           {"", `{"id":"own","type":"session.created","time":"2026-03-01T10:00:00Z","user_id":"u"}`, binary, []string{"session.created own 10:00:00 u"}},
		"binary, envelope completes":    {"", `{"user_id":"u"}`, binary, []string{"session.denied ce-1 11:00:00 u"}},
		"structured":                    {"", env(`{"user_id":"u"}`), nil, []string{"session.denied ce-1 11:00:00 u"}},
		"structured in base64":          {"", `{"specversion":"1.0","id":"ce-1","source":"/s","type":"session.denied","time":"2026-03-01T11:00:00Z","data_base64":"eyJ1c2VyX2lkIjoidSJ9"}`, nil, []string{"session.denied ce-1 11:00:00 u"}},
		"batch":                         {"", "[" + env(`{"user_id":"a"}`) + "," + env(`[]`) + "," + env(`{"user_id":"b"}`) + "]", nil, []string{"session.denied ce-1 11:00:00 a", "not_object", "session.denied ce-1 11:00:00 b"}},
		"the envelope is not the event": {"", `{"specversion":"1.0","id":"ce-1","source":"/s","type":"session.created","time":"2026-03-01T11:00:00Z","user_id":"envelope","data":{"type":"session.denied","user_id":"data"}}`, nil, []string{"session.denied ce-1 11:00:00 data"}},
		"foreign type, no type inside":  {"", `{"specversion":"1.0","id":"1","source":"/s","type":"com.example","data":{"time":"2026-03-01T11:00:00Z"}}`, nil, []string{"missing_field"}},
		"time that is none":             {"", `{"specversion":"1.0","id":"1","source":"/s","type":"session.denied","time":"soon","data":{}}`, nil, []string{"bad_time"}},
		"mapped":                        {"okta", okta, binary, []string{"session.denied ok-1 10:00:00 u"}},
		"mapped, structured":            {"okta", env(okta), nil, []string{"session.denied ok-1 10:00:00 u"}},
		"mapped, many events":           {"cloudtrail", "[" + env(trail) + "," + env(trail) + "]", nil, []string{"request.allowed t-1 10:00:00 ", "bad_time", "request.allowed t-1 10:00:00 ", "bad_time"}},
		"mapped text":                   {"nginx", env(`"203.0.113.9 - u [01/Mar/2026:10:00:00 +0000] \"GET /x HTTP/1.1\" 401 1 \"-\" \"-\""`), nil, []string{"request.unauthorized ce/3/0/0 10:00:00 u"}},
		"auto":                          {"auto", env(okta), nil, []string{"session.denied ok-1 10:00:00 u"}},
		"auto, canonical":               {"auto", env(`{"type":"session.denied","user_id":"u"}`), nil, []string{"session.denied ce-1 11:00:00 u"}},
		"auto, type of the envelope":    {"auto", env(`{"user_id":"u"}`), nil, []string{"session.denied ce-1 11:00:00 u"}},
		"auto, unknown":                 {"auto", `{"specversion":"1.0","id":"1","source":"/s","type":"com.example","data":{"a":1}}`, nil, []string{"unknown_format"}},
		"id with a control character":   {"", `{"user_id":"u"}`, hs("ce_specversion", "1.0", "ce_id", "a\x07b", "ce_source", "/s", "ce_type", "session.denied", "ce_time", "2026-03-01T11:00:00Z"), []string{"session.denied ce/3/0/0 11:00:00 u"}},
		"id that is no UTF-8":           {"", `{"user_id":"u"}`, hs("ce_specversion", "1.0", "ce_id", "a\xffb", "ce_source", "/s", "ce_type", "session.denied", "ce_time", "2026-03-01T11:00:00Z"), []string{"session.denied ce/3/0/0 11:00:00 u"}},
		"tombstone":                     {"", "", binary, []string{"empty"}},
		"mapped tombstone":              {"okta", "", binary, []string{"empty"}},
		"plain tombstone":               {"", "", nil, []string{"empty"}},
		"wrong version":                 {"", `{}`, hs("ce_specversion", "0.3", "ce_id", "1", "ce_source", "/s", "ce_type", "t"), []string{"bad_cloudevent"}},
		"Avro":                          {"", "\x00", append(hs("content-type", "application/avro"), binary...), []string{"bad_cloudevent"}},
		"other headers":                 {"", `{"type":"session.denied","time":"2026-03-01T10:00:00Z","id":"plain"}`, hs("trace", "x"), []string{"session.denied plain 10:00:00 "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := event.Partition{Topic: "ce", ID: 3}
			d := newTestDecoder(t, TopicConfig{Name: "ce", Origin: event.OriginBackend, Observed: ObservedProducer, Mapping: tc.mapping})
			b := decodeAll(t, d, p, Record{Value: []byte(tc.value), Headers: tc.headers})
			if diff := cmp.Diff(tc.want, told(b)); diff != "" {
				t.Errorf("%s\n%+v", diff, b.Rejects)
			}
		})
	}
}

// TestCloudEventsTombstoneSaysSo: the reason tells a tombstone from an empty record.
func TestCloudEventsTombstoneSaysSo(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(t)
	b := decodeAll(t, d, testPart, Record{Time: testNow, Headers: hs("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_type", "t")})
	if len(b.Rejects) != 1 || !strings.Contains(b.Rejects[0].Detail, "CloudEvents tombstone") {
		t.Errorf("%+v", b.Rejects)
	}
}

// TestAutoTopic: one topic holds many formats, each told by its content.
func TestAutoTopic(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(t, TopicConfig{Name: "all", Origin: event.OriginBackend, Observed: ObservedProducer, Mapping: "auto", Network: "shop", Zone: "UTC"})
	b := decodeAll(t, d, event.Partition{Topic: "all"},
		Record{Offset: 0, Value: []byte(`{"type":"session.denied","time":"2026-03-01T10:00:00Z"}`)},
		Record{Offset: 1, Value: []byte(`{"class_uid":3002,"category_uid":3,"activity_id":1,"status_id":2,"time":1772359200000}`)},
		Record{Offset: 2, Value: []byte(`203.0.113.9 - - [01/Mar/2026:10:00:00 +0000] "GET /x HTTP/1.1" 401 1 "-" "-"`)},
		Record{Offset: 3, Value: []byte(`Mar  1 10:00:00 b sshd[1]: x`)},
		Record{Offset: 4, Value: []byte(`nobody knows this`)})
	var got []string
	for i := range b.Events {
		got = append(got, b.Events[i].Type.String()+" "+b.Events[i].Network)
	}
	if diff := cmp.Diff([]string{"session.denied ", "session.denied shop", "request.unauthorized shop"}, got); diff != "" {
		t.Error(diff)
	}
	if len(b.Rejects) != 2 || b.Rejects[0].Reason != ReasonNotMapped || !strings.Contains(b.Rejects[0].Detail, "set year") || b.Rejects[1].Reason != ReasonUnknownFormat {
		t.Errorf("%+v", b.Rejects)
	}
}

// TestQueriesOfMappedEndpoints: no query is stored, and a key of ours in one is
// found all the same.
func TestQueriesOfMappedEndpoints(t *testing.T) {
	t.Parallel()
	const key = "b0efec0f3adbf4364c308f1f550b1288d85a4cb7e1"
	id := event.Fingerprint(hmacKey, key)
	for name, tc := range map[string]struct{ mapping, value string }{
		"nginx": {"nginx", `203.0.113.9 - - [01/Mar/2026:10:00:00 +0000] "GET /x?server_key=` + key + ` HTTP/1.1" 200 1 "-" "-"`},
		"envoy": {"envoy", `{"start_time":"2026-03-01T10:00:00Z","method":"GET","path":"https://h/x?server_key=` + key + `","response_code":200,"response_flags":"-","duration":1}`},
	} {
		d := newTestDecoder(t, TopicConfig{Name: name, Origin: event.OriginGateway, Observed: ObservedProducer, Mapping: tc.mapping})
		d.redactor.AddKey(secret.New(string(hmacKey)), id, len(key))
		b := decodeAll(t, d, event.Partition{Topic: name}, Record{Value: []byte(tc.value)})
		if len(b.Events) != 1 || b.Events[0].Endpoint != "/x" {
			t.Errorf("%s: %+v %+v", name, b.Events, b.Rejects)
		}
		if found := OwnFindings(b, map[string]event.Instant{}, testNow); len(found) != 1 || found[0].Subject.Value != id {
			t.Errorf("%s: findings %+v", name, found)
		}
	}
}

// FuzzDecoder: whatever a record holds, in whatever envelope and for whatever
// mapping, it becomes events that are valid, or rejects with a reason, and at
// least one of them; their places count up from 0 without a gap.
func FuzzDecoder(f *testing.F) {
	sub, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		f.Fatal(err)
	}
	files, err := fs.Glob(sub, "*.yml")
	if err != nil || len(files) < 10 {
		f.Fatalf("%v, %v", files, err)
	}
	cfg := DefaultConfig()
	cfg.Topics = []TopicConfig{{Name: "", Origin: event.OriginBackend}, {Name: "auto", Mapping: "auto", Year: 2026}}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".yml")
		cfg.Topics = append(cfg.Topics, TopicConfig{Name: name, Mapping: name, Year: 2026})
	}
	for i := range cfg.Topics {
		cfg.Topics[i].Observed, cfg.Topics[i].Lifecycle = ObservedProducer, true
	}
	d, err := NewDecoder(cfg, DecoderDeps{Redactor: redact.New(), Mappings: sub, FingerprintKey: secret.New("k")})
	if err != nil {
		f.Fatal(err)
	}
	envelope := `{"specversion":"1.0","id":"1","source":"/s","type":"session.denied","time":"2026-03-01T11:00:00Z","data":`
	for i := range cfg.Topics {
		for _, v := range fuzzSeeds(f, cfg.Topics[i].Mapping) {
			f.Add(uint8(i), uint8(0), v)
			f.Add(uint8(1), uint8(1), v)
			f.Add(uint8(i), uint8(0), []byte(envelope+string(v)+"}"))
			f.Add(uint8(i), uint8(3), []byte("["+envelope+string(v)+"},"+envelope+`{}}]`))
		}
	}
	headers := [][]Header{nil, hs("ce_specversion", "1.0", "ce_id", "i", "ce_source", "s", "ce_type", "session.denied", "ce_time", "2026-03-01T11:00:00Z"),
		hs("content-type", "application/cloudevents+json"), hs("content-type", "application/cloudevents-batch+json")}
	f.Fuzz(func(t *testing.T, topic, header uint8, value []byte) {
		tc := cfg.Topics[int(topic)%len(cfg.Topics)]
		r := Record{Value: value, Headers: headers[int(header)%len(headers)]}
		b, err := d.Decode(event.Partition{Topic: tc.Name}, &Fetched{Records: []Record{r}, Next: 1}, 0, NewClock(1), event.At(testNow.Time().AddDate(80, 0, 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Release()
		places := make([]bool, len(b.Events)+len(b.Rejects))
		place := func(idx int32) {
			if int(idx) >= len(places) || places[idx] {
				t.Fatalf("place %d of %d is taken or beyond the end", idx, len(places))
			}
			places[idx] = true
		}
		if len(places) == 0 {
			t.Fatal("nothing came of the record")
		}
		for _, rej := range b.Rejects {
			place(rej.Ref.Idx)
			if rej.Reason == "" || rej.Detail == "" || len(rej.Excerpt) > MaxExcerpt {
				t.Fatalf("a reject without a reason: %+v", rej)
			}
		}
		for i := range b.Events {
			e := &b.Events[i]
			place(e.Ref.Idx)
			if err := e.ValidateMapped(); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(e.Endpoint, "?") {
				t.Fatalf("endpoint %q has a query", e.Endpoint)
			}
			var back event.Event
			if err := event.Decode(event.Append(nil, e), event.Limits{MaxBytes: 1 << 20}, &back); err != nil {
				t.Fatalf("the event is not canonical: %v", err)
			}
		}
	})
}

// fuzzSeeds are the samples that were written for the tests of the mappings.
func fuzzSeeds(f *testing.F, name string) [][]byte {
	f.Helper()
	text := `{"type":"session.denied","time":"2026-03-01T10:00:00Z","endpoint":"/x?y=z"}`
	if name != "" && name != "auto" {
		b, err := os.ReadFile(filepath.Join("mapping", "testdata", "samples", name+".txt"))
		if err != nil {
			f.Fatal(err)
		}
		text = string(b)
	}
	var out [][]byte
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		out = append(out, []byte(l))
	}
	return out
}

// TestABatchOfManyIsBounded: the members of a batch of CloudEvents may hold many
// events each, and a message of a megabyte became 315,000 rejects.
func TestABatchOfManyIsBounded(t *testing.T) {
	t.Parallel()
	member := `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"resourceLogs":[{"scopeLogs":[{"logRecords":[` +
		strings.Repeat("{},", 6000) + `{}]}]}]}}`
	d := newTestDecoder(t, TopicConfig{Name: "ce", Origin: event.OriginBackend, Mapping: "otlp"})
	b := decodeAll(t, d, event.Partition{Topic: "ce"},
		Record{Offset: 0, Time: testNow, Value: []byte("[" + member + strings.Repeat(","+member, 9) + "]")},
		Record{Offset: 1, Time: testNow, Value: []byte(`{}`)})
	if n := len(b.Rejects); n != 2*6001+2 {
		t.Fatalf("%d rejects", n)
	}
	for i, r := range b.Rejects[:2*6001+1] {
		if r.Ref.Idx != int32(i) || r.Ref.Offset != 0 {
			t.Fatalf("reject %d has %+v", i, r.Ref)
		}
	}
	if last := b.Rejects[2*6001]; last.Reason != ReasonTooLarge {
		t.Errorf("%+v", last)
	}
	if next := b.Rejects[2*6001+1]; next.Excerpt != "{}" || next.Ref.Idx != 0 {
		t.Errorf("the record after it: %+v", next)
	}
}
