package alert

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Record journals findings and what they do to incidents, in one append, and
// returns when they are durable. It is what becomes of a Deliver in the end; who
// calls it directly waits and repeats himself.
func (m *Manager) Record(ctx context.Context, findings []finding.Finding) error {
	release, err := m.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	m.mu.Lock()
	b := newBatch(m, m.now())
	b.add(findings)
	entries := b.finish()
	m.mu.Unlock()
	if err := m.append(ctx, entries...); err != nil {
		return err
	}
	for outcome, n := range b.outcomes {
		m.count.findings.WithLabelValues(outcome).Add(float64(n))
	}
	return nil
}

// batch decides what becomes of findings. It reads the state under the
// manager's lock and changes nothing but the flood guard, so that a batch whose
// append failed can simply be decided again.
type batch struct {
	m        *Manager
	set      *incident.Set
	now      event.Instant
	entries  []journal.Entry
	outcomes map[string]int

	seen    map[string]bool      // finding ids of this batch
	drafts  map[string]*draft    // by incident id: what this batch does to it
	byPrint map[string]string    // fingerprint -> incident that this batch opens
	fan     map[string]int       // incidents that opened lately, by the fingerprint of the one about many
	groups  map[string]groupNews // new subjects of this batch, by the same
}

type groupNews map[string]bool

// draft is an incident as it will be after the batch.
type draft struct {
	severity finding.Severity
	rules    map[string]bool
	dropped  uint64
	revived  bool // reopened, or its silence broken, by this batch
}

func newBatch(m *Manager, now event.Instant) *batch {
	return &batch{m: m, set: m.set, now: now, outcomes: map[string]int{}, seen: map[string]bool{},
		drafts: map[string]*draft{}, byPrint: map[string]string{}, fan: map[string]int{}, groups: map[string]groupNews{}}
}

// add decides on findings in order, and cleans them. The new subjects are counted first: when
// one batch brings many, the first of them must not get incidents of their own.
func (b *batch) add(findings []finding.Finding) {
	for i := range findings {
		f := &findings[i]
		clean(f)
		if _, linked := b.set.Recorded(f.ID); linked || f.Shadow || !gathers(f.Kind) {
			continue
		}
		if inc, ok := b.set.Latest(incident.Fingerprint(f.Kind, f.Subject)); ok && b.continues(inc) {
			continue
		}
		g := manyPrint(f)
		if b.groups[g] == nil {
			b.groups[g] = groupNews{}
		}
		b.groups[g][f.Subject.Value] = true
	}
	for i := range findings {
		b.one(&findings[i])
	}
}

// maxSeries bounds the buckets that are journaled with a finding.
const maxSeries = 500

// clean makes a finding fit for the journal, from which it has to come back:
// JSON knows no infinities, and an event without a type cannot be read. The
// finding matters more than such a part of it.
func clean(f *finding.Finding) {
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	if !finite(f.Value) {
		f.Value = 0
	}
	if !finite(float64(f.CauseConfidence)) {
		f.CauseConfidence = 0
	}
	if n := len(f.Series.Counts) - maxSeries; n > 0 {
		f.Series.Start = f.Series.Start.Add(time.Duration(n) * time.Duration(f.Series.Bucket))
		f.Series.Counts = f.Series.Counts[n:]
	}
	if !slices.ContainsFunc(f.Series.Counts, func(v float64) bool { return !finite(v) }) &&
		!slices.ContainsFunc(f.Evidence, func(e finding.Evidence) bool { return !typed(e) }) && len(f.Evidence) <= finding.MaxEvidence {
		return
	}
	f.Series.Counts = slices.Clone(f.Series.Counts)
	for i, v := range f.Series.Counts {
		if !finite(v) {
			f.Series.Counts[i] = 0
		}
	}
	f.Evidence = slices.DeleteFunc(slices.Clone(f.Evidence), func(e finding.Evidence) bool { return !typed(e) })
	f.Evidence = f.Evidence[:min(len(f.Evidence), finding.MaxEvidence)]
}

