package event

import "fmt"

// Problem says what is wrong with a record that is no event.
type Problem uint8

// The problems.
const (
	ProblemNone           Problem = iota
	ProblemEmpty                  // no bytes at all
	ProblemTooLarge               // more bytes than Limits.MaxBytes
	ProblemBadUTF8                // bytes or escapes that are no Unicode text
	ProblemBadJSON                // syntax, truncation, trailing data
	ProblemTooDeep                // nested deeper than Limits.MaxDepth
	ProblemNotObject              // valid JSON, but no object
	ProblemDuplicateField         // a known field twice
	ProblemMissingField           // required for the type, and absent
	ProblemUnknownType            // a type outside the closed list
	ProblemWrongType              // a number where text is wanted, and the like
	ProblemBadValue               // the right JSON type, an impossible value
	ProblemBadTime                // not RFC 3339, or outside the years 2000 to 2100
	ProblemNotMapped              // the mapping has no case for the record
	ProblemUnknownFormat          // mapping: auto, and no or several mappings recognise the record
	ProblemBadEnvelope            // a CloudEvent that is none
	numProblems
)

var problemNames = [numProblems]string{
	ProblemNone:           "none",
	ProblemEmpty:          "empty",
	ProblemTooLarge:       "too large",
	ProblemBadUTF8:        "bad UTF-8",
	ProblemBadJSON:        "bad JSON",
	ProblemTooDeep:        "nested too deep",
	ProblemNotObject:      "not an object",
	ProblemDuplicateField: "duplicate field",
	ProblemMissingField:   "missing field",
	ProblemUnknownType:    "unknown type",
	ProblemWrongType:      "wrong type",
	ProblemBadValue:       "bad value",
	ProblemBadTime:        "bad time",
	ProblemNotMapped:      "not mapped",
	ProblemUnknownFormat:  "unknown format",
	ProblemBadEnvelope:    "bad CloudEvent",
}

func (p Problem) String() string {
	if p < numProblems {
		return problemNames[p]
	}
	return fmt.Sprintf("problem(%d)", uint8(p))
}

// DecodeError tells why a record is no event. Neither Field nor Detail ever
// holds a value of the record, so that the error may be logged and stored.
type DecodeError struct {
	Problem Problem
	Field   string // the canonical field at fault, or empty
	Detail  string // one phrase
}

func (e *DecodeError) Error() string {
	s := e.Problem.String()
	if e.Field != "" {
		s += " in " + e.Field
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}
