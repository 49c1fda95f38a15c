package store

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/event"
)

// model is one history: a broker, a server, and the processes of two slots that
// run the product's own pipeline, decoder and writer between them.
type model struct {
	plan   plan
	breach breach
	parts  []event.Partition
	work   sync.WaitGroup // everything that runs
	turn   chan struct{}  // held by whoever moves partitions from one process to another

	mu       sync.Mutex
	broker   *modelBroker
	server   *modelServer
	gen      int
	owner    *process
	procs    [2]*process
	faults   map[fault]fault // by slot, seam and number
	crossed  [2][numSeams]int
	calm     bool // no faults any more
	happened int
	inserted int
	blames   []string
}

// play runs a history and returns what was wrong with it.
func play(t *testing.T, pl plan, br breach) (blames []string) {
	synctest.Test(t, func(*testing.T) {
		time.Sleep(30 * 24 * time.Hour) // the bubble begins in 2000, records before which are refused
		m := &model{plan: pl, breach: br, turn: make(chan struct{}, 1), faults: map[fault]fault{}}
		for i := range pl.Parts {
			m.parts = append(m.parts, event.Partition{Topic: "auth.events", ID: int32(i)})
		}
		m.broker, m.server = newModelBroker(m), newModelServer(m)
		for _, f := range pl.Faults {
			m.faults[fault{Slot: f.Slot, Seam: f.Seam, Nth: f.Nth}] = f
		}
		for i, s := range pl.Steps {
			m.inTurn(func() { m.ensure(i % 2) })
			m.do(s)
			time.Sleep(s.Then)
		}
		m.settle()
		m.verify()
		for _, p := range m.procs {
			if p != nil {
				m.bury(p)
			}
		}
		m.work.Wait()
		blames = m.blames
	})
	return blames
}

// tick counts one happening. The caller holds the lock.
func (m *model) tick() int {
	m.happened++
	return m.happened
}

// blame notes that a promise was broken. The caller holds the lock.
func (m *model) blame(format string, args ...any) {
	if len(m.blames) < 8 {
		m.blames = append(m.blames, fmt.Sprintf(format, args...))
	}
}

// next is the fault of the next crossing of a seam by a process of the slot.
func (m *model) next(slot int, at seam) fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.crossed[slot][at]
	m.crossed[slot][at]++
	if m.calm {
		return fault{}
	}
	return m.faults[fault{Slot: slot, Seam: at, Nth: n}]
}

func (m *model) inTurn(f func()) {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	f()
}

func (m *model) owns(p *process) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return p != nil && m.owner == p && !p.dead
}

// ensure gives the partitions to a process of the slot when nobody has them.
func (m *model) ensure(slot int) {
	if !m.owns(m.owner) {
		m.take(slot)
	}
}

// take lets a process of the slot take the partitions over: the one that is
// there, if it has nothing else to finish, or a new one.
func (m *model) take(slot int) {
	p := m.procs[slot]
	if p != nil && !m.ready(p) {
		m.bury(p)
		p = nil
	}
	if p == nil {
		p = m.newProcess(slot)
		m.procs[slot] = p
	}
	m.lead(p)
}

func (m *model) ready(p *process) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.dead || p.gate != nil {
		return false
	}
	select {
	case <-p.session.closed:
		return true
	default:
		return false
	}
}

// bury kills a process and waits, elsewhere, until its goroutines have ended.
func (m *model) bury(p *process) {
	m.kill(p)
	select {
	case <-p.session.closed:
	default:
		m.work.Go(func() {
			<-p.session.done
			<-p.stopped
		})
	}
}

// expel gives the partitions to the other slot at once; the old owner learns of
// it after a while.
func (m *model) expel(p *process, notice time.Duration) {
	s := p.session
	m.take(1 - p.slot)
	m.work.Go(func() {
		time.Sleep(notice)
		if p.wait() == nil {
			m.end(s)
		}
	})
}

// do lets the world do one thing.
func (m *model) do(s step) {
	part := m.parts[s.Part]
	switch s.Do {
	case opProduce, opRetention:
		m.mu.Lock()
		defer m.mu.Unlock()
		if s.Do == opProduce {
			m.broker.produce(part, s.Make)
		} else {
			m.broker.cut(part)
		}
	case opOutage, opCrash:
		m.serve(true)
		if s.Do == opCrash {
			s.For /= 10
		}
		m.work.Go(func() {
			time.Sleep(s.For)
			m.serve(false)
		})
	case opKill:
		m.inTurn(func() { m.kill(m.owner) })
	case opPause:
		m.pause(m.owner, s.For)
	case opExpel:
		m.inTurn(func() {
			if p := m.owner; m.owns(p) {
				m.expel(p, s.For)
			}
		})
	case opHandOver, opRejoin:
		m.inTurn(func() { m.rebalance(s.Do == opRejoin) })
	}
}

// serve takes the server away, or brings it back.
func (m *model) serve(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.server.down = down; down {
		m.server.boot++
	}
}

// rebalanceTimeout is how long the group waits for an owner to give partitions
// back.
const rebalanceTimeout = 10 * time.Second

