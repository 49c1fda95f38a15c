package ingest

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// Pipeline reads the partitions it is assigned, shows every event to detection
// first and to storage second, and commits what storage acknowledged. Package
// documentation in doc.go says how the two stay in step.
type Pipeline struct {
	cfg Config
	Deps
	m    *pipelineMetrics
	seal sealer // of verdicts

	// unsent is what Tick found and nobody has taken yet. It is tick's, and survives
	// between Runs as detection tells it once.
	unsent []finding.Finding

	mu    sync.Mutex
	parts map[event.Partition]*partition // survives between Runs
}

// Deps is what a Pipeline works with; all but Verdicts, Log, Metrics and Now are
// needed.
type Deps struct {
	Source   Source
	Writer   EventWriter
	Detector Detector
	Sink     FindingSink
	Decoder  *Decoder
	// Verdicts keeps causes while storage is behind, signed with VerdictKey. nil:
	// what storage reads again is decided anew.
	Verdicts   VerdictLog
	VerdictKey secret.Value

	Now     func() time.Time // the reader's clock; nil: time.Now
	Log     *slog.Logger
	Metrics *metrics.Registry
}

// Assignment is what one generation of the consumer group was given.
type Assignment struct {
	// Committed holds every assigned partition with its committed offset: what
	// storage has below it is safe. Below zero: none yet, begin at the start.
	Committed map[event.Partition]int64
	// Detected is how far detection had got, as journaled; a partition without an
	// entry begins at its committed offset.
	Detected map[event.Partition]int64
	// Clocks are the clock estimates that were checkpointed.
	Clocks    map[event.Partition]offset.Snapshot
	Committer Committer
	// Resume says that the same member has its partitions again: state and
	// positions that this Pipeline holds are newer than the maps above.
	Resume bool
}

// Status is how far one partition is.
type Status struct {
	Partition event.Partition
	// Live is the next offset that detection reads, Stored that below which all
	// is durable, End the partition's high watermark.
	Live, Stored, End int64
	// Observed is the end of what detection was shown live, zero before the first
	// batch. What it found below may not be delivered yet: Live says how far that
	// is.
	Observed int64
	// Ready says that the windows are filled and detection is live.
	Ready bool
	// Detached says that storage re-reads the partition by itself.
	Detached bool
	// Running says that a Run works on the partition.
	Running bool
	// Progress is that of its reader; StoreFailure what storage failed at last.
	Progress     Progress
	StoreFailure string
}

// New returns a Pipeline that does nothing yet.
func New(cfg Config, d Deps) (*Pipeline, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if d.Source == nil || d.Writer == nil || d.Detector == nil || d.Sink == nil || d.Decoder == nil {
		return nil, errors.New("ingest: source, writer, detector, sink and decoder are needed")
	}
	if d.Verdicts != nil && d.VerdictKey.Empty() {
		return nil, errors.New("ingest: verdicts cannot be signed without a key")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Pipeline{cfg: cfg, Deps: d, m: newPipelineMetrics(metrics.OrNew(d.Metrics)), seal: newSealer(d.VerdictKey), parts: map[event.Partition]*partition{}}, nil
}

// Run works on one assignment until ctx ends, and returns nil then; an error
// says why it ended earlier. Before it returns every goroutine has ended, inserts
// in flight were awaited for at most StopTimeout, and what they acknowledged is
// committed. It must not run twice at the same time.
func (p *Pipeline) Run(ctx context.Context, a Assignment) error {
	parts := p.assign(a)
	run, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	// drain outlives run by StopTimeout, for inserts in flight.
	drain, stopDrain := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDrain()
	defer context.AfterFunc(run, func() { time.AfterFunc(p.cfg.StopTimeout, stopDrain) })()

	var readers, stores, committer sync.WaitGroup
	guard := func(f func() error) func() {
		return func() {
			if err := f(); err != nil && run.Err() == nil {
				fail(err)
			}
		}
	}
	share := p.cfg.ReplayMaxEvents / int64(max(1, len(parts)))
	filled := make(chan struct{})
	readers.Go(func() {
		defer close(filled)
		p.fillStored(run, parts)
	})
	for _, part := range parts {
		readers.Go(guard(func() error { return part.read(run, share, filled) }))
		stores.Go(guard(func() error { return part.store(run, drain) }))
	}
	readers.Go(guard(func() error { return p.tick(run) }))
	stored := make(chan struct{})
	committer.Go(func() { p.commit(run, stored, parts, a) })
	readers.Wait()
	stores.Wait()
	close(stored)
	p.tellRest(ctx, parts)
	committer.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(run)
}

// Close gives up every partition. No Run may be active.
func (p *Pipeline) Close() {
	for _, part := range p.leaving(Assignment{}) {
		part.close()
	}
}

// Status tells how far every partition is.
func (p *Pipeline) Status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Status, 0, len(p.parts))
	for _, part := range p.parts {
		out = append(out, part.status())
	}
	slices.SortFunc(out, func(a, b Status) int {
		return event.Ref{Topic: a.Partition.Topic, Partition: a.Partition.ID}.Compare(
			event.Ref{Topic: b.Partition.Topic, Partition: b.Partition.ID})
	})
	return out
}

