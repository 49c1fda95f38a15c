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
		"other name":              {"mapping: n\nformat: json\ncases: [{name: a, type: heartbeat}]", `m.yml:1: mapping: says "n"`},
		"no format":               {"mapping: m\ncases: [{name: a, type: heartbeat}]", "m.yml:1: format: want json, text, mixed or otlp"},
		"no cases":                {head, "cases: give at least one case"},
		"unknown type":            {head + "cases: [{name: a, type: nonsense}]", `cases[0].type: "nonsense" is no event type`},
		"unnamed case":            {head + "cases: [{type: heartbeat}]", "cases[0].name"},
		"unknown key":             {head + "colour: red\ncases: [{name: a, type: heartbeat}]", "m.yml:3: field colour not found"},
		"unknown key in field":    {head + "fields: {host: {form: x}}\ncases: [{name: a, type: heartbeat}]", `m.yml:3: unknown key "form"`},
		"unknown field":           {head + "fields: {hostname: x}\ncases: [{name: a, type: heartbeat}]", "fields.hostname: is no field"},
		"field of the daemon":     {head + "fields: {origin: x}\ncases: [{name: a, type: heartbeat}]", "fields.origin: is no field"},
		"raw key":                 {head + "fields: {key_id: x}\ncases: [{name: a, type: heartbeat}]", "fields.key_id: holds a secret's identity"},
		"two sources":             {head + "fields: {host: {from: x, value: y}}\ncases: [{name: a, type: heartbeat}]", "exactly one of from, value, template"},
		"bad time format":         {head + "fields: {time: {from: x, time: dmy}}\ncases: [{name: a, type: heartbeat}]", "fields.time.time: want one of rfc3339"},
		"bad template":            {head + "fields: {host: {template: 'a${b'}}\ncases: [{name: a, type: heartbeat}]", "template: want ${path}"},
		"two tests":               {head + "cases: [{name: a, type: heartbeat, when: [{field: x, equals: a, prefix: b}]}]", "cases[0].when[0]: want exactly one"},
		"no test":                 {head + "cases: [{name: a, type: heartbeat, when: [{field: x}]}]", "cases[0].when[0]: want exactly one"},
		"test of nothing":         {head + "cases: [{name: a, type: heartbeat, when: [{equals: x}]}]", "cases[0].when[0].field"},
		"bad expression":          {head + "cases: [{name: a, type: heartbeat, when: [{field: x, regex: '('}]}]", "m.yml:3: cases[0].when[0].regex"},
		"line in json":            {head + "line: x\ncases: [{name: a, type: heartbeat}]", "m.yml:3: line: is for text and mixed only"},
		"fingerprint of time":     {head + "fields: {time: {from: x, fingerprint: true}}\ncases: [{name: a, type: heartbeat}]", "fields.time.fingerprint: is for text"},
		"fault far below":         {head + "cases:\n- name: a\n  type: heartbeat\n  when:\n  - field: x\n    equals: y\n  - field: z\n", "m.yml:9: cases[0].when[1]: want exactly one"},
		"case after the last":     {head + "cases: [{name: a, type: heartbeat}, {name: b, type: heartbeat}]", "cases[0]: has no conditions, so the cases after it"},
		"group that is not named": {"mapping: m\nformat: text\nline: '(?P<a>.*)'\nfields: {host: b}\ncases: [{name: a, type: heartbeat}]", `m.yml:4: fields.host: no expression names a group "b"`},
		"group of no template":    {"mapping: m\nformat: text\nline: '(?P<a>.*)'\nfields: {host: {template: '${a}${b}'}}\ncases: [{name: a, type: heartbeat}]", `names a group "b"`},
		"wrapped in text":         {"mapping: m\nformat: text\nwrapped: a\ncases: [{name: a, type: heartbeat}]", "wrapped: is for mixed only"},
		"wrapped without line":    {"mapping: m\nformat: mixed\nwrapped: a\ncases: [{name: a, type: heartbeat}]", "wrapped: needs line"},
		"each in text":            {"mapping: m\nformat: text\neach: a\ncases: [{name: a, type: heartbeat}]", "each: is for json and mixed and otlp only"},
		"empty step":              {head + "each: a..b\ncases: [{name: a, type: heartbeat}]", `each[0]: "a..b" has an empty name`},
		"record start in JSON":    {head + "record_start: x\ncases: [{name: a, type: heartbeat}]", "record_start: is for text and mixed only"},
		"empty alternative":       {head + "detect: [[]]\ncases: [{name: a, type: heartbeat}]", "detect[0]: give at least one"},
		"bad case of letters":     {head + "fields: {host: {from: x, case: title}}\ncases: [{name: a, type: heartbeat}]", "fields.host.case: want upper or lower"},
		"time of a text":          {head + "fields: {host: {from: x, time: epoch}}\ncases: [{name: a, type: heartbeat}]", "fields.host.time: host is no time"},
		"bad part":                {head + "fields: {host: {from: x, regex: '('}}\ncases: [{name: a, type: heartbeat}]", "fields.host.regex: "},
		"clock offset":            {head + "fields: {clock_offset: x}\ncases: [{name: a, type: heartbeat}]", "cannot be mapped"},
		"nothing":                 {"", "m.yml:1: "},
		"no YAML":                 {"a: [", "m.yml:1: did not find"},
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
		"plain path":                            {"fields: {host: a.b}", `{"a":{"b":"x"}}`, "host", "x"},
		"literal dotted key":                    {"fields: {host: a.b}", `{"a.b":"lit","a":{"b":"x"}}`, "host", "lit"},
		"partly dotted key":                     {"fields: {host: a.b.c}", `{"a":{"b.c":"x"}}`, "host", "x"},
		"first of several":                      {"fields: {host: [a, b]}", `{"a":"","b":"x"}`, "host", "x"},
		"number as text":                        {"fields: {user_id: a}", `{"a":12345678901234567890}`, "user_id", "12345678901234567890"},
		"bool as text":                          {"fields: {reason: a}", `{"a":true}`, "reason", "true"},
		"object is no text":                     {"fields: {reason: a}", `{"a":{}}`, "reason", ""},
		"constant":                              {"fields: {service: {value: s}}", `{}`, "service", "s"},
		"template":                              {"fields: {reason: {template: '${a}-${b.c}!'}}", `{"a":"x","b":{"c":2}}`, "reason", "x-2!"},
		"template with a hole":                  {"fields: {reason: {template: '${a}-${b}'}}", `{"a":"x"}`, "reason", ""},
		"map":                                   {"fields: {code: {from: a, map: {x: y}}}", `{"a":"x"}`, "code", "y"},
		"map passes others":                     {"fields: {code: {from: a, map: {x: y}}}", `{"a":"z"}`, "code", "z"},
		"default":                               {"fields: {code: {from: a, default: d}}", `{}`, "code", "d"},
		"epoch":                                 {"fields: {sent_at: {from: a, time: epoch}}", `{"a":1767225600.5}`, "sent_at", "2026-01-01T00:00:00.5Z"},
		"epoch milliseconds":                    {"fields: {sent_at: {from: a, time: epoch}}", `{"a":1767225600500}`, "sent_at", "2026-01-01T00:00:00.5Z"},
		"epoch seconds":                         {"fields: {sent_at: {from: a, time: epoch}}", `{"a":"1767225600"}`, "sent_at", "2026-01-01T00:00:00Z"},
		"epoch microseconds":                    {"fields: {sent_at: {from: a, time: epoch}}", `{"a":1767225600123456}`, "sent_at", "2026-01-01T00:00:00.123456Z"},
		"epoch nanoseconds":                     {"fields: {sent_at: {from: a, time: epoch}}", `{"a":"1767225600123456789"}`, "sent_at", "2026-01-01T00:00:00.123456789Z"},
		"epoch with exponent":                   {"fields: {sent_at: {from: a, time: epoch}}", `{"a":1.7672256e9}`, "sent_at", "2026-01-01T00:00:00Z"},
		"epoch of milliseconds with fraction":   {"fields: {sent_at: {from: a, time: epoch}}", `{"a":1767225600000.25}`, "sent_at", "2026-01-01T00:00:00.00025Z"},
		"local":                                 {"fields: {sent_at: {from: a, time: local}}", `{"a":"2026-01-01 01:00:00,5"}`, "sent_at", "2026-01-01T01:00:00.5Z"},
		"second layout":                         {"fields: {sent_at: {from: a, time: [rfc3339, local]}}", `{"a":"2026-01-01T01:00:00.5"}`, "sent_at", "2026-01-01T01:00:00.5Z"},
		"member of an array":                    {"fields: {host: a.b}", `{"a":[{"b":""},{"c":1},{"b":"x"},{"b":"y"}]}`, "host", "x"},
		"array of texts":                        {"fields: {host: a}", `{"a":[null,["x"],"y"]}`, "host", "x"},
		"absent text":                           {"absent: '-'\nfields: {host: [a, b]}", `{"a":"-","b":"x"}`, "host", "x"},
		"map to nothing":                        {"fields: {host: {from: [a, b], map: {none: ''}}}", `{"a":"none","b":"x"}`, "host", "x"},
		"part":                                  {"fields: {host: {from: [a, b], regex: '^x-(.*)$'}}", `{"a":"y","b":"x-z"}`, "host", "z"},
		"upper":                                 {"fields: {method: {from: a, case: upper}}", `{"a":"post"}`, "method", "POST"},
		"lower":                                 {"fields: {code: {from: a, case: lower}}", `{"a":"BAD"}`, "code", "bad"},
		"second template":                       {"fields: {code: {template: ['${a}/${b}', '${b}']}}", `{"b":"y"}`, "code", "y"},
		"around the record":                     {"each: l.m\nfields: {host: h, service: s}", `{"h":"far","l":[{"h":"near","m":[{"s":"x"}]}]}`, "host", "near"},
		"own before around":                     {"each: l\nfields: {host: h}", `{"h":"far","l":[{"h":"own"}]}`, "host", "own"},
		"one object is a record":                {"each: [x, l]\nfields: {host: h}", `{"l":{"h":"own"}}`, "host", "own"},
		"no array":                              {"each: l\nfields: {host: h}", `{"h":"own"}`, "host", "own"},
		"attributes":                            {"attributes: a\nfields: {host: a.x.y}", `{"a":[{"key":"z","value":1},{"key":"x.y","value":{"stringValue":"v"}}]}`, "host", "v"},
		"names and values":                      {"attributes: a\nfields: {host: a.x}", `{"a":[{"Name":"x","Value":"v"}]}`, "host", "v"},
		"list of attributes":                    {"attributes: a\nfields: {host: a.x.k}", `{"a":[{"key":"x","value":{"kvlistValue":{"values":[{"key":"k","value":{"intValue":"7"}}]}}}]}`, "host", "7"},
		"array of attributes":                   {"attributes: a\nfields: {host: a.x}", `{"a":[{"key":"x","value":{"arrayValue":{"values":[{"stringValue":"v"}]}}}]}`, "host", "v"},
		"other list":                            {"attributes: a\nfields: {host: a.b}", `{"a":[{"b":"v"}]}`, "host", "v"},
		"pairs":                                 {"pairs: a\nfields: {host: a.h, service: a.s, reason: a}", `{"a":"s=x y, h=\"v, w\", t=1"}`, "host", "v, w"},
		"pairs without quotes":                  {"pairs: a\nfields: {host: a.h}", `{"a":"s=1, h=x, y z, t=1"}`, "host", "x, y z"},
		"pairs with escapes":                    {"pairs: a\nfields: {host: a.h}", `{"a":"h=\"x\\\"y\""}`, "host", `x"y`},
		"pair given twice":                      {"pairs: a\nfields: {host: a.h}", `{"a":"h=x, u=1, h=y"}`, "host", "x"},
		"pairs in quotes that do not end":       {"pairs: a\nfields: {host: a.h}", `{"a":"h=\"x, b=1"}`, "host", `"x`},
		"wrapped text":                          {"format: mixed\nwrapped: log\nline: '^(?P<h>\\w+) up$'\nfields: {host: h}", `{"log":"web up","h":"json"}`, "host", "web"},
		"wrapped other text":                    {"format: mixed\nwrapped: log\nline: '^(?P<h>\\w+) up$'\nfields: {host: h}", `{"log":"web down","h":"json"}`, "host", "json"},
		"text where JSON may be":                {"format: mixed\nline: '^(?P<h>\\w+) up$'\nfields: {host: h}", "web up", "host", "web"},
		"address with a port":                   {"fields: {source_ip: a}", `{"a":"10.0.0.1:80"}`, "source_ip", "10.0.0.1"},
		"address in brackets":                   {"fields: {source_ip: a}", `{"a":"[2001:db8::1]:80"}`, "source_ip", "2001:db8::1"},
		"absolute endpoint":                     {"fields: {endpoint: a}", `{"a":"https://u:p@h:1/x/y"}`, "endpoint", "/x/y"},
		"endpoint of a host":                    {"fields: {endpoint: a}", `{"a":"https://h"}`, "endpoint", "/"},
		"endpoint with an address in its query": {"fields: {endpoint: a}", `{"a":"/x?u=http://h/y"}`, "endpoint", "/x?u=http://h/y"},
		"one of two fields":                     {"cases:\n- {name: hit, type: heartbeat, when: [{field: [b, a], equals: x}], fields: {host: {value: hit}}}\n- {name: miss, type: heartbeat, fields: {host: {value: miss}}}", `{"a":"x","b":"y"}`, "host", "hit"},
		"one of an array":                       {conditional("equals: x"), `{"a":["w","x"]}`, "host", "hit"},
		"none of an array":                      {conditional("equals: x, not: true"), `{"a":["w","x"]}`, "host", "miss"},
		"nothing exists":                        {conditional("exists: false"), `{"b":1}`, "host", "hit"},
		"clf":                                   {"fields: {sent_at: {from: a, time: clf}}", `{"a":"01/Jan/2026:01:00:00 +0100"}`, "sent_at", "2026-01-01T00:00:00Z"},
		"status":                                {"fields: {status: a}", `{"a":"404"}`, "status", "404"},
		"fingerprint":                           {"fields: {key_id: {from: a, fingerprint: true}}", `{"a":"secret"}`, "key_id", event.Fingerprint(options.Key, "secret")},
		"lenient":                               {"fields: {source_ip: {from: a, lenient: true}}", `{"a":"somewhere"}`, "source_ip", ""},
		"long text is cut":                      {"fields: {reason: a}", `{"a":"` + strings.Repeat("é", 600) + `"}`, "reason", strings.Repeat("é", 512)},
		"case wins":                             {"fields: {host: a}\ncases: [{name: a, type: heartbeat, fields: {host: b}}]", `{"a":"x","b":"y"}`, "host", "y"},
		"equals":                                {conditional("equals: x"), `{"a":"x"}`, "host", "hit"},
		"in":                                    {conditional("in: [w, x]"), `{"a":"x"}`, "host", "hit"},
		"prefix":                                {conditional("prefix: x"), `{"a":"xyz"}`, "host", "hit"},
		"suffix":                                {conditional("suffix: z"), `{"a":"xyz"}`, "host", "hit"},
		"contains":                              {conditional("contains: y"), `{"a":"xyz"}`, "host", "hit"},
		"regex":                                 {conditional("regex: '^x.z$'"), `{"a":"xyz"}`, "host", "hit"},
		"exists":                                {conditional("exists: true"), `{"a":{"b":1}}`, "host", "hit"},
		"null does not exist":                   {conditional("exists: true"), `{"a":null}`, "host", "miss"},
		"not":                                   {conditional("equals: x, not: true"), `{"a":"y"}`, "host", "hit"},
		"not of nothing":                        {conditional("equals: x, not: true"), `{}`, "host", "hit"},
		"equals misses":                         {conditional("equals: x"), `{"a":"xy"}`, "host", "miss"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := head + tc.yaml
			if strings.HasPrefix(tc.yaml, "format:") {
				text = "mapping: m\n" + tc.yaml
			}
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
