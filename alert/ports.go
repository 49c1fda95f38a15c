package alert

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// Journal appends to the record of what happened.
type Journal interface {
	// Append returns the records once they are accepted. An error leaves open
	// whether they are. What was accepted also comes to every member through
	// Manager.Apply, in order, possibly before Append returns.
	Append(ctx context.Context, entries ...journal.Entry) ([]journal.Record, error)
}

// Positions keeps, per partition, how far findings are durable.
type Positions interface {
	Save(ctx context.Context, detected map[event.Partition]int64) error
}

// KeyBook answers what a person's report has to be held against. It does not block.
type KeyBook interface {
	// Knows reports whether the configuration or the events know a network.
	Knows(network string) bool
	// Live is the id of the network's live key; empty when none is known.
	Live(network string) string
}

// Notifier brings messages to people. Its errors are *NotifyError, or are taken
// for an unknown outcome.
type Notifier interface {
	// Post publishes a message, as a reply when m.Thread is set, and returns the
	// name under which it can be edited. It must mark the message with m.ID.
	Post(ctx context.Context, m Message) (ts string, err error)
	// Update replaces the message ts in m.Channel.
	Update(ctx context.Context, m Message, ts string) error
	// Lookup finds the message marked with m.ID in m.Channel (and m.Thread), not
	// older than m.Since.
	Lookup(ctx context.Context, m Message) (ts string, found bool, err error)
}

// Charter is a Notifier that can draw m.Series into the thread of a message.
// A chart is a courtesy: its failure is counted and forgotten.
type Charter interface {
	Chart(ctx context.Context, m Message, ts string) error
}

// Class says what a failed delivery means.
type Class string

// The classes.
const (
	// Unknown: the message may have been published.
	Unknown Class = "unknown"
	// RetryAfter: surely not published; After says when to try again.
	RetryAfter Class = "retry_after"
	// Permanent: surely not published, and will not be until somebody changes the
	// configuration (wrong token, no such channel).
	Permanent Class = "permanent"
	// Refused: this message was not published and will not be as it is; others may.
	Refused Class = "refused"
	// Gone: the message to be edited is no longer there.
	Gone Class = "gone"
)

// NotifyError is a failed delivery.
type NotifyError struct {
	Class Class
	After time.Duration
	Err   error
}

func (e *NotifyError) Error() string { return fmt.Sprintf("notify (%s): %v", e.Class, e.Err) }

// Unwrap returns the cause.
func (e *NotifyError) Unwrap() error { return e.Err }

// classify reads the class of a delivery's error.
func classify(err error) (Class, time.Duration) {
	var n *NotifyError
	if errors.As(err, &n) {
		return n.Class, n.After
	}
	return Unknown, 0
}

// Errors of the Manager.
var (
	// ErrNotLeader: this member may not act; ask the leader.
	ErrNotLeader = errors.New("this member is not the leader")
	// ErrNoDecisionID: a decision without an id cannot be made idempotent.
	ErrNoDecisionID = errors.New("a decision needs an id of at most 200 bytes")
)
