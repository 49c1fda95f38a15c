package simulate

import "github.com/keysentry/keysentry/event"

// arrivals are the events on their way to the broker, by the time at which they
// arrive. Events lie in slots that are used again; the heap holds their numbers.
type arrivals struct {
	slots []arrival
	free  []int32
	heap  []int32
	taken int32 // the slot that was handed out last, free at the next pop
	lent  bool
}

type arrival struct {
	ev       event.Event
	truth    Truth
	happened event.Instant
}

// count takes a hostile event in.
func (l *Label) count(a *arrival) {
	if l.Hostile++; l.Hostile == 1 || a.happened < l.First {
		l.FirstID, l.First = a.ev.ID, a.happened
	}
}

func (a *arrivals) push(e *event.Event, t Truth, happened event.Instant) {
	var k int32
	if n := len(a.free); n > 0 {
		k, a.free = a.free[n-1], a.free[:n-1]
	} else {
		k = int32(len(a.slots))
		a.slots = append(a.slots, arrival{})
	}
	s := &a.slots[k]
	s.ev, s.truth, s.happened = *e, t, happened
	a.heap = append(a.heap, k)
	for i := len(a.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !a.less(a.heap[i], a.heap[up]) {
			break
		}
		a.heap[i], a.heap[up] = a.heap[up], a.heap[i]
		i = up
	}
}

// less orders by arrival, and of two at one time by slot: any order will do that is
// always the same.
func (a *arrivals) less(x, y int32) bool {
	s, t := &a.slots[x], &a.slots[y]
	return s.ev.ObservedAt < t.ev.ObservedAt || s.ev.ObservedAt == t.ev.ObservedAt && x < y
}

// pop hands out the next event that arrives before a time, or nil; it is lent until
// the next call.
func (a *arrivals) pop(before event.Instant) *arrival {
	if a.lent {
		a.free, a.lent = append(a.free, a.taken), false
	}
	if len(a.heap) == 0 || a.slots[a.heap[0]].ev.ObservedAt >= before {
		return nil
	}
	k := a.heap[0]
	last := len(a.heap) - 1
	a.heap[0] = a.heap[last]
	a.heap = a.heap[:last]
	for i := 0; ; {
		small := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < last && a.less(a.heap[c], a.heap[small]) {
				small = c
			}
		}
		if small == i {
			break
		}
		a.heap[i], a.heap[small] = a.heap[small], a.heap[i]
		i = small
	}
	a.taken, a.lent = k, true
	return &a.slots[k]
}
