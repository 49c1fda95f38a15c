package rules

import (
	"math"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// Program is the compiled form of a set: immutable, shared by any number of
// matchers, swapped by pointer.
//
// A record is matched in two steps. The witness index finds the candidates: every
// rule is reduced to predicates of which at least one must hold for it to match,
// and these are looked up by exact value, by substring (one automaton per field)
// or by the mere presence of a field. Rules that have no such set are candidates
// always. Then the conditions of the candidates are evaluated, every expression
// that rules share once.
type Program struct {
	exprs  []expr
	roots  []node // by rule
	slots  []slot
	byName map[string]int
	trie   []trieNode
	texts  bool // some rule searches keywords

	active []uint64 // rules that Options.LogSource admits
	always []uint64 // candidates whatever the record
	byType [][]uint64
	index  []slotIndex // by slot
	walk   []int       // slots that have an index, for events
}

// slotIndex is the witness index of one slot.
type slotIndex struct {
	used    bool
	exact   map[string][]int32
	lengths uint64 // of the texts in exact; 63 stands for all above
	numbers map[float64][]int32
	subs    *automaton
	present []int32

	building acBuilder
}

// Slot is the number of a field that the set refers to by this name (as the
// rules write it), or -1.
func (p *Program) Slot(name string) int {
	if i, ok := p.byName[name]; ok {
		return i
	}
	return -1
}

// FieldName is the name of a slot as rules write it: the inverse of Slot.
func (p *Program) FieldName(slot int) string {
	if slot < 0 || slot >= len(p.slots) {
		return ""
	}
	return p.slots[slot].name
}

// compile makes the program of a set.
func compile(set *Set, g *graph, sl *slots, opt Options) *Program {
	words := (len(set.Rules) + 63) / 64
	p := &Program{exprs: g.exprs, slots: sl.list, byName: sl.index, index: make([]slotIndex, len(sl.list)),
		active: make([]uint64, words), always: make([]uint64, words)}
	p.sortKids()
	w := &witnesses{exprs: p.exprs, memo: map[node]witness{}}
	for i, r := range set.Rules {
		p.roots = append(p.roots, r.root)
		if !logSourceFits(r.LogSource, opt.LogSource) {
			continue
		}
		setBit(p.active, i)
		wit := w.of(r.root)
		if !wit.ok || opt.NoIndex {
			setBit(p.always, i)
			continue
		}
		for _, n := range wit.nodes {
			p.addWitness(n, int32(i))
		}
	}
	for i := range p.index {
		ix := &p.index[i]
		ix.subs = ix.building.build()
		ix.building = acBuilder{}
		if ix.used {
			p.walk = append(p.walk, i)
		}
	}
	for _, e := range p.exprs {
		p.texts = p.texts || e.leaf != nil && e.leaf.slot == keywordSlot
	}
	p.routeTypes(set, opt)
	p.trie = buildTrie(p.slots)
	return p
}

func setBit(b []uint64, i int) { b[i>>6] |= 1 << (i & 63) }

// routeTypes computes which rules each type of canonical event can match.
func (p *Program) routeTypes(set *Set, opt Options) {
	types := event.Types()
	p.byType = make([][]uint64, int(types[len(types)-1])+1)
	for t := range p.byType {
		mask := slices.Clone(p.active)
		if !opt.AnyLogSource && t > 0 {
			src := LogSourceOf(event.Type(t))
			for i, r := range set.Rules {
				if !logSourceFits(r.LogSource, src) {
					mask[i>>6] &^= 1 << (i & 63)
				}
			}
		}
		p.byType[t] = mask
	}
}

// sortKids puts cheap arguments first.
func (p *Program) sortKids() {
	cost := make([]int, len(p.exprs))
	out := make([]expr, len(p.exprs))
	for i, e := range p.exprs { // arguments come before their users
		out[i] = e
		if e.leaf != nil {
			cost[i] = e.leaf.cost()
			continue
		}
		kids := slices.Clone(e.kids)
		slices.SortStableFunc(kids, func(a, b node) int { return cost[a] - cost[b] })
		out[i].kids = kids
		for _, k := range kids {
			cost[i] = min(cost[i]+cost[k], 1<<20)
		}
	}
	p.exprs = out
}

// cost is a rough measure of the time a leaf takes.
func (l *leaf) cost() int {
	c := map[leafKind]int{leafAny: 1, leafExists: 1, leafNull: 1, leafExact: 2, leafNumber: 2, leafPrefix: 2, leafSuffix: 2, leafSet: 3,
		leafCompare: 3, leafContains: 6, leafRef: 8, leafPart: 10, leafCIDR: 10, leafGlob: 12, leafRegex: 40}[l.kind]
	if l.slot == keywordSlot {
		c *= 10
	}
	return c
}

// witness is a set of leaves of which at least one holds whenever the expression
// does, and a guess at how often that is.
type witness struct {
	nodes []node
	odds  float64
	ok    bool
}

type witnesses struct {
	exprs []expr
	memo  map[node]witness
}

func (w *witnesses) of(n node) witness {
	if got, ok := w.memo[n]; ok {
		return got
	}
	got := w.compute(n)
	w.memo[n] = got
	return got
}

func (w *witnesses) compute(n node) witness {
	e := &w.exprs[n]
	switch e.op {
	case opConst:
		return witness{ok: n == nodeFalse}
	case opLeaf:
		if e.leaf.kind == leafNull {
			return witness{}
		}
		return witness{nodes: []node{n}, odds: e.leaf.odds(), ok: true}
	case opAnd:
		best := witness{odds: math.Inf(1)}
		for _, k := range e.kids {
			if c := w.of(k); c.ok && c.odds < best.odds {
				best = c
			}
		}
		return best
	case opOr:
		all := witness{ok: true}
		miss := 1.0
		for _, k := range e.kids {
			c := w.of(k)
			if !c.ok {
				return witness{}
			}
			all.nodes = append(all.nodes, c.nodes...)
			miss *= 1 - c.odds
		}
		all.odds = 1 - miss
		return all
	}
	return witness{} // what is negated says nothing about what is there
}

// odds guesses how often a leaf holds.
func (l *leaf) odds() float64 {
	literal := func(s string) float64 { return min(0.5/float64(1+len(s)*len(s)), 0.5) }
	switch l.kind {
	case leafExact:
		return 0.02
	case leafSet:
		return min(0.01*float64(len(l.set)), 0.4)
	case leafNumber:
		return 0.03
	case leafPrefix, leafSuffix, leafContains:
		return literal(l.text)
	case leafGlob:
		if s := l.glob.longest(); s != "" {
			return literal(s)
		}
	case leafRegex:
		if s := requiredLiteral(l.re); s != "" {
			return literal(s)
		}
	}
	return 0.9
}

// addWitness enters a leaf of a rule into the index.
func (p *Program) addWitness(n node, rule int32) {
	l := p.exprs[n].leaf
	ix := &p.index[l.slot]
	ix.used = true
	lit := ""
	switch l.kind {
	case leafExact:
		ix.addExact(fold(l.text), rule)
		return
	case leafSet:
		for s := range l.set {
			ix.addExact(fold(s), rule)
		}
		return
	case leafNumber:
		ix.addExact(strings.ToLower(l.text), rule)
		if ix.numbers == nil {
			ix.numbers = map[float64][]int32{}
		}
		ix.numbers[l.num] = append(ix.numbers[l.num], rule)
		return
	case leafPrefix, leafSuffix, leafContains:
		lit = l.text
	case leafGlob:
		lit = l.glob.longest()
	case leafRegex:
		lit = requiredLiteral(l.re)
	}
	if lit == "" {
		ix.present = append(ix.present, rule)
		return
	}
	ix.building.add(fold(lit), rule)
}

func (ix *slotIndex) addExact(s string, rule int32) {
	if ix.exact == nil {
		ix.exact = map[string][]int32{}
	}
	ix.exact[s] = append(ix.exact[s], rule)
	ix.lengths |= 1 << min(len(s), 63)
}

// mayEqual reports whether exact may hold a text once it is folded. Folding
// keeps the length of ASCII only.
func (ix *slotIndex) mayEqual(text string) bool {
	return ix.lengths>>min(len(text), 63)&1 == 1 || ix.exact != nil && !isASCII(text)
}
