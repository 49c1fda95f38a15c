package cloudevents_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/cloudevents"
	"github.com/keysentry/keysentry/internal/published"
)

// h makes headers of names and values in turn.
func h(pairs ...string) []cloudevents.Header {
	var out []cloudevents.Header
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, cloudevents.Header{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return out
}

// attributes are the headers of an ordinary event in the binary mode.
func attributes(more ...string) []cloudevents.Header {
	return append(h("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_type", "t"), h(more...)...)
}

const required = `"specversion":"1.0","id":"1","source":"/s","type":"t"`

type opened struct {
	id, kind, time, data string
	problem              event.Problem
}

func open(value []byte, headers []cloudevents.Header) []opened {
	var out []opened
	cloudevents.Open(value, headers, 4096, func(env cloudevents.Envelope, err error) {
		o := opened{env.ID, env.Type, env.Time, string(env.Data), 0}
		var de *event.DecodeError
		if errors.As(err, &de) {
			o.problem = de.Problem
		}
		out = append(out, o)
	})
	return out
}

func TestOpen(t *testing.T) {
	t.Parallel()
	one := func(data string) []opened { return []opened{{id: "1", kind: "t", data: data}} }
	bad := []opened{{problem: event.ProblemBadEnvelope}}
	empty := []opened{{problem: event.ProblemEmpty}}
	structured := h("content-type", "application/cloudevents+json; charset=utf-8")
	for name, tc := range map[string]struct {
		value   string
		headers []cloudevents.Header
		want    []opened
	}{
		"binary":                    {`{"a":1}`, attributes("ce_time", "2026-03-01T00:00:00Z", "ce_other", "x"), []opened{{"1", "t", "2026-03-01T00:00:00Z", `{"a":1}`, 0}}},
		"binary of JSON":            {`{"a":1}`, attributes("content-type", "application/json"), one(`{"a":1}`)},
		"binary of text":            {`line`, attributes("content-type", "text/plain; charset=utf-8"), one(`line`)},
		"binary of Avro":            {`x`, attributes("content-type", "application/avro"), bad},
		"binary of an odd type":     {`x`, attributes("content-type", "/"), bad},
		"binary tombstone":          {``, attributes(), empty},
		"binary of another version": {`{}`, attributes("ce_specversion", "0.3"), bad},
		"binary without an id":      {`{}`, h("ce_specversion", "1.0", "ce_source", "/s", "ce_type", "t"), bad},
		"binary without a version":  {`{}`, h("ce_id", "1", "ce_source", "/s", "ce_type", "t"), bad},
		"structured":                {`{` + required + `,"data":{"a":1}}`, structured, one(`{"a":1}`)},
		"structured by content":     {` {"x":{"specversion":2},` + required + `,"data":{"a":1}}`, nil, one(`{"a":1}`)},
		"structured wins":           {`{` + required + `,"data":{"a":1}}`, append(attributes("ce_id", "2"), structured...), one(`{"a":1}`)},
		"null attributes":           {`{` + required + `,"time":null,"subject":null,"data":7}`, nil, one(`7`)},
		"data of text":              {`{` + required + `,"datacontenttype":"text/plain","data":"a\nb"}`, nil, one("a\nb")},
		"data of XML":               {`{` + required + `,"datacontenttype":"text/xml","data":"<a/>"}`, nil, one("<a/>")},
		"data in base64":            {`{` + required + `,"data_base64":"eyJhIjoxfQ=="}`, nil, one(`{"a":1}`)},
		"data in bad base64":        {`{` + required + `,"data_base64":"?"}`, nil, bad},
		"data in empty base64":      {`{` + required + `,"data_base64":""}`, nil, empty},
		"data in both forms":        {`{` + required + `,"data":1,"data_base64":"YQ=="}`, nil, bad},
		"data of Thrift":            {`{` + required + `,"datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"YQ=="}`, nil, bad},
		"base64 is a number":        {`{` + required + `,"data_base64":1}`, nil, bad},
		"no data":                   {`{` + required + `}`, nil, empty},
		"null data":                 {`{` + required + `,"data":null}`, nil, empty},
		"tombstone":                 {``, structured, empty},
		"version 0.3":               {`{"specversion":"0.3","id":"1","source":"/s","type":"t","data":{}}`, nil, bad},
		"version is a number":       {`{"specversion":1.0,"id":"1","source":"/s","type":"t","data":{}}`, nil, bad},
		"no source":                 {`{"specversion":"1.0","id":"1","type":"t","data":{}}`, nil, bad},
		"empty type":                {`{"specversion":"1.0","id":"1","source":"/s","type":"","data":{}}`, nil, bad},
		"id is null":                {`{"specversion":"1.0","id":null,"source":"/s","type":"t","data":{}}`, nil, bad},
		"header says so, value no":  {`{}`, structured, bad},
		"an array where one is due": {`[]`, structured, bad},
		"null where one is due":     {`null`, structured, bad},
		"broken":                    {`{` + required, structured, []opened{{problem: event.ProblemBadJSON}}},
		"too large":                 {`{` + required + `,"data":"` + strings.Repeat("x", 5000) + `"}`, nil, []opened{{problem: event.ProblemTooLarge}}},
		"too deep":                  {`{` + required + `,"data":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, structured, []opened{{problem: event.ProblemTooLarge}}},
		"format Avro":               {`x`, h("content-type", "application/cloudevents+avro"), bad},
		"batch": {`[{` + required + `,"data":{"a":1}},{},7,{` + required + `,"data":{"a":2}}]`, h("content-type", "application/cloudevents-batch+json"),
			[]opened{one(`{"a":1}`)[0], bad[0], bad[0], one(`{"a":2}`)[0]}},
		"batch by content":     {`[{` + required + `,"data":1}]`, nil, one(`1`)},
		"batch of none":        {`[]`, h("content-type", "application/cloudevents-batch+json"), empty},
		"batch that is none":   {`{}`, h("content-type", "application/cloudevents-batch+json"), bad},
		"broken batch":         {`[{`, h("content-type", "application/cloudevents-batch+json"), []opened{{problem: event.ProblemBadJSON}}},
		"a tombstone in batch": {`[{` + required + `}]`, nil, empty},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !cloudevents.Is([]byte(tc.value), tc.headers) {
				t.Fatal("not seen to be a CloudEvent")
			}
			if d := cmp.Diff(tc.want, open([]byte(tc.value), tc.headers), cmp.AllowUnexported(opened{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestIsNot: a record that only mentions the word is left alone.
func TestIsNot(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value   string
		headers []cloudevents.Header
	}{
		"canonical event":   {`{"type":"heartbeat","time":"2026-03-01T00:00:00Z"}`, nil},
		"word in a text":    {`{"reason":"\"specversion\""}`, nil},
		"word as a value":   {`{"reason":"specversion"}`, nil},
		"word further down": {`{"a":{"specversion":"1.0"}}`, nil},
		"word in a list":    {`["specversion"]`, nil},
		"other headers":     {`{}`, h("content-type", "application/json", "ce", "x", "traceparent", "y")},
		"nothing":           {``, nil},
		"cut":               {`{"a":[1,"specversion`, nil},
		"odd content type":  {`{}`, h("content-type", ";;")},
	} {
		if cloudevents.Is([]byte(tc.value), tc.headers) {
			t.Errorf("%s: taken for a CloudEvent", name)
		}
		if got := open([]byte(tc.value), tc.headers); len(got) != 1 || got[0].problem != event.ProblemBadEnvelope {
			t.Errorf("%s: opened: %v", name, got)
		}
	}
}

// TestPublishedSamples: the examples of the specification open, but for the data
// that is no record of ours.
func TestPublishedSamples(t *testing.T) {
	t.Parallel()
	read := func(name string) string { return string(published.Read(t, "formats/cloudevents/"+name)) }
	good, bad := 0, 0
	for _, l := range strings.Split(strings.TrimSpace(read("samples.ndjson")), "\n") {
		for _, o := range open([]byte(l), nil) {
			if o.problem == 0 && o.id != "" && o.data != "" {
				good++
			} else {
				bad++
			}
		}
	}
	// One holds Thrift, which nobody here reads.
	if good != 12 || bad != 1 {
		t.Errorf("%d opened, %d refused, want 12 and 1", good, bad)
	}
	// Of the two events in the batch the first holds Thrift.
	got := open([]byte(read("batch.json")), nil)
	if len(got) != 2 || got[0].problem != event.ProblemBadEnvelope || got[1].problem != 0 || got[1].id == "" || got[1].time == "" || !json.Valid([]byte(got[1].data)) {
		t.Errorf("the batch: %+v", got)
	}
	var headers []cloudevents.Header
	for _, l := range strings.Split(read("kafka-message-1.txt"), "\n") {
		if name, value, ok := strings.Cut(l, ": "); ok && (strings.HasPrefix(name, "ce_") || name == "content-type") {
			headers = append(headers, h(name, strings.Trim(value, `"`))...)
		}
	}
	if got := open([]byte("\x00\x01"), headers); len(headers) < 6 || len(got) != 1 || got[0].problem != event.ProblemBadEnvelope {
		t.Errorf("Avro in the binary mode: %v, %v", headers, got)
	}
}

// TestIsLooksEverywhere: the word is found wherever it stands, and only whole.
func TestIsLooksEverywhere(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		`{"specversion":"1.0"}`:                                  true,
		`{"v":"vvvv","vspecv":1,"specversion":"1.0"}`:            true,
		`{"id":"a","data":{"v":1},"type":"t","specversion":"1"}`: true,
		`{"id":"v","type":"v","specversio":"1.0"}`:               false,
		`{"x":{"specversion":"1.0"}}`:                            false,
		`vvvvvvvvvvvv`:                                           false,
		`"specv`:                                                 false,
		``:                                                       false,
	} {
		if got := cloudevents.Is([]byte(value), nil); got != want {
			t.Errorf("%s: %t, want %t", value, got, want)
		}
	}
}

// BenchmarkIs is what it costs to see that a canonical event is no CloudEvent.
func BenchmarkIs(b *testing.B) {
	value := []byte(`{"id":"s1-2","type":"auth_token.issued","time":"2026-01-05T00:00:00.001Z","sent_at":"2026-01-05T00:00:00.001Z","network":"demo","region":"eu","service":"chat-backend","host":"api-16","boot":"ae261128e81e18fa","seq":1,"user_id":"user-009839","auth_mode":"secure","key_id":"v1:7189b1c272917ba0dce76d62137d83bf","token_id":"v1:fbf1f304a3d5d115f4db2051299fcc4e","endpoint":"/api/v4/authentication/token","status":200,"source_ip":"10.20.0.15"}`)
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		if cloudevents.Is(value, nil) {
			b.Fatal("taken for a CloudEvent")
		}
	}
}
