package rules

import (
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/keysentry/keysentry/event"
)

// sqlValue is one field of a row as expressions.
type sqlValue struct {
	kind   event.Kind
	column string // the column itself
	text   string // the text that the stream sees: a String
	number string // the number, for numeric fields
}

// sqlColumn gives a field of the table events.
func sqlColumn(f event.Field) sqlValue {
	name := sqlName(f)
	v := sqlValue{kind: f.Kind(), column: name, text: name}
	switch v.kind {
	case event.KindUint, event.KindFloat:
		v.number = name
		if f != event.FieldStatus && f != event.FieldPartition && f != event.FieldIdx && v.kind == event.KindUint || f == event.FieldCauseConfidence {
			v.number = "toFloat64(" + name + ")" // the stream computes with float64
		}
		v.text = "toString(" + v.number + ")"
		if v.kind == event.KindFloat {
			v.text = sqlDecimal(v.text)
		}
	case event.KindInstant:
		// Seconds, and a fraction without its last zeros when there is one.
		v.text = fmt.Sprintf("concat(formatDateTime(%[1]s, '%%Y-%%m-%%dT%%H:%%i:%%S', 'UTC'), "+
			"replaceRegexpOne(concat('.', leftPad(toString(toUnixTimestamp64Nano(%[1]s) %% 1000000000), 9, '0')), '\\\\.?0*$', ''), 'Z')", name)
	case event.KindAddr:
		v.text = sqlAddress(name)
	}
	return v
}

// sqlName quotes the names that are words of SQL.
func sqlName(f event.Field) string {
	switch f {
	case event.FieldOffset, event.FieldPartition, event.FieldTime:
		return "`" + f.String() + "`"
	}
	return f.String()
}

// sqlExists says whether the event has the field. The column present tells an
// empty value from an absent one; what the daemon sets has no bit there.
func sqlExists(f event.Field) string {
	name := sqlName(f)
	bit := fmt.Sprintf("bitTest(present, %d)", f)
	switch {
	case f == event.FieldTopic || f == event.FieldPartition || f == event.FieldOffset || f == event.FieldIdx:
		return sqlTrue
	case f == event.FieldCauseConfidence:
		return "cause != ''"
	case f == event.FieldOrigin || f == event.FieldCause || f == event.FieldTraits || f == event.FieldSourceNet:
		return name + " != ''"
	case f == event.FieldTS || f == event.FieldObservedAt:
		return "toUnixTimestamp64Nano(" + name + ") != 0"
	case f == event.FieldAuthMode:
		return "(" + bit + " AND auth_mode != '')"
	}
	return bit
}

// sqlDecimal rewrites what toString makes of very small and very large numbers
// (1.5e-7) in decimal (0.00000015).
func sqlDecimal(s string) string {
	return fmt.Sprintf("arrayElement(arrayMap((s, m, e) -> multiIf(e = 0, s, "+
		"e < 0, concat(if(startsWith(s, '-'), '-0.', '0.'), repeat('0', toUInt32(-e - 1)), replaceRegexpAll(m, '[-.]', '')), "+
		"concat(replaceAll(m, '.', ''), repeat('0', toUInt32(e - length(extract(m, '[.](.*)')))))), "+
		"[%[1]s], [extract(%[1]s, '^[^e]*')], [toInt32OrZero(extract(%[1]s, 'e(.*)'))]), 1)", s)
}

// Bounds of the IPv4 addresses inside IPv6.
const (
	sqlFirst4 = "toIPv6('::ffff:0.0.0.0')"
	sqlLast4  = "toIPv6('::ffff:255.255.255.255')"
)

// sqlAddress is the canonical text of an address: IPv4 in dotted form, IPv6
// without ClickHouse's dotted form of ::/96.
func sqlAddress(name string) string {
	group := func(from int) string {
		return fmt.Sprintf("replaceRegexpOne(substring(lower(hex(%s)), %d, 4), '^0{1,3}', '')", name, from)
	}
	return fmt.Sprintf("multiIf(%[1]s BETWEEN %[2]s AND %[3]s, substring(toString(%[1]s), 8), "+
		"%[1]s BETWEEN toIPv6('::1:0') AND toIPv6('::ffff:ffff'), concat('::', %[4]s, ':', %[5]s), toString(%[1]s))",
		name, sqlFirst4, sqlLast4, group(25), group(29))
}

// sameAddress compares with texts: only those that are the canonical text of an
// address can equal one.
func (v sqlValue) sameAddress(literals []string) string {
	var list []string
	for _, s := range literals {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() && a.String() == s {
			list = append(list, sqlIP(a))
		}
	}
	switch len(list) {
	case 0:
		return sqlFalse
	case 1:
		return v.column + " = " + list[0]
	}
	return v.column + " IN (" + strings.Join(list, ", ") + ")"
}

// sqlIP writes an address as the column has it.
func sqlIP(a netip.Addr) string {
	if a.Is4() {
		return "toIPv6('::ffff:" + a.String() + "')"
	}
	return "toIPv6('" + a.String() + "')"
}

