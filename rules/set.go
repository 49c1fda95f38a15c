package rules

import (
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Set is what a load produced: the documents that compiled. It is immutable.
type Set struct {
	Rules        []*Rule
	Correlations []*Correlation // in dependency order: inputs before users

	program *Program
}

// Program is the stream program of the set.
func (s *Set) Program() *Program { return s.program }

// Meta is what every document carries.
type Meta struct {
	File           string
	Line           int
	ID, Name       string // ID: the UUID, or else the name, or else derived from the title
	Hash           string // hex; changes with the document, the filters on it and, for a correlation, its inputs
	Logic          string // hex; like Hash, but only of what decides when the rule fires and for which group
	Title          string
	Status, Level  string
	Description    string
	Author         string
	References     []string
	Tags           []string
	FalsePositives []string

	// Extensions.
	Risk       Risk
	Causes     []event.Cause    // cause: restricts to these
	Playbook   string           // playbook: NAME
	Shadow     bool             // mode: shadow
	Suppress   time.Duration    // suppress: episode timespan of a standalone detection rule; default 1 h
	Refire     time.Duration    // refire: D; 0 never
	Kind       finding.Kind     // incident: KIND; default other
	Severity   finding.Severity // severity: page|ticket|digest; default from level (critical page, high and medium ticket, else digest)
	Resolution string           // resolution: what a person should do
	Summary    string           // summary: one sentence without values
	Origins    []event.Origin   // needs.origins
	Fields     []event.Field    // needs.fields
}

// Risk is evidence for an incident: about whom, and how much.
type Risk struct {
	Subject string // event field
	Score   float64
	Family  string // possession, place, volume, sequence, lifecycle
}

// Rule is one compiled detection rule.
type Rule struct {
	Meta
	Index     int // place in Set.Rules
	LogSource map[string]string
	// Inner: a correlation refers to the rule and does not say generate, so that
	// it emits nothing by itself.
	Inner bool
	// Derived: a copy of a rule, narrowed by the cause: of a correlation. It is
	// always Inner and not listed.
	Derived bool

	root      node // the lowered condition, in the set's graph
	generated bool // generate: true in the rule itself
}

// CorrelationType is one of Sigma's eight types or of the extensions.
type CorrelationType string

// The types.
const (
	EventCount      CorrelationType = "event_count"
	ValueCount      CorrelationType = "value_count"
	Temporal        CorrelationType = "temporal"
	TemporalOrdered CorrelationType = "temporal_ordered"
	ValueSum        CorrelationType = "value_sum"
	ValueAvg        CorrelationType = "value_avg"
	ValuePercentile CorrelationType = "value_percentile"
	ValueMedian     CorrelationType = "value_median"
	EventRatio      CorrelationType = "event_ratio"
	FirstSeen       CorrelationType = "first_seen"
	Absence         CorrelationType = "absence"
	RateAnomaly     CorrelationType = "rate_anomaly"
)

// Correlation is one compiled correlation.
type Correlation struct {
	Meta
	Index int // place in Set.Correlations
	Type  CorrelationType
	// Inputs are the rules it refers to, in document order.
	Inputs   []Input
	GroupBy  []string // names as written; empty: one global group
	Timespan time.Duration
	Bounds   []Bound // all must hold; empty for temporal types
	// Expr is the boolean condition of a temporal type; nil means every input.
	Expr  *BoolExpr
	Field []string // as written; several only for value_count

	Percentile     float64
	MinDenominator int
	Lookback       time.Duration
	Learn          time.Duration
	Wait           time.Duration // absence, order before: judged so long after; 0: when the watermark passes
	Within         time.Duration
	After          bool // absence: B is awaited after A (order: after); else before
	MinCoverage    float64
	Threshold      float64 // rate_anomaly
	Floor, Ratio   float64 // rate_anomaly: events, and share of the season, that are reached; 0: any
	Direction      string  // up, down, both

	// Inner: another correlation refers to it and does not say generate.
	Inner bool

	generate bool // it says generate
}

// Input is one rule of a correlation, with the slots that its events are grouped
// and measured by (aliases resolved per input).
type Input struct {
	Name        string       // as referred to
	Rule        *Rule        // one of Rule and Correlation is set
	Correlation *Correlation // chaining
	// GroupNames are the names of GroupBy as this input has them, aliases
	// resolved: for a chained input, names of its own group.
	GroupNames []string
	// GroupSlots is parallel to GroupBy. It is -1 where a chained input's group
	// gives the value by name; where that group lacks the name it is the slot, to
	// be read from the event that completed the input.
	GroupSlots []int
	FieldSlots []int // parallel to Field; -1 as above

	base *Rule // the rule that Rule was derived from
}

// Bound is one comparison of a condition.
type Bound struct {
	Op    string // gt gte lt lte eq neq
	Value float64
}

// Holds reports whether v satisfies the bound.
func (b Bound) Holds(v float64) bool {
	switch b.Op {
	case "gt":
		return v > b.Value
	case "gte":
		return v >= b.Value
	case "lt":
		return v < b.Value
	case "lte":
		return v <= b.Value
	case "eq":
		return v == b.Value
	case "neq":
		return v != b.Value
	}
	return false
}

// BoolExpr is a boolean condition over inputs: a leaf (Input >= 0), or Op over
// Args.
type BoolExpr struct {
	Op    string // and, or, not; empty for a leaf
	Input int    // index into Correlation.Inputs, for a leaf
	Args  []*BoolExpr
}
