package alert

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// registry knows the network net, and its live key, if it has one.
type registry string

func (registry) Knows(network string) bool { return network == "net" }
func (r registry) Live(string) string      { return string(r) }

var (
	keyA = event.Fingerprint([]byte("k"), "a")
	keyB = event.Fingerprint([]byte("k"), "b")
)

func leak(id, person, key string) journal.Decision {
	return journal.Decision{ID: id, Action: journal.ActionReportLeak, Person: person, Via: "cli", Network: "net", KeyID: key, Reason: "in a public issue"}
}

// A report opens a page that meets the gate, names who said what, and comes once.
func TestReportLeak(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		live    registry
		key     string
		subject finding.Subject
	}{
		"of a key":                       {registry(keyA), keyB, finding.Subject{Network: "net", Field: "key_id", Value: keyB}},
		"of the live key":                {registry(keyA), "", finding.Subject{Network: "net", Field: "key_id", Value: keyA}},
		"where no live key is known yet": {"", "", finding.Subject{Network: "net", Field: "network", Value: "net"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.m.deps.Keys = tc.live
			d := r.decide(leak("d", "rita", tc.key))
			r.decide(leak("d", "rita", tc.key)) // the same click
			inc := r.only()
			if d.Refused != "" || d.IncidentID != inc.ID || inc.Kind != finding.SecretLeak || inc.Severity != finding.Page || inc.Subject != tc.subject || inc.Findings != 1 {
				t.Errorf("%+v: %+v", d, inc)
			}
			if inc.GateMetAt == 0 || inc.Suspicion == nil || inc.Suspicion.Gate.Because != "a person reported the leak" || inc.Suspicion.Probability < 0.99 {
				t.Errorf("the gate: %v, %+v", inc.GateMetAt, inc.Suspicion)
			}
			last := inc.Timeline[len(inc.Timeline)-1]
			if last.What != "leak reported" || last.Who != "rita" || last.Text != "in a public issue" {
				t.Errorf("the timeline ends with %+v", last)
			}
			r.pass(time.Minute)
			if said := content(r.messenger.roots()[0].Message); !strings.Contains(said, "Why this score") || !strings.Contains(said, "in a public issue") {
				t.Errorf("the message: %s", said)
			}
			// The journal alone gives the same state.
			r.start()
			again := r.only()
			if again.GateMetAt != inc.GateMetAt || again.Severity != inc.Severity {
				t.Errorf("after a restart %+v, was %+v", again.GateMetAt, inc.GateMetAt)
			}
		})
	}
}

func TestReportJoinsTheCompromise(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.m.deps.Keys = registry(keyA)
	r.record(found(finding.KeyCompromise, finding.Page, "key_id", keyA, 1))
	if inc := r.only(); inc.GateMetAt != 0 {
		t.Fatalf("the gate is met at %v without evidence", inc.GateMetAt)
	}
	r.decide(leak("d", "rita", ""))
	if inc := r.only(); inc.Kind != finding.KeyCompromise || inc.GateMetAt == 0 {
		t.Errorf("%s, gate met at %v", inc.Kind, inc.GateMetAt)
	}
}

func TestDecisionsAboutKeysAreRefused(t *testing.T) {
	t.Parallel()
	about := func(d journal.Decision, change func(*journal.Decision)) journal.Decision { change(&d); return d }
	adopt := journal.Decision{ID: "d", Action: journal.ActionAdoptKey, Person: "ana", Network: "net", KeyID: keyA, Probe: journal.ProbeAgreed}
	for name, tc := range map[string]struct {
		d    journal.Decision
		want string
	}{
		"a stranger reports":        {leak("d", "eve", keyA), "may only read"},
		"without authority":         {leak("d", "vera", keyA), "no authority"},
		"of an unknown network":     {about(leak("d", "rita", keyA), func(d *journal.Decision) { d.Network = "nett" }), "there is no network nett"},
		"of no network":             {about(leak("d", "rita", keyA), func(d *journal.Decision) { d.Network = "" }), "a network is needed"},
		"without a word":            {about(leak("d", "rita", keyA), func(d *journal.Decision) { d.Reason = " " }), "a note is needed"},
		"with the key itself":       {leak("d", "rita", "sk-live-0123456789"), "never its value"},
		"adopt with the key itself": {about(adopt, func(d *journal.Decision) { d.KeyID = "sk-live-0123456789" }), "never its value"},
		"adopt without authority":   {about(adopt, func(d *journal.Decision) { d.Person = "rita" }), "no authority"},
		"adopt nothing":             {about(adopt, func(d *journal.Decision) { d.KeyID = "" }), "no fingerprint_key"},
		"adopt what does not work":  {about(adopt, func(d *journal.Decision) { d.Probe = journal.ProbeRefused }), "the platform refuses this key"},
		"deny nothing":              {about(adopt, func(d *journal.Decision) { d.Action, d.KeyID = journal.ActionDenyKey, "" }), "the id of a key is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.m.deps.Keys = registry(keyB)
			if d := r.decide(tc.d); !strings.Contains(d.Refused, tc.want) {
				t.Errorf("refused %q, want %q", d.Refused, tc.want)
			}
			if _, refused := r.journal.decisions(); refused != 1 || r.journal.count(journal.KindKeyObserved) != 0 || len(r.m.Incidents()) != 0 {
				t.Errorf("%d refusals, %d changes of keys, %d incidents; want 1, 0, 0", refused, r.journal.count(journal.KindKeyObserved), len(r.m.Incidents()))
			}
			for _, rec := range r.journal.all() {
				if strings.Contains(string(rec.Body), "sk-live") {
					t.Errorf("the journal holds a key: %s", rec.Body)
				}
			}
		})
	}
}

