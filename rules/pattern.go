package rules

import (
	"strings"
	"unicode/utf8"
)

// tokenKind is one kind of element of a pattern.
type tokenKind uint8

const (
	tokLiteral tokenKind = iota
	tokOne               // ? any one character
	tokStar              // * any run of characters
	tokDash              // windash: any one of the dashes
)

// token is one element of a pattern; text is set for literals.
type token struct {
	kind tokenKind
	text string
}

// pattern is a Sigma string: literals and wildcards.
type pattern []token

// dashes are the characters that windash takes for one another.
const dashes = "-/\u2013\u2014\u2015"

// parsePattern reads wildcards and escapes: a backslash before *, ? or another
// backslash takes that character literally, any other backslash is itself.
func parsePattern(s string) pattern {
	var p pattern
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			p = append(p, token{tokLiteral, lit.String()})
			lit.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`\*?`, s[i+1]) >= 0:
			i++
			lit.WriteByte(s[i])
		case c == '*':
			flush()
			p = append(p, token{kind: tokStar})
		case c == '?':
			flush()
			p = append(p, token{kind: tokOne})
		default:
			lit.WriteByte(c)
		}
	}
	flush()
	return p.collapse()
}

// collapse joins neighbouring stars and literals.
func (p pattern) collapse() pattern {
	var out pattern
	for _, t := range p {
		if n := len(out); n > 0 && out[n-1].kind == t.kind {
			if t.kind == tokStar {
				continue
			}
			if t.kind == tokLiteral {
				out[n-1].text += t.text
				continue
			}
		}
		out = append(out, t)
	}
	return out
}

// plain is the text of a pattern without wildcards.
func (p pattern) plain() (string, bool) {
	switch {
	case len(p) == 0:
		return "", true
	case len(p) == 1 && p[0].kind == tokLiteral:
		return p[0].text, true
	}
	return "", false
}

// affix puts stars around the pattern.
func (p pattern) affix(before, after bool) pattern {
	var out pattern
	if before {
		out = append(out, token{kind: tokStar})
	}
	out = append(out, p...)
	if after {
		out = append(out, token{kind: tokStar})
	}
	return out.collapse()
}

// windash turns every dash that begins a word (nothing or a non-word character
// before it, a word character after it) into the class of dashes.
func (p pattern) windash() pattern {
	var out pattern
	word := false // the character before is a word character
	for _, t := range p {
		if t.kind != tokLiteral {
			out = append(out, t)
			word = false
			continue
		}
		rs := []rune(t.text)
		start := 0
		for j, r := range rs {
			if strings.ContainsRune(dashes, r) && !word && j+1 < len(rs) && isWord(rs[j+1]) {
				out = append(out, token{tokLiteral, string(rs[start:j])}, token{kind: tokDash})
				start = j + 1
			}
			word = isWord(r)
		}
		out = append(out, token{tokLiteral, string(rs[start:])})
	}
	kept := out[:0]
	for _, t := range out {
		if t.kind != tokLiteral || t.text != "" {
			kept = append(kept, t)
		}
	}
	return kept.collapse()
}

func isWord(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// folded is the pattern with its literals folded.
func (p pattern) folded() pattern {
	out := make(pattern, len(p))
	for i, t := range p {
		out[i] = token{t.kind, fold(t.text)}
	}
	return out
}

// longest is the longest literal of the pattern.
func (p pattern) longest() string {
	best := ""
	for _, t := range p {
		if len(t.text) > len(best) {
			best = t.text
		}
	}
	return best
}

// match reports whether the whole of s fits the pattern. On a mismatch it goes
// back to the last star only, which is enough for patterns of this kind.
func (p pattern) match(s string) bool {
	pi, si := 0, 0
	starP, starS := -1, 0
	for {
		switch {
		case pi == len(p) && si == len(s):
			return true
		case pi < len(p) && p[pi].kind == tokStar:
			starP, starS = pi, si
			pi++
			if pi == len(p) {
				return true
			}
			continue
		case pi < len(p):
			if n, ok := p[pi].step(s[si:]); ok {
				pi, si = pi+1, si+n
				continue
			}
		}
		if starP < 0 || starS >= len(s) {
			return false
		}
		starS = p.advance(starP+1, s, starS)
		if starS < 0 {
			return false
		}
		pi, si = starP+1, starS
	}
}

// advance is the next place after from at which the token after a star could
// match, or -1.
func (p pattern) advance(pi int, s string, from int) int {
	_, n := utf8.DecodeRuneInString(s[from:])
	from += n
	if pi < len(p) && p[pi].kind == tokLiteral {
		i := strings.Index(s[from:], p[pi].text)
		if i < 0 {
			return -1
		}
		return from + i
	}
	return from
}

// step matches one token at the start of s and tells how many bytes it took.
func (t token) step(s string) (int, bool) {
	switch t.kind {
	case tokLiteral:
		return len(t.text), strings.HasPrefix(s, t.text)
	case tokOne:
		if s == "" {
			return 0, false
		}
		_, n := utf8.DecodeRuneInString(s)
		return n, true
	default: // tokDash
		r, n := utf8.DecodeRuneInString(s)
		return n, n > 0 && strings.ContainsRune(dashes, r) && r != utf8.RuneError
	}
}
