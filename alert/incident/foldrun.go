package incident

import (
	"slices"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

func (s *Set) decision(rec journal.Record, d journal.Decision) {
	if _, known := s.decisions[d.ID]; known {
		return
	}
	s.decisions[d.ID] = d
	s.decisionOrder = append(s.decisionOrder, d.ID)
	if len(s.decisionOrder) > maxDecisions {
		delete(s.decisions, s.decisionOrder[0])
		s.decisionOrder = s.decisionOrder[1:]
	}
	run := s.runs[d.RunID]
	inc := s.incidents[d.IncidentID]
	if inc == nil && run != nil {
		inc = s.incidents[run.IncidentID]
	}
	if d.Refused != "" {
		if inc != nil {
			inc.log(rec, "refused: "+d.Action, d.Person, d.Refused)
		}
		return
	}
	switch {
	case run != nil:
		decideRun(rec, run, d)
	case d.RunID == "" && (d.Action == journal.ActionStop || d.Action == journal.ActionResume):
		s.decideAll(rec, d)
	}
	if inc != nil {
		s.touch(inc.ID)
		s.decideIncident(rec, inc, d)
	}
}

// decideAll takes the kill switch, which stands for every run that is not over.
func (s *Set) decideAll(rec journal.Record, d journal.Decision) {
	for _, id := range s.runOrder {
		run := s.runs[id]
		if run.Ended || run.DryRun {
			continue
		}
		decideRun(rec, run, d)
		if inc, ok := s.incidents[run.IncidentID]; ok {
			s.touch(inc.ID)
			s.decideIncident(rec, inc, d)
		}
	}
}

func decideRun(rec journal.Record, run *Run, d journal.Decision) {
	switch d.Action {
	case journal.ActionApprove:
		run.ApprovedBy = append(run.ApprovedBy, d.Person)
		if len(run.ApprovedBy) >= run.Approvals {
			run.ApprovedAt = rec.Time
		}
	case journal.ActionDeny:
		run.DeniedBy = d.Person
	case journal.ActionStop:
		run.StoppedBy = d.Person
	case journal.ActionResume:
		run.StoppedBy = ""
	}
	run.ChangedAt = rec.Time
}

func (s *Set) decideIncident(rec journal.Record, inc *Incident, d journal.Decision) {
	n := Notice{N: rec.N, Time: rec.Time, Who: d.Person, Text: d.Reason}
	switch d.Action {
	case journal.ActionAck:
		if inc.State == Open {
			inc.State = Acknowledged
		}
		inc.AckedBy, inc.AckedAt = d.Person, rec.Time
		n.What = "acknowledged"
	case journal.ActionClose:
		inc.State, inc.ClosedBy, inc.ClosedAt, inc.Verdict = Closed, d.Person, rec.Time, d.Verdict
		n.What = "closed as " + d.Verdict
	case journal.ActionSilence:
		inc.SilencedUntil, inc.SilencedBy, inc.Held = d.Until, d.Person, 0
		n.What = "silenced until " + clockTime(d.Until)
	case journal.ActionApprove:
		n.What = "plan approved"
	case journal.ActionDeny:
		inc.Denials++
		n.What = "plan denied"
	case journal.ActionChoose:
		n.What = "chose " + d.Choice
	case journal.ActionReportLeak:
		n.What = "leak reported"
	case journal.ActionAdoptKey:
		n.What = "key adopted"
	case journal.ActionDenyKey:
		n.What = "key denied: it is none of ours"
	default:
		n.What = d.Action
	}
	s.tell(inc, n)
}

func (s *Set) planned(rec journal.Record, p journal.RunPlanned) {
	run, again := s.runs[p.RunID]
	if !again {
		run = &Run{ID: p.RunID}
		s.runs[p.RunID] = run
		s.runOrder = append(s.runOrder, p.RunID)
	}
	run.Playbook, run.IncidentID, run.Network = p.Playbook, p.IncidentID, p.Network
	run.RequestedBy, run.Plan, run.PlanHash = p.RequestedBy, p.Plan, p.PlanHash
	run.DryRun, run.ExpiresAt, run.Approvals = p.DryRun, p.ExpiresAt, max(p.Approvals, 1)
	run.State, run.Reason, run.Ended = "planned", "", false
	run.ApprovedBy, run.ApprovedAt, run.DeniedBy, run.StoppedBy, run.Extended = nil, 0, "", "", false
	run.PlannedAt, run.ChangedAt = rec.Time, rec.Time
	if inc, ok := s.incidents[p.IncidentID]; ok {
		s.touch(inc.ID)
		if !slices.Contains(inc.Runs, p.RunID) {
			inc.Runs = append(inc.Runs, p.RunID)
		}
		what := "plan ready"
		if p.DryRun {
			what = "dry run"
		}
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: what, Who: p.RequestedBy, Text: p.Playbook + ": " + p.Plan.Summary})
	}
	s.evictRuns()
}

