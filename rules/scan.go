package rules

import (
	"errors"
	"fmt"
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
// the structure of all of it is checked.
type scanner struct {
	raw []byte
	pos int
	err error
}

var (
	errNotObject = errors.New("the record is not a JSON object")
	errTooDeep   = fmt.Errorf("the record is nested deeper than %d", maxDepth)
)

func (s *scanner) fail(what string) bool {
	if s.err == nil {
		s.err = fmt.Errorf("invalid JSON at byte %d: %s", s.pos, what)
	}
	return false
}

// space skips white space and returns the byte after it, 0 at the end.
func (s *scanner) space() byte {
	for s.pos < len(s.raw) {
		c := s.raw[s.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		s.pos++
	}
	return 0
}

// scanRecord reads one JSON object into the cells.
func (m *Matcher) scanRecord(raw []byte) error {
	m.scan = scanner{raw: raw}
	s := &m.scan
	if s.space() != '{' {
		return errNotObject
	}
	if m.object(where{node: 0, shift: 52}, 0) {
		if s.space(); s.pos < len(raw) {
			s.fail("text after the record")
		}
	}
	err := s.err
	m.scan.raw = nil
	return err
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
	p.node = e.to
	if p.shift >= 0 {
		p.prio |= uint64(e.segs) << p.shift
		p.shift -= 4
	}
	return p
}

// value scans one value; false on an error.
func (m *Matcher) value(p where, depth int) bool {
	s := &m.scan
	switch c := s.space(); {
	case c == '{':
		return m.object(p, depth+1)
	case c == '[':
		return m.array(p, depth+1)
	case c == '"':
		text, ok := s.str(m)
		if ok {
			m.scalar(p, fieldText, text)
		}
		return ok
	case c == '-' || '0' <= c && c <= '9':
		from := s.pos
		if !s.number() {
			return false
		}
		m.scalar(p, fieldNumber, alias(s.raw[from:s.pos]))
		return true
	case c == 't':
		m.scalar(p, fieldBool, "true")
		return s.word("true")
	case c == 'f':
		m.scalar(p, fieldBool, "false")
		return s.word("false")
	case c == 'n':
		m.scalar(p, fieldNull, "")
		return s.word("null")
	}
	return s.fail("a value is expected")
}

// object scans from the opening brace.
func (m *Matcher) object(p where, depth int) bool {
	s := &m.scan
	if depth > maxDepth {
		s.err = errTooDeep
		return false
	}
	if depth > 0 {
		m.scalar(p, fieldObject, "")
	}
	s.pos++
	if s.space() == '}' {
		s.pos++
		return true
	}
	for {
		if s.space() != '"' {
			return s.fail("a key is expected")
		}
		key, ok := s.str(m)
		if !ok {
			return false
		}
		if s.space() != ':' {
			return s.fail("a colon is expected")
		}
		s.pos++
		next := where{node: noNode}
		if p.node >= 0 {
			if e, ok := m.p.trie[p.node].edges[key]; ok {
				next = p.follow(e)
			}
		}
		if !m.value(next, depth) {
			return false
		}
		switch s.space() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return true
		default:
			return s.fail("a comma or a closing brace is expected")
		}
	}
}

// array scans from the opening bracket. Its members stand where it stands; an
// empty one still makes the field exist.
func (m *Matcher) array(p where, depth int) bool {
	s := &m.scan
	if depth > maxDepth {
		s.err = errTooDeep
		return false
	}
	m.exists(p)
	s.pos++
	if s.space() == ']' {
		s.pos++
		return true
	}
	for {
		if !m.value(p, depth) {
			return false
		}
		switch s.space() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return true
		default:
			return s.fail("a comma or a closing bracket is expected")
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
		m.seen = append(m.seen, end.slot)
	case prio < c.prio:
		return nil
	case prio > c.prio:
		c.vals = c.vals[:0]
	}
	c.prio, c.exists = prio, true
	return c
}

// scalar gives a value to the slots that end at p.
func (m *Matcher) scalar(p where, kind fieldKind, text string) {
	if m.p.texts && kind == fieldText {
		c := &m.cells[keywordSlot]
		if c.epoch != m.epoch {
			c.reset(m.epoch)
			c.exists = true
			m.seen = append(m.seen, keywordSlot)
		}
		c.vals = append(c.vals, fieldValue{kind: kind, text: text})
	}
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
func (s *scanner) word(w string) bool {
	if len(s.raw)-s.pos < len(w) || string(s.raw[s.pos:s.pos+len(w)]) != w {
		return s.fail("a value is expected")
	}
	s.pos += len(w)
	return true
}

// number reads a number by JSON's grammar.
func (s *scanner) number() bool {
	digits := func() bool {
		from := s.pos
		for s.pos < len(s.raw) && '0' <= s.raw[s.pos] && s.raw[s.pos] <= '9' {
			s.pos++
		}
		return s.pos > from
	}
	at := func(c byte) bool { return s.pos < len(s.raw) && s.raw[s.pos] == c }
	if at('-') {
		s.pos++
	}
	zero := at('0')
	from := s.pos
	if !digits() || zero && s.pos > from+1 {
		return s.fail("a number is expected")
	}
	if at('.') {
		s.pos++
		if !digits() {
			return s.fail("a digit is expected")
		}
	}
	if at('e') || at('E') {
		s.pos++
		if at('+') || at('-') {
			s.pos++
		}
		if !digits() {
			return s.fail("a digit is expected")
		}
	}
	return true
}

// alias views bytes of the record as text; the record stays unchanged while the
// text is used.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// str reads a string from its opening quote. Without escapes the text aliases
// the record, else the matcher's arena.
func (s *scanner) str(m *Matcher) (string, bool) {
	s.pos++
	from := s.pos
	for i := from; i < len(s.raw); i++ {
		switch c := s.raw[i]; {
		case c == '"':
			s.pos = i + 1
			return alias(s.raw[from:i]), true
		case c == '\\':
			s.pos = i
			return s.unescape(m, from)
		case c < ' ':
			s.pos = i
			return "", s.fail("a control character in a string")
		}
	}
	s.pos = len(s.raw)
	return "", s.fail("a string is not closed")
}

// unescape continues a string at its first backslash.
func (s *scanner) unescape(m *Matcher, from int) (string, bool) {
	start := len(m.arena)
	m.arena = append(m.arena, s.raw[from:s.pos]...)
	for s.pos < len(s.raw) {
		c := s.raw[s.pos]
		switch {
		case c == '"':
			s.pos++
			return m.since(start), true
		case c < ' ':
			return "", s.fail("a control character in a string")
		case c != '\\':
			m.arena = append(m.arena, c)
			s.pos++
		case !s.escape(m):
			return "", s.fail("a bad escape in a string")
		}
	}
	return "", s.fail("a string is not closed")
}

// escape reads one escape from its backslash.
func (s *scanner) escape(m *Matcher) bool {
	if s.pos+1 >= len(s.raw) {
		return false
	}
	c := s.raw[s.pos+1]
	s.pos += 2
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
		r, ok := s.hex4()
		if !ok {
			return false
		}
		if utf16.IsSurrogate(r) {
			r = s.surrogate(r)
		}
		m.arena = utf8.AppendRune(m.arena, r)
		return true
	default:
		return false
	}
	m.arena = append(m.arena, c)
	return true
}

func (s *scanner) hex4() (rune, bool) {
	if s.pos+4 > len(s.raw) {
		return 0, false
	}
	var r rune
	for _, c := range s.raw[s.pos : s.pos+4] {
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
	s.pos += 4
	return r, true
}

// surrogate joins r with a second half that follows; half a pair is the
// replacement character.
func (s *scanner) surrogate(r rune) rune {
	if s.pos+6 <= len(s.raw) && s.raw[s.pos] == '\\' && s.raw[s.pos+1] == 'u' {
		back := s.pos
		s.pos += 2
		if low, ok := s.hex4(); ok {
			if joined := utf16.DecodeRune(r, low); joined != utf8.RuneError {
				return joined
			}
		}
		s.pos = back
	}
	return utf8.RuneError
}

// appendNumber formats a number of an event.
func appendNumber(b []byte, n float64) []byte { return strconv.AppendFloat(b, n, 'f', -1, 64) }
