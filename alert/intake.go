package alert

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

const (
	// saveEvery is the least time between two saves of the positions.
	saveEvery = time.Second
	// drainTime bounds what is done after the end of Run's context.
	drainTime = 5 * time.Second
)

// delivery is one call of Deliver.
type delivery struct {
	generation uint64
	at         event.Instant
	findings   []finding.Finding
	partition  event.Partition
	position   int64
	settled    chan<- bool // told, when there is one, whether the findings are durable
}

// Deliver takes findings over and blocks while the queue is full. Once they are
// durable, position becomes the partition's detected position; without findings
// that costs no record. A zero partition has no position.
func (m *Manager) Deliver(ctx context.Context, findings []finding.Finding, p event.Partition, position int64) error {
	return m.enqueue(ctx, delivery{findings: findings, partition: p, position: position})
}

// Journal delivers findings and waits until they are durable. When the leadership
// under which they were delivered ends first, they are delivered to the next.
func (m *Manager) Journal(ctx context.Context, findings []finding.Finding) error {
	for {
		settled := make(chan bool, 1)
		if err := m.enqueue(ctx, delivery{findings: findings, settled: settled}); err != nil {
			return err
		}
		select {
		case durable := <-settled:
			if durable {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *Manager) enqueue(ctx context.Context, d delivery) error {
	m.mu.Lock()
	d.generation, d.at = m.generation, m.now()
	m.mu.Unlock()
	select {
	case m.queue <- d:
		m.count.queued.Set(float64(len(m.queue)))
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// intake is the state of the goroutine that journals deliveries.
type intake struct {
	m          *Manager
	generation uint64
	positions  map[event.Partition]int64 // durable, not yet saved
	saved      map[event.Partition]int64
	savedAt    event.Instant
	lost       bool // a delivery of this generation was given up
}

func (m *Manager) runIntake(ctx context.Context) {
	work, end := linger(ctx, drainTime)
	defer end()
	in := &intake{m: m, positions: map[event.Partition]int64{}, saved: map[event.Partition]int64{}}
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case d := <-m.queue:
			in.take(work, d)
		case <-tick.C:
		case <-ctx.Done():
			in.drain(work)
			return
		}
		in.save(work, false)
	}
}

// linger is a context that outlives ctx by d. end releases it.
func linger(ctx context.Context, d time.Duration) (work context.Context, end func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
			sleep(work, d)
			cancel()
		case <-work.Done():
		}
	})
	return work, func() {
		cancel()
		wg.Wait()
	}
}

// drain finishes what is in the queue.
func (in *intake) drain(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case d := <-in.m.queue:
			in.take(ctx, d)
			continue
		default:
		}
		in.save(ctx, true)
		return
	}
}

// take collects what is waiting, up to a batch of findings and a queue of
// deliveries, and journals it.
func (in *intake) take(ctx context.Context, first delivery) {
	batch, n := []delivery{first}, len(first.findings)
collect:
	for n < in.m.cfg.Batch && len(batch) < in.m.cfg.Queue {
		select {
		case d := <-in.m.queue:
			batch, n = append(batch, d), n+len(d.findings)
		default:
			break collect
		}
	}
	in.m.count.queued.Set(float64(len(in.m.queue)))
	for len(batch) > 0 {
		// A batch does not span two leaderships.
		k := 1
		for k < len(batch) && batch[k].generation == batch[0].generation {
			k++
		}
		in.settle(ctx, batch[:k])
		batch = batch[k:]
	}
}

// settle makes one leadership's deliveries durable, however often that takes,
// and notes the positions; it gives up when the leadership or ctx ends.
func (in *intake) settle(ctx context.Context, batch []delivery) {
	gen := batch[0].generation
	if gen != in.generation {
		in.generation = gen
		clear(in.positions)
		clear(in.saved)
		in.lost = false
	}
	var findings []finding.Finding
	for _, d := range batch {
		findings = append(findings, d.findings...)
	}
	durable := in.journal(ctx, gen, findings)
	for _, d := range batch {
		if d.settled != nil {
			d.settled <- durable
		}
	}
	if !durable {
		in.lost = true
	}
	// Behind a delivery that was given up no position is durable.
	if in.lost {
		return
	}
	for _, d := range batch {
		if d.partition != (event.Partition{}) && d.position > in.positions[d.partition] {
			in.positions[d.partition] = d.position
		}
	}
	if len(findings) > 0 {
		in.m.count.journaled.Observe(in.m.now().Sub(batch[0].at).Seconds())
	}
}

func (in *intake) journal(ctx context.Context, gen uint64, findings []finding.Finding) bool {
	pause := in.m.cfg.Delivery.RetryMin
	for {
		if !in.m.awaitLead(ctx, gen) {
			return false
		}
		if len(findings) == 0 {
			return true
		}
		err := in.m.Record(ctx, findings)
		if err == nil {
			return true
		}
		if !errors.Is(err, ErrNotLeader) {
			in.m.log.Warn("findings could not be journaled, trying again", "findings", len(findings), "pause", pause, "error", err)
			if !sleep(ctx, pause) {
				return false
			}
			pause = min(2*pause, in.m.cfg.Delivery.RetryMax)
		}
	}
}

// awaitLead waits until this member leads; false when the deliveries of that
// generation have become void or ctx has ended.
func (m *Manager) awaitLead(ctx context.Context, gen uint64) bool {
	for {
		m.mu.Lock()
		leading, current, changed := m.leading, m.generation, m.changed
		m.mu.Unlock()
		switch {
		case current != gen:
			return false
		case leading:
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// save hands the durable positions on, at most once a second unless forced. A
// failure is tried again with the next save.
func (in *intake) save(ctx context.Context, force bool) {
	now := in.m.now()
	if in.m.deps.Positions == nil || (!force && now.Sub(in.savedAt) < saveEvery) {
		return
	}
	in.m.mu.Lock()
	current := in.m.leading && in.m.generation == in.generation
	in.m.mu.Unlock()
	fresh := map[event.Partition]int64{}
	for p, pos := range in.positions {
		if pos > in.saved[p] {
			fresh[p] = pos
		}
	}
	if !current || len(fresh) == 0 {
		return
	}
	in.savedAt = now
	if err := in.m.deps.Positions.Save(ctx, fresh); err != nil {
		in.m.count.positions.WithLabelValues("error").Inc()
		in.m.log.Warn("detected positions could not be saved, trying again", "error", err)
		return
	}
	in.m.count.positions.WithLabelValues("ok").Inc()
	for p, pos := range fresh {
		in.saved[p] = pos
	}
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
