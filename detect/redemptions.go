package detect

import (
	"hash/maphash"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// tokenMemory remembers what was seen of tokens lately: about as long as a token
// lives, and at most limit of them, in two generations. It is not kept over a
// restart, but replayed.
type tokenMemory struct {
	seed       maphash.Seed
	young, old map[uint64]seenToken
	limit      int // of one generation
	span       time.Duration
	youngSince event.Instant // when the generation began; 0: nothing was seen
	// minted are the keys of mints that were of none of our hosts, at most
	// maxForeignMints; beyond it all are forgotten.
	minted map[uint64]string
	// since is from when on every token is remembered.
	since event.Instant
	// asked is the last answer of get: an event asks twice.
	asked struct {
		key   uint64
		token seenToken
		known bool
	}
}

// seenToken is what was seen of one token. Names are kept as hashes: only equality
// matters, and two of a million tokens collide once in 10^7 times.
type seenToken struct {
	minted, expires       event.Instant // zero: not seen
	redeemed              event.Instant // the last time
	client, place, device uint64        // networks of the mint's client and of the last redemption, its device; 0: not known
	minter                uint64        // network that called for the mint, when it was none of our hosts
	origin                event.Origin  // who saw the last redemption
}

// maxForeignMints bounds the keys of mints that were of none of our hosts.
const maxForeignMints = 10_000

// mintKey is the key that the token was minted with, when it was by none of our
// hosts; else empty.
func (m *tokenMemory) mintKey(ev *event.Event) string { return m.minted[m.key(ev)] }

// tokenSpan is how many lives of a token are remembered, so that a late redemption
// finds its mint.
const tokenSpan = 2

func newTokenMemory(cfg Config) *tokenMemory {
	return &tokenMemory{seed: maphash.MakeSeed(), young: map[uint64]seenToken{}, limit: max(cfg.MaxTokens/2, 1), span: tokenSpan * cfg.TokenLife}
}

func (m *tokenMemory) key(ev *event.Event) uint64 {
	return maphash.String(m.seed, ev.TokenID) ^ m.hash(ev.Network)*0x9e3779b97f4a7c15 | 1
}

// hash is never zero for a text that is not empty.
func (m *tokenMemory) hash(s string) uint64 {
	if s == "" {
		return 0
	}
	return maphash.String(m.seed, s) | 1
}

func (m *tokenMemory) get(k uint64) (seenToken, bool) {
	a := &m.asked
	if a.key == k {
		return a.token, a.known
	}
	t, ok := m.young[k]
	if !ok {
		t, ok = m.old[k]
	}
	a.key, a.token, a.known = k, t, ok
	return t, ok
}

func (m *tokenMemory) put(k uint64, t seenToken, now event.Instant) {
	if m.youngSince == 0 {
		m.youngSince, m.since = now, now
	}
	if len(m.young) >= m.limit || now.Sub(m.youngSince) > m.span {
		// What is forgotten is older than the generation that now becomes the old one.
		m.since, m.youngSince = m.youngSince, now
		m.old, m.young = m.young, make(map[uint64]seenToken, len(m.young))
	}
	m.young[k] = t
	m.asked.key = 0
}

// complete reports whether every token of the life before at is remembered.
func (m *tokenMemory) complete(at event.Instant, life time.Duration) bool {
	return m.youngSince != 0 && at.Sub(m.since) >= life
}

// mintTraits says whether the token of a mint was redeemed already.
func (m *tokenMemory) mintTraits(ev *event.Event) event.Traits {
	if ev.TokenID == "" {
		return 0
	}
	if t, ok := m.get(m.key(ev)); ok && t.redeemed != 0 && t.minted == 0 {
		return event.TraitMintAfterSession
	}
	return 0
}

// sessionTraits compares a redemption with the mint of its token and with the
// redemption before.
func (m *tokenMemory) sessionTraits(ev *event.Event, cfg Config, mintsKnown bool) event.Traits {
	if ev.TokenID == "" {
		return 0
	}
	var out event.Traits
	t, ok := m.get(m.key(ev))
	expires := ev.ExpiresAt
	if ok && t.expires != 0 {
		expires = t.expires
	}
	if expires != 0 && ev.TS.Sub(expires) > cfg.TokenLeeway {
		out |= event.TraitLateRedemption
	}
	if !ok || t.minted == 0 {
		if mintsKnown && m.complete(ev.TS, cfg.TokenLife) {
			out |= event.TraitNoMintSeen
		}
	}
	if !ok {
		return out
	}
	place, device := m.hash(ev.SourceNet), m.hash(ev.DeviceID)
	if t.client != 0 && place != 0 && t.client != place {
		out |= event.TraitFarFromMint
	}
	if t.minter != 0 && t.minter == place {
		out |= event.TraitMintedHere
	}
	if t.redeemed == 0 {
		return out
	}
	if t.device != 0 && device != 0 && t.device != device {
		out |= event.TraitOtherDevice
	}
	// A device that is known to be the same one may have changed its network; two
	// observers of one redemption may see two addresses.
	same := t.device != 0 && t.device == device
	if !same && t.origin == ev.Origin && t.place != 0 && place != 0 && t.place != place && ev.TS.Sub(t.redeemed).Abs() < cfg.NetworkJump {
		out |= event.TraitNetworkJump
	}
	return out
}

// saw takes in a mint or a redemption. clientNet is the network of the mint's
// client.
func (m *tokenMemory) saw(ev *event.Event, clientNet string) {
	if ev.TokenID == "" || ev.Type != event.TypeAuthTokenIssued && ev.Type != event.TypeSessionCreated {
		return
	}
	k := m.key(ev)
	t, _ := m.get(k)
	if ev.Type == event.TypeAuthTokenIssued {
		t.minted = ev.TS
		if ev.Has(event.FieldExpiresAt) {
			t.expires = ev.ExpiresAt
		}
		if ev.Traits&(event.TraitOutsideEgress|event.TraitNotInInventory) != 0 {
			t.minter = m.hash(ev.SourceNet)
			if m.minted == nil || len(m.minted) >= maxForeignMints {
				m.minted = map[uint64]string{}
			}
			m.minted[k] = strings.Clone(ev.KeyID)
		}
		if h := m.hash(clientNet); h != 0 {
			t.client = h
		}
	} else {
		t.redeemed, t.origin = ev.TS, ev.Origin
		if h := m.hash(ev.SourceNet); h != 0 {
			t.place = h
		}
		if h := m.hash(ev.DeviceID); h != 0 {
			t.device = h
		}
	}
	m.put(k, t, ev.TS)
}
