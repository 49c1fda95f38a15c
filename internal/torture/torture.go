// Package torture breaks the daemon on purpose while events flow, and counts
// what is stored afterwards.
//
// Each trial has a Kafka and a ClickHouse of its own, the real daemon as a child
// process with the shipped rules, and a flow of simulated events whose times are
// the present. A fault strikes once per round, at a moment that the seed draws
// from the two seconds after the round's first insert. The verdict is by
// counting: every record in the topic must be in ClickHouse exactly once, the
// committed offsets, which are polled meanwhile, never went back, and the
// journal holds every finding once.
package torture

import (
	"context"
	"fmt"
	"io"
	"math"
)

// Options say what to break, and how often.
type Options struct {
	Version  string
	Fault    string // one of Faults, or all
	Broker   string // kfake or kafka
	Rounds   int
	Events   int
	Seed     uint64
	Progress io.Writer
}

// Result is one fault's outcome.
type Result struct {
	Fault  string `json:"fault"`
	Rounds int    `json:"rounds"`
	// Events is how many records the topic holds: what was asked for, and more
	// when a broker that was stopped made the producer send some again.
	Events int    `json:"events"`
	Seed   uint64 `json:"seed"`
	// Lost is records less distinct events stored or quarantined.
	Lost int64 `json:"lost"`
	// Duplicates is what the table with FINAL, or the view, counts too much.
	Duplicates int64 `json:"duplicates"`
	// FindingsTwice counts findings that the journal holds again: with the same
	// id, or of a rule and group whose episode was not closed.
	FindingsTwice int `json:"findings_twice"`
	// OffsetWentBack counts the times a committed offset was seen to fall.
	OffsetWentBack int `json:"offset_went_back"`
	// PeakRSSMB is the most memory a daemon had resident; 0 where it is not known.
	PeakRSSMB float64 `json:"peak_rss_mb"`
	// RecoverySMax is the longest time from the repair (a restart, a server that
	// is back, a leader that is gone) to the first new row.
	RecoverySMax float64 `json:"recovery_s_max"`
	OK           bool    `json:"ok"`
}

// fault is one way to break something.
type fault struct {
	name    string
	daemons int // that run at the same time
	// strike breaks it and mends it again, and returns when events are stored
	// again: how long that took from the repair on.
	strike func(ctx context.Context, t *trial) (recovery float64, err error)
}

func faults() []fault {
	return []fault{
		{"kill", 1, strikeKill},
		{"sigterm", 1, strikeTerm},
		{"broker-restart", 1, strikeBroker},
		{"clickhouse-down", 1, strikeClickHouse},
		{"rebalance", 3, strikeLeader},
	}
}

// Faults names what can be broken.
func Faults() []string {
	var out []string
	for _, f := range faults() {
		out = append(out, f.name)
	}
	return out
}

// Run breaks the daemon and gives each fault's result to emit. A broken promise
// is a result that is not OK; an error means that there is no result.
func Run(ctx context.Context, o Options, emit func(Result) error) error {
	if o.Rounds < 1 || o.Events < 100*(o.Rounds+1) {
		return fmt.Errorf("give at least one round, and 100 events for each and for the end: got %d rounds and %d events", o.Rounds, o.Events)
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	found := false
	for _, f := range faults() {
		if o.Fault != f.name && o.Fault != "all" {
			continue
		}
		found = true
		r, err := try(ctx, o, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := emit(r); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("there is no fault %q", o.Fault)
	}
	return nil
}

// judge says whether the promises held.
func (r *Result) judge() {
	r.PeakRSSMB = round1(r.PeakRSSMB)
	r.RecoverySMax = math.Round(r.RecoverySMax*100) / 100
	r.OK = r.Lost == 0 && r.Duplicates == 0 && r.FindingsTwice == 0 && r.OffsetWentBack == 0
}

func round1(x float64) float64 { return math.Round(x*10) / 10 }
