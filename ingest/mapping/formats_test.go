package mapping_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/mapping"
	"github.com/keysentry/keysentry/internal/published"
)

// chicago is where the published text log of Keycloak was written, as its ECS twin
// says.
func chicago(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("America/Chicago")
	if err != nil {
		t.Skipf("SKIP: no time zones on this machine: %v", err)
	}
	return zone
}

// sample is a published file of raw records, and what the shipped mapping should
// make of it.
type sample struct {
	file, mapping string
	types         map[string]int
}

func samples() []sample {
	return []sample{
		{"okta/samples.ndjson", "okta", map[string]int{"session.revoked": 1, "session.created": 1, "log.record": 4}},
		{"auth0/samples.ndjson", "auth0", map[string]int{"session.denied": 3, "session.created": 1, "auth_token.issued": 2, "request.allowed": 1, "log.record": 1}},
		{"keycloak/samples.log", "keycloak", map[string]int{"session.denied": 3, "auth_token.issued": 1, "request.allowed": 4, "log.record": 4}},
		{"keycloak/samples-json.ndjson", "keycloak", map[string]int{"log.record": 9}},
		{"cloudtrail/samples.ndjson", "cloudtrail", map[string]int{"session.created": 1, "session.denied": 1, "request.allowed": 2, "auth_token.issued": 1}},
		{"nginx/samples.log", "nginx", map[string]int{"request.allowed": 7}},
		{"nginx/generated.log", "nginx", map[string]int{"request.allowed": 704}},
		{"envoy/samples.log", "envoy", map[string]int{"request.allowed": 2, "log.record": 2}},
		{"istio/samples.log", "envoy", map[string]int{"request.allowed": 7, "log.record": 1}},
		{"istio/samples-json.ndjson", "envoy", map[string]int{"request.allowed": 1, "log.record": 1}},
		{"ocsf/samples.ndjson", "ocsf", map[string]int{"session.created": 2, "request.allowed": 4, "log.record": 7}},
		{"ocsf/security-lake.ndjson", "ocsf", map[string]int{"session.created": 1}},
		{"otlp/logs.json", "otlp", map[string]int{"log.record": 1}},
		{"okta/ecs.ndjson", "ecs", map[string]int{"session.revoked": 1}},
		{"auth0/ecs.ndjson", "ecs", map[string]int{"session.denied": 3}},
		{"keycloak/ecs.ndjson", "ecs", map[string]int{"session.denied": 2, "log.record": 1}},
		{"cloudtrail/ecs.ndjson", "ecs", map[string]int{"session.created": 1, "session.denied": 1}},
		{"nginx/ecs.ndjson", "ecs", map[string]int{"request.allowed": 2}},
		{"envoy/ecs.ndjson", "ecs", map[string]int{"request.allowed": 2, "log.record": 2}},
		{"istio/ecs.ndjson", "ecs", map[string]int{"request.allowed": 2, "log.record": 1}},
		{"ocsf/ecs.ndjson", "ecs", map[string]int{"session.created": 1}},
	}
}

// records reads a published file as the command map does.
func records(t testing.TB, m *mapping.Mapping, text []byte) [][]byte {
	t.Helper()
	r := mapping.NewReader(bytes.NewReader(text), m, 1<<20)
	var out [][]byte
	for {
		rec, err := r.Next()
		if err != nil {
			return out
		}
		out = append(out, rec.Value)
	}
}

func shippedSet(t testing.TB) *mapping.Set {
	t.Helper()
	sub, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		t.Fatal(err)
	}
	s, err := mapping.LoadSet(sub)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPublishedSamples: every record becomes a valid event of the expected type,
// by its mapping and by its content, and a bad record between costs only itself.
func TestPublishedSamples(t *testing.T) {
	t.Parallel()
	set := shippedSet(t)
	for _, s := range samples() {
		t.Run(s.file, func(t *testing.T) {
			t.Parallel()
			m := shipped(t, s.mapping)
			all := records(t, m, published.Read(t, "formats/"+s.file))
			events := mapAll(t, m, all)
			if d := cmp.Diff(s.types, byType(events)); d != "" {
				t.Error(d)
			}
			for i, r := range all {
				choice, err := set.Choose(r, options)
				if err != nil || choice.Mapping() == nil || choice.Mapping().Name() != s.mapping {
					t.Errorf("record %d: auto chose %v, %v", i, choice.Mapping(), err)
				}
				costsOnlyItself(t, m, r)
			}
			for i := range events {
				noSecrets(t, &events[i])
			}
		})
	}
}

