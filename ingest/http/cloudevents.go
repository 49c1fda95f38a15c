package httpingest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keysentry/keysentry/ingest"
)

// headers are those of the records: none for plain events, the content type for
// structured CloudEvents, and for the binary mode the attributes too (Kafka binding
// of CloudEvents 1.0, sections 3.2 and 3.3). A batch is cut into structured events.
func (f format) headers(h http.Header) ([]ingest.Header, *answer) {
	switch f {
	case formatCloudEvent, formatCloudBatch:
		return []ingest.Header{{Key: "content-type", Value: []byte(typeCloudEvent + "; charset=UTF-8")}}, nil
	case formatCloudParts:
		return binaryHeaders(h)
	}
	return nil, nil
}

// binaryHeaders turns the ce- headers of a request into the ce_ headers of a record.
func binaryHeaders(h http.Header) ([]ingest.Header, *answer) {
	out := []ingest.Header{{Key: "content-type", Value: []byte(h.Get("Content-Type"))}}
	for name, values := range h {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok {
			continue
		}
		value, ok := attributeValue(values)
		if !ok || !attributeName(attribute) {
			return nil, refuse(http.StatusBadRequest, "a ce- header is no attribute of a CloudEvent: want a name of letters and digits, and one value in percent-encoded UTF-8")
		}
		out = append(out, ingest.Header{Key: "ce_" + attribute, Value: []byte(value)})
	}
	slices.SortFunc(out, func(a, b ingest.Header) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// attributeName: CloudEvents 1.0, section "Attribute Naming Convention".
func attributeName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// attributeValue decodes the value of a header: quotes first, then one round of
// percent-decoding (HTTP binding of CloudEvents 1.0, section 3.1.3.2).
func attributeValue(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	s := values[0]
	if strings.HasPrefix(s, `"`) {
		inner, ok := unquote(s)
		if !ok {
			return "", false
		}
		s = inner
	}
	s, err := url.PathUnescape(s)
	return s, err == nil && utf8.ValidString(s)
}

// unquote resolves a quoted-string of RFC 9110, section 5.6.4.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", false
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '"' {
			return "", false
		}
		if s[i] == '\\' {
			if i++; i == len(s)-1 {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}
