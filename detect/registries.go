package detect

import (
	"github.com/keysentry/keysentry/event"
)

// registries are what causes are decided from.
type registries struct {
	keys     keyRegistry
	facts    facts
	hosts    inventory
	sessions *sessions
	mints    *mints
}

func newRegistries(cfg Config, declared map[string]Declared) registries {
	return registries{keys: newKeyRegistry(), facts: newFacts(declared), hosts: newInventory(cfg),
		sessions: newSessions(cfg.MaxSessions), mints: newMints(cfg.MaxMints)}
}

// learn takes one event in.
func (r *registries) learn(ev *event.Event) {
	switch {
	case ev.Type.Lifecycle():
		r.keys.lifecycle(ev)
		r.facts.lifecycle(ev)
	case ev.Type == event.TypeAuthTokenIssued:
		r.keys.used(ev)
		r.facts.succeeded(ev)
		r.hosts.observe(ev)
		r.mints.saw(ev)
	case ev.Type == event.TypeRequestAllowed:
		r.keys.used(ev)
		r.hosts.observe(ev)
		r.sessions.saw(ev)
	case ev.Refused():
		r.hosts.observe(ev)
		r.facts.refused(ev)
		r.sessions.saw(ev)
	case ev.Type == event.TypeSessionCreated:
		r.facts.succeeded(ev)
		r.sessions.saw(ev)
	default:
		r.hosts.observe(ev)
		r.sessions.saw(ev)
	}
}

// diagnoser decides causes from them.
func (r *registries) diagnoser(clocks Clocks, cfg *Config) *diagnoser {
	return &diagnoser{keys: &r.keys, facts: &r.facts, hosts: &r.hosts, sessions: r.sessions, mints: r.mints, clocks: clocks, cfg: cfg}
}

// load takes in what a snapshot holds.
func (r *registries) load(s Snapshot) {
	r.keys.load(s.Keys)
	for _, c := range s.Certificates {
		r.facts.load(c)
	}
	for _, n := range s.Networks {
		x := r.facts.network(n.Network)
		x.secureOff, x.secureSince, x.watched = n.SecureOff, n.SecureSince, n.Watched
		for _, region := range n.Regions {
			x.regions[region] = true
		}
	}
	for _, row := range s.Hosts {
		r.hosts.load(row)
	}
}

// load takes a certificate of a snapshot in. Of one that is declared only its state
// counts.
func (f *facts) load(c SnapshotCertificate) {
	x := f.entry(c.Network, c.CertID)
	if x == nil {
		return
	}
	if x.declared {
		if c.Toggled != 0 {
			x.active, x.disabled, x.toggled = c.Active, c.Disabled, c.Toggled
		}
		return
	}
	x.cn, x.service, x.notBefore, x.notAfter = c.CN, c.Service, c.NotBefore, c.NotAfter
	x.active, x.disabled, x.toggled = c.Active, c.Disabled, c.Toggled
	if c.CN != "" {
		f.network(c.Network).name(c.CN, c.Service)
	}
}
