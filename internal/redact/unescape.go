package redact

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxLayers is how many layers of escapes are taken off: a text in a text in a text.
const maxLayers = 3

// unescaped appends what is found in s behind escapes: percent signs, and
// backslashes as JSON and nginx write them. Its spans are places of s.
func (own *ownKeys) unescaped(s string, m mode, spans []span) []span {
	raw := len(spans)
	cur := s
	var place []int32 // of each byte of cur, and of its end, in s; nil: itself
	for range maxLayers {
		plain, at := unescape(cur)
		if plain == "" {
			break
		}
		if place != nil {
			for i := range at {
				at[i] = place[at[i]]
			}
		}
		cur, place = plain, at
		n := len(spans)
		for spans = own.plain(cur, m, spans); n < len(spans); n++ {
			spans[n].from, spans[n].to = int(place[spans[n].from]), int(place[spans[n].to])
		}
	}
	if len(spans) == raw {
		return spans
	}
	return union(s, spans)
}

// escapes reports whether s may hold an escape.
func escapes(s string) bool {
	return strings.IndexByte(s, '%') >= 0 || strings.IndexByte(s, '\\') >= 0
}

// union puts the spans in order and joins those that overlap. A mask is left alone.
func union(s string, spans []span) []span {
	spans = slices.DeleteFunc(spans, func(sp span) bool { return masked(s, sp.from) })
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(a.from-b.from, b.to-a.to) })
	out := spans[:0]
	for _, sp := range spans {
		last := len(out) - 1
		if last < 0 || sp.from >= out[last].to {
			out = append(out, sp)
			continue
		}
		out[last].to = max(out[last].to, sp.to)
		if sp.kind == OwnKey {
			out[last].kind, out[last].keyID = OwnKey, sp.keyID
		}
	}
	return out
}

// unescape takes one layer of escapes off. at holds, for each byte of plain and for
// its end, the place in s. Without escapes plain is empty.
func unescape(s string) (plain string, at []int32) {
	var out []byte
	i := 0
	for i < len(s) {
		c, n := escape(s[i:])
		if n == 0 {
			if out != nil {
				out, at = append(out, s[i]), append(at, int32(i))
			}
			i++
			continue
		}
		if out == nil {
			out, at = make([]byte, i, len(s)), make([]int32, i, len(s)+1)
			copy(out, s)
			for k := range at {
				at[k] = int32(k)
			}
		}
		was := len(out)
		if c < 0x100 && s[i] == '%' || s[i+1] == 'x' {
			out = append(out, byte(c))
		} else {
			out = utf8.AppendRune(out, c)
		}
		for range len(out) - was {
			at = append(at, int32(i))
		}
		i += n
	}
	if out == nil {
		return "", nil
	}
	return string(out), append(at, int32(len(s)))
}

// escape reads the escape that s begins with: what it stands for, and its length or
// zero.
func escape(s string) (c rune, n int) {
	switch {
	case s[0] == '%' && len(s) >= 3:
		if v, ok := hexValue(s[1:3]); ok {
			return v, 3
		}
	case s[0] == '\\' && len(s) >= 2:
		switch s[1] {
		case '"', '\\', '/', '\'':
			return rune(s[1]), 2
		case 'n', 'r', 't':
			return ' ', 2
		case 'u', 'x':
			digits := 4
			if s[1] == 'x' {
				digits = 2
			}
			if len(s) >= 2+digits {
				if v, ok := hexValue(s[2 : 2+digits]); ok {
					return v, 2 + digits
				}
			}
		}
	}
	return 0, 0
}

func hexValue(s string) (v rune, ok bool) {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}