// sqlAddressForm is what netip.ParseAddr accepts, without zones: the grammar of
// RFC 3986, whose IPv4 part has no leading zeros.
var sqlAddressForm = sync.OnceValue(func() string {
	octet := `(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	v4 := `(?:` + octet + `\.){3}` + octet
	h := `[0-9A-Fa-f]{1,4}`
	last := `(?:` + h + `:` + h + `|` + v4 + `)`
	alts := []string{v4, `(?:` + h + `:){6}` + last}
	for after := 5; after >= 0; after-- { // groups that follow the ::, before the last two
		head := `(?:(?:` + h + `:){0,` + fmt.Sprint(4-after) + `}` + h + `)?`
		if after == 5 {
			head = ``
		}
		alts = append(alts, head+`::`+`(?:`+h+`:){`+fmt.Sprint(after)+`}`+last)
	}
	alts = append(alts, `(?:(?:`+h+`:){0,5}`+h+`)?::`+h, `(?:(?:`+h+`:){0,6}`+h+`)?::`)
	return `\A(?:` + strings.Join(alts, "|") + `)\z`
})

// cidr asks whether an address lies in a network. A network of IPv6 never holds
// an IPv4 address, however that is written.
func (w *sqlWriter) cidr(l *leaf, v sqlValue) string {
	addr, form := v.column, sqlTrue
	switch v.kind {
	case event.KindAddr:
	case event.KindString:
		addr, form = "toIPv6OrDefault("+v.text+")", "match("+v.text+", "+sqlString(sqlAddressForm())+")"
	default:
		return sqlFalse
	}
	first, last := l.net.Addr(), lastAddr(l.net)
	in := fmt.Sprintf("%s BETWEEN %s AND %s", addr, sqlIP(first), sqlIP(last))
	if first.Is6() {
		in = w.and(in, fmt.Sprintf("NOT (%s BETWEEN %s AND %s)", addr, sqlFirst4, sqlLast4))
	}
	return w.and(form, in)
}

// lastAddr is the last address of a network.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// regex searches a text. The pattern is written out from its parsed form, in
// which flags and classes are explicit: ClickHouse's defaults (a dot that matches
// newline) do not apply, and its Unicode tables decide little.
func (w *sqlWriter) regex(l *leaf, v sqlValue) string {
	return fmt.Sprintf("match(%s, %s)", v.text, sqlString(explicitRegex(l.re)))
}

func explicitRegex(re *regexp.Regexp) string {
	parsed, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return "(?-s)" + re.String() // it compiled, so this does not happen
	}
	return parsed.String()
}

// regex is the pattern as a regular expression over the whole text.
func (p pattern) regex() string {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for _, t := range p {
		switch t.kind {
		case tokStar:
			b.WriteString(`.*`)
		case tokOne:
			b.WriteByte('.')
		case tokDash:
			b.WriteString("[" + dashes + "]")
		default:
			b.WriteString(regexp.QuoteMeta(t.text))
		}
	}
	b.WriteString(`\z`)
	return b.String()
}

// unfolds gives, for every rune, the runes beyond ASCII that fold to it.
var unfolds = sync.OnceValue(func() map[rune][]rune {
	m := map[rune][]rune{}
	for _, c := range unicode.CaseRanges {
		for r := rune(c.Lo); r <= rune(c.Hi); r++ {
			if low := unicode.ToLower(r); low != r && r > unicode.MaxASCII {
				m[low] = append(m[low], r)
			}
		}
	}
	return m
})

// fold is the text folded as far as a comparison with the literals, which are
// folded, can tell. ClickHouse's own lowerUTF8 differs from build to build (with
// ICU it knows final sigma), so beyond ASCII only the runes that become one of
// the literals' are replaced, one by one.
func (v sqlValue) fold(literals ...string) string {
	if v.kind == event.KindUint || v.kind == event.KindFloat || v.kind == event.KindAddr || v.kind == event.KindEnum {
		return v.text // no capitals
	}
	if v.kind == event.KindInstant {
		return "lower(" + v.text + ")"
	}
	var from, to []rune
	seen := map[rune]bool{}
	for _, s := range literals {
		for _, r := range s {
			if seen[r] {
				continue
			}
			seen[r] = true
			for _, u := range unfolds()[r] {
				from, to = append(from, u), append(to, r)
			}
		}
	}
	return replaceRunes("lower("+v.text+")", from, to)
}

// foldAll is the text folded entirely, for comparisons with another field.
func (v sqlValue) foldAll() string {
	if v.kind != event.KindString {
		return v.fold()
	}
	table := unfolds()
	var from, to []rune
	for r, us := range table {
		for _, u := range us {
			from = append(from, u)
			to = append(to, r)
		}
	}
	order := make([]int, len(from))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(from[a] - from[b]) })
	sortedFrom, sortedTo := make([]rune, len(from)), make([]rune, len(from))
	for i, o := range order {
		sortedFrom[i], sortedTo[i] = from[o], to[o]
	}
	return replaceRunes("lower("+v.text+")", sortedFrom, sortedTo)
}

// replaceRunes replaces single runes. A search for a few is faster than a table.
func replaceRunes(s string, from, to []rune) string {
	if len(from) > 4 {
		return fmt.Sprintf("translateUTF8(%s, '%s', '%s')", s, string(from), string(to))
	}
	for i, r := range from {
		s = fmt.Sprintf("replaceAll(%s, '%c', '%c')", s, r, to[i])
	}
	return s
}
