package mapping

import (
	"encoding/json"
	"regexp"
	"strings"
)

// source is what conditions and fields read: a record of JSON with the objects
// around it, named parts of a text, or both. Parts win.
type source struct {
	levels []any // the record first, then what encloses it, outwards
	parts  []part
	pairs  map[string]any // by key, of the field pairsOf
	m      *Mapping
}

type part struct{ name, value string }

// texts calls visit for every text at a path until it returns true, which it
// then returns too. An array stands for its members; objects and null are no
// text, nor is what the mapping says is absent.
func (s *source) texts(path string, visit func(string) bool) bool {
	for i := len(s.parts) - 1; i >= 0; i-- {
		if s.parts[i].name == path {
			v := s.parts[i].value
			return !s.m.absent[v] && visit(v)
		}
	}
	_, stop := s.values(path, func(v any) bool {
		t, ok := asText(v)
		return ok && !s.m.absent[t] && visit(t)
	})
	return stop
}

// maxMembersAround bounds the members of arrays that one look at an object around
// a record goes through. Every record of a message looks at the same object, so
// without it a message of many records beside one long array costs their product.
const maxMembersAround = 64

// values calls visit for what the innermost level that has the path holds there.
func (s *source) values(path string, visit func(any) bool) (found, stop bool) {
	seen := func(v any) bool {
		found = found || v != nil
		return visit(v)
	}
	if s.pairs != nil {
		if key, ok := strings.CutPrefix(path, s.m.pairs+"."); ok {
			stop = walk(s.pairs, key, nil, seen)
			if found {
				return found, stop
			}
		}
	}
	for i, level := range s.levels {
		var room *int // the record itself is gone through once, whatever it holds
		if i > 0 {
			members := maxMembersAround
			room = &members
		}
		if stop = walk(level, path, room, seen); stop || found {
			return found, stop
		}
	}
	return false, false
}

// first is the first text at a path that is not empty.
func (s *source) first(path string) (out string, ok bool) {
	ok = s.texts(path, func(v string) bool { out = v; return v != "" })
	return out, ok
}

// exists reports whether the path leads to anything but null.
func (s *source) exists(path string) bool {
	if s.texts(path, func(string) bool { return true }) {
		return true
	}
	_, found := s.values(path, func(v any) bool {
		_, text := asText(v)
		return v != nil && !text
	})
	return found
}

func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return whole(v.String()), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
}

// whole is a number without a fraction that is nothing: a status of 401.0, as some
// encoders write it, is 401.
func whole(n string) string {
	if i := strings.IndexByte(n, '.'); i > 0 && strings.Trim(n[i+1:], "0") == "" {
		return n[:i]
	}
	return n
}

// walk calls visit for every value at a path of names joined by points, until it
// returns true. A name that holds points itself is tried before the walk, and an
// array is gone through, up to the members that there is room for; nil is any
// number.
func walk(v any, path string, room *int, visit func(any) bool) bool {
	if members, ok := v.([]any); ok {
		for _, m := range members {
			if room != nil {
				if *room == 0 {
					return false
				}
				*room--
			}
			if walk(m, path, room, visit) {
				return true
			}
		}
		return false
	}
	if path == "" {
		return visit(v)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	if c, ok := m[path]; ok && walk(c, "", room, visit) {
		return true
	}
	for i := 0; i < len(path); i++ {
		if path[i] != '.' {
			continue
		}
		if c, ok := m[path[:i]]; ok && walk(c, path[i+1:], room, visit) {
			return true
		}
	}
	return false
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
	fields   []string
	equals   []string
	prefix   []string
	suffix   []string
	contains []string
	regex    *regexp.Regexp
	exists   *bool
	not      bool
}

// holdAll reports whether every condition holds, and the parts that their
// expressions named.
func holdAll(when []condition, src *source) ([]part, bool) {
	var parts []part
	for i := range when {
		p, ok := when[i].holds(src)
		if ok == when[i].not {
			return nil, false
		}
		parts = append(parts, p...)
	}
	return parts, true
}

// holds reports whether the test holds for one text of one of the fields.
func (c *condition) holds(src *source) ([]part, bool) {
	for _, f := range c.fields {
		if c.exists != nil {
			if src.exists(f) {
				return nil, *c.exists
			}
			continue
		}
		var parts []part
		if src.texts(f, func(v string) bool {
			var ok bool
			parts, ok = c.test(v)
			return ok
		}) {
			return parts, true
		}
	}
	return nil, c.exists != nil && !*c.exists
}

func (c *condition) test(v string) ([]part, bool) {
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
