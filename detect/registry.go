package detect

import (
	"net/netip"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Restore loads what the journal knows to have fired: findings, and how their
// episodes went on. It is called before the first Replay or Observe.
func (e *Engine) Restore(findings []finding.Finding, episodes []journal.Episode) {
	last := make(map[string]journal.Episode, len(episodes))
	for _, x := range episodes {
		if was, ok := last[x.FindingID]; !ok || x.Last >= was.Last {
			last[x.FindingID] = x
		}
	}
	eps := make([]correlate.Episode, 0, len(findings))
	for i := range findings {
		f := &findings[i]
		ep := correlate.Episode{ID: f.ID, RuleID: f.RuleID, Group: f.Group, First: f.First, Last: f.Last, Count: f.Count}
		if x, ok := last[f.ID]; ok {
			ep.Last, ep.Count, ep.Told = max(ep.Last, x.Last), max(ep.Count, x.Count), true
			if x.First != 0 {
				ep.First = min(ep.First, x.First)
			}
		}
		eps = append(eps, ep)
	}
	e.correlating.Lock()
	defer e.correlating.Unlock()
	e.windows.Restore(eps)
	e.past.Restore(eps)
}

// TakeEpisodeUpdates returns how episodes went on since the last call, for the
// journal.
func (e *Engine) TakeEpisodeUpdates() []journal.Episode {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	ups := append(e.windows.TakeUpdates(), e.past.TakeUpdates()...)
	out := make([]journal.Episode, 0, len(ups))
	for _, u := range ups {
		out = append(out, journal.Episode{FindingID: u.ID, First: u.First, Last: u.Last, Count: u.Count, Closed: u.Closed})
	}
	return out
}

// ApplyKey takes a fact about a server key from a run of our own.
func (e *Engine) ApplyKey(k journal.KeyChange) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys.change(k)
}

// ApplyProbe announces a request of our own, so that its event is no signal.
func (e *Engine) ApplyProbe(p journal.Probe) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.RequestID == "" || e.probes[p.RequestID] != nil || len(e.probes) >= maxProbes {
		return
	}
	e.probes[p.RequestID] = &probe{Probe: p}
}

// KeyUse lists, for every host of network that was seen to mint or is live,
// which keys it used: one row per host and key, and one with an empty KeyID for
// a live host that minted with none.
func (e *Engine) KeyUse(network string, now event.Instant) []KeyUse {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hosts.uses(network, now)
}

// ForeignUse lists the uses of keys of network by anyone who is no known host.
func (e *Engine) ForeignUse(network string) []ForeignUse {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hosts.foreignUses(network)
}

// Keys lists the registry of network; all networks when it is empty.
func (e *Engine) Keys(network string) []Key {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.keys.list(network)
}

// Key finds one server key in the registry.
func (e *Engine) Key(network, keyID string) (Key, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k := e.keys.get(network, keyID); k != nil {
		return *k, true
	}
	return Key{}, false
}

// Source is an address in a network.
type Source struct {
	Network string
	Addr    netip.Addr
}

// Bar names every source of an open compromise: no host enters the inventory from
// there. It replaces what was named before.
func (e *Engine) Bar(sources []Source) {
	hostile := make(map[sourceName]bool, len(sources))
	for _, s := range sources {
		hostile[sourceName{s.Network, s.Addr}] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hosts.bar(hostile)
}

// Claims lists the keys of network, or of all, that a person adopted without a probe.
func (e *Engine) Claims(network string) []Key {
	e.mu.Lock()
	defer e.mu.Unlock()
	claims := keyRegistry{keys: e.keys.claims}
	return claims.list(network)
}

// LiveKey is the newest active key of network; empty when none is known.
func (e *Engine) LiveKey(network string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.keys.live(network)
}

// Knows reports whether any key or host of network is known.
func (e *Engine) Knows(network string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.keys.learning(network) {
		return true
	}
	for n := range e.hosts.hosts {
		if n.network == network {
			return true
		}
	}
	return false
}
