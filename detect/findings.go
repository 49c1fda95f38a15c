package detect

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/suspicion"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// finding makes a finding of what fired. The caller holds the locks of the
// evidence and of the registries.
func (e *Engine) finding(f *correlate.Firing) finding.Finding {
	m := f.Meta()
	ev := make([]kept, 0, len(f.Refs))
	for _, r := range f.Refs {
		k, _ := e.evidence.get(r)
		ev = append(ev, k)
	}
	out := finding.Finding{ID: f.ID, RuleID: m.ID, RuleName: m.Name, RuleTitle: m.Title, Level: m.Level,
		Kind: m.Kind, Severity: m.Severity, Shadow: m.Shadow, Group: f.Group,
		First: f.First, Last: f.Last, Fired: f.Fired, Count: f.Count, Value: f.Value, Approximate: f.Approximate,
		Playbook: m.Playbook, Tags: m.Tags, Series: f.Series}
	if out.Kind == "" {
		out.Kind = finding.Other
	}
	if c := f.Correlation; c != nil {
		out.Window, out.Threshold = int64(c.Timespan), threshold(c)
	} else {
		out.Count, out.Value = max(f.Count, 1), 0
	}
	for _, k := range ev {
		out.Evidence = append(out.Evidence, k.Evidence)
	}
	out.Cause, out.CauseConfidence = causeOf(f.Group, ev)
	out.Subject = e.subjectOf(m, f.Group, ev)
	out.Risk = riskOf(m, out.Evidence)
	out.Coverage = e.coverage.ofFinding(&out)
	out.Summary = cmp.Or(m.Summary, m.Title)
	out.Resolution = cmp.Or(m.Resolution, resolutions[out.Cause])
	if slices.ContainsFunc(f.Group, func(p finding.Pair) bool { return p.Field == event.FieldCause.String() }) {
		// A rule about any cause can only say something general.
		out.Resolution = cmp.Or(resolutions[out.Cause], m.Resolution)
	}
	out.Facts = e.factsOf(&out, ev)
	if blind := e.blindHere(&out); blind != "" {
		out.Facts = append(out.Facts, finding.Pair{Field: "blind_here", Value: blind})
	}
	for _, p := range out.Facts {
		if p.Field == "minting_host" && out.Subject.Field == event.FieldHost.String() {
			out.Subject.Value = p.Value
		}
	}
	return out
}

// threshold is a correlation's condition in words.
func threshold(c *rules.Correlation) string {
	var parts []string
	unit := ""
	if c.Type == rules.EventRatio {
		unit = " %"
	}
	for _, b := range c.Bounds {
		parts = append(parts, b.Op+" "+strconv.FormatFloat(b.Value, 'g', -1, 64)+unit)
	}
	switch c.Type {
	case rules.FirstSeen:
		return "first_seen(" + c.Field[0] + ") in " + span(c.Lookback)
	case rules.RateAnomaly:
		return "rate_anomaly(" + c.Direction + ") gte " + strconv.FormatFloat(c.Threshold, 'g', -1, 64) + " (-log10 of its probability)"
	case rules.Absence:
		order := "before"
		if c.After {
			order = "after"
		}
		return "absence of " + c.Inputs[1].Name + " " + order + ", within " + span(c.Timespan)
	}
	what := string(c.Type)
	if len(c.Field) > 0 {
		what += "(" + strings.Join(c.Field, ", ") + ")"
	}
	if len(parts) > 0 {
		what += " " + strings.Join(parts, " and ")
	}
	return what + " in " + span(c.Timespan)
}

