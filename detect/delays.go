package detect

import (
	"math/bits"
	"strings"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// delays measures how long after its time a mint's record arrives, per network, so
// that a session is not called an orphan while its mint is under way. It looks back
// five to ten minutes.
type delays struct {
	mu   sync.Mutex // taken last
	nets map[string]*delay
}

// delay counts records by the power of two of their seconds, in two generations.
type delay struct {
	young, old [delaySteps]uint32
	since      event.Instant
}

const (
	delaySteps = 12
	delaySpan  = 5 * time.Minute
	// maxDelayNets bounds the networks that are measured.
	maxDelayNets = 10_000
)

func newDelays() *delays { return &delays{nets: map[string]*delay{}} }

// saw takes in a mint.
func (d *delays) saw(ev *event.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nets[ev.Network]
	if n == nil {
		if len(d.nets) >= maxDelayNets {
			return
		}
		n = &delay{since: ev.ObservedAt}
		d.nets[strings.Clone(ev.Network)] = n
	}
	if ev.ObservedAt.Sub(n.since) > delaySpan {
		n.old, n.young, n.since = n.young, [delaySteps]uint32{}, ev.ObservedAt
	}
	seconds := max(ev.ObservedAt.Sub(ev.TS), 0) / time.Second
	n.young[min(bits.Len64(uint64(seconds)), delaySteps-1)]++
}

// ofGroup is the time within which 999 of 1,000 mints of the group's network have
// arrived lately, as the next power of two of seconds; zero when nothing is known.
func (d *delays) ofGroup(group []finding.Pair) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range group {
		if n := d.nets[p.Value]; p.Field == event.FieldNetwork.String() && n != nil {
			return n.most()
		}
	}
	return 0
}

func (n *delay) most() time.Duration {
	var all uint64
	for i := range n.young {
		all += uint64(n.young[i]) + uint64(n.old[i])
	}
	var below uint64
	for i := range n.young {
		if below += uint64(n.young[i]) + uint64(n.old[i]); all > 0 && below*1000 >= all*999 {
			return time.Duration(1<<i) * time.Second
		}
	}
	return 0
}
