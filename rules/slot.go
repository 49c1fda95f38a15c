package rules

import (
	"strings"

	"github.com/keysentry/keysentry/event"
)

// slot is one field that the set refers to, and where it is found: as paths of
// a JSON record and as fields of the canonical event, the first present one
// wins.
type slot struct {
	name   string
	paths  []string
	fields []event.Field
}

// keywordSlot holds every text of the record; it is always slot 0.
const keywordSlot = 0

// slots assigns numbers to field names.
type slots struct {
	mapping Mapping
	layout  Layout
	list    []slot
	index   map[string]int
}

func newSlots(opt Options) *slots {
	return &slots{mapping: opt.Mapping, layout: opt.Layout, list: []slot{{name: "keywords"}}, index: map[string]int{}}
}

// of is the slot of a field name; false when the layout lacks the field.
func (s *slots) of(name string) (int, bool) {
	if i, ok := s.index[name]; ok {
		return i, true
	}
	sl := slot{name: name, paths: s.places(name)}
	for _, p := range sl.paths {
		if f, ok := event.ParseField(p); ok {
			sl.fields = append(sl.fields, f)
		}
	}
	if s.layout == LayoutEvent && len(sl.fields) == 0 {
		return -1, false
	}
	s.list = append(s.list, sl)
	s.index[name] = len(s.list) - 1
	return len(s.list) - 1, true
}

func (s *slots) places(name string) []string {
	if p, ok := s.mapping.Fields[name]; ok {
		return p
	}
	if len(s.mapping.Prefixes) == 0 {
		return []string{name}
	}
	return prefixed(s.mapping.Prefixes, name)
}

// WindowsMapping finds the field names that Sigma's Windows rules use in the
// JSON form of Windows event records (System and EventData below Event).
func WindowsMapping() Mapping {
	prefixes := []string{"Event.EventData.", "Event.System.", "Event.UserData.", ""}
	m := Mapping{
		Fields: map[string][]string{
			"Provider_Name": {"Event.System.Provider.#attributes.Name"},
			"Provider_Guid": {"Event.System.Provider.#attributes.Guid"},
			"EventID":       {"Event.System.EventID.#text", "Event.System.EventID", "EventID"},
		},
		Prefixes: prefixes,
	}
	// Sigma strips the spaces that Microsoft Defender has in its names.
	for _, spaced := range []string{"Source Name", "Threat Name", "Process Name", "Detection User", "Category Name", "Severity Name", "Action Name",
		"Old Value", "New Value", "Feature Name", "Error Code", "Involved File"} {
		bare := strings.ReplaceAll(spaced, " ", "")
		m.Fields[bare] = append([]string{"Event.EventData." + spaced}, prefixed(prefixes, bare)...)
	}
	m.Fields["Operation"] = append(prefixed(prefixes, "Operation"), "Event.UserData.Operation_ClientFailure.Operation")
	return m
}

func prefixed(prefixes []string, name string) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = p + name
	}
	return out
}

// LogSourceOf is the log source of a type of canonical event: product
// keysentry, the part of the type before the dot as service, and authentication,
// lifecycle or telemetry as category.
func LogSourceOf(t event.Type) map[string]string {
	service, _, _ := strings.Cut(t.String(), ".")
	category := "lifecycle"
	switch t {
	case event.TypeAuthTokenIssued, event.TypeAuthTokenDenied, event.TypeSessionCreated, event.TypeSessionDenied,
		event.TypeSessionRevoked, event.TypeRequestAllowed, event.TypeRequestUnauthorized, event.TypeMTLSHandshakeFailed:
		category = "authentication"
	case event.TypeHeartbeat, event.TypeHostStarted, event.TypeHostStopped, event.TypeLogRecord:
		category = "telemetry"
	}
	return map[string]string{"product": "keysentry", "service": service, "category": category}
}

// logSourceFits reports whether a record of the source have could be one that
// want describes: no key differs. Keys that have lacks are not compared.
func logSourceFits(want, have map[string]string) bool {
	for k, v := range want {
		if k == "definition" {
			continue
		}
		if h, ok := have[k]; ok && !strings.EqualFold(h, v) {
			return false
		}
	}
	return true
}

// logSourceCovers reports whether every key of a filter's source is the rule's
// too.
func logSourceCovers(filter, rule map[string]string) bool {
	for k, v := range filter {
		if k == "definition" {
			continue
		}
		if !strings.EqualFold(rule[k], v) {
			return false
		}
	}
	return true
}
