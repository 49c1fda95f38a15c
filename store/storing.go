package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// maxDays is how many day partitions one insert may span; the server's own
// limit is 100.
const maxDays = 50

// job is a unit on its way to the tables: blocks still to send. It belongs to
// the inserter's goroutine.
type job struct {
	unit    *unit
	blocks  []*block
	poison  *quarantineBlock // rows that the server refused for their content
	suspect bool             // an outcome is unknown: look before sending
}

// store brings u into the tables, however long it takes. It is false when ctx
// ended first.
func (w *Writer) store(ctx context.Context, u *unit) bool {
	j := &job{unit: u, poison: newQuarantineBlock()}
	for _, b := range []*block{&u.events.block, &u.rejects.block} {
		if b.rows > 0 {
			j.blocks = append(j.blocks, b)
		}
	}
	backoff := 100 * time.Millisecond
	for {
		w.dropRevoked(j)
		err := w.attempt(ctx, j)
		if err == nil {
			w.setHealthy(true)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		w.setHealthy(false)
		w.logFailure(err)
		w.pause(ctx, backoff)
		if ctx.Err() != nil {
			return false
		}
		backoff = min(2*backoff, 5*time.Second)
	}
}

func (w *Writer) setHealthy(ok bool) {
	w.healthy.Store(ok)
	if ok {
		w.met.healthy.Set(1)
	} else {
		w.met.healthy.Set(0)
	}
}

func (w *Writer) logFailure(err error) {
	kind := map[failure]string{failureRefused: "refused", failureUnknown: "unknown", failurePoison: "poison", failureOperator: "operator"}[classify(err)]
	w.met.retries.WithLabelValues(kind).Inc()
	args := []any{"kind", kind, "error", err}
	if a := advice(err); a != "" {
		args = append(args, "advice", a)
	}
	w.log.Error("events not stored, trying again", args...)
}

// pause waits, but no longer than until something is revoked.
func (w *Writer) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		w.mu.Lock()
		changed := w.changed
		revoked := w.inflight != nil && w.inflight.revoked()
		w.mu.Unlock()
		if revoked {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-changed:
		}
	}
}

func (u *unit) revoked() bool {
	for i := range u.acks {
		if u.acks[i].part.revoked {
			return true
		}
	}
	return false
}

// dropRevoked takes out what was revoked since the last attempt.
func (w *Writer) dropRevoked(j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !j.unit.revoked() {
		return
	}
	gone := map[event.Partition]bool{}
	acks := j.unit.acks[:0:0]
	for _, a := range j.unit.acks {
		if a.part.revoked {
			gone[a.part.partition] = true
		} else {
			acks = append(acks, a)
		}
	}
	j.unit.acks = acks
	j.filter(func(b *block, i int) bool { return !gone[b.partitionOf(i)] })
	w.broadcast()
}

// filter drops rows from every block still to send, and says how many.
func (j *job) filter(keep func(b *block, i int) bool) (dropped int) {
	out := j.blocks[:0]
	for _, b := range j.blocks {
		kept, n := b.filter(freshFor(b), func(i int) bool { return keep(b, i) })
		dropped += n
		if kept.rows > 0 {
			out = append(out, kept)
		}
	}
	j.blocks = out
	p, n := j.poison.filter(freshFor(&j.poison.block), func(i int) bool { return keep(&j.poison.block, i) })
	if n > 0 {
		fresh := newQuarantineBlock()
		fresh.copyFrom(p, 0, p.rows, nil)
		j.poison = fresh
	}
	return dropped + n
}

func freshFor(b *block) func() *block {
	if b.table == "quarantine" {
		return func() *block { return &newQuarantineBlock().block }
	}
	return func() *block { return &newEventBlock().block }
}

// attempt sends what is left of j.
func (w *Writer) attempt(ctx context.Context, j *job) error {
	if err := w.reconcile(ctx, j); err != nil {
		return fmt.Errorf("look up stored rows: %w", err)
	}
	j.blocks = splitDays(j.blocks)
	for {
		for len(j.blocks) > 0 {
			b := j.blocks[0]
			err := w.send(ctx, b)
			switch classify(err) {
			case failureNone:
				j.blocks = j.blocks[1:]
				continue
			case failurePoison:
				w.log.Error("the server refuses rows for their content", "rows", b.rows, "error", err)
				w.isolate(j, err)
				continue
			case failureUnknown:
				w.met.unknown.Inc()
				j.suspect = true
			}
			return err
		}
		if j.poison.rows == 0 {
			return w.storeGaps(ctx, j.unit.gaps)
		}
		j.blocks = append(j.blocks, &j.poison.block)
		j.poison = newQuarantineBlock()
	}
}

func (w *Writer) send(ctx context.Context, b *block) error {
	ctx, cancel := attemptContext(ctx, w.cfg.Timeout)
	defer cancel()
	start := time.Now()
	if err := w.conn.send(ctx, b); err != nil {
		return err
	}
	w.met.seconds.Observe(time.Since(start).Seconds())
	w.met.inserts.Inc()
	w.met.rows.WithLabelValues(b.table).Add(float64(b.rows))
	w.met.bytes.Add(float64(b.size()))
	return nil
}

// isolate halves the first block, or puts its only row into quarantine. A row
// that even quarantine refuses is dropped, counted and logged with its
// coordinates, because blocking the partition forever would be worse.
func (w *Writer) isolate(j *job, cause error) {
	b := j.blocks[0]
	if b.rows > 1 {
		left, right := freshFor(b)(), freshFor(b)()
		left.copyFrom(b, 0, b.rows/2, nil)
		right.copyFrom(b, b.rows/2, b.rows, nil)
		j.blocks = append([]*block{left, right}, j.blocks[1:]...)
		return
	}
	w.met.poisoned.Inc()
	j.blocks = j.blocks[1:]
	ref := b.ref(0)
	if b.table == "quarantine" {
		w.log.Error("row lost: quarantine itself refuses it", "ref", ref, "error", cause)
		return
	}
	code, _ := serverCode(cause)
	j.poison.append(&ingest.Reject{Ref: ref, ObservedAt: event.Instant(b.observed.values[0]), Reason: ingest.ReasonBadValue,
		Detail: fmt.Sprintf("the database refuses the event, code %d", code)})
}

// splitDays cuts blocks that span more than maxDays day partitions.
func splitDays(in []*block) []*block {
	var out []*block
	for _, b := range in {
		group := map[int64]int{} // day -> which block
		for i := range b.rows {
			if _, ok := group[b.day(i)]; !ok {
				group[b.day(i)] = len(group) / maxDays
			}
		}
		n := (len(group) + maxDays - 1) / maxDays
		if n <= 1 {
			out = append(out, b)
			continue
		}
		for k := range n {
			part := freshFor(b)()
			part.copyFrom(b, 0, b.rows, func(i int) bool { return group[b.day(i)] == k })
			out = append(out, part)
		}
	}
	return out
}

// errStillRunning says that an earlier insert has not ended at the server.
var errStillRunning = errors.New("an earlier insert is still running at the server")
