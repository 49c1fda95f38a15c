package httpingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// Bounds of a request's events.
const (
	maxEvents = 10_000
	maxDepth  = 64
	maxFaults = 10 // told one by one
)

// part is the text of one event and where it begins in the body.
type part struct {
	text []byte
	at   int
}

// errTooMany says that a body holds more than maxEvents events.
var errTooMany = errors.New("too many events")

// split cuts a body into its events, without looking into them. A *Fault says that
// the body cannot be cut; nothing is returned with an error. The parts alias body.
func split(f format, body []byte) ([]part, error) {
	text, at := trim(body, 0)
	array := len(text) > 0 && text[0] == '['
	switch {
	case len(text) == 0:
		return nil, &Fault{Reason: ingest.ReasonEmpty, Detail: "there is no event in the body"}
	case f == formatLines:
		return splitLines(body)
	case f == formatCloudBatch && !array:
		return nil, &Fault{Position: at, Reason: ingest.ReasonBadJSON, Detail: "a batch is an array"}
	case array && (f == formatJSON || f == formatCloudBatch):
		return splitArray(body)
	}
	return []part{{text, at}}, nil
}

func splitLines(body []byte) ([]part, error) {
	var parts []part
	for at := 0; at < len(body); {
		line, _, _ := bytes.Cut(body[at:], []byte{'\n'})
		if text, begin := trim(line, at); len(text) > 0 {
			if len(parts) == maxEvents {
				return nil, errTooMany
			}
			parts = append(parts, part{text, begin})
		}
		at += len(line) + 1
	}
	return parts, nil
}

func splitArray(body []byte) ([]part, error) {
	var parts []part
	dec := json.NewDecoder(bytes.NewReader(body))
	broken := func() error {
		return &Fault{Index: len(parts), Position: breaksAt(body), Reason: ingest.ReasonBadJSON, Detail: "the array is no JSON from here on"}
	}
	if _, err := dec.Token(); err != nil { // the bracket
		return nil, broken()
	}
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, broken()
		}
		if len(parts) == maxEvents {
			return nil, errTooMany
		}
		end := int(dec.InputOffset())
		parts = append(parts, part{body[end-len(raw) : end], end - len(raw)})
	}
	if _, err := dec.Token(); err != nil { // its fellow
		return nil, broken()
	}
	if rest, _ := trim(body[dec.InputOffset():], 0); len(rest) > 0 {
		return nil, broken()
	}
	return parts, nil
}

// trim drops white space of JSON on both sides; at is where text begins.
func trim(text []byte, at int) ([]byte, int) {
	const space = " \t\r\n"
	left := bytes.TrimLeft(text, space)
	return bytes.TrimRight(left, space), at + len(text) - len(left)
}

// breaksAt is the index of the byte at which text stops to be one JSON value: its
// length when it only ends too early.
func breaksAt(text []byte) int {
	// A byte that stands nowhere in JSON tells an end that comes too early from a
	// wrong last byte.
	var syntax *json.SyntaxError
	if !errors.As(json.Unmarshal(append(bytes.Clone(text), 0), new(json.RawMessage)), &syntax) {
		return 0
	}
	return int(syntax.Offset) - 1
}

// reasons are what may be wrong with the form of one event.
var reasons = map[event.Problem]ingest.Reason{
	event.ProblemEmpty:    ingest.ReasonEmpty,
	event.ProblemTooLarge: ingest.ReasonTooLarge,
	event.ProblemBadUTF8:  ingest.ReasonBadUTF8,
	event.ProblemBadJSON:  ingest.ReasonBadJSON,
	event.ProblemTooDeep:  ingest.ReasonTooDeep,
}

// check is the fault of one event, or nil.
func (p part) check(limit int) *Fault {
	err := event.CheckJSON(p.text, event.Limits{MaxBytes: limit, MaxDepth: maxDepth})
	var wrong *event.DecodeError
	switch {
	case err == nil && p.text[0] == '{':
		return nil
	case err == nil:
		return &Fault{Position: p.at, Reason: ingest.ReasonNotObject, Detail: "an event is one JSON object"}
	case !errors.As(err, &wrong):
		return &Fault{Position: p.at, Reason: ingest.ReasonBadJSON}
	}
	out := &Fault{Position: p.at, Reason: reasons[wrong.Problem], Detail: wrong.Detail}
	switch wrong.Problem {
	case event.ProblemBadJSON:
		out.Position += breaksAt(p.text)
	case event.ProblemBadUTF8:
		out.Position += firstInvalid(p.text)
	}
	return out
}

// firstInvalid is the index of the first byte that is no UTF-8; 0 without one.
func firstInvalid(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return 0
}

// recordsOf makes the records of a body: all of them, or a refusal.
func recordsOf(f format, body []byte, h http.Header, s *source) ([]Record, *answer) {
	headers, refused := f.headers(h)
	if refused != nil {
		return nil, refused
	}
	parts, err := split(f, body)
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return nil, malformed(body, 1, []Fault{*fault})
	case err != nil:
		return nil, refuse(http.StatusRequestEntityTooLarge, "a request holds at most %d events", maxEvents)
	}
	maxEvent := s.maxEvent
	if f != formatJSON && f != formatLines {
		maxEvent = max(maxEvent, minEnvelope)
	}
	records := make([]Record, len(parts))
	var faults []Fault
	bad := 0
	for i, p := range parts {
		if fault := p.check(maxEvent); fault != nil {
			if bad++; bad <= maxFaults {
				fault.Index = i
				faults = append(faults, *fault)
			}
			continue
		}
		records[i] = Record{Value: p.text, Headers: headers}
		if s.keyed {
			records[i].Key = keyOf(p.text)
		}
	}
	if bad > 0 {
		return nil, malformed(body, bad, faults)
	}
	return records, nil
}

// minEnvelope is what one CloudEvent may have at least, whatever its topic takes:
// the envelope is larger than the event inside.
const minEnvelope = 1 << 20

// malformed is the answer when n events are at fault: 413 when they are only too
// large, else 400.
func malformed(body []byte, n int, faults []Fault) *answer {
	status := http.StatusRequestEntityTooLarge
	for i := range faults {
		faults[i].Line = 1 + bytes.Count(body[:faults[i].Position], []byte{'\n'})
		if faults[i].Reason != ingest.ReasonTooLarge {
			status = http.StatusBadRequest
		}
	}
	return &answer{status: status, body: Refusal{Error: "the request holds malformed events; nothing was accepted", Malformed: n, Faults: faults}}
}

// hostText is a host that is a text; anything else is none.
type hostText string

// UnmarshalJSON implements json.Unmarshaler.
func (h *hostText) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*h = hostText(s)
	}
	return nil
}

// keyOf is the key of a canonical event's record: its host, so that the events of
// one host stay in one partition and in order, where its clock is estimated. The
// event may be the data of a CloudEvent. Without a host there is no key, and the
// record may go to any partition; so it is for foreign formats, where only the
// mapping knows which member is the host.
func keyOf(text []byte) []byte {
	var v struct {
		Host hostText `json:"host"`
		Data struct {
			Host hostText `json:"host"`
		} `json:"data"`
	}
	// Data that is no object is an error, and leaves the rest as it is.
	_ = json.Unmarshal(text, &v)
	host := v.Host
	if host == "" {
		host = v.Data.Host
	}
	if host == "" || len(host) > maxKey {
		return nil
	}
	return []byte(host)
}

// maxKey is the longest name of a host that an event may have.
const maxKey = 253
