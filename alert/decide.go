package alert

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// ViaSlack begins a Decision.Person that is a Slack user id instead of the id
// of a person: "slack:U012AB3CD".
const ViaSlack = "slack:"

const (
	defaultSilence = time.Hour
	maxSilence     = 7 * 24 * time.Hour
	maxReason      = 1000 // runes of a decision's reason
	maxField       = 200  // runes of its other fields
)

// Decide takes a person's decision and records it with its outcome. The answer
// carries Refused when it had no effect, with the reason; that is no error. A
// decision whose ID was recorded before is answered as it was then. An error
// means that nothing is known to be recorded: the same decision may be sent
// again.
func (m *Manager) Decide(ctx context.Context, d journal.Decision) (journal.Decision, error) {
	if d.ID == "" || len(d.ID) > maxField {
		return d, ErrNoDecisionID
	}
	release, err := m.acquire(ctx)
	if err != nil {
		return d, err
	}
	defer release()
	now := m.now()
	d = clip(d)
	m.mu.Lock()
	before, known := m.set.Decision(d.ID)
	var entries []journal.Entry
	if !known {
		entries = m.judge(&d, now)
	}
	m.mu.Unlock()
	if known {
		m.count.decisions.WithLabelValues(actionLabel(before.Action), "repeated").Inc()
		return before, nil
	}
	if err := m.append(ctx, entries...); err != nil {
		return d, fmt.Errorf("decide: %w", err)
	}
	outcome := "accepted"
	if d.Refused != "" {
		outcome = "refused"
	}
	m.count.decisions.WithLabelValues(actionLabel(d.Action), outcome).Inc()
	m.log.Info("decision", "action", d.Action, "outcome", outcome, "person", d.Person, "via", d.Via,
		"incident", d.IncidentID, "run", d.RunID, "refused", d.Refused)
	return d, nil
}

// judge fills in what the decision leaves open, and refuses it where it has to.
func (m *Manager) judge(d *journal.Decision, now event.Instant) []journal.Entry {
	d.Refused = ""
	person, known := m.person(d.Person)
	if known {
		d.Person = person.ID
	}
	switch {
	case !slices.Contains(actions(), d.Action):
		d.Refused = "there is no such action"
	case !known:
		d.Refused = "this person is not in the list of people and may only read"
	case !m.may(person, d.Action):
		d.Refused = person.ID + " has no authority for this action"
	default:
		d.Refused = m.refusal(d, now)
	}
	var entries []journal.Entry
	if d.Refused == "" {
		entries = m.aboutKey(d, now)
	}
	entries = append(entries, journal.Entry{Kind: journal.KindDecision, Time: now, Body: *d})
	if d.Refused == "" && d.Action == journal.ActionDeny {
		if inc, ok := m.set.Incident(d.IncidentID); ok && inc.Denials+1 == 2 {
			entries = append(entries, journal.Entry{Kind: journal.KindIncident, Time: now, Body: journal.IncidentChange{
				IncidentID: inc.ID, Op: incident.OpEscalate, Note: "a plan was denied for the second time"}})
		}
	}
	return entries
}

// May reports whether a person may do something, before it is decided: what comes
// before a decision must not be done for somebody who then may not take it.
func (m *Manager) May(person, action string) bool {
	p, known := m.person(person)
	return known && m.may(p, action)
}

// person finds who decides, by id or by Slack user id.
func (m *Manager) person(id string) (Person, bool) {
	slackID, viaSlack := strings.CutPrefix(id, ViaSlack)
	for _, p := range m.cfg.People {
		if (viaSlack && p.Slack != "" && p.Slack == slackID) || (!viaSlack && p.ID == id) {
			return p, true
		}
	}
	return Person{}, false
}

func (m *Manager) may(p Person, action string) bool {
	return slices.ContainsFunc(m.cfg.Authority[action], func(who string) bool {
		return who == Everyone || who == p.ID || slices.Contains(p.Roles, who)
	})
}

// refusal checks a decision against the state; empty means it is accepted.
func (m *Manager) refusal(d *journal.Decision, now event.Instant) string {
	switch d.Action {
	case journal.ActionAck, journal.ActionClose, journal.ActionSilence:
		inc, ok := m.set.Incident(d.IncidentID)
		if !ok {
			return "there is no such incident"
		}
		return m.refuseIncident(d, inc, now)
	case journal.ActionStart:
		if _, ok := m.set.Incident(d.IncidentID); d.IncidentID != "" && !ok {
			return "there is no such incident"
		}
		return ""
	case journal.ActionReportLeak, journal.ActionAdoptKey, journal.ActionDenyKey:
		return m.refuseKey(d)
	case journal.ActionStop, journal.ActionResume:
		if d.RunID == "" {
			return "" // the kill switch: all runs
		}
	}
	run, ok := m.set.Run(d.RunID)
	if !ok {
		return "there is no such run"
	}
	d.IncidentID = run.IncidentID
	return m.refuseRun(d, run, now)
}

func (m *Manager) refuseIncident(d *journal.Decision, inc *incident.Incident, now event.Instant) string {
	if d.Generation != nil && *d.Generation != inc.Generation {
		return "this button is stale: the incident was reopened since"
	}
	if inc.State == incident.Closed {
		return "the incident was closed by " + inc.ClosedBy
	}
	grave := inc.Kind == finding.KeyCompromise && d.Reason == ""
	switch d.Action {
	case journal.ActionAck:
		if inc.AckedBy != "" {
			return "already acknowledged by " + inc.AckedBy
		}
		if !inc.State.Active() {
			return "the incident is " + string(inc.State)
		}
	case journal.ActionClose:
		if !slices.Contains([]string{"true", "false", "benign"}, d.Verdict) {
			return "a verdict is needed: true, false or benign"
		}
		if grave && d.Verdict == "false" {
			return "a reason is needed to call a key compromise a false positive"
		}
	case journal.ActionSilence:
		if d.Until == 0 {
			d.Until = now.Add(defaultSilence)
		}
		switch {
		case d.Until <= now:
			return "the end of the silence is in the past"
		case d.Until.Sub(now) > maxSilence:
			return "a silence lasts 7 days at most"
		case grave:
			return "a reason is needed to silence a key compromise"
		}
	}
	return ""
}

