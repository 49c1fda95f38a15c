package detect

import (
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// undeclaredAfter is how long a key may work on a host before somebody has to have
// told of it: an export of the platform's console may be minutes behind the hosts.
const undeclaredAfter = 5 * time.Minute

// undeclaredPerDay bounds the findings of a day: whoever may write as a host of ours
// chooses the keys in it.
const undeclaredPerDay = 100

const day = event.Instant(24 * time.Hour)

// undeclared are the keys that work on hosts of the inventory and that nobody told
// of.
type undeclared struct {
	today event.Instant
	told  map[keyName]bool // today
	ready []finding.Finding
}

// rotation looks whether a mint of a host of the inventory used a key that nobody
// told of, and asks a person once a day: adopt it or deny it. While no key of the
// network is known there is nothing to compare with.
func (e *Engine) rotation(ev *event.Event) {
	h, u := e.hosts.minting, e.hosts.using
	if u == nil || ev.KeyID == "" || u.settled == e.keys.version+1 {
		return
	}
	n := keyName{ev.Network, ev.KeyID}
	switch {
	case e.keys.keys[n] != nil || e.keys.claims[n] != nil || e.keys.denied[n]:
		u.settled = e.keys.version + 1
		return
	case e.keys.learning(ev.Network) || ev.TS.Sub(u.first) < undeclaredAfter || !e.hosts.live(h, ev.TS):
		return
	}
	e.undeclared.tell(ev, n)
}

func (x *undeclared) tell(ev *event.Event, n keyName) {
	if today := ev.TS / day * day; today != x.today || x.told == nil {
		x.today, x.told = today, map[keyName]bool{}
	}
	if x.told[n] || len(x.told) >= undeclaredPerDay {
		return
	}
	proof := finding.FromEvent(ev)
	x.told[keyName{proof.Network, proof.KeyID}] = true
	group := []finding.Pair{{Field: "network", Value: proof.Network}, {Field: "key_id", Value: proof.KeyID}}
	x.ready = append(x.ready, finding.Finding{
		ID: finding.MakeID(finding.RuleUndeclaredRotation, group, x.today), RuleID: finding.RuleUndeclaredRotation, RuleName: "undeclared_rotation",
		RuleTitle: "A key that nobody told of works on a host of ours", Level: "medium", Kind: finding.Other, Severity: finding.Ticket,
		Subject: finding.Subject{Network: proof.Network, Field: "key_id", Value: proof.KeyID}, Group: group,
		First: proof.TS, Last: proof.TS, Fired: proof.TS, Count: 1,
		Summary: "A host of the inventory mints with a server key that no lifecycle event, no run of ours and no person told of: somebody rotated the key without a word, or put one of their own in its place.",
		Resolution: "If the key is yours, adopt it: keysentry keys adopt --network NETWORK. If nobody here made it, deny it: keysentry keys deny KEY_ID --network NETWORK; " +
			"then somebody else can make keys for the network.",
		Facts:    []finding.Pair{{Field: "host", Value: proof.Host}, {Field: "key_id", Value: proof.KeyID}},
		Evidence: []finding.Evidence{proof},
	})
}

// take hands over what is to be told.
func (x *undeclared) take() []finding.Finding {
	out := x.ready
	x.ready = nil
	return out
}
