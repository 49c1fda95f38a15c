package detect

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// KeyUse is what one host was seen to use of one key.
type KeyUse struct {
	Network, Host, Service string
	KeyID                  string
	First, Last            event.Instant // of successful mints with the key
	Mints                  uint64
	// HeartbeatKey is the key_id of the host's last heartbeat; empty when it
	// sends none.
	HeartbeatKey string
	HeartbeatAt  event.Instant
	// Live: the host is in the inventory now.
	Live bool
	// Scheduled: the host's service is one of scheduled_services.
	Scheduled bool
}

// ForeignUse is the use of a key by a host or address outside the inventory.
type ForeignUse struct {
	Network, KeyID, Host, SourceIP string
	First, Last                    event.Instant
	Succeeded, Refused             uint64
}

// Bounds of what is remembered of one host, and of foreign uses.
const (
	maxHostKeys    = 16
	maxHostSources = 16
	maxForeign     = 10_000
)

type hostName struct{ network, host string }

// host is what is known of one instance of a service.
type host struct {
	network, name, service string
	firstMint, lastMint    event.Instant
	lastSeen               event.Instant // mint or heartbeat
	heartbeat              event.Instant // zero: it sends none
	heartbeatKey           string
	stopped                event.Instant // zero: it runs
	keys                   map[string]*keyUse
	sources                []netip.Addr // where its mints come from
	// ahead is how far the clock of its last record was ahead of the broker's, at
	// least: what the record took to arrive only makes it look slower.
	ahead time.Duration
}

type keyUse struct {
	first, last event.Instant
	mints       uint64
	// settled is the version of the key registry, plus one, that last had an answer
	// to whether the key is one that somebody told of.
	settled uint32
}

type foreignName struct{ network, key, host, source string }

// inventory is the hosts that mint, and the uses of keys by anyone else.
type inventory struct {
	cfg     Config
	egress  []netip.Prefix
	hosts   map[hostName]*host
	entered map[string]bool // networks in which at least one host has entered
	foreign map[foreignName]*ForeignUse
	// sources finds the host by where its mints come from, minted the keys that a
	// host minted with; entries of hosts that are gone are harmless.
	sources map[sourceName]*host
	minted  map[keyName]bool
	evicted uint64
	// minting and using are the host and key of the last mint, when it was one of a
	// host that may enter.
	minting *host
	using   *keyUse
	// hostile are sources that an open compromise names: nobody enters from there.
	hostile map[sourceName]bool
}

type sourceName struct {
	network string
	addr    netip.Addr
}

func newInventory(cfg Config) inventory {
	egress, _ := cfg.egress() // validated
	return inventory{cfg: cfg, egress: egress, hosts: map[hostName]*host{}, entered: map[string]bool{},
		foreign: map[foreignName]*ForeignUse{}, sources: map[sourceName]*host{}, minted: map[keyName]bool{}}
}

// observe takes one event in: a mint, a heartbeat, the start or end of a host.
func (v *inventory) observe(e *event.Event) {
	switch e.Type {
	case event.TypeAuthTokenIssued:
		v.mint(e)
	case event.TypeAuthTokenDenied:
		v.noteForeign(e)
	case event.TypeHeartbeat:
		if h := v.get(e); h != nil {
			h.ahead = e.Time.Sub(e.ObservedAt)
			h.lastSeen, h.heartbeat = max(h.lastSeen, e.TS), max(h.heartbeat, e.TS)
			if e.KeyID != "" && h.heartbeat == e.TS {
				h.heartbeatKey = strings.Clone(e.KeyID)
			}
			v.resume(h, e.TS)
		}
	case event.TypeHostStarted:
		if h := v.get(e); h != nil {
			v.resume(h, e.TS)
		}
	case event.TypeHostStopped:
		if h := v.get(e); h != nil && e.TS >= h.lastSeen {
			h.stopped = e.TS
		}
	}
}

// ahead is how far a host's clock is ahead at least, as its last record proves;
// zero for a host that is not known.
func (v *inventory) ahead(network, name string) time.Duration {
	h := v.hosts[hostName{network, name}]
	if h == nil {
		return 0
	}
	return h.ahead
}

func (v *inventory) resume(h *host, at event.Instant) {
	if h.stopped != 0 && at > h.stopped {
		h.stopped = 0
	}
}

// get is the record of the host that speaks; only a backend speaks for itself.
func (v *inventory) get(e *event.Event) *host {
	if e.Host == "" || e.Origin != event.OriginBackend {
		return nil
	}
	if h := v.hosts[hostName{e.Network, e.Host}]; h != nil {
		return h
	}
	if len(v.hosts) >= v.cfg.MaxHosts {
		v.evict()
	}
	h := &host{network: strings.Clone(e.Network), name: strings.Clone(e.Host), service: strings.Clone(e.Service),
		keys: map[string]*keyUse{}}
	v.hosts[hostName{h.network, h.name}] = h
	return h
}