func (m *Manager) refuseRun(d *journal.Decision, run *incident.Run, now event.Instant) string {
	if run.Ended {
		return "the run is over: " + run.State
	}
	inc, _ := m.set.Incident(run.IncidentID)
	switch d.Action {
	case journal.ActionApprove:
		return m.refuseApproval(d, run, now)
	case journal.ActionDeny:
		if !run.Waiting() {
			return "the plan does not wait for a decision: " + m.status(run)
		}
		if d.PlanHash != "" && d.PlanHash != run.PlanHash {
			return "this button is stale: the plan was made again since"
		}
		if inc != nil && inc.Kind == finding.KeyCompromise && d.Reason == "" {
			return "a reason is needed to deny a plan against a key compromise"
		}
	case journal.ActionChoose:
		return refuseChoice(d, run)
	case journal.ActionResume:
		if run.StoppedBy == "" && !slices.Contains([]string{"stopped", "failed", "unknown"}, run.State) {
			return "there is nothing to resume: the run is " + run.State
		}
	}
	return ""
}

const (
	choiceExtend    = "extend"
	choiceRevokeNow = "revoke_now"
	choiceBackOut   = "back_out"
)

func choices() []string { return []string{choiceExtend, choiceRevokeNow, choiceBackOut} }

// refuseChoice holds a choice to what the run can still do with it, so that
// nobody is told that a choice was taken which then has no effect.
func refuseChoice(d *journal.Decision, run *incident.Run) string {
	switch {
	case !run.Acting():
		return "the run does not wait for a choice"
	case !slices.Contains(choices(), d.Choice):
		return "a choice is needed: extend, revoke_now or back_out"
	case d.Choice == choiceExtend && d.Reason == "":
		return "a reason is needed to extend the overlap"
	case d.Choice == choiceExtend && run.State != "overlap" && run.State != "overdue":
		return "there is no overlap to extend: the run is " + run.State
	case d.Choice == choiceExtend && run.Extended:
		return "the overlap was extended once already"
	case d.Choice == choiceRevokeNow && run.State != "overdue":
		return "the overlap is not overdue: the run is " + run.State
	}
	return ""
}

func (m *Manager) refuseApproval(d *journal.Decision, run *incident.Run, now event.Instant) string {
	inc, ok := m.set.Incident(run.IncidentID)
	switch {
	case ok && inc.State == incident.Closed:
		return "the incident was closed by " + inc.ClosedBy + ": its plan is void"
	case run.DryRun:
		return "a dry run is not approved"
	case !run.Waiting():
		return "the plan does not wait for an approval: " + m.status(run)
	case d.PlanHash == "":
		return "the hash of the plan is needed"
	case d.PlanHash != run.PlanHash:
		return "this approval is stale: the plan was made again since"
	case now >= m.deadline(run):
		return "the plan expired at " + m.deadline(run).Time().Format("15:04 UTC") + ": have it made again"
	case slices.Contains(run.ApprovedBy, d.Person):
		return d.Person + " has approved already; another person is needed"
	case run.Approvals > 1 && d.Person == run.RequestedBy:
		return "two people are needed: who requested a plan cannot approve it"
	case d.Choice != "" && !slices.Contains(choices(), d.Choice):
		return "there is no such choice: use extend, revoke_now or back_out"
	case d.Choice != "" && run.Plan.Inputs["mode"] != "compromise":
		return "the outcome is chosen beforehand in compromise mode only"
	}
	return ""
}

// deadline is when a plan can no longer be approved: a while after the
// incident's acknowledgement, or after the plan where that came later; never
// later than the plan itself says, or than Approval.Max.
func (m *Manager) deadline(run *incident.Run) event.Instant {
	limit := run.PlannedAt.Add(m.cfg.Approval.Max)
	if run.ExpiresAt != 0 {
		limit = min(limit, run.ExpiresAt)
	}
	if inc, ok := m.set.Incident(run.IncidentID); ok && inc.AckedAt != 0 {
		limit = min(limit, max(inc.AckedAt, run.PlannedAt).Add(m.cfg.Approval.AfterAck))
	}
	return limit
}

// status says in words where a run stands.
func (m *Manager) status(run *incident.Run) string {
	switch {
	case run.Ended:
		return run.State
	case run.DeniedBy != "":
		return "denied by " + run.DeniedBy
	case run.ApprovedAt != 0:
		return "approved by " + strings.Join(run.ApprovedBy, " and ")
	}
	return "waits for approval"
}

// clip bounds what a decision may carry into the journal.
func clip(d journal.Decision) journal.Decision {
	d.Reason = truncate(strings.TrimSpace(d.Reason), maxReason)
	for _, s := range []*string{&d.Action, &d.IncidentID, &d.RunID, &d.PlanHash, &d.Step, &d.Person, &d.Via, &d.Verdict, &d.Choice, &d.Network, &d.KeyID, &d.Probe} {
		*s = truncate(*s, maxField)
	}
	return d
}

// truncate keeps the first n runes; invalid UTF-8 is replaced.
func truncate(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// actionLabel keeps a made-up action from becoming a label.
func actionLabel(a string) string {
	if slices.Contains(actions(), a) {
		return a
	}
	return "other"
}
