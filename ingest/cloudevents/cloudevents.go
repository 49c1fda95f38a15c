// Package cloudevents opens CloudEvents 1.0 envelopes in Kafka records, in the
// binary, the structured and the batched mode (CloudEvents 1.0.2, Kafka protocol
// binding and JSON event format). What is inside is for others to decode.
//
// An error means that nothing was opened, and holds no value of the record. The
// package does no input or output, keeps no state and is safe for concurrent use.
package cloudevents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"mime"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Envelope is one opened event. Of the attributes it keeps what a canonical event
// has a field for.
type Envelope struct {
	ID, Type string
	Time     string // RFC 3339, or empty
	Data     []byte
}

// Limits of a message.
const (
	maxDepth  = 64
	maxEvents = 10_000
)

const version = "1.0"

// mode is how an event stands in a record.
type mode uint8

const (
	modeNone mode = iota
	modeBinary
	modeStructured
	modeBatch
	modeForeign // structured, in a format that is not JSON
)

// specversion is the member that every event in JSON has.
var specversion = []byte(`"specversion"`)

// Is reports whether a record is a CloudEvent: by its headers, else by its
// content. It is cheap for records that are not.
func Is(value []byte, headers []Header) bool { return modeOf(value, headers) != modeNone }

func modeOf(value []byte, headers []Header) mode {
	attributes := false
	for i := range headers {
		switch headers[i].Key {
		case "content-type":
			if m := byContentType(string(headers[i].Value)); m != modeNone {
				return m
			}
		case "ce_specversion", "ce_id", "ce_source", "ce_type":
			attributes = true
		}
	}
	if attributes {
		return modeBinary
	}
	if !mentions(value) {
		return modeNone
	}
	return byContent(value)
}

// mentions reports whether value contains specversion. It looks for the rarest
// letter first, which takes a quarter of the time of bytes.Contains.
func mentions(value []byte) bool {
	const at = 5 // of the v
	for from := at; from < len(value); from++ {
		i := bytes.IndexByte(value[from:], 'v')
		if i < 0 {
			return false
		}
		from += i
		if bytes.HasPrefix(value[from-at:], specversion) {
			return true
		}
	}
	return false
}

func byContentType(v string) mode {
	kind, _, err := mime.ParseMediaType(v)
	switch {
	case err != nil || !strings.HasPrefix(kind, "application/cloudevents"):
		return modeNone
	case kind == "application/cloudevents+json":
		return modeStructured
	case kind == "application/cloudevents-batch+json":
		return modeBatch
	}
	return modeForeign
}

// byContent tells an event from a record that only mentions the word: the member
// must stand in the object itself, or in the first one of an array.
func byContent(value []byte) mode {
	dec := json.NewDecoder(bytes.NewReader(value))
	first, err := dec.Token()
	out := modeStructured
	if err == nil && first == json.Delim('[') {
		out = modeBatch
		first, err = dec.Token()
	}
	if err != nil || first != json.Delim('{') {
		return modeNone
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return modeNone
		}
		if name == "specversion" {
			return out
		}
		var skipped json.RawMessage
		if dec.Decode(&skipped) != nil {
			return modeNone
		}
	}
	return modeNone
}

// Open calls emit for every event of a record, in order, with either an envelope
// or a *event.DecodeError. maxBytes bounds the record. The data may alias value.
func Open(value []byte, headers []Header, maxBytes int, emit func(Envelope, error)) {
	fail := func(err error) { emit(Envelope{}, err) }
	switch modeOf(value, headers) {
	case modeBinary:
		emit(binary(value, headers))
	case modeStructured:
		if err := check(value, maxBytes); err != nil {
			fail(err)
			return
		}
		emit(structured(value))
	case modeBatch:
		if err := check(value, maxBytes); err != nil {
			fail(err)
			return
		}
		batch(value, emit)
	case modeForeign:
		fail(bad("its event format is not JSON"))
	default:
		fail(bad("no CloudEvent"))
	}
}

func check(value []byte, maxBytes int) error {
	err := event.CheckJSON(value, event.Limits{MaxBytes: maxBytes, MaxDepth: maxDepth})
	if len(value) == 0 {
		return tombstone()
	}
	return err
}

