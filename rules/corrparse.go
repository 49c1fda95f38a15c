package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// correlationDoc is the AST of a correlation document.
type correlationDoc struct {
	p         *docParser
	meta      Meta
	generated bool
	node      *yaml.Node // the correlation mapping
	out       Correlation
	refs      []ref
	cond      *yaml.Node // a boolean condition, resolved once the inputs are known
	aliases   map[string]map[string]string
}

// ref is a reference to a document by id or name.
type ref struct {
	name string
	node *yaml.Node
}

// corrKeys are the keys of a correlation that belong to every type, and corrType
// those that only some take.
var (
	corrKeys = []string{"type", "rules", "group-by", "timespan", "condition", "aliases", "generate"}
	corrType = map[CorrelationType][]string{
		EventCount: nil, ValueCount: {"field"}, Temporal: nil, TemporalOrdered: nil,
		ValueSum: {"field"}, ValueAvg: {"field"}, ValueMedian: {"field"}, ValuePercentile: {"field", "percentile"},
		EventRatio: {"min_denominator"}, FirstSeen: {"field", "lookback", "learn"},
		Absence: {"within", "order", "min_coverage", "wait"}, RateAnomaly: {"field", "threshold", "direction", "floor", "ratio"},
	}
)

// figureKeys say what is measured. They may stand beside the condition or in it,
// and parseExtras says which types take them.
var figureKeys = []string{"field", "percentile", "min_denominator"}

func (t CorrelationType) temporal() bool { return t == Temporal || t == TemporalOrdered }

// Extension reports whether other Sigma tools do not know the type.
func (t CorrelationType) Extension() bool {
	return t == EventRatio || t == FirstSeen || t == Absence || t == RateAnomaly
}

// wantsField reports whether the type measures a field.
func (t CorrelationType) wantsField() bool {
	return slices.Contains([]CorrelationType{ValueCount, ValueSum, ValueAvg, ValueMedian, ValuePercentile, FirstSeen}, t)
}

// counts reports whether the type compares a figure with bounds.
func (t CorrelationType) counts() bool {
	return !t.temporal() && t != FirstSeen && t != Absence && t != RateAnomaly
}

// correlationOf parses the correlation mapping of a document.
func (d *docParser) correlationOf(n *yaml.Node) *correlationDoc {
	c := &correlationDoc{p: d, meta: d.metaOf(), node: n}
	if n.Kind != yaml.MappingNode {
		d.report(n, CodeCorrelation, "", "correlation must be a mapping")
		return c
	}
	c.generated = d.boolean(n, "generate") || d.boolean(d.doc.root, "generate")
	c.out.Type = CorrelationType(d.str(n, "type"))
	extra, known := corrType[c.out.Type]
	if !known {
		at := get(n, "type")
		if at == nil {
			at = n
		}
		d.report(at, CodeCorrelation, "use event_count, value_count, temporal, temporal_ordered, value_sum, value_avg, value_percentile, value_median, event_ratio, first_seen, absence or rate_anomaly",
			"unknown type of correlation %q", c.out.Type)
		return c
	}
	d.onlyKeys(n, CodeCorrelation, slices.Concat(corrKeys, figureKeys, extra)...)
	c.parseRefs()
	c.out.GroupBy = d.strs(n, "group-by")
	if slices.Contains(c.out.GroupBy, "") {
		d.report(get(n, "group-by"), CodeCorrelation, "", "group-by has an empty name")
	}
	c.parseTimes()
	c.parseCondition()
	c.parseExtras()
	c.parseAliases()
	return c
}

func (c *correlationDoc) parseRefs() {
	n := get(c.node, "rules")
	if n == nil || isNull(n) || len(items(n)) == 0 {
		c.p.report(c.node, CodeCorrelation, "", "rules is missing: name the rules to correlate")
		return
	}
	for _, r := range items(n) {
		if !isText(r) {
			c.p.report(r, CodeCorrelation, "", "rules must be a list of ids or names")
			continue
		}
		c.refs = append(c.refs, ref{r.Value, r})
	}
	if t := c.out.Type; (t == EventRatio || t == Absence) && len(c.refs) != 2 {
		c.p.report(n, CodeCorrelation, "", "%s takes exactly two rules", t)
	}
}

