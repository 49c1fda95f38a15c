package detect

import (
	"github.com/keysentry/keysentry/event"
)

// sessions remembers what began and ended the sessions of users: who opened which
// on which device, which were revoked, and who was banned. The engine's lock
// guards it.
type sessions struct {
	// Names of one kind must not be taken for those of another.
	users, ids, tools hasher

	began   memo[session]
	devices memo[holder]
	revoked memo[event.Instant] // by session, or by user: when the last time
	banned  memo[event.Instant] // by user
	since   map[string]event.Instant
}

// session is one that was opened.
type session struct {
	at           event.Instant
	expires      event.Instant // zero: not told
	user, device uint64
	taken        event.Instant // when another user opened one on its device; zero: nobody did
}

// holder is who opened the last session on a device.
type holder struct {
	user, session uint64
	at            event.Instant
	changed       event.Instant // when it became this user's; zero: it always was
}

// maxEnded bounds the revoked sessions and users, and the banned users.
const maxEnded = 200_000

func newSessions(limit int) *sessions {
	return &sessions{users: newHasher(), ids: newHasher(), tools: newHasher(), began: newMemo[session](limit), devices: newMemo[holder](limit),
		revoked: newMemo[event.Instant](maxEnded), banned: newMemo[event.Instant](maxEnded), since: map[string]event.Instant{}}
}

// name is the hash of a name; zero when there is none.
func (h hasher) name(network, name string) uint64 {
	if name == "" {
		return 0
	}
	return h.of(network, name)
}

// saw takes an event in.
func (s *sessions) saw(e *event.Event) {
	switch {
	case e.Type == event.TypeSessionCreated:
		s.created(e)
	case e.Type == event.TypeSessionRevoked:
		n := s.ids.name(e.Network, e.SessionID)
		if n == 0 {
			n = s.users.name(e.Network, e.UserID)
		}
		note(&s.revoked, n, e.TS)
	case e.Cause == event.CauseUserBanned:
		note(&s.banned, s.users.name(e.Network, e.UserID), e.TS)
	}
}

// note keeps the latest time of a name.
func note(m *memo[event.Instant], name uint64, at event.Instant) {
	if name == 0 {
		return
	}
	v, _ := m.put(name)
	*v = max(*v, at)
}

// forgive takes back what was noted of a name.
func forgive(m *memo[event.Instant], name uint64) {
	if v := m.get(name); v != nil {
		*v = 0
	}
}

func (s *sessions) created(e *event.Event) {
	if _, ok := s.since[e.Network]; !ok && len(s.since) < maxMintNetworks {
		s.since[string([]byte(e.Network))] = e.TS
	}
	id, user := s.ids.name(e.Network, e.SessionID), s.users.name(e.Network, e.UserID)
	device := s.tools.name(e.Network, e.DeviceID)
	forgive(&s.banned, user)
	if id == 0 {
		forgive(&s.revoked, user) // which of his sessions is refused later cannot be told
	} else {
		v, fresh := s.began.put(id)
		if fresh {
			v.at = e.TS
		}
		v.expires = max(v.expires, e.ExpiresAt)
		v.user, v.device = user, device
	}
	if device == 0 || user == 0 {
		return
	}
	h, fresh := s.devices.put(device)
	if !fresh && e.TS < h.at {
		return
	}
	if !fresh && h.user != user {
		h.changed = e.TS
		if was := s.began.get(h.session); was != nil && was.taken == 0 {
			was.taken = e.TS
		}
	}
	h.user, h.session, h.at = user, id, e.TS
}

// ending is how the session of a refused call ended, as far as it is known.
type ending struct {
	cause event.Cause // CauseNone: not known to have ended
	at    event.Instant
	user  bool // all sessions of the user were revoked
}

// ended says what ended the session that e presents: of several, what came first
// after it began.
func (s *sessions) ended(e *event.Event) ending {
	began := s.find(e)
	var out ending
	add := func(cause event.Cause, at event.Instant, user bool) {
		if at == 0 || began != nil && at < began.at || out.at != 0 && out.at <= at {
			return
		}
		out = ending{cause, at, user}
	}
	if at := s.revoked.get(s.ids.name(e.Network, e.SessionID)); at != nil {
		add(event.CauseSessionRevoked, *at, false)
	}
	user := s.users.name(e.Network, e.UserID)
	if user == 0 && began != nil {
		user = began.user
	}
	if at := s.revoked.get(user); at != nil {
		add(event.CauseSessionRevoked, *at, true)
	}
	if began != nil {
		add(event.CauseSessionDisplaced, began.taken, false)
	}
	device := s.tools.name(e.Network, e.DeviceID)
	if device == 0 && began != nil {
		device = began.device
	}
	if h := s.devices.get(device); h != nil && user != 0 && h.user != user {
		add(event.CauseSessionDisplaced, max(h.changed, h.at), false)
	}
	return out
}

// find is the session that e presents, or nil.
func (s *sessions) find(e *event.Event) *session {
	return s.began.get(s.ids.name(e.Network, e.SessionID))
}

// isBanned reports whether the user was refused as banned and has opened no
// session since.
func (s *sessions) isBanned(e *event.Event) bool {
	at := s.banned.get(s.users.name(e.Network, e.UserID))
	return at != nil && *at != 0
}

// reaches is the effective time from which on every session of the network that was
// seen to begin is remembered; ok is false when none was.
func (s *sessions) reaches(network string) (since event.Instant, ok bool) {
	since, ok = s.since[network]
	if ok && s.began.full() {
		since = max(since, s.began.oldest().at)
	}
	return since, ok
}