// A person who adopts or denies a key settles the ticket that asked; a denial opens
// an incident about the key, which one signal of ours does not rotate.
func TestSettleUndeclaredRotation(t *testing.T) {
	t.Parallel()
	for _, action := range []string{journal.ActionAdoptKey, journal.ActionDenyKey} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.m.deps.Keys = registry(keyB)
			f := found(finding.Other, finding.Ticket, "key_id", keyA, 1)
			f.RuleID = finding.RuleUndeclaredRotation
			r.record(f)
			asked := r.only().ID
			d := r.decide(journal.Decision{ID: "d", Action: action, Person: "ana", Network: "net", KeyID: keyA, Created: 5, Probe: journal.ProbeAgreed})
			if inc, _ := r.m.Incident(asked); d.Refused != "" || inc.State != incident.Resolved {
				t.Fatalf("refused %q, the ticket is %s", d.Refused, inc.State)
			}
			changes := 0
			for _, rec := range r.journal.all() {
				var k journal.KeyChange
				if rec.Kind != journal.KindKeyObserved {
					continue
				}
				changes++
				if err := json.Unmarshal(rec.Body, &k); err != nil {
					t.Fatal(err)
				}
				if k.Network != "net" || k.KeyID != keyA || k.Person != "ana" {
					t.Errorf("%+v", k)
				}
				if adopted := k.State == journal.KeyAdopted && k.Created == 5 && k.Probe == journal.ProbeAgreed; adopted != (action == journal.ActionAdoptKey) {
					t.Errorf("%+v", k)
				}
			}
			if changes != 1 {
				t.Errorf("%d changes of keys, want 1", changes)
			}
			all := r.m.Incidents()
			if action == journal.ActionAdoptKey {
				if len(all) != 1 {
					t.Errorf("%d incidents, want the ticket alone", len(all))
				}
				return
			}
			if len(all) != 2 || all[0].Kind != finding.KeyCompromise || all[0].Severity != finding.Page || all[0].Subject.Value != keyA || all[0].GateMetAt != 0 {
				t.Errorf("%+v", all[0])
			}
		})
	}
}

func TestSuspects(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := found(finding.KeyCompromise, finding.Page, "key_id", keyA, 1)
	f.Evidence = []finding.Evidence{{Type: event.TypeAuthTokenIssued, SourceIP: "203.0.113.9"}, {Type: event.TypeAuthTokenIssued, SourceIP: "203.0.113.10"}}
	other := found(finding.Other, finding.Ticket, "source_ip", "203.0.113.11", 1)
	r.record(f, other)
	if got := r.m.Suspects()["net"]; len(got) != 2 || got[0] != "203.0.113.9" || got[1] != "203.0.113.10" {
		t.Errorf("got %q", got)
	}
	for _, inc := range r.m.Incidents() {
		if inc.Kind == finding.KeyCompromise {
			r.decide(journal.Decision{ID: "c", Action: journal.ActionClose, IncidentID: inc.ID, Person: "ana", Verdict: "benign"})
		}
	}
	if got := r.m.Suspects(); len(got) != 0 {
		t.Errorf("of a closed incident: %q", got)
	}
}
