package correlate

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// record is one record of a test: what it matched, and its values.
type record struct {
	ts      event.Instant
	part    int32
	off     int64
	matched []int32
	group   string
	value   string
}

func (r record) Text(slot int) (string, bool) {
	switch slot {
	case 0:
		return r.group, r.group != ""
	case 1:
		return r.value, r.value != ""
	}
	return "", false
}

func (r record) Number(slot int) (float64, bool) {
	v, err := strconv.ParseFloat(r.value, 64)
	return v, err == nil && slot == 1
}

func (r record) input() Input {
	return Input{Matched: r.matched, Values: r, TS: r.ts, Ref: event.Ref{Topic: "t", Partition: r.part, Offset: r.off}}
}

// span is what a test compares of an episode.
type span struct {
	Group       string
	First, Last event.Instant
}

func sortSpans(s []span) []span {
	slices.SortFunc(s, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	return s
}

// newSet makes a set of n rules under one correlation, grouped by slot 0 and
// measured by slot 1.
func newSet(c *rules.Correlation, n int) *rules.Set {
	set := &rules.Set{}
	for i := range n {
		r := &rules.Rule{Index: i, Inner: true}
		r.ID = "rule-" + strconv.Itoa(i)
		set.Rules = append(set.Rules, r)
		in := rules.Input{Name: r.ID, Rule: r, GroupSlots: []int{0}, GroupNames: []string{"g"}}
		for range c.Field {
			in.FieldSlots = append(in.FieldSlots, 1)
		}
		c.Inputs = append(c.Inputs, in)
	}
	c.ID, c.Title, c.GroupBy = "corr", "corr", []string{"g"}
	set.Correlations = []*rules.Correlation{c}
	return set
}

// reference is RULES §2 written down as plainly as possible: no state, no
// streaming, every window looked at anew.
func reference(c *rules.Correlation, all []record) []span {
	groups := map[string][]record{}
	for _, r := range all {
		if len(r.matched) > 0 {
			groups[r.group] = append(groups[r.group], r)
		}
	}
	var out []span
	forward, _ := condition(c)
	for name, rs := range groups {
		slices.SortFunc(rs, func(a, b record) int {
			return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.part, b.part), cmp.Compare(a.off, b.off))
		})
		if forward {
			out = append(out, referenceForward(c, name, rs)...)
			continue
		}
		if c.Type == rules.Absence && c.After {
			out = append(out, referenceAfter(c, name, rs)...)
			continue
		}
		T := event.Instant(c.Timespan)
		var open *span
		for i, r := range rs {
			if !referenceAt(c, rs, i) {
				continue
			}
			if open == nil || r.ts-open.Last > T {
				out = append(out, span{name, r.ts, r.ts})
				open = &out[len(out)-1]
			}
			open.Last = r.ts
		}
	}
	return sortSpans(out)
}

// referenceAt is the condition at the i-th record of a group.
func referenceAt(c *rules.Correlation, rs []record, i int) bool {
	r, T := rs[i], event.Instant(c.Timespan)
	switch c.Type {
	case rules.FirstSeen:
		for _, o := range rs[:i] {
			if o.value == r.value && r.ts-o.ts <= event.Instant(c.Lookback) {
				return false
			}
		}
		since := i // the group is as old as its last gap above the lookback
		for since > 0 && rs[since].ts-rs[since-1].ts <= event.Instant(c.Lookback) {
			since--
		}
		return r.ts-rs[since].ts >= event.Instant(c.Learn)
	case rules.Absence:
		return slices.Contains(r.matched, 0) && !hasOther(between(rs, r.ts-T, r.ts), r, 1)
	}
	return referenceHolds(c, between(rs, r.ts-T, r.ts))
}

// hasOther reports whether another record than r matched the rule.
func hasOther(rs []record, r record, input int32) bool {
	return slices.ContainsFunc(rs, func(o record) bool { return o.off != r.off && slices.Contains(o.matched, input) })
}

// referenceAfter looks for the second rule behind every event of the first; what
// lies in a window that fired belongs to it.
func referenceAfter(c *rules.Correlation, name string, rs []record) []span {
	var out []span
	fired := event.Instant(math.MinInt64)
	for _, r := range rs {
		end := r.ts + event.Instant(c.Timespan)
		if slices.Contains(r.matched, 0) && r.ts > fired && !hasOther(between(rs, r.ts, end), r, 1) {
			fired = end
			out = append(out, span{name, r.ts, end})
		}
	}
	return out
}

