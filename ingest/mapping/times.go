package mapping

import (
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// timeLayout says how the source writes times.
type timeLayout uint8

const (
	layoutRFC3339 timeLayout = iota
	layoutSyslog
	layoutEpoch
	layoutCLF
	layoutLocal
)

// layouts are the ways of writing a time, in the order of their constants.
var layouts = []Key{
	layoutRFC3339: {"rfc3339", "2026-03-01T12:00:00.123Z; the default"},
	layoutSyslog:  {"syslog", "Mar  1 12:00:00, in the zone of the topic and its year; without one the latest such time before the record was appended, or up to a day after"},
	layoutEpoch:   {"epoch", "seconds, milliseconds, microseconds or nanoseconds since 1970, as a number or as text; which of them is told by the size, for the years 2000 to 2100 do not overlap"},
	layoutCLF:     {"clf", "01/Mar/2026:12:00:00 +0100"},
	layoutLocal:   {"local", "2026-03-01 12:00:00,123 or with a T and a point, in the zone of the topic, which is UTC when it names none"},
}

// TimeLayouts lists the ways of writing a time.
func TimeLayouts() []Key { return layouts }

func layoutNames() []string {
	var out []string
	for _, l := range layouts {
		out = append(out, l.Name)
	}
	return out
}

func layoutByName(name string) (timeLayout, bool) {
	for i, l := range layouts {
		if l.Name == name {
			return timeLayout(i), true
		}
	}
	return 0, false
}

// parseTime reads a time of the source in the first layout that it fits.
func parseTime(v string, layouts []timeLayout, o Options) (event.Instant, bool) {
	for _, l := range layouts {
		if t, ok := parseOne(v, l, o); ok && t.Year() >= 2000 && t.Year() <= 2100 {
			return event.At(t), true
		}
	}
	return 0, false
}

func parseOne(v string, layout timeLayout, o Options) (time.Time, bool) {
	zone := o.Zone
	if zone == nil {
		zone = time.UTC
	}
	var t time.Time
	var err error
	switch layout {
	case layoutSyslog:
		return parseSyslog(v, zone, o)
	case layoutCLF:
		t, err = time.Parse("02/Jan/2006:15:04:05 -0700", v)
	case layoutLocal:
		// A fraction after the seconds is read although the layout has none.
		t, err = time.ParseInLocation(time.DateTime, strings.Replace(v, "T", " ", 1), zone)
	case layoutEpoch:
		return parseEpoch(v)
	default:
		t, err = time.Parse(time.RFC3339Nano, v)
	}
	return t.UTC(), err == nil
}

// maxAheadOfRecord is how far a time without a year may lie after its record's.
const maxAheadOfRecord = 24 * time.Hour

// parseSyslog reads a time without a year.
func parseSyslog(v string, zone *time.Location, o Options) (time.Time, bool) {
	in := func(year int) (time.Time, bool) {
		t, err := time.ParseInLocation("2006 Jan _2 15:04:05", strconv.Itoa(year)+" "+v, zone)
		return t.UTC(), err == nil
	}
	if o.Year != 0 || o.At == 0 {
		return in(o.Year)
	}
	at := o.At.Time().In(zone)
	for year := at.Year() + 1; year >= at.Year()-8; year-- { // the 29th of February is not in every year
		if t, ok := in(year); ok && t.Sub(at) <= maxAheadOfRecord {
			return t, true
		}
	}
	return time.Time{}, false
}

// parseEpoch reads digits with a fraction or without. It does not go through
// floating point, which would lose the nanoseconds.
func parseEpoch(v string) (time.Time, bool) {
	if strings.ContainsAny(v, "eE") {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return time.Time{}, false
		}
		v = strconv.FormatFloat(f, 'f', -1, 64)
	}
	whole, fraction, _ := strings.Cut(v, ".")
	n, err := strconv.ParseUint(whole, 10, 63)
	if err != nil {
		return time.Time{}, false
	}
	unit := uint64(1) // how many of them are a second
	for _, larger := range []uint64{1e11, 1e14, 1e17} {
		if n >= larger {
			unit *= 1000
		}
	}
	nanos := n % unit * (1e9 / unit)
	if fraction != "" {
		fraction = (fraction + "000000000")[:9]
		f, err := strconv.ParseUint(fraction, 10, 63)
		if err != nil {
			return time.Time{}, false
		}
		nanos += f / unit
	}
	return time.Unix(int64(n/unit), int64(nanos)).UTC(), true
}
