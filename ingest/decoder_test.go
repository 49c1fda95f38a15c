package ingest

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

var (
	testNow  = event.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	testPart = event.Partition{Topic: "auth.events", ID: 3}
	hmacKey  = []byte("network key")
)

func newTestDecoder(t testing.TB, topics ...TopicConfig) *Decoder {
	t.Helper()
	return newCountedDecoder(t, nil, topics...)
}

func newCountedDecoder(t testing.TB, reg *metrics.Registry, topics ...TopicConfig) *Decoder {
	t.Helper()
	cfg := DefaultConfig()
	if len(topics) > 0 {
		cfg.Topics = topics
	}
	if errs := cfg.Validate(); len(errs) > 0 {
		t.Fatal(errs)
	}
	sub, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder(cfg, DecoderDeps{Redactor: redact.New(), Mappings: sub, FingerprintKey: secret.New("mapping key"), Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// goodEvent is an ordinary refusal at the given time.
func goodEvent(at event.Instant) event.Event {
	var e event.Event
	e.Type, e.Present = event.TypeRequestUnauthorized, e.Present.Set(event.FieldType)
	e.SetInstant(event.FieldTime, at)
	e.SetString(event.FieldNetwork, "shop")
	e.SetString(event.FieldHost, "web-1")
	e.SetString(event.FieldEndpoint, "/api/v4/authentication/token")
	e.SetString(event.FieldKeyID, event.Fingerprint(hmacKey, "key"))
	return e
}

func goodRecord(offset int64, at event.Instant) Record {
	e := goodEvent(at)
	return Record{Offset: offset, Time: at, Appended: true, Value: event.Append(nil, &e)}
}

func decodeAll(t *testing.T, d *Decoder, p event.Partition, records ...Record) *Batch {
	t.Helper()
	f := &Fetched{Records: records, Next: records[len(records)-1].Offset + 1}
	b, err := d.Decode(p, f, records[0].Offset, NewClock(0), testNow)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// broken is one message that must not stop a partition.
type broken struct {
	value  string
	reason Reason
	field  string
}

func brokenMessages() map[string]broken {
	with := func(extra string) string {
		return `{"type":"request.unauthorized","time":"2026-03-01T11:59:59Z","endpoint":"/a",` + extra + `}`
	}
	return map[string]broken{
		"empty":                 {"", ReasonEmpty, ""},
		"white space":           {"   ", ReasonEmpty, ""},
		"10 MB":                 {with(`"reason":"` + strings.Repeat("x", 10<<20) + `"`), ReasonTooLarge, ""},
		"10 MB of brackets":     {strings.Repeat("[", 10<<20), ReasonTooLarge, ""},
		"truncated":             {with(`"host":"a"`)[:40], ReasonBadJSON, ""},
		"byte order mark":       {"\xEF\xBB\xBF" + with(`"host":"a"`), ReasonBadJSON, ""},
		"trailing garbage":      {with(`"host":"a"`) + "garbage", ReasonBadJSON, ""},
		"two objects":           {with(`"host":"a"`) + with(`"host":"b"`), ReasonBadJSON, ""},
		"control characters":    {with("\"host\":\"a\x00b\""), ReasonBadJSON, ""},
		"NaN":                   {with(`"clock_offset":NaN`), ReasonBadJSON, ""},
		"text":                  {"hello, this is a log line", ReasonBadJSON, ""},
		"XML":                   {"<event/>", ReasonBadJSON, ""},
		"binary":                {"\x00\x01\x02\x03", ReasonBadJSON, ""},
		"invalid UTF-8":         {with("\"host\":\"\xff\xfe\""), ReasonBadUTF8, ""},
		"UTF-16":                {"{\x00\"\x00a\x00\"\x00\xd8\x00", ReasonBadUTF8, ""},
		"lone surrogate":        {with(`"host":"\ud800"`), ReasonBadUTF8, ""},
		"nested 10,000 deep":    {with(`"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)), ReasonTooDeep, ""},
		"array":                 {"[" + with(`"host":"a"`) + "]", ReasonNotObject, ""},
		"JSON null":             {"null", ReasonNotObject, ""},
		"duplicate field":       {with(`"host":"a","host":"b"`), ReasonDuplicateField, "host"},
		"no type":               {`{"time":"2026-03-01T11:59:59Z"}`, ReasonMissingField, "type"},
		"no time":               {`{"type":"request.unauthorized","endpoint":"/a"}`, ReasonMissingField, "time"},
		"no endpoint":           {`{"type":"request.unauthorized","time":"2026-03-01T11:59:59Z"}`, ReasonMissingField, "endpoint"},
		"unknown type":          {`{"type":"request.maybe","time":"2026-03-01T11:59:59Z"}`, ReasonUnknownType, "type"},
		"wrong type: number":    {with(`"host":5`), ReasonWrongType, "host"},
		"wrong type: object":    {with(`"user_id":{"a":1}`), ReasonWrongType, "user_id"},
		"huge number":           {with(`"seq":1` + strings.Repeat("0", 400)), ReasonBadValue, "seq"},
		"huge exponent":         {with(`"clock_offset":1e400`), ReasonBadValue, "clock_offset"},
		"raw key":               {with(`"key_id":"b0efec0f3adbf4364c308f1f550b1288d85a4c"`), ReasonBadValue, "key_id"},
		"status 1000":           {with(`"status":1000`), ReasonBadValue, "status"},
		"year 1":                {`{"type":"log.record","time":"0001-01-01T00:00:00Z"}`, ReasonBadTime, "time"},
		"year 9999":             {`{"type":"log.record","time":"9999-12-31T23:59:59Z"}`, ReasonBadTime, "time"},
		"not a time":            {`{"type":"log.record","time":"soon"}`, ReasonBadTime, "time"},
		"lifecycle not allowed": {`{"type":"server_key.revoked","time":"2026-03-01T11:59:59Z","network":"shop","key_id":"` + event.Fingerprint(hmacKey, "k") + `"}`, ReasonNotAllowedHere, "type"},
		"network not allowed":   {with(`"network":"other"`), ReasonNotAllowedHere, "network"},
	}
}

// TestBrokenMessagesCostOnlyThemselves puts every kind of broken message between
// good ones.
func TestBrokenMessagesCostOnlyThemselves(t *testing.T) {
	t.Parallel()
	reg := metrics.New()
	d := newCountedDecoder(t, reg, TopicConfig{Name: testPart.Topic, Origin: event.OriginBackend, Allow: AllowConfig{Networks: []string{"shop", ""}}})
	kinds := brokenMessages()
	if len(kinds) < 20 {
		t.Fatalf("only %d kinds", len(kinds))
	}
	records := []Record{goodRecord(0, testNow)}
	want := map[int64]broken{}
	for _, b := range kinds {
		n := int64(len(records))
		want[n] = b
		records = append(records, Record{Offset: n, Time: testNow, Value: []byte(b.value)}, goodRecord(n+1, testNow))
	}
	null := int64(len(records))
	want[null] = broken{"", ReasonEmpty, ""}
	records = append(records, Record{Offset: null, Time: testNow, Value: nil}, goodRecord(null+1, testNow))
	b := decodeAll(t, d, testPart, records...)
	if got, want := len(b.Events), len(records)-len(want); got != want {
		t.Errorf("%d good events, want %d", got, want)
	}
	if got := len(b.Rejects); got != len(want) {
		t.Errorf("%d rejects, want %d", got, len(want))
	}
	for _, r := range b.Rejects {
		w := want[r.Ref.Offset]
		if r.Reason != w.reason || r.Field != w.field {
			t.Errorf("%.60q: got %s in %q (%s), want %s in %q", w.value, r.Reason, r.Field, r.Detail, w.reason, w.field)
		}
		if r.Ref.Topic != testPart.Topic || r.Ref.Partition != testPart.ID || r.Size != len(w.value) || r.ObservedAt != testNow {
			t.Errorf("%.60q: coordinates %+v size %d observed %v", w.value, r.Ref, r.Size, r.ObservedAt)
		}
		if len(r.Excerpt) > MaxExcerpt || strings.Contains(r.Excerpt+r.Detail, "b0efec0f3adbf4364c308f1f550b1288d85a4c") {
			t.Errorf("%.60q: excerpt of %d bytes: %s", w.value, len(r.Excerpt), r.Excerpt)
		}
	}
	if got, _ := counted(t, reg, "rejects_total", string(ReasonNotObject)); got != 2 {
		t.Errorf("counter of not_object is %v, want 2", got)
	}
	if got, _ := counted(t, reg, "events_total"); got != float64(len(b.Events)) {
		t.Errorf("counter of events is %v", got)
	}
}

func TestDecodeSetsWhatTheMessageMayNot(t *testing.T) {
	t.Parallel()
	reg := metrics.New()
	d := newCountedDecoder(t, reg, TopicConfig{Name: testPart.Topic, Origin: event.OriginGateway})
	text := `{"type":"request.unauthorized","time":"2026-03-01T11:59:59Z","endpoint":"/a?x=1","origin":"platform","cause":"user_banned","zone":"z"}`
	e := decodeAll(t, d, testPart, Record{Offset: 41, Time: testNow, Value: []byte(text)}).Events[0]
	want := event.Ref{Topic: "auth.events", Partition: 3, Offset: 41}
	if e.Origin != event.OriginGateway || e.Cause != event.CauseNone || e.Ref != want || e.ID != "auth.events/3/41/0" || !e.Has(event.FieldID) || e.Endpoint != "/a" {
		t.Errorf("origin %v, cause %v, ref %v, id %q, endpoint %q", e.Origin, e.Cause, e.Ref, e.ID, e.Endpoint)
	}
	for name, want := range map[string]float64{"zone": 1, "origin": 1, "cause": 1} {
		if got, _ := counted(t, reg, "unknown_fields_total", name); got != want {
			t.Errorf("unknown field %s counted %v times", name, got)
		}
	}
}

func TestUnknownNamesAreBounded(t *testing.T) {
	t.Parallel()
	reg := metrics.New()
	d := newCountedDecoder(t, reg)
	for i := range 3 * maxUnknownNames {
		d.m.unknown(fmt.Sprintf("field-%d", i))
	}
	d.m.unknown(strings.Repeat("n", 1000))
	if _, got := counted(t, reg, "unknown_fields_total"); got > maxUnknownNames+1 {
		t.Errorf("%d series", got)
	}
	if got, _ := counted(t, reg, "unknown_fields_total", "other"); got != 2*maxUnknownNames+1 {
		t.Errorf("other counts %v", got)
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		topic TopicConfig
		edit  func(*event.Event)
		field string // "": allowed
	}{
		"everything":              {TopicConfig{}, nil, ""},
		"type listed":             {TopicConfig{Allow: AllowConfig{Types: []event.Type{event.TypeRequestUnauthorized}}}, nil, ""},
		"type not listed":         {TopicConfig{Allow: AllowConfig{Types: []event.Type{event.TypeHeartbeat}}}, nil, "type"},
		"network listed":          {TopicConfig{Allow: AllowConfig{Networks: []string{"shop"}}}, nil, ""},
		"network not listed":      {TopicConfig{Allow: AllowConfig{Networks: []string{"sho"}}}, nil, "network"},
		"no network":              {TopicConfig{Allow: AllowConfig{Networks: []string{"shop*"}}}, func(e *event.Event) { e.SetString(event.FieldNetwork, "") }, "network"},
		"host by its beginning":   {TopicConfig{Allow: AllowConfig{Hosts: []string{"web-*"}}}, nil, ""},
		"host of another kind":    {TopicConfig{Allow: AllowConfig{Hosts: []string{"db-*"}}}, nil, "host"},
		"service not listed":      {TopicConfig{Allow: AllowConfig{Services: []string{"login"}}}, nil, "service"},
		"lifecycle":               {TopicConfig{Lifecycle: true}, revoke, ""},
		"lifecycle elsewhere":     {TopicConfig{}, revoke, "type"},
		"lifecycle beside a list": {TopicConfig{Lifecycle: true, Allow: AllowConfig{Types: []event.Type{event.TypeHeartbeat}}}, revoke, "type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.topic.Name, tc.topic.Origin = testPart.Topic, event.OriginBackend
			d := newTestDecoder(t, tc.topic)
			e := goodEvent(testNow)
			if tc.edit != nil {
				tc.edit(&e)
			}
			b := decodeAll(t, d, testPart, Record{Time: testNow, Value: event.Append(nil, &e)})
			switch {
			case tc.field == "" && len(b.Events) != 1:
				t.Errorf("rejected: %+v", b.Rejects)
			case tc.field != "" && (len(b.Rejects) != 1 || b.Rejects[0].Reason != ReasonNotAllowedHere || b.Rejects[0].Field != tc.field):
				t.Errorf("got %d events, rejects %+v, want %s refused", len(b.Events), b.Rejects, tc.field)
			}
		})
	}
}

func revoke(e *event.Event) { e.Type = event.TypeServerKeyRevoked }

func TestEffectiveTime(t *testing.T) {
	t.Parallel()
	hour := time.Hour
	for name, tc := range map[string]struct {
		observed Observed
		at       time.Duration // the host's clock, from testNow
		appended time.Duration // the append time, from testNow
		ts       time.Duration
		reason   Reason
	}{
		"as it says":               {ObservedBroker, -3 * time.Second, 0, -3 * time.Second, ""},
		"a little ahead":           {ObservedBroker, 4 * time.Second, 0, 4 * time.Second, ""},
		"far ahead":                {ObservedBroker, hour, 0, 5 * time.Second, ""},
		"late":                     {ObservedBroker, -23 * hour, 0, -23 * hour, ""},
		"too late":                 {ObservedBroker, -25 * hour, 0, -24 * hour, ""},
		"append time of tomorrow":  {ObservedBroker, 0, 2 * time.Minute, 0, ReasonClock},
		"append time of the 1990s": {ObservedBroker, 0, -30 * 366 * 24 * hour, 0, ReasonClock},
		"history":                  {ObservedProducer, -20 * 365 * 24 * hour, 0, -20 * 365 * 24 * hour, ""},
		"history of tomorrow":      {ObservedProducer, 25 * hour, 0, 0, ReasonClock},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newTestDecoder(t, TopicConfig{Name: testPart.Topic, Origin: event.OriginBackend, Observed: tc.observed})
			e := goodEvent(testNow.Add(tc.at))
			b := decodeAll(t, d, testPart, Record{Time: testNow.Add(tc.appended), Value: event.Append(nil, &e)})
			if tc.reason != "" {
				if len(b.Rejects) != 1 || b.Rejects[0].Reason != tc.reason || b.Rejects[0].ObservedAt != 0 && tc.observed == ObservedBroker {
					t.Errorf("got %d events, rejects %+v", len(b.Events), b.Rejects)
				}
				return
			}
			got := b.Events[0]
			if got.TS != testNow.Add(tc.ts) {
				t.Errorf("ts is %v from now, want %v", got.TS.Sub(testNow), tc.ts)
			}
			if tc.observed == ObservedProducer && got.ObservedAt != got.Time {
				t.Errorf("observed_at %v, time %v", got.ObservedAt, got.Time)
			}
		})
	}
}

// TestFastClockIsCorrected: once a minute of a fast host is closed, its effective
// times are right again, and reading from a checkpoint gives the same.
func TestFastClockIsCorrected(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(t)
	clock := NewClock(0)
	start := testNow.Add(-time.Hour)
	var records []Record
	for i := range 100 {
		at := start.Add(time.Duration(i) * time.Second)
		e := goodEvent(at.Add(300 * time.Second))
		records = append(records, Record{Offset: int64(i), Time: at, Value: event.Append(nil, &e)})
	}
	b, err := d.Decode(testPart, &Fetched{Records: records, Next: 100}, 0, clock, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Events[0].TS.Sub(b.Events[0].ObservedAt); got != maxAhead {
		t.Errorf("before an estimate ts is %v after the append time, want %v", got, maxAhead)
	}
	if got := b.Events[99].TS.Sub(b.Events[99].ObservedAt).Abs(); got > time.Second {
		t.Errorf("with an estimate ts is off by %v", got)
	}
	restored := RestoreClock(clock.est.Snapshot(100), 0)
	again, err := d.Decode(testPart, &Fetched{Records: records[90:], Next: 100}, 90, restored, testNow)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range again.Events {
		if want := b.Events[90+i].TS; e.TS != want {
			t.Errorf("offset %d: ts %v on the second reading, %v on the first", e.Ref.Offset, e.TS, want)
		}
	}
}

func TestSecretsAreMaskedAndOwnKeysTold(t *testing.T) {
	t.Parallel()
	const key = "b0efec0f3adbf4364c308f1f550b1288d85a4cb7e1"
	d := newTestDecoder(t)
	id := event.Fingerprint(hmacKey, key)
	d.redactor.AddKey(secret.New(string(hmacKey)), id, len(key))
	e := goodEvent(testNow)
	e.SetString(event.FieldReason, "refused key "+key+" at login")
	b := decodeAll(t, d, testPart, Record{Time: testNow, Value: event.Append(nil, &e)})
	if got := b.Events[0].Reason; got != "refused key [redacted:own_key] at login" || !b.Events[0].Redacted {
		t.Errorf("reason is %q", got)
	}
	found := OwnFindings(b, map[string]event.Instant{}, testNow)
	if len(found) != 1 || found[0].RuleID != RuleOwnKey || found[0].Subject.Value != id || strings.Contains(fmt.Sprintf("%+v", found), key) {
		t.Errorf("findings: %+v", found)
	}
}

func TestNotAllowedIsOneFindingADay(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(t)
	e := goodEvent(testNow)
	revoke(&e)
	v := event.Append(nil, &e)
	seen := map[string]event.Instant{}
	b := decodeAll(t, d, testPart, Record{Time: testNow, Value: v}, Record{Offset: 1, Time: testNow, Value: v})
	first := OwnFindings(b, seen, testNow)
	if len(first) != 1 || first[0].RuleID != RuleNotAllowed || first[0].Subject.Value != testPart.Topic {
		t.Fatalf("findings: %+v", first)
	}
	if again := OwnFindings(b, seen, testNow); len(again) != 0 {
		t.Errorf("told again: %+v", again)
	}
	if anew := OwnFindings(b, map[string]event.Instant{}, testNow); anew[0].ID != first[0].ID {
		t.Error("the same day has two ids")
	}
}

func TestUnreadableBatchesAreRejects(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(t)
	f := &Fetched{Records: []Record{goodRecord(9, testNow)}, Next: 10,
		Unreadable: []Unreadable{{From: 0, To: 5, Reason: "bad CRC"}, {From: 5, To: 9, Reason: "too large when decompressed"}}}
	b, err := d.Decode(testPart, f, 3, NewClock(0), testNow)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range b.Rejects {
		got = append(got, fmt.Sprint(r.Ref.Offset, " ", r.Reason, " ", r.Detail))
	}
	want := []string{"3 unreadable_batch offsets 3 to 4: bad CRC", "5 unreadable_batch offsets 5 to 8: too large when decompressed"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(b.Events) != 1 {
		t.Errorf("%d events", len(b.Events))
	}
}

func TestMappedTopic(t *testing.T) {
	t.Parallel()
	p := event.Partition{Topic: "ssh"}
	d := newTestDecoder(t, TopicConfig{Name: "ssh", Origin: event.OriginBackend, Observed: ObservedProducer, Mapping: "openssh", Network: "ops", Year: 2015})
	b := decodeAll(t, d, p,
		Record{Offset: 0, Value: []byte("Dec 10 06:55:48 w sshd[24200]: Failed password for root from 173.234.31.186 port 38926 ssh2")},
		Record{Offset: 1, Value: []byte("something else")},
		Record{Offset: 2, Value: nil})
	if len(b.Events) != 1 || b.Events[0].Network != "ops" || b.Events[0].TS.Time().Year() != 2015 {
		t.Errorf("events: %+v", b.Events)
	}
	var got []Reason
	for _, r := range b.Rejects {
		got = append(got, r.Reason)
	}
	if d := cmp.Diff([]Reason{ReasonNotMapped, ReasonEmpty}, got); d != "" {
		t.Error(d)
	}
}

func TestBatchMemoryIsUsedAgain(t *testing.T) {
	t.Parallel()
	d := newTestDecoder(t)
	b := decodeAll(t, d, testPart, goodRecord(0, testNow), goodRecord(1, testNow))
	kept := b.Events[0].Clone()
	b.Release()
	b.Release() // harmless
	decodeAll(t, d, testPart, Record{Time: testNow, Value: []byte(`{"type":"log.record","time":"2026-03-01T11:00:00Z"}`)})
	if kept.Host != "web-1" {
		t.Errorf("a clone lost its text: %q", kept.Host)
	}
}

func TestNewDecoderReportsMappings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		topic TopicConfig
		key   string
		want  string
	}{
		"missing": {TopicConfig{Name: "x", Mapping: "nothing"}, "k", "topics[0].mapping: mapping nothing"},
		"no key":  {TopicConfig{Name: "x", Mapping: "cloudtrail"}, "", "set fingerprint_key"},
	} {
		cfg := DefaultConfig()
		cfg.Topics = []TopicConfig{tc.topic}
		sub, _ := fs.Sub(configs.Mappings, "mappings")
		if _, err := NewDecoder(cfg, DecoderDeps{Mappings: sub, FingerprintKey: secret.New(tc.key)}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if errs := DefaultConfig().Validate(); len(errs) > 0 {
		t.Errorf("the default has faults: %v", errs)
	}
	c := Config{Topics: []TopicConfig{
		{Name: "a", Origin: event.OriginBackend}, {Name: "a"},
		{Observed: "me", Year: 1, MaxBytes: -1, Allow: AllowConfig{Types: []event.Type{event.TypeServerKeyRevoked}}},
	}, ReplayMaxEvents: -1, FingerprintKey: secret.Ref{File: "f", Env: "e"}}
	var got []string
	for _, err := range c.Validate() {
		path, _, _ := strings.Cut(err.Error(), ": ")
		got = append(got, path)
	}
	want := []string{"topics[1].name", "topics[1].origin", "topics[2].name", "topics[2].origin", "topics[2].observed", "topics[2].year",
		"topics[2].max_bytes", "topics[2].allow.types[0]", "max_lateness", "detach_after", "commit_every", "replay_max_events", "clock_max_hosts", "fingerprint_key"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if errs := (Config{}).Validate(); !strings.HasPrefix(errs[0].Error(), "topics: ") {
		t.Errorf("got %v", errs)
	}
}

func BenchmarkDecoder(b *testing.B) {
	d := newTestDecoder(b)
	var records []Record
	for i := range 1000 {
		records = append(records, goodRecord(int64(i), testNow))
	}
	f := &Fetched{Records: records, Next: 1000}
	clock := NewClock(0)
	b.ReportAllocs()
	for b.Loop() {
		batch, err := d.Decode(testPart, f, 0, clock, testNow)
		if err != nil {
			b.Fatal(err)
		}
		batch.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
}
