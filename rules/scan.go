package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// maxDepth bounds the nesting of a JSON record.
const maxDepth = 512

// noNode: nothing below this place is referred to.
const noNode = -1

// scanner walks one JSON record once. Only what the set refers to is kept, but
// the structure of all of it is checked. Its functions take the place at which
// they begin to read and return the place after what they read, or failed.
type scanner struct {
	raw  []byte
	err  error
	keys keyGuess
}

// failed is the place that a function returns on an error.
const failed = -1

var (
	errNotObject = errors.New("the record is not a JSON object")
	errTooDeep   = fmt.Errorf("the record is nested deeper than %d", maxDepth)
)

func (s *scanner) fail(at int, what string) int {
	if s.err == nil {
		s.err = fmt.Errorf("invalid JSON at byte %d: %s", at, what)
	}
	return failed
}

// space skips white space.
func space(raw []byte, at int) int {
	for at < len(raw) && raw[at] <= ' ' && (raw[at] == ' ' || raw[at] == '\n' || raw[at] == '\t' || raw[at] == '\r') {
		at++
	}
	return at
}

// next skips white space and returns the byte after it, 0 at the end.
func next(raw []byte, at int) (byte, int) {
	if at < len(raw) && raw[at] > ' ' {
		return raw[at], at
	}
	if at = space(raw, at); at < len(raw) {
		return raw[at], at
	}
	return 0, at
}

// scanRecord reads one JSON object into the cells.
func (m *Matcher) scanRecord(raw []byte) error {
	s := &m.scan
	s.raw, s.err, s.keys.at = raw, nil, 0
	c, at := next(raw, 0)
	if c != '{' {
		return errNotObject
	}
	if at = m.object(where{node: 0, shift: 52}, at, 0); at != failed {
		if at = space(raw, at); at < len(raw) {
			s.fail(at, "text after the record")
		}
	}
	s.raw = nil
	return s.err
}

// where says where in the tree of paths the scan is, and how it got there: prio
// grows with the number of segments that early keys took, so that a literal
// dotted key wins over nested ones.
type where struct {
	node  int32
	shift int8
	prio  uint64
}

func (p where) follow(e trieEdge) where {
	if e.to < 0 {
		return where{node: noNode}
	}
	p.node = e.to
	if p.shift >= 0 {
		p.prio |= uint64(e.segs) << p.shift
		p.shift -= 4
	}
	return p
}

// value scans one value.
func (m *Matcher) value(p where, at, depth int) int {
	s := &m.scan
	c, at := next(s.raw, at)
	switch {
	case c == '"':
		text, at := s.str(m, at)
		if at != failed {
			m.text(p, text)
		}
		return at
	case c == '-' || '0' <= c && c <= '9':
		end := s.number(at)
		if end != failed {
			m.scalar(p, fieldNumber, alias(s.raw[at:end]))
		}
		return end
	case c == '{':
		return m.object(p, at, depth+1)
	case c == '[':
		return m.array(p, at, depth+1)
	case c == 't':
		m.scalar(p, fieldBool, "true")
		return s.word("true", at)
	case c == 'f':
		m.scalar(p, fieldBool, "false")
		return s.word("false", at)
	case c == 'n':
		m.scalar(p, fieldNull, "")
		return s.word("null", at)
	}
	return s.fail(at, "a value is expected")
}

// object scans from the opening brace.
func (m *Matcher) object(p where, at, depth int) int {
	s := &m.scan
	if depth > maxDepth {
		s.err = errTooDeep
		return failed
	}
	if depth > 0 {
		m.scalar(p, fieldObject, "")
	}
	c, at := next(s.raw, at+1)
	if c == '}' {
		return at + 1
	}
	for {
		var e trieEdge
		if e, at = m.key(p.node, at); at == failed {
			return failed
		}
		if at = m.value(p.follow(e), at, depth); at == failed {
			return failed
		}
		switch c, at = next(s.raw, at); c {
		case ',':
			at = space(s.raw, at+1)
		case '}':
			return at + 1
		default:
			return s.fail(at, "a comma or a closing brace is expected")
		}
	}
}

// key reads a key with its colon and says where it leads.
func (m *Matcher) key(node int32, at int) (trieEdge, int) {
	s := &m.scan
	if e, n := s.keys.guess(node, s.raw[at:]); n > 0 {
		return e, at + n
	}
	if at >= len(s.raw) || s.raw[at] != '"' {
		return trieEdge{}, s.fail(at, "a key is expected")
	}
	from := at
	key, at := s.str(m, at)
	if at == failed {
		return trieEdge{}, failed
	}
	c, at := next(s.raw, at)
	if c != ':' {
		return trieEdge{}, s.fail(at, "a colon is expected")
	}
	e := trieEdge{to: noNode}
	if node >= 0 {
		if known, ok := m.p.trie[node].edges[key]; ok {
			e = known
		}
	}
	s.keys.learn(node, s.raw[from:at+1], e)
	return e, at + 1
}

// array scans from the opening bracket. Its members stand where it stands; an
// empty one still makes the field exist.
func (m *Matcher) array(p where, at, depth int) int {
	s := &m.scan
	if depth > maxDepth {
		s.err = errTooDeep
		return failed
	}
	m.exists(p)
	c, at := next(s.raw, at+1)
	if c == ']' {
		return at + 1
	}
	for {
		if at = m.value(p, at, depth); at == failed {
			return failed
		}
		switch c, at = next(s.raw, at); c {
		case ',':
			at++
		case ']':
			return at + 1
		default:
			return s.fail(at, "a comma or a closing bracket is expected")
		}
	}
}

