package rules

// automaton finds every literal of a set in a text in one pass (Aho-Corasick,
// as a dense table over byte classes). Literals are folded. Texts that the filter
// holds back need not come here.
type automaton struct {
	filter grams
	class  [256]uint8
	width  int
	next   []int32   // state*width + class; while it is built
	out    [][]int32 // rules whose literal ends in the state
	suffix []int32   // the next shorter state that has output, 0 for none
	// steps is next for running: times width, with the lowest bit set when the
	// state or a suffix of it has output.
	steps []uint32
}

// acBuilder collects literals with the rules they are witnesses of.
type acBuilder struct {
	lits  map[string][]int32
	order []string
}

func (b *acBuilder) add(lit string, rule int32) {
	if b.lits == nil {
		b.lits = map[string][]int32{}
	}
	if _, ok := b.lits[lit]; !ok {
		b.order = append(b.order, lit)
	}
	b.lits[lit] = append(b.lits[lit], rule)
}

// build makes the table; nil without literals.
func (b *acBuilder) build() *automaton {
	if len(b.order) == 0 {
		return nil
	}
	a := &automaton{filter: newGrams(b.order), width: 1} // class 0: bytes of no literal
	for _, lit := range b.order {
		for _, c := range []byte(lit) {
			if a.class[c] == 0 && a.width < 256 {
				a.class[c] = uint8(a.width)
				a.width++
			}
		}
	}
	if a.width == 256 { // every byte is used: classes would not fit, use bytes
		for c := range a.class {
			a.class[c] = uint8(c)
		}
	}
	for c := 'A'; c <= 'Z'; c++ { // no literal has capitals
		a.class[c] = a.class[c+'a'-'A']
	}
	a.grow()
	for _, lit := range b.order {
		s := int32(0)
		for _, c := range []byte(lit) {
			at := int(s)*a.width + int(a.class[c])
			if a.next[at] == 0 {
				a.next[at] = a.grow()
			}
			s = a.next[at]
		}
		a.out[s] = append(a.out[s], b.lits[lit]...)
	}
	a.link()
	for _, s := range a.next {
		step := uint32(int(s)*a.width) << 1
		if a.out[s] != nil || a.suffix[s] != 0 {
			step |= 1
		}
		a.steps = append(a.steps, step)
	}
	a.next = nil
	return a
}

func (a *automaton) grow() int32 {
	a.next = append(a.next, make([]int32, a.width)...)
	a.out = append(a.out, nil)
	a.suffix = append(a.suffix, 0)
	return int32(len(a.out) - 1)
}

// link turns the trie into the automaton, breadth first: a missing transition
// goes where the longest proper suffix would go.
func (a *automaton) link() {
	fail := make([]int32, len(a.out))
	var queue []int32
	for _, s := range a.next[:a.width] {
		if s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		f := fail[s]
		a.suffix[s] = a.suffix[f]
		if a.out[f] != nil {
			a.suffix[s] = f
		}
		for c := range a.width {
			at := int(s)*a.width + c
			to := a.next[int(f)*a.width+c]
			if a.next[at] == 0 {
				a.next[at] = to
				continue
			}
			fail[a.next[at]] = to
			queue = append(queue, a.next[at])
		}
	}
}

// run sets the bit of every rule of which a literal occurs in text. A text that
// is not ASCII must be folded.
func (a *automaton) run(text string, cand []uint64) {
	at := uint32(0)
	for i := 0; i < len(text); i++ {
		step := a.steps[at+uint32(a.class[text[i]])]
		at = step >> 1
		if step&1 == 0 {
			continue
		}
		for o := int32(at) / int32(a.width); o != 0; o = a.suffix[o] {
			for _, r := range a.out[o] {
				cand[r>>6] |= 1 << (r & 63)
			}
		}
	}
}
