package event

// The range of times that an event may carry: [2000, 2101).
const (
	minInstant Instant = 946684800e9
	maxInstant Instant = 4133980800e9
)

// InRange reports whether i lies in the years 2000 to 2100.
func (i Instant) InRange() bool { return i >= minInstant && i < maxInstant }

// ParseTime reads a time as messages write it: RFC 3339 within the years 2000 to
// 2100.
func ParseTime(s string) (Instant, bool) { return parseTime([]byte(s)) }

// parseTime reads RFC 3339 with an optional fraction; digits past the
// nanosecond are dropped. It accepts what time.Parse(time.RFC3339Nano) accepts
// within the years 2000 to 2100, at a tenth of its cost.
func parseTime(b []byte) (Instant, bool) {
	if len(b) < len("2006-01-02T15:04:05Z") ||
		b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	century, ok0 := two(b[0:])
	year, ok1 := two(b[2:])
	month, ok2 := two(b[5:])
	day, ok3 := two(b[8:])
	hour, ok4 := two(b[11:])
	minute, ok5 := two(b[14:])
	second, ok6 := two(b[17:])
	year += century * 100
	if !(ok0 && ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || year < 1999 || year > 2101 ||
		month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	nanos, rest, ok := fraction(b[19:])
	if !ok {
		return 0, false
	}
	zone, ok := zoneSeconds(rest)
	if !ok {
		return 0, false
	}
	days := daysFromCivil(year, month, day)
	secs := int64(days)*86400 + int64(hour*3600+minute*60+second-zone)
	t := Instant(secs*1e9 + int64(nanos))
	return t, t.InRange()
}

func two(b []byte) (int, bool) {
	h, l := b[0]-'0', b[1]-'0'
	return int(h)*10 + int(l), h <= 9 && l <= 9
}

// fraction reads an optional point and digits, as nanoseconds.
func fraction(b []byte) (nanos int, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '.' && b[0] != ',' {
		return 0, b, true
	}
	i, unit := 1, 100_000_000
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		nanos += int(b[i]-'0') * unit
		unit /= 10
		i++
	}
	return nanos, b[i:], i > 1
}

// zoneSeconds reads Z or an offset from UTC.
func zoneSeconds(b []byte) (int, bool) {
	if len(b) == 1 && b[0] == 'Z' {
		return 0, true
	}
	if len(b) != 6 || b[3] != ':' || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	h, ok1 := two(b[1:])
	m, ok2 := two(b[4:])
	if !ok1 || !ok2 || h > 23 || m > 59 {
		return 0, false
	}
	z := h*3600 + m*60
	if b[0] == '-' {
		z = -z
	}
	return z, true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysFromCivil is the number of days from 1970-01-01 in the Gregorian calendar.
// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
func daysFromCivil(y, m, d int) int {
	if m <= 2 {
		y--
		m += 12
	}
	yoe := y % 400
	doy := (153*(m-3)+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return y/400*146097 + doe - 719468
}
