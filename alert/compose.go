package alert

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

const (
	shownValues = 8  // values of one fact
	shownSteps  = 20 // steps of a plan
	shownFacts  = 12 // a finding's own facts
)

// content is what decides whether a message has to be edited.
func content(m Message) string {
	m.Since = 0
	// A Message holds only strings and numbers: it always encodes.
	raw, _ := json.Marshal(m)
	return string(raw)
}

// compose writes the root message of an incident. It depends on the state
// alone, not on the time, so that an unchanged incident is not edited.
func (m *Manager) compose(inc *incident.Incident, channel string) Message {
	f := &inc.Lead
	msg := Message{
		ID: rootID(inc, channel), IncidentID: inc.ID, Channel: channel, Severity: inc.Severity,
		Title:    fmt.Sprintf("%s: %s (%s)", strings.ToUpper(inc.Severity.String()), kindWords(inc.Kind), inc.State),
		Sentence: sentence(f), Facts: m.facts(inc), Resolution: f.Resolution, SQL: reproduce(f, m.deps.Database), Series: f.Series,
	}
	if m.cfg.ConsoleURL != "" {
		msg.Link = strings.TrimRight(m.cfg.ConsoleURL, "/") + "/incidents/" + url.PathEscape(inc.ID)
	}
	run := m.shownRun(inc)
	if run != nil {
		msg.Plan = m.planBox(run)
	}
	msg.Buttons = buttons(inc, run)
	return msg
}

// shownRun is the incident's last run, nil without one. A dry run is shown only
// where there is no other: it must not hide a plan that waits.
func (m *Manager) shownRun(inc *incident.Incident) *incident.Run {
	var shown *incident.Run
	for _, id := range inc.Runs {
		if run, ok := m.set.Run(id); ok && (shown == nil || shown.DryRun || !run.DryRun) {
			shown = run
		}
	}
	return shown
}

func sentence(f *finding.Finding) string {
	if f.Summary != "" {
		return f.Summary
	}
	return f.RuleTitle
}

func kindWords(k finding.Kind) string { return strings.ReplaceAll(string(k), "_", " ") }

// facts are the numbers and names that an incident is judged by.
func (m *Manager) facts(inc *incident.Incident) []Fact {
	f := &inc.Lead
	var out []Fact
	said := map[string]bool{} // a finding's group and facts repeat what the incident says
	add := func(label, note string, values ...string) {
		if len(values) == 0 || values[0] == "" {
			return
		}
		if key := label + "=" + values[0]; len(values) > 1 || !said[key] {
			said[key] = true
			out = append(out, Fact{Label: label, Values: values, Note: note})
		}
	}
	if f.Cause != event.CauseNone {
		add("Cause", fmt.Sprintf("confidence %.0f %%", 100*f.CauseConfidence), f.Cause.String())
	}
	subject := inc.Subject.Value
	if subject == incident.Many {
		subject = "many"
	}
	add(label(inc.Subject.Field), "", subject)
	add("Network", "", inc.Subject.Network)
	numbers := fmt.Sprintf("findings: %d, events that satisfied the rule: %d", inc.Findings, inc.Events)
	if f.Threshold != "" {
		numbers = strconv.FormatFloat(f.Value, 'g', 6, 64) + " when it fired, where the rule says " + f.Threshold + "; " + numbers
	}
	add("Numbers", "", numbers)
	add("Since", "", stamp(f.First))
	if f.Coverage != nil && *f.Coverage < 1 {
		add("Coverage", "what is missing is not in these numbers", fmt.Sprintf("%.2f %% of the events of that time", 100*min(*f.Coverage, 0.9999)))
	}
	for _, a := range inc.Affected {
		if a.Field != inc.Subject.Field || inc.Subject.Value == incident.Many {
			note := ""
			if n := len(a.Values) - shownValues; n > 0 || a.More {
				note = more(max(n, 0), a.More)
			}
			add(label(a.Field), note, a.Values[:min(len(a.Values), shownValues)]...)
		}
	}
	for _, p := range f.Facts[:min(len(f.Facts), shownFacts)] {
		add(label(p.Field), "", p.Value)
	}
	rules := make([]string, 0, len(inc.Rules))
	for _, r := range inc.Rules[:min(len(inc.Rules), shownValues)] {
		rules = append(rules, fmt.Sprintf("%s (%d)", r.Title, r.Count))
	}
	add("Rules", "", rules...)
	return append(append(out, suspicions(inc)...), history(inc)...)
}

