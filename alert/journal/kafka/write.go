package kafkajournal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

// The bounds of one write: requests that wait together are written together.
const (
	maxEntries = 512
	maxBatch   = 768 << 10 // below the broker's message.max.bytes, 1 MiB by default
)

// request is one call of Append or TakeOver.
type request struct {
	entries  []journal.Entry
	takeOver bool
	answer   chan answer // of capacity 1
}

type answer struct {
	records []journal.Record
	err     error
}

// Append records the entries, in order and without others between them, and
// returns them as accepted. It returns after the subscribers have seen them.
//
// When ctx ends while the records are being written, the error wraps
// ErrUnknownOutcome and they may still be accepted.
func (l *Log) Append(ctx context.Context, entries ...journal.Entry) ([]journal.Record, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	return l.submit(ctx, &request{entries: entries, answer: make(chan answer, 1)})
}

// TakeOver makes this process the leader: it reads the journal to its end and
// appends the took_over record, whose offset is the epoch. The caller makes sure
// that it holds the partitions of the group.
func (l *Log) TakeOver(ctx context.Context, now event.Instant, t journal.TookOver) (epoch int64, err error) {
	if err := l.CaughtUp(ctx); err != nil {
		return 0, err
	}
	records, err := l.submit(ctx, &request{
		entries:  []journal.Entry{{Kind: journal.KindTookOver, Time: now, Body: t}},
		takeOver: true,
		answer:   make(chan answer, 1),
	})
	if err != nil {
		return 0, err
	}
	return records[0].Offset, nil
}

func (l *Log) submit(ctx context.Context, r *request) ([]journal.Record, error) {
	timer := time.NewTimer(l.cfg.AppendTimeout)
	defer timer.Stop()
	select {
	case l.requests <- r:
	case <-l.ended:
		return nil, errEnded
	case <-ctx.Done():
		return nil, fmt.Errorf("journal: not written: %w", ctx.Err())
	case <-timer.C:
		return nil, fmt.Errorf("journal: not written: the writes before took too long: %w", context.DeadlineExceeded)
	}
	select {
	case a := <-r.answer:
		return a.records, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// writeLoop writes what waits, one batch at a time.
func (l *Log) writeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-l.requests:
			l.write(ctx, l.gather(r))
		}
	}
}

// gather takes what waits besides r. A takeover is written alone.
func (l *Log) gather(r *request) []*request {
	out, n := []*request{r}, len(r.entries)
	for !r.takeOver && n < maxEntries {
		select {
		case r = <-l.requests:
			out = append(out, r)
			n += len(r.entries)
		default:
			return out
		}
	}
	return out
}

// write seals, sends and waits, and answers every request.
func (l *Log) write(ctx context.Context, reqs []*request) {
	for len(reqs) > 0 {
		p, taken := l.seal(reqs)
		if len(p.reqs) > 0 {
			start := time.Now()
			err := l.commit(ctx, p)
			l.met.appendSeconds.Observe(time.Since(start).Seconds())
			l.finish(p, err)
		}
		reqs = reqs[taken:]
	}
}

// pending is one batch that is being written.
type pending struct {
	reqs    []*request
	records []journal.Record
	msgs    []kafkawire.Message
	first   int64 // number of the first record
	read    int   // how many of the records were read back
	done    chan struct{}
	lost    bool
}

// accepted notes that the tail accepted r. The log's mutex is held.
func (p *pending) accepted(r journal.Record) {
	i := r.N - p.first
	if i < 0 || i != int64(p.read) || p.read == len(p.records) || p.lost {
		return
	}
	if r.Hash != p.records[i].Hash {
		p.lost = true
		close(p.done)
		return
	}
	p.records[i].Offset = r.Offset
	if p.read++; p.read == len(p.records) {
		close(p.done)
	}
}

