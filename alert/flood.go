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
	sources   *windows[sourceKey]
	incidents *windows[string]
}

type sourceKey struct{ rule, source string }

type window struct {
	start event.Instant
	n     int
}

func newFloodGuard(cfg Flood) *floodGuard {
	return &floodGuard{cfg: cfg, sources: newWindows[sourceKey](cfg.Per), incidents: newWindows[string](time.Minute)}
}

// admit reports whether the finding is worth a record of its own, and counts it.
func (g *floodGuard) admit(f *finding.Finding, incidentID string, now event.Instant) bool {
	inc := g.incidents.take(incidentID, now)
	src := g.sources.take(sourceKey{f.RuleID, source(f)}, now)
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

// windows are the windows of one kind, all of one length.
type windows[K comparable] struct {
	length time.Duration
	byKey  map[K]*window
	// sweepAt is when the first window can be over: until then a full map is not
	// looked through again, which each finding of a storm would have to wait for.
	sweepAt event.Instant
}

func newWindows[K comparable](length time.Duration) *windows[K] {
	return &windows[K]{length: length, byKey: map[K]*window{}}
}

// take finds the window of key, a new one when it is over, nil when there is no
// room.
func (s *windows[K]) take(key K, now event.Instant) *window {
	w, ok := s.byKey[key]
	if ok && now.Sub(w.start) < s.length {
		return w
	}
	if !ok && len(s.byKey) >= maxWindows {
		if s.sweep(now); len(s.byKey) >= maxWindows {
			return nil
		}
	}
	w = &window{start: now}
	s.byKey[key] = w
	return w
}

func (s *windows[K]) sweep(now event.Instant) {
	if now < s.sweepAt {
		return
	}
	oldest := now
	for k, w := range s.byKey {
		if now.Sub(w.start) >= s.length {
			delete(s.byKey, k)
			continue
		}
		oldest = min(oldest, w.start)
	}
	s.sweepAt = oldest.Add(s.length)
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
