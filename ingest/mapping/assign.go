package mapping

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keysentry/keysentry/event"
)

// assignment gives one canonical field its value.
type assignment struct {
	field event.Field
	// One of the three gives the text.
	from     []string // first path that exists and is not empty
	constant string
	template []segment

	values      map[string]string // rewrites the text; others pass
	fallback    string            // when there is no text
	layout      timeLayout
	fingerprint bool
	// lenient drops a value that does not fit the field instead of refusing the
	// record: a host name where an address is wanted.
	lenient bool
}

// segment is a literal or, when path is set, a value.
type segment struct{ literal, path string }

// timeLayout says how the source writes times.
type timeLayout uint8

const (
	layoutRFC3339 timeLayout = iota
	layoutSyslog             // Jan _2 15:04:05
	layoutEpoch              // seconds, a fraction allowed
	layoutEpochMS            // milliseconds
	layoutCLF                // 02/Jan/2006:15:04:05 -0700
)

var layouts = map[string]timeLayout{
	"": layoutRFC3339, "rfc3339": layoutRFC3339, "syslog": layoutSyslog,
	"epoch": layoutEpoch, "epoch_ms": layoutEpochMS, "clf": layoutCLF,
}

// apply sets the field, or leaves it absent when the source has nothing for it.
func (a *assignment) apply(e *event.Event, src source, o Options) error {
	v, ok := a.text(src)
	if !ok {
		return nil
	}
	err := a.set(e, v, o)
	if err != nil && a.lenient {
		return nil
	}
	return err
}

// text is what the source says, rewritten.
func (a *assignment) text(src source) (string, bool) {
	v, ok := a.raw(src)
	if !ok || v == "" {
		return a.fallback, a.fallback != ""
	}
	if w, ok := a.values[v]; ok {
		return w, w != ""
	}
	return v, true
}

func (a *assignment) raw(src source) (string, bool) {
	for _, p := range a.from {
		if v, ok := src.text(p); ok && v != "" {
			return v, true
		}
	}
	if a.template == nil {
		return a.constant, a.constant != ""
	}
	var out strings.Builder
	for _, s := range a.template {
		out.WriteString(s.literal)
		if s.path != "" {
			v, ok := src.text(s.path)
			if !ok {
				return "", false
			}
			out.WriteString(v)
		}
	}
	return out.String(), true
}

// set stores the text into the field by the contract of the canonical event.
func (a *assignment) set(e *event.Event, v string, o Options) error {
	switch a.field.Kind() {
	case event.KindInstant:
		t, ok := parseTime(v, a.layout, o.Year)
		if !ok {
			return a.fault(event.ProblemBadTime, "not a time of the mapping's format within the years 2000 to 2100")
		}
		e.SetInstant(a.field, t)
		return nil
	case event.KindAddr:
		return a.setAddr(e, v)
	case event.KindUint, event.KindFloat, event.KindEnum:
		return a.setOther(e, v)
	}
	if a.fingerprint {
		e.SetString(a.field, event.Fingerprint(o.Key, v))
		return nil
	}
	spec := a.field.Spec()
	v = strings.ToValidUTF8(v, "\uFFFD")
	if spec.Name {
		v = strings.Map(visible, v)
	}
	if len(v) > spec.MaxBytes {
		if !spec.Cut {
			return a.fault(event.ProblemBadValue, "longer than "+strconv.Itoa(spec.MaxBytes)+" bytes")
		}
		n := spec.MaxBytes
		for n > 0 && !utf8.RuneStart(v[n]) {
			n--
		}
		v = v[:n]
	}
	e.SetString(a.field, strings.Clone(v))
	return nil
}

// visible replaces control characters, which names may not hold.
func visible(r rune) rune {
	if r < 0x20 || r == 0x7f {
		return '\uFFFD'
	}
	return r
}

func (a *assignment) setAddr(e *event.Event, v string) error {
	addr, err := netip.ParseAddr(v)
	if err != nil || addr.Zone() != "" {
		return a.fault(event.ProblemBadValue, "not an IP address")
	}
	if a.field == event.FieldSourceIP {
		e.SourceIP = addr.Unmap()
	} else {
		e.ClientIP = addr.Unmap()
	}
	e.Present = e.Present.Set(a.field)
	return nil
}

func (a *assignment) setOther(e *event.Event, v string) error {
	ok := true
	switch a.field {
	case event.FieldStatus:
		n, err := strconv.ParseUint(v, 10, 16)
		ok = err == nil && n >= 100 && n <= 599
		e.Status = uint16(n)
	case event.FieldSeq:
		n, err := strconv.ParseUint(v, 10, 64)
		ok, e.Seq = err == nil, n
	case event.FieldAuthMode:
		m, known := event.ParseAuthMode(v)
		ok, e.Mode = known && m != event.ModeNone, m
	default:
		ok = false
	}
	if !ok {
		return a.fault(event.ProblemBadValue, "does not fit the field")
	}
	e.Present = e.Present.Set(a.field)
	return nil
}

func (a *assignment) fault(p event.Problem, detail string) error {
	return &event.DecodeError{Problem: p, Field: a.field.String(), Detail: detail}
}

// parseTime reads a time of the source.
func parseTime(v string, layout timeLayout, year int) (event.Instant, bool) {
	var t time.Time
	var err error
	switch layout {
	case layoutSyslog:
		t, err = time.Parse("2006 Jan _2 15:04:05", strconv.Itoa(year)+" "+v)
	case layoutCLF:
		t, err = time.Parse("02/Jan/2006:15:04:05 -0700", v)
	case layoutEpoch, layoutEpochMS:
		var f float64
		if f, err = strconv.ParseFloat(v, 64); err == nil {
			if layout == layoutEpoch {
				f *= 1e3
			}
			if f < 0 || f > 1e14 {
				return 0, false
			}
			t = time.UnixMicro(int64(f * 1e3))
		}
	default:
		t, err = time.Parse(time.RFC3339Nano, v)
	}
	if err != nil || t.Year() < 2000 || t.Year() > 2100 {
		return 0, false
	}
	return event.At(t), true
}