// evictSample is how many hosts are compared to find one that was long silent.
const evictSample = 64

// evict drops the host that was silent longest, of a sample.
func (v *inventory) evict() {
	var oldest *host
	n := 0
	for _, h := range v.hosts {
		if oldest == nil || h.lastSeen < oldest.lastSeen {
			oldest = h
		}
		if n++; n == evictSample {
			break
		}
	}
	v.drop(oldest)
	v.evicted++
}

func (v *inventory) drop(h *host) {
	delete(v.hosts, hostName{h.network, h.name})
	for _, a := range h.sources {
		if n := (sourceName{h.network, a}); v.sources[n] == h {
			delete(v.sources, n)
		}
	}
}

func (v *inventory) mint(e *event.Event) {
	v.minting, v.using = nil, nil
	if !v.declared(e) || v.barred(e) {
		v.noteForeign(e)
		return
	}
	h := v.get(e)
	if h == nil {
		v.noteForeign(e)
		return
	}
	if h.firstMint == 0 || e.TS < h.firstMint {
		h.firstMint = e.TS
	}
	h.ahead = e.Time.Sub(e.ObservedAt)
	h.lastMint, h.lastSeen = max(h.lastMint, e.TS), max(h.lastSeen, e.TS)
	v.resume(h, e.TS)
	if e.SourceIP.IsValid() && !slices.Contains(h.sources, e.SourceIP) && len(h.sources) < maxHostSources {
		h.sources = append(h.sources, e.SourceIP)
		v.sources[sourceName{h.network, e.SourceIP}] = h
	}
	if !v.entered[h.network] && v.live(h, e.TS) {
		v.entered[h.network] = true
	}
	u := h.keys[e.KeyID]
	if u == nil {
		if len(h.keys) >= maxHostKeys {
			v.forgetKey(h)
		}
		u = &keyUse{first: e.TS}
		id := strings.Clone(e.KeyID)
		h.keys[id] = u
		if len(v.minted) < maxKeys {
			v.minted[keyName{h.network, id}] = true
		}
	}
	u.first, u.last = min(u.first, e.TS), max(u.last, e.TS)
	u.mints++
	v.minting, v.using = h, u
}

// bar names the sources of open compromises. Hosts that have not entered lose what
// they have collected from there: their day begins anew when the incident is over.
func (v *inventory) bar(sources map[sourceName]bool) {
	for n := range sources {
		if h := v.sources[n]; h != nil && !v.hostile[n] && h.lastMint.Sub(h.firstMint) < v.cfg.InventoryAge {
			v.drop(h)
		}
	}
	v.hostile = sources
}

// barred reports whether a mint comes from a source of an open compromise, unless
// it is one from which a host of the inventory is known to mint: a thief who makes
// findings about our own address must not take it out.
func (v *inventory) barred(e *event.Event) bool {
	if len(v.hostile) == 0 || !v.hostile[sourceName{e.Network, e.SourceIP}] {
		return false
	}
	h := v.hosts[hostName{e.Network, e.Host}]
	return h == nil || !h.cameFrom(e.SourceIP) || h.lastMint.Sub(h.firstMint) < v.cfg.InventoryAge
}

func (v *inventory) forgetKey(h *host) {
	var oldest string
	for k, u := range h.keys {
		if o := h.keys[oldest]; o == nil || u.last < o.last || u.last == o.last && k < oldest {
			oldest = k
		}
	}
	delete(h.keys, oldest)
}

// declared reports whether the event comes as a declared service from declared
// egress, as far as such are declared.
func (v *inventory) declared(e *event.Event) bool {
	if len(v.cfg.DeclaredServices) > 0 && !slices.Contains(v.cfg.DeclaredServices, e.Service) {
		return false
	}
	return v.inEgress(e)
}

// inEgress reports whether the event comes from declared egress, as far as that is
// declared and the address known.
func (v *inventory) inEgress(e *event.Event) bool {
	if len(v.egress) == 0 || !e.SourceIP.IsValid() {
		return true
	}
	return slices.ContainsFunc(v.egress, func(p netip.Prefix) bool { return p.Contains(e.SourceIP.Unmap()) })
}

// scheduled reports whether a backend of a service with a schedule speaks.
func (v *inventory) scheduled(e *event.Event) bool {
	return e.Origin == event.OriginBackend && slices.Contains(v.cfg.ScheduledServices, e.Service)
}

