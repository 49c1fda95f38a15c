package store

import (
	"fmt"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// seam is one place where the product meets the world outside of its process.
type seam int

const (
	seamFetch  seam = iota // the broker is asked for records
	seamCommit             // the group's offsets are committed
	seamTell               // findings and the detected position are delivered
	seamInsert             // a block is sent
	seamReach              // the server is asked up to where its rows reach
	seamLook               // the server is asked which rows it holds
	seamList               // the server is asked for running inserts
	seamKill               // the server is told to kill inserts
	numSeams
)

var seamNames = [numSeams]string{"fetch", "commit", "tell", "insert", "reach", "look", "list", "kill"}

// outcome is what happens at a crossing of a seam.
type outcome int

const (
	outOK          outcome = iota
	outFail                // nothing happened, and an error says so
	outLost                // it happened, but the answer was lost
	outVanish              // nothing happened, and nobody knows
	outShort               // fetch: one record; insert: some of the days only, and an error
	outCut                 // insert: the connection breaks, the server goes on with it and ends later
	outStray               // insert: the connection breaks, and the server begins with it later
	outDieBefore           // the process ends before it happens
	outDieAfter            // the process ends after it happened
	outPauseBefore         // the process stops before it happens, and goes on later
	outPauseAfter          // the process stops after it happened, and goes on later
	numOutcomes
)

var outcomeNames = [numOutcomes]string{"ok", "fail", "lost", "vanish", "short", "cut", "stray", "die before", "die after", "pause before", "pause after"}

// fault is what happens at the nth crossing of a seam by the processes of a slot.
type fault struct {
	Slot  int
	Seam  seam
	Nth   int
	What  outcome
	Delay time.Duration
}

func (f fault) String() string {
	return fmt.Sprintf("slot %d, %s %d: %s after %v", f.Slot, seamNames[f.Seam], f.Nth, outcomeNames[f.What], f.Delay)
}

// op is what the world does by itself.
type op int

const (
	opProduce   op = iota
	opWait         // nothing
	opKill         // the owner ends as by kill -9
	opPause        // the owner stops for a while, and the group gives its partitions away
	opHandOver     // the owner gives its partitions back in good order
	opExpel        // the group gives the partitions away while the owner still works
	opRejoin       // the owner gets its partitions again in a new generation
	opRetention    // the broker deletes the oldest records
	opOutage       // the server is away
	opCrash        // the server ends, inserts that run end with it, and comes back
	numOps
)

var opNames = [numOps]string{"produce", "wait", "kill", "pause", "hand over", "expel", "rejoin", "retention", "outage", "crash"}

// step is one deed of the world, and how long it then waits.
type step struct {
	Do   op
	Part int
	Make []kind        // produce
	For  time.Duration // how long the deed lasts: pause, outage, crash, notice
	Then time.Duration
}

func (s step) String() string {
	return fmt.Sprintf("%s partition %d %v for %v, then %v", opNames[s.Do], s.Part, s.Make, s.For, s.Then)
}

// kind is what a record is.
type kind int

const (
	kindGood       kind = iota
	kindBroken          // no event
	kindPair            // a CloudEvents batch: event, broken, event
	kindVoid            // an offset without a record, as control records leave them
	kindUnreadable      // a record whose checksum is wrong
	kindPoison          // an event that the server refuses for its content
	kindOld             // an event of the day before, as a broker whose clock was set stamps it
	kindAhead           // an event whose append time may be ahead of the reader's clock
	numKinds
)

var kindNames = [numKinds]string{"good", "broken", "pair", "void", "unreadable", "poison", "old", "ahead"}

func (k kind) String() string { return kindNames[k] }

// plan is one history, drawn before it is run, so that it shrinks.
type plan struct {
	Parts       int
	Window      int // inserts that the server remembers by their token
	MaxRows     int
	QueueBytes  int
	MaxFetch    int
	DetachAfter time.Duration
	Skew        [2]time.Duration // of the readers' clocks, by slot
	Steps       []step
	Faults      []fault
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d partitions, window %d, %d rows, %d bytes, %d records a fetch, detach after %v, skew %v\n",
		p.Parts, p.Window, p.MaxRows, p.QueueBytes, p.MaxFetch, p.DetachAfter, p.Skew)
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  step: %v\n", s)
	}
	for _, f := range p.Faults {
		fmt.Fprintf(&b, "  fault: %v\n", f)
	}
	return b.String()
}