func (s *Set) runState(rec journal.Record, r journal.RunState) {
	run, ok := s.runs[r.RunID]
	if !ok {
		return
	}
	run.State, run.Reason, run.Clock, run.Ended = r.State, r.Reason, r.Clock, r.Ended
	run.Extended = run.Extended || r.Reason == "extended"
	run.ChangedAt = rec.Time
	inc, ok := s.incidents[run.IncidentID]
	if !ok {
		return
	}
	s.touch(inc.ID)
	if run.Acting() && (inc.State == Open || inc.State == Acknowledged) {
		inc.State = Mitigating
	}
	// A run that is over starts the quiet time anew: its effect has to show.
	if r.Ended && inc.LastAt < rec.Time {
		inc.LastAt = rec.Time
	}
	if r.Text != "" || r.Ended {
		text := r.Text
		if text == "" {
			text = r.Reason
		}
		s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: run.Playbook + ": " + r.State, Text: text})
	}
}

func (s *Set) step(rec journal.Record, st journal.Step) {
	run, ok := s.runs[st.RunID]
	if !ok {
		return
	}
	rs := RunStep{ID: st.StepID, Attempt: st.Attempt, State: st.State, Error: st.Error, At: rec.Time}
	if k := slices.IndexFunc(run.Steps, func(r RunStep) bool { return r.ID == st.StepID }); k >= 0 {
		run.Steps[k] = rs
	} else {
		run.Steps = append(run.Steps, rs)
	}
	run.ChangedAt = rec.Time
	s.touch(run.IncidentID)
	inc, ok := s.incidents[run.IncidentID]
	if !ok || (st.Text == "" && st.Error == "") {
		return
	}
	text := st.Text
	if st.Error != "" {
		text = st.Text + " " + st.Error
	}
	s.tell(inc, Notice{N: rec.N, Time: rec.Time, What: "step " + st.State, Text: st.StepID + ": " + text})
}

func (s *Set) outbox(rec journal.Record, o journal.Outbox) {
	m, pending := s.messages[o.MessageID]
	s.touch(o.IncidentID)
	switch o.State {
	case StateNew:
		if !pending {
			s.messages[o.MessageID] = &Message{ID: o.MessageID, IncidentID: o.IncidentID, Channel: o.Channel, State: StateNew,
				Payload: o.Payload, CreatedAt: rec.Time, ChangedAt: rec.Time, N: rec.N}
		}
		s.told(o.IncidentID, o.Upto)
	case StateSending, StateUnknown:
		if pending {
			m.State, m.ChangedAt = o.State, rec.Time
		}
	case StateDropped:
		delete(s.messages, o.MessageID)
	case StateSent:
		delete(s.messages, o.MessageID)
		inc, ok := s.incidents[o.IncidentID]
		if ok && o.Root && !slices.ContainsFunc(inc.Roots, func(t Thread) bool { return t.MessageID == o.MessageID }) {
			inc.Roots = append(inc.Roots, Thread{MessageID: o.MessageID, Channel: o.Channel, TS: o.TS})
		}
	}
}

// told forgets the notices that a message covers.
func (s *Set) told(incidentID string, upto int64) {
	if upto == 0 {
		return
	}
	rest := slices.DeleteFunc(s.notices[incidentID], func(n Notice) bool { return n.N <= upto })
	if len(rest) == 0 {
		delete(s.notices, incidentID)
		return
	}
	s.notices[incidentID] = rest
}

func (s *Set) tookOver(rec journal.Record, t journal.TookOver) {
	s.previous = s.leader
	s.leader = Leader{Member: t.Member, Address: t.Address, Epoch: rec.Offset}
}

func (s *Set) evictRuns() {
	if len(s.runOrder) <= MaxRuns {
		return
	}
	k := slices.IndexFunc(s.runOrder, func(id string) bool { return s.runs[id].Ended })
	if k < 0 {
		k = 0
	}
	delete(s.runs, s.runOrder[k])
	s.runOrder = slices.Delete(s.runOrder, k, k+1)
}

func clockTime(t event.Instant) string { return t.Time().Format("2006-01-02 15:04 UTC") }