// exists marks the slots that end at p as present.
func (m *Matcher) exists(p where) {
	if p.node < 0 {
		return
	}
	for _, end := range m.p.trie[p.node].ends {
		m.claim(end, p)
	}
}

// claim gives the cell of a slot to the path p, unless a better path has it.
func (m *Matcher) claim(end trieEnd, p where) *cell {
	c := &m.cells[end.slot]
	prio := p.prio | uint64(255-end.rank)<<56
	switch {
	case c.epoch != m.epoch:
		c.reset(m.epoch)
		if m.p.index[end.slot].used {
			m.seen = append(m.seen, end.slot)
		}
	case prio < c.prio:
		return nil
	case prio > c.prio:
		c.vals = c.vals[:0]
	}
	c.prio, c.exists = prio, true
	return c
}

// text gives a string to the slots that end at p, and to the keywords.
func (m *Matcher) text(p where, text string) {
	if m.p.texts {
		m.texts = append(m.texts, text)
	}
	m.scalar(p, fieldText, text)
}

// scalar gives a value to the slots that end at p.
func (m *Matcher) scalar(p where, kind fieldKind, text string) {
	if p.node < 0 {
		return
	}
	for _, end := range m.p.trie[p.node].ends {
		if c := m.claim(end, p); c != nil {
			c.vals = append(c.vals, fieldValue{kind: kind, text: text})
		}
	}
}

// word reads a literal name.
func (s *scanner) word(w string, at int) int {
	if len(s.raw)-at < len(w) || string(s.raw[at:at+len(w)]) != w {
		return s.fail(at, "a value is expected")
	}
	return at + len(w)
}

// number reads a number by JSON's grammar.
func (s *scanner) number(at int) int {
	raw := s.raw
	if raw[at] == '-' {
		at++
	}
	from := at
	at = digits(raw, at)
	if at == from || raw[from] == '0' && at > from+1 {
		return s.fail(at, "a number is expected")
	}
	if at < len(raw) && raw[at] == '.' {
		from = at + 1
		if at = digits(raw, from); at == from {
			return s.fail(at, "a digit is expected")
		}
	}
	if at < len(raw) && raw[at]|0x20 == 'e' {
		from = at + 1
		if from < len(raw) && (raw[from] == '+' || raw[from] == '-') {
			from++
		}
		if at = digits(raw, from); at == from {
			return s.fail(at, "a digit is expected")
		}
	}
	return at
}

func digits(raw []byte, at int) int {
	for at < len(raw) && '0' <= raw[at] && raw[at] <= '9' {
		at++
	}
	return at
}

// alias views bytes of the record as text; the record stays unchanged while the
// text is used.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// str reads a string from its opening quote. Without escapes the text aliases
// the record, else the matcher's arena.
func (s *scanner) str(m *Matcher, at int) (string, int) {
	raw, from := s.raw, at+1
	for at = from; at+8 <= len(raw); at += 8 {
		if stop := special(binary.LittleEndian.Uint64(raw[at:])); stop != 0 {
			at += bits.TrailingZeros64(stop) / 8
			break
		}
	}
	for ; at < len(raw); at++ {
		switch c := raw[at]; {
		case c == '"':
			return alias(raw[from:at]), at + 1
		case c == '\\':
			return s.unescape(m, from, at)
		case c < ' ':
			return "", s.fail(at, "a control character in a string")
		}
	}
	return "", s.fail(at, "a string is not closed")
}

// special has the highest bit of a byte set for the first quote, backslash or
// control character among eight bytes of a string, and is 0 when there is none.
// What it has beyond the first means nothing. (Bit Twiddling Hacks, "determine
// if a word has a byte less than n".)
func special(w uint64) uint64 {
	quote, slash := w^ones*'"', w^ones*'\\'
	return ((w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highBits
}

// unescape continues a string, begun at from, at its first backslash.
func (s *scanner) unescape(m *Matcher, from, at int) (string, int) {
	start := len(m.arena)
	m.arena = append(m.arena, s.raw[from:at]...)
	for at < len(s.raw) {
		c := s.raw[at]
		switch {
		case c == '"':
			return m.since(start), at + 1
		case c < ' ':
			return "", s.fail(at, "a control character in a string")
		case c != '\\':
			m.arena = append(m.arena, c)
			at++
		default:
			after := s.escape(m, at)
			if after == failed {
				return "", s.fail(at, "a bad escape in a string")
			}
			at = after
		}
	}
	return "", s.fail(at, "a string is not closed")
}

// escape reads one escape from its backslash.
func (s *scanner) escape(m *Matcher, at int) int {
	if at+1 >= len(s.raw) {
		return failed
	}
	c := s.raw[at+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, ok := hex4(s.raw, at+2)
		if !ok {
			return failed
		}
		at += 6
		if utf16.IsSurrogate(r) {
			// Half a pair is the replacement character.
			low, ok := rune(0), at+1 < len(s.raw) && s.raw[at] == '\\' && s.raw[at+1] == 'u'
			if ok {
				low, ok = hex4(s.raw, at+2)
			}
			if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
				at += 6
			}
		}
		m.arena = utf8.AppendRune(m.arena, r)
		return at
	default:
		return failed
	}
	m.arena = append(m.arena, c)
	return at + 2
}

// hex4 reads four hexadecimal digits.
func hex4(raw []byte, at int) (rune, bool) {
	if at+4 > len(raw) {
		return 0, false
	}
	var r rune
	for _, c := range raw[at : at+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendNumber formats a number of an event.
func appendNumber(b []byte, n float64) []byte { return strconv.AppendFloat(b, n, 'f', -1, 64) }
