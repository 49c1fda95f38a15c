// Package mapping turns records of foreign formats into canonical events, as
// YAML files say: where the source keeps a value, how it is rewritten, and which
// case of the source is which type of event.
//
// A mapping never guesses. Cases are tried in order and the first whose
// conditions hold makes the event; a record that no case takes is reported as
// not mapped. Values of keys and tokens pass only through the fingerprint
// directive, so that no mapping can store one. A compiled Mapping is immutable
// and safe for concurrent use. A Set chooses among mappings by content: exactly
// one must recognise a record.
package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// Options are what a topic adds to a mapping.
type Options struct {
	// Year completes times that leave it out. Without it they are of the year that
	// makes them the latest before At, the record's own time, or up to a day after it.
	Year int
	At   event.Instant
	// Zone is where times that name no zone were written; nil means UTC.
	Zone *time.Location
	// Key is the key of fingerprints.
	Key []byte
	// MaxBytes bounds one record; 0 means 1 MiB. A text of more than 64 KiB loses the
	// middle of its long parts.
	MaxBytes int
	// Cut, when set, is called with the whole text of every field that is to be cut
	// at its limit, and what it returns is cut instead.
	Cut func(f event.Field, text string) string
}

// Limits of a record.
const (
	defaultMaxBytes = 1 << 20
	maxRecordDepth  = 64
	maxPerRecord    = 10_000
	// maxTextBytes bounds what line is matched with: an expression with many groups
	// costs about a microsecond a byte on text that was made to be slow.
	maxTextBytes = 64 << 10
)

// format is what a record looks like.
type format uint8

const (
	formatJSON format = iota
	formatText
	formatMixed
	formatOTLP // JSON, or the same in protobuf
)

// Mapping is one compiled mapping.
type Mapping struct {
	name, description string
	format            format
	line, recordStart *regexp.Regexp
	wrapped           []string
	each, attributes  [][]string // paths, by their steps
	pairs             string
	absent            map[string]bool
	detect            [][]condition
	fields            []assignment
	cases             []kase
	paths             map[string]bool // every path that is read
	needsYear         bool
	fingerprint       bool
}

// kase is one case: all conditions hold, then this type with these fields.
type kase struct {
	name   string
	when   []condition
	typ    event.Type
	fields []assignment
}

// Load reads NAME.yml.
func Load(fsys fs.FS, name string) (*Mapping, error) {
	if name == "" || strings.ContainsAny(name, `/\.`) {
		return nil, fmt.Errorf("mapping %q: a name is a file in the mappings folder, without .yml", name)
	}
	b, err := fs.ReadFile(fsys, name+".yml")
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", name, err)
	}
	return Parse(name, b)
}

// Name is the name the mapping was loaded by.
func (m *Mapping) Name() string { return m.name }

// Description says what the source is.
func (m *Mapping) Description() string { return m.description }

// Text reports whether a record may be text; else it is JSON.
func (m *Mapping) Text() bool { return m.format == formatText || m.format == formatMixed }

// Format is json, text, mixed or otlp.
func (m *Mapping) Format() string { return [...]string{"json", "text", "mixed", "otlp"}[m.format] }

// RecordStart is the expression that the first line of a record matches, or nil:
// then every line is a record.
func (m *Mapping) RecordStart() *regexp.Regexp { return m.recordStart }

// Detects reports whether mapping: auto can choose it.
func (m *Mapping) Detects() bool { return len(m.detect) > 0 }

// Cases lists the names of the cases in order.
func (m *Mapping) Cases() []string {
	out := make([]string, len(m.cases))
	for i := range m.cases {
		out[i] = m.cases[i].name
	}
	return out
}

// Types lists the types of event that the cases make, each once.
func (m *Mapping) Types() []event.Type {
	var out []event.Type
	seen := map[event.Type]bool{}
	for i := range m.cases {
		if t := m.cases[i].typ; !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// Ready reports what the options lack for this mapping.
func (m *Mapping) Ready(o Options) error {
	return errors.Join(m.readyYear(o), m.readyKey(o))
}

func (m *Mapping) readyYear(o Options) error {
	if m.needsYear && o.Year == 0 && o.At == 0 {
		return fmt.Errorf("mapping %s reads times without a year: set year of the topic", m.name)
	}
	return nil
}

func (m *Mapping) readyKey(o Options) error {
	if m.fingerprint && len(o.Key) == 0 {
		return fmt.Errorf("mapping %s makes fingerprints: set fingerprint_key", m.name)
	}
	return nil
}

// Emit receives the events of one record in order: either an event or a
// *event.DecodeError. The event is valid until it returns, its strings for good.
type Emit func(idx int32, e *event.Event, err error)

// Map turns one record into events. emit is called at least once. Required
// fields are not checked.
func (m *Mapping) Map(value []byte, o Options, emit Emit) {
	o = o.withDefaults()
	if m.isText(value) {
		src, err := m.splitLine(value, o)
		m.one(src, o, 0, err, emit)
		return
	}
	root, err := m.parse(value, o)
	if err != nil {
		emit(0, nil, err)
		return
	}
	m.mapTree(root, o, emit)
}

// parse reads a message that is no text. JSON may begin like protobuf, with a line
// end, but does not go on like it.
func (m *Mapping) parse(value []byte, o Options) (map[string]any, error) {
	if m.format != formatOTLP || !otlpBinary(value) {
		return parseJSON(value, o)
	}
	root, err := parseOTLP(value, o)
	if err != nil && object(value) {
		return parseJSON(value, o)
	}
	return root, err
}

func (o Options) withDefaults() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	return o
}

// isText reports whether the mapping reads value as text.
func (m *Mapping) isText(value []byte) bool {
	return m.format == formatText || m.format == formatMixed && !object(value)
}

// object reports whether value begins like a JSON object.
func object(value []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(value, " \t\r\n"), []byte("{"))
}

