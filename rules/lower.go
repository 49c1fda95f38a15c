package rules

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"
)

// placeholder is %name% inside a value.
var placeholder = regexp.MustCompile(`%([A-Za-z0-9_.-]+)%`)

// maxExpansions bounds the texts that one value with placeholders becomes.
const maxExpansions = 100_000

// lowerer turns ASTs into expressions of one graph.
type lowerer struct {
	g     *graph
	slots *slots
	opt   Options
	p     *docParser // of the document at hand, for diagnostics
}

// detection lowers a detection or filter: its conditions joined by or.
func (w *lowerer) detection(det *detection) node {
	memo := map[string]node{}
	var alts []node
	for _, c := range det.conditions {
		alts = append(alts, w.cond(c, det, memo))
	}
	return w.g.or(alts...)
}

func (w *lowerer) cond(c *cond, det *detection, memo map[string]node) node {
	if c.op == "" {
		n, ok := memo[c.name]
		if !ok {
			n = w.search(det.idents[c.name])
			memo[c.name] = n
		}
		return n
	}
	args := make([]node, len(c.args))
	for i, a := range c.args {
		args[i] = w.cond(a, det, memo)
	}
	switch c.op {
	case "and":
		return w.g.and(args...)
	case "or":
		return w.g.or(args...)
	}
	return w.g.not(args[0])
}

func (w *lowerer) search(s *search) node {
	if s.item != nil {
		return w.item(s.item)
	}
	subs := make([]node, len(s.subs))
	for i, sub := range s.subs {
		subs[i] = w.search(sub)
	}
	if s.all {
		return w.g.and(subs...)
	}
	return w.g.or(subs...)
}

// item lowers one field: its values joined by or (all: by and), the whole
// negated for neq.
func (w *lowerer) item(it *item) node {
	sl := keywordSlot
	if it.field != "" {
		var ok bool
		if sl, ok = w.slot(it.pos, it.field); !ok {
			return nodeFalse
		}
	}
	var alts []node
	for _, v := range it.values {
		alts = append(alts, w.value(it, sl, v))
	}
	switch {
	case it.mods.all:
		return w.g.and(alts...)
	case it.mods.neq:
		return w.g.not(w.g.or(alts...))
	}
	return w.g.or(alts...)
}

func (w *lowerer) slot(p pos, field string) (int, bool) {
	sl, ok := w.slots.of(field)
	if !ok {
		w.p.reportAt(p, CodeField, "see the reference of events for the fields", fmt.Sprintf("events have no field %q", field))
	}
	return sl, ok
}

// value lowers one value of an item, after its placeholders are expanded.
func (w *lowerer) value(it *item, sl int, v value) node {
	if !it.mods.expand {
		return w.plainValue(it, sl, v)
	}
	texts, ok := w.expand(v)
	if !ok {
		return nodeFalse
	}
	m := it.mods
	m.expand = false
	var alts []node
	for _, t := range texts {
		v := v
		v.text = t
		if code, fault := m.fault(v, it.field == ""); fault != "" {
			w.p.reportAt(v.pos, code, "", fault)
			return nodeFalse
		}
		alts = append(alts, w.plainValue(&item{pos: it.pos, field: it.field, mods: m}, sl, v))
	}
	return w.g.or(alts...)
}

// expand replaces every placeholder by each of its values.
func (w *lowerer) expand(v value) ([]string, bool) {
	texts := []string{""}
	rest := v.text
	for {
		loc := placeholder.FindStringSubmatchIndex(rest)
		if loc == nil {
			break
		}
		name := rest[loc[2]:loc[3]]
		vals := w.opt.Placeholders[name]
		if len(vals) == 0 {
			w.p.reportAt(v.pos, CodePlaceholder, "give it values in the placeholders of the configuration", fmt.Sprintf("placeholder %%%s%% has no values", name))
			return nil, false
		}
		if len(texts)*len(vals) > maxExpansions {
			w.p.reportAt(v.pos, CodePlaceholder, "", fmt.Sprintf("%q expands to more than %d texts", v.text, maxExpansions))
			return nil, false
		}
		var next []string
		for _, t := range texts {
			for _, val := range vals {
				next = append(next, t+rest[:loc[0]]+val)
			}
		}
		texts, rest = next, rest[loc[1]:]
	}
	for i := range texts {
		texts[i] += rest
	}
	return texts, true
}

// plainValue lowers one value without placeholders.
func (w *lowerer) plainValue(it *item, sl int, v value) node {
	m := &it.mods
	l := &leaf{slot: sl, cased: m.cased}
	name := w.slots.list[sl].name
	switch {
	case m.op == "exists":
		l.kind, l.string = leafExists, name+" exists"
		n := w.g.addLeaf(l)
		if !v.b {
			return w.g.not(n)
		}
		return n
	case m.part != "":
		l.kind, l.part, l.cmp, l.num = leafPart, m.part, compareOp(m.op), v.num
		l.string = fmt.Sprintf("%s of %s %s %s", m.part, name, l.cmp, v.text)
	case m.op == "cidr":
		l.kind, l.string = leafCIDR, name+" in "+v.text
		l.net, _ = parseNet(v.text)
	case m.op == "fieldref":
		return w.fieldref(it, l, v)
	case m.op == "re":
		l.kind, l.cased, l.string = leafRegex, false, name+" ~ "+m.regexText(v.text)
		l.re, _ = m.regex(v.text)
	case m.op != "":
		l.kind, l.cmp, l.num, l.string = leafCompare, m.op, v.num, name+" "+m.op+" "+v.text
	case v.kind == valNull:
		l.kind, l.cased, l.string = leafNull, false, name+" is null"
	case len(m.encode) > 0:
		return w.encoded(it, l, v)
	case v.kind == valNumber && m.affix == "" && sl != keywordSlot:
		l.kind, l.cased, l.num, l.text, l.string = leafNumber, false, v.num, v.text, name+" = "+v.text
	default:
		return w.text(it, l, v)
	}
	return w.g.addLeaf(l)
}

