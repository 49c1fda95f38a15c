package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/keysentry/keysentry/event"
)

// refill is a place where the replay of a partition may begin.
type refill struct {
	from int64
	// at is the time of the record there, or of what detection reads first when
	// there is nothing to replay; missing says that events before it are wanted
	// and not had.
	at      event.Instant
	missing bool
}

// span is where a partition begins and ends, and what lies around where detection
// had got.
type span struct {
	first, end int64
	last, next event.Instant // times of the record before and at detected; 0: none
}

// farAhead is later than every record.
const farAhead = 20 * 365 * 24 * time.Hour

// start settles where reading begins. It is tried again until it succeeds or
// ctx ends.
func (t *partition) start(ctx context.Context, share int64) error {
	if t.started {
		return nil
	}
	now := event.At(t.p.Now())
	var s span
	var err error
	if s.first, err = t.offsetAt(ctx, 0); err != nil {
		return err
	}
	if s.end, err = t.offsetAt(ctx, now.Add(farAhead)); err != nil {
		return err
	}
	if t.committed < 0 { // nothing of it was ever stored
		t.committed = s.first
		t.fresh = true
	}
	if t.detected < 0 {
		t.detected = t.committed
	}
	if s.last, err = t.timeOf(ctx, t.detected-1, s); err != nil {
		return err
	}
	if s.last = min(s.last, now); s.last == 0 && t.detected > 0 {
		s.last = now // retention has it, or its time is impossible
	}
	if s.next, err = t.timeOf(ctx, t.detected, s); err != nil {
		return err
	}
	if err := t.refills(ctx, share, s, now); err != nil {
		return err
	}
	t.begin(t.far)
	t.pos = t.detected
	t.storeClock.Store(t.copyClock())
	t.acked.Store(t.committed)
	t.livePos.Store(t.pos)
	t.h = newHandoff(t.committed, t.pos)
	t.around = s
	t.started = true
	close(t.begun)
	return nil
}

// begin decides for one of the places.
func (t *partition) begin(r refill) {
	t.fillFrom, t.missing = r.from, 0
	if r.missing {
		t.missing = r.at
	}
}

// refills finds the two places where a replay may begin: far, as far back as
// windows and registries reach, and near, when windows are filled from what is
// stored: as far back as the registries do and, in any case, to what may not be
// stored. Windows end at the last record that detection has seen, which may be
// days ago after an outage and years ago in an import. A replay is bounded: far
// by share, near by half of it unless storage is behind.
func (t *partition) refills(ctx context.Context, share int64, s span, now event.Instant) error {
	end := s.last
	if end == 0 {
		end = now
	}
	far, err := t.offsetAt(ctx, end.Add(-time.Duration(t.p.Detector.Lookback())))
	if err != nil {
		return err
	}
	near, err := t.offsetAt(ctx, t.p.Detector.RegistrySince(end))
	if err != nil {
		return err
	}
	t.far.from = min(max(far, t.detected-share), t.detected)
	// Before the first record of the log there may have been others.
	t.far.missing = t.far.from > far || s.first > 0 && t.far.from <= s.first
	wanted := min(t.committed, max(near, t.detected-share/2), t.detected)
	t.near.from = max(wanted, t.detected-share, min(s.first, t.detected))
	t.near.missing = t.near.from > min(t.committed, t.detected) || t.fresh && s.first > 0
	for _, r := range []*refill{&t.far, &t.near} {
		if r.at, err = t.timeOf(ctx, r.from, s); err != nil {
			return err
		}
		if r.at == 0 {
			r.at = end
		}
	}
	return nil
}

// timeOf is the time of the first record at or after an offset; zero when there
// is none, or it cannot be known.
func (t *partition) timeOf(ctx context.Context, offset int64, s span) (event.Instant, error) {
	if offset < s.first || offset >= s.end {
		return 0, nil
	}
	f, err := t.fetch(ctx, offset)
	if gone := (*OffsetGone)(nil); errors.As(err, &gone) {
		return 0, nil
	}
	if err != nil || len(f.Records) == 0 || f.Records[0].Time < earliest {
		return 0, err
	}
	return f.Records[0].Time, nil
}

// liveWithin is how long after the assignment replays may last, so that detection
// is live within ten seconds, and leastReplay what they have in any case;
// lastReplay is how much is read then all the same, because what is newest counts
// most.
const (
	liveWithin  = 9 * time.Second
	leastReplay = 2 * time.Second
	lastReplay  = 500 * time.Millisecond
)

// hurry leaves out the middle of a replay that takes too long, and says so. done is
// how many offsets were replayed since began.
func (t *partition) hurry(ctx context.Context, began time.Time, done int64) error {
	spent := time.Since(began)
	to := t.pos - done*int64(lastReplay)/max(int64(spent), 1)
	if t.hurried = true; to <= t.fillFrom {
		return nil
	}
	at, err := t.timeOf(ctx, to, span{first: to, end: t.pos})
	if err != nil {
		return err
	}
	if at == 0 {
		at = event.At(t.p.Now())
	}
	t.log.Warn("re-reading kafka takes too long: events are left out, and rules that want them are learning", "from", t.fillFrom, "to", to, "took", spent.String())
	t.fillFrom, t.missing = to, max(t.missing, at)
	return nil
}

// startWait is how long the filling of windows waits for partitions whose
// positions are not settled.
const startWait = 2 * time.Second

// fillStored lets the detector fill windows from what is stored below where each
// partition is replayed from. It happens once in the life of a partition, also
// when it was interrupted: no event may enter a window twice. A partition that
// does not come in time is replayed from Kafka alone.
func (p *Pipeline) fillStored(ctx context.Context, parts []*partition) {
	var fresh []*partition
	wait := time.NewTimer(startWait)
	defer wait.Stop()
	late := false
	for _, t := range parts {
		if t.asked {
			continue
		}
		if !late {
			select {
			case <-t.begun:
			case <-wait.C:
				late = true
			case <-ctx.Done():
				return
			}
		}
		t.asked = true
		select {
		case <-t.begun:
			fresh = append(fresh, t)
		default:
		}
	}
	if len(fresh) == 0 {
		return
	}
	at := make([]event.Standing, len(fresh))
	for i, t := range fresh {
		t.begin(t.near)
		at[i] = event.Standing{Partition: t.id, Below: t.near.from, From: t.near.at, End: t.around.last, Next: t.around.next}
	}
	bounded, cancel := context.WithTimeout(ctx, p.cfg.FillTimeout)
	defer cancel()
	began := time.Now()
	unfilled, err := p.Detector.Fill(bounded, at)
	if err != nil {
		p.Log.Warn("windows are filled from kafka alone", "error", err)
	}
	for _, u := range unfilled {
		for _, t := range fresh {
			if t.id == u.Partition {
				t.begin(t.far)
			}
		}
	}
	p.m.fillStored.Observe(time.Since(began).Seconds())
}
