package rules

import (
	"unicode"
	"unicode/utf8"
)

// appendFold appends s with every rune in lower case. It is the one definition of
// "ignoring case" of the language: rune by rune, by the Unicode simple mapping,
// bytes that are not UTF-8 kept as they are.
func appendFold(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, c)
		} else {
			dst = utf8.AppendRune(dst, unicode.ToLower(r))
		}
		i += n
	}
	return dst
}

// fold is appendFold as a string.
func fold(s string) string { return string(appendFold(nil, s)) }

// isFolded reports whether s is all ASCII without capitals, so that folding
// would change nothing.
func isFolded(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}
