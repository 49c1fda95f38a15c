package store

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/metrics"
)

// process is one life of the daemon: the real writer and, while it owns the
// partitions, the real pipeline. It meets the world at seams only. Its fields
// are guarded by the model's lock.
type process struct {
	m        *model
	slot     int
	dead     bool
	gate     chan struct{} // closed when it is woken; nil: it runs
	writer   *Writer
	stop     context.CancelFunc // of the writer
	stopped  chan struct{}
	session  *session
	listed   int // when it last asked for all running inserts, in happenings
	looks    []look
	assigned map[event.Partition]int // when the writer was told, in happenings
}

// look is a question to the server about the rows of a span.
type look struct {
	part   event.Partition
	span   span
	at     int
	listed int // of its process then
}

var (
	errDead = errors.New("the process has ended")
	errLost = errors.New("the answer was lost")
)

func (m *model) newProcess(slot int) *process {
	p := &process{m: m, slot: slot, stopped: make(chan struct{}), assigned: map[event.Partition]int{}}
	cfg := DefaultConfig()
	cfg.Insert.MaxRows, cfg.Insert.QueueBytes = m.plan.MaxRows, m.plan.QueueBytes
	p.writer = NewWriter(&Client{cfg: cfg, log: slog.New(slog.DiscardHandler), met: metrics.OrNew(nil)})
	p.writer.client, p.writer.conn = wrapped[tables](modelTables{p}, m.breach.wrapTables), wrapped[sender](modelSender{p}, m.breach.wrapSender)
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	m.work.Go(func() {
		defer close(p.stopped)
		_ = p.writer.Run(ctx)
	})
	return p
}

// wait returns when the process is not paused.
func (p *process) wait() error {
	for {
		p.m.mu.Lock()
		gate, dead := p.gate, p.dead
		p.m.mu.Unlock()
		if dead {
			return errDead
		}
		if gate == nil {
			return nil
		}
		<-gate
	}
}

// enter begins the crossing of a seam, up to the moment at which it happens. Each
// seam takes a time of its own, so that histories run the same way again.
func (p *process) enter(ctx context.Context, at seam) (fault, error) {
	f := p.m.next(p.slot, at)
	if f.What == outPauseBefore {
		p.m.pause(p, f.Delay)
	}
	if err := p.wait(); err != nil {
		return f, err
	}
	if err := pauseFor(ctx, time.Duration(10+int(at)*3+p.slot)*97*time.Microsecond); err != nil {
		return f, err
	}
	if f.What == outDieBefore {
		p.m.kill(p)
	}
	return f, p.wait()
}

// leave ends a crossing: the process hears of it.
func (p *process) leave(f fault) error {
	switch f.What {
	case outDieAfter:
		p.m.kill(p)
	case outPauseAfter:
		p.m.pause(p, f.Delay)
	}
	return p.wait()
}

// cross lets something happen at a seam, under the model's lock, as the plan says.
func (p *process) cross(ctx context.Context, at seam, do func(outcome) error) error {
	f, err := p.enter(ctx, at)
	if err != nil {
		return err
	}
	switch f.What {
	case outOK, outLost, outCut, outStray:
		if err := pauseFor(ctx, f.Delay); err != nil {
			return err
		}
		if err := p.wait(); err != nil {
			return err
		}
	}
	fails := at != seamTell
	p.m.mu.Lock()
	if fails && (f.What == outFail || f.What == outVanish) {
		err = errLost
	} else {
		err = do(f.What)
	}
	p.m.mu.Unlock()
	if gone := p.leave(f); gone != nil {
		return gone
	}
	if fails && err == nil && (f.What == outLost || f.What == outCut || f.What == outStray) {
		return errLost
	}
	return err
}

// pauseFor waits, or returns ctx's error when it ends first.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// looked notes that p knows which rows of a span are stored. The caller holds the
// model's lock.
func (p *process) looked(part event.Partition, s span) {
	p.looks = append(p.looks, look{part, s, p.m.tick(), p.listed})
}

