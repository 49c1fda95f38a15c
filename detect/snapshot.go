package detect

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/keysentry/keysentry/event"
)

// Snapshot is what the registries know, for a restart: keys, certificates,
// settings and hosts reach farther back than events are replayed. It encodes as
// JSON. It holds fingerprints and names only.
type Snapshot struct {
	// At is the event time up to which it holds everything; zero: not known.
	At           event.Instant         `json:"at,omitempty"`
	Keys         []Key                 `json:"keys,omitempty"`
	Certificates []SnapshotCertificate `json:"certificates,omitempty"`
	Networks     []SnapshotNetwork     `json:"networks,omitempty"`
	Hosts        []SnapshotHost        `json:"hosts,omitempty"`
}

// SnapshotCertificate is one client certificate of a Snapshot.
type SnapshotCertificate struct {
	Network, CertID, CN string
	NotBefore, NotAfter event.Instant
	Active              bool `json:",omitempty"`
	Disabled            bool
	Service             string        `json:",omitempty"`
	Toggled             event.Instant `json:",omitempty"` // last activated or disabled
}

// SnapshotNetwork is what is known of one network besides keys.
type SnapshotNetwork struct {
	Network     string
	SecureOff   bool          `json:",omitempty"`
	SecureSince event.Instant `json:",omitempty"`
	Regions     []string      `json:",omitempty"`
}

// SnapshotHost is one host of a Snapshot.
type SnapshotHost struct {
	Network, Host, Service        string
	FirstMint, LastMint, LastSeen event.Instant
	Heartbeat                     event.Instant `json:",omitempty"`
	HeartbeatKey                  string        `json:",omitempty"`
	Stopped                       event.Instant `json:",omitempty"`
	Keys                          []SnapshotKeyUse
	Sources                       []netip.Addr
}

// SnapshotKeyUse is the use of one key by one host.
type SnapshotKeyUse struct {
	KeyID       string
	First, Last event.Instant
	Mints       uint64
}

// Snapshot returns what the registries know.
func (e *Engine) Snapshot() Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Snapshot{Keys: e.keys.list("")}
	s.At = max(e.snapshot, e.live.current)
	for n, c := range e.facts.certs {
		if c.declared && c.toggled == 0 {
			continue // the configuration tells it again, or no more
		}
		s.Certificates = append(s.Certificates, SnapshotCertificate{n.network, n.key, c.cn, c.notBefore, c.notAfter, c.active, c.disabled, c.service, c.toggled})
	}
	for n, x := range e.facts.networks {
		row := SnapshotNetwork{Network: n, SecureOff: x.secureOff, SecureSince: x.secureSince}
		for r := range x.regions {
			row.Regions = append(row.Regions, r)
		}
		slices.Sort(row.Regions)
		s.Networks = append(s.Networks, row)
	}
	for _, h := range e.hosts.hosts {
		s.Hosts = append(s.Hosts, h.snapshot())
	}
	slices.SortFunc(s.Certificates, func(a, b SnapshotCertificate) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.CertID, b.CertID))
	})
	slices.SortFunc(s.Networks, func(a, b SnapshotNetwork) int { return cmp.Compare(a.Network, b.Network) })
	slices.SortFunc(s.Hosts, func(a, b SnapshotHost) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Host, b.Host))
	})
	return s
}

func (h *host) snapshot() SnapshotHost {
	row := SnapshotHost{Network: h.network, Host: h.name, Service: h.service, FirstMint: h.firstMint, LastMint: h.lastMint,
		LastSeen: h.lastSeen, Heartbeat: h.heartbeat, HeartbeatKey: h.heartbeatKey, Stopped: h.stopped, Sources: slices.Clone(h.sources)}
	for k, u := range h.keys {
		row.Keys = append(row.Keys, SnapshotKeyUse{k, u.first, u.last, u.mints})
	}
	slices.SortFunc(row.Keys, func(a, b SnapshotKeyUse) int { return cmp.Compare(a.KeyID, b.KeyID) })
	return row
}

// LoadSnapshot fills the registries, before the first Replay or Observe. Mints
// that are replayed after the snapshot count twice in KeyUse.Mints; times do not
// change.
func (e *Engine) LoadSnapshot(s Snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.snapshot = s.At
	e.registries.load(s)
}

// LoadKeys fills the registry of keys, as the store or an operator knows them.
func (e *Engine) LoadKeys(keys []Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys.load(keys)
}

// load takes whole keys over. Of those that are known already it takes the later
// state: one teller may not know that a successor retired a key.
func (r *keyRegistry) load(keys []Key) {
	for _, k := range keys {
		if rankOf(k.State) < 0 || k.KeyID == "" {
			continue
		}
		if o := r.get(k.Network, k.KeyID); o != nil {
			if rankOf(k.State) > rankOf(o.State) {
				r.version++
				o.State, o.Retired, o.Revoked = k.State, cmp.Or(o.Retired, k.Retired), cmp.Or(o.Revoked, k.Revoked)
			}
			continue
		}
		if len(r.keys) >= maxKeys {
			continue
		}
		r.version++
		r.keys[keyName{k.Network, k.KeyID}] = &k
		r.known[k.Network]++
	}
}

func (v *inventory) load(row SnapshotHost) {
	if len(v.hosts) >= v.cfg.MaxHosts {
		return
	}
	h := &host{network: row.Network, name: row.Host, service: row.Service, firstMint: row.FirstMint, lastMint: row.LastMint,
		lastSeen: row.LastSeen, heartbeat: row.Heartbeat, heartbeatKey: row.HeartbeatKey, stopped: row.Stopped,
		keys: map[string]*keyUse{}, sources: row.Sources}
	for _, u := range row.Keys {
		h.keys[u.KeyID] = &keyUse{first: u.First, last: u.Last, mints: u.Mints}
		v.minted[keyName{h.network, u.KeyID}] = true
	}
	for _, a := range row.Sources {
		v.sources[sourceName{h.network, a}] = h
	}
	v.hosts[hostName{h.network, h.name}] = h
	if v.live(h, h.lastSeen) {
		v.entered[h.network] = true
	}
}
