package rules

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// This file is a second, naive implementation of the language, which the tests
// compare with the real one. It works on the parsed documents and on decoded
// JSON, shares no code with the lowering, the index or the scanner, and turns
// every pattern into a regular expression.

// refRule is one rule as the reference sees it.
type refRule struct {
	det     detection
	mapping Mapping
	// texts lists what keywords are searched in; nil is refTexts.
	texts func(rec map[string]any) []any
}

// refParse parses the detection rules of files with the production parser, which
// is the part that the two share.
func refParse(files []File, mapping Mapping) map[string]refRule {
	out := map[string]refRule{}
	for _, f := range files {
		for _, doc := range parseDocs(f, func(Diagnostic) {}) {
			p := &docParser{doc: doc}
			p.checkKeys(doc.root)
			n := get(doc.root, "detection")
			if n == nil || get(doc.root, "action") != nil {
				continue
			}
			m := p.metaOf()
			p.logSource()
			det := p.detectionOf(n)
			if _, ok := out[m.ID]; !ok && !p.failed {
				out[m.ID] = refRule{det: det, mapping: mapping}
			}
		}
	}
	return out
}

func (r refRule) match(rec map[string]any) bool {
	for _, c := range r.det.conditions {
		if r.cond(c, rec) {
			return true
		}
	}
	return false
}

func (r refRule) cond(c *cond, rec map[string]any) bool {
	switch c.op {
	case "":
		return r.search(r.det.idents[c.name], rec)
	case "not":
		return !r.cond(c.args[0], rec)
	}
	for _, a := range c.args {
		if r.cond(a, rec) == (c.op == "or") {
			return c.op == "or"
		}
	}
	return c.op == "and"
}

func (r refRule) search(s *search, rec map[string]any) bool {
	if s.item != nil {
		return r.item(s.item, rec)
	}
	for _, sub := range s.subs {
		if r.search(sub, rec) != s.all {
			return !s.all
		}
	}
	return s.all
}

func (r refRule) item(it *item, rec map[string]any) bool {
	vals, exists := r.lookup(it.field, rec)
	if it.field == "" {
		vals, exists = r.keywords(rec), true
	}
	any := false
	for _, v := range it.values {
		ok := r.value(it, v, vals, exists, rec)
		if it.mods.all && !ok {
			return false
		}
		any = any || ok
	}
	return any != it.mods.neq
}

func (r refRule) keywords(rec map[string]any) []any {
	if r.texts != nil {
		return r.texts(rec)
	}
	return refTexts(rec)
}

// refTexts lists the string leaves.
func refTexts(v any) []any {
	switch v := v.(type) {
	case string:
		return []any{v}
	case []any:
		var out []any
		for _, e := range v {
			out = append(out, refTexts(e)...)
		}
		return out
	case map[string]any:
		var out []any
		for _, e := range v {
			out = append(out, refTexts(e)...)
		}
		return out
	}
	return nil
}

// lookup finds the values of a field: of all ways to spell its path with keys
// that may hold dots, the one whose earliest keys take most segments.
func (r refRule) lookup(field string, rec map[string]any) (vals []any, exists bool) {
	paths := r.mapping.Fields[field]
	if paths == nil {
		paths = []string{field}
		if len(r.mapping.Prefixes) > 0 {
			paths = nil
			for _, p := range r.mapping.Prefixes {
				paths = append(paths, p+field)
			}
		}
	}
	for _, p := range paths {
		var found []refFound
		refWalk(rec, strings.Split(p, "."), nil, &found)
		if len(found) == 0 {
			continue
		}
		best := slices.MaxFunc(found, func(a, b refFound) int { return slices.Compare(a.way, b.way) })
		for _, f := range found {
			if slices.Equal(f.way, best.way) {
				vals = append(vals, refFlat(f.val)...)
			}
		}
		return vals, true
	}
	return nil, false
}

type refFound struct {
	way []int
	val any
}