// span is a duration as rules write it: 15m, 1h, 1d.
func span(d time.Duration) string {
	for _, u := range []struct {
		d    time.Duration
		name string
	}{{7 * 24 * time.Hour, "w"}, {24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= u.d && d%u.d == 0 {
			return strconv.FormatInt(int64(d/u.d), 10) + u.name
		}
	}
	return d.String()
}

// causeOf is the group's cause, or the one that all refused events share, with
// the lowest confidence among them.
func causeOf(group []finding.Pair, ev []kept) (event.Cause, float32) {
	want := event.CauseNone
	for _, p := range group {
		if p.Field == event.FieldCause.String() {
			want, _ = event.ParseCause(p.Value)
		}
	}
	cause, confidence := want, float32(0)
	for _, k := range ev {
		if k.Cause == event.CauseNone || want != event.CauseNone && k.Cause != want {
			continue
		}
		switch {
		case cause == event.CauseNone:
			cause = k.Cause
		case cause != k.Cause:
			return event.CauseNone, 0
		}
		if confidence == 0 || k.confidence < confidence {
			confidence = k.confidence
		}
	}
	return cause, confidence
}

// riskOf is the finding's weight as evidence. Refused requests alone add nothing:
// they show only what the caller lacks.
func riskOf(m *rules.Meta, ev []finding.Evidence) *finding.Risk {
	if m.Risk.Family == "" && m.Risk.Score == 0 {
		return nil
	}
	r := &finding.Risk{Family: m.Risk.Family, Score: m.Risk.Score}
	if suspicion.RefusedOnly(ev) {
		r.Score = 0
	}
	return r
}

// subjectOf is what the finding is about: the rule's risk subject, else the last
// value of the group that names a thing, else the network, else the rule. Events of
// sessions name no key: what they say of one, they say of the live key.
func (e *Engine) subjectOf(m *rules.Meta, group []finding.Pair, ev []kept) finding.Subject {
	s := finding.Subject{Network: valueOf("network", group, ev)}
	if f := m.Risk.Subject; f != "" {
		v := valueOf(f, group, ev)
		if v == "" && f == event.FieldKeyID.String() && !named(f, ev) {
			if v = e.keys.live(s.Network); v == "" && s.Network != "" {
				// No key is registered: it is about the network, not about each token.
				f, v = event.FieldNetwork.String(), s.Network
			}
		}
		if v != "" {
			s.Field, s.Value = f, v
			return s
		}
	}
	for _, p := range group {
		if p.Field != "network" && p.Field != "cause" && p.Value != "" {
			s.Field, s.Value = p.Field, p.Value
		}
	}
	switch {
	case s.Field != "":
	case s.Network != "":
		s.Field, s.Value = "network", s.Network
	default:
		s.Field, s.Value = "rule", cmp.Or(m.Name, m.ID)
	}
	return s
}

// valueOf is the group's value of a field, or the one that all events share.
func valueOf(field string, group []finding.Pair, ev []kept) string {
	for _, p := range group {
		if p.Field == field {
			return p.Value
		}
	}
	v := ""
	for i := range ev {
		switch x := ev[i].value(field); {
		case x == "":
		case v == "":
			v = x
		case v != x:
			return ""
		}
	}
	return v
}

// named reports whether any of the events names a value of the field.
func named(field string, ev []kept) bool {
	return slices.ContainsFunc(ev, func(k kept) bool { return k.value(field) != "" })
}

// maxFactValues bounds how many values one fact lists.
const maxFactValues = 5

// factsOf names values worth showing: who is involved, and what the registries
// know about it.
func (e *Engine) factsOf(f *finding.Finding, ev []kept) []finding.Pair {
	var out []finding.Pair
	add := func(field, value string) {
		if value != "" {
			out = append(out, finding.Pair{Field: field, Value: value})
		}
	}
	for _, field := range []string{"network", "key_id", "host", "service", "source_ip", "user_id", "endpoint"} {
		add(field, distinct(field, ev))
	}
	if len(ev) == 0 {
		return out
	}
	var traits event.Traits
	for i := range ev {
		traits |= ev[i].traits
	}
	add("traits", traits.String())
	if net := distinct("source_net", ev); net != "" {
		if owner := e.networks.Owner(net); owner != "" {
			net += " (" + owner + ")"
		}
		add("source_net", net)
	}
	last := &ev[len(ev)-1]
	if last.Cause != event.CauseNone {
		add("reason", last.Reason)
	}
	if k := e.keys.get(last.Network, last.KeyID); k != nil && last.KeyID != "" {
		add("key_state", string(k.State))
		if k.Retired != 0 {
			add("key_retired_at", k.Retired.String())
		}
		if k.Revoked != 0 {
			add("key_revoked_at", k.Revoked.String())
		}
	} else if last.KeyID != "" && e.keys.learning(last.Network) {
		add("key_registry", "learning: no key of this network is registered")
	}
	if h := e.hosts.hosts[hostName{last.Network, last.Host}]; h != nil {
		add("host_in_inventory", strconv.FormatBool(e.hosts.live(h, last.TS)))
	}
	for _, p := range e.valuesOf(f, ev) {
		i := slices.IndexFunc(out, func(o finding.Pair) bool { return o.Field == p.Field })
		switch {
		case i < 0:
			add(p.Field, p.Value)
		case p.Field == "host" && f.Cause == event.CauseClockSkew && out[i].Value != p.Value:
			add("minting_host", p.Value) // others only saw the refusal
		}
	}
	return out
}

// valuesOf are the values of the resolution of the finding's cause: for whom, since
// when, how much.
func (e *Engine) valuesOf(f *finding.Finding, ev []kept) []finding.Pair {
	d := e.diagnoser(e.clocks, &e.cfg)
	for i := len(ev) - 1; i >= 0; i-- {
		switch {
		case f.Cause != event.CauseNone && ev[i].Cause == f.Cause:
			refused := ev[i].event()
			_, values := d.resolve(&refused, f.Cause)
			return values
		case f.Cause == event.CauseNone && f.Kind == finding.ClockSkew:
			_, values := d.syncClock(ev[i].Network, ev[i].Host, "")
			return values
		}
	}
	return nil
}

// distinct lists the values of a field, at most maxFactValues and how many more.
func distinct(field string, ev []kept) string {
	var vs []string
	seen := map[string]bool{}
	for i := range ev {
		if v := ev[i].value(field); v != "" && !seen[v] {
			seen[v] = true
			vs = append(vs, v)
		}
	}
	if n := len(vs); n > maxFactValues {
		return strings.Join(vs[:maxFactValues], ", ") + fmt.Sprintf(" and %d more", n-maxFactValues)
	}
	return strings.Join(vs, ", ")
}
