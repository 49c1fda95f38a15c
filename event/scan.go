package event

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON in one pass, without recursion, and never past the end.
type scanner struct {
	b    []byte
	i    int
	lim  Limits
	seen FieldSet
}

// begin checks what concerns the input as a whole and goes to its first token.
func (s *scanner) begin() error {
	switch {
	case len(s.b) == 0:
		return &DecodeError{ProblemEmpty, "", "no bytes"}
	case len(s.b) > s.lim.MaxBytes:
		return &DecodeError{ProblemTooLarge, "", "above the size limit"}
	case !utf8.Valid(s.b):
		return &DecodeError{ProblemBadUTF8, "", "bytes that are no UTF-8"}
	case len(s.b) >= 3 && s.b[0] == 0xEF && s.b[1] == 0xBB && s.b[2] == 0xBF:
		return &DecodeError{ProblemBadJSON, "", "begins with a byte order mark"}
	}
	s.space()
	if s.i == len(s.b) {
		return &DecodeError{ProblemEmpty, "", "only white space"}
	}
	return nil
}

// end checks that nothing follows.
func (s *scanner) end() error {
	s.space()
	if s.i != len(s.b) {
		return s.syntax("data after the value")
	}
	return nil
}

func (s *scanner) syntax(detail string) error {
	if s.i >= len(s.b) {
		detail = "ends too early"
	}
	return &DecodeError{ProblemBadJSON, "", detail}
}

// peek is the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// stop marks the bytes that end a run of plain text in a string.
var stop = func() (t [256]bool) {
	for c := range 0x20 {
		t[c] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain is the index of the first byte at or after i that stop marks, or len(b).
// It looks at eight bytes at a time: a byte's high bit in m is set when the byte
// is below 0x20, a quote or a backslash, and the lowest such bit is exact (the
// others may be borrows).
func plain(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		q, s := w^ones*'"', w^ones*'\\'
		m := ((w-ones*0x20)&^w | (q-ones)&^q | (s-ones)&^s) & highs
		if m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for i < len(b) && !stop[b[i]] {
		i++
	}
	return i
}

// rawString reads a string and returns what is between its quotes, and whether
// that holds escapes. The escapes themselves are checked by unescape.
func (s *scanner) rawString() (raw []byte, escaped bool, err error) {
	if s.peek() != '"' {
		return nil, false, s.syntax("expected a string")
	}
	b, i := s.b, s.i+1
	start := i
	for {
		if i = plain(b, i); i >= len(b) {
			s.i = i
			return nil, false, s.syntax("")
		}
		switch b[i] {
		case '"':
			s.i = i + 1
			return b[start:i], escaped, nil
		case '\\':
			escaped = true
			i += 2
		default:
			s.i = i
			return nil, false, s.syntax("control character in a string")
		}
	}
}

// unescape resolves the escapes of a raw string into new memory.
func unescape(raw []byte) ([]byte, error) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' {
			out = append(out, c)
			i++
			continue
		}
		if i+1 >= len(raw) {
			return nil, errEscape
		}
		i += 2
		switch raw[i-1] {
		case '"', '\\', '/':
			out = append(out, raw[i-1])
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, n, err := unescapeRune(raw[i:])
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, r)
			i += n
		default:
			return nil, errEscape
		}
	}
	return out, nil
}

var (
	errEscape    = &DecodeError{ProblemBadJSON, "", "unknown escape in a string"}
	errSurrogate = &DecodeError{ProblemBadUTF8, "", "half of a surrogate pair"}
)

// unescapeRune reads what follows \u: four digits, or a whole surrogate pair.
// It returns how many bytes that took.
func unescapeRune(b []byte) (rune, int, error) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0, errEscape
	}
	if !utf16.IsSurrogate(r) {
		return r, 4, nil
	}
	if len(b) < 10 || b[4] != '\\' || b[5] != 'u' {
		return 0, 0, errSurrogate
	}
	low, ok := hex4(b[6:])
	if !ok {
		return 0, 0, errEscape
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, 0, errSurrogate
	}
	return r, 10, nil
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
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
		r = r<<4 | rune(c)
	}
	return r, true
}

// rawNumber reads a number by the grammar of JSON.
func (s *scanner) rawNumber() ([]byte, error) {
	start := s.i
	if s.peek() == '-' {
		s.i++
	}
	switch c := s.peek(); {
	case c == '0':
		s.i++
	case c >= '1' && c <= '9':
		s.digits()
	default:
		return nil, s.syntax("malformed number")
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return nil, s.syntax("malformed number")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return nil, s.syntax("malformed number")
		}
	}
	return s.b[start:s.i], nil
}

// digits skips digits and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

func (s *scanner) literal(word string) error {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return s.syntax("unknown word")
	}
	s.i += len(word)
	return nil
}

// skipValue checks and drops one value that stands at the given depth. The open
// objects and arrays are the bits of a word: 1 for an object.
func (s *scanner) skipValue(depth int) error {
	base := depth
	var open uint64
	for {
		entered, err := s.skipToken(&open, &depth)
		if err != nil {
			return err
		}
		if entered {
			continue
		}
		for {
			if depth == base {
				return nil
			}
			again, err := s.skipSeparator(open)
			if err != nil {
				return err
			}
			if again {
				break
			}
			open >>= 1
			depth--
		}
	}
}

// skipToken drops a scalar or an empty container, or enters a container, up to
// its first value.
func (s *scanner) skipToken(open *uint64, depth *int) (entered bool, err error) {
	switch c := s.peek(); c {
	case '{', '[':
		if *depth++; *depth > s.lim.MaxDepth {
			return false, &DecodeError{ProblemTooDeep, "", "nested too deep"}
		}
		s.i++
		s.space()
		if s.peek() == c+2 { // '}' and ']' follow their openers by two
			s.i++
			*depth--
			return false, nil
		}
		*open = *open<<1 | uint64(c>>5&1)
		if c == '{' {
			return true, s.skipName()
		}
		return true, nil
	case '"':
		raw, escaped, err := s.rawString()
		if err == nil && escaped {
			_, err = unescape(raw)
		}
		return false, err
	case 't':
		return false, s.literal("true")
	case 'f':
		return false, s.literal("false")
	case 'n':
		return false, s.literal("null")
	}
	_, err = s.rawNumber()
	return false, err
}

// skipSeparator reads what follows a value inside the innermost open container:
// a comma (and the next name), and then there is another value, or its end.
func (s *scanner) skipSeparator(open uint64) (again bool, err error) {
	s.space()
	object := open&1 == 1
	switch c := s.peek(); {
	case c == ',':
		s.i++
		s.space()
		if object {
			return true, s.skipName()
		}
		return true, nil
	case c == '}' && object, c == ']' && !object:
		s.i++
		return false, nil
	}
	return false, s.syntax("expected a comma or the end")
}

// skipName reads a member's name and its colon.
func (s *scanner) skipName() error {
	raw, escaped, err := s.rawString()
	if err != nil {
		return err
	}
	if escaped {
		if _, err := unescape(raw); err != nil {
			return err
		}
	}
	s.space()
	if s.peek() != ':' {
		return s.syntax("expected a colon")
	}
	s.i++
	s.space()
	return nil
}
