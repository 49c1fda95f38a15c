package correlate

import (
	"fmt"
	"math"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// maxInputs is how many rules one correlation may refer to: they are bits of a
// word.
const maxInputs = 64

// spec is one rule as the correlator runs it, with the groups that live.
type spec struct {
	// order is the place in judging order: inputs before their users.
	order int
	rule  *rules.Rule
	corr  *rules.Correlation
	meta  *rules.Meta

	fields   []string      // names of the group's values
	standard []event.Field // of a standalone rule: where the values come from
	inputs   []rules.Input
	typ      rules.CorrelationType
	bounds   []rules.Bound
	expr     *rules.BoolExpr
	terms    []rules.Term  // temporal_ordered: the ways to satisfy the condition
	span     event.Instant // timespan
	hold     event.Instant // see holdBack
	keep     event.Instant // how long a group without events still matters
	reach    event.Instant // how far back events must be replayed
	refire   event.Instant
	need     int    // events or values that satisfy a gte condition
	forward  bool   // judged at the end of a forward window
	evidence uint64 // inputs whose observations are worth showing
	emits    bool   // not only an input of another correlation
	carry    []int  // slots that its users want from the record
	// remembers: what it knows is kept beyond windows; learning: that was not
	// loaded yet.
	remembers, learning bool
	// lost is the newest event of a group that was dropped for room: an absence
	// that reaches back to it cannot be judged.
	lost event.Instant
	// doubted counts values of first_seen that may have been known before.
	doubted uint64
	users   []use // correlations that take this one's episodes in

	groups   map[string]*group
	slab     []*group
	hand     int           // place in slab that sweep looks at next
	swept    event.Instant // watermark up to which sweepDue is
	sweepDue float64       // groups that sweep is to look at
	bytes    int64
	restored map[string][]fired

	// known is the instant from which every event of the rule is known, missing
	// the one before which events are not there that should be: see known.go.
	known, missing event.Instant
}

// use is one place where a rule is referred to.
type use struct {
	s     *spec
	input int
}

// standalone makes the spec of a detection rule that stands for itself.
func standalone(r *rules.Rule, cfg Config) *spec {
	span := event.Instant(r.Suppress)
	if span <= 0 {
		span = event.Instant(defaultSuppress)
	}
	s := &spec{rule: r, meta: &r.Meta, typ: rules.EventCount, span: span, need: 1, emits: true, evidence: 1,
		fields: []string{event.FieldNetwork.String()}, standard: []event.Field{event.FieldNetwork}}
	if f, ok := event.ParseField(r.Risk.Subject); ok && f != event.FieldNetwork {
		s.fields = append(s.fields, r.Risk.Subject)
		s.standard = append(s.standard, f)
	}
	s.finish(cfg)
	return s
}

// newSpec makes the spec of a correlation, or says why it cannot be evaluated.
func newSpec(c *rules.Correlation, cfg Config) (*spec, error) {
	s := &spec{corr: c, meta: &c.Meta, fields: c.GroupBy, inputs: c.Inputs, typ: c.Type, bounds: c.Bounds,
		expr: c.Expr, span: event.Instant(c.Timespan), emits: !c.Inner, evidence: math.MaxUint64}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%s:%d: %s: %w", c.File, c.Line, c.Title, err)
	}
	if c.Type == rules.EventRatio || c.Type == rules.Absence {
		s.evidence = 1
	}
	s.forward, s.need = condition(c)
	s.forward = s.forward || c.Type == rules.Absence && (c.After || c.Wait > 0)
	s.finish(cfg)
	return s, nil
}

// before is how far back from an event of a forward absence its partner may lie.
func (s *spec) before() event.Instant {
	if s.typ == rules.Absence && !s.corr.After {
		return s.span
	}
	return 0
}

func (s *spec) finish(cfg Config) {
	s.hold = event.Instant(holdBack(s.span.Sub(0), cfg.Lateness))
	s.keep, s.reach, s.lost = s.hold, s.span, never
	s.remember(cfg)
	s.refire = event.Instant(s.meta.Refire)
	s.groups = map[string]*group{}
	s.known, s.missing = alwaysKnown, alwaysKnown
}

