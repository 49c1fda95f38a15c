package alert

import (
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Rule ids of the findings that people's decisions make.
const (
	RuleReportedLeak = "people.reported_leak"
	RuleDeniedKey    = "people.denied_key"
)

// refuseKey checks a decision about a server key, and fills in the live key of a
// report that names none.
func (m *Manager) refuseKey(d *journal.Decision) string {
	if d.KeyID != "" && !event.IsFingerprint(d.KeyID) {
		d.KeyID = "" // it may be the key itself, which the journal must not hold
		return "a key's id begins with v1: and is its fingerprint, never its value; what was given is not recorded"
	}
	switch {
	case d.Network == "":
		return "a network is needed"
	case m.deps.Keys != nil && !m.deps.Keys.Knows(d.Network):
		return "there is no network " + d.Network + ": neither the configuration nor an event names it"
	case d.Action == journal.ActionReportLeak && d.Reason == "":
		return "a note is needed: what leaked, where, and how it is known"
	case d.Action == journal.ActionReportLeak && d.KeyID == "" && m.deps.Keys != nil:
		d.KeyID = m.deps.Keys.Live(d.Network)
	case d.Action == journal.ActionAdoptKey && d.KeyID == "":
		return "the network has no fingerprint_key in the configuration (networks." + d.Network + "), so no key of it can be named"
	case d.Action == journal.ActionDenyKey && d.KeyID == "":
		return "the id of a key is needed"
	case d.Action == journal.ActionAdoptKey && d.Probe == journal.ProbeRefused:
		return "the platform refuses this key: it does not work, so it is not adopted"
	}
	return ""
}

// aboutKey is what an accepted decision about a server key does besides being
// recorded: nothing for any other decision.
func (m *Manager) aboutKey(d *journal.Decision, now event.Instant) []journal.Entry {
	change := journal.KeyChange{Network: d.Network, KeyID: d.KeyID, At: now, Person: d.Person}
	entry := func(c journal.KeyChange) journal.Entry {
		return journal.Entry{Kind: journal.KindKeyObserved, Time: now, Body: c}
	}
	switch d.Action {
	case journal.ActionReportLeak:
		return m.open(d, reported(d, now), now)
	case journal.ActionAdoptKey:
		change.State, change.Created, change.Probe = journal.KeyAdopted, d.Created, d.Probe
		return append([]journal.Entry{entry(change)}, m.settle(d, "adopted", now)...)
	case journal.ActionDenyKey:
		change.State = journal.KeyDenied
		out := append([]journal.Entry{entry(change)}, m.settle(d, "denied", now)...)
		return append(out, m.open(d, denied(d, now), now)...)
	}
	return nil
}

// open journals a person's finding with its incident, which the decision names from
// then on.
func (m *Manager) open(d *journal.Decision, f finding.Finding, now event.Instant) []journal.Entry {
	b := newBatch(m, now)
	b.add([]finding.Finding{f})
	out := b.finish()
	for _, e := range out {
		if c, ok := e.Body.(journal.IncidentChange); ok {
			d.IncidentID = c.IncidentID
		}
	}
	return out
}

// settle resolves the ticket that asked whether the key is one of ours.
func (m *Manager) settle(d *journal.Decision, how string, now event.Instant) []journal.Entry {
	inc, ok := m.set.Latest(incident.Fingerprint(finding.Other, keySubject(d)))
	if !ok || !inc.State.Active() || inc.Lead.RuleID != finding.RuleUndeclaredRotation || len(inc.Rules) > 1 {
		return nil
	}
	d.IncidentID = inc.ID
	return []journal.Entry{{Kind: journal.KindIncident, Time: now, Body: journal.IncidentChange{
		IncidentID: inc.ID, Op: incident.OpResolve, Note: "the key was " + how}}}
}

func keySubject(d *journal.Decision) finding.Subject {
	if d.KeyID == "" {
		return finding.Subject{Network: d.Network, Field: event.FieldNetwork.String(), Value: d.Network}
	}
	return finding.Subject{Network: d.Network, Field: event.FieldKeyID.String(), Value: d.KeyID}
}

// said is what the findings of people have in common.
func said(d *journal.Decision, now event.Instant) finding.Finding {
	f := finding.Finding{Severity: finding.Page, Level: "critical", Subject: keySubject(d), First: now, Last: now, Fired: now, Count: 1,
		Playbook: "rotate-server-key", Group: []finding.Pair{{Field: "decision", Value: d.ID}},
		Facts: []finding.Pair{{Field: "told_by", Value: d.Person}}}
	if d.Reason != "" {
		f.Facts = append(f.Facts, finding.Pair{Field: "note", Value: d.Reason})
	}
	return f
}

func reported(d *journal.Decision, now event.Instant) finding.Finding {
	f := said(d, now)
	f.RuleID, f.RuleName, f.RuleTitle, f.Kind = RuleReportedLeak, "reported_leak", "A person reported that a server key leaked", finding.SecretLeak
	f.Risk = &finding.Risk{Family: finding.Possession, Fact: finding.PersonReport}
	f.Summary = "A person reported that a server key is in other hands."
	if d.KeyID == "" {
		f.Summary = "A person reported that the network's server key is in other hands; which key is live is not known."
	}
	f.Resolution = "Rotate the key, then find out who used it meanwhile: keysentry query blast_radius --param key_id=KEY."
	f.ID = finding.MakeID(f.RuleID, f.Group, 0)
	return f
}

func denied(d *journal.Decision, now event.Instant) finding.Finding {
	f := said(d, now)
	f.RuleID, f.RuleName, f.RuleTitle, f.Kind = RuleDeniedKey, "denied_key", "A key that nobody here made works for the network", finding.KeyCompromise
	f.Risk = &finding.Risk{Family: finding.Lifecycle, Score: 4}
	f.Summary = "A key that was seen to work is none of ours, says a person: somebody else can make keys for the network."
	f.Resolution = "Revoke the key in the platform's console, find out which administrator made it, and take that right away before rotating."
	f.ID = finding.MakeID(f.RuleID, f.Group, 0)
	return f
}