func bad(detail string) error {
	return &event.DecodeError{Problem: event.ProblemBadEnvelope, Detail: detail}
}

func tombstone() error {
	return &event.DecodeError{Problem: event.ProblemEmpty, Detail: "a CloudEvents tombstone: attributes without data"}
}

// binary reads the attributes from the headers; the value is the data. Of a header
// given twice the last counts.
func binary(value []byte, headers []Header) (Envelope, error) {
	attributes := map[string]string{}
	contentType := ""
	for _, h := range headers {
		if name, ok := strings.CutPrefix(h.Key, "ce_"); ok {
			attributes[name] = string(h.Value)
		} else if h.Key == "content-type" {
			contentType = string(h.Value)
		}
	}
	e, err := envelope(attributes)
	switch {
	case err != nil:
		return Envelope{}, err
	case len(value) == 0:
		return Envelope{}, tombstone()
	case !readable(contentType):
		return Envelope{}, bad("its data is neither JSON nor text")
	}
	e.Data = value
	return e, nil
}

// envelope checks the attributes that every event has.
func envelope(attributes map[string]string) (Envelope, error) {
	switch {
	case attributes["specversion"] == "":
		return Envelope{}, bad("specversion is missing")
	case attributes["specversion"] != version:
		return Envelope{}, bad("specversion is not " + version)
	}
	for _, name := range []string{"id", "source", "type"} {
		if attributes[name] == "" {
			return Envelope{}, bad(name + " is missing")
		}
	}
	return Envelope{ID: attributes["id"], Type: attributes["type"], Time: attributes["time"]}, nil
}

// structured reads an event in the JSON format; the syntax was checked.
func structured(value []byte) (Envelope, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil || members == nil {
		return Envelope{}, bad("the envelope is no object")
	}
	attributes := map[string]string{}
	for _, name := range []string{"specversion", "id", "source", "type", "time", "datacontenttype"} {
		raw, ok := members[name]
		if !ok || string(raw) == "null" {
			continue
		}
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return Envelope{}, bad(name + " is no text")
		}
		attributes[name] = text
	}
	e, err := envelope(attributes)
	if err != nil {
		return Envelope{}, err
	}
	if !readable(attributes["datacontenttype"]) {
		return Envelope{}, bad("its data is neither JSON nor text")
	}
	e.Data, err = data(members)
	if err != nil {
		return Envelope{}, err
	}
	return e, nil
}

// data is the payload of a structured event. Of a text it is what the text says.
func data(members map[string]json.RawMessage) ([]byte, error) {
	raw, encoded := members["data"], members["data_base64"]
	if string(encoded) == "null" {
		encoded = nil
	}
	switch {
	case encoded != nil && raw != nil && string(raw) != "null":
		return nil, bad("it has both data and data_base64")
	case encoded != nil:
		var text string
		if err := json.Unmarshal(encoded, &text); err != nil {
			return nil, bad("data_base64 is no text")
		}
		out, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, bad("data_base64 is not base64")
		}
		if len(out) == 0 {
			return nil, tombstone()
		}
		return out, nil
	case raw == nil || string(raw) == "null":
		return nil, tombstone()
	case raw[0] == '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, bad("data is no text")
		}
		return []byte(text), nil
	}
	return raw, nil
}

// batch reads an array of events; a bad one costs only itself.
func batch(value []byte, emit func(Envelope, error)) {
	var members []json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil {
		emit(Envelope{}, bad("a batch is an array"))
		return
	}
	if len(members) == 0 {
		emit(Envelope{}, &event.DecodeError{Problem: event.ProblemEmpty, Detail: "a CloudEvents batch without events"})
	}
	for i, m := range members {
		if i == maxEvents {
			emit(Envelope{}, &event.DecodeError{Problem: event.ProblemTooLarge, Detail: "more than 10000 events in one message"})
			return
		}
		emit(structured(m))
	}
}

// readable reports whether data of the media type can be a record: JSON, text,
// bytes of an unknown kind, or not said.
func readable(contentType string) bool {
	if contentType == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	return kind == "application/json" || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "/json") ||
		strings.HasPrefix(kind, "text/") || kind == "application/octet-stream" || kind == "application/x-ndjson"
}
