package detect

import (
	"hash/maphash"
	"net/netip"

	"github.com/keysentry/keysentry/event"
)

// sequences finds mints for users whose numbers follow each other: somebody walks
// through the accounts. It remembers the latest callers, in two generations.
type sequences struct {
	seed       maphash.Seed
	young, old map[caller]run
	need       int
}

// caller is who uses a key.
type caller struct {
	key    uint64 // hash of network and key
	source netip.Addr
}

// run is how far a caller has walked.
type run struct {
	stem uint64 // hash of the name without its number
	top  uint64 // highest number so far
	n    int
}

const (
	// maxCallers bounds one generation.
	maxCallers = 8192
	// maxStride is how far the next number may be ahead, and how far behind the
	// highest one a caller that works in parallel may fall.
	maxStride = 8
)

func newSequences(cfg Config) *sequences {
	return &sequences{seed: maphash.MakeSeed(), young: map[caller]run{}, need: cfg.SequenceLength}
}

// splitNumber splits a name into its stem and the number at its end, of at most 18
// digits.
func splitNumber(name string) (stem string, n uint64, ok bool) {
	i, scale := len(name), uint64(1)
	for i > 0 && len(name)-i < 18 && name[i-1] >= '0' && name[i-1] <= '9' {
		i--
		n += uint64(name[i]-'0') * scale
		scale *= 10
	}
	return name[:i], n, i < len(name)
}

func (s *sequences) caller(ev *event.Event) caller {
	return caller{maphash.String(s.seed, ev.KeyID) ^ maphash.String(s.seed, ev.Network)*0x9e3779b97f4a7c15, ev.SourceIP}
}

func (s *sequences) get(c caller) (run, bool) {
	r, ok := s.young[c]
	if !ok {
		r, ok = s.old[c]
	}
	return r, ok
}

// next is the run of the event's caller with the event; false when the event is
// none that counts.
func (s *sequences) next(ev *event.Event) (run, bool) {
	stem, n, ok := splitNumber(ev.UserID)
	if !ok || !ev.SourceIP.IsValid() {
		return run{}, false
	}
	r, known := s.get(s.caller(ev))
	h := maphash.String(s.seed, stem)
	switch {
	case known && h == r.stem && n > r.top && n-r.top <= maxStride:
		r.top, r.n = n, r.n+1
	case known && h == r.stem && n <= r.top && r.top-n <= maxStride:
	default:
		r = run{stem: h, top: n, n: 1}
	}
	return r, true
}

// traits says whether the mint is part of a walk. A service with a schedule, such
// as a nightly job, may walk.
func (s *sequences) traits(ev *event.Event, scheduled bool) event.Traits {
	if scheduled {
		return 0
	}
	if r, ok := s.next(ev); ok && r.n >= s.need {
		return event.TraitUserSequence
	}
	return 0
}

// saw takes in a mint.
func (s *sequences) saw(ev *event.Event) {
	r, ok := s.next(ev)
	if !ok {
		return
	}
	if len(s.young) >= maxCallers {
		s.old, s.young = s.young, make(map[caller]run, maxCallers)
	}
	s.young[s.caller(ev)] = r
}
