package event

import (
	"net/netip"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// Limits bounds what Decode accepts. The zero value means DefaultLimits.
type Limits struct {
	MaxBytes int // of the whole value
	MaxDepth int // of nesting, at most 64; the event's own object is depth 1

	// Unknown, when set, is called with the name of every field that is not of
	// the contract; the field is dropped. Cut, when set, is called with the whole
	// text of every field that is to be cut at its limit, and what it returns is cut
	// instead. Name and text alias the message.
	Unknown func(name string)
	Cut     func(f Field, text string) string
}

// Limits of a message, unless told otherwise.
const (
	DefaultMaxBytes = 64 << 10
	DefaultMaxDepth = 16
	maxDepth        = 64
)

func (l Limits) withDefaults() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	l.MaxDepth = min(l.MaxDepth, maxDepth)
	return l
}

// Decode reads one canonical event. It is strict: one JSON object in UTF-8, each
// known field at most once and of the right type, nothing after it. Fields that
// are not of the contract are dropped and reported to Limits.Unknown; null is
// the same as absent.
//
// On success e is overwritten; its strings alias value, but for those that had
// escapes, so value must stay unchanged as long as they are used. On error,
// always a *DecodeError, e is untouched. Required fields are checked by
// Validate, not here.
func Decode(value []byte, limits Limits, e *Event) error {
	s := scanner{b: value, lim: limits.withDefaults()}
	var ev Event
	if err := s.event(&ev); err != nil {
		return err
	}
	*e = ev
	return nil
}

// CheckJSON reports whether value is one well-formed JSON value in UTF-8 within
// the limits, as a *DecodeError. Mappings call it before they parse.
func CheckJSON(value []byte, limits Limits) error {
	s := scanner{b: value, lim: limits.withDefaults()}
	if err := s.begin(); err != nil {
		return err
	}
	if err := s.skipValue(0); err != nil {
		return err
	}
	return s.end()
}

// CheckText reports whether value is text that a mapping may read: not empty,
// not larger than maxBytes, UTF-8. The error is a *DecodeError.
func CheckText(value []byte, maxBytes int) error {
	s := scanner{b: value, lim: Limits{MaxBytes: maxBytes}.withDefaults()}
	return s.begin()
}

// event reads the one object that the input must be.
func (s *scanner) event(e *Event) error {
	if err := s.begin(); err != nil {
		return err
	}
	if s.peek() != '{' {
		if err := s.skipValue(0); err != nil {
			return err
		}
		if err := s.end(); err != nil {
			return err
		}
		return &DecodeError{ProblemNotObject, "", "an event is one JSON object"}
	}
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
		return s.end()
	}
	for {
		if err := s.member(e); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case '}':
			s.i++
			return s.end()
		default:
			return s.syntax("expected a comma or the end of the object")
		}
	}
}

// member reads one name and its value.
func (s *scanner) member(e *Event) error {
	raw, escaped, err := s.rawString()
	if err != nil {
		return err
	}
	name := raw
	if escaped {
		if name, err = unescape(raw); err != nil {
			return err
		}
	}
	s.space()
	if s.peek() != ':' {
		return s.syntax("expected a colon")
	}
	s.i++
	s.space()
	f, ok := messageField(name)
	if !ok {
		if s.lim.Unknown != nil {
			s.lim.Unknown(alias(name))
		}
		return s.skipValue(1)
	}
	if s.seen.Has(f) {
		return &DecodeError{ProblemDuplicateField, f.String(), "given twice"}
	}
	s.seen = s.seen.Set(f)
	if s.peek() == 'n' {
		return s.literal("null")
	}
	return s.value(e, f)
}

// value reads the value of a known field.
func (s *scanner) value(e *Event, f Field) error {
	var err error
	switch kinds[f] {
	case KindUint, KindFloat:
		err = s.number(e, f)
	default:
		if s.peek() != '"' {
			return s.wrongType(f, "text")
		}
		var raw []byte
		var escaped bool
		if raw, escaped, err = s.rawString(); err != nil {
			return err
		}
		if escaped {
			if raw, err = unescape(raw); err != nil {
				return err
			}
		}
		err = s.text(e, f, raw, escaped)
	}
	if err != nil {
		return err
	}
	e.Present = e.Present.Set(f)
	return nil
}

