package detect

import (
	"net/netip"

	"github.com/keysentry/keysentry/event"
)

// mint is what is remembered of one auth token that was issued.
type mint struct {
	// Issued and Expires are what the token says, by the clock of whoever made it;
	// Issued is the time of the record where the token's is not told, Expires zero.
	Issued, Expires event.Instant
	// TS and Observed are the effective time and the append time of the record.
	TS, Observed event.Instant
	// Client is the end user's own address, User a hash of network and user;
	// invalid and zero when the record had none.
	Client netip.Addr
	User   uint64
	// Host is the backend that minted; empty unless it told so itself. Key is the
	// fingerprint of the server key.
	Host, Key string
}

// mints remembers the latest auth tokens that were issued, of all networks. The
// engine's lock guards it.
type mints struct {
	hash  hasher
	memo  memo[mintSlot]
	names symbols
	since map[string]event.Instant // when the first mint of a network was seen
}

// mintSlot is a mint without pointers.
type mintSlot struct {
	issued, expires, ts, observed event.Instant
	user                          uint64
	client                        [16]byte
	host, key                     uint32
}

// maxMintNetworks bounds the networks whose first mint is remembered.
const maxMintNetworks = 10_000

func newMints(limit int) *mints {
	m := &mints{hash: newHasher(), memo: newMemo[mintSlot](limit), names: newSymbols(), since: map[string]event.Instant{}}
	m.memo.dropped = func(s *mintSlot) {
		m.names.drop(s.host)
		m.names.drop(s.key)
	}
	return m
}

// saw takes an event in; only mints that name their token count. Of several
// observers of one mint the backend's word counts, since the token is dated by its
// clock; the others add what it left out.
func (m *mints) saw(e *event.Event) {
	if e.Type != event.TypeAuthTokenIssued || e.TokenID == "" {
		return
	}
	if _, ok := m.since[e.Network]; !ok && len(m.since) < maxMintNetworks {
		m.since[string([]byte(e.Network))] = e.TS
	}
	s, fresh := m.memo.put(m.hash.of(e.Network, e.TokenID))
	told := e.Origin == event.OriginBackend && s.host == 0 && e.Host != ""
	if told {
		s.host = m.names.use(e.Host)
	}
	if fresh || told {
		s.ts, s.observed = e.TS, e.ObservedAt
	}
	switch {
	case e.IssuedAt != 0 && (s.issued == 0 || told):
		s.issued = e.IssuedAt
	case fresh || told && s.expires == 0:
		s.issued = e.Time
	}
	if e.ExpiresAt != 0 && (s.expires == 0 || told) {
		s.expires = e.ExpiresAt
	}
	if s.key == 0 {
		s.key = m.names.use(e.KeyID)
	}
	if s.user == 0 && e.UserID != "" {
		s.user = m.user(e.Network, e.UserID)
	}
	if e.ClientIP.IsValid() && s.client == [16]byte{} {
		s.client = e.ClientIP.As16()
	}
}

// user is the hash by which mints name a user.
func (m *mints) user(network, id string) uint64 { return m.hash.of(network, id) }

// get is the mint of a token, if it is remembered.
func (m *mints) get(network, tokenID string) (mint, bool) {
	if tokenID == "" {
		return mint{}, false
	}
	s := m.memo.get(m.hash.of(network, tokenID))
	if s == nil {
		return mint{}, false
	}
	out := mint{Issued: s.issued, Expires: s.expires, TS: s.ts, Observed: s.observed, User: s.user,
		Host: m.names.name(s.host), Key: m.names.name(s.key)}
	if s.client != [16]byte{} {
		out.Client = netip.AddrFrom16(s.client).Unmap()
	}
	return out, true
}

// reaches is the effective time from which on every mint of the network that was
// seen is remembered; ok is false when none was.
func (m *mints) reaches(network string) (since event.Instant, ok bool) {
	since, ok = m.since[network]
	if !ok {
		return 0, false
	}
	if m.memo.full() {
		since = max(since, m.memo.oldest().ts)
	}
	return since, true
}