// mapTree maps the records of a parsed message, which it may change.
func (m *Mapping) mapTree(root map[string]any, o Options, emit Emit) {
	for _, steps := range m.attributes {
		unfold(root, steps)
	}
	idx := int32(0)
	m.records(root, func(levels []any, err error) bool {
		if idx == maxPerRecord {
			err = &event.DecodeError{Problem: event.ProblemTooLarge, Detail: "more than 10000 events in one message"}
		}
		m.one(m.tree(levels), o, idx, err, emit)
		idx++
		return idx <= maxPerRecord
	})
	if idx == 0 {
		emit(0, nil, &event.DecodeError{Problem: event.ProblemEmpty, Detail: "the message holds no record"})
	}
}

// tree is the source of a JSON record.
func (m *Mapping) tree(levels []any) *source {
	src := &source{levels: levels, m: m}
	for _, path := range m.wrapped {
		text, ok := src.first(path)
		if text = shorten(text); ok && len(text) <= maxTextBytes {
			if found := m.line.FindStringSubmatch(text); found != nil {
				src.parts = append(named(m.line, found), part{"line", text})
				break
			}
		}
	}
	m.readPairs(src)
	return src
}

func (m *Mapping) readPairs(src *source) {
	if m.pairs == "" {
		return
	}
	if text, ok := src.first(m.pairs); ok {
		src.pairs = parsePairs(text)
	}
}

// splitLine reads a text into named parts.
func (m *Mapping) splitLine(value []byte, o Options) (*source, error) {
	if err := event.CheckText(value, o.MaxBytes); err != nil {
		return nil, err
	}
	line := shorten(strings.TrimRight(string(value), "\r\n"))
	if len(line) > maxTextBytes {
		return nil, &event.DecodeError{Problem: event.ProblemTooLarge, Detail: "a text of more than 64 KiB in very many parts"}
	}
	src := &source{parts: []part{{"line", line}}, m: m}
	if m.line != nil {
		found := m.line.FindStringSubmatch(line)
		if found == nil {
			return nil, &event.DecodeError{Problem: event.ProblemNotMapped, Detail: "not a line of mapping " + m.name}
		}
		src.parts = append(src.parts, named(m.line, found)...)
	}
	m.readPairs(src)
	return src, nil
}

// one maps one record of the source.
func (m *Mapping) one(src *source, o Options, idx int32, err error, emit Emit) {
	if err != nil {
		emit(idx, nil, err)
		return
	}
	for i := range m.cases {
		parts, ok := holdAll(m.cases[i].when, src)
		if !ok {
			continue
		}
		src.parts = append(src.parts, parts...)
		var e event.Event
		if err := m.fill(&e, src, &m.cases[i], o); err != nil {
			emit(idx, nil, err)
			return
		}
		emit(idx, &e, nil)
		return
	}
	emit(idx, nil, &event.DecodeError{Problem: event.ProblemNotMapped, Detail: "no case of mapping " + m.name + " takes the record"})
}

// fill sets the type and the fields; a case's own field wins over a common one.
func (m *Mapping) fill(e *event.Event, src *source, k *kase, o Options) error {
	e.Type = k.typ
	e.Present = e.Present.Set(event.FieldType)
	for _, list := range [2][]assignment{k.fields, m.fields} {
		for i := range list {
			if e.Present.Has(list[i].field) {
				continue
			}
			if err := list[i].apply(e, src, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseJSON reads one object; syntax, size and nesting are checked first, by the
// scanner that canonical events pass through.
func parseJSON(value []byte, o Options) (map[string]any, error) {
	if err := event.CheckJSON(value, event.Limits{MaxBytes: o.MaxBytes, MaxDepth: maxRecordDepth}); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var root any
	if err := dec.Decode(&root); err != nil {
		return nil, &event.DecodeError{Problem: event.ProblemBadJSON, Detail: "could not be parsed"}
	}
	m, ok := root.(map[string]any)
	if !ok {
		return nil, &event.DecodeError{Problem: event.ProblemNotObject, Detail: "a record is one JSON object"}
	}
	return m, nil
}
