package mapping

import (
	"slices"
	"strings"
)

// Unread lists the fields of a record that no part of the mapping reads, for the
// author of one: names only, sorted, each once. A record that cannot be read has
// none.
func (m *Mapping) Unread(value []byte, o Options) []string {
	o = o.withDefaults()
	names := map[string]bool{}
	add := func(name string) {
		if name != "" && !m.reads(name) {
			names[name] = true
		}
	}
	var text *source
	if m.isText(value) {
		src, err := m.splitLine(value, o)
		if err != nil {
			return nil
		}
		text = src
	} else {
		root, err := m.parse(value, o)
		if err != nil {
			return nil
		}
		for _, steps := range m.attributes {
			unfold(root, steps)
		}
		leaves(root, "", add)
		text = m.tree([]any{root})
	}
	for _, p := range text.parts {
		if p.name != "line" {
			add(p.name)
		}
	}
	for k := range text.pairs {
		add(m.pairs + "." + k)
	}
	out := make([]string, 0, len(names))
	for n := range names {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// leaves calls add for the path of every value that is no object, no array and
// not null.
func leaves(v any, path string, add func(string)) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for k, c := range v {
			if path != "" {
				k = path + "." + k
			}
			leaves(c, k, add)
		}
	case []any:
		for _, c := range v {
			leaves(c, path, add)
		}
	default:
		add(path)
	}
}

// reads reports whether the mapping reads the field: by its path from the record,
// or from any of the objects around it.
func (m *Mapping) reads(name string) bool {
	if m.paths[name] {
		return true
	}
	for _, steps := range m.each {
		for i := range steps {
			if rest, ok := strings.CutPrefix(name, strings.Join(steps[:i+1], ".")+"."); ok && m.paths[rest] {
				return true
			}
		}
	}
	return false
}