// rebalance asks the owner for its partitions and gives them to it again, or to
// the other slot.
func (m *model) rebalance(again bool) {
	p := m.owner
	if !m.owns(p) {
		return
	}
	s := p.session
	s.cancel()
	select {
	case <-s.done:
		again = again && m.owns(p)
	case <-time.After(rebalanceTimeout):
		again = false
	}
	if again {
		s.rejoins++
		m.run(s, true)
		return
	}
	m.end(s)
	m.take(1 - p.slot)
}

// settle ends all faults and waits until the last owner has stored everything.
func (m *model) settle() {
	m.serve(false)
	m.mu.Lock()
	m.calm = true
	for _, p := range m.procs {
		if p != nil {
			m.open(p)
		}
	}
	m.mu.Unlock()
	for range 300 {
		time.Sleep(time.Second)
		m.inTurn(func() { m.ensure(0) })
		if m.settled() {
			return
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blame("not all was stored within 300 s: committed %v", m.broker.committed)
}

func (m *model) settled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		if m.broker.committed[p] < m.broker.end(p) && m.broker.end(p) > 0 {
			return false
		}
	}
	return len(m.server.inserts) == 0
}

// checkStored blames when a row of offset o is missing. The caller holds the lock.
func (m *model) checkStored(p event.Partition, o int64, when string) {
	if m.broker.told(p, o) {
		return
	}
	for idx := range m.broker.log[p][o].kind.yields() {
		ref := event.Ref{Topic: p.Topic, Partition: p.ID, Offset: o, Idx: idx}
		if len(m.server.rows[ref]) == 0 {
			m.blame("%v (%v) is not stored: %s", ref, m.broker.log[p][o].kind, when)
		}
	}
}

// checkCopy blames when a second copy of a row comes that the protocol should have
// kept away. What remains is a copy that nobody could see: its insert reached the
// server only after the inserts that run there had been listed. The caller holds
// the lock.
func (m *model) checkCopy(ref event.Ref, r modelRow, earlier []modelRow) {
	by := r.by
	at := by.since[event.Partition{Topic: ref.Topic, ID: ref.Partition}]
	last := r.lastLook(ref, at)
	for _, e := range earlier {
		again := e.by.from == by.from && e.by.began < by.began
		listed := last.listed
		if listed < at || again && listed < e.by.left {
			listed = last.at // it did not list when it had to: then it had to see all at once
		}
		switch {
		case last.at == 0:
			m.blame("%v: stored again by an owner that never looked", ref)
		case again && last.at < e.by.left:
			m.blame("%v: sent again without a look after the first insert ended", ref)
		case e.landed < last.at:
			m.blame("%v: stored again, although the server held the first copy", ref)
		case e.by.arrived < listed:
			m.blame("%v: stored again, although the first insert was running", ref)
		}
	}
}

// lastLook is the last question about r that came before its insert and after at.
func (r modelRow) lastLook(ref event.Ref, at int) (last look) {
	for _, l := range r.by.from.looks {
		inside := l.part.ID == ref.Partition && l.span.from <= ref.Offset && ref.Offset <= l.span.to && l.span.min <= r.observed && r.observed <= l.span.max
		if inside && l.at > at && l.at < r.by.began {
			last = l
		}
	}
	return last
}

// verify checks the tables at the end: each record once, under FINAL.
func (m *model) verify() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		for o := m.broker.floor[p]; o < m.broker.end(p); o++ {
			m.checkStored(p, o, "at the end")
		}
	}
	for ref, copies := range m.server.rows {
		k := m.broker.kindAt(ref)
		if ref.Idx >= k.yields() {
			m.blame("%v: a row of a record that has %d", ref, k.yields())
		}
		user := modelUser(event.Partition{ID: ref.Partition}, ref.Offset)
		for _, r := range copies {
			// Two readers whose clocks differ may read a record from the future in two
			// ways; checkCopy has blamed what a look could have kept away.
			if k == kindAhead {
				continue
			}
			if r.table != copies[0].table || r.key != copies[0].key || r.observed != copies[0].observed {
				m.blame("%v: %+v and %+v do not fold", ref, *rowOf(copies[0]), *rowOf(r))
			}
			if slices.Contains(k.surely(), ref.Idx) && k != kindPoison && r.key != "shop request.unauthorized "+user {
				m.blame("%v: stored as %q", ref, r.key)
			}
		}
	}
}

func rowOf(r modelRow) *modelRow {
	r.by = nil
	return &r
}

// TestModelStoresExactlyOnce runs the product against a broker, a server and
// processes that fail at every step (docs/explanation/exactly-once.md). More
// histories: -rapid.checks=N.
func TestModelStoresExactlyOnce(t *testing.T) {
	t.Parallel()
	for _, th := range themes() {
		t.Run(th.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				pl := drawPlan(rt, th)
				if blames := play(t, pl, breach{}); len(blames) > 0 {
					rt.Fatalf("%s%q", pl, blames)
				}
			})
		})
	}
}
