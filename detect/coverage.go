package detect

import (
	"strings"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// coverage knows what share of the events of a network was seen, minute by
// minute, from the running numbers that hosts give them: a number that is skipped
// is an event that is missing, until it comes late. It is safe for concurrent
// use, because the correlator asks while other partitions are read.
type coverage struct {
	// asked: some rule has a min_coverage. Nothing is counted for nobody.
	asked bool
	mu    sync.Mutex
	limit int
	hosts map[hostName]*numbering
	nets  map[string]*coveredMinutes
}

// numbering is the run of numbers of one process of a host.
type numbering struct {
	boot string
	last uint64
	seen event.Instant
}

// coveredMinutes are the latest minutes of one network, by minute modulo their
// number.
type coveredMinutes struct {
	ring [coverageMinutes]coveredMinute
}

type coveredMinute struct {
	minute         int64
	expected, seen uint32
}

// coverageMinutes is how far back coverage is known: two days.
const coverageMinutes = 2 * 24 * 60

// maxSkipped bounds how many missing events one number can tell of.
const maxSkipped = 1 << 20

func newCoverage(limit int) *coverage {
	return &coverage{limit: limit, hosts: map[hostName]*numbering{}, nets: map[string]*coveredMinutes{}}
}

// saw takes in an event; one without a number says nothing.
func (c *coverage) saw(e *event.Event) {
	if !c.asked || e.Host == "" || e.Boot == "" || !e.Present.Has(event.FieldSeq) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[hostName{e.Network, e.Host}]
	if h == nil {
		if len(c.hosts) >= c.limit {
			c.forget(e.TS)
		}
		if len(c.hosts) >= c.limit {
			return
		}
		h = &numbering{}
		c.hosts[hostName{strings.Clone(e.Network), strings.Clone(e.Host)}] = h
	}
	expected := uint32(1)
	switch {
	case h.boot != e.Boot:
		h.boot, h.last = strings.Clone(e.Boot), e.Seq
	case e.Seq > h.last:
		expected = uint32(min(e.Seq-h.last, maxSkipped))
		h.last = e.Seq
	default:
		expected = 0 // late: it was counted as missing
	}
	h.seen = max(h.seen, e.TS)
	m := c.at(e.Network, e.TS)
	m.expected += expected
	m.seen++
}

// forget drops hosts that were silent for an hour.
func (c *coverage) forget(now event.Instant) {
	for n, h := range c.hosts {
		if now.Sub(h.seen) > time.Hour {
			delete(c.hosts, n)
		}
	}
}

func (c *coverage) at(network string, ts event.Instant) *coveredMinute {
	net := c.nets[network]
	if net == nil {
		net = &coveredMinutes{}
		c.nets[strings.Clone(network)] = net
	}
	minute := int64(ts) / int64(time.Minute)
	m := &net.ring[(minute%coverageMinutes+coverageMinutes)%coverageMinutes]
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
	c.mu.Lock()
	defer c.mu.Unlock()
	network := ""
	for _, p := range group {
		if p.Field == event.FieldNetwork.String() {
			network = p.Value
		}
	}
	var expected, seen uint64
	for name, net := range c.nets {
		if network != "" && name != network {
			continue
		}
		for minute := int64(from) / int64(time.Minute); minute <= int64(to)/int64(time.Minute); minute++ {
			if m := net.ring[(minute%coverageMinutes+coverageMinutes)%coverageMinutes]; m.minute == minute {
				expected += uint64(m.expected)
				seen += uint64(m.seen)
			}
		}
	}
	if expected == 0 || to.Sub(from) > (coverageMinutes-60)*time.Minute {
		return 0, false
	}
	return min(float64(seen)/float64(expected), 1), true
}