func (c *correlationDoc) parseTimes() {
	d, n := c.p, c.node
	c.out.Timespan, _ = d.span(n, "timespan")
	c.out.Within, _ = d.span(n, "within")
	c.out.Lookback, _ = d.span(n, "lookback")
	c.out.Learn, _ = d.span(n, "learn")
	c.out.Wait, _ = d.span(n, "wait")
	switch c.out.Type {
	case Absence:
		if c.out.Within == 0 {
			c.out.Within = c.out.Timespan
		}
		c.out.Timespan = c.out.Within
		c.require(c.out.Within != 0, "within")
	case FirstSeen:
		c.require(c.out.Lookback != 0, "lookback")
	case RateAnomaly:
		if c.out.Timespan == 0 {
			c.out.Timespan = 15 * time.Minute
		}
	default:
		c.require(c.out.Timespan != 0, "timespan")
	}
}

func (c *correlationDoc) require(ok bool, key string) {
	if !ok && get(c.node, key) == nil {
		c.p.report(c.node, CodeCorrelation, "", "%s is missing: %s needs it", key, c.out.Type)
	}
}

// parseCondition reads the bounds, or keeps a boolean condition for later.
func (c *correlationDoc) parseCondition() {
	d, n := c.p, get(c.node, "condition")
	t := c.out.Type
	switch {
	case n == nil || isNull(n):
		if t.counts() {
			d.report(c.node, CodeCorrelationBound, "add `condition: {gte: N}`", "the condition is missing")
		}
		return
	case n.Kind == yaml.ScalarNode:
		if !t.temporal() {
			d.report(n, CodeCorrelationBound, "write a mapping such as {gte: 10}", "only temporal types take a boolean condition")
			return
		}
		c.cond = n
		return
	case n.Kind != yaml.MappingNode:
		d.report(n, CodeCorrelationBound, "write a mapping such as {gte: 10}", "the condition must be a mapping")
		return
	}
	known := append([]string{"gt", "gte", "lt", "lte", "eq", "neq"}, figureKeys...)
	if !d.onlyKeys(n, CodeCorrelationBound, known...) {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if op := n.Content[i].Value; slices.Contains(known[:6], op) {
			v, ok := numberOf(n.Content[i+1])
			if !ok {
				d.report(n.Content[i+1], CodeCorrelationBound, "", "%s needs a number", op)
			}
			c.out.Bounds = append(c.out.Bounds, Bound{Op: op, Value: v})
		}
	}
	c.checkBounds(n)
}

// checkBounds allows one bound, or one lower and one upper bound that some
// figure can satisfy.
func (c *correlationDoc) checkBounds(n *yaml.Node) {
	b := c.out.Bounds
	lower := func(b Bound) bool { return strings.HasPrefix(b.Op, "g") }
	upper := func(b Bound) bool { return strings.HasPrefix(b.Op, "l") }
	switch {
	case len(b) == 0:
		if c.out.Type.counts() {
			c.p.report(n, CodeCorrelationBound, "use gt, gte, lt, lte, eq or neq", "the condition has no bound")
		}
	case !c.out.Type.counts() && !c.out.Type.temporal():
		c.p.report(n, CodeCorrelationBound, "", "%s takes no bound", c.out.Type)
	case len(b) > 2, len(b) == 2 && !(lower(b[0]) && upper(b[1]) || upper(b[0]) && lower(b[1])):
		c.p.report(n, CodeCorrelationBound, "", "a condition is one bound, or a range of a lower and an upper bound")
	case len(b) == 2:
		lo, hi := b[0], b[1]
		if upper(lo) {
			lo, hi = hi, lo
		}
		if lo.Value > hi.Value || lo.Value == hi.Value && (lo.Op == "gt" || hi.Op == "lt") {
			c.p.report(n, CodeCorrelationBound, "", "the range is empty: nothing is %s %v and %s %v", lo.Op, lo.Value, hi.Op, hi.Value)
		}
	}
}

