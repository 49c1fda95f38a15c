package rules

import (
	"net/netip"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// holds evaluates a leaf on the record at hand: any value of the field decides.
func (m *Matcher) holds(l *leaf) bool {
	c := m.cell(l.slot)
	switch l.kind {
	case leafExists:
		return c.exists
	case leafNull:
		if !c.exists {
			return true
		}
	case leafRef:
		return m.refHolds(l, c)
	}
	for i := range c.vals {
		if m.valueHolds(l, &c.vals[i]) {
			return true
		}
	}
	return false
}

// valueHolds evaluates a leaf on one value.
func (m *Matcher) valueHolds(l *leaf, v *fieldValue) bool {
	switch {
	case l.kind == leafAny:
		return v.kind != fieldNull
	case l.kind == leafNull:
		return v.kind == fieldNull
	case v.kind >= fieldNull:
		return false
	}
	switch l.kind {
	case leafNumber:
		if v.kind == fieldNumber {
			n, ok := v.number()
			return ok && n == l.num
		}
		return v.text == l.text
	case leafCompare:
		n, ok := v.number()
		return ok && compare(l.cmp, n, l.num)
	case leafRegex:
		return l.re.MatchString(v.text)
	case leafCIDR:
		return inNet(v.text, l.net)
	case leafPart:
		n, ok := timePart(v, l.part)
		return ok && compare(l.cmp, float64(n), l.num)
	}
	text := v.text
	if !l.cased {
		text = m.fold(v)
	}
	return textHolds(l, text)
}

func textHolds(l *leaf, text string) bool {
	switch l.kind {
	case leafExact:
		return text == l.text
	case leafSet:
		_, ok := l.set[text]
		return ok
	case leafPrefix:
		return strings.HasPrefix(text, l.text)
	case leafSuffix:
		return strings.HasSuffix(text, l.text)
	case leafContains:
		return strings.Contains(text, l.text)
	case leafGlob:
		return l.glob.match(text)
	}
	return false
}

func compare(op string, a, b float64) bool {
	switch op {
	case "lt":
		return a < b
	case "lte":
		return a <= b
	case "gt":
		return a > b
	case "gte":
		return a >= b
	}
	return a == b
}

// inNet reports whether s is an address of the network. It looks at the form
// first, because parsing what is no address allocates an error.
func inNet(s string, p netip.Prefix) bool {
	if len(s) < 2 || len(s) > 45 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' || c == '.' || c == ':') {
			return false
		}
	}
	a, err := netip.ParseAddr(s)
	return err == nil && p.Contains(a.Unmap())
}

// refHolds compares every value of one field with every value of another.
func (m *Matcher) refHolds(l *leaf, c *cell) bool {
	o := m.cell(l.other)
	for i := range c.vals {
		a := &c.vals[i]
		if a.kind >= fieldNull {
			continue
		}
		for j := range o.vals {
			b := &o.vals[j]
			if b.kind < fieldNull && m.pairHolds(l, a, b) {
				return true
			}
		}
	}
	return false
}

func (m *Matcher) pairHolds(l *leaf, a, b *fieldValue) bool {
	x, y := a.text, b.text
	if !l.cased {
		x, y = m.fold(a), m.fold(b)
	}
	switch l.affix {
	case "contains":
		return strings.Contains(x, y)
	case "startswith":
		return strings.HasPrefix(x, y)
	case "endswith":
		return strings.HasSuffix(x, y)
	}
	if a.kind == fieldNumber && b.kind == fieldNumber {
		n, ok := a.number()
		k, also := b.number()
		return ok && also && n == k
	}
	return x == y
}

// timeForms are the texts that time parts are taken from. The part is that of
// the time as written, in its own zone.
var timeForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02"}

// timePart extracts a part of a time: a text in one of timeForms, or a number of
// seconds, from 1e11 on of milliseconds, since 1970 in UTC.
func timePart(v *fieldValue, part string) (int, bool) {
	var t time.Time
	if n, ok := v.number(); ok && v.kind == fieldNumber {
		if n < -1e11 || n > 1e15 {
			return 0, false
		}
		if n >= 1e11 {
			n /= 1000
		}
		t = time.Unix(int64(n), 0).UTC()
	} else if t, ok = parseTime(v.text); !ok {
		return 0, false
	}
	switch part {
	case "minute":
		return t.Minute(), true
	case "hour":
		return t.Hour(), true
	case "day":
		return t.Day(), true
	case "week":
		_, w := t.ISOWeek()
		return w, true
	case "month":
		return int(t.Month()), true
	}
	return t.Year(), true
}

func parseTime(s string) (time.Time, bool) {
	if len(s) < 10 || len(s) > 40 || s[4] != '-' {
		return time.Time{}, false
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// readEvent fills a cell from the event.
func (m *Matcher) readEvent(s int, c *cell) {
	if s == keywordSlot {
		for f := event.Field(0); f < event.FieldOrigin; f++ {
			if k := f.Kind(); k != event.KindUint && k != event.KindFloat {
				m.readField(f, c)
			}
		}
		return
	}
	for _, f := range m.p.slots[s].fields {
		if m.readField(f, c); c.exists {
			return
		}
	}
}

// readField appends the value of one field. Formatted values go to the arena.
func (m *Matcher) readField(f event.Field, c *cell) {
	e := m.ev
	v := fieldValue{}
	start := len(m.arena)
	switch f.Kind() {
	case event.KindAddr:
		if !e.Has(f) {
			return
		}
		a := e.SourceIP
		if f == event.FieldClientIP {
			a = e.ClientIP
		}
		m.arena = a.AppendTo(m.arena)
		v.text = m.since(start)
	case event.KindInstant:
		t, ok := e.Instant(f)
		if !ok {
			return
		}
		m.arena = t.Time().AppendFormat(m.arena, time.RFC3339Nano)
		v.text = m.since(start)
	case event.KindUint, event.KindFloat:
		n, ok := e.Number(f)
		if !ok {
			return
		}
		v = fieldValue{kind: fieldNumber, num: n, numState: 1}
		m.arena = appendNumber(m.arena, n)
		v.text = m.since(start)
	default:
		t, ok := e.Text(f)
		if !ok {
			return
		}
		v.text = t
	}
	c.exists = true
	c.vals = append(c.vals, v)
}
