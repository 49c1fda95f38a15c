package ingest

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
)

// Doing is what the reader of a partition is at.
type Doing int32

// What a reader may be at, and waits for.
const (
	DoingRead    Doing = iota // an answer of the broker
	DoingFill                 // windows that are filled from what is stored
	DoingJudge                // decoding and detection
	DoingDeliver              // room in the queue of findings, which the journal makes
	DoingHand                 // storage
)

func (d Doing) String() string {
	switch d {
	case DoingFill:
		return "filling windows from what is stored"
	case DoingJudge:
		return "judging a batch"
	case DoingDeliver:
		return "delivering findings to the journal"
	case DoingHand:
		return "handing a batch to storage"
	}
	return "reading from Kafka"
}

// Progress tells whether a reader gets on.
type Progress struct {
	Doing Doing
	// Steps counts what was done: answers, batches judged, delivered, handed over.
	Steps int64
	// Troubles counts failures that came as an answer, or because nobody is there to
	// answer: they pass or are an operator's, and are no sign of being stuck.
	Troubles int64
	// Failure is what failed last since the last answer.
	Failure string
}

// progress is Progress as it changes.
type progress struct {
	doing    atomic.Int32
	steps    atomic.Int64
	troubles atomic.Int64
	failure  atomic.Pointer[string]
}

func (p *progress) does(d Doing) { p.doing.Store(int32(d)) }

func (p *progress) done() { p.steps.Add(1) }

// waited begins the time anew, without being a step.
func (p *progress) waited() { p.troubles.Add(1) }

// asked notes how a question to a server ended.
func (p *progress) asked(err error) {
	if err == nil {
		p.failure.Store(nil)
		p.done()
		return
	}
	text := err.Error()
	p.failure.Store(&text)
	if !silent(err) {
		p.troubles.Add(1)
	}
}

// silent reports that a question was not answered in time, by a server that may
// well be there.
func silent(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func (p *progress) read() Progress {
	out := Progress{Doing: Doing(p.doing.Load()), Steps: p.steps.Load(), Troubles: p.troubles.Load()}
	if f := p.failure.Load(); f != nil {
		out.Failure = *f
	}
	return out
}
