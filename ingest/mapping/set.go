package mapping

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// Folders is folders of mappings; of two files of one name the first counts.
type Folders []fs.FS

// Open implements fs.FS.
func (f Folders) Open(name string) (fs.File, error) {
	err := fs.ErrNotExist
	for _, folder := range f {
		file, e := folder.Open(name)
		if e == nil {
			return file, nil
		}
		if !errors.Is(e, fs.ErrNotExist) {
			err = e
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: err}
}

// ReadDir implements fs.ReadDirFS.
func (f Folders) ReadDir(name string) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	seen := map[string]bool{}
	for _, folder := range f {
		list, err := fs.ReadDir(folder, name)
		if err != nil {
			return nil, err
		}
		for _, entry := range list {
			if !seen[entry.Name()] {
				seen[entry.Name()] = true
				out = append(out, entry)
			}
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// Names lists the mappings of a folder, sorted.
func Names(fsys fs.FS) ([]string, error) {
	files, err := fs.Glob(fsys, "*.yml")
	for i, f := range files {
		files[i] = strings.TrimSuffix(f, ".yml")
	}
	return files, err
}

// Auto is the name that stands for a Set.
const Auto = "auto"

// Set chooses among mappings by what a record holds. It is immutable and safe for
// concurrent use. A JSON message is parsed once, and every mapping's conditions
// see only its first record, so the cost is bounded by the size of the message.
type Set struct{ list []*Mapping }

// LoadSet reads every mapping of a folder that says how it is recognised.
func LoadSet(fsys fs.FS) (*Set, error) {
	names, err := Names(fsys)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", Auto, err)
	}
	s := &Set{}
	var errs []error
	for _, n := range names {
		m, err := Load(fsys, n)
		if err != nil {
			errs = append(errs, err)
		} else if m.Detects() {
			s.list = append(s.list, m)
		}
	}
	return s, errors.Join(errs...)
}

// Mappings lists the mappings of the set by name.
func (s *Set) Mappings() []*Mapping { return s.list }

// Ready reports what the options lack whatever comes. A mapping that needs a year
// is told of only when a record asks for it.
func (s *Set) Ready(o Options) error {
	for _, m := range s.list {
		if err := m.readyKey(o); err != nil {
			return err
		}
	}
	return nil
}

// Choice is what a record was recognised as: a canonical event, or a record of a
// mapping.
type Choice struct {
	m    *Mapping
	root map[string]any // JSON
	src  *source        // text
}

// Canonical reports whether the record is a canonical event.
func (c Choice) Canonical() bool { return c.m == nil }

// Mapping is the mapping, or nil.
func (c Choice) Mapping() *Mapping { return c.m }

// Map maps the record; it may be called once.
func (c Choice) Map(o Options, emit Emit) {
	if c.src != nil {
		c.m.one(c.src, o.withDefaults(), 0, nil, emit)
		return
	}
	c.m.mapTree(c.root, o.withDefaults(), emit)
}

// Choose recognises a record. An object whose type is one of the canonical types
// is a canonical event. Otherwise exactly one mapping must recognise it; the
// error is a *event.DecodeError.
func (s *Set) Choose(value []byte, o Options) (Choice, error) {
	o = o.withDefaults()
	var found []Choice
	if object(value) {
		root, err := parseJSON(value, o)
		if err != nil {
			return Choice{}, err
		}
		if name, ok := root[event.FieldType.String()].(string); ok {
			if _, ok := event.ParseType(name); ok {
				return Choice{}, nil
			}
		}
		for _, m := range s.list {
			if m.format != formatText && m.recognises(m.head(root)) {
				found = append(found, Choice{m: m, root: root})
			}
		}
	} else if found = s.binary(value, o); len(found) == 0 {
		if err := event.CheckText(value, o.MaxBytes); err != nil {
			return Choice{}, err
		}
		for _, m := range s.list {
			if !m.Text() {
				continue
			}
			if src, err := m.splitLine(value, o); err == nil && m.recognises(src) {
				found = append(found, Choice{m: m, src: src})
			}
		}
	}
	return decide(found, o)
}

// binary are the mappings that read the value as OTLP in protobuf and recognise it:
// no text is that, down to its last byte.
func (s *Set) binary(value []byte, o Options) (found []Choice) {
	if !otlpBinary(value) {
		return nil
	}
	root, err := parseOTLP(value, o)
	if err != nil {
		return nil
	}
	for _, m := range s.list {
		if m.format == formatOTLP && m.recognises(m.head(root)) {
			found = append(found, Choice{m: m, root: root})
		}
	}
	return found
}

func decide(found []Choice, o Options) (Choice, error) {
	switch len(found) {
	case 0:
		return Choice{}, &event.DecodeError{Problem: event.ProblemUnknownFormat, Detail: "no mapping recognises the record, and it is no canonical event"}
	case 1:
		if err := found[0].m.Ready(o); err != nil {
			return Choice{}, &event.DecodeError{Problem: event.ProblemNotMapped, Detail: err.Error()}
		}
		return found[0], nil
	}
	return Choice{}, &event.DecodeError{Problem: event.ProblemUnknownFormat, Detail: "both " + found[0].m.name + " and " + found[1].m.name + " recognise the record"}
}

// head is the first record of a message, or the message itself when it has none.
func (m *Mapping) head(root map[string]any) *source {
	src := &source{levels: []any{root}, m: m}
	m.records(root, func(levels []any, err error) bool {
		if err == nil {
			src = m.tree(levels)
		}
		return false
	})
	return src
}

func (m *Mapping) recognises(src *source) bool {
	for _, alternative := range m.detect {
		if _, ok := holdAll(alternative, src); ok {
			return true
		}
	}
	return false
}
