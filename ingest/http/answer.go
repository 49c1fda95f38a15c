package httpingest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/ingest"
)

// Accepted is the body of a 202.
type Accepted struct {
	Accepted int `json:"accepted"` // events, all acknowledged by Kafka
}

// Refusal is the body of every other answer.
type Refusal struct {
	Error string `json:"error"`
	// Written says, after Kafka failed, whether events of the request may be in the
	// topic: none, or unknown.
	Written string `json:"written,omitempty"`
	// Malformed counts the events at fault; Faults tells of the first ten.
	Malformed int     `json:"malformed,omitempty"`
	Faults    []Fault `json:"faults,omitempty"`
}

// Fault is one malformed event. It holds no part of the event.
type Fault struct {
	Index    int           `json:"index"`    // of the event in the request, from 0
	Position int           `json:"position"` // byte of the body, from 0, at which it breaks
	Line     int           `json:"line"`     // of the body, from 1
	Reason   ingest.Reason `json:"reason"`
	Detail   string        `json:"detail"`
}

// Error makes it what split returns.
func (f *Fault) Error() string { return string(f.Reason) + ": " + f.Detail }

// The values of Refusal.Written.
const (
	writtenNone    = "none"
	writtenUnknown = "unknown"
)

// answer is what a request gets; header holds what goes beside the body.
type answer struct {
	status int
	header map[string]string
	body   any
}

func refuse(status int, format string, args ...any) *answer {
	return &answer{status: status, body: Refusal{Error: fmt.Sprintf(format, args...)}}
}

// with adds a header.
func (a *answer) with(name, value string) *answer {
	if a.header == nil {
		a.header = map[string]string{}
	}
	a.header[name] = value
	return a
}

// retryAfter is when to try again, in whole seconds and not earlier.
func (a *answer) retryAfter(d time.Duration) *answer {
	return a.with("Retry-After", strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))))
}

func (a *answer) write(w http.ResponseWriter) {
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	// The status is sent; a client that went away is the only error left.
	_ = json.NewEncoder(w).Encode(a.body)
}
