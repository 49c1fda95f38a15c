package detect

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// judgeTraits are the facts about e that the registries know now. It only reads,
// so that it may be asked again about an event that was judged before.
func (e *Engine) judgeTraits(ev *event.Event) event.Traits {
	switch ev.Type {
	case event.TypeAuthTokenIssued:
		return e.keyTraits(ev) | e.certTraits(ev) | e.scheduleTraits(ev) | e.tokens.mintTraits(ev) | e.sequences.traits(ev, e.hosts.scheduled(ev)) | e.nets.traits(ev)
	case event.TypeAuthTokenDenied, event.TypeRequestAllowed, event.TypeRequestUnauthorized, event.TypeMTLSHandshakeFailed:
		return e.keyTraits(ev) | e.certTraits(ev)
	case event.TypeSessionCreated:
		return e.tokens.sessionTraits(ev, e.cfg, e.facts.mintsKnown(ev, e.cfg.TokenLife)) | e.nets.traits(ev)
	case event.TypeHeartbeat:
		return e.clockTraits(ev)
	}
	if ev.Type.Lifecycle() {
		return e.lifecycleTraits(ev)
	}
	return 0
}

// keyTraits are about the use of a server key.
func (e *Engine) keyTraits(ev *event.Event) event.Traits {
	if ev.KeyID == "" {
		return 0
	}
	var t event.Traits
	switch k := e.keys.get(ev.Network, ev.KeyID); {
	case k == nil:
		if !e.keys.learning(ev.Network) {
			t |= event.TraitUnknownKey
		}
	default:
		t |= e.registeredTraits(k, ev)
	}
	if !e.hosts.inEgress(ev) {
		t |= event.TraitOutsideEgress
	}
	if e.hosts.entered[ev.Network] && e.hosts.find(ev) == nil {
		t |= event.TraitNotInInventory
	}
	return t
}

func (e *Engine) registeredTraits(k *Key, ev *event.Event) event.Traits {
	var t event.Traits
	switch k.State {
	case KeyRetired:
		t = event.TraitRetiredKey
	case KeyRevoked:
		t = event.TraitRevokedKey
	}
	began := max(k.Used, k.Created, k.Activated)
	if began != 0 && !ev.Refused() && e.facts.watchedFor(ev) >= dormantWatch && ev.TS.Sub(began) >= e.cfg.DormantAfter {
		t |= event.TraitDormantKey
	}
	return t
}

// dormantWatch is how long a network must have been watched before a key whose use
// was not seen counts as unused: what is used daily was seen by then.
const dormantWatch = 72 * time.Hour

// watchedFor is how long mints of the event's network have been coming in.
func (f *facts) watchedFor(ev *event.Event) time.Duration {
	s := f.networks[ev.Network]
	if s == nil || s.watched == 0 {
		return 0
	}
	return ev.TS.Sub(s.watched)
}

// scheduleTraits says whether a service mints at a time that is not its own.
func (e *Engine) scheduleTraits(ev *event.Event) event.Traits {
	if len(e.schedules) == 0 || ev.Service == "" {
		return 0
	}
	if hours, ok := e.schedules[ev.Service]; ok && !hours.open(ev.TS) {
		return event.TraitOffSchedule
	}
	return 0
}

func (e *Engine) certTraits(ev *event.Event) event.Traits {
	if ev.CertCN == "" || len(e.cfg.ExpectedCNs) == 0 || slices.ContainsFunc(e.cfg.ExpectedCNs, func(want string) bool { return sameCN(want, ev.CertCN) }) {
		return 0
	}
	return event.TraitUnexpectedCN
}

// sameCN compares a common name with an expected one, which may begin with *. for
// any one label.
func sameCN(want, cn string) bool {
	if rest, ok := strings.CutPrefix(want, "*."); ok {
		label, domain, _ := strings.Cut(cn, ".")
		return label != "" && strings.EqualFold(rest, domain)
	}
	return strings.EqualFold(want, cn)
}

func (e *Engine) clockTraits(ev *event.Event) event.Traits {
	leeway := e.cfg.TokenLeeway.Seconds()
	if ev.Has(event.FieldClockOffset) && math.Abs(ev.ClockOffset)-math.Abs(ev.ClockError) > leeway {
		return event.TraitClockOff
	}
	if off, margin, ok := e.clocks.Offset(ev.Network, ev.Host); ok && (off.Abs()-margin).Seconds() > leeway {
		return event.TraitClockOff
	}
	return 0
}

func (e *Engine) lifecycleTraits(ev *event.Event) event.Traits {
	t := e.certTraits(ev)
	if ev.Origin != event.OriginKeysentry && len(e.changes) > 0 && !e.changes.open(ev.TS) {
		t |= event.TraitOutsideChangeWindow
	}
	switch ev.Type {
	case event.TypeServerKeyActivated:
		if e.keys.otherWorks(ev.Network, ev.KeyID) {
			t |= event.TraitSecondKey
		}
	case event.TypeCertificateActivated:
		if e.facts.otherActive(ev.Network, ev.CertID) >= 2 {
			t |= event.TraitThirdCertificate
		}
	}
	return t
}

// otherWorks reports whether a key of the network other than id was activated and
// not revoked.
func (r *keyRegistry) otherWorks(network, id string) bool {
	for _, k := range r.keys {
		if k.Network == network && k.KeyID != id && (k.State == KeyActive || k.State == KeyRetired) {
			return true
		}
	}
	return false
}

// used notes that the key worked.
func (r *keyRegistry) used(ev *event.Event) {
	if k := r.get(ev.Network, ev.KeyID); k != nil {
		k.Used = max(k.Used, ev.TS)
	}
}

// otherActive counts the active certificates of a network other than id.
func (f *facts) otherActive(network, id string) int {
	n := 0
	for name, c := range f.certs {
		if name.network == network && name.key != id && c.active && !c.disabled {
			n++
		}
	}
	return n
}

// mintsKnown reports whether the mints of the event's network came in for all of a
// token's life before it.
func (f *facts) mintsKnown(ev *event.Event, life time.Duration) bool {
	s := f.networks[ev.Network]
	return s != nil && s.firstMint != 0 && ev.TS.Sub(s.firstMint) >= life && ev.TS.Sub(s.lastMint) <= life
}

// derive sets what follows from the event and the configuration alone.
func (e *Engine) derive(ev *event.Event) {
	ev.SourceNet = e.places.Of(ev.SourceIP)
}

// Derive sets source_net, on events that are not judged again because their causes
// and traits are known.
func (e *Engine) Derive(events []event.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range events {
		e.derive(&events[i])
	}
}
