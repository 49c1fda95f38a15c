package detect

import (
	"hash/maphash"
	"time"

	"github.com/keysentry/keysentry/event"
)

// placeMemory remembers from which networks tokens were minted and sessions opened
// lately, per tenant. Rules that ask for networks that were never seen look only at
// what it lets through, a few events in a thousand. It holds the latest networks in
// two generations, and is not kept over a restart.
type placeMemory struct {
	seed       maphash.Seed
	young, old map[uint64]placeSeen
	began      event.Instant // 0: nothing was seen
}

type placeSeen struct {
	first, last event.Instant // first is 0 when it was known from the beginning
}

const (
	// maxPlaces bounds one generation.
	maxPlaces = 65_536
	// placeHour is after which time a network is shown to the rules again, and how
	// long it is young.
	placeHour = time.Hour
	// placeWarm is how long all networks are taken for known at the beginning.
	placeWarm = 10 * time.Minute
)

func newPlaceMemory() *placeMemory {
	return &placeMemory{seed: maphash.MakeSeed(), young: map[uint64]placeSeen{}}
}

func (m *placeMemory) get(ev *event.Event) (k uint64, p placeSeen, known bool) {
	k = maphash.String(m.seed, ev.SourceNet) ^ maphash.String(m.seed, ev.Network)*0x9e3779b97f4a7c15 ^ uint64(ev.Type)
	p, known = m.young[k]
	if !known {
		p, known = m.old[k]
	}
	return k, p, known
}

// counts reports whether the event is one by which networks are known.
func (m *placeMemory) counts(ev *event.Event) bool {
	return ev.SourceNet != "" && (ev.Type == event.TypeAuthTokenIssued || ev.Type == event.TypeSessionCreated)
}

// traits says whether the network is new, or has not been seen for an hour.
func (m *placeMemory) traits(ev *event.Event) event.Traits {
	if !m.counts(ev) {
		return 0
	}
	_, p, known := m.get(ev)
	if !known {
		if m.began == 0 || ev.TS.Sub(m.began) < placeWarm {
			return event.TraitFreshNetwork
		}
		return event.TraitFreshNetwork | event.TraitYoungNetwork
	}
	var t event.Traits
	if ev.TS.Sub(p.last) >= placeHour {
		t = event.TraitFreshNetwork
	}
	if p.first != 0 && ev.TS.Sub(p.first) < placeHour {
		t |= event.TraitYoungNetwork
	}
	return t
}

// saw takes in a mint or a session. The last time moves once an hour only, with
// what is shown to the rules.
func (m *placeMemory) saw(ev *event.Event) {
	if !m.counts(ev) {
		return
	}
	if m.began == 0 {
		m.began = ev.TS
	}
	k, p, known := m.get(ev)
	if known && ev.TS.Sub(p.last) < placeHour {
		if _, young := m.young[k]; young {
			return
		}
	} else {
		p.last = ev.TS
	}
	if !known && ev.TS.Sub(m.began) >= placeWarm {
		p.first = ev.TS
	}
	if len(m.young) >= maxPlaces {
		m.young, m.old = make(map[uint64]placeSeen, maxPlaces), m.young
	}
	m.young[k] = p
}
