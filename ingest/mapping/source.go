package mapping

import (
	"encoding/json"
	"regexp"
	"strings"
)

// source is what conditions and fields read: a JSON tree, named parts of a text,
// or both. Parts win.
type source struct {
	root  any
	parts []part
}

type part struct{ name, value string }

// text is the value at a path as text. Objects, arrays and null are no text.
func (s source) text(path string) (string, bool) {
	for i := len(s.parts) - 1; i >= 0; i-- {
		if s.parts[i].name == path {
			return s.parts[i].value, true
		}
	}
	v, ok := lookup(s.root, path)
	if !ok {
		return "", false
	}
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
}

// exists reports whether the path leads to anything but null.
func (s source) exists(path string) bool {
	if _, ok := s.text(path); ok {
		return true
	}
	v, ok := lookup(s.root, path)
	return ok && v != nil
}

// lookup walks a path of names joined by points. A name that holds points itself
// wins over the walk.
func lookup(root any, path string) (any, bool) {
	m, ok := root.(map[string]any)
	if !ok {
		return nil, false
	}
	if v, ok := m[path]; ok {
		return v, true
	}
	for i := 0; i < len(path); i++ {
		if path[i] != '.' {
			continue
		}
		if child, ok := m[path[:i]]; ok {
			if v, ok := lookup(child, path[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

// named lists the named groups of a match.
func named(re *regexp.Regexp, found []string) []part {
	var out []part
	for i, n := range re.SubexpNames() {
		if n != "" && found[i] != "" {
			out = append(out, part{n, found[i]})
		}
	}
	return out
}

// condition is one test of a case.
type condition struct {
	field    string
	equals   []string
	prefix   []string
	suffix   []string
	contains []string
	regex    *regexp.Regexp
	exists   *bool
	not      bool
}

// holds reports whether every condition of the case holds, and the parts that
// their expressions named.
func (k *kase) holds(src source) ([]part, bool) {
	var parts []part
	for i := range k.when {
		p, ok := k.when[i].holds(src)
		if ok == k.when[i].not {
			return nil, false
		}
		parts = append(parts, p...)
	}
	return parts, true
}

func (c *condition) holds(src source) ([]part, bool) {
	if c.exists != nil {
		return nil, src.exists(c.field) == *c.exists
	}
	v, ok := src.text(c.field)
	if !ok {
		return nil, false
	}
	if c.regex != nil {
		found := c.regex.FindStringSubmatch(v)
		if found == nil {
			return nil, false
		}
		return named(c.regex, found), true
	}
	return nil, anyOf(c.equals, v, func(v, w string) bool { return v == w }) ||
		anyOf(c.prefix, v, strings.HasPrefix) || anyOf(c.suffix, v, strings.HasSuffix) || anyOf(c.contains, v, strings.Contains)
}

func anyOf(list []string, v string, test func(v, w string) bool) bool {
	for _, w := range list {
		if test(v, w) {
			return true
		}
	}
	return false
}
