package mapping

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/keysentry/keysentry/event"
)

// maxOTLPValues bounds what one message in protobuf may become: an empty attribute
// takes two bytes there and an object here.
const maxOTLPValues = 100_000

// otlpBinary reports whether value begins like an export request in protobuf: field 1,
// with a length.
func otlpBinary(value []byte) bool {
	return len(value) > 0 && value[0] == 1<<3|byte(protowire.BytesType)
}

// parseOTLP reads an ExportLogsServiceRequest or LogsData in protobuf, which are the
// same, into what its JSON would be parsed to (opentelemetry-proto: logs/v1, common/v1,
// resource/v1). Fields that it does not know are passed over, as protobuf wants.
func parseOTLP(value []byte, o Options) (map[string]any, error) {
	if len(value) > o.MaxBytes {
		return nil, &event.DecodeError{Problem: event.ProblemTooLarge, Detail: "more than " + strconv.Itoa(o.MaxBytes) + " bytes"}
	}
	d := &otlp{left: maxOTLPValues}
	root := d.message(value, 1, func(root map[string]any, f otlpField) {
		if f.n == 1 {
			d.append(root, "resourceLogs", d.resourceLogs(f.bytes(d), 2))
		}
	})
	if d.err != nil {
		return nil, d.err
	}
	return root, nil
}

// otlp reads a message; its first fault ends it.
type otlp struct {
	left int
	err  error
}

func (d *otlp) fail(p event.Problem, detail string) {
	if d.err == nil {
		d.err = &event.DecodeError{Problem: p, Detail: detail}
	}
}

// otlpField is one field of a message.
type otlpField struct {
	n    protowire.Number
	wire protowire.Type
	v    []byte // of bytes
	u    uint64 // of the others
}

// bytes is the field as bytes, which it has to be.
func (f otlpField) bytes(d *otlp) []byte {
	if f.wire != protowire.BytesType {
		d.fail(event.ProblemWrongType, "field "+strconv.Itoa(int(f.n))+" of a message in protobuf has another type than OTLP gives it")
	}
	return f.v
}

func (f otlpField) text(d *otlp) string { return strings.ToValidUTF8(string(f.bytes(d)), "\uFFFD") }

// number is the field as a number of the wire type, which it has to be.
func (f otlpField) number(d *otlp, wire protowire.Type) uint64 {
	if f.wire != wire {
		d.fail(event.ProblemWrongType, "field "+strconv.Itoa(int(f.n))+" of a message in protobuf has another type than OTLP gives it")
	}
	return f.u
}

// message reads the fields of a message into a new object.
func (d *otlp) message(b []byte, depth int, field func(out map[string]any, f otlpField)) map[string]any {
	if depth > maxRecordDepth {
		d.fail(event.ProblemTooDeep, "nested too deep")
	}
	if d.left--; d.left < 0 {
		d.fail(event.ProblemTooLarge, "more than "+strconv.Itoa(maxOTLPValues)+" values in one message")
	}
	out := map[string]any{}
	for len(b) > 0 && d.err == nil {
		n, wire, size := protowire.ConsumeTag(b)
		if size < 0 {
			d.fail(event.ProblemBadJSON, "neither JSON nor OTLP in protobuf")
			break
		}
		b = b[size:]
		f := otlpField{n: n, wire: wire}
		switch wire {
		case protowire.VarintType:
			f.u, size = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.u, size = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.v, size = protowire.ConsumeBytes(b)
		default:
			size = protowire.ConsumeFieldValue(n, wire, b)
		}
		if size < 0 {
			d.fail(event.ProblemBadJSON, "neither JSON nor OTLP in protobuf")
			break
		}
		b = b[size:]
		field(out, f)
	}
	return out
}

func (d *otlp) append(out map[string]any, name string, v any) {
	list, _ := out[name].([]any)
	out[name] = append(list, v)
}