func typed(e finding.Evidence) bool {
	_, ok := event.ParseType(e.Type.String())
	return ok
}

func (b *batch) one(f *finding.Finding) {
	recorded, linked := b.set.Recorded(f.ID)
	if linked || b.seen[f.ID] {
		b.outcomes["repeated"]++
		return
	}
	b.seen[f.ID] = true
	if f.Shadow {
		b.put(journal.KindFinding, f)
		b.outcomes["shadow"]++
		return
	}
	change, outcome := b.target(f)
	d := b.draft(change.IncidentID)
	news := change.Op == incident.OpOpen || f.Severity > d.severity ||
		(!d.rules[f.RuleID] && len(d.rules) < incident.MaxRules)
	if !recorded && !news && !b.m.flood.admit(f, change.IncidentID, b.now) {
		d.dropped++
		b.outcomes["dropped"]++
		return
	}
	b.outcomes[outcome]++
	if !recorded {
		b.put(journal.KindFinding, f)
	}
	if change.Op == incident.OpJoin {
		b.revive(f, change.IncidentID, d)
	}
	b.put(journal.KindIncident, change)
	d.severity, d.rules[f.RuleID] = max(d.severity, f.Severity), true
}

// revive writes what has to come before a join: an incident that is over is
// opened again, and a silence is broken by a rule that it has not heard of.
func (b *batch) revive(f *finding.Finding, id string, d *draft) {
	inc, ok := b.set.Incident(id)
	if !ok || d.revived {
		return
	}
	switch {
	case !inc.State.Active():
		b.put(journal.KindIncident, journal.IncidentChange{IncidentID: id, Op: incident.OpReopen, Note: "a new finding came"})
	case inc.Silenced(b.now) && !d.rules[f.RuleID]:
		b.put(journal.KindIncident, journal.IncidentChange{IncidentID: id, Op: incident.OpUnsilence, Note: "broken by evidence of another kind"})
	default:
		return
	}
	d.revived = true
}

// target finds the incident of a finding, in this order: one that explains it,
// its own, the one about many, a new one.
func (b *batch) target(f *finding.Finding) (change journal.IncidentChange, outcome string) {
	if inc := b.inhibitor(f); inc != nil {
		return journal.IncidentChange{IncidentID: inc.ID, Op: incident.OpJoin, FindingID: f.ID, Inhibited: true}, "inhibited"
	}
	print := incident.Fingerprint(f.Kind, f.Subject)
	if id, ok := b.byPrint[print]; ok {
		return join(id, f), "joined"
	}
	if inc, ok := b.set.Latest(print); ok && b.continues(inc) {
		if inc.State.Active() {
			return join(inc.ID, f), "joined"
		}
		return join(inc.ID, f), "reopened"
	}
	many := manyPrint(f)
	if gathers(f.Kind) {
		if id, ok := b.byPrint[many]; ok {
			return join(id, f), "joined"
		}
		if inc, ok := b.set.Latest(many); ok && inc.State.Active() {
			return join(inc.ID, f), "joined"
		}
	}
	subject := f.Subject
	if gathers(f.Kind) && b.tooMany(f, many) {
		print, subject.Value = many, incident.Many
	}
	id := incident.MakeID(print, f.ID)
	b.byPrint[print] = id
	change = journal.IncidentChange{IncidentID: id, Op: incident.OpOpen, FindingID: f.ID, Kind: f.Kind}
	if subject != f.Subject {
		change.Subject = &subject
		change.Note = "one incident for many subjects"
	}
	return change, "opened"
}

func join(id string, f *finding.Finding) journal.IncidentChange {
	return journal.IncidentChange{IncidentID: id, Op: incident.OpJoin, FindingID: f.ID}
}

// continues reports whether a finding of now belongs to the incident, rather
// than to a new one.
func (b *batch) continues(inc *incident.Incident) bool {
	if inc.State.Active() {
		return true
	}
	ended := max(inc.ResolvedAt, inc.ClosedAt)
	return b.now.Sub(ended) <= b.m.cfg.ReopenWithin
}