func refWalk(v any, segs []string, way []int, found *[]refFound) {
	if len(segs) == 0 {
		*found = append(*found, refFound{slices.Clone(way), v})
		return
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			refWalk(e, segs, way, found)
		}
	case map[string]any:
		for n := 1; n <= len(segs); n++ {
			if e, ok := v[strings.Join(segs[:n], ".")]; ok {
				refWalk(e, segs[n:], append(slices.Clone(way), n), found)
			}
		}
	}
}

func refFlat(v any) []any {
	if l, ok := v.([]any); ok {
		var out []any
		for _, e := range l {
			out = append(out, refFlat(e)...)
		}
		return out
	}
	return []any{v}
}

// refText is the text of a scalar.
func refText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func refNumber(v any) (*big.Float, bool) {
	if _, isBool := v.(bool); isBool {
		return nil, false
	}
	s, ok := refText(v)
	if !ok || !regexp.MustCompile(`^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$`).MatchString(s) {
		return nil, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, false
	}
	return big.NewFloat(f), true
}

func (r refRule) value(it *item, v value, vals []any, exists bool, rec map[string]any) bool {
	m := &it.mods
	if m.op == "exists" {
		return exists == v.b
	}
	if m.op == "fieldref" {
		others, _ := r.lookup(v.text, rec)
		for _, a := range vals {
			for _, b := range others {
				if refPair(m, a, b) {
					return true
				}
			}
		}
		return false
	}
	if v.kind == valNull {
		return !exists || slices.Contains(vals, any(nil))
	}
	for _, a := range vals {
		if refOne(it, v, a) {
			return true
		}
	}
	return false
}

func refPair(m *modifiers, a, b any) bool {
	x, ok1 := refText(a)
	y, ok2 := refText(b)
	if !ok1 || !ok2 {
		return false
	}
	if !m.cased {
		x, y = refLower(x), refLower(y)
	}
	switch m.affix {
	case "contains":
		return strings.Contains(x, y)
	case "startswith":
		return strings.HasPrefix(x, y)
	case "endswith":
		return strings.HasSuffix(x, y)
	}
	_, n1 := a.(json.Number)
	_, n2 := b.(json.Number)
	if n1 && n2 {
		p, ok := refNumber(a)
		q, also := refNumber(b)
		return ok && also && p.Cmp(q) == 0
	}
	return x == y
}