// noteForeign counts the use of a key by someone who is no host that we know.
func (v *inventory) noteForeign(e *event.Event) {
	if e.KeyID == "" || v.find(e) != nil {
		return
	}
	n := foreignName{e.Network, e.KeyID, e.Host, ""}
	if e.SourceIP.IsValid() {
		n.source = e.SourceIP.String()
	}
	f := v.foreign[n]
	if f == nil {
		if len(v.foreign) >= maxForeign {
			v.evicted++
			return
		}
		n = foreignName{strings.Clone(n.network), strings.Clone(n.key), strings.Clone(n.host), n.source}
		f = &ForeignUse{Network: n.network, KeyID: n.key, Host: n.host, SourceIP: n.source, First: e.TS}
		v.foreign[n] = f
	}
	f.First, f.Last = min(f.First, e.TS), max(f.Last, e.TS)
	if e.Refused() {
		f.Refused++
	} else {
		f.Succeeded++
	}
}

// find is the host that made the call, or nil: the named host, if the call came
// from where its mints come from; without a name the host with that source.
func (v *inventory) find(e *event.Event) *host {
	if e.Host != "" {
		h := v.hosts[hostName{e.Network, e.Host}]
		if h != nil && h.firstMint != 0 && h.cameFrom(e.SourceIP) {
			return h
		}
		return nil
	}
	if !e.SourceIP.IsValid() {
		return nil
	}
	return v.sources[sourceName{e.Network, e.SourceIP}]
}

// ours is the host that made the call, or nil. It knows more of them than find: a
// host of ours that calls from where another one mints (their gateway has a new
// address), and a young host that has not minted yet, by the address of the fleet.
func (v *inventory) ours(e *event.Event) *host {
	if h := v.find(e); h != nil || e.Host == "" || !e.SourceIP.IsValid() || !v.declared(e) {
		return h
	}
	fleet := v.sources[sourceName{e.Network, e.SourceIP}]
	if h := v.hosts[hostName{e.Network, e.Host}]; fleet != nil && h != nil && h.firstMint != 0 {
		return h
	}
	return fleet
}

func (h *host) cameFrom(a netip.Addr) bool {
	return !a.IsValid() || len(h.sources) == 0 || slices.Contains(h.sources, a)
}

// live reports whether h is in the inventory at now.
func (v *inventory) live(h *host, now event.Instant) bool {
	if h.firstMint == 0 || h.lastMint.Sub(h.firstMint) < v.cfg.InventoryAge || h.stopped != 0 {
		return false
	}
	if slices.Contains(v.cfg.ScheduledServices, h.service) {
		return true
	}
	if h.heartbeat != 0 {
		return now.Sub(h.heartbeat) <= v.cfg.HeartbeatTimeout
	}
	return now.Sub(h.lastSeen) <= silentFactor*v.cfg.HeartbeatTimeout
}

// silentFactor is how many heartbeat timeouts a host that sends no heartbeats may
// go without a mint.
const silentFactor = 6

// uses lists the hosts of a network and their keys.
func (v *inventory) uses(network string, now event.Instant) []KeyUse {
	var out []KeyUse
	for _, h := range v.hosts {
		if h.network != network {
			continue
		}
		row := KeyUse{Network: h.network, Host: h.name, Service: h.service, HeartbeatKey: h.heartbeatKey,
			HeartbeatAt: h.heartbeat, Live: v.live(h, now), Scheduled: slices.Contains(v.cfg.ScheduledServices, h.service)}
		if len(h.keys) == 0 {
			if row.Live || row.HeartbeatKey != "" {
				out = append(out, row)
			}
			continue
		}
		for k, u := range h.keys {
			row.KeyID, row.First, row.Last, row.Mints = k, u.first, u.last, u.mints
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(a, b KeyUse) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.First, b.First), cmp.Compare(a.KeyID, b.KeyID))
	})
	return out
}

func (v *inventory) foreignUses(network string) []ForeignUse {
	var out []ForeignUse
	for _, f := range v.foreign {
		if f.Network == network {
			out = append(out, *f)
		}
	}
	slices.SortFunc(out, func(a, b ForeignUse) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.SourceIP, b.SourceIP), cmp.Compare(a.Host, b.Host))
	})
	return out
}

// usedBefore reports whether any host minted with the key.
func (v *inventory) usedBefore(network, key string) bool {
	return v.minted[keyName{network, key}]
}

// forget drops hosts that have been gone for a day.
func (v *inventory) forget(now event.Instant) {
	for _, h := range v.hosts {
		if now.Sub(h.lastSeen) > forgetAfter && h.lastSeen != 0 && (h.stopped != 0 || !slices.Contains(v.cfg.ScheduledServices, h.service)) {
			v.drop(h)
		}
	}
}

const forgetAfter = 24 * time.Hour
