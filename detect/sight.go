package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// sights remember what kinds of events come in of each network: on which day an
// origin last carried a field. What was not seen for sightDays, or sightDaysConsole
// where people act, which is rare, is not seen any more.
type sights map[string]*sight

type sight struct {
	day   int32
	today [numSightOrigins]event.FieldSet // seen on day already
	last  [numSightOrigins][event.FieldOrigin]int32
}

const (
	numSightOrigins  = int(event.OriginKeysentry) + 1
	sightDays        = 7
	sightDaysConsole = 90
	// maxSights bounds the networks of which it is remembered.
	maxSights = 10_000
)

func dayOf(t event.Instant) int32 { return int32(int64(t) / int64(24*time.Hour)) }

// saw takes in an event.
func (s sights) saw(ev *event.Event) {
	x := s[ev.Network]
	if x == nil {
		if len(s) >= maxSights || ev.Network == "" {
			return
		}
		x = &sight{}
		s[strings.Clone(ev.Network)] = x
	}
	if day := dayOf(ev.TS); day != x.day {
		x.day, x.today = day, [numSightOrigins]event.FieldSet{}
	}
	o := int(ev.Origin)
	if o >= numSightOrigins || ev.Present&^x.today[o] == 0 {
		return
	}
	for f := range event.FieldOrigin {
		if ev.Present.Has(f) {
			x.last[o][f] = max(x.last[o][f], x.day)
		}
	}
	x.today[o] |= ev.Present
}

// at is what is seen of a network at a time.
func (x *sight) at(now event.Instant) map[event.Origin]event.FieldSet {
	out := map[event.Origin]event.FieldSet{}
	for o := range x.last {
		days := int32(sightDays)
		if origin := event.Origin(o); origin == event.OriginConsole || origin == event.OriginKeysentry {
			days = sightDaysConsole
		}
		var seen event.FieldSet
		for f, day := range x.last[o] {
			if day != 0 && day > dayOf(now)-days {
				seen = seen.Set(event.Field(f))
			}
		}
		if seen != 0 {
			out[event.Origin(o)] = seen
		}
	}
	return out
}

// settings are what the configuration declares.
func (c Config) settings() []rules.Setting {
	var out []rules.Setting
	for _, s := range []struct {
		name     rules.Setting
		declared int
	}{{rules.DeclaredEgress, len(c.DeclaredEgress)}, {rules.ChangeWindows, len(c.ChangeWindows)}, {rules.ExpectedCNs, len(c.ExpectedCNs)}, {rules.Schedules, len(c.Schedules)}} {
		if s.declared > 0 {
			out = append(out, s.name)
		}
	}
	return out
}

// Sight is what a configuration with such origins can see at all.
func (c Config) Sight(origins []event.Origin) rules.Sight {
	s := rules.Sight{Fields: map[event.Origin]event.FieldSet{}, Settings: c.settings()}
	for _, o := range origins {
		s.Fields[o] = rules.AllFields
	}
	return s
}

// Blind lists, by network, the rules that see nothing of it, because the events or
// fields that they need were not seen for days, or because nothing is declared that
// they compare with.
func (e *Engine) Blind(now event.Instant) map[string][]rules.Blindness {
	e.swap.RLock()
	defer e.swap.RUnlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[string][]rules.Blindness{}
	for network, x := range e.sights {
		if b := e.set.Blind(rules.Sight{Fields: x.at(now), Settings: e.cfg.settings()}); len(b) > 0 {
			out[network] = b
		}
	}
	return out
}

// maxBlind bounds what a finding names of the rules that are blind.
const maxBlind = 4

// blindHere names the rules about the same kind of incident that would page, but
// see nothing of the finding's network: what they do not say is no all-clear. The
// caller holds swap and mu.
func (e *Engine) blindHere(f *finding.Finding) string {
	x := e.sights[f.Subject.Network]
	if x == nil {
		return ""
	}
	var names []string
	for _, b := range e.set.Blind(rules.Sight{Fields: x.at(f.Fired), Settings: e.cfg.settings()}) {
		if b.Rule.Kind == f.Kind && b.Rule.Severity == finding.Page {
			names = append(names, b.Rule.Title+" ("+b.Why+")")
		}
	}
	if n := len(names) - maxBlind; n > 0 {
		names = append(names[:maxBlind:maxBlind], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(names, "; ")
}

// SnapshotSeen is on which day, since 1970, events of one origin last carried a
// field.
type SnapshotSeen struct {
	Origin event.Origin
	Fields map[string]int32
}

func (x *sight) snapshot() []SnapshotSeen {
	var out []SnapshotSeen
	for o := range x.last {
		row := SnapshotSeen{Origin: event.Origin(o), Fields: map[string]int32{}}
		for f, day := range x.last[o] {
			if day != 0 {
				row.Fields[event.Field(f).String()] = day
			}
		}
		if len(row.Fields) > 0 {
			out = append(out, row)
		}
	}
	return out
}

func (s sights) load(network string, rows []SnapshotSeen) {
	if len(rows) == 0 || len(s) >= maxSights {
		return
	}
	x := &sight{}
	for _, row := range rows {
		for name, day := range row.Fields {
			if f, ok := event.ParseField(name); ok && f < event.FieldOrigin && int(row.Origin) < numSightOrigins {
				x.last[row.Origin][f] = day
			}
		}
	}
	s[network] = x
}

// networks are the names, in order.
func (s sights) networks() []string {
	out := make([]string, 0, len(s))
	for n := range s {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
