package rules

import (
	"fmt"
	"slices"
)

// compileCorrelations resolves references, inputs before users, and marks the
// inner rules.
func (l *loader) compileCorrelations() {
	byRef := map[string]*correlationDoc{}
	for _, c := range l.correlations {
		for _, k := range []string{c.meta.ID, c.meta.Name} {
			if k != "" && byRef[k] == nil {
				byRef[k] = c
			}
		}
	}
	state := map[*correlationDoc]int{} // 1 being compiled, 2 done
	var visit func(c *correlationDoc)
	visit = func(c *correlationDoc) {
		if state[c] != 0 {
			return
		}
		state[c] = 1
		for _, r := range c.refs {
			dep := byRef[r.name]
			if dep == nil {
				continue
			}
			if state[dep] == 1 {
				c.p.report(r.node, CodeCycle, "", "the correlation refers to itself through %q", r.name)
				continue
			}
			visit(dep)
		}
		l.compileCorrelation(c)
		state[c] = 2
	}
	for _, c := range l.correlations {
		visit(c)
	}
	l.markInner()
}

// compileCorrelation resolves one correlation whose inputs are compiled.
func (l *loader) compileCorrelation(c *correlationDoc) {
	l.low.p = c.p
	out := c.out
	out.Meta = c.meta
	if i := slices.IndexFunc(c.refs, func(r ref) bool { return l.off[r.name] }); i >= 0 && !c.p.failed {
		c.p.report(c.refs[i].node, CodeDisabled, "", "left out, because %q is disabled", c.refs[i].name)
		l.flush(c.p, &c.meta)
		l.turnOff(&c.meta)
		return
	}
	for _, r := range c.refs {
		in := Input{Name: r.name, Rule: l.byRef[r.name], Correlation: l.corr[r.name]}
		if in.Rule == nil && in.Correlation == nil {
			if !c.p.failed {
				l.unresolved(c.p, r)
			}
			continue
		}
		if in.Rule != nil {
			in.Correlation = nil
		}
		l.inputSlots(c, &in)
		out.Inputs = append(out.Inputs, in)
	}
	if !c.p.failed {
		l.temporalExpr(c, &out)
	}
	if !l.flush(c.p, &c.meta) {
		return
	}
	l.derive(c, &out)
	for _, in := range out.Inputs {
		m := in.meta()
		out.Hash, out.Logic = hashOf(out.Hash, m.Hash), hashOf(out.Logic, m.ID, m.Logic)
	}
	out.Index = len(l.set.Correlations)
	out.generate = c.generated
	cp := &out
	l.set.Correlations = append(l.set.Correlations, cp)
	for _, k := range []string{cp.ID, cp.Name} {
		if k != "" && l.corr[k] == nil {
			l.corr[k] = cp
		}
	}
}

func (in *Input) meta() *Meta {
	if in.Rule != nil {
		return &in.Rule.Meta
	}
	return &in.Correlation.Meta
}

// inputSlots finds where an input's events have the group and the field.
func (l *loader) inputSlots(c *correlationDoc, in *Input) {
	names := func(list []string) []string {
		out := make([]string, len(list))
		for i, n := range list {
			out[i] = n
			if f, ok := c.aliases[n][in.Name]; ok {
				out[i] = f
			}
		}
		return out
	}
	slotsOf := func(list []string) []int {
		var out []int
		for _, n := range list {
			if in.Correlation != nil && slices.Contains(in.Correlation.GroupBy, n) {
				out = append(out, -1)
				continue
			}
			sl, _ := l.low.slot(c.p.at(c.node), n)
			out = append(out, sl)
		}
		return out
	}
	in.GroupNames = names(c.out.GroupBy)
	in.GroupSlots, in.FieldSlots = slotsOf(in.GroupNames), slotsOf(names(c.out.Field))
}

