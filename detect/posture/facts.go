package posture

import (
	"context"
	"time"

	"github.com/keysentry/keysentry/event"
)

// Facts answers from the events between two moments of effective time, since
// included and until not. Every row says in Query which SQL shows its events.
type Facts interface {
	// Mints is what each network minted.
	Mints(ctx context.Context, since, until event.Instant) ([]Mints, error)
	// Unauthorized is every server key and client certificate that was refused at
	// the mint endpoint, by cause and source.
	Unauthorized(ctx context.Context, since, until event.Instant) ([]Refusals, error)
	MintCoverage(ctx context.Context, since, until event.Instant) ([]MintCoverage, error)
	Failures(ctx context.Context, since, until event.Instant) ([]Failures, error)
	// SecureModes is the last switch that each network's events tell of.
	SecureModes(ctx context.Context, until event.Instant) ([]SecureMode, error)
}

// Mints counts the mints of a network that was heard of at the mint endpoint.
type Mints struct {
	Network                  string
	Issued, Unsecure, Secure uint64 // the rest of Issued does not say in which mode
	RefusedOff               uint64 // requests refused because secure mode is off
	Query                    string
}

// Refusals counts one cause of one source. Host is the one that reports it where
// the source is not known.
type Refusals struct {
	Network, Cause, SourceIP, Host string
	Count                          uint64
	First, Last                    event.Instant
	Query                          string
}

// MintCoverage counts the mints of one service, and names some hosts of those
// without a client certificate.
type MintCoverage struct {
	Network, Service string
	Mints, WithCert  uint64
	Hosts            []string
	HostCount        uint64
	Query            string
}

// Failures counts attempts at one stage: mint or redeem.
type Failures struct {
	Network, Stage   string
	Attempts, Failed uint64
	Causes           []string // the most frequent
	Query            string
}

// SecureMode is the last switch of secure mode.
type SecureMode struct {
	Network string
	On      bool
	Actor   string
	At      event.Instant
	Query   string
}

// Querier runs a question that a user wrote, over the same data. It changes
// nothing, and more rows or time than the limits allow is an error.
type Querier interface {
	Select(ctx context.Context, query string, limits Limits) (Table, error)
}

// Limits bound a user's question.
type Limits struct {
	Rows int
	Time time.Duration
}

// Table is an answer. A cell is nil for NULL.
type Table struct {
	Columns []Column
	Rows    [][]any
}

// Column names a column and its ClickHouse type.
type Column struct{ Name, Type string }

// Scheduled is a check that brings its own schedule; the configuration's counts
// before it.
type Scheduled interface{ Schedule() string }

// Outside is a check that does not judge the stored events, so that a gap in them
// says nothing about it.
type Outside interface{ Outside() bool }

// Notes tells what no check judges and what belongs beside the scorecard: rules
// that are blind, the head of the journal.
type Notes interface {
	Notes(ctx context.Context, now time.Time) ([]Note, error)
}

// Note is a few values under a title. The title is ours, the values are not.
type Note struct {
	Title  string   `json:"title"`
	Values []string `json:"values"`
}