// costsOnlyItself damages a record at every byte: it is refused or becomes an
// event, and never more than before.
func costsOnlyItself(t *testing.T, m *mapping.Mapping, record []byte) {
	t.Helper()
	step := max(1, len(record)/50)
	for cut := 0; cut < len(record); cut += step {
		for _, damaged := range [][]byte{record[:cut], append(append(bytes.Clone(record[:cut]), 0xff), record[cut:]...)} {
			calls := 0
			m.Map(damaged, options, func(_ int32, e *event.Event, err error) {
				calls++
				var de *event.DecodeError
				if (e == nil) != errors.As(err, &de) {
					t.Fatalf("cut at %d: event %v, error %v", cut, e, err)
				}
			})
			if calls == 0 {
				t.Fatalf("cut at %d: nothing came of the record", cut)
			}
		}
	}
}

// noSecrets: what identifies a secret is a fingerprint.
func noSecrets(t *testing.T, e *event.Event) {
	t.Helper()
	for _, f := range event.MessageFields() {
		if v, ok := e.Text(f); ok && f.Spec().Fingerprint && !event.IsFingerprint(v) {
			t.Errorf("%s is %q", f, v)
		}
	}
}

// doc is one JSON document.
type doc map[string]any

func docs(t *testing.T, file string) []doc {
	t.Helper()
	var out []doc
	for _, l := range published.Lines(t, "formats/"+file) {
		var d doc
		if err := json.Unmarshal(l, &d); err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// at is the value at a path of names, as text; of a list the first.
func (d doc) at(path ...string) string {
	var v any = map[string]any(d)
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[p]
	}
	switch v := v.(type) {
	case nil:
		return ""
	case float64:
		return fmt.Sprintf("%.0f", v)
	case []any:
		return fmt.Sprint(v[0])
	}
	return fmt.Sprint(v)
}

// twins pairs the events of raw records with the documents that another pipeline
// made of some of them, by the text or the id that leads back.
func twins(t *testing.T, raw, ecs, name string, o mapping.Options) map[int]doc {
	t.Helper()
	m := shipped(t, name)
	all := records(t, m, published.Read(t, "formats/"+raw))
	out := map[int]doc{}
	for _, d := range docs(t, ecs) {
		i := slices.IndexFunc(all, func(r []byte) bool { return leadsBack(d, r, m, o) })
		if i < 0 {
			t.Errorf("%s: no raw record for %s", ecs, d.at("event", "id"))
			continue
		}
		out[i] = d
	}
	return out
}

func leadsBack(d doc, record []byte, m *mapping.Mapping, o mapping.Options) bool {
	if original := d.at("event", "original"); original != "" {
		if sameText(original, record) {
			return true
		}
		var wrapper struct{ Message string }
		return json.Unmarshal(record, &wrapper) == nil && wrapper.Message == original
	}
	found := false
	m.Map(record, o, func(_ int32, e *event.Event, err error) { found = found || err == nil && e.ID == d.at("event", "id") })
	return found
}

// sameText compares texts, and JSON by its values.
func sameText(a string, b []byte) bool {
	if a == string(b) {
		return true
	}
	var va, vb any
	return json.Unmarshal([]byte(a), &va) == nil && json.Unmarshal(b, &vb) == nil && cmp.Equal(va, vb)
}

// TestFieldsEqualTheECSTwins: the values that the product keeps are those that
// Elastic's pipelines read from the same records.
func TestFieldsEqualTheECSTwins(t *testing.T) {
	t.Parallel()
	compared := map[string]int{}
	for _, tc := range []struct{ raw, ecs, mapping string }{
		{"okta/samples.ndjson", "okta/ecs.ndjson", "okta"},
		{"auth0/samples.ndjson", "auth0/ecs.ndjson", "auth0"},
		{"keycloak/samples.log", "keycloak/ecs.ndjson", "keycloak"},
		{"cloudtrail/samples.ndjson", "cloudtrail/ecs.ndjson", "cloudtrail"},
		{"nginx/samples.log", "nginx/ecs.ndjson", "nginx"},
		{"envoy/samples.log", "envoy/ecs.ndjson", "envoy"},
		{"istio/samples.log", "istio/ecs.ndjson", "envoy"},
		{"ocsf/security-lake.ndjson", "ocsf/ecs.ndjson", "ocsf"},
	} {
		t.Run(tc.raw, func(t *testing.T) {
			o := options
			if tc.mapping == "keycloak" {
				o.Zone = chicago(t)
			}
			m := shipped(t, tc.mapping)
			all := records(t, m, published.Read(t, "formats/"+tc.raw))
			ecs := shipped(t, "ecs")
			for i, d := range twins(t, tc.raw, tc.ecs, tc.mapping, o) {
				m.Map(all[i], o, func(_ int32, e *event.Event, err error) {
					if err != nil {
						t.Fatal(err)
					}
					likeECS(t, fmt.Sprintf("record %d", i), e, d, compared)
				})
				// The document itself, through the mapping of its schema.
				text, err := json.Marshal(d)
				if err != nil {
					t.Fatal(err)
				}
				ecs.Map(text, o, func(_ int32, e *event.Event, err error) {
					if err != nil {
						t.Fatal(err)
					}
					likeECS(t, fmt.Sprintf("document %d", i), e, d, compared)
				})
			}
		})
	}
	t.Logf("values compared: %v", compared)
	// A comparison that compares nothing proves nothing.
	for _, f := range []string{"time", "source_ip", "user", "user_agent", "status", "method", "endpoint", "outcome", "id", "region", "network", "code"} {
		if compared[f] < 2 {
			t.Errorf("%s was compared %d times", f, compared[f])
		}
	}
}

// likeECS compares an event with a document of the Elastic Common Schema.
func likeECS(t *testing.T, what string, e *event.Event, d doc, compared map[string]int) {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, d.at("@timestamp"))
	if err != nil || !at.Equal(e.Time.Time()) {
		t.Errorf("%s: time %v, want %s", what, e.Time, d.at("@timestamp"))
	}
	compared["time"]++
	one := func(name, got string, want ...string) {
		want = slices.DeleteFunc(want, func(w string) bool { return w == "" || w == "0" || w == "-" })
		if len(want) == 0 {
			return
		}
		compared[name]++
		if !slices.Contains(want, got) {
			t.Errorf("%s: %s %q, want one of %q", what, name, got, want)
		}
	}
	text := func(f event.Field) string { v, _ := e.Text(f); return v }
	one("source_ip", text(event.FieldSourceIP), d.at("source", "ip"))
	one("user", text(event.FieldUserID), d.at("user", "id"), d.at("user", "name"), d.at("source", "user", "id"))
	one("user_agent", text(event.FieldUserAgent), d.at("user_agent", "original"))
	one("status", text(event.FieldStatus), d.at("http", "response", "status_code"))
	one("method", text(event.FieldMethod), d.at("http", "request", "method"))
	one("request_id", text(event.FieldRequestID), d.at("http", "request", "id"))
	if e.ID != "" {
		one("id", e.ID, d.at("event", "id"))
	}
	one("region", text(event.FieldRegion), d.at("cloud", "region"))
	one("network", text(event.FieldNetwork), d.at("cloud", "account", "id"))
	one("code", text(event.FieldCode), d.at("event", "code"))
	category := d.at("event", "category")
	if category == "authentication" {
		switch d.at("event", "outcome") {
		case "failure":
			one("outcome", fmt.Sprint(e.Refused()), "true")
		case "success":
			one("outcome", fmt.Sprint(e.Refused()), "false")
		}
		return // url is where the login leads, which is no endpoint
	}
	if path, _, _ := strings.Cut(d.at("url", "original"), "?"); d.at("url", "path") != "" || path != "" {
		one("endpoint", e.Endpoint, d.at("url", "path"), path)
	}
}

