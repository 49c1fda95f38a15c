package detect

import (
	"cmp"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// Key is one server key of the registry.
type Key struct {
	Network, KeyID string
	State          KeyState
	Created        event.Instant // zero: unknown
	Activated      event.Instant
	Retired        event.Instant
	Revoked        event.Instant
	Used           event.Instant `json:",omitempty"` // when it worked last; zero: not seen
	Source         string        // who told it last: lifecycle, run, store, person:ID
	// Probed: the platform was asked and agreed, when the key was adopted.
	Probed bool `json:",omitempty"`
}

// byPerson reports whether a person told of the key last.
func (k *Key) byPerson() bool { return strings.HasPrefix(k.Source, "person:") }

// KeyState is the state of a server key.
type KeyState string

// The states, in order of life. A retired key may still work, but a successor
// was activated.
const (
	KeyCreated KeyState = "created"
	KeyActive  KeyState = "active"
	KeyRetired KeyState = "retired"
	KeyRevoked KeyState = "revoked"
)

// maxKeys bounds the keys, and the certificates, of all networks.
const maxKeys = 100_000

type keyName struct{ network, key string }

// keyRegistry holds the server keys that trusted sources told of.
type keyRegistry struct {
	keys  map[keyName]*Key
	known map[string]int // keys per network
	// claims are keys that a person adopted without a probe: they are listed and
	// believed by nobody. denied are those that a person called none of ours.
	claims map[keyName]*Key
	denied map[keyName]bool
	// version counts changes, for who remembers what the registry said.
	version uint32
}

func newKeyRegistry() keyRegistry {
	return keyRegistry{keys: map[keyName]*Key{}, known: map[string]int{}, claims: map[keyName]*Key{}, denied: map[keyName]bool{}}
}

// get is the key, or nil. It does not keep its arguments.
func (r *keyRegistry) get(network, key string) *Key { return r.keys[keyName{network, key}] }

// learning reports whether no key of the network is known, so that an unknown
// key says little.
func (r *keyRegistry) learning(network string) bool { return r.known[network] == 0 }

// live is the network's active key, the newest of several; empty when none is known.
func (r *keyRegistry) live(network string) string {
	var best *Key
	for _, k := range r.keys {
		if k.Network != network || k.State != KeyActive {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(k.Activated, best.Activated), cmp.Compare(k.KeyID, best.KeyID)) > 0 {
			best = k
		}
	}
	if best == nil {
		return ""
	}
	return best.KeyID
}

// lifecycle takes a lifecycle event in.
func (r *keyRegistry) lifecycle(e *event.Event) {
	if e.KeyID == "" {
		return
	}
	switch e.Type {
	case event.TypeServerKeyCreated:
		r.apply(e.Network, e.KeyID, KeyCreated, e.TS, "lifecycle")
	case event.TypeServerKeyActivated:
		r.apply(e.Network, e.KeyID, KeyActive, e.TS, "lifecycle")
	case event.TypeServerKeyRevoked:
		r.apply(e.Network, e.KeyID, KeyRevoked, e.TS, "lifecycle")
	}
}

// change takes in a fact from a run of our own, or from a person.
func (r *keyRegistry) change(k journal.KeyChange) {
	switch s := KeyState(k.State); s {
	case KeyCreated, KeyActive, KeyRetired, KeyRevoked:
		r.apply(k.Network, k.KeyID, s, k.At, "run")
	case journal.KeyAdopted:
		r.adopt(k)
	case journal.KeyDenied:
		r.version++
		n := keyName{k.Network, k.KeyID}
		delete(r.claims, n)
		if len(r.denied) < maxKeys {
			r.denied[n] = true
		}
	}
}

// adopt takes in a key that a person calls ours. Where the platform did not agree
// that it works, it is a claim. One whose age is known retires those that are older,
// as an activation does; of one whose age is unknown only its use is known.
func (r *keyRegistry) adopt(k journal.KeyChange) {
	r.version++
	n := keyName{k.Network, k.KeyID}
	delete(r.denied, n)
	source := "person:" + k.Person
	if k.Probe != journal.ProbeAgreed {
		if r.keys[n] == nil && len(r.claims) < maxKeys {
			r.claims[n] = &Key{Network: k.Network, KeyID: k.KeyID, State: KeyActive, Created: k.Created, Activated: cmp.Or(k.Created, k.At), Source: source}
		}
		return
	}
	if k.Created != 0 {
		r.apply(k.Network, k.KeyID, KeyCreated, k.Created, source)
		r.apply(k.Network, k.KeyID, KeyActive, k.Created, source)
	} else {
		r.apply(k.Network, k.KeyID, KeyCreated, 0, source)
		if o := r.keys[n]; o != nil && o.State == KeyCreated {
			o.State, o.Activated = KeyActive, cmp.Or(o.Activated, k.At)
		}
	}
	if o := r.keys[n]; o != nil {
		o.Probed = true
	}
}

// apply moves a key to a state. A state never moves back: messages may come
// late, and a revoked key does not live again. Activating a key retires those
// that were active before it.
func (r *keyRegistry) apply(network, id string, s KeyState, at event.Instant, source string) {
	k := r.get(network, id)
	if k == nil {
		if len(r.keys) >= maxKeys {
			return
		}
		k = &Key{Network: strings.Clone(network), KeyID: strings.Clone(id), State: KeyCreated}
		delete(r.claims, keyName{network, id})
		r.keys[keyName{k.Network, k.KeyID}] = k
		r.known[k.Network]++
	}
	k.Source = source
	r.version++
	first := func(t *event.Instant) {
		if at != 0 && (*t == 0 || at < *t) {
			*t = at
		}
	}
	switch s {
	case KeyCreated:
		first(&k.Created)
	case KeyActive:
		first(&k.Activated)
		r.retireBefore(k)
	case KeyRetired:
		first(&k.Retired)
	case KeyRevoked:
		first(&k.Revoked)
	}
	if rankOf(s) > rankOf(k.State) {
		k.State = s
	}
}

// retireBefore retires the active keys of k's network that were activated before
// it, and k itself if there is a later one.
func (r *keyRegistry) retireBefore(k *Key) {
	for _, o := range r.keys {
		if o == k || o.Network != k.Network || o.State != KeyActive || k.State == KeyRevoked {
			continue
		}
		older, newer := o, k
		if o.Activated > k.Activated {
			older, newer = k, o
		}
		if older.Activated == newer.Activated {
			continue
		}
		older.State, older.Retired = KeyRetired, newer.Activated
	}
}

func rankOf(s KeyState) int {
	return slices.Index([]KeyState{KeyCreated, KeyActive, KeyRetired, KeyRevoked}, s)
}

// list is the registry of one network, or of all, oldest first.
func (r *keyRegistry) list(network string) []Key {
	var out []Key
	for _, k := range r.keys {
		if network == "" || k.Network == network {
			out = append(out, *k)
		}
	}
	slices.SortFunc(out, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Created, b.Created), cmp.Compare(a.KeyID, b.KeyID))
	})
	return out
}
