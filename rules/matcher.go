package rules

import (
	"math/bits"
	"strconv"
	"unsafe"

	"github.com/keysentry/keysentry/event"
)

// Matcher runs a program over records. It owns its scratch memory, allocates
// nothing in steady state and is not safe for concurrent use.
type Matcher struct {
	p     *Program
	ev    *event.Event // the last record, when it was an event
	epoch uint32
	memo  []uint32 // by expression: epoch<<1 | verdict
	cells []cell   // by slot
	seen  []int32  // indexed slots that the last JSON record has
	texts []string // of the last JSON record, when the program has keywords
	cand  []uint64
	arena []byte // unescaped and folded texts of the record
	scan  scanner
}

// cell is the values of one slot in the record at hand, when its epoch is the
// matcher's.
type cell struct {
	epoch  uint32
	exists bool
	prio   uint64
	vals   []fieldValue
}

type fieldKind uint8

const (
	fieldText fieldKind = iota
	fieldNumber
	fieldBool
	fieldNull
	fieldObject // an object or array stands here; it has no text
)

// fieldValue is one value of a slot. folded and num are computed when first asked.
type fieldValue struct {
	kind     fieldKind
	hasFold  bool
	numState uint8 // 0 not asked, 1 a number, 2 none
	text     string
	folded   string
	num      float64
}

// NewMatcher makes a matcher of p.
func NewMatcher(p *Program) *Matcher {
	return &Matcher{p: p, memo: make([]uint32, len(p.exprs)), cells: make([]cell, len(p.slots)), cand: make([]uint64, len(p.always))}
}

// begin forgets the last record.
func (m *Matcher) begin() {
	m.epoch++
	if m.epoch == 1<<31 { // the verdict takes one bit of the memo
		clear(m.memo)
		for i := range m.cells {
			m.cells[i].epoch = 0
		}
		m.epoch = 1
	}
	m.arena = m.arena[:0]
	m.seen, m.texts = m.seen[:0], m.texts[:0]
	m.ev = nil
	copy(m.cand, m.p.always)
}

// MatchEvent appends to dst the indexes (Set.Rules) of the rules that e
// satisfies, ascending. e must stay unchanged until the next call.
func (m *Matcher) MatchEvent(e *event.Event, dst []int32) []int32 {
	m.begin()
	m.ev = e
	for _, s := range m.p.walk {
		m.collect(s)
	}
	mask := m.p.active
	if int(e.Type) < len(m.p.byType) {
		mask = m.p.byType[e.Type]
	}
	return m.verdicts(mask, dst)
}

// Read makes e the last record without matching it, for Text and Number. e must
// stay unchanged until the next call.
func (m *Matcher) Read(e *event.Event) {
	m.begin()
	m.ev = e
}

// MatchJSON is MatchEvent for one JSON object. raw must stay unchanged until
// the next call. Log sources are not looked at beyond Options.LogSource.
func (m *Matcher) MatchJSON(raw []byte, dst []int32) ([]int32, error) {
	m.begin()
	if err := m.scanRecord(raw); err != nil {
		m.begin() // nothing of a broken record stays visible
		return dst, err
	}
	m.collectTexts()
	for _, s := range m.seen {
		m.collect(int(s))
	}
	return m.verdicts(m.p.active, dst), nil
}

// collect makes candidates of the rules that slot s has a witness of.
func (m *Matcher) collect(s int) {
	c := m.cell(s)
	if !c.exists {
		return
	}
	ix := &m.p.index[s]
	m.admit(ix.present)
	if ix.exact == nil && ix.subs == nil {
		return
	}
	for i := range c.vals {
		v := &c.vals[i]
		if v.kind >= fieldNull {
			continue
		}
		if ix.mayEqual(v.text) {
			m.admit(ix.exact[m.fold(v)])
		}
		if ix.numbers != nil && v.kind == fieldNumber {
			if num, ok := v.number(); ok {
				m.admit(ix.numbers[num])
			}
		}
		if ix.subs != nil && ix.subs.filter.pass(v.text) {
			text := v.text
			if !isASCII(text) {
				text = m.fold(v)
			}
			ix.subs.run(text, m.cand)
		}
	}
}

// admit makes candidates of rules.
func (m *Matcher) admit(rules []int32) {
	for _, r := range rules {
		m.cand[r>>6] |= 1 << (r & 63)
	}
}

