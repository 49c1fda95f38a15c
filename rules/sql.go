package rules

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/keysentry/keysentry/event"
)

// Predicate is the rule's condition as a ClickHouse expression over one row of
// the table events: UInt8, never NULL, with the verdict that MatchEvent gives on
// the event that the row holds. It includes the rule's log source.
//
// The columns are named without a table. What has no equal in SQL is an error
// diagnostic at the rule, and there is no predicate then.
func (s *Set) Predicate(r *Rule) (string, []Diagnostic) {
	w := &sqlWriter{p: s.program}
	text := w.and(w.logSource(r), w.node(r.root))
	if w.code == "" {
		return text, nil
	}
	return "", []Diagnostic{{Code: w.code, Severity: severityOf(w.code), File: r.File, Line: r.Line, Col: 1,
		Message: fmt.Sprintf("rule %q has no SQL: %s", r.Title, w.fault)}}
}

// Fields are the fields of the event that a slot (see Slot) is read from: the
// first that an event has.
func (p *Program) Fields(slot int) []event.Field {
	if slot < 0 || slot >= len(p.slots) {
		return nil
	}
	return p.slots[slot].fields
}

// sqlWriter writes one predicate. Every expression it makes is never NULL, so
// that NOT needs no care: a row has no NULL, and the functions that could give
// one are wrapped.
type sqlWriter struct {
	p     *Program
	code  Code // of the first fault; empty: none
	fault string
}

// Constant verdicts.
const (
	sqlFalse = "0"
	sqlTrue  = "1"
)

func (w *sqlWriter) fail(c Code, format string, args ...any) string {
	if w.code == "" {
		w.code, w.fault = c, fmt.Sprintf(format, args...)
	}
	return sqlFalse
}

// logSource admits the types of event that the rule sees.
func (w *sqlWriter) logSource(r *Rule) string {
	has := func(mask []uint64) bool { return mask[r.Index>>6]>>(r.Index&63)&1 == 1 }
	var types []string
	all := event.Types()
	for _, t := range all {
		if has(w.p.byType[t]) {
			types = append(types, sqlString(t.String()))
		}
	}
	switch len(types) {
	case 0:
		return sqlFalse
	case len(all):
		return sqlTrue
	}
	return "type IN (" + strings.Join(types, ", ") + ")"
}

func (w *sqlWriter) node(n node) string {
	e := &w.p.exprs[n]
	parts := make([]string, len(e.kids))
	for i, k := range e.kids {
		parts[i] = w.node(k)
	}
	switch e.op {
	case opLeaf:
		return w.leaf(e.leaf)
	case opNot:
		return sqlNot(parts[0])
	case opAnd:
		return w.and(parts...)
	case opOr:
		return w.or(parts...)
	}
	if n == nodeTrue {
		return sqlTrue
	}
	return sqlFalse
}

func (w *sqlWriter) and(parts ...string) string { return sqlJoin(" AND ", sqlTrue, sqlFalse, parts) }
func (w *sqlWriter) or(parts ...string) string  { return sqlJoin(" OR ", sqlFalse, sqlTrue, parts) }

// sqlJoin joins conditions: unit vanishes, zero decides.
func sqlJoin(word, unit, zero string, parts []string) string {
	var kept []string
	for _, p := range parts {
		switch p {
		case zero:
			return zero
		case unit:
		default:
			kept = append(kept, p)
		}
	}
	switch len(kept) {
	case 0:
		return unit
	case 1:
		return kept[0]
	}
	return "(" + strings.Join(kept, word) + ")"
}

func sqlNot(s string) string {
	switch s {
	case sqlTrue:
		return sqlFalse
	case sqlFalse:
		return sqlTrue
	}
	return "NOT (" + s + ")"
}

// leaf writes one predicate on one field.
func (w *sqlWriter) leaf(l *leaf) string {
	if l.slot == keywordSlot {
		return w.keyword(l)
	}
	fields := w.p.slots[l.slot].fields
	switch l.kind {
	case leafNull:
		return sqlNot(w.first(fields, func(event.Field) string { return sqlTrue }))
	case leafRef:
		others := w.p.slots[l.other].fields
		return w.first(fields, func(a event.Field) string {
			return w.first(others, func(b event.Field) string { return w.ref(l, a, b) })
		})
	}
	return w.first(fields, func(f event.Field) string { return w.value(l, sqlColumn(f)) })
}

// first asks a question of the first field of several that the event has.
func (w *sqlWriter) first(fields []event.Field, ask func(event.Field) string) string {
	var alts, before []string
	for _, f := range fields {
		alts = append(alts, w.and(append(append([]string{}, before...), sqlExists(f), ask(f))...))
		before = append(before, sqlNot(sqlExists(f)))
	}
	return w.or(alts...)
}

