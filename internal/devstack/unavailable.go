package devstack

import (
	"errors"
	"fmt"
)

// ErrUnavailable is what every UnavailableError is: errors.Is(err,
// ErrUnavailable) tells "this machine lacks a part" from "it broke".
var ErrUnavailable = errors.New("not available on this machine")

// UnavailableError says which part of the stack cannot be had, what is missing
// and what to do instead.
type UnavailableError struct {
	Part    string // "ClickHouse", "Apache Kafka"
	Missing string // "java is not on the PATH"
	Instead string // what the person can do
	Cause   error  // nil when nothing failed, something is just not there
}

// Error is one line: part, what is missing, advice.
func (e *UnavailableError) Error() string {
	s := fmt.Sprintf("%s is not available: %s", e.Part, e.Missing)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s + "; " + e.Instead
}

// Is makes every UnavailableError an ErrUnavailable.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// Unwrap gives the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }
