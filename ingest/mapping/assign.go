package mapping

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// assignment gives one canonical field its value.
type assignment struct {
	field event.Field
	// One of the three gives the text.
	from      []string // first path that has a value
	constant  string
	templates [][]segment // first without a hole

	regex       *regexp.Regexp    // takes a part
	values      map[string]string // rewrites the text; others pass
	toCase      string            // upper, lower
	fallback    string            // when there is no text
	layouts     []timeLayout
	fingerprint bool
	// lenient drops a value that does not fit the field instead of refusing the
	// record: a host name where an address is wanted.
	lenient bool
}

// segment is a literal and, when path is set, a value after it.
type segment struct{ literal, path string }

// apply sets the field, or leaves it absent when the source has nothing for it.
func (a *assignment) apply(e *event.Event, src *source, o Options) error {
	v := a.text(src)
	if v == "" {
		return nil
	}
	err := a.set(e, v, o)
	if err != nil && a.lenient {
		return nil
	}
	return err
}

// text is what the source says, rewritten; empty when it says nothing.
func (a *assignment) text(src *source) string {
	var out string
	take := func(v string) bool {
		out = a.rewrite(v)
		return out != ""
	}
	for _, p := range a.from {
		if src.texts(p, take) {
			return out
		}
	}
	for _, t := range a.templates {
		if v, ok := expand(t, src); ok && take(v) {
			return out
		}
	}
	if a.constant != "" && take(a.constant) {
		return out
	}
	return a.fallback
}

func (a *assignment) rewrite(v string) string {
	if a.regex != nil {
		found := a.regex.FindStringSubmatch(v)
		switch {
		case found == nil:
			return ""
		case len(found) > 1:
			v = found[1]
		default:
			v = found[0]
		}
	}
	if w, ok := a.values[v]; ok {
		v = w
	}
	switch a.toCase {
	case "upper":
		return strings.ToUpper(v)
	case "lower":
		return strings.ToLower(v)
	}
	return v
}

func expand(template []segment, src *source) (string, bool) {
	var out strings.Builder
	for _, s := range template {
		out.WriteString(s.literal)
		if s.path != "" {
			v, ok := src.first(s.path)
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
		t, ok := parseTime(v, a.layouts, o)
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
	if a.field == event.FieldEndpoint {
		v = pathOf(v)
	}
	if spec.Name {
		v = strings.Map(visible, v)
	}
	if len(v) > spec.MaxBytes {
		if !spec.Cut && !callerChosen[a.field] {
			return a.fault(event.ProblemBadValue, "longer than "+strconv.Itoa(spec.MaxBytes)+" bytes")
		}
		if o.Cut != nil {
			v = o.Cut(a.field, v)
		}
		v = event.Cut(v, spec.MaxBytes)
	}
	e.SetString(a.field, strings.Clone(v))
	return nil
}

// callerChosen are fields that a foreign log may fill with what a caller sent: the
// name that was tried, the virtual host that was asked for. A longer one is cut, for
// a name of 300 letters must not be a way past detection into quarantine.
var callerChosen = map[event.Field]bool{
	event.FieldUserID: true, event.FieldActor: true, event.FieldService: true,
	event.FieldMethod: true, event.FieldCode: true, event.FieldCertCN: true,
}

// pathOf leaves scheme, credentials and host of an absolute URL out. The query
// stays: the redactor looks for keys in it before it drops it.
func pathOf(v string) string {
	scheme, rest, ok := strings.Cut(v, "://")
	if !ok || strings.ContainsAny(scheme, "/?#") {
		return v
	}
	i := strings.IndexAny(rest, "/?#")
	switch {
	case i < 0:
		return "/"
	case rest[i] != '/':
		return "/" + rest[i:]
	}
	return rest[i:]
}

// visible replaces control characters, which names may not hold.
func visible(r rune) rune {
	if r < 0x20 || r == 0x7f {
		return '\uFFFD'
	}
	return r
}

// setAddr reads an address; a port after it is dropped.
func (a *assignment) setAddr(e *event.Event, v string) error {
	addr, err := netip.ParseAddr(v)
	if err != nil {
		var withPort netip.AddrPort
		if withPort, err = netip.ParseAddrPort(v); err == nil {
			addr = withPort.Addr()
		}
	}
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
		if ok = err == nil && n >= 100 && n <= 599; ok {
			e.Status = uint16(n)
		}
	case event.FieldSeq:
		n, err := strconv.ParseUint(v, 10, 64)
		if ok = err == nil; ok {
			e.Seq = n
		}
	case event.FieldAuthMode:
		m, known := event.ParseAuthMode(v)
		if ok = known && m != event.ModeNone; ok {
			e.Mode = m
		}
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