// text stores a string value into the field.
func (s *scanner) text(e *Event, f Field, raw []byte, escaped bool) error {
	switch kinds[f] {
	case KindInstant:
		t, ok := parseTime(raw)
		if !ok {
			return &DecodeError{ProblemBadTime, f.String(), "want RFC 3339 within the years 2000 to 2100"}
		}
		*e.instant(f) = t
		return nil
	case KindAddr:
		a, err := netip.ParseAddr(alias(raw))
		if err != nil || a.Zone() != "" {
			return badValue(f, "want an IP address without a zone")
		}
		if a = a.Unmap(); f == FieldSourceIP {
			e.SourceIP = a
		} else {
			e.ClientIP = a
		}
		return nil
	case KindEnum:
		return enum(e, f, alias(raw))
	}
	v, err := s.bounded(f, raw, escaped)
	if err != nil {
		return err
	}
	*e.str(f) = v
	return nil
}

// bounded applies the contract of a text field.
func (s *scanner) bounded(f Field, raw []byte, escaped bool) (string, error) {
	spec := &specs[f]
	if spec.Fingerprint && !IsFingerprint(alias(raw)) {
		return "", badValue(f, "want a keyed fingerprint, never the value itself")
	}
	if len(raw) > spec.MaxBytes {
		if !spec.Cut {
			return "", badValue(f, "longer than "+strconv.Itoa(spec.MaxBytes)+" bytes")
		}
		v := alias(raw)
		if s.lim.Cut != nil {
			v = s.lim.Cut(f, v)
		}
		return Cut(v, spec.MaxBytes), nil
	}
	// A raw control character is a syntax error already.
	if escaped && spec.Name && hasControl(raw) {
		return "", badValue(f, "holds a control character")
	}
	return alias(raw), nil
}

func enum(e *Event, f Field, v string) error {
	if f == FieldType {
		t, ok := ParseType(v)
		if !ok {
			return &DecodeError{ProblemUnknownType, f.String(), "not of the closed list"}
		}
		e.Type = t
		return nil
	}
	m, ok := ParseAuthMode(v)
	if !ok || m == ModeNone {
		return badValue(f, "want unsecure, secure or secure_mtls")
	}
	e.Mode = m
	return nil
}

// number stores a numeric value into the field.
func (s *scanner) number(e *Event, f Field) error {
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		return s.wrongType(f, "a number")
	}
	raw, err := s.rawNumber()
	if err != nil {
		return err
	}
	switch f {
	case FieldSeq:
		n, ok := parseUint(raw)
		if !ok {
			return badValue(f, "want a whole number from 0 to 2^64-1")
		}
		e.Seq = n
	case FieldStatus:
		n, ok := parseUint(raw)
		if !ok || n < 100 || n > 599 {
			return badValue(f, "want an HTTP status from 100 to 599")
		}
		e.Status = uint16(n)
	default:
		v, err := strconv.ParseFloat(alias(raw), 64)
		if err != nil || v > maxClock || v < -maxClock || f == FieldClockError && v < 0 {
			return badValue(f, "out of range")
		}
		if f == FieldClockOffset {
			e.ClockOffset = v
		} else {
			e.ClockError = v
		}
	}
	return nil
}

// maxClock bounds a clock offset: ten years, in seconds.
const maxClock = 10 * 366 * 86400

func (s *scanner) wrongType(f Field, want string) error {
	if err := s.skipValue(1); err != nil {
		return err
	}
	return &DecodeError{ProblemWrongType, f.String(), "want " + want}
}

func badValue(f Field, detail string) error {
	return &DecodeError{ProblemBadValue, f.String(), detail}
}

// alias is b as a string without a copy.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Cut shortens a text that is longer than n bytes as Decode does.
func Cut(v string, n int) string {
	if len(v) <= n {
		return v
	}
	return alias(cut([]byte(v), n))
}

// maxCutWord bounds the word that a cut takes with it.
const maxCutWord = 128

// cut shortens b to at most n bytes at a rune's boundary. A word that it would
// halve goes whole, unless nothing else is left: half a secret is not recognised as
// one when secrets are masked, and half of it is too much.
func cut(b []byte, n int) []byte {
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	if !wordByte(b[n]) {
		return b[:n]
	}
	start := n
	for start > 0 && n-start <= maxCutWord && wordByte(b[start-1]) {
		start--
	}
	if start == 0 || n-start > maxCutWord {
		return b[:n]
	}
	return b[:start]
}

// wordByte reports whether c may stand in a credential.
func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '+'
}

func hasControl(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c == 0x7f {
			return true
		}
	}
	return false
}

// parseUint reads plain decimal digits.
func parseUint(b []byte) (uint64, bool) {
	if len(b) > 20 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// kinds is Field.Kind as a table.
var kinds = func() (t [NumFields]Kind) {
	for f := range NumFields {
		t[f] = f.Kind()
	}
	return t
}()