// TestFieldsEqualTheOCSFTwins: line by line, the vendor's record and the OCSF event
// that others made of it say the same.
func TestFieldsEqualTheOCSFTwins(t *testing.T) {
	t.Parallel()
	ocsf := published.Lines(t, "formats/ocsf/samples.ndjson")
	native := published.Lines(t, "formats/ocsf/native.ndjson")
	set := shippedSet(t)
	compared := map[string]int{}
	for i := range native {
		choice, err := set.Choose(native[i], options)
		if string(native[i]) == "null" || err != nil {
			continue // not given, or of a source without a mapping
		}
		name := choice.Mapping().Name()
		var from, to event.Event
		choice.Map(options, func(_ int32, e *event.Event, err error) {
			if err != nil {
				t.Fatalf("line %d: %v", i, err)
			}
			from = *e
		})
		shipped(t, "ocsf").Map(ocsf[i], options, func(_ int32, e *event.Event, err error) {
			if err != nil {
				t.Fatalf("line %d: %v", i, err)
			}
			to = *e
		})
		compared[name]++
		for _, f := range []event.Field{event.FieldSourceIP, event.FieldUserAgent, event.FieldKeyID, event.FieldRegion, event.FieldNetwork, event.FieldEndpoint, event.FieldTime, event.FieldRequestID} {
			got, ok := to.Text(f)
			want, wanted := from.Text(f)
			switch {
			case !ok || !wanted:
			case f == event.FieldTime && i == 3: // the publisher's two times differ by a year
			case f == event.FieldTime && to.Time.Sub(from.Time).Abs() < time.Second: // whole seconds there
				compared[f.String()]++
			case f == event.FieldRequestID && name == "okta": // the publisher took another id of the record
			case got != want:
				t.Errorf("line %d (%s): %s is %q by way of OCSF, %q from the vendor", i, name, f, got, want)
			default:
				compared[f.String()]++
			}
		}
		if from.Refused() != to.Refused() && to.Type != event.TypeLogRecord {
			t.Errorf("line %d: %v by way of OCSF, %v from the vendor", i, to.Type, from.Type)
		}
	}
	t.Logf("compared: %v", compared)
	for _, k := range []string{"okta", "cloudtrail", "source_ip", "user_agent", "time", "key_id"} {
		if compared[k] < 2 {
			t.Errorf("%s was compared %d times: %v", k, compared[k], slices.Sorted(maps.Keys(compared)))
		}
	}
}