// suspicions say why a key counts as stolen, and what a proposal waits for. They are
// as of the newest finding, so that a message is not edited because time passes.
func suspicions(inc *incident.Incident) []Fact {
	a := inc.Suspicion
	if a == nil {
		return nil
	}
	var why []string
	for i := range a.Contributions[:min(len(a.Contributions), shownValues)] {
		why = append(why, a.Contributions[i].Words())
	}
	note := "as of " + stamp(a.At)
	if n := len(a.Contributions) - shownValues; n > 0 {
		note = more(n, false) + ", " + note
	}
	return []Fact{
		{Label: "Suspicion", Values: []string{a.Words()}},
		{Label: "Why this score", Values: why, Note: note},
		{Label: "Evidence", Values: []string{a.Gate.Words()}},
	}
}

// history are the facts about what was done with the incident.
func history(inc *incident.Incident) []Fact {
	var out []Fact
	if inc.Dropped > 0 {
		out = append(out, Fact{Label: "Not kept", Values: []string{fmt.Sprintf("%d further findings were only counted (flood guard)", inc.Dropped)}})
	}
	if inc.AckedBy != "" {
		out = append(out, Fact{Label: "Acknowledged", Values: []string{inc.AckedBy}, Note: "at " + stamp(inc.AckedAt)})
	}
	if inc.SilencedUntil != 0 {
		out = append(out, Fact{Label: "Silenced", Values: []string{inc.SilencedBy}, Note: "until " + stamp(inc.SilencedUntil)})
	}
	if inc.State == incident.Resolved {
		out = append(out, Fact{Label: "Resolved", Values: []string{stamp(inc.ResolvedAt)}})
	}
	if inc.State == incident.Closed {
		out = append(out, Fact{Label: "Closed", Values: []string{inc.ClosedBy}, Note: "verdict " + inc.Verdict + ", at " + stamp(inc.ClosedAt)})
	}
	return out
}

func more(n int, unknown bool) string {
	switch {
	case unknown:
		return fmt.Sprintf("and more than %d others", n)
	case n == 1:
		return "and 1 other"
	}
	return fmt.Sprintf("and %d others", n)
}

// label turns a field's name into words. A name that is not one of ours stays
// out of our own text.
func label(field string) string {
	if field == "" || len(field) > 40 || strings.Trim(field, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ") != "" {
		return "Value"
	}
	w := strings.ReplaceAll(field, "_", " ")
	return strings.ToUpper(w[:1]) + w[1:]
}

func stamp(t event.Instant) string { return t.Time().Format("2006-01-02 15:04:05 UTC") }

// planBox shows what a run would do, or is doing.
func (m *Manager) planBox(r *incident.Run) *PlanBox {
	box := &PlanBox{RunID: r.ID, Playbook: r.Playbook, Summary: r.Plan.Summary, Clock: r.Clock}
	state := map[string]string{}
	for _, s := range r.Steps {
		state[s.ID] = s.State
	}
	for i, s := range r.Plan.Steps {
		if i == shownSteps {
			box.Steps = append(box.Steps, fmt.Sprintf("and %d more", len(r.Plan.Steps)-i))
			break
		}
		line := s.ID
		if len(s.Calls) > 0 {
			line += ": " + strings.Join(s.Calls, "; ")
		}
		if st := state[s.ID]; st != "" {
			line += " [" + st + "]"
		}
		box.Steps = append(box.Steps, line)
	}
	switch {
	case r.DryRun:
		box.Status = "dry run: nothing is done"
	case r.Waiting():
		box.Status = "waits for approval until " + stamp(m.deadline(r))
		if r.Approvals > 1 {
			box.Status += fmt.Sprintf(", by %d people (%d so far)", r.Approvals, len(r.ApprovedBy))
		}
	case r.Ended:
		box.Status = "ended: " + r.State
	default:
		box.Status = m.status(r) + ", now: " + r.State
	}
	return box
}

