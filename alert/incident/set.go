package incident

import (
	"cmp"
	"maps"
	"slices"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/suspicion"
	"github.com/keysentry/keysentry/event"
)

// Set is the state that the journal's records add up to. It is not safe for
// concurrent use: its owner locks. Pointers that it hands out are for reading
// under that lock.
type Set struct {
	last      int64
	incidents map[string]*Incident
	order     []string          // incident ids, oldest first
	latest    map[string]string // fingerprint -> the newest incident
	runs      map[string]*Run
	runOrder  []string

	links     map[string]string // finding id -> incident id, or shadowLink, or "" when orphaned
	linkOrder []string
	orphans   map[string]orphan

	decisions     map[string]journal.Decision
	decisionOrder []string

	messages map[string]*Message // not yet sent
	notices  map[string][]Notice // by incident: told in the thread as soon as possible

	// accounts add the findings up, for incidents about a key in other hands.
	accounts map[string]*suspicion.Account

	leader, previous Leader
	touched          map[string]struct{} // incidents that changed since TakeTouched
}

// shadowLink marks findings that are recorded and belong to no incident.
const shadowLink = "-"

type orphan struct {
	n int64
	f finding.Finding
}

// Leader is what a took_over record says.
type Leader struct {
	Member, Address string
	Epoch           int64
}

// Message is a message that has not reached its channel yet, as far as known.
type Message struct {
	ID, IncidentID, Channel string
	State                   string // StateNew, StateSending, StateUnknown
	Payload                 []byte
	CreatedAt, ChangedAt    event.Instant
	N                       int64 // the record that created it
}

// States of a journal.Outbox.
const (
	StateNew     = "new"
	StateSending = "sending"
	StateSent    = "sent"
	StateUnknown = "unknown"
	StateDropped = "dropped"
)

// Notice is something that happened and that the thread has not been told.
type Notice struct {
	N    int64
	Time event.Instant
	What string
	Who  string
	Text string
	// Loud asks for more than a quiet reply: the channel sees it too.
	Loud bool
}

// NewSet is the state before the first record.
func NewSet() *Set {
	return &Set{
		incidents: map[string]*Incident{}, latest: map[string]string{}, runs: map[string]*Run{},
		links: map[string]string{}, orphans: map[string]orphan{}, decisions: map[string]journal.Decision{},
		messages: map[string]*Message{}, notices: map[string][]Notice{}, touched: map[string]struct{}{},
		accounts: map[string]*suspicion.Account{},
	}
}

// Last is the number of the last record folded in.
func (s *Set) Last() int64 { return s.last }

// Incident finds one by id.
func (s *Set) Incident(id string) (*Incident, bool) {
	i, ok := s.incidents[id]
	return i, ok
}

// Assess says what an incident's findings add up to at an instant; nil when they say
// nothing about a key.
func (s *Set) Assess(id string, at event.Instant) *suspicion.Assessment {
	a := s.accounts[id]
	if a == nil || a.Empty() {
		return nil
	}
	out := a.Assess(at)
	return &out
}

// Latest finds the newest incident with a fingerprint.
func (s *Set) Latest(fingerprint string) (*Incident, bool) { return s.Incident(s.latest[fingerprint]) }

// Incidents lists all, oldest first.
func (s *Set) Incidents() []*Incident {
	out := make([]*Incident, 0, len(s.order))
	for _, id := range s.order {
		out = append(out, s.incidents[id])
	}
	return out
}

// Run finds one by id.
func (s *Set) Run(id string) (*Run, bool) {
	r, ok := s.runs[id]
	return r, ok
}

// Runs lists all, oldest first.
func (s *Set) Runs() []*Run {
	out := make([]*Run, 0, len(s.runOrder))
	for _, id := range s.runOrder {
		out = append(out, s.runs[id])
	}
	return out
}

// Decision finds a recorded decision, accepted or refused.
func (s *Set) Decision(id string) (journal.Decision, bool) {
	d, ok := s.decisions[id]
	return d, ok
}

// Recorded reports whether a finding is in the journal, and whether it has
// found its incident (or needs none).
func (s *Set) Recorded(findingID string) (recorded, linked bool) {
	id, ok := s.links[findingID]
	return ok, id != ""
}

// Orphans are findings whose incident was never written: a crash came between
// the two records. They come in the order of the journal.
func (s *Set) Orphans() []finding.Finding {
	all := slices.SortedFunc(maps.Values(s.orphans), func(a, b orphan) int { return cmp.Compare(a.n, b.n) })
	out := make([]finding.Finding, len(all))
	for i, o := range all {
		out[i] = o.f
	}
	return out
}

// Messages lists the messages that are not known to be sent, oldest first.
func (s *Set) Messages() []*Message {
	return slices.SortedFunc(maps.Values(s.messages), func(a, b *Message) int { return cmp.Compare(a.N, b.N) })
}

// Message finds an unsent message.
func (s *Set) Message(id string) (*Message, bool) {
	m, ok := s.messages[id]
	return m, ok
}

// Notices are what an incident's thread has not been told yet.
func (s *Set) Notices(incidentID string) []Notice { return s.notices[incidentID] }

// Noticed lists the incidents that have notices, in order of age.
func (s *Set) Noticed() []string {
	ids := slices.Collect(maps.Keys(s.notices))
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(s.notices[a][0].N, s.notices[b][0].N) })
	return ids
}

// TakeTouched lists the incidents that changed since the last call.
func (s *Set) TakeTouched() []string {
	ids := slices.Sorted(maps.Keys(s.touched))
	clear(s.touched)
	return ids
}

func (s *Set) touch(incidentID string) {
	if _, ok := s.incidents[incidentID]; ok {
		s.touched[incidentID] = struct{}{}
	}
}

// Leader is the last member that took over, and the one before it.
func (s *Set) Leader() (current, previous Leader) { return s.leader, s.previous }
