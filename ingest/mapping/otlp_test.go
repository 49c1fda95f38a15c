package mapping_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/mapping"
)

// wire writes an export request in protobuf from its JSON, by the field numbers of
// opentelemetry-proto.
type wire struct{ t testing.TB }

func (w wire) bytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func (w wire) text(b []byte, n protowire.Number, v any) []byte {
	if s, ok := v.(string); ok {
		return w.bytes(b, n, []byte(s))
	}
	return b
}

func (w wire) fixed(b []byte, n protowire.Number, v any) []byte {
	if number, ok := v.(json.Number); ok {
		v = string(number)
	}
	if s, ok := v.(string); ok {
		u, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), u)
	}
	return b
}

func (w wire) list(b []byte, n protowire.Number, v any, one func(map[string]any) []byte) []byte {
	members, _ := v.([]any)
	for _, m := range members {
		if object, ok := m.(map[string]any); ok { // protobuf can write no other
			b = w.bytes(b, n, one(object))
		}
	}
	return b
}

func (w wire) request(v map[string]any) []byte {
	return w.list(nil, 1, v["resourceLogs"], w.resourceLogs)
}

func (w wire) resourceLogs(v map[string]any) []byte {
	var b []byte
	if r, ok := v["resource"].(map[string]any); ok {
		b = w.bytes(b, 1, w.list(nil, 1, r["attributes"], w.keyValue))
	}
	return w.list(b, 2, v["scopeLogs"], w.scopeLogs)
}

func (w wire) scopeLogs(v map[string]any) []byte {
	var b []byte
	if s, ok := v["scope"].(map[string]any); ok {
		b = w.bytes(b, 1, w.list(w.text(w.text(nil, 1, s["name"]), 2, s["version"]), 3, s["attributes"], w.keyValue))
	}
	return w.list(b, 2, v["logRecords"], w.logRecord)
}

func (w wire) logRecord(v map[string]any) []byte {
	b := w.fixed(nil, 1, v["timeUnixNano"])
	b = w.fixed(w.text(b, 3, v["severityText"]), 11, v["observedTimeUnixNano"])
	if body, ok := v["body"].(map[string]any); ok {
		b = w.bytes(b, 5, w.anyValue(body))
	}
	b = w.list(b, 6, v["attributes"], w.keyValue)
	if id, ok := v["traceId"].(string); ok {
		raw, err := hex.DecodeString(id)
		if err != nil {
			w.t.Fatal(err)
		}
		b = w.bytes(b, 9, raw)
	}
	return w.text(b, 12, v["eventName"])
}

func (w wire) keyValue(v map[string]any) []byte {
	b := w.text(nil, 1, v["key"])
	if value, ok := v["value"].(map[string]any); ok {
		b = w.bytes(b, 2, w.anyValue(value))
	}
	return b
}

func (w wire) anyValue(v map[string]any) []byte {
	for kind, inner := range v {
		switch kind {
		case "stringValue":
			return w.text(nil, 1, inner)
		case "boolValue":
			return protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), protowire.EncodeBool(inner.(bool)))
		case "intValue":
			n, err := strconv.ParseInt(strings.Trim(string(must(json.Marshal(inner))), `"`), 10, 64)
			if err != nil {
				w.t.Fatal(err)
			}
			return protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), uint64(n))
		case "arrayValue":
			return w.bytes(nil, 5, w.list(nil, 1, inner.(map[string]any)["values"], w.anyValue))
		case "kvlistValue":
			return w.bytes(nil, 6, w.list(nil, 1, inner.(map[string]any)["values"], w.keyValue))
		case "bytesValue":
			return w.bytes(nil, 7, must(base64.StdEncoding.DecodeString(inner.(string))))
		}
	}
	return nil
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// mappedTo is what a record became.
type mappedTo struct {
	Events []event.Event
	Errors []string
}

func mapTo(run func(mapping.Emit)) (out mappedTo) {
	run(func(_ int32, e *event.Event, err error) {
		if err != nil {
			out.Errors = append(out.Errors, err.Error())
			return
		}
		out.Events = append(out.Events, e.Clone())
	})
	return out
}

var sameEvents = cmp.Options{cmpopts.EquateComparable(event.Event{})}

