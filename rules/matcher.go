package rules

import "github.com/keysentry/keysentry/event"

// Program is the compiled form of a set: immutable, shared by any number of
// matchers, swapped by pointer.
type Program struct{}

// Slot is the number of a field that the set refers to by this name (as the
// rules write it), or -1.
func (p *Program) Slot(name string) int { return -1 }

// Matcher runs a program over records. It owns its scratch memory, allocates
// nothing in steady state and is not safe for concurrent use.
type Matcher struct{}

// NewMatcher makes a matcher of p.
func NewMatcher(p *Program) *Matcher { return &Matcher{} }

// MatchEvent appends to dst the indexes (Set.Rules) of the rules that e
// satisfies, ascending. e must stay unchanged until the next call.
func (m *Matcher) MatchEvent(e *event.Event, dst []int32) []int32 { return dst }

// MatchJSON is MatchEvent for one JSON object. raw must stay unchanged until
// the next call.
func (m *Matcher) MatchJSON(raw []byte, dst []int32) ([]int32, error) { return dst, nil }

// Text is the first non-null value of a slot in the last record, as text. It
// aliases the record or scratch memory: copy it to keep it past the next call.
// It is false when the field is absent, null or an object, or slot is -1.
func (m *Matcher) Text(slot int) (string, bool) { return "", false }

// Number is the first numeric value of a slot in the last record (a JSON number
// or a string that is one).
func (m *Matcher) Number(slot int) (float64, bool) { return 0, false }
