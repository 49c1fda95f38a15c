package alert

import (
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// maxWindows bounds the flood guard's memory. When it is full the windows that
// are over go; if none is, new sources are admitted unguarded by their own
// window, and the window of the incident still holds.
const maxWindows = 50_000

// floodGuard counts the findings per (rule, source), never per rule: a loud
// source must not hide a quiet one. A second window bounds what one incident
// keeps.
type floodGuard struct {
	cfg       Flood
	sources   map[sourceKey]*window
	incidents map[string]*window
}

type sourceKey struct{ rule, source string }

type window struct {
	start event.Instant
	n     int
}

func newFloodGuard(cfg Flood) *floodGuard {
	return &floodGuard{cfg: cfg, sources: map[sourceKey]*window{}, incidents: map[string]*window{}}
}

// admit reports whether the finding is worth a record of its own, and counts it.
func (g *floodGuard) admit(f *finding.Finding, incidentID string, now event.Instant) bool {
	inc := take(g.incidents, incidentID, time.Minute, now)
	src := take(g.sources, sourceKey{f.RuleID, source(f)}, g.cfg.Per, now)
	if (inc != nil && inc.n >= g.cfg.PerIncident) || (src != nil && src.n >= g.cfg.PerSource) {
		return false
	}
	for _, w := range []*window{inc, src} {
		if w != nil {
			w.n++
		}
	}
	return true
}

// take finds the window of key, a new one when it is over, nil when there is no
// room.
func take[K comparable](m map[K]*window, key K, length time.Duration, now event.Instant) *window {
	w, ok := m[key]
	if ok && now.Sub(w.start) < length {
		return w
	}
	if !ok && len(m) >= maxWindows {
		for k, old := range m {
			if now.Sub(old.start) >= length {
				delete(m, k)
			}
		}
		if len(m) >= maxWindows {
			return nil
		}
	}
	w = &window{start: now}
	m[key] = w
	return w
}

// source is who caused the finding, as near as it says.
func source(f *finding.Finding) string {
	for _, field := range []string{"source_ip", "host", "user_id"} {
		if v := valueOf(f, field); v != "" {
			return v
		}
	}
	if len(f.Evidence) > 0 && f.Evidence[0].SourceIP != "" {
		return f.Evidence[0].SourceIP
	}
	return f.Subject.Value
}
