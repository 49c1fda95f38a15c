package rules

import (
	"slices"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// Sight is what can be seen of a network: by origin, the fields that its events
// carry, and what the configuration declares.
type Sight struct {
	Fields   map[event.Origin]event.FieldSet
	Settings []Setting
}

// AllFields is the sight of an origin of which only the existence is known.
const AllFields = event.FieldSet(1<<event.NumFields - 1)

// Setting is something that a configuration declares and some rules compare with.
type Setting string

// The settings.
const (
	DeclaredEgress Setting = "declared_egress"
	ChangeWindows  Setting = "change_windows"
	ExpectedCNs    Setting = "expected_cns"
	Schedules      Setting = "schedules"
)

// Settings lists every setting, by the name that it has below detect in the
// configuration.
func Settings() []Setting { return []Setting{DeclaredEgress, ChangeWindows, ExpectedCNs, Schedules} }

// Blind says what a rule lacks to see anything in a network of that sight; empty
// when it sees. One of the origins is enough, of the fields and settings all are
// needed.
func (m *Meta) Blind(s Sight) string {
	var seen event.FieldSet
	any := len(m.Origins) == 0 && len(s.Fields) > 0
	for o, f := range s.Fields {
		if len(m.Origins) == 0 || slices.Contains(m.Origins, o) {
			seen |= f
			any = true
		}
	}
	if !any {
		if len(m.Origins) == 0 {
			return "no events"
		}
		names := make([]string, len(m.Origins))
		for i, o := range m.Origins {
			names[i] = o.String()
		}
		return "no events of origin " + strings.Join(names, " or ")
	}
	var lacks []string
	for _, f := range m.Fields {
		if f == event.FieldSourceNet {
			f = event.FieldSourceIP
		}
		if f < event.FieldOrigin && !seen.Has(f) {
			lacks = append(lacks, f.String())
		}
	}
	if len(lacks) > 0 {
		return "no field " + strings.Join(lacks, ", ")
	}
	for _, x := range m.Settings {
		if !slices.Contains(s.Settings, x) {
			lacks = append(lacks, "detect."+string(x))
		}
	}
	if len(lacks) > 0 {
		return "nothing declared in " + strings.Join(lacks, ", ")
	}
	return ""
}

// Blindness is a rule that sees nothing, and why.
type Blindness struct {
	Rule *Meta
	Why  string
}

// Blind lists the rules that would speak, but see nothing in a network of that
// sight, in their order.
func (s *Set) Blind(sight Sight) []Blindness {
	var out []Blindness
	look := func(m *Meta, inner bool) {
		if inner {
			return
		}
		if why := m.Blind(sight); why != "" {
			out = append(out, Blindness{m, why})
		}
	}
	for _, r := range s.Rules {
		look(&r.Meta, r.Inner)
	}
	for _, c := range s.Correlations {
		look(&c.Meta, c.Inner)
	}
	return out
}
