package correlate

import (
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Correlator keeps the windows of one rule set. It is not safe for concurrent
// use.
type Correlator struct {
	cfg Config
}

// New builds a correlator for the rules of set. Rules that this build cannot
// evaluate are left out and named by Problems.
func New(set *rules.Set, cfg Config) *Correlator { return &Correlator{cfg: cfg} }

// Problems names the rules that were left out, and why: one error each, that
// begins with file and line.
func (c *Correlator) Problems() []error { return nil }

// Lookback is how far back events must be replayed for full windows.
func (c *Correlator) Lookback() time.Duration { return 0 }

// Observe takes one record in and appends what fires at once.
func (c *Correlator) Observe(in Input, dst []Firing) []Firing { return dst }

// Advance moves the watermark and appends what fires now. The watermark
// never moves back; the largest Instant ends the input.
func (c *Correlator) Advance(watermark event.Instant, dst []Firing) []Firing { return dst }

// Restore loads episodes that fired before a restart. It is called before the
// first Observe.
func (c *Correlator) Restore(eps []Episode) {}

// Migrate takes over from old the state of the rules that did not change.
func (c *Correlator) Migrate(old *Correlator) {}

// TakeUpdates returns how episodes went on since the last call: when they
// closed, and every half timespan while they last.
func (c *Correlator) TakeUpdates() []Update { return nil }

// Stats returns the counters.
func (c *Correlator) Stats() Stats { return Stats{} }
