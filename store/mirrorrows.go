package store

import (
	"encoding/json"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

// mirrorTables is the order of inserts: journal last, see Mirror.
var mirrorTables = []string{"findings", "episodes", "incidents", "playbook_steps", "server_keys", "posture_results", "journal"}

// mirrorColumns are the columns that mirrorRows fills, in its order.
var mirrorColumns = map[string]string{
	"journal": "n, epoch, time, kind, body, prev, hash, mac, offset",
	"findings": "id, n, time, rule_id, rule_title, level, kind, severity, shadow, network, subject_field, subject_value, group_by, " +
		"first, last, fired, count, value, threshold, cause, cause_confidence, summary, resolution, playbook, tags, evidence, coverage",
	"episodes":        "finding_id, n, last, count, closed",
	"incidents":       "incident_id, n, time, op, finding_id, person, via, verdict, note, refused",
	"playbook_steps":  "run_id, n, time, kind, playbook, incident_id, network, step_id, attempt, state, error, note",
	"server_keys":     "network, key_id, state, at, told_by, actor, run_id",
	"posture_results": "check_name, due, network, subject_field, subject_value, stage, status, severity, value, summary, query, n",
}

// mirrorRows is rows by table.
type mirrorRows map[string][][]any

func (m mirrorRows) row(table string, values ...any) { m[table] = append(m[table], values) }

// at is i as a column holds it: the absent instant is 1970-01-01, not the year 1.
func at(i event.Instant) time.Time { return time.Unix(0, int64(i)).UTC() }

// add makes the rows of one record. The plain copy is made even when the body
// cannot be read; the error tells of the body.
func (m mirrorRows) add(r *journal.Record) error {
	m.row("journal", r.N, r.Epoch, at(r.Time), string(r.Kind), string(r.Body), r.Prev, r.Hash, r.MAC, r.Offset)
	switch r.Kind {
	case journal.KindFinding:
		return m.finding(r)
	case journal.KindEpisode:
		var b journal.Episode
		return m.decoded(r, &b, func() { m.row("episodes", b.FindingID, r.N, at(b.Last), b.Count, b.Closed) })
	case journal.KindIncident:
		var b journal.IncidentChange
		return m.decoded(r, &b, func() {
			m.row("incidents", b.IncidentID, r.N, at(r.Time), b.Op, b.FindingID, "", "", "", b.Note, "")
		})
	case journal.KindDecision:
		var b journal.Decision
		return m.decoded(r, &b, func() { m.decision(r, &b) })
	case journal.KindRunPlanned:
		var b journal.RunPlanned
		return m.decoded(r, &b, func() {
			m.row("playbook_steps", b.RunID, r.N, at(r.Time), "planned", b.Playbook, b.IncidentID, b.Network, "", int32(0), "planned", "", b.Plan.Summary)
		})
	case journal.KindRunState:
		var b journal.RunState
		return m.decoded(r, &b, func() {
			m.row("playbook_steps", b.RunID, r.N, at(r.Time), "state", "", "", "", "", int32(0), b.State, b.Reason, b.Text)
		})
	case journal.KindStep:
		var b journal.Step
		return m.decoded(r, &b, func() {
			m.row("playbook_steps", b.RunID, r.N, at(r.Time), "step", "", "", "", b.StepID, int32(b.Attempt), b.State, b.Error, b.Text)
		})
	case journal.KindKeyObserved:
		var b journal.KeyChange
		return m.decoded(r, &b, func() { m.key(&b) })
	case journal.KindPosture:
		var b journal.PostureRun
		return m.decoded(r, &b, func() { m.posture(r, &b) })
	}
	return nil
}

// key makes the rows of a fact about a key. What a person adopted is active, and
// created when that is known; what no probe agreed to, or was denied, is no fact: the
// journal has it.
func (m mirrorRows) key(b *journal.KeyChange) {
	row := func(state string, when event.Instant) {
		m.row("server_keys", b.Network, b.KeyID, state, at(when), "journal", b.Person, b.RunID)
	}
	switch {
	case b.State == journal.KeyDenied, b.State == journal.KeyAdopted && b.Probe != journal.ProbeAgreed:
	case b.State != journal.KeyAdopted:
		row(b.State, b.At)
	case b.Created != 0:
		row("created", b.Created)
		row("active", b.Created)
	default:
		row("active", b.At)
	}
}

func (m mirrorRows) decoded(r *journal.Record, body any, then func()) error {
	if err := json.Unmarshal(r.Body, body); err != nil {
		return err
	}
	then()
	return nil
}

func (m mirrorRows) decision(r *journal.Record, b *journal.Decision) {
	if b.IncidentID != "" {
		m.row("incidents", b.IncidentID, r.N, at(r.Time), b.Action, "", b.Person, b.Via, b.Verdict, b.Reason, b.Refused)
	}
	if b.RunID != "" {
		m.row("playbook_steps", b.RunID, r.N, at(r.Time), "decision", "", "", "", b.Step, int32(0), b.Action, b.Refused, b.Person+" by "+b.Via)
	}
}

func (m mirrorRows) finding(r *journal.Record) error {
	var f finding.Finding
	if err := json.Unmarshal(r.Body, &f); err != nil {
		return err
	}
	group := make(map[string]string, len(f.Group))
	for _, p := range f.Group {
		group[p.Field] = p.Value
	}
	evidence, err := json.Marshal(f.Evidence)
	if err != nil {
		return err
	}
	if f.Tags == nil {
		f.Tags = []string{}
	}
	var share *float32
	if f.Coverage != nil {
		v := float32(*f.Coverage)
		share = &v
	}
	m.row("findings", f.ID, r.N, at(r.Time), f.RuleID, f.RuleTitle, f.Level, string(f.Kind), f.Severity.String(), f.Shadow, f.Subject.Network,
		f.Subject.Field, f.Subject.Value, group, at(f.First), at(f.Last), at(f.Fired), f.Count, f.Value, f.Threshold, f.Cause.String(),
		f.CauseConfidence, f.Summary, f.Resolution, f.Playbook, f.Tags, string(evidence), share)
	return nil
}

// posture makes a row for the run and one for each subject. Results that cannot be
// read are left out: the run's own verdict is there.
func (m mirrorRows) posture(r *journal.Record, b *journal.PostureRun) {
	var results []posture.Result
	if len(b.Results) > 0 && json.Unmarshal(b.Results, &results) != nil {
		results = nil
	}
	m.row("posture_results", b.Check, at(b.Due), "", "", "", "", b.Status, "", "", "", "", r.N)
	for i := range results {
		x := &results[i]
		severity := ""
		if x.Stage != "" {
			severity = x.Severity.String()
		}
		m.row("posture_results", b.Check, at(b.Due), x.Subject.Network, x.Subject.Field, x.Subject.Value, x.Stage, string(x.Status), severity, x.Value, x.Summary, x.Query, r.N)
	}
}
