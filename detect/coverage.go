package detect

import (
	"strings"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// coverage knows what share of the events of a network was seen, minute by
// minute, from the running numbers that each process of a host gives them: a
// number that is skipped is an event that is missing, until it comes late. It
// counts as the table coverage does, in the minute of the next number that came.
// A host that is silent adds nothing: what it did not say is unknown, not a
// number. It is safe for concurrent use, because the correlator asks while other
// partitions are read.
type coverage struct {
	mu        sync.Mutex
	limit     int
	lines     map[lineName]*numbering
	nets      map[string]*coveredMinutes
	forgotten event.Instant // when there was last no room, and the silent were forgotten
	untracked uint64        // events for which there was no room
}

// lineName names who numbers: one process of a host.
type lineName struct{ network, host, boot string }

// numbering is how far a process has come.
type numbering struct {
	last uint64
	seen event.Instant
	net  *coveredMinutes
}

// coveredMinutes are the latest minutes of one network, by minute modulo their
// number.
type coveredMinutes struct {
	since int64 // the first minute that was counted
	ring  [coverageMinutes]coveredMinute
}

type coveredMinute struct {
	minute         int64
	expected, seen uint32
}

// coverageMinutes is how far back coverage is known: two days.
const coverageMinutes = 2 * 24 * 60

// maxSkipped bounds how many missing events one number can tell of.
const maxSkipped = 1 << 20

// maxCovered bounds the networks, of which each takes 46 kB: their names come
// from events.
const maxCovered = 2048

// knownFor is for how many minutes a network must be known before the numbers that a new
// process gave before its first one count as missing: a process that began
// earlier would have spoken in that time.
const knownFor = 10

func newCoverage(limit int) *coverage {
	return &coverage{limit: limit, lines: map[lineName]*numbering{}, nets: map[string]*coveredMinutes{}}
}

// saw takes in an event; one without a number says nothing.
func (c *coverage) saw(e *event.Event) {
	if e.Seq == 0 || e.Host == "" || e.Boot == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	minute := int64(e.TS) / int64(time.Minute)
	h := c.lines[lineName{e.Network, e.Host, e.Boot}]
	if h == nil {
		if h = c.begin(e, minute); h == nil {
			c.untracked++
			return
		}
	}
	m := h.net.at(minute)
	if e.Seq > h.last { // else it is late, and was counted as missing
		m.expected += uint32(min(e.Seq-h.last, maxSkipped))
		h.last = e.Seq
	}
	m.seen++
	h.seen = max(h.seen, e.TS)
}

// begin makes room for a process; nil when there is none.
func (c *coverage) begin(e *event.Event, minute int64) *numbering {
	if len(c.lines) >= c.limit && e.TS.Sub(c.forgotten) > time.Minute { // not for each event of a flood
		c.forgotten = e.TS
		c.forget(e.TS)
	}
	net := c.nets[e.Network]
	if len(c.lines) >= c.limit || net == nil && len(c.nets) >= maxCovered {
		return nil
	}
	if net == nil {
		net = &coveredMinutes{since: minute}
		c.nets[strings.Clone(e.Network)] = net
	}
	h := &numbering{net: net}
	if net.since > minute-knownFor {
		h.last = e.Seq - 1
	}
	c.lines[lineName{strings.Clone(e.Network), strings.Clone(e.Host), strings.Clone(e.Boot)}] = h
	return h
}

// forget drops processes that were silent for an hour.
func (c *coverage) forget(now event.Instant) {
	for n, h := range c.lines {
		if now.Sub(h.seen) > time.Hour {
			delete(c.lines, n)
		}
	}
}

func (n *coveredMinutes) at(minute int64) *coveredMinute {
	m := &n.ring[(minute%coverageMinutes+coverageMinutes)%coverageMinutes]
	switch {
	case m.minute > minute:
		return &coveredMinute{} // two days late
	case m.minute < minute:
		*m = coveredMinute{minute: minute}
	}
	return m
}

// ofGroup is the share of the events of the group's network, or of all networks,
// that was seen in the minutes of [from, to]; false when no host numbers its
// events, or when from lies farther back than is known.
func (c *coverage) ofGroup(group []finding.Pair, from, to event.Instant) (float64, bool) {
	network := ""
	for _, p := range group {
		if p.Field == event.FieldNetwork.String() {
			network = p.Value
		}
	}
	share, _, ok := c.of(network, from, to)
	return share, ok
}

// ofFinding is what a finding says of its time: nil when a part of it lies before
// anything was counted, so that it never says more than is known.
func (c *coverage) ofFinding(f *finding.Finding) *float64 {
	from := min(f.First, f.Last.Add(-time.Duration(f.Window)))
	share, whole, ok := c.of(f.Subject.Network, from, max(f.Last, f.First))
	if !ok || !whole {
		return nil
	}
	return &share
}

// of is the share of a network's events, or of all when it has no name, and
// whether it was counted since before from.
func (c *coverage) of(network string, from, to event.Instant) (share float64, whole, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to.Sub(from) > (coverageMinutes-60)*time.Minute {
		return 0, false, false
	}
	first, last := int64(from)/int64(time.Minute), int64(to)/int64(time.Minute)
	var expected, seen uint64
	whole = true
	add := func(net *coveredMinutes) {
		whole = whole && net.since <= first
		for minute := first; minute <= last; minute++ {
			if m := net.ring[(minute%coverageMinutes+coverageMinutes)%coverageMinutes]; m.minute == minute {
				expected += uint64(m.expected)
				seen += uint64(m.seen)
			}
		}
	}
	if network == "" {
		for _, net := range c.nets {
			add(net)
		}
	} else if net := c.nets[network]; net != nil {
		add(net)
	}
	if expected == 0 {
		return 0, false, false
	}
	return min(float64(seen)/float64(expected), 1), whole, true
}

// lost is how many numbered events there was no room to count.
func (c *coverage) lost() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.untracked
}