// keyword asks a question of every text of the event.
func (w *sqlWriter) keyword(l *leaf) string {
	var texts, present []string
	for f := event.Field(0); f < event.FieldOrigin; f++ {
		if k := f.Kind(); k != event.KindUint && k != event.KindFloat {
			texts = append(texts, sqlColumn(f).text)
			present = append(present, sqlExists(f))
		}
	}
	ask := w.value(l, sqlValue{kind: event.KindString, text: "v"})
	return fmt.Sprintf("arrayExists((v, has) -> %s, [%s], [%s])", w.and("has", ask), strings.Join(texts, ", "), strings.Join(present, ", "))
}

// value writes a leaf on one value that is there.
func (w *sqlWriter) value(l *leaf, v sqlValue) string {
	switch l.kind {
	case leafAny, leafExists:
		return sqlTrue
	case leafNumber:
		if v.number != "" {
			return v.number + " = " + sqlNumber(l.num)
		}
		return w.compareText(&leaf{kind: leafExact, text: l.text, cased: true}, v)
	case leafCompare:
		return w.compareNumber(l, v)
	case leafRegex:
		return w.regex(l, v)
	case leafCIDR:
		return w.cidr(l, v)
	case leafPart:
		return w.timePart(l, v)
	}
	return w.compareText(l, v)
}

// compareNumber compares a number, or a text that reads as one and is in range.
func (w *sqlWriter) compareNumber(l *leaf, v sqlValue) string {
	op := map[string]string{"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}[l.cmp]
	switch {
	case v.number != "":
		return fmt.Sprintf("%s %s %s", v.number, op, sqlNumber(l.num))
	case v.kind != event.KindString:
		return sqlFalse // names, times and addresses are no numbers
	}
	num := "ifNull(toFloat64OrNull(" + v.text + "), nan)"
	return fmt.Sprintf("(match(%s, %s) AND isFinite(%s) AND %s %s %s)", v.text, sqlString(sqlNumberForm), num, num, op, sqlNumber(l.num))
}

// sqlNumberForm is what numeric accepts.
const sqlNumberForm = `\A[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\z`

// timePart compares a part of a time in UTC.
func (w *sqlWriter) timePart(l *leaf, v sqlValue) string {
	switch v.kind {
	case event.KindEnum, event.KindAddr:
		return sqlFalse // never a time
	case event.KindInstant:
	default:
		return w.fail(CodeSQLTimePart, "%s: only a field that is a time has parts in SQL", l.string)
	}
	fn := map[string]string{"minute": "toMinute", "hour": "toHour", "day": "toDayOfMonth", "week": "toISOWeek", "month": "toMonth", "year": "toYear"}[l.part]
	op := map[string]string{"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "eq": "="}[l.cmp]
	return fmt.Sprintf("%s(%s, 'UTC') %s %s", fn, v.column, op, sqlNumber(l.num))
}

// ref compares two fields that are there.
func (w *sqlWriter) ref(l *leaf, fa, fb event.Field) string {
	a, b := sqlColumn(fa), sqlColumn(fb)
	if l.affix == "" && a.number != "" && b.number != "" {
		return a.number + " = " + b.number
	}
	x, y := a.text, b.text
	if !l.cased {
		x, y = a.foldAll(), b.foldAll()
	}
	switch l.affix {
	case "contains":
		return fmt.Sprintf("position(%s, %s) > 0", x, y)
	case "startswith":
		return fmt.Sprintf("startsWith(%s, %s)", x, y)
	case "endswith":
		return fmt.Sprintf("endsWith(%s, %s)", x, y)
	}
	return x + " = " + y
}

// compareText writes the leaves that compare text with literals.
func (w *sqlWriter) compareText(l *leaf, v sqlValue) string {
	literals := []string{l.text}
	switch l.kind {
	case leafSet:
		literals = sortedSet(l.set)
	case leafGlob:
		literals = nil
		for _, t := range l.glob {
			literals = append(literals, t.text)
		}
	}
	for _, s := range literals {
		if !utf8.ValidString(s) {
			return w.fail(CodeSQLText, "%s: a text that is not UTF-8", l.string)
		}
	}
	if v.kind == event.KindAddr && (l.kind == leafExact || l.kind == leafSet) {
		return v.sameAddress(literals)
	}
	x := v.text
	if !l.cased {
		x = v.fold(literals...)
	}
	switch lit := sqlString(l.text); l.kind {
	case leafExact:
		return x + " = " + lit
	case leafSet:
		for i, s := range literals {
			literals[i] = sqlString(s)
		}
		return x + " IN (" + strings.Join(literals, ", ") + ")"
	case leafPrefix:
		return fmt.Sprintf("startsWith(%s, %s)", x, lit)
	case leafSuffix:
		return fmt.Sprintf("endsWith(%s, %s)", x, lit)
	case leafContains:
		return fmt.Sprintf("position(%s, %s) > 0", x, lit)
	}
	return fmt.Sprintf("match(%s, %s)", x, sqlString(l.glob.regex()))
}

// sqlNumber writes a number so that ClickHouse reads the same one.
func sqlNumber(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// sqlString quotes a text.
func sqlString(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\', '\'':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case 0:
			b.WriteString(`\0`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
