package app

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Bounds of what is remembered of the journal for a new engine.
const (
	maxEpisodes      = 50_000
	maxGroupEpisodes = 16 // of one rule and group
	probeLife        = 10 * time.Minute
)

// journalMemory is what the journal says that a new engine has to know before its first
// event: episodes that are open, keys of our own runs, probes under way, the
// leader, and the last run of each posture check.
type journalMemory struct {
	mu       sync.Mutex
	findings map[string]finding.Finding // by id
	groups   map[string][]string        // by rule and group: ids, oldest first
	episodes map[string]journal.Episode // by finding id
	order    []string                   // ids, oldest first; some may be gone
	keys     []journal.KeyChange
	probes   []journal.Probe
	leader   journal.TookOver
	posture  map[string]journal.PostureRun
}

func newMemory() *journalMemory {
	return &journalMemory{findings: map[string]finding.Finding{}, groups: map[string][]string{}, episodes: map[string]journal.Episode{},
		posture: map[string]journal.PostureRun{}}
}

// remember keeps one record; live engines hear of it at once.
func (a *App) remember(r journal.Record) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r.Kind {
	case journal.KindTookOver:
		unmarshal(a, r, &m.leader)
	case journal.KindFinding:
		var f finding.Finding
		if unmarshal(a, r, &f) {
			m.keepFinding(f)
		}
	case journal.KindEpisode:
		var e journal.Episode
		if unmarshal(a, r, &e) {
			if m.has(e.FindingID) {
				m.episodes[e.FindingID] = e
			}
		}
	case journal.KindKeyObserved:
		var k journal.KeyChange
		if unmarshal(a, r, &k) {
			m.keys = append(m.keys, k)
			a.tellEngine(func(e *detect.Engine) { e.ApplyKey(k) })
		}
	case journal.KindProbe:
		var p journal.Probe
		if unmarshal(a, r, &p) {
			m.keepProbe(p, r.Time)
			a.tellEngine(func(e *detect.Engine) { e.ApplyProbe(p) })
		}
	case journal.KindPosture:
		var p journal.PostureRun
		if unmarshal(a, r, &p) {
			m.posture[p.Check] = p
		}
	}
}

func unmarshal(a *App, r journal.Record, into any) bool {
	if err := json.Unmarshal(r.Body, into); err != nil {
		a.log.Error("journal record is unreadable and was passed over", "record", r.N, "kind", r.Kind, "error", err)
		return false
	}
	return true
}

// keepFinding keeps the last episodes of each rule and group; evidence is dropped,
// because the incident has it. More than one, since findings may have been
// journaled beyond the position from which detection goes on, and partitions that
// are behind bring earlier ones later.
func (m *journalMemory) keepFinding(f finding.Finding) {
	if _, known := m.findings[f.ID]; known {
		return
	}
	key := finding.MakeID(f.RuleID, f.Group, 0)
	f.Evidence, f.Series, f.Facts = nil, finding.Series{}, nil
	m.findings[f.ID] = f
	m.order = append(m.order, f.ID)
	if m.groups[key] = append(m.groups[key], f.ID); len(m.groups[key]) > maxGroupEpisodes {
		m.forget(m.groups[key][0])
	}
	for len(m.findings) > maxEpisodes {
		m.forget(m.order[0])
		m.order = m.order[1:]
	}
	if len(m.order) > 2*maxEpisodes {
		m.order = slices.DeleteFunc(m.order, func(id string) bool { return !m.has(id) })
	}
}

func (m *journalMemory) has(id string) bool {
	_, ok := m.findings[id]
	return ok
}

// forget drops an episode, the first of its group, if it is there.
func (m *journalMemory) forget(id string) {
	f, ok := m.findings[id]
	if !ok {
		return
	}
	key := finding.MakeID(f.RuleID, f.Group, 0)
	if m.groups[key] = m.groups[key][1:]; len(m.groups[key]) == 0 {
		delete(m.groups, key)
	}
	delete(m.findings, id)
	delete(m.episodes, id)
}

func (m *journalMemory) keepProbe(p journal.Probe, now event.Instant) {
	kept := m.probes[:0]
	for _, old := range m.probes {
		if old.Until.Add(probeLife) > now {
			kept = append(kept, old)
		}
	}
	m.probes = append(kept, p)
}

// brief tells a new engine everything that is remembered.
func (m *journalMemory) brief(e *detect.Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	findings := make([]finding.Finding, 0, len(m.findings))
	for _, id := range m.order {
		if f, ok := m.findings[id]; ok {
			findings = append(findings, f)
		}
	}
	episodes := make([]journal.Episode, 0, len(m.episodes))
	for _, ep := range m.episodes {
		episodes = append(episodes, ep)
	}
	e.Restore(findings, episodes)
	for _, k := range m.keys {
		e.ApplyKey(k)
	}
	for _, p := range m.probes {
		e.ApplyProbe(p)
	}
}

func (m *journalMemory) lastLeader() journal.TookOver {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leader
}

// lastPosture is the last run of a check.
func (m *journalMemory) lastPosture(check string) (journal.PostureRun, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.posture[check]
	return p, ok
}