// theme is a kind of history: which deeds it is made of, and where it breaks.
type theme struct {
	name  string
	ops   []op
	seams []seam
}

func themes() []theme {
	all := make([]op, numOps)
	for i := range all {
		all[i] = op(i)
	}
	every := make([]seam, numSeams)
	for i := range every {
		every[i] = seam(i)
	}
	return []theme{
		{"one owner", []op{opProduce, opProduce, opWait, opKill, opRejoin}, []seam{seamInsert, seamInsert, seamLook, seamReach, seamCommit, seamTell}},
		{"many owners", []op{opProduce, opProduce, opPause, opHandOver, opExpel, opKill, opOutage}, []seam{seamInsert, seamInsert, seamLook, seamList, seamCommit}},
		{"server away", []op{opProduce, opProduce, opOutage, opCrash, opRetention, opRejoin, opExpel}, []seam{seamInsert, seamFetch, seamLook, seamKill, seamTell}},
		{"everything", all, every},
	}
}

func drawPlan(t *rapid.T, th theme) plan {
	p := plan{
		Parts:       rapid.IntRange(1, 2).Draw(t, "partitions"),
		Window:      rapid.SampledFrom([]int{0, 1000, 2}).Draw(t, "window"),
		MaxRows:     rapid.SampledFrom([]int{1000, 20, 3}).Draw(t, "max rows"),
		QueueBytes:  rapid.SampledFrom([]int{1 << 20, 8 << 10}).Draw(t, "queue bytes"),
		MaxFetch:    rapid.SampledFrom([]int{40, 7, 1}).Draw(t, "max fetch"),
		DetachAfter: rapid.SampledFrom([]time.Duration{2 * time.Second, 50 * time.Millisecond}).Draw(t, "detach after"),
	}
	for i := range p.Skew {
		p.Skew[i] = rapid.SampledFrom([]time.Duration{0, 0, -30 * time.Second}).Draw(t, "skew")
	}
	p.Steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step { return drawStep(t, th, p.Parts) }), 1, 14).Draw(t, "steps")
	p.Faults = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) fault { return drawFault(t, th) }), 0, 10).Draw(t, "faults")
	return p
}

func drawStep(t *rapid.T, th theme, parts int) step {
	s := step{
		Do:   rapid.SampledFrom(th.ops).Draw(t, "op"),
		Part: rapid.IntRange(0, parts-1).Draw(t, "partition"),
		Then: drawDuration(t, "then", 3000),
	}
	if s.Do == opProduce {
		s.Make = rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 3*int(numKinds)), func(n int) kind {
			if n < int(numKinds) {
				return kind(n)
			}
			return kindGood
		}), 1, 40).Draw(t, "make")
		return s
	}
	s.For = drawDuration(t, "for", 25_000)
	return s
}

// drawDuration draws short times more often than long ones.
func drawDuration(t *rapid.T, label string, most int) time.Duration {
	top := rapid.SampledFrom([]int{most / 10, most, most / 100}).Draw(t, label+" at most")
	return time.Duration(rapid.IntRange(0, top).Draw(t, label)) * time.Millisecond
}

func drawFault(t *rapid.T, th theme) fault {
	f := fault{
		Slot: rapid.IntRange(0, 1).Draw(t, "slot"),
		Seam: rapid.SampledFrom(th.seams).Draw(t, "seam"),
		What: outcome(rapid.IntRange(int(outOK), int(numOutcomes)-1).Draw(t, "what")),
	}
	most := 8
	if f.Seam == seamFetch {
		most = 40
	}
	f.Nth = rapid.IntRange(0, most).Draw(t, "nth")
	f.Delay = drawDuration(t, "delay", 40_000)
	return f
}
