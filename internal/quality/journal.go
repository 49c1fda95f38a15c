package quality

import (
	"context"
	"encoding/json"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// memory is a journal that accepts everything and forgets it once its readers have
// it.
type memory struct {
	n       int64
	readers []func(journal.Record)
}

// Append implements alert.Journal.
func (j *memory) Append(_ context.Context, entries ...journal.Entry) ([]journal.Record, error) {
	out := make([]journal.Record, 0, len(entries))
	for _, e := range entries {
		raw, err := json.Marshal(e.Body)
		if err != nil {
			return nil, err
		}
		j.n++
		rec := journal.Record{N: j.n, Time: e.Time, Kind: e.Kind, Body: raw, Offset: j.n - 1}
		for _, read := range j.readers {
			read(rec)
		}
		out = append(out, rec)
	}
	return out, nil
}

// note keeps, from the journal, which events each incident rests on.
func (w *world) note(r journal.Record) {
	switch r.Kind {
	case journal.KindFinding:
		var f finding.Finding
		if json.Unmarshal(r.Body, &f) != nil {
			return // the manager has said so
		}
		refs := make([]event.Ref, 0, len(f.Evidence))
		for _, e := range f.Evidence {
			refs = append(refs, e.Ref)
		}
		w.found[f.ID], w.titles[f.ID] = refs, f.RuleTitle
	case journal.KindIncident:
		var c journal.IncidentChange
		if json.Unmarshal(r.Body, &c) != nil {
			return
		}
		if c.Op == incident.OpReopen {
			delete(w.evidence, c.IncidentID)
		}
		w.evidence[c.IncidentID] = append(w.evidence[c.IncidentID], w.found[c.FindingID]...)
		if t := w.titles[c.FindingID]; t != "" {
			w.newest[c.IncidentID] = t
		}
		delete(w.found, c.FindingID)
		delete(w.titles, c.FindingID)
		w.changed[c.IncidentID] = true
	case journal.KindDecision:
		var d journal.Decision
		if json.Unmarshal(r.Body, &d) == nil && d.IncidentID != "" {
			w.changed[d.IncidentID] = true
		}
	}
}