// TestMalformedOCSF: the published example with a stray comma is refused whole.
func TestMalformedOCSF(t *testing.T) {
	t.Parallel()
	text := published.Read(t, "formats/ocsf/malformed/generic_api_activity.ocsf.json")
	all := records(t, shipped(t, "ocsf"), text)
	if len(all) != 1 {
		t.Fatalf("%d records", len(all))
	}
	refused(t, shipped(t, "ocsf"), all[0], event.ProblemBadJSON)
}

// refused maps a record that must become one error.
func refused(t *testing.T, m *mapping.Mapping, record []byte, want event.Problem) {
	t.Helper()
	calls := 0
	m.Map(record, options, func(_ int32, e *event.Event, err error) {
		calls++
		var de *event.DecodeError
		if e != nil || !errors.As(err, &de) || de.Problem != want {
			t.Errorf("got %v, %v, want %v", e, err, want)
		}
	})
	if calls != 1 {
		t.Errorf("%d results", calls)
	}
}

// TestOtherPublishedRecords: real records of many sources are recognised as what
// they are or not at all, never as two things, and never break anything.
func TestOtherPublishedRecords(t *testing.T) {
	t.Parallel()
	set := shippedSet(t)
	for _, tc := range []struct {
		file, source string
		want         map[string]int // records by mapping; "" is not recognised
	}{
		{"labelled-audit-events/okta.ndjson.gz", "event", map[string]int{"okta": 7, "": 28}},
		{"labelled-audit-events/auth0.ndjson.gz", "event", map[string]int{"auth0": 30, "": 1}},
		{"labelled-audit-events/aws_cloudtrail.ndjson.gz", "event", map[string]int{"cloudtrail": 183, "": 10}},
		{"labelled-audit-events/github.ndjson.gz", "event", map[string]int{"": 127}},
		{"labelled-audit-events/kubernetes.ndjson.gz", "event", map[string]int{"": 112}},
		{"labelled-audit-events/azure_signin.ndjson.gz", "event", map[string]int{"": 28}},
		{"cloudtrail-attacks/events.ndjson.gz", "", map[string]int{"cloudtrail": 1233}},
	} {
		got, types := map[string]int{}, map[string]int{}
		for i, l := range published.Lines(t, tc.file) {
			if tc.source != "" {
				var outer map[string]json.RawMessage
				if err := json.Unmarshal(l, &outer); err != nil {
					t.Fatal(err)
				}
				l = outer[tc.source]
			}
			choice, err := set.Choose(l, options)
			var de *event.DecodeError
			if errors.As(err, &de) {
				if strings.Contains(de.Detail, "both") {
					t.Errorf("%s, record %d: %v", tc.file, i, err)
				}
				got[""]++
				continue
			}
			if choice.Canonical() {
				t.Errorf("%s, record %d: taken for a canonical event", tc.file, i)
				continue
			}
			got[choice.Mapping().Name()]++
			choice.Map(options, func(_ int32, e *event.Event, err error) {
				if err == nil {
					err = e.ValidateMapped()
				}
				if err != nil {
					types[err.Error()]++
					return
				}
				types[e.Type.String()]++
				noSecrets(t, e)
			})
		}
		t.Log(tc.file, types)
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", tc.file, d)
		}
	}
}