func (s *spec) check() error {
	c := s.corr
	if c.Timespan <= 0 && c.Type != rules.FirstSeen {
		return fmt.Errorf("timespan must be positive")
	}
	if len(c.Inputs) == 0 || len(c.Inputs) > maxInputs {
		return fmt.Errorf("%d rules referred to: 1 to %d are possible", len(c.Inputs), maxInputs)
	}
	switch c.Type {
	case rules.EventCount:
	case rules.ValueCount, rules.ValueSum, rules.ValueAvg, rules.ValuePercentile, rules.ValueMedian:
		if len(c.Field) == 0 {
			return fmt.Errorf("%s needs a field", c.Type)
		}
	case rules.Temporal, rules.RateAnomaly:
		return nil
	case rules.TemporalOrdered:
		var ok bool
		if s.terms, ok = c.Terms(); !ok {
			return fmt.Errorf("the condition can be satisfied in too many ways")
		}
		return nil
	case rules.FirstSeen:
		if len(c.Field) != 1 || c.Lookback <= 0 {
			return fmt.Errorf("first_seen needs a field and a lookback")
		}
		return nil
	case rules.EventRatio, rules.Absence:
		if len(c.Inputs) != 2 {
			return fmt.Errorf("%s needs two rules, not %d", c.Type, len(c.Inputs))
		}
		if c.Type == rules.Absence {
			return nil
		}
	default:
		return fmt.Errorf("unknown type of correlation %q", c.Type)
	}
	if len(c.Bounds) == 0 {
		return fmt.Errorf("%s needs a condition", c.Type)
	}
	return nil
}

// condition says whether c is judged at the end of a forward window and, for the
// counting types that are not, how many are needed.
func condition(c *rules.Correlation) (forward bool, need int) {
	need = 1
	for _, b := range c.Bounds {
		switch b.Op {
		case "gte":
			need = max(need, int(math.Ceil(clampCount(b.Value))))
		case "gt":
			need = max(need, int(math.Floor(clampCount(b.Value)))+1)
		default:
			forward = true
		}
	}
	return forward || hasNot(c.Expr), need
}

// clampCount keeps a threshold within what a count can reach.
func clampCount(v float64) float64 { return min(max(v, 0), 1<<31) }

func hasNot(x *rules.BoolExpr) bool {
	if x == nil {
		return false
	}
	if x.Op == "not" {
		return true
	}
	for _, a := range x.Args {
		if hasNot(a) {
			return true
		}
	}
	return false
}

// holds reports whether v satisfies every bound.
func (s *spec) holds(v float64) bool {
	for _, b := range s.bounds {
		if !b.Holds(v) {
			return false
		}
	}
	return true
}

// present evaluates the boolean condition over the inputs that are present.
func (s *spec) present(mask uint64) bool {
	if s.expr != nil {
		return evaluate(s.expr, mask)
	}
	all := uint64(math.MaxUint64) >> (maxInputs - len(s.inputs))
	return mask&all == all
}

func evaluate(x *rules.BoolExpr, mask uint64) bool {
	switch x.Op {
	case "not":
		return !evaluate(x.Args[0], mask)
	case "and":
		for _, a := range x.Args {
			if !evaluate(a, mask) {
				return false
			}
		}
		return true
	case "or":
		for _, a := range x.Args {
			if evaluate(a, mask) {
				return true
			}
		}
		return false
	}
	return mask&(1<<x.Input) != 0
}

// key appends the group's key for one input to buf; false when a value is
// missing. A value is preceded by its length, so that no two groups share a key.
// Where a rule that stands for itself is about the server key, events of sessions
// take part without naming one: they are about the live key.
func (s *spec) key(buf []byte, in *Input, input int) ([]byte, bool) {
	if s.standard != nil {
		for i, f := range s.standard {
			v, ok := in.Event.Text(f)
			if !ok && i > 0 && f != event.FieldKeyID {
				return buf, false
			}
			buf = appendValue(buf, v)
		}
		return buf, true
	}
	for _, slot := range s.inputs[input].GroupSlots {
		v, ok := in.Values.Text(slot)
		if !ok {
			return buf, false
		}
		buf = appendValue(buf, v)
	}
	return buf, true
}

func appendValue(buf []byte, v string) []byte {
	n := len(v)
	buf = append(buf, byte(n), byte(n>>8), byte(n>>16))
	return append(buf, v...)
}

// pairs is the inverse of key.
func (s *spec) pairs(key string) []finding.Pair {
	out := make([]finding.Pair, 0, len(s.fields))
	for _, f := range s.fields {
		n := int(key[0]) | int(key[1])<<8 | int(key[2])<<16
		out = append(out, finding.Pair{Field: f, Value: key[3 : 3+n]})
		key = key[3+n:]
	}
	return out
}

// keyOf builds the key of a group that is known by its pairs; false when they
// are not this rule's.
func (s *spec) keyOf(group []finding.Pair) (string, bool) {
	if len(group) != len(s.fields) {
		return "", false
	}
	var buf []byte
	for i, p := range group {
		if p.Field != s.fields[i] {
			return "", false
		}
		buf = appendValue(buf, p.Value)
	}
	return string(buf), true
}