// gathers reports whether incidents of a kind may be put together. A compromise
// never is: each key needs its own rotation.
func gathers(k finding.Kind) bool { return k != finding.KeyCompromise && k != finding.SecretLeak }

func manyPrint(f *finding.Finding) string {
	s := f.Subject
	s.Value = incident.Many
	return incident.Fingerprint(f.Kind, s)
}

// tooMany counts the incidents of the group that opened lately and the new
// subjects of this batch.
func (b *batch) tooMany(f *finding.Finding, many string) bool {
	recent, ok := b.fan[many]
	if !ok {
		for _, inc := range b.set.Incidents() {
			if inc.Kind == f.Kind && inc.Subject.Network == f.Subject.Network && inc.Subject.Field == f.Subject.Field &&
				b.now.Sub(inc.OpenedAt) < b.m.cfg.Flood.FanOutWindow {
				recent++
			}
		}
		b.fan[many] = recent
	}
	return recent+len(b.groups[many]) > b.m.cfg.Flood.FanOut
}

// inhibitor is an incident that explains the finding: it joins that one instead
// of asking for attention of its own. A silenced or finished incident inhibits
// nothing, and neither does one that is less severe than the finding, a rotation
// apart.
func (b *batch) inhibitor(f *finding.Finding) *incident.Incident {
	if f.Subject.Network == "" {
		return nil
	}
	if f.Kind == finding.KeyStraggler || f.Cause == event.CauseRetiredKeyStraggler {
		for _, r := range b.set.Runs() {
			if r.Acting() && r.Network == f.Subject.Network {
				if inc, ok := b.set.Incident(r.IncidentID); ok && b.inhibits(inc) {
					return inc
				}
			}
		}
	}
	if f.Kind != finding.KeyCompromise {
		if inc := b.latestAbout(finding.KeyCompromise, "key_id", f); inc != nil {
			return inc
		}
	}
	if f.Cause == event.CauseClockSkew && f.Kind != finding.ClockSkew {
		return b.latestAbout(finding.ClockSkew, "host", f)
	}
	return nil
}

// latestAbout finds the incident of a kind about the finding's own key or host.
func (b *batch) latestAbout(k finding.Kind, field string, f *finding.Finding) *incident.Incident {
	v := valueOf(f, field)
	if v == "" {
		return nil
	}
	inc, ok := b.set.Latest(incident.Fingerprint(k, finding.Subject{Network: f.Subject.Network, Field: field, Value: v}))
	if !ok || !b.inhibits(inc) || inc.Severity < f.Severity {
		return nil
	}
	return inc
}

func (b *batch) inhibits(inc *incident.Incident) bool {
	return inc.State.Active() && !inc.Silenced(b.now)
}

// valueOf is what the finding is about, in one field: its subject or its group.
func valueOf(f *finding.Finding, field string) string {
	if f.Subject.Field == field {
		return f.Subject.Value
	}
	for _, p := range f.Group {
		if p.Field == field {
			return p.Value
		}
	}
	return ""
}

func (b *batch) draft(id string) *draft {
	d, ok := b.drafts[id]
	if ok {
		return d
	}
	d = &draft{rules: map[string]bool{}}
	if inc, ok := b.set.Incident(id); ok {
		d.severity = inc.Severity
		for _, r := range inc.Rules {
			d.rules[r.ID] = true
		}
	}
	b.drafts[id] = d
	return d
}

func (b *batch) put(k journal.Kind, body any) {
	b.entries = append(b.entries, journal.Entry{Kind: k, Time: b.now, Body: body})
}

// finish adds what was counted and not kept.
func (b *batch) finish() []journal.Entry {
	for _, id := range slices.Sorted(maps.Keys(b.drafts)) {
		if n := b.drafts[id].dropped; n > 0 {
			b.put(journal.KindIncident, journal.IncidentChange{IncidentID: id, Op: incident.OpDropped, Count: n})
		}
	}
	return b.entries
}