// temporalExpr resolves the condition of a temporal type.
func (l *loader) temporalExpr(c *correlationDoc, out *Correlation) {
	if !out.Type.temporal() {
		return
	}
	defer func() {
		if _, ok := out.Terms(); !ok && out.Type == TemporalOrdered && !c.p.failed {
			c.p.report(get(c.node, "condition"), CodeCorrelationBound, "split it into several correlations", "the condition can be satisfied in more than %d ways", maxTerms)
		}
	}()
	if c.cond != nil {
		index := map[string]int{}
		var names []string
		for i, in := range out.Inputs {
			if _, ok := index[in.Name]; !ok {
				index[in.Name] = i
				names = append(names, in.Name)
			}
		}
		e := c.p.parseCond(c.cond, condScope{names: names, what: "rule", has: func(s string) bool { _, ok := index[s]; return ok }})
		if e != nil {
			out.Expr = boolExpr(e, index)
			if !positive(out.Expr) {
				c.p.report(c.cond, CodeCorrelationBound, "name at least one rule without `not`", "the condition holds when nothing happens, so no event could ever open its window")
			}
		}
		return
	}
	if len(out.Bounds) > 0 {
		e, err := c.temporalBound(len(out.Inputs))
		if err != nil {
			c.p.report(get(c.node, "condition"), CodeCorrelationBound, "", "%s", err)
		}
		out.Expr, out.Bounds = e, nil
	}
}

func boolExpr(c *cond, index map[string]int) *BoolExpr {
	if c.op == "" {
		return &BoolExpr{Input: index[c.name]}
	}
	e := &BoolExpr{Op: c.op, Input: -1}
	for _, a := range c.args {
		e.Args = append(e.Args, boolExpr(a, index))
	}
	return e
}

// positive reports whether the expression is false when no input has matched.
func positive(e *BoolExpr) bool { return !e.Eval(func(int) bool { return false }) }

// Eval computes the expression for given truths of the inputs.
func (e *BoolExpr) Eval(holds func(input int) bool) bool {
	switch e.Op {
	case "and":
		return !slices.ContainsFunc(e.Args, func(a *BoolExpr) bool { return !a.Eval(holds) })
	case "or":
		return slices.ContainsFunc(e.Args, func(a *BoolExpr) bool { return a.Eval(holds) })
	case "not":
		return !e.Args[0].Eval(holds)
	}
	return holds(e.Input)
}

// derive narrows the inputs of a correlation with causes: copies of its rules
// that match events of these causes only.
func (l *loader) derive(c *correlationDoc, out *Correlation) {
	if len(out.Causes) == 0 {
		return
	}
	for i := range out.Inputs {
		in := &out.Inputs[i]
		if in.Rule == nil {
			continue // its own inputs decide
		}
		cp := *in.Rule
		cp.ID = fmt.Sprintf("%s/%s", cp.ID, out.ID)
		cp.Name = ""
		cp.Index = len(l.set.Rules)
		cp.Derived, cp.Inner = true, true
		cp.root = l.restrict(cp.root, out.Causes)
		cp.Hash, cp.Logic = hashOf(cp.Hash, out.Hash), hashOf(cp.Logic, out.Logic)
		l.set.Rules = append(l.set.Rules, &cp)
		in.base = in.Rule
		in.Rule = &cp
	}
}

// markInner marks what a correlation refers to without saying generate.
func (l *loader) markInner() {
	rules, corrs := map[*Rule]bool{}, map[*Correlation]bool{} // true: someone says generate
	for _, c := range l.set.Correlations {
		for _, in := range c.Inputs {
			if in.Correlation != nil {
				corrs[in.Correlation] = corrs[in.Correlation] || c.generate || in.Correlation.generate
				continue
			}
			r := in.Rule
			if in.base != nil {
				r = in.base
			}
			rules[r] = rules[r] || c.generate || r.generated
		}
	}
	for r, gen := range rules {
		r.Inner = !gen
	}
	for c, gen := range corrs {
		c.Inner = !gen
	}
}
