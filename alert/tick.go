package alert

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// tickEvery is how often Run lets time pass.
const tickEvery = time.Second

func (m *Manager) runTick(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := m.Tick(ctx, m.now())
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrNotLeader) {
			m.log.Warn("what time changes could not be journaled, trying again", "error", err)
		}
	}
}

// Tick journals what the passing of time changes: quiet incidents resolve,
// silences end, pages that nobody acknowledged are announced again, findings
// that a crash separated from their incident find it. It fails with ErrNotLeader
// where this member may not act.
func (m *Manager) Tick(ctx context.Context, now event.Instant) error {
	release, err := m.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	m.mu.Lock()
	var entries []journal.Entry
	active := map[finding.Severity]int{finding.Digest: 0, finding.Ticket: 0, finding.Page: 0}
	for _, inc := range m.set.Incidents() {
		if !inc.State.Active() {
			continue
		}
		active[inc.Severity]++
		if c, ok := m.passTime(inc, now); ok {
			entries = append(entries, journal.Entry{Kind: journal.KindIncident, Time: now, Body: c})
		}
	}
	b := newBatch(m, now)
	b.add(m.set.Orphans())
	entries = append(entries, b.finish()...)
	m.mu.Unlock()
	for sev, n := range active {
		m.count.incidents.WithLabelValues(sev.String()).Set(float64(n))
	}
	return m.append(ctx, entries...)
}

// passTime is the one change that is due for an active incident.
func (m *Manager) passTime(inc *incident.Incident, now event.Instant) (journal.IncidentChange, bool) {
	c := journal.IncidentChange{IncidentID: inc.ID}
	switch {
	case inc.SilencedUntil != 0 && now >= inc.SilencedUntil:
		c.Op, c.Note = incident.OpUnsilence, fmt.Sprintf("%d findings came meanwhile", inc.Held)
	case m.quiet(inc, now):
		c.Op, c.Note = incident.OpResolve, "quiet for "+m.cfg.ResolveAfter.String()
	case inc.Severity == finding.Page && inc.State == incident.Open && !inc.Escalated && !inc.Silenced(now) &&
		now.Sub(m.openSince(inc)) >= m.cfg.EscalateAfter:
		c.Op, c.Note = incident.OpEscalate, "nobody acknowledged within "+m.cfg.EscalateAfter.String()
	default:
		return c, false
	}
	return c, true
}

// quiet reports whether an incident may resolve by itself. A compromise or a
// leak may not: a thief who waits is still there.
func (m *Manager) quiet(inc *incident.Incident, now event.Instant) bool {
	if inc.Kind == finding.KeyCompromise || inc.Kind == finding.SecretLeak || now.Sub(inc.LastAt) < m.cfg.ResolveAfter {
		return false
	}
	for _, id := range inc.Runs {
		if r, ok := m.set.Run(id); ok && (r.Acting() || r.Waiting()) {
			return false
		}
	}
	return true
}

// openSince is when the incident last began to wait for an acknowledgement.
func (m *Manager) openSince(inc *incident.Incident) event.Instant {
	if inc.Generation == 0 {
		return inc.OpenedAt
	}
	return inc.ReopenedAt
}
