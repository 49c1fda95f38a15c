package correlate

import (
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// window is the state of one group under one rule whose windows look back.
type window interface {
	// arrive takes an observation in as it comes, in any order, and reports
	// whether the condition surely holds in the window that ends at newest, the
	// newest ts that arrived. It may miss that; it never invents it.
	arrive(s *spec, o *obs, newest event.Instant) bool
	// newest is the value that arrive compared last.
	newest(s *spec) float64
	// add takes an observation in, in order; a late one may come out of order.
	add(s *spec, o *obs)
	// judge evaluates the window that ends at t.
	judge(s *spec, t event.Instant) (value float64, ok bool)
	// size is the estimated memory.
	size() int
}

// approximator is a window that may stop being exact.
type approximator interface{ approximate() bool }

// newWindow makes the window of a rule that looks back.
func newWindow(s *spec) window {
	switch s.typ {
	case rules.EventCount:
		if s.need == 1 {
			return always{}
		}
		return &countWindow{}
	case rules.ValueCount:
		if s.need == 1 {
			return always{}
		}
		return &valueWindow{}
	case rules.Temporal:
		return newTemporal(s)
	case rules.TemporalOrdered:
		return newOrdered(s)
	case rules.EventRatio:
		return &ratioWindow{}
	case rules.FirstSeen:
		return &seenWindow{known: map[uint64]*seenValue{}, since: never, last: never, doubt: s.lost}
	case rules.Absence:
		return &absentWindow{a: never, b: never}
	case rules.RateAnomaly:
		return newRate()
	}
	return &measureWindow{}
}

// always is the window of a condition that any event satisfies.
type always struct{}

func (always) arrive(*spec, *obs, event.Instant) bool     { return true }
func (always) newest(*spec) float64                       { return 1 }
func (always) add(*spec, *obs)                            {}
func (always) judge(*spec, event.Instant) (float64, bool) { return 1, true }
func (always) size() int                                  { return 0 }

// countWindow is event_count with gte: the latest times, as many as the
// condition needs, once as they arrive and once in order.
type countWindow struct {
	early, exact latest
}

func (w *countWindow) arrive(s *spec, o *obs, newest event.Instant) bool {
	w.early.add(o.ts, s.need)
	return w.early.reaches(s.need, newest-s.span)
}

func (w *countWindow) newest(s *spec) float64 { return float64(len(w.early.times)) }

func (w *countWindow) add(s *spec, o *obs) { w.exact.add(o.ts, s.need) }

func (w *countWindow) judge(s *spec, t event.Instant) (float64, bool) {
	return float64(len(w.exact.times)), w.exact.reaches(s.need, t-s.span)
}

func (w *countWindow) size() int { return 64 + 8*(cap(w.early.times)+cap(w.exact.times)) }

// latest holds the n latest times, in a ring once it is full.
type latest struct {
	times []event.Instant
	at    int32 // the oldest, once full
}

// add takes t in; of more than n the oldest is forgotten.
func (l *latest) add(t event.Instant, n int) {
	k := len(l.times)
	if k < n {
		// Not full: at is 0 and the slice is in order.
		l.times = append(l.times, t)
		for i := k; i > 0 && l.times[i-1] > t; i-- {
			l.times[i], l.times[i-1] = l.times[i-1], t
		}
		return
	}
	i := int(l.at)
	if t <= l.times[i] {
		return
	}
	// The oldest gives its place to t, which then sinks to where it belongs.
	l.times[i] = t
	l.at = int32((i + 1) % k)
	for i != int(l.at) {
		before := (i + k - 1) % k
		if l.times[before] <= t {
			return
		}
		l.times[i], l.times[before] = l.times[before], t
		i = before
	}
}

// reaches reports whether n times are at or after from.
func (l *latest) reaches(n int, from event.Instant) bool {
	return len(l.times) >= n && l.times[l.at] >= from
}

// valueWindow is value_count with gte: the latest values, as many as the
// condition needs, each with its latest time.
type valueWindow struct {
	early, exact values
}

func (w *valueWindow) arrive(s *spec, o *obs, newest event.Instant) bool {
	w.early.add(o.val, o.ts, s.need)
	return w.early.reaches(s.need, newest-s.span)
}

func (w *valueWindow) newest(s *spec) float64 { return float64(len(w.early.nodes)) }

func (w *valueWindow) add(s *spec, o *obs) { w.exact.add(o.val, o.ts, s.need) }

func (w *valueWindow) judge(s *spec, t event.Instant) (float64, bool) {
	return float64(len(w.exact.nodes)), w.exact.reaches(s.need, t-s.span)
}

func (w *valueWindow) size() int {
	return 96 + 24*(cap(w.early.nodes)+cap(w.exact.nodes)) + 24*(len(w.early.index)+len(w.exact.index))
}

// values holds the n values with the latest times, as a list from the latest to
// the oldest.
type values struct {
	nodes         []node
	index         map[uint64]int32 // place of a value, once there are many
	front, oldest int32
}

type node struct {
	val        uint64
	ts         event.Instant
	next, prev int32 // towards older, towards newer; -1 at the ends
}

// indexFrom is the number of values from which a map beats looking at each.
const indexFrom = 12

// add takes a value in; of more than n the one with the oldest time is
// forgotten.
func (v *values) add(val uint64, ts event.Instant, n int) {
	i, ok := v.find(val)
	switch {
	case ok:
		if ts <= v.nodes[i].ts {
			return
		}
		v.unlink(i)
	case len(v.nodes) < n:
		i = int32(len(v.nodes))
		v.nodes = append(v.nodes, node{})
		if i == 0 {
			v.front, v.oldest = -1, -1
		}
	default:
		i = v.oldest
		if ts <= v.nodes[i].ts {
			return
		}
		v.unlink(i)
		delete(v.index, v.nodes[i].val)
	}
	v.nodes[i].val, v.nodes[i].ts = val, ts
	v.insert(i)
	if v.index != nil {
		v.index[val] = i
	} else if len(v.nodes) >= indexFrom {
		v.index = make(map[uint64]int32, 2*indexFrom)
		for j := range v.nodes {
			v.index[v.nodes[j].val] = int32(j)
		}
	}
}

func (v *values) find(val uint64) (int32, bool) {
	if v.index != nil {
		i, ok := v.index[val]
		return i, ok
	}
	for i := range v.nodes {
		if v.nodes[i].val == val {
			return int32(i), true
		}
	}
	return 0, false
}

func (v *values) unlink(i int32) {
	n := &v.nodes[i]
	if n.prev >= 0 {
		v.nodes[n.prev].next = n.next
	} else {
		v.front = n.next
	}
	if n.next >= 0 {
		v.nodes[n.next].prev = n.prev
	} else {
		v.oldest = n.prev
	}
}

// insert links node i where its time belongs; in order that is the front.
func (v *values) insert(i int32) {
	n := &v.nodes[i]
	newer, at := int32(-1), v.front
	for at >= 0 && v.nodes[at].ts > n.ts {
		newer, at = at, v.nodes[at].next
	}
	n.prev, n.next = newer, at
	if newer >= 0 {
		v.nodes[newer].next = i
	} else {
		v.front = i
	}
	if at >= 0 {
		v.nodes[at].prev = i
	} else {
		v.oldest = i
	}
}

// reaches reports whether n values have a time at or after from.
func (v *values) reaches(n int, from event.Instant) bool {
	return len(v.nodes) >= n && v.nodes[v.oldest].ts >= from
}
