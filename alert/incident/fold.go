package incident

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/suspicion"
)

// Apply folds one record in. Records come in the order of the journal; one that
// was folded before is ignored. An error says that the record's body could not
// be read: it then counts as seen and changes nothing else.
func (s *Set) Apply(rec journal.Record) error {
	if rec.N <= s.last {
		return nil
	}
	s.last = rec.N
	switch rec.Kind {
	case journal.KindFinding:
		return fold(rec, s.finding)
	case journal.KindIncident:
		return fold(rec, s.change)
	case journal.KindDecision:
		return fold(rec, s.decision)
	case journal.KindRunPlanned:
		return fold(rec, s.planned)
	case journal.KindRunState:
		return fold(rec, s.runState)
	case journal.KindStep:
		return fold(rec, s.step)
	case journal.KindOutbox:
		return fold(rec, s.outbox)
	case journal.KindTookOver:
		return fold(rec, s.tookOver)
	}
	return nil
}

func fold[B any](rec journal.Record, f func(journal.Record, B)) error {
	var b B
	if err := json.Unmarshal(rec.Body, &b); err != nil {
		return fmt.Errorf("record %d: decode %s: %w", rec.N, rec.Kind, err)
	}
	f(rec, b)
	return nil
}

func (s *Set) finding(rec journal.Record, f finding.Finding) {
	if _, known := s.links[f.ID]; known {
		return
	}
	if f.Shadow {
		s.link(f.ID, shadowLink)
		return
	}
	s.link(f.ID, "")
	s.orphans[f.ID] = orphan{rec.N, f}
}

// link remembers a finding's incident, and forgets the oldest when there are
// too many: a redelivery reaches back seconds, not days.
func (s *Set) link(findingID, incidentID string) {
	if _, ok := s.links[findingID]; !ok {
		s.linkOrder = append(s.linkOrder, findingID)
	}
	s.links[findingID] = incidentID
	if len(s.linkOrder) > maxLinks {
		delete(s.links, s.linkOrder[0])
		delete(s.orphans, s.linkOrder[0])
		s.linkOrder = s.linkOrder[1:]
	}
}

func (s *Set) change(rec journal.Record, c journal.IncidentChange) {
	if c.Op == OpOpen {
		s.open(rec, c)
		return
	}
	inc, ok := s.incidents[c.IncidentID]
	if !ok {
		return
	}
	s.touch(inc.ID)
	switch c.Op {
	case OpJoin:
		s.join(rec, inc, c)
	case OpDropped:
		inc.Dropped += c.Count
		inc.LastAt = rec.Time
	case OpReopen:
		s.reopen(rec, inc, c)
	case OpMitigate:
		if inc.State.Active() {
			inc.State = Mitigating
		}
		inc.log(rec, "mitigating", "", c.Note)
	case OpResolve:
		if inc.State.Active() {
			inc.State, inc.ResolvedAt = Resolved, rec.Time
			s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "resolved", Text: c.Note})
		}
	case OpEscalate:
		inc.Escalated = true
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "escalated", Text: c.Note, Loud: true})
	case OpUnsilence:
		inc.SilencedUntil, inc.SilencedBy, inc.Held = 0, "", 0
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "silence ended", Text: c.Note, Loud: inc.State == Open})
	case OpNote:
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "note", Text: c.Note})
	}
}

func (s *Set) open(rec journal.Record, c journal.IncidentChange) {
	if _, exists := s.incidents[c.IncidentID]; exists {
		return
	}
	o, ok := s.orphans[c.FindingID]
	if !ok {
		return
	}
	inc := &Incident{ID: c.IncidentID, State: Open, OpenedAt: rec.Time, LastAt: rec.Time, Kind: c.Kind}
	if inc.Kind == "" {
		inc.Kind = o.f.Kind
	}
	inc.Subject = o.f.Subject
	if c.Subject != nil {
		inc.Subject = *c.Subject
	}
	inc.Fingerprint = Fingerprint(inc.Kind, inc.Subject)
	s.incidents[inc.ID] = inc
	s.order = append(s.order, inc.ID)
	s.latest[inc.Fingerprint] = inc.ID
	s.touch(inc.ID)
	inc.log(rec, "opened", "", c.Note)
	s.join(rec, inc, c)
	s.evict()
}

func (s *Set) join(rec journal.Record, inc *Incident, c journal.IncidentChange) {
	o, ok := s.orphans[c.FindingID]
	if !ok {
		return
	}
	delete(s.orphans, c.FindingID)
	s.link(c.FindingID, inc.ID)
	f := o.f
	inc.Findings++
	inc.Events += f.Count
	inc.LastAt = rec.Time
	if inc.Silenced(rec.Time) {
		inc.Held++
	}
	first := inc.Lead.ID == ""
	rose, fresh := f.Severity > inc.Severity, !inc.HasRule(f.RuleID)
	if first || rose {
		inc.Lead, inc.Severity = f, f.Severity
	}
	inc.countRule(f)
	inc.affect(f)
	met := s.weigh(rec, inc, &f)
	switch {
	case first:
	case c.Inhibited:
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "finding held back, because this incident explains it", Text: f.RuleTitle})
	case rose:
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "severity rose to " + f.Severity.String(), Text: f.RuleTitle, Loud: true})
	case fresh:
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "new evidence", Text: f.RuleTitle})
	}
	if met {
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "the evidence suffices to propose a rotation", Text: inc.Suspicion.Gate.Because, Loud: true})
	}
}