// parseExtras reads the keys that only some types take; field, percentile and
// min_denominator may stand in the condition too.
func (c *correlationDoc) parseExtras() {
	d, t := c.p, c.out.Type
	cn := get(c.node, "condition")
	at := func(key string) *yaml.Node {
		if get(cn, key) != nil {
			return cn
		}
		return c.node
	}
	c.out.Field = d.strs(at("field"), "field")
	switch {
	case t.wantsField() && len(c.out.Field) == 0:
		d.report(c.node, CodeCorrelation, "add `field: NAME` to the condition", "field is missing: %s needs it", t)
	case !t.wantsField() && t != RateAnomaly && len(c.out.Field) > 0:
		d.report(get(at("field"), "field"), CodeCorrelation, "", "%s takes no field", t)
	case len(c.out.Field) > 1 && t != ValueCount:
		d.report(get(at("field"), "field"), CodeCorrelation, "", "%s takes one field", t)
	}
	p, ok := d.number(at("percentile"), "percentile")
	switch {
	case ok && t != ValuePercentile:
		d.report(get(at("percentile"), "percentile"), CodeCorrelation, "", "%s takes no percentile", t)
	case t == ValuePercentile && (!ok || p < 0 || p > 100):
		d.report(c.node, CodeCorrelation, "add `percentile: 95`", "value_percentile needs a percentile from 0 to 100")
	}
	c.out.Percentile = p
	if v, ok := d.number(at("min_denominator"), "min_denominator"); ok {
		if t != EventRatio || v < 0 || v != float64(int(v)) {
			d.report(get(at("min_denominator"), "min_denominator"), CodeCorrelation, "", "min_denominator is a whole number, for event_ratio only")
		}
		c.out.MinDenominator = int(v)
	}
	c.parseExtension()
}

func (c *correlationDoc) parseExtension() {
	d := c.p
	switch c.out.Type {
	case Absence:
		switch order := d.str(c.node, "order"); order {
		case "", "before":
		case "after":
			c.out.After = true
		default:
			d.report(get(c.node, "order"), CodeCorrelation, "use before or after", "unknown order %q", order)
		}
		if c.out.After && c.out.Wait != 0 {
			d.report(get(c.node, "wait"), CodeCorrelation, "leave it out", "wait goes with order: before; with order: after, within says how long is waited")
		}
		c.out.MinCoverage, _ = d.number(c.node, "min_coverage")
		if c.out.MinCoverage < 0 || c.out.MinCoverage > 1 {
			d.report(get(c.node, "min_coverage"), CodeCorrelation, "", "min_coverage is a share from 0 to 1")
		}
	case RateAnomaly:
		c.out.Threshold = 5.5
		if v, ok := d.number(c.node, "threshold"); ok {
			c.out.Threshold = v
			if !(v > 0) {
				d.report(get(c.node, "threshold"), CodeCorrelation, "it is -log10 of a probability; leave it out for 5.5", "threshold must be above zero: every count would be an anomaly")
			}
		}
		c.rateBounds()
		c.out.Direction = d.str(c.node, "direction")
		if c.out.Direction == "" {
			c.out.Direction = "up"
		}
		if !slices.Contains([]string{"up", "down", "both"}, c.out.Direction) {
			d.report(get(c.node, "direction"), CodeCorrelation, "use up, down or both", "unknown direction %q", c.out.Direction)
		}
	}
	if c.out.Type.Extension() {
		d.report(get(c.node, "type"), CodeNotPortable, "", "%s is an extension of Keysentry", c.out.Type)
	}
}