func (d *otlp) resourceLogs(b []byte, depth int) any {
	return d.message(b, depth, func(out map[string]any, f otlpField) {
		switch f.n {
		case 1:
			out["resource"] = d.attributes(f.bytes(d), depth+1, 1)
		case 2:
			d.append(out, "scopeLogs", d.scopeLogs(f.bytes(d), depth+1))
		case 3:
			out["schemaUrl"] = f.text(d)
		}
	})
}

// attributes reads a message of which the attributes, field n, matter, and of a scope
// name and version, which stand before them.
func (d *otlp) attributes(b []byte, depth int, n protowire.Number) any {
	return d.message(b, depth, func(out map[string]any, f otlpField) {
		switch {
		case f.n == n:
			d.append(out, "attributes", d.keyValue(f.bytes(d), depth+1))
		case f.n < n && f.n == 1:
			out["name"] = f.text(d)
		case f.n < n && f.n == 2:
			out["version"] = f.text(d)
		}
	})
}

func (d *otlp) scopeLogs(b []byte, depth int) any {
	return d.message(b, depth, func(out map[string]any, f otlpField) {
		switch f.n {
		case 1:
			out["scope"] = d.attributes(f.bytes(d), depth+1, 3)
		case 2:
			d.append(out, "logRecords", d.logRecord(f.bytes(d), depth+1))
		case 3:
			out["schemaUrl"] = f.text(d)
		}
	})
}

func (d *otlp) logRecord(b []byte, depth int) any {
	return d.message(b, depth, func(out map[string]any, f otlpField) {
		switch f.n {
		case 1:
			out["timeUnixNano"] = strconv.FormatUint(f.number(d, protowire.Fixed64Type), 10)
		case 2:
			out["severityNumber"] = strconv.FormatUint(f.number(d, protowire.VarintType), 10)
		case 3:
			out["severityText"] = f.text(d)
		case 5:
			out["body"] = d.anyValue(f.bytes(d), depth+1)
		case 6:
			d.append(out, "attributes", d.keyValue(f.bytes(d), depth+1))
		case 9:
			out["traceId"] = hex.EncodeToString(f.bytes(d))
		case 10:
			out["spanId"] = hex.EncodeToString(f.bytes(d))
		case 11:
			out["observedTimeUnixNano"] = strconv.FormatUint(f.number(d, protowire.Fixed64Type), 10)
		case 12:
			out["eventName"] = f.text(d)
		}
	})
}

func (d *otlp) keyValue(b []byte, depth int) any {
	return d.message(b, depth, func(out map[string]any, f otlpField) {
		switch f.n {
		case 1:
			out["key"] = f.text(d)
		case 2:
			out["value"] = d.anyValue(f.bytes(d), depth+1)
		}
	})
}

func (d *otlp) anyValue(b []byte, depth int) any {
	return d.message(b, depth, func(out map[string]any, f otlpField) {
		if f.n >= 1 && f.n <= 7 {
			clear(out) // of a choice the last counts
		}
		switch f.n {
		case 1:
			out["stringValue"] = f.text(d)
		case 2:
			out["boolValue"] = f.number(d, protowire.VarintType) != 0
		case 3:
			out["intValue"] = strconv.FormatInt(int64(f.number(d, protowire.VarintType)), 10)
		case 4:
			out["doubleValue"] = strconv.FormatFloat(math.Float64frombits(f.number(d, protowire.Fixed64Type)), 'g', -1, 64)
		case 5:
			out["arrayValue"] = d.values(f.bytes(d), depth+1, d.anyValue)
		case 6:
			out["kvlistValue"] = d.values(f.bytes(d), depth+1, d.keyValue)
		case 7:
			out["bytesValue"] = base64.StdEncoding.EncodeToString(f.bytes(d))
		}
	})
}

func (d *otlp) values(b []byte, depth int, one func([]byte, int) any) any {
	return d.message(b, depth, func(out map[string]any, f otlpField) {
		if f.n == 1 {
			d.append(out, "values", one(f.bytes(d), depth+1))
		}
	})
}
