// Package mapping turns records of foreign formats into canonical events, as
// YAML files say: where the source keeps a value, how it is rewritten, and which
// case of the source is which type of event.
//
// A mapping never guesses. Cases are tried in order and the first whose
// conditions hold makes the event; a record that no case takes is reported as
// not mapped. Values of keys and tokens pass only through the fingerprint
// directive, so that no mapping can store one. A compiled Mapping is immutable
// and safe for concurrent use.
package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/event"
)

// Options are what a topic adds to a mapping.
type Options struct {
	// Year completes times that leave it out.
	Year int
	// Key is the key of fingerprints.
	Key []byte
	// MaxBytes bounds one record; 0 means 1 MiB.
	MaxBytes int
}

// Limits of a record.
const (
	defaultMaxBytes = 1 << 20
	maxRecordDepth  = 64
	maxPerRecord    = 10_000
)

// Mapping is one compiled mapping.
type Mapping struct {
	name        string
	text        bool
	line        *regexp.Regexp // text: splits the line into named parts
	each        string         // json: path of an array whose members are the records
	fields      []assignment
	cases       []kase
	needsYear   bool
	fingerprint bool
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

// Parse compiles the text of a mapping and reports all its faults.
func Parse(name string, text []byte) (*Mapping, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var doc document
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("mapping %s: %w", name, err)
	}
	c := compiler{m: &Mapping{name: name}}
	c.document(&doc)
	if len(c.errs) > 0 {
		return nil, fmt.Errorf("mapping %s: %w", name, errors.Join(c.errs...))
	}
	return c.m, nil
}

// Name is the name the mapping was loaded by.
func (m *Mapping) Name() string { return m.name }

// Text reports whether a record is a line of text; else it is JSON.
func (m *Mapping) Text() bool { return m.text }

// Cases lists the names of the cases in order.
func (m *Mapping) Cases() []string {
	out := make([]string, len(m.cases))
	for i := range m.cases {
		out[i] = m.cases[i].name
	}
	return out
}

// Ready reports what the options lack for this mapping.
func (m *Mapping) Ready(o Options) error {
	var errs []error
	if m.needsYear && o.Year == 0 {
		errs = append(errs, fmt.Errorf("mapping %s reads times without a year: set year of the topic", m.name))
	}
	if m.fingerprint && len(o.Key) == 0 {
		errs = append(errs, fmt.Errorf("mapping %s makes fingerprints: set fingerprint_key", m.name))
	}
	return errors.Join(errs...)
}

// Map turns one record into events. emit is called once per event of the record,
// in order, with either an event or a *event.DecodeError; the event is valid
// until emit returns, its strings for good. Required fields are not checked.
func (m *Mapping) Map(value []byte, o Options, emit func(idx int32, e *event.Event, err error)) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if m.text {
		src, err := m.splitLine(value, o)
		m.one(src, o, 0, err, emit)
		return
	}
	root, err := parseJSON(value, o)
	if err != nil {
		emit(0, nil, err)
		return
	}
	records, ok := m.records(root)
	if !ok {
		m.one(source{root: root}, o, 0, nil, emit)
		return
	}
	for i, r := range records {
		if i == maxPerRecord {
			emit(int32(i), nil, &event.DecodeError{Problem: event.ProblemTooLarge, Detail: "more than 10000 events in one message"})
			return
		}
		var err error
		if _, isObject := r.(map[string]any); !isObject {
			err = &event.DecodeError{Problem: event.ProblemNotObject, Detail: "a member of the array of records is no object"}
		}
		m.one(source{root: r}, o, int32(i), err, emit)
	}
}

// records finds the array that holds the records of one message.
func (m *Mapping) records(root any) ([]any, bool) {
	if m.each == "" {
		return nil, false
	}
	v, ok := lookup(root, m.each)
	if !ok {
		return nil, false
	}
	list, ok := v.([]any)
	return list, ok
}

// one maps one record of the source.
func (m *Mapping) one(src source, o Options, idx int32, err error, emit func(int32, *event.Event, error)) {
	if err != nil {
		emit(idx, nil, err)
		return
	}
	for i := range m.cases {
		parts, ok := m.cases[i].holds(src)
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
func (m *Mapping) fill(e *event.Event, src source, k *kase, o Options) error {
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

// splitLine reads a line of text into named parts.
func (m *Mapping) splitLine(value []byte, o Options) (source, error) {
	if err := event.CheckText(value, o.MaxBytes); err != nil {
		return source{}, err
	}
	line := strings.TrimRight(string(value), "\r\n")
	if m.line == nil {
		return source{parts: []part{{"line", line}}}, nil
	}
	found := m.line.FindStringSubmatch(line)
	if found == nil {
		return source{}, &event.DecodeError{Problem: event.ProblemNotMapped, Detail: "not a line of mapping " + m.name}
	}
	return source{parts: append(named(m.line, found), part{"line", line})}, nil
}

// parseJSON reads one object; syntax, size and nesting are checked first, by the
// scanner that canonical events pass through.
func parseJSON(value []byte, o Options) (any, error) {
	if err := event.CheckJSON(value, event.Limits{MaxBytes: o.MaxBytes, MaxDepth: maxRecordDepth}); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var root any
	if err := dec.Decode(&root); err != nil {
		return nil, &event.DecodeError{Problem: event.ProblemBadJSON, Detail: "could not be parsed"}
	}
	if _, ok := root.(map[string]any); !ok {
		return nil, &event.DecodeError{Problem: event.ProblemNotObject, Detail: "a record is one JSON object"}
	}
	return root, nil
}