func referenceForward(c *rules.Correlation, name string, rs []record) []span {
	var out []span
	end := event.Instant(math.MinInt64)
	for _, r := range rs {
		if r.ts <= end {
			continue
		}
		end = r.ts + event.Instant(c.Timespan)
		if referenceHolds(c, between(rs, r.ts, end)) {
			out = append(out, span{name, r.ts, end})
		}
	}
	return out
}

func between(rs []record, from, to event.Instant) []record {
	var out []record
	for _, r := range rs {
		if r.ts >= from && r.ts <= to {
			out = append(out, r)
		}
	}
	return out
}

func referenceHolds(c *rules.Correlation, w []record) bool {
	holds := func(v float64) bool {
		for _, b := range c.Bounds {
			if !b.Holds(v) {
				return false
			}
		}
		return true
	}
	count := func(input int32) (n float64) {
		for _, r := range w {
			if slices.Contains(r.matched, input) {
				n++
			}
		}
		return n
	}
	switch c.Type {
	case rules.EventCount:
		return holds(float64(len(w)))
	case rules.ValueCount:
		seen := map[string]bool{}
		for _, r := range w {
			seen[r.value] = true
		}
		return holds(float64(len(seen)))
	case rules.Temporal:
		if c.Expr != nil {
			return c.Expr.Eval(func(i int) bool { return count(int32(i)) > 0 })
		}
		for i := range c.Inputs {
			if count(int32(i)) == 0 {
				return false
			}
		}
		return true
	case rules.TemporalOrdered:
		return referenceOrdered(c, w)
	case rules.EventRatio:
		den := count(1)
		return den > 0 && den >= float64(c.MinDenominator) && holds(100*count(0)/den)
	}
	return referenceMeasure(c, w, holds)
}

// referenceOrdered tries every set of inputs that satisfies the condition: the
// set matches in order, and an input under not is in the window or is not.
func referenceOrdered(c *rules.Correlation, w []record) bool {
	seen := uint(0)
	for _, r := range w {
		for _, i := range r.matched {
			seen |= 1 << i
		}
	}
	for set := range uint(1) << len(c.Inputs) {
		holds := set == 1<<len(c.Inputs)-1
		if c.Expr != nil {
			holds = referenceExpr(c.Expr, set, seen)
		}
		if holds && referenceChain(set, w) {
			return true
		}
	}
	return false
}

// referenceExpr takes inputs from set, and from not where they are negated.
func referenceExpr(x *rules.BoolExpr, set, not uint) bool {
	switch x.Op {
	case "not":
		return !referenceExpr(x.Args[0], not, set)
	case "and":
		return !slices.ContainsFunc(x.Args, func(a *rules.BoolExpr) bool { return !referenceExpr(a, set, not) })
	case "or":
		return slices.ContainsFunc(x.Args, func(a *rules.BoolExpr) bool { return referenceExpr(a, set, not) })
	}
	return set>>x.Input&1 != 0
}

// referenceChain tries every start and takes the earliest successor each time.
func referenceChain(set uint, w []record) bool {
	var want []int32
	for i := range int32(8) {
		if set>>i&1 != 0 {
			want = append(want, i)
		}
	}
	for start := range w {
		next := 0
		for _, r := range w[start:] {
			if next < len(want) && slices.Contains(r.matched, want[next]) {
				next++
			}
		}
		if next == len(want) {
			return true
		}
	}
	return false
}

func referenceMeasure(c *rules.Correlation, w []record, holds func(float64) bool) bool {
	var vs []float64
	var sum float64
	for _, r := range w {
		if v, ok := r.Number(1); ok {
			vs = append(vs, v)
			sum += v
		}
	}
	if len(vs) == 0 {
		return false
	}
	slices.Sort(vs)
	switch c.Type {
	case rules.ValueSum:
		return holds(sum)
	case rules.ValueAvg:
		return holds(sum / float64(len(vs)))
	case rules.ValueMedian:
		m := vs[len(vs)/2]
		if len(vs)%2 == 0 {
			m = (m + vs[len(vs)/2-1]) / 2
		}
		return holds(m)
	}
	i := 0 // the smallest value that at least p percent do not exceed
	for float64(i+1)*100 < c.Percentile*float64(len(vs)) {
		i++
	}
	return holds(vs[i])
}
