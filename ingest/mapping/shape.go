package mapping

import (
	"strings"

	"github.com/keysentry/keysentry/event"
)

// records calls visit for every record of a message, with the objects around it,
// until it returns false. Without records it is not called.
func (m *Mapping) records(root map[string]any, visit func(levels []any, err error) bool) {
	for _, steps := range m.each {
		if v := root[steps[0]]; v != nil {
			descend(root, steps, nil, visit)
			return
		}
	}
	visit([]any{root}, nil)
}

// descend follows the steps to the records. outer holds the objects on the way,
// the nearest first. It returns false when visit did.
func descend(v any, steps []string, outer []any, visit func(levels []any, err error) bool) bool {
	switch v := v.(type) {
	case []any:
		for _, m := range v {
			if !descend(m, steps, outer, visit) {
				return false
			}
		}
		return true
	case map[string]any:
		levels := append([]any{v}, outer...)
		if len(steps) == 0 {
			return visit(levels, nil)
		}
		return v[steps[0]] == nil || descend(v[steps[0]], steps[1:], levels, visit)
	}
	return visit(nil, &event.DecodeError{Problem: event.ProblemNotObject, Detail: "a member of the array of records is no object"})
}

// unfold rewrites, in place, the lists of keys and values at the paths.
func unfold(v any, steps []string) any {
	if len(steps) == 0 {
		return plain(v)
	}
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = unfold(v[i], steps)
		}
	case map[string]any:
		if c, ok := v[steps[0]]; ok {
			v[steps[0]] = unfold(c, steps[1:])
		}
	}
	return v
}

// plain turns a list of keys and values into an object, and a value that
// OpenTelemetry wraps by its type into the value itself (opentelemetry-proto,
// common/v1: AnyValue and KeyValue).
func plain(v any) any {
	switch v := v.(type) {
	case []any:
		out := map[string]any{}
		for _, member := range v {
			key, value, ok := keyValue(member)
			if !ok {
				return v
			}
			if _, twice := out[key]; !twice {
				out[key] = plain(value)
			}
		}
		return out
	case map[string]any:
		if len(v) != 1 {
			return v
		}
		for kind, inner := range v {
			return typed(kind, inner, v)
		}
	}
	return v
}

func keyValue(member any) (key string, value any, ok bool) {
	m, isMap := member.(map[string]any)
	if !isMap {
		return "", nil, false
	}
	for _, k := range []string{"key", "name", "Key", "Name"} {
		if key, ok = m[k].(string); ok {
			break
		}
	}
	value = m["value"]
	if value == nil {
		value = m["Value"]
	}
	return key, value, ok
}

// typed is the value inside a wrapper with one member; otherwise is the wrapper.
func typed(kind string, inner any, otherwise any) any {
	switch kind {
	case "stringValue", "boolValue", "intValue", "doubleValue", "bytesValue":
		return inner
	case "arrayValue", "kvlistValue":
		m, ok := inner.(map[string]any)
		if !ok {
			return otherwise
		}
		values, ok := m["values"].([]any)
		if !ok {
			return otherwise
		}
		if kind == "kvlistValue" {
			return plain(values)
		}
		out := make([]any, len(values))
		for i := range values {
			out[i] = plain(values[i])
		}
		return out
	}
	return otherwise
}

// parsePairs reads key=value, key="value", ... . A value ends where a comma, a
// space and another key follow, or with its closing quote; a backslash in quotes
// escapes. Of a key given twice the first counts: what a caller may choose stands
// later in such lines than what the server knows.
func parsePairs(text string) map[string]any {
	out := map[string]any{}
	for text != "" {
		key, rest, ok := pairKey(text)
		if !ok {
			break
		}
		var value string
		if value, text, ok = quoted(rest); !ok {
			end := len(rest)
			for i := 0; i+1 < len(rest); i++ {
				if rest[i] == ',' && rest[i+1] == ' ' {
					if _, _, next := pairKey(rest[i+2:]); next {
						end = i
						break
					}
				}
			}
			value, text = rest[:end], rest[end:]
		}
		text = strings.TrimPrefix(text, ", ")
		if _, twice := out[key]; !twice {
			out[key] = value
		}
	}
	return out
}

// pairKey reads a name and the equals sign after it.
func pairKey(text string) (key, rest string, ok bool) {
	for i := 0; i < len(text) && i < 64; i++ {
		c := text[i]
		switch {
		case c == '=':
			return text[:i], text[i+1:], i > 0
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '.':
		default:
			return "", "", false
		}
	}
	return "", "", false
}

// quoted reads a text in double quotes that ends before a comma or the end.
func quoted(text string) (value, rest string, ok bool) {
	if text == "" || text[0] != '"' {
		return "", text, false
	}
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case c == '"':
			rest = text[i+1:]
			return out.String(), rest, rest == "" || strings.HasPrefix(rest, ", ")
		default:
			out.WriteByte(c)
		}
	}
	return "", text, false
}
