package mapping_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/mapping"
)

const head = "mapping: m\nformat: json\n"

func TestParseReportsFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"other name":           {"mapping: n\nformat: json\ncases: [{name: a, type: heartbeat}]", `mapping: says "n"`},
		"no format":            {"mapping: m\ncases: [{name: a, type: heartbeat}]", "format: want json or text"},
		"no cases":             {head, "cases: give at least one case"},
		"unknown type":         {head + "cases: [{name: a, type: nonsense}]", `cases[0].type: "nonsense" is no event type`},
		"unnamed case":         {head + "cases: [{type: heartbeat}]", "cases[0].name"},
		"unknown key":          {head + "colour: red\ncases: [{name: a, type: heartbeat}]", "field colour not found"},
		"unknown key in field": {head + "fields: {host: {form: x}}\ncases: [{name: a, type: heartbeat}]", `unknown key "form"`},
		"unknown field":        {head + "fields: {hostname: x}\ncases: [{name: a, type: heartbeat}]", "fields.hostname: is no field"},
		"field of the daemon":  {head + "fields: {origin: x}\ncases: [{name: a, type: heartbeat}]", "fields.origin: is no field"},
		"raw key":              {head + "fields: {key_id: x}\ncases: [{name: a, type: heartbeat}]", "fields.key_id: holds a secret's identity"},
		"two sources":          {head + "fields: {host: {from: x, value: y}}\ncases: [{name: a, type: heartbeat}]", "exactly one of from, value, template"},
		"bad time format":      {head + "fields: {time: {from: x, time: dmy}}\ncases: [{name: a, type: heartbeat}]", "fields.time.time: want rfc3339"},
		"bad template":         {head + "fields: {host: {template: 'a${b'}}\ncases: [{name: a, type: heartbeat}]", "template: want ${path}"},
		"two tests":            {head + "cases: [{name: a, type: heartbeat, when: [{field: x, equals: a, prefix: b}]}]", "cases[0].when[0]: want exactly one"},
		"no test":              {head + "cases: [{name: a, type: heartbeat, when: [{field: x}]}]", "cases[0].when[0]: want exactly one"},
		"test of nothing":      {head + "cases: [{name: a, type: heartbeat, when: [{equals: x}]}]", "cases[0].when[0].field"},
		"bad expression":       {head + "cases: [{name: a, type: heartbeat, when: [{field: x, regex: '('}]}]", "cases[0].when[0].regex"},
		"line in json":         {head + "line: x\ncases: [{name: a, type: heartbeat}]", "line: is for text only"},
		"fingerprint of time":  {head + "fields: {time: {from: x, fingerprint: true}}\ncases: [{name: a, type: heartbeat}]", "fields.time.fingerprint: is for text"},
		"no YAML":              {"a: [", "yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := mapping.Parse("m", []byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{"m.yml": {Data: []byte(head + "cases: [{name: a, type: heartbeat}]")}}
	if m, err := mapping.Load(fsys, "m"); err != nil || m.Name() != "m" || len(m.Cases()) != 1 {
		t.Errorf("got %v, %v", m, err)
	}
	for _, name := range []string{"", "none", "../m", "m.yml"} {
		if _, err := mapping.Load(fsys, name); err == nil {
			t.Errorf("%q loads", name)
		}
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	m := shipped(t, "openssh")
	if err := m.Ready(mapping.Options{}); err == nil || !strings.Contains(err.Error(), "set year") || !strings.Contains(err.Error(), "fingerprint_key") {
		t.Errorf("got %v", err)
	}
	if err := m.Ready(options); err != nil {
		t.Error(err)
	}
}

// TestDirectives goes through what a field and a condition can say.
func TestDirectives(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		yaml, record, field, want string
	}{
		"plain path":           {"fields: {host: a.b}", `{"a":{"b":"x"}}`, "host", "x"},
		"literal dotted key":   {"fields: {host: a.b}", `{"a.b":"lit","a":{"b":"x"}}`, "host", "lit"},
		"partly dotted key":    {"fields: {host: a.b.c}", `{"a":{"b.c":"x"}}`, "host", "x"},
		"first of several":     {"fields: {host: [a, b]}", `{"a":"","b":"x"}`, "host", "x"},
		"number as text":       {"fields: {user_id: a}", `{"a":12345678901234567890}`, "user_id", "12345678901234567890"},
		"bool as text":         {"fields: {reason: a}", `{"a":true}`, "reason", "true"},
		"object is no text":    {"fields: {reason: a}", `{"a":{}}`, "reason", ""},
		"constant":             {"fields: {service: {value: s}}", `{}`, "service", "s"},
		"template":             {"fields: {reason: {template: '${a}-${b.c}!'}}", `{"a":"x","b":{"c":2}}`, "reason", "x-2!"},
		"template with a hole": {"fields: {reason: {template: '${a}-${b}'}}", `{"a":"x"}`, "reason", ""},
		"map":                  {"fields: {code: {from: a, map: {x: y}}}", `{"a":"x"}`, "code", "y"},
		"map passes others":    {"fields: {code: {from: a, map: {x: y}}}", `{"a":"z"}`, "code", "z"},
		"default":              {"fields: {code: {from: a, default: d}}", `{}`, "code", "d"},
		"epoch":                {"fields: {sent_at: {from: a, time: epoch}}", `{"a":1767225600.5}`, "sent_at", "2026-01-01T00:00:00.5Z"},
		"epoch milliseconds":   {"fields: {sent_at: {from: a, time: epoch_ms}}", `{"a":1767225600500}`, "sent_at", "2026-01-01T00:00:00.5Z"},
		"clf":                  {"fields: {sent_at: {from: a, time: clf}}", `{"a":"01/Jan/2026:01:00:00 +0100"}`, "sent_at", "2026-01-01T00:00:00Z"},
		"status":               {"fields: {status: a}", `{"a":"404"}`, "status", "404"},
		"fingerprint":          {"fields: {key_id: {from: a, fingerprint: true}}", `{"a":"secret"}`, "key_id", event.Fingerprint(options.Key, "secret")},
		"lenient":              {"fields: {source_ip: {from: a, lenient: true}}", `{"a":"somewhere"}`, "source_ip", ""},
		"long text is cut":     {"fields: {reason: a}", `{"a":"` + strings.Repeat("é", 600) + `"}`, "reason", strings.Repeat("é", 512)},
		"case wins":            {"fields: {host: a}\ncases: [{name: a, type: heartbeat, fields: {host: b}}]", `{"a":"x","b":"y"}`, "host", "y"},
		"equals":               {conditional("equals: x"), `{"a":"x"}`, "host", "hit"},
		"in":                   {conditional("in: [w, x]"), `{"a":"x"}`, "host", "hit"},
		"prefix":               {conditional("prefix: x"), `{"a":"xyz"}`, "host", "hit"},
		"suffix":               {conditional("suffix: z"), `{"a":"xyz"}`, "host", "hit"},
		"contains":             {conditional("contains: y"), `{"a":"xyz"}`, "host", "hit"},
		"regex":                {conditional("regex: '^x.z$'"), `{"a":"xyz"}`, "host", "hit"},
		"exists":               {conditional("exists: true"), `{"a":{"b":1}}`, "host", "hit"},
		"null does not exist":  {conditional("exists: true"), `{"a":null}`, "host", "miss"},
		"not":                  {conditional("equals: x, not: true"), `{"a":"y"}`, "host", "hit"},
		"not of nothing":       {conditional("equals: x, not: true"), `{}`, "host", "hit"},
		"equals misses":        {conditional("equals: x"), `{"a":"xy"}`, "host", "miss"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := head + tc.yaml
			if !strings.Contains(text, "cases:") {
				text += "\ncases: [{name: any, type: heartbeat}]"
			}
			m, err := mapping.Parse("m", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			m.Map([]byte(tc.record), options, func(_ int32, e *event.Event, err error) {
				if err != nil {
					t.Fatal(err)
				}
				f, _ := event.ParseField(tc.field)
				if got, _ := e.Text(f); got != tc.want {
					t.Errorf("%s = %q, want %q", tc.field, got, tc.want)
				}
			})
		})
	}
}

// conditional is a mapping that tells whether a condition on the field a holds.
func conditional(test string) string {
	return "cases:\n- {name: hit, type: heartbeat, when: [{field: a, " + test + "}], fields: {host: {value: hit}}}\n- {name: miss, type: heartbeat, fields: {host: {value: miss}}}"
}