// collectTexts is collect for the keywords of a JSON record. It builds no cell,
// because few records make a candidate of a rule that has keywords.
func (m *Matcher) collectTexts() {
	if len(m.texts) == 0 {
		return
	}
	ix := &m.p.index[keywordSlot]
	if len(ix.present) > 0 || ix.exact != nil {
		m.collect(keywordSlot)
		return
	}
	if ix.subs == nil {
		return
	}
	for _, text := range m.texts {
		if !ix.subs.filter.pass(text) {
			continue
		}
		if !isASCII(text) {
			start := len(m.arena)
			m.arena = appendFold(m.arena, text)
			text = m.since(start)
		}
		ix.subs.run(text, m.cand)
	}
}

// verdicts evaluates the candidates that the mask admits.
func (m *Matcher) verdicts(mask []uint64, dst []int32) []int32 {
	for w, b := range m.cand {
		for b &= mask[w]; b != 0; b &= b - 1 {
			r := w<<6 + bits.TrailingZeros64(b)
			if m.eval(m.p.roots[r]) {
				dst = append(dst, int32(r))
			}
		}
	}
	return dst
}

// eval computes an expression, once per record.
func (m *Matcher) eval(n node) bool {
	if got := m.memo[n]; got>>1 == m.epoch {
		return got&1 == 1
	}
	e := &m.p.exprs[n]
	v := false
	switch e.op {
	case opConst:
		v = n == nodeTrue
	case opLeaf:
		v = m.holds(e.leaf)
	case opNot:
		v = !m.eval(e.kids[0])
	case opAnd:
		v = true
		for _, k := range e.kids {
			if !m.eval(k) {
				v = false
				break
			}
		}
	case opOr:
		for _, k := range e.kids {
			if m.eval(k) {
				v = true
				break
			}
		}
	}
	m.memo[n] = m.epoch << 1
	if v {
		m.memo[n] |= 1
	}
	return v
}

// cell is the values of a slot; those of an event, and keywords, are put there
// when first asked.
func (m *Matcher) cell(s int) *cell {
	c := &m.cells[s]
	if c.epoch == m.epoch {
		return c
	}
	c.reset(m.epoch)
	switch {
	case m.ev != nil:
		m.readEvent(s, c)
	case s == keywordSlot:
		c.exists = len(m.texts) > 0
		for _, text := range m.texts {
			c.vals = append(c.vals, fieldValue{kind: fieldText, text: text})
		}
	}
	return c
}

func (c *cell) reset(epoch uint32) {
	c.epoch, c.exists, c.prio, c.vals = epoch, false, 0, c.vals[:0]
}

// fold is the value's text, folded.
func (m *Matcher) fold(v *fieldValue) string {
	if !v.hasFold {
		v.hasFold = true
		v.folded = v.text
		if !isFolded(v.text) {
			start := len(m.arena)
			m.arena = appendFold(m.arena, v.text)
			v.folded = m.since(start)
		}
	}
	return v.folded
}

// since is the text that the arena got after start. The arena may move when it
// grows; texts handed out before keep the old memory.
func (m *Matcher) since(start int) string {
	b := m.arena[start:]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// number is the value as a number: a number, or a text that reads as one.
func (v *fieldValue) number() (float64, bool) {
	if v.numState == 0 {
		v.numState = 2
		if (v.kind == fieldNumber || v.kind == fieldText) && numeric(v.text) {
			if f, err := strconv.ParseFloat(v.text, 64); err == nil {
				v.num, v.numState = f, 1
			}
		}
	}
	return v.num, v.numState == 1
}

// numeric reports whether s has the form of a decimal number, so that parsing
// fails, which allocates, only for numbers out of range.
func numeric(s string) bool {
	i, digits := 0, 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		i++
	}
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		digits++
	}
	if i < len(s) && s[i] == '.' {
		for i++; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
			digits++
		}
	}
	if digits == 0 {
		return false
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '-' || s[i] == '+') {
			i++
		}
		from := i
		for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		}
		if i == from {
			return false
		}
	}
	return i == len(s)
}

// Text is the first non-null value of a slot in the last record, as text. It
// aliases the record or scratch memory: copy it to keep it past the next call.
// It is false when the field is absent, null or an object, or slot is -1.
func (m *Matcher) Text(slot int) (string, bool) {
	if slot < 0 || slot >= len(m.cells) {
		return "", false
	}
	for i, c := 0, m.cell(slot); i < len(c.vals); i++ {
		if c.vals[i].kind < fieldNull {
			return c.vals[i].text, true
		}
	}
	return "", false
}

// Number is the first numeric value of a slot in the last record (a JSON number
// or a string that is one).
func (m *Matcher) Number(slot int) (float64, bool) {
	if slot < 0 || slot >= len(m.cells) {
		return 0, false
	}
	for i, c := 0, m.cell(slot); i < len(c.vals); i++ {
		if v, ok := c.vals[i].number(); ok {
			return v, true
		}
	}
	return 0, false
}