// TestOTLPInProtobuf: a request in protobuf becomes the same events as its JSON, by
// name and by content.
func TestOTLPInProtobuf(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/samples/otlp.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = append(lines, `{"resourceLogs":[{"resource":{},"scopeLogs":[{"scope":{"name":"a","version":"1"},"logRecords":[{"timeUnixNano":"1772366400000000000","traceId":"0102","body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"boolValue":true},{"intValue":"-5"},{"bytesValue":"AAE="}]}}}]}}},{"observedTimeUnixNano":"1772366400000000000"}]}]}]}`)
	sub, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		t.Fatal(err)
	}
	set, err := mapping.LoadSet(sub)
	if err != nil {
		t.Fatal(err)
	}
	m, compared := shipped(t, "otlp"), 0
	for _, line := range lines {
		var v map[string]any
		line = strings.ReplaceAll(line, `"later"`, `"1772366400000000001"`) // protobuf cannot write such a time
		dec := json.NewDecoder(strings.NewReader(line))
		dec.UseNumber()
		if dec.Decode(&v) != nil {
			continue
		}
		binary := wire{t}.request(v)
		if len(binary) == 0 {
			continue // without records
		}
		compared++
		want := mapTo(func(e mapping.Emit) { m.Map([]byte(line), options, e) })
		got := mapTo(func(e mapping.Emit) { m.Map(binary, options, e) })
		if diff := cmp.Diff(want.Events, got.Events, sameEvents); diff != "" || len(want.Events) == 0 {
			t.Errorf("%.80s: %s", line, diff)
		}
		choice, err := set.Choose(binary, options)
		if err != nil {
			t.Errorf("%.80s: not recognised: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want.Events, mapTo(func(e mapping.Emit) { choice.Map(options, e) }).Events, sameEvents); diff != "" {
			t.Errorf("by content: %s", diff)
		}
		for cut := 1; cut < len(binary); cut += 7 { // half a record is none; a message may end after any of its parts
			if half := mapTo(func(e mapping.Emit) { m.Map(binary[:cut], options, e) }); len(half.Events) >= len(want.Events) {
				t.Errorf("cut at %d of %d: %d events", cut, len(binary), len(half.Events))
			}
		}
	}
	if compared < 2 {
		t.Errorf("only %d samples were compared", compared)
	}
	if out := mapTo(func(e mapping.Emit) { m.Map([]byte("\n"+lines[0]), options, e) }); len(out.Events) == 0 {
		t.Errorf("JSON after a line end: %v", out.Errors)
	}
}

// TestHostileProtobuf: what is too much, or no OTLP, is refused by name.
func TestHostileProtobuf(t *testing.T) {
	t.Parallel()
	w := wire{t}
	deep := []byte{}
	for range 200 {
		deep = w.bytes(nil, 5, w.bytes(nil, 1, deep))
	}
	many := []byte{}
	for range 200_000 {
		many = append(many, 6<<3|2, 0)
	}
	record := func(b []byte) []byte { return w.bytes(nil, 1, w.bytes(nil, 2, w.bytes(nil, 2, b))) }
	for name, tc := range map[string]struct {
		value []byte
		want  string
	}{
		"deep":       {record(w.bytes(nil, 5, deep)), "too_deep"},
		"many":       {record(many), "too_large"},
		"large":      {record(make([]byte, 2<<20)), "too_large"},
		"cut off":    {[]byte{0x0a, 0x7f, 1}, "bad_json"},
		"wrong type": {w.bytes(nil, 1, protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 7)), "wrong_type"},
		"empty":      {w.bytes(nil, 1, nil), "empty"},
	} {
		out := mapTo(func(e mapping.Emit) { shipped(t, "otlp").Map(tc.value, options, e) })
		if len(out.Events) > 0 || len(out.Errors) != 1 || !strings.Contains(strings.ToLower(strings.ReplaceAll(out.Errors[0], " ", "_")), tc.want) {
			t.Errorf("%s: %d events, %v, want %s", name, len(out.Events), out.Errors, tc.want)
		}
	}
}

// FuzzOTLP: any bytes become valid events or errors, and at least one.
func FuzzOTLP(f *testing.F) {
	text, err := os.ReadFile("testdata/samples/otlp.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var v map[string]any
		if json.Unmarshal([]byte(line), &v) == nil && !strings.Contains(line, `"later"`) {
			f.Add(wire{f}.request(v))
		}
	}
	m := shipped(f, "otlp")
	f.Fuzz(func(t *testing.T, value []byte) {
		out := mapTo(func(e mapping.Emit) { m.Map(value, options, e) })
		if len(out.Events)+len(out.Errors) == 0 {
			t.Fatal("nothing came of it")
		}
		for i := range out.Events {
			var back event.Event
			if err := event.Decode(event.Append(nil, &out.Events[i]), event.Limits{MaxBytes: 1 << 20}, &back); err != nil {
				t.Fatalf("no event: %v", err)
			}
		}
	})
}
