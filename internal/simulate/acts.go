package simulate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/event"
)

// keyNames are the keys that an act may name: the one that was live when the
// scenario began, the one that came of its rotation, one that never existed, an
// old one that nobody uses, one that the scenario made in the console.
var keyNames = []string{"live", "fresh", "forged", "dormant", "created"}

// actKinds are the acts, each with the fields that it takes beside at and
// hostile.
var actKinds = map[string][]string{
	"mint":    {"for", "every", "share", "count", "by", "key", "users", "sessions", "seen", "as", "inside"},
	"session": {"for", "every", "share", "count", "by", "users", "seen"},
	"login":   {"for", "every", "share", "count", "by", "users"},
	"replay":  {"for", "every", "share", "count", "by", "users", "seen"},
	"console": {"by", "what", "admin", "role", "key", "count", "every", "for"},
	"leak":    {"count", "every", "for", "field", "key"},
	"rotate":  {"for"},
	"drift":   {"for", "clock"},
}

// values are what fields of a closed list may hold.
var values = map[string][]string{
	"key":      keyNames,
	"users":    {"any", "sequence", "few", "one"},
	"sessions": {"client", "gateway", "none"},
	"seen":     {"client", "gateway", "backend"},
	"field":    {"reason", "user_agent", "endpoint"},
}

// consoleTypes are what an act may do in the console.
func consoleType(what string) (event.Type, bool) {
	t, ok := event.ParseType(what)
	return t, ok && t.Lifecycle()
}

func (s *Script) parseAct(n *yaml.Node) (act, error) {
	a := act{line: n.Line, key: "live", users: "any", sessions: "client", seen: "gateway", admin: 1, role: "admin", field: "reason"}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "do" {
				a.do = n.Content[i+1].Value
			}
		}
	}
	known, ok := actKinds[a.do]
	if !ok {
		return a, s.fault(n.Line, "act: do %q: give one of %s", a.do, strings.Join(sortedKeys(actKinds), ", "))
	}
	err := s.fields(n, "act "+a.do, func(key string, v *yaml.Node) error {
		if key != "do" && key != "at" && key != "hostile" && !slices.Contains(known, key) {
			return errNoField
		}
		if list := values[key]; list != nil && !slices.Contains(list, v.Value) {
			return fmt.Errorf("%s %q: give one of %s", key, v.Value, strings.Join(list, ", "))
		}
		return a.set(key, v)
	})
	if err != nil {
		return a, err
	}
	return a, s.checkAct(a)
}

// set takes one field.
func (a *act) set(key string, v *yaml.Node) (err error) {
	switch key {
	case "at":
		a.at, err = parseMoment(v.Value)
	case "for":
		a.span, err = parseMoment(v.Value)
	case "every":
		a.every, err = parseMoment(v.Value)
	case "clock":
		a.clock, err = parseMoment(v.Value)
	case "share":
		if a.share, err = strconv.ParseFloat(v.Value, 64); err != nil || !(a.share > 0 && a.share <= 10) {
			return fmt.Errorf("share %q: give a number above 0, at most 10", v.Value)
		}
	case "count":
		return count(v, &a.count)
	case "admin":
		return count(v, &a.admin)
	case "inside":
		return boolean(v, &a.inside)
	case "hostile":
		err = boolean(v, &a.harmless)
		a.harmless = !a.harmless
	case "by":
		a.by = v.Value
	case "key":
		a.key = v.Value
	case "users":
		a.users = v.Value
	case "sessions":
		a.sessions = v.Value
	case "seen":
		a.seen = v.Value
	case "as":
		a.as = v.Value
	case "what":
		a.what = v.Value
	case "role":
		a.role = v.Value
	case "field":
		a.field = v.Value
	}
	return err
}

func (s *Script) checkAct(a act) error {
	if a.by != "" {
		if _, ok := s.actors[a.by]; !ok {
			return s.fault(a.line, "act %s: by %q: there is no such actor; there are %s", a.do, a.by, strings.Join(sortedKeys(s.actors), ", "))
		}
	}
	switch a.do {
	case "mint", "session", "login", "replay":
		if a.by == "" && !a.inside {
			return s.fault(a.line, "act %s: by is missing: who does it?", a.do)
		}
		if a.every == (moment{}) && a.share == 0 && a.count != 1 {
			return s.fault(a.line, "act %s: give every (a gap) or share (of the traffic), or count: 1", a.do)
		}
		if a.span == (moment{}) && a.count == 0 {
			return s.fault(a.line, "act %s: give for (how long) or count", a.do)
		}
	case "console":
		if _, ok := consoleType(a.what); !ok {
			return s.fault(a.line, "act console: what %q: give a lifecycle type such as admin_token.created", a.what)
		}
		if a.by == "" {
			return s.fault(a.line, "act console: by is missing: from where?")
		}
	case "drift":
		if a.span == (moment{}) || a.clock == (moment{}) {
			return s.fault(a.line, "act drift: give for (how long) and clock (how far it is ahead at the end)")
		}
	}
	if a.as != "" && !slices.ContainsFunc(services, func(v service) bool { return v.name == a.as }) {
		return s.fault(a.line, "act %s: as %q: there is no such service", a.do, a.as)
	}
	if a.key == "dormant" && !s.Network.DormantKey {
		return s.fault(a.line, "act %s: key dormant: say network: {dormant_key: true}", a.do)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