// seal makes records of as many requests as fit one batch and registers them
// with the tail. It answers requests that cannot be written and says how many it
// took in all.
func (l *Log) seal(reqs []*request) (p *pending, taken int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	head := l.chain.Head()
	p = &pending{first: head.N + 1, done: make(chan struct{})}
	size, takeOver := 0, false
	for _, r := range reqs {
		if takeOver || r.takeOver && len(p.reqs) > 0 {
			break // a takeover is alone in its batch
		}
		if !l.leading && !r.takeOver {
			r.answer <- answer{err: ErrNotLeading}
			taken++
			continue
		}
		records, msgs, n, err := l.sealOne(r, head)
		if err != nil {
			r.answer <- answer{err: err}
			taken++
			continue
		}
		if len(p.reqs) > 0 && size+n > maxBatch {
			break
		}
		size += n
		last := records[len(records)-1]
		head = journal.Head{N: last.N, Hash: last.Hash}
		p.reqs, p.records, p.msgs = append(p.reqs, r), append(p.records, records...), append(p.msgs, msgs...)
		takeOver = r.takeOver
		taken++
	}
	if len(p.reqs) > 0 {
		l.pending = p
	}
	return p, taken
}

func (l *Log) sealOne(r *request, head journal.Head) (records []journal.Record, msgs []kafkawire.Message, size int, err error) {
	epoch := l.epoch
	if r.takeOver {
		epoch = 0
	}
	// The time of the Kafka record is the wall clock's: brokers refuse one from the
	// future, which an entry's may be when time is simulated.
	now := event.At(time.Now())
	for _, e := range r.entries {
		rec, err := journal.Seal(e, head, epoch, l.deps.Key)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("journal: %w", err)
		}
		value, err := rec.Encode()
		if err != nil {
			return nil, nil, 0, fmt.Errorf("journal: %w", err)
		}
		m := kafkawire.Message{Time: now, Key: []byte(e.Kind), Value: value}
		size += m.Size()
		records, msgs = append(records, rec), append(msgs, m)
		head = journal.Head{N: rec.N, Hash: rec.Hash}
	}
	if size > maxBatch {
		return nil, nil, 0, fmt.Errorf("journal: the records take %d bytes, more than the %d of one write", size, maxBatch)
	}
	return records, msgs, size, nil
}

// commit sends the batch, again after a lost answer, until the tail has read it
// back or the deadline passes.
func (l *Log) commit(ctx context.Context, p *pending) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.AppendTimeout)
	defer cancel()
	bytes := kafkawire.EncodeBatch(nil, p.msgs)
	unknown := false
	backoff := 50 * time.Millisecond
	for {
		_, err := l.produce(ctx, l.deps.Topic, 0, bytes)
		if err == nil {
			return l.await(ctx, p)
		}
		if !kafkawire.Transient(err) && !unknown && ctx.Err() == nil {
			return fmt.Errorf("journal: not written: %w", err)
		}
		unknown = true
		l.met.resent.Inc()
		l.log.Warn("writing the journal failed; sending the same bytes again", "error", err)
		select {
		case <-p.done:
			return p.result()
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnknownOutcome, errors.Join(ctx.Err(), err))
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, time.Second)
	}
}

// await waits for the tail to read the batch back.
func (l *Log) await(ctx context.Context, p *pending) error {
	select {
	case <-p.done:
		return p.result()
	case <-ctx.Done():
		return fmt.Errorf("%w: written, not read back: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// owns reports whether r is a record of the batch.
func (p *pending) owns(r journal.Record) bool {
	i := r.N - p.first
	return i >= 0 && i < int64(len(p.records)) && p.records[i].Hash == r.Hash
}

// result is that of a closed done; closing it came after lost was set.
func (p *pending) result() error {
	if p.lost {
		return ErrLostLeadership
	}
	return nil
}

// finish settles the leadership and answers.
func (l *Log) finish(p *pending, err error) {
	l.mu.Lock()
	l.pending = nil
	switch {
	case errors.Is(err, ErrLostLeadership):
		l.lose()
	case err == nil && p.reqs[0].takeOver:
		l.leading, l.epoch = true, p.records[0].Offset
		l.met.leading.Set(1)
	}
	l.mu.Unlock()
	records := p.records
	for _, r := range p.reqs {
		a := answer{err: err}
		if err == nil {
			a.records = records[:len(r.entries):len(r.entries)]
		}
		records = records[len(r.entries):]
		r.answer <- a
	}
}