// weigh adds a finding to the account of an incident about a key, and reports
// whether the evidence suffices from now on. Findings about other things that the
// incident explains do not count.
func (s *Set) weigh(rec journal.Record, inc *Incident, f *finding.Finding) (met bool) {
	if !inc.AboutKey() || f.Risk == nil || f.Subject != inc.Subject {
		return false
	}
	a := s.accounts[inc.ID]
	if a == nil {
		a = &suspicion.Account{}
		s.accounts[inc.ID] = a
	}
	a.Add(f)
	now := a.Assess(a.Newest())
	inc.Suspicion = &now
	if !now.Gate.Met || inc.GateMetAt != 0 {
		return false
	}
	inc.GateMetAt, inc.Severity = rec.Time, finding.Page
	return true
}

func (s *Set) reopen(rec journal.Record, inc *Incident, c journal.IncidentChange) {
	if inc.State.Active() {
		return
	}
	if inc.State == Closed {
		// A person has judged what there was: new evidence has to stand alone.
		delete(s.accounts, inc.ID)
		inc.Suspicion, inc.Severity, inc.Lead = nil, finding.Digest, finding.Finding{}
	}
	inc.State, inc.GateMetAt = Open, 0
	inc.Generation++
	inc.AckedAt, inc.AckedBy, inc.ResolvedAt, inc.ClosedAt, inc.ClosedBy, inc.Verdict = 0, "", 0, 0, "", ""
	inc.Escalated, inc.ReopenedAt, inc.LastAt = false, rec.Time, rec.Time
	s.latest[inc.Fingerprint] = inc.ID
	s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "reopened", Text: c.Note, Loud: true})
}

// tell puts a line in the timeline and in what the thread is owed.
func (s *Set) tell(inc *Incident, n Notice) {
	inc.Timeline = appendEntry(inc.Timeline, Entry{N: n.N, Time: n.Time, What: n.What, Who: n.Who, Text: n.Text})
	list := append(s.notices[inc.ID], n)
	if len(list) > MaxNotices {
		list = slices.Delete(list, 1, 2)
	}
	s.notices[inc.ID] = list
}

func (i *Incident) log(rec journal.Record, what, who, text string) {
	i.Timeline = appendEntry(i.Timeline, Entry{N: rec.N, Time: rec.Time, What: what, Who: who, Text: text})
}

// appendEntry keeps the beginning of the story and its end.
func appendEntry(list []Entry, e Entry) []Entry {
	list = append(list, e)
	if len(list) > MaxTimeline {
		list = slices.Delete(list, MaxTimeline/3, MaxTimeline/3+1)
	}
	return list
}

func (i *Incident) countRule(f finding.Finding) {
	for k := range i.Rules {
		if i.Rules[k].ID == f.RuleID {
			i.Rules[k].Count++
			return
		}
	}
	if len(i.Rules) < MaxRules {
		i.Rules = append(i.Rules, Rule{ID: f.RuleID, Title: f.RuleTitle, Count: 1})
	}
}

func (i *Incident) affect(f finding.Finding) {
	i.affectOne(f.Subject.Field, f.Subject.Value)
	for _, p := range f.Group {
		i.affectOne(p.Field, p.Value)
	}
	for _, e := range f.Evidence {
		i.affectOne("host", e.Host)
		i.affectOne("source_ip", e.SourceIP)
		i.affectOne("user_id", e.UserID)
		i.affectOne("key_id", e.KeyID)
	}
}

func (i *Incident) affectOne(field, value string) {
	if field == "" || value == "" {
		return
	}
	k := slices.IndexFunc(i.Affected, func(a Affected) bool { return a.Field == field })
	if k < 0 {
		i.Affected = append(i.Affected, Affected{Field: field})
		k = len(i.Affected) - 1
	}
	a := &i.Affected[k]
	switch {
	case slices.Contains(a.Values, value):
	case len(a.Values) < MaxAffected:
		a.Values = append(a.Values, value)
	default:
		a.More = true
	}
}

// evict forgets the oldest incidents that are over, so that the state is
// bounded; the journal keeps them.
func (s *Set) evict() {
	if len(s.order) <= MaxIncidents {
		return
	}
	k := slices.IndexFunc(s.order, func(id string) bool { return !s.incidents[id].State.Active() })
	if k < 0 {
		k = 0
	}
	inc := s.incidents[s.order[k]]
	s.order = slices.Delete(s.order, k, k+1)
	delete(s.incidents, inc.ID)
	delete(s.notices, inc.ID)
	delete(s.touched, inc.ID)
	delete(s.accounts, inc.ID)
	if s.latest[inc.Fingerprint] == inc.ID {
		delete(s.latest, inc.Fingerprint)
	}
}
