package detect

import (
	"strings"

	"github.com/keysentry/keysentry/event"
)

// recentSet remembers names of a network, the latest of them, in two
// generations: when the young one is full it becomes the old one.
type recentSet struct {
	young, old map[recentName]struct{}
	limit      int
}

type recentName struct{ network, name string }

func newRecentSet(limit int) *recentSet {
	return &recentSet{young: map[recentName]struct{}{}, old: map[recentName]struct{}{}, limit: limit}
}

func (s *recentSet) add(network, name string) {
	if name == "" {
		return
	}
	if len(s.young) >= s.limit {
		s.old, s.young = s.young, map[recentName]struct{}{}
	}
	s.young[recentName{strings.Clone(network), strings.Clone(name)}] = struct{}{}
}

func (s *recentSet) has(network, name string) bool {
	if name == "" {
		return false
	}
	n := recentName{network, name}
	_, ok := s.young[n]
	if !ok {
		_, ok = s.old[n]
	}
	return ok
}

func (s *recentSet) remove(network, name string) {
	delete(s.young, recentName{network, name})
	delete(s.old, recentName{network, name})
}

// maxEnded bounds one generation of revoked sessions.
const maxEnded = 100_000

// ends takes in what ends and begins sessions. Access tokens are revoked per
// user, and a user who opens a new session has a good one again.
func (s *recentSet) ends(e *event.Event) {
	switch e.Type {
	case event.TypeSessionRevoked:
		if e.SessionID != "" {
			s.add(e.Network, e.SessionID)
		} else {
			s.add(e.Network, e.UserID)
		}
	case event.TypeSessionCreated:
		if e.UserID != "" {
			s.remove(e.Network, e.UserID)
		}
	}
}
