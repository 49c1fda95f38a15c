package rules

import (
	"math/bits"
	"slices"
)

// Term is one way to satisfy the condition of a temporal_ordered correlation:
// the inputs of Need match in this order, and none of those in None matches.
type Term struct {
	Need []int
	None uint64 // bit i: input i
}

const (
	maxTerms      = 128 // of one condition
	maxTermInputs = 64  // they are bits of a word
)

// masks is a term as bits.
type masks struct{ need, none uint64 }

// Terms lists the ways to satisfy the condition, without those that ask for more
// than another one; false when there are too many to keep a chain for each.
func (c *Correlation) Terms() ([]Term, bool) {
	n := len(c.Inputs)
	if n > maxTermInputs {
		return nil, false
	}
	if c.Expr == nil {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		return []Term{{Need: all}}, true
	}
	list, ok := c.Expr.masks(false)
	if !ok {
		return nil, false
	}
	var out []Term
	for _, m := range list {
		t := Term{None: m.none}
		for rest := m.need; rest != 0; rest &= rest - 1 {
			t.Need = append(t.Need, bits.TrailingZeros64(rest))
		}
		out = append(out, t)
	}
	return out, true
}

// masks is the expression, or its negation, as alternatives of bits.
func (e *BoolExpr) masks(negated bool) ([]masks, bool) {
	switch {
	case e.Op == "not":
		return e.Args[0].masks(!negated)
	case e.Op == "" && negated:
		return []masks{{none: 1 << e.Input}}, true
	case e.Op == "":
		return []masks{{need: 1 << e.Input}}, true
	}
	both := (e.Op == "and") != negated
	var out []masks
	for i, a := range e.Args {
		list, ok := a.masks(negated)
		if !ok {
			return nil, false
		}
		switch {
		case i == 0 || !both:
			out = append(out, list...)
		default:
			out = cross(out, list)
		}
		if out = absorb(out); len(out) > maxTerms {
			return nil, false
		}
	}
	return out, true
}

// cross joins every alternative of a with every one of b.
func cross(a, b []masks) []masks {
	var out []masks
	for _, x := range a {
		for _, y := range b {
			if m := (masks{x.need | y.need, x.none | y.none}); m.need&m.none == 0 {
				out = append(out, m)
			}
		}
	}
	return out
}

// absorb leaves out what asks for all that another alternative asks for.
func absorb(list []masks) []masks {
	var out []masks
	for i, x := range list {
		if !slices.ContainsFunc(list[:i], x.covers) && !slices.ContainsFunc(list[i+1:], func(y masks) bool { return y != x && x.covers(y) }) {
			out = append(out, x)
		}
	}
	return out
}

// covers reports whether x asks for all that y asks for.
func (x masks) covers(y masks) bool { return y.need&^x.need == 0 && y.none&^x.none == 0 }
