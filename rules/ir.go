package rules

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// node is the place of one expression in a graph.
type node int32

// The two constants of every graph.
const (
	nodeFalse node = 0
	nodeTrue  node = 1
)

// op is the kind of a node.
type op uint8

const (
	opConst op = iota
	opLeaf
	opNot
	opAnd
	opOr
)

// expr is one node of the graph.
type expr struct {
	op   op
	kids []node
	leaf *leaf
}

// leafKind is what a leaf asks of a field.
type leafKind uint8

const (
	leafAny      leafKind = iota // has a value that is not null
	leafExists                   // the key is there
	leafNull                     // absent or null
	leafExact                    // text equals
	leafSet                      // text equals one of several
	leafPrefix                   // text begins with
	leafSuffix                   // text ends with
	leafContains                 // text contains
	leafGlob                     // text fits a pattern with wildcards
	leafRegex                    // RE2 search
	leafNumber                   // equals a number, or a text that is its decimal form
	leafCompare                  // number compares
	leafCIDR                     // address lies in a network
	leafRef                      // compares with another field
	leafPart                     // a part of a time compares
)

// leaf is one predicate on one field, any member of an array. Texts are folded
// unless cased.
type leaf struct {
	kind   leafKind
	slot   int
	cased  bool
	text   string
	set    map[string]struct{}
	glob   pattern
	re     *regexp.Regexp
	num    float64
	cmp    string // lt lte gt gte eq
	net    netip.Prefix
	other  int    // leafRef: the other field
	affix  string // leafRef: contains, startswith, endswith or equality
	part   string // leafPart
	string string // what the leaf asks, for people and for the key
}

// graph holds the expressions of a set, each once.
type graph struct {
	exprs []expr
	index map[string]node
}

func newGraph() *graph {
	return &graph{exprs: []expr{{op: opConst}, {op: opConst}}, index: map[string]node{}}
}

func (g *graph) intern(key string, e expr) node {
	if n, ok := g.index[key]; ok {
		return n
	}
	n := node(len(g.exprs))
	g.exprs = append(g.exprs, e)
	g.index[key] = n
	return n
}

// addLeaf interns a leaf under everything that makes it what it is.
func (g *graph) addLeaf(l *leaf) node {
	key := fmt.Sprintf("L%d|%d|%t|%d|%s|%s|%s|%v|%q|%s", l.kind, l.slot, l.cased, l.other, l.affix, l.part, l.cmp, l.num, l.text, l.net)
	switch l.kind {
	case leafGlob:
		key += fmt.Sprintf("|%q", l.glob)
	case leafRegex:
		key += "|" + l.re.String()
	case leafSet:
		key += fmt.Sprintf("|%q", sortedSet(l.set))
	}
	return g.intern(key, expr{op: opLeaf, leaf: l})
}

func sortedSet(m map[string]struct{}) []string {
	out := make([]string, 0, len(m))
	for s := range m {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func (g *graph) not(n node) node {
	switch n {
	case nodeTrue:
		return nodeFalse
	case nodeFalse:
		return nodeTrue
	}
	if e := g.exprs[n]; e.op == opNot {
		return e.kids[0]
	}
	return g.intern(fmt.Sprintf("N%d", n), expr{op: opNot, kids: []node{n}})
}

func (g *graph) and(kids ...node) node { return g.join(opAnd, nodeTrue, nodeFalse, kids) }

func (g *graph) or(kids ...node) node { return g.join(opOr, nodeFalse, nodeTrue, g.mergeSets(kids)) }

// join flattens, removes repetitions and applies the constants: unit vanishes,
// zero decides.
func (g *graph) join(o op, unit, zero node, kids []node) node {
	var flat []node
	for _, k := range kids {
		switch {
		case k == zero:
			return zero
		case k == unit:
		case g.exprs[k].op == o:
			flat = append(flat, g.exprs[k].kids...)
		default:
			flat = append(flat, k)
		}
	}
	slices.Sort(flat)
	flat = slices.Compact(flat)
	switch len(flat) {
	case 0:
		return unit
	case 1:
		return flat[0]
	}
	return g.intern(fmt.Sprintf("%d%v", o, flat), expr{op: o, kids: flat})
}

// mergeSets turns several exact comparisons of one field into one set.
func (g *graph) mergeSets(kids []node) []node {
	type where struct {
		slot  int
		cased bool
	}
	groups := map[where][]node{}
	for _, k := range kids {
		if l := g.exprs[k].leaf; l != nil && l.kind == leafExact {
			w := where{l.slot, l.cased}
			groups[w] = append(groups[w], k)
		}
	}
	var out []node
	done := map[where]bool{}
	for _, k := range kids {
		l := g.exprs[k].leaf
		if l == nil || l.kind != leafExact || len(groups[where{l.slot, l.cased}]) < 4 {
			out = append(out, k)
			continue
		}
		w := where{l.slot, l.cased}
		if done[w] {
			continue
		}
		done[w] = true
		set := map[string]struct{}{}
		for _, m := range groups[w] {
			set[g.exprs[m].leaf.text] = struct{}{}
		}
		name, _, _ := strings.Cut(l.string, " ")
		out = append(out, g.addLeaf(&leaf{kind: leafSet, slot: l.slot, cased: l.cased, set: set,
			string: fmt.Sprintf("%s is one of %d values", name, len(set))}))
	}
	return out
}