// buttons are the decisions that are open.
func buttons(inc *incident.Incident, run *incident.Run) []Button {
	grave := inc.Kind == finding.KeyCompromise
	base := Button{IncidentID: inc.ID, Generation: inc.Generation}
	var out []Button
	add := func(b Button) {
		b.IncidentID, b.Generation = base.IncidentID, base.Generation
		out = append(out, b)
	}
	if inc.State.Active() && inc.AckedBy == "" {
		add(Button{Action: journal.ActionAck, Label: "Acknowledge", Style: "primary"})
	}
	if run != nil && run.Waiting() {
		if inc.State != incident.Closed {
			add(Button{Action: journal.ActionApprove, Label: "Approve plan", Style: "danger", RunID: run.ID, PlanHash: run.PlanHash})
		}
		add(Button{Action: journal.ActionDeny, Label: "Deny", RunID: run.ID, PlanHash: run.PlanHash, NeedsReason: grave})
	}
	if run != nil && run.Acting() && run.State == "overdue" {
		add(Button{Action: journal.ActionChoose, Label: "Extend 60 min", Choice: "extend", RunID: run.ID, NeedsReason: true})
		add(Button{Action: journal.ActionChoose, Label: "Revoke now", Choice: "revoke_now", Style: "danger", RunID: run.ID})
		add(Button{Action: journal.ActionChoose, Label: "Back out", Choice: "back_out", RunID: run.ID})
	}
	if inc.State.Active() && inc.SilencedUntil == 0 {
		add(Button{Action: journal.ActionSilence, Label: "Silence 1 h", NeedsReason: grave})
	}
	if inc.State != incident.Closed {
		add(Button{Action: journal.ActionClose, Label: "False positive", Verdict: "false", NeedsReason: grave})
	}
	return out
}

// composeReply tells an incident's news in one message.
func (m *Manager) composeReply(inc *incident.Incident, root incident.Thread, notices []incident.Notice) Message {
	msg := Message{ID: replyID(inc, notices[len(notices)-1].N), IncidentID: inc.ID, Channel: root.Channel, Thread: root.TS,
		Severity: inc.Severity, Since: notices[0].Time, Title: "News of " + inc.ID}
	for _, n := range notices {
		msg.Lines = append(msg.Lines, Line{Time: n.Time, What: n.What, Who: n.Who, Text: n.Text})
		msg.Broadcast = msg.Broadcast || n.Loud
	}
	return msg
}

// reproduce is the query that shows the finding's events. Values that hold
// anything but plain characters are given in hexadecimal, so that the query can
// be copied as it is shown.
func reproduce(f *finding.Finding, database string) string {
	var where []string
	cond := func(field, value string) {
		if fd, ok := event.ParseField(field); ok && value != "" && value != incident.Many {
			where = append(where, fd.String()+" = "+literal(fd, value))
		}
	}
	if f.Subject.Network != "" {
		cond("network", f.Subject.Network)
	}
	cond(f.Subject.Field, f.Subject.Value)
	for _, p := range f.Group {
		if p.Field != f.Subject.Field && p.Field != "network" {
			cond(p.Field, p.Value)
		}
	}
	if len(where) == 0 || f.First == 0 {
		return ""
	}
	end := max(f.Last, f.Fired, f.First)
	begin := min(f.First, end.Add(-time.Duration(f.Window)))
	where = append(where, fmt.Sprintf("ts BETWEEN '%s' AND '%s'", sqlTime(begin), sqlTime(end)))
	return "SELECT * FROM " + database + ".events FINAL\nWHERE " + strings.Join(where, "\n  AND ") + "\nORDER BY ts"
}

func sqlTime(t event.Instant) string { return t.Time().Format("2006-01-02 15:04:05.999999999") }

// literal writes a value for ClickHouse.
func literal(f event.Field, v string) string {
	plain := !strings.Contains(v, "://") && !slices.ContainsFunc([]rune(v), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.:@/-+", r)
	})
	quoted := "'" + v + "'"
	if !plain {
		quoted = fmt.Sprintf("unhex('%X')", v)
	}
	if f == event.FieldSourceIP || f == event.FieldClientIP {
		return "toIPv6(" + quoted + ")"
	}
	return quoted
}
