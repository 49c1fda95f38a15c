package correlate

import (
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Values gives the values of the record being observed; *rules.Matcher is the
// real one. Strings are copied when they are kept.
type Values interface {
	Text(slot int) (string, bool)
	Number(slot int) (float64, bool)
}

// Input is one record that matched at least one rule.
type Input struct {
	// Matched are indexes into Set.Rules, ascending.
	Matched []int32
	Values  Values
	// Event is needed for standalone rules only, whose group is made of fields
	// of the event; nil when records are raw JSON.
	Event *event.Event
	TS    event.Instant
	Ref   event.Ref
	// Silent: the record was judged before a restart; it fills windows and fires
	// nothing.
	Silent bool
}

// Firing is one episode that opened, or one repetition of it.
type Firing struct {
	// One of Rule (a standalone detection rule) and Correlation is set.
	Rule        *rules.Rule
	Correlation *rules.Correlation

	// ID identifies the episode: finding.MakeID of the rule, the group and First
	// as it stood when the episode fired. It is what updates refer to.
	ID    string
	Group []finding.Pair
	// First and Last are the first and, so far, last satisfying time. First may
	// still move back until the watermark has passed it; ID does not.
	First, Last event.Instant
	// Fired is the effective time at which the episode fired.
	Fired event.Instant
	// Count counts the satisfying events so far.
	Count uint64
	// Value is what the condition compared: a count, a sum, a percentage.
	Value float64
	// Refs are the latest events of the group, at most finding.MaxEvidence, in
	// order of time.
	Refs        []event.Ref
	Approximate bool
	Series      finding.Series
	// Repeat: the episode fired before, and refire asked for this one.
	Repeat bool
}

// Meta is the rule's or the correlation's.
func (f *Firing) Meta() *rules.Meta {
	if f.Rule != nil {
		return &f.Rule.Meta
	}
	return &f.Correlation.Meta
}

// Update tells how an episode that fired went on.
type Update struct {
	ID          string
	First, Last event.Instant
	Count       uint64
	Closed      bool
}

// Episode is an episode that fired before a restart, as the journal knows it.
type Episode struct {
	ID          string
	RuleID      string
	Group       []finding.Pair
	First, Last event.Instant
	Count       uint64
	// Told: First, Last and Count are those of an update, not of the firing alone.
	Told bool
}

// Stats are the correlator's counters since it was made, and its present size.
type Stats struct {
	Groups  int
	Bytes   int64 // estimated
	Pending int

	Observed     uint64 // (observation, rule) pairs taken in
	MissingGroup uint64 // a group-by field was absent
	MissingField uint64 // the measured field was absent or no number
	Late         uint64 // behind the watermark, but still within reach
	TooLate      uint64 // not correlated
	Expired      uint64 // groups that ended by themselves
	Evicted      uint64 // groups dropped for room
	Orphaned     uint64 // observations whose group was dropped before they were judged
	Forced       uint64 // observations judged before the watermark, for room
	Held         uint64 // episodes that waited for the watermark before they fired
	Unknown      uint64 // absences and new values that were not judged, for want of coverage or of room
}

// Add is the sum of two correlators' counters.
func (s Stats) Add(o Stats) Stats {
	return Stats{Groups: s.Groups + o.Groups, Bytes: s.Bytes + o.Bytes, Pending: s.Pending + o.Pending,
		Observed: s.Observed + o.Observed, MissingGroup: s.MissingGroup + o.MissingGroup, MissingField: s.MissingField + o.MissingField,
		Late: s.Late + o.Late, TooLate: s.TooLate + o.TooLate, Expired: s.Expired + o.Expired, Evicted: s.Evicted + o.Evicted,
		Orphaned: s.Orphaned + o.Orphaned, Forced: s.Forced + o.Forced, Held: s.Held + o.Held, Unknown: s.Unknown + o.Unknown}
}

// Episodes closer than this to an earlier one wait for the watermark.
func holdBack(timespan, lateness time.Duration) time.Duration { return 2*timespan + lateness }