func refLower(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], "\uFFFD") {
			b.WriteByte(s[i])
			continue
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// refOne compares one value of the record with one of the rule.
func refOne(it *item, v value, a any) bool {
	m := &it.mods
	star := m.op == "" && m.part == "" && len(m.encode) == 0 && v.kind == valString && refOnlyStars(m, v.text) && it.field != ""
	if _, obj := a.(map[string]any); obj {
		return star
	}
	text, ok := refText(a)
	if !ok {
		return false
	}
	switch {
	case m.part != "":
		n, ok := refPart(a, m.part)
		return ok && refCmp(m.op, big.NewFloat(float64(n)).Cmp(big.NewFloat(v.num)))
	case m.op == "cidr":
		return refCIDR(text, v.text)
	case m.op == "re":
		flags := ""
		for f, on := range map[string]bool{"i": m.reI, "m": m.reM, "s": m.reS} {
			if on {
				flags += f
			}
		}
		if flags != "" {
			flags = "(?" + flags + ")"
		}
		return refCompile(flags + v.text).MatchString(text)
	case m.op != "":
		n, ok := refNumber(a)
		return ok && refCmp(m.op, n.Cmp(big.NewFloat(v.num)))
	case v.kind == valNumber && m.affix == "" && it.field != "":
		if _, num := a.(json.Number); num {
			n, ok := refNumber(a)
			return ok && n.Cmp(big.NewFloat(v.num)) == 0
		}
		return text == v.text
	}
	cased := m.cased || m.has("base64offset")
	for _, pat := range refPatterns(it, v) {
		t := text
		if !cased {
			t = refLower(text)
		}
		if refCompile(pat).MatchString(t) {
			return true
		}
	}
	return false
}

func refOnlyStars(m *modifiers, s string) bool {
	return strings.Trim(s, "*") == "" && (s != "" || m.affix != "")
}

// refPatterns are the regular expressions that a text value stands for.
func refPatterns(it *item, v value) []string {
	m := &it.mods
	texts := []string{v.text}
	quoted := v.kind != valString
	if len(m.encode) > 0 {
		texts, quoted = refEncode(m, refUnescape(v.text)), true
	}
	before, after := m.affix == "contains" || m.affix == "endswith", m.affix == "contains" || m.affix == "startswith"
	if it.field == "" {
		before, after = true, true
	}
	var out []string
	for _, t := range texts {
		if !m.cased && !m.has("base64offset") {
			t = refLower(t)
		}
		body := regexp.QuoteMeta(t)
		if !quoted {
			body = refBody(t, m.windash)
		}
		pat := "(?s)"
		if !before {
			pat += "^"
		}
		pat += body
		if !after {
			pat += `\z`
		}
		out = append(out, strings.Replace(pat, "(?s)^", `(?s)\A`, 1))
	}
	return out
}

// refUnescape is the plain text of a Sigma string without wildcards.
func refUnescape(s string) string {
	return regexp.MustCompile(`\\([\\*?])`).ReplaceAllString(s, "$1")
}

// refBody translates wildcards, escapes and dashes.
func refBody(s string, windash bool) string {
	var b strings.Builder
	rs := []rune(s)
	word := func(r rune) bool { return r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_') }
	for i := 0; i < len(rs); i++ {
		r := rs[i]
		switch {
		case r == '\\' && i+1 < len(rs) && strings.ContainsRune(`\*?`, rs[i+1]):
			i++
			b.WriteString(regexp.QuoteMeta(string(rs[i])))
		case r == '*':
			b.WriteString(".*")
		case r == '?':
			b.WriteString(".")
		case windash && strings.ContainsRune("-/–—―", r) && (i == 0 || !word(rs[i-1])) && i+1 < len(rs) && word(rs[i+1]):
			b.WriteString("[-/–—―]")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return b.String()
}

func refEncode(m *modifiers, s string) []string {
	b := []byte(s)
	for _, e := range m.encode {
		switch e {
		case "base64":
			return []string{base64.StdEncoding.EncodeToString(b)}
		case "base64offset":
			// The characters that depend on nothing but b: those that two different
			// surroundings leave alike.
			var out []string
			for off := range 3 {
				x := base64.StdEncoding.EncodeToString(slices.Concat(make([]byte, off), b, bytes.Repeat([]byte{0}, 3)))
				y := base64.StdEncoding.EncodeToString(slices.Concat(bytes.Repeat([]byte{255}, off), b, bytes.Repeat([]byte{255}, 3)))
				first := (off*8 + 5) / 6
				last := (off + len(b)) * 8 / 6
				if x[first:last] != y[first:last] {
					panic("the stable part of base64 is computed wrongly")
				}
				if first < last {
					out = append(out, x[first:last])
				}
			}
			return out
		default:
			var w []byte
			if e == "utf16" {
				w = []byte{0xff, 0xfe}
			}
			for _, u := range utf16.Encode([]rune(s)) {
				if e == "utf16be" {
					w = append(w, byte(u>>8), byte(u))
				} else {
					w = append(w, byte(u), byte(u>>8))
				}
			}
			b = w
		}
	}
	return nil
}

var refCache = map[string]*regexp.Regexp{}

// refCompile is not safe for concurrent use: the tests that use it are not
// parallel with one another.
func refCompile(s string) *regexp.Regexp {
	re, ok := refCache[s]
	if !ok {
		re = regexp.MustCompile(s)
		refCache[s] = re
	}
	return re
}

func refCmp(op string, c int) bool {
	switch op {
	case "lt":
		return c < 0
	case "lte":
		return c <= 0
	case "gt":
		return c > 0
	case "gte":
		return c >= 0
	}
	return c == 0
}