// session is one leadership of a process: a pipeline and what it was shown.
type session struct {
	p        *process
	pipeline *ingest.Pipeline
	views    map[event.Partition]*view
	gen      int // of its newest run
	rejoins  int
	cancel   context.CancelFunc
	done     chan struct{} // closed when the run has ended
	closed   chan struct{} // closed when the partitions were given up
}

// view is what the session saw of p. The caller holds the model's lock.
func (s *session) view(p event.Partition) *view { return s.views[p] }

// detached reports whether storage reads p by itself.
func (s *session) detached(p event.Partition) bool {
	for _, st := range s.pipeline.Status() {
		if st.Partition == p {
			return st.Detached
		}
	}
	return false
}

// lead begins a session. The caller holds the turn.
func (m *model) lead(p *process) {
	s := &session{p: p, views: map[event.Partition]*view{}, closed: make(chan struct{})}
	cfg := ingest.DefaultConfig()
	cfg.DetachAfter = m.plan.DetachAfter
	decoder, err := ingest.NewDecoder(cfg, ingest.DecoderDeps{})
	if err == nil {
		s.pipeline, err = ingest.New(cfg, ingest.Deps{
			Source: wrapped[ingest.Source](modelSource{p}, m.breach.wrapSource), Writer: modelWriter{wrapped[ingest.EventWriter](p.writer, m.breach.wrapWriter), s},
			Detector: modelDetector{s}, Sink: modelSink{s}, Decoder: decoder,
			Now: func() time.Time { return time.Now().Add(m.plan.Skew[p.slot]) },
		})
	}
	if err != nil {
		panic(err)
	}
	m.mu.Lock()
	p.session = s
	for _, part := range m.parts {
		start, known := m.broker.detected[part]
		if !known {
			start = m.broker.committed[part]
		}
		s.views[part] = &view{m: m, part: part, start: start, seen: map[event.Ref]bool{}}
	}
	m.mu.Unlock()
	m.run(s, false)
}

// run gives the partitions to a session in a new generation. The caller holds the
// turn.
func (m *model) run(s *session, resume bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gen++
	m.owner, s.gen = s.p, m.gen
	a := ingest.Assignment{Committed: maps.Clone(m.broker.committed), Detected: maps.Clone(m.broker.detected), Resume: resume,
		Committer: wrapped(modelCommitter{s.p, m.gen}, m.breach.wrapCommits)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.cancel, s.done = cancel, done
	m.work.Go(func() {
		defer close(done)
		if err := s.pipeline.Run(ctx, a); err != nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			if !s.p.dead {
				m.blame("run: %v", err)
			}
		}
	})
}

// end stops a session in order and lets its process give the partitions up.
func (m *model) end(s *session) {
	s.cancel()
	m.work.Go(func() {
		<-s.done
		s.pipeline.Close()
		close(s.closed)
	})
}

// kill ends a process: nothing that it does reaches the world any more.
func (m *model) kill(p *process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.dead {
		return
	}
	p.dead = true
	m.open(p)
	p.stop()
	if s := p.session; s != nil {
		s.cancel()
	}
}

// open lets a paused process go on. The caller holds the lock.
func (m *model) open(p *process) {
	if p.gate != nil {
		close(p.gate)
		p.gate = nil
	}
}

// sessionTimeout is how long the group waits for a member that does not answer.
const sessionTimeout = 6 * time.Second

// pause stops a process for d. When it lasts, the group gives its partitions to
// another one meanwhile, and it learns of that after it was woken.
func (m *model) pause(p *process, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.gate != nil || p.dead || m.calm {
		return
	}
	gate := make(chan struct{})
	p.gate = gate
	m.work.Go(func() {
		time.Sleep(min(d, sessionTimeout))
		if d > sessionTimeout {
			m.inTurn(func() {
				if m.owns(p) {
					m.expel(p, d-sessionTimeout+time.Second)
				}
			})
			time.Sleep(d - sessionTimeout)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if p.gate == gate {
			m.open(p)
		}
	})
}
