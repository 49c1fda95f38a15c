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
	for ; len(s) >= 8; s = s[8:] {
		// The highest bit of a byte of the first sum says at least A, of the second
		// more than Z; bytes that are not ASCII are found before they can carry.
		w := load64(s)
		if w&highBits != 0 || (w+ones*(0x80-'A'))&^(w+ones*(0x80-'Z'-1))&highBits != 0 {
			return false
		}
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for ; len(s) >= 8; s = s[8:] {
		if load64(s)&highBits != 0 {
			return false
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Eight bytes at once: a one in each, the highest bit of each.
const (
	ones     = 0x0101010101010101
	highBits = 0x8080808080808080
)

// load64 is the first eight bytes of a text.
func load64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