func compareOp(s string) string {
	if s == "" {
		return "eq"
	}
	return s
}

func (w *lowerer) fieldref(it *item, l *leaf, v value) node {
	other, ok := w.slot(v.pos, v.text)
	if !ok {
		return nodeFalse
	}
	l.kind, l.other, l.affix = leafRef, other, it.mods.affix
	l.string = fmt.Sprintf("%s %s field %s", w.slots.list[l.slot].name, affixWord(l.affix), v.text)
	return w.g.addLeaf(l)
}

func affixWord(affix string) string {
	if affix == "" {
		return "="
	}
	return affix
}

// text lowers a comparison of text with its wildcards.
func (w *lowerer) text(it *item, l *leaf, v value) node {
	p := pattern{{tokLiteral, v.text}}
	if v.kind == valString {
		p = parsePattern(v.text)
	}
	if it.mods.windash {
		p = p.windash()
	}
	p = affixed(p, it.mods.affix)
	if l.slot == keywordSlot {
		p = p.affix(true, true)
	}
	return w.pattern(l, p)
}

func affixed(p pattern, affix string) pattern {
	return p.affix(affix == "contains" || affix == "endswith", affix == "contains" || affix == "startswith")
}

// pattern picks the cheapest leaf that means the pattern.
func (w *lowerer) pattern(l *leaf, p pattern) node {
	if !l.cased {
		p = p.folded()
	}
	name := w.slots.list[l.slot].name
	lit := func(kind leafKind, i int, word string) {
		l.kind, l.text = kind, p[i].text
		l.string = fmt.Sprintf("%s %s %q", name, word, l.text)
	}
	star := func(i int) bool { return p[i].kind == tokStar }
	plain := func(i int) bool { return p[i].kind == tokLiteral }
	switch {
	case len(p) == 0:
		l.kind, l.string = leafExact, name+` = ""`
	case len(p) == 1 && star(0):
		l.kind, l.cased, l.string = leafAny, false, name+" has a value"
	case len(p) == 1 && plain(0):
		lit(leafExact, 0, "=")
	case len(p) == 2 && plain(0) && star(1):
		lit(leafPrefix, 0, "starts with")
	case len(p) == 2 && star(0) && plain(1):
		lit(leafSuffix, 1, "ends with")
	case len(p) == 3 && star(0) && plain(1) && star(2):
		lit(leafContains, 1, "contains")
	default:
		l.kind, l.glob, l.string = leafGlob, p, fmt.Sprintf("%s fits %s", name, p.show())
	}
	if l.cased {
		l.string += " (cased)"
	}
	return w.g.addLeaf(l)
}

// show writes a pattern for people.
func (p pattern) show() string {
	var b strings.Builder
	for _, t := range p {
		switch t.kind {
		case tokStar:
			b.WriteByte('*')
		case tokOne:
			b.WriteByte('?')
		case tokDash:
			b.WriteString("[-/]")
		default:
			b.WriteString(t.text)
		}
	}
	return fmt.Sprintf("%q", b.String())
}

// encoded lowers a value that is compared in an encoded form.
func (w *lowerer) encoded(it *item, l *leaf, v value) node {
	s, _ := parsePattern(v.text).plain()
	b := []byte(s)
	var alts []node
	for _, enc := range it.mods.encode {
		switch enc {
		case "base64":
			return w.encodedText(it, l, base64.StdEncoding.EncodeToString(b))
		case "base64offset":
			for _, t := range offsets64(b) {
				alt := *l
				alt.cased = true // another case is another byte
				alts = append(alts, w.encodedText(it, &alt, t))
			}
			return w.g.or(alts...)
		default:
			b = utf16Bytes(s, enc)
		}
	}
	return nodeFalse // conflict() refuses utf16 without base64
}

func (w *lowerer) encodedText(it *item, l *leaf, s string) node {
	p := affixed(pattern{{tokLiteral, s}}, it.mods.affix)
	if l.slot == keywordSlot {
		p = p.affix(true, true)
	}
	return w.pattern(l, p)
}

// offsets64 gives the parts of the base64 form of b that do not depend on what
// surrounds b, for each of the three places b can have in a group of three
// bytes.
func offsets64(b []byte) []string {
	first := [3]int{0, 2, 3}
	cut := [3]int{0, 3, 2}
	var out []string
	for off := range 3 {
		enc := base64.StdEncoding.EncodeToString(append(make([]byte, off), b...))
		end := len(enc) - cut[(len(b)+off)%3]
		if first[off] < end {
			out = append(out, enc[first[off]:end])
		}
	}
	return out
}

// utf16Bytes encodes s: utf16 is little endian with a byte order mark.
func utf16Bytes(s, enc string) []byte {
	var order binary.AppendByteOrder = binary.LittleEndian
	var out []byte
	switch enc {
	case "utf16be":
		order = binary.BigEndian
	case "utf16":
		out = []byte{0xff, 0xfe}
	}
	for _, u := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, u)
	}
	return out
}