// rateBounds reads what a rate has to reach beside its improbability.
func (c *correlationDoc) rateBounds() {
	d := c.p
	c.out.Floor, _ = d.number(c.node, "floor")
	if c.out.Floor < 0 {
		d.report(get(c.node, "floor"), CodeCorrelation, "", "floor is a number of events, at least 0")
	}
	c.out.Ratio, _ = d.number(c.node, "ratio")
	switch r, dir := c.out.Ratio, d.str(c.node, "direction"); {
	case r == 0 && get(c.node, "ratio") == nil:
	case dir == "both" || r <= 0 || (dir == "down") != (r < 1):
		d.report(get(c.node, "ratio"), CodeCorrelation, "3 is three times the season, 0.2 a fifth", "ratio is above 1 with direction up, and between 0 and 1 with direction down")
	}
}

func (c *correlationDoc) parseAliases() {
	n := get(c.node, "aliases")
	if n == nil || isNull(n) {
		return
	}
	c.aliases = map[string]map[string]string{}
	if n.Kind != yaml.MappingNode {
		c.p.report(n, CodeAlias, "write alias: {rule: field}", "aliases must be a mapping")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if v.Kind != yaml.MappingNode {
			c.p.report(v, CodeAlias, "write alias: {rule: field}", "alias %q must be a mapping of rules to fields", k.Value)
			continue
		}
		m := map[string]string{}
		for j := 0; j+1 < len(v.Content); j += 2 {
			rule, field := v.Content[j], v.Content[j+1]
			if !isText(field) || field.Value == "" {
				c.p.report(field, CodeAlias, "", "alias %q needs the name of a field for %q", k.Value, rule.Value)
				continue
			}
			if !slices.ContainsFunc(c.refs, func(r ref) bool { return r.name == rule.Value }) {
				c.p.report(rule, CodeAlias, "", "alias %q names the rule %q, which is not among the rules", k.Value, rule.Value)
			}
			m[rule.Value] = field.Value
		}
		c.aliases[k.Value] = m
		c.checkAlias(k, m)
	}
}

// checkAlias doubts an alias that nothing uses, or that leaves a rule out: the
// field of its events then has to have the name of the alias.
func (c *correlationDoc) checkAlias(k *yaml.Node, m map[string]string) {
	if !slices.Contains(c.out.GroupBy, k.Value) && !slices.Contains(c.out.Field, k.Value) {
		c.p.report(k, CodeAliasDoubt, "name it in group-by or in field, or remove it", "alias %q is not used", k.Value)
		return
	}
	for _, r := range c.refs {
		if _, ok := m[r.name]; !ok && !c.p.failed {
			c.p.report(k, CodeAliasDoubt, fmt.Sprintf("add `%s: FIELD`, or make sure that the field is called so", r.name), "alias %q says nothing about the rule %q, whose field is taken to be %q", k.Value, r.name, k.Value)
		}
	}
}

// temporalBound turns a bound on the number of different rules into a boolean
// expression, so that a temporal correlation has only one kind of condition.
func (c *correlationDoc) temporalBound(n int) (*BoolExpr, error) {
	if len(c.out.Bounds) != 1 {
		return nil, fmt.Errorf("a temporal condition takes one bound, or a boolean text over the rules")
	}
	b := c.out.Bounds[0]
	need := int(b.Value)
	switch {
	case b.Value != float64(need):
		return nil, fmt.Errorf("the number of rules must be whole")
	case b.Op == "gt":
		need++
	case b.Op == "gte", b.Op == "eq" && need == n:
	default:
		return nil, fmt.Errorf("a temporal condition takes gt or gte, or a boolean text over the rules")
	}
	if need < 1 || need > n {
		return nil, fmt.Errorf("the condition asks for %d of %d rules", need, n)
	}
	if n > 8 && need < n {
		return nil, fmt.Errorf("a count of more than 8 rules must be written as a boolean text")
	}
	if need == n {
		return nil, nil
	}
	any := &BoolExpr{Op: "or", Input: -1}
	for mask := range 1 << n {
		all := &BoolExpr{Op: "and", Input: -1}
		for i := range n {
			if mask&(1<<i) != 0 {
				all.Args = append(all.Args, &BoolExpr{Input: i})
			}
		}
		if len(all.Args) == need {
			any.Args = append(any.Args, all)
		}
	}
	return any, nil
}