// Clocks returns the clock estimates to checkpoint; each is at most a minute
// older than the partition's position.
func (p *Pipeline) Clocks() map[event.Partition]offset.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[event.Partition]offset.Snapshot, len(p.parts))
	for id, part := range p.parts {
		if s := part.snapshot.Load(); s != nil {
			out[id] = *s
		}
	}
	return out
}

// assign keeps, makes and gives up partitions as the assignment says, and tells
// the detector when the set changed.
func (p *Pipeline) assign(a Assignment) []*partition {
	changed := !a.Resume
	for _, part := range p.leaving(a) {
		part.close() // may wait for an insert, so not under the lock
		changed = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, committed := range a.Committed {
		if _, ok := p.parts[id]; !ok {
			p.parts[id] = newPartition(p, id, committed, a)
			changed = true
		}
	}
	ids := slices.SortedFunc(maps.Keys(p.parts), func(a, b event.Partition) int {
		return event.Ref{Topic: a.Topic, Partition: a.ID}.Compare(event.Ref{Topic: b.Topic, Partition: b.ID})
	})
	if changed {
		p.Detector.Assign(ids)
	}
	parts := make([]*partition, len(ids))
	for i, id := range ids {
		parts[i] = p.parts[id]
	}
	return parts
}

// leaving takes out the partitions that the assignment does not go on with.
func (p *Pipeline) leaving(a Assignment) []*partition {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*partition
	for id, part := range p.parts {
		if _, ok := a.Committed[id]; !ok || !a.Resume {
			out = append(out, part)
			delete(p.parts, id)
		}
	}
	return out
}

// tickEvery is how often time is let pass for detection.
const tickEvery = time.Second

// tick lets time pass for rules that wait for it.
func (p *Pipeline) tick(ctx context.Context) error {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		p.unsent = append(p.unsent, p.Detector.Tick(event.At(p.Now()))...)
		if len(p.unsent) == 0 {
			continue
		}
		if err := p.Sink.Deliver(ctx, p.unsent, event.Partition{}, 0); err != nil {
			return err
		}
		p.unsent = nil
	}
}

// finalCommit bounds the commit of a stop.
const finalCommit = 2 * time.Second

// commit commits what storage acknowledged, until stored is closed, and then a
// last time.
func (p *Pipeline) commit(run context.Context, stored <-chan struct{}, parts []*partition, a Assignment) {
	t := time.NewTicker(p.cfg.CommitEvery)
	defer t.Stop()
	done := maps.Clone(a.Committed)
	failing := false
	once := func(ctx context.Context) {
		err := p.commitOnce(ctx, parts, done, a.Committer)
		if err != nil && !failing && ctx.Err() == nil {
			p.Log.Warn("committing offsets failed; trying again", "error", err)
		}
		failing = err != nil
	}
	for {
		select {
		case <-t.C:
			if run.Err() == nil {
				once(run)
			}
		case <-stored:
			ctx, cancel := context.WithTimeout(context.WithoutCancel(run), finalCommit)
			defer cancel()
			once(ctx)
			return
		}
	}
}

// commitOnce commits the positions that moved since done.
func (p *Pipeline) commitOnce(ctx context.Context, parts []*partition, done map[event.Partition]int64, c Committer) error {
	offsets := map[event.Partition]int64{}
	for _, part := range parts {
		if acked := part.acked.Load(); acked > done[part.id] {
			offsets[part.id] = acked
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	if err := c.Commit(ctx, offsets); err != nil {
		p.m.commitErrs.Inc()
		return err
	}
	p.m.commits.Inc()
	maps.Copy(done, offsets)
	return nil
}
