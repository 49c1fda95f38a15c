package torture

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/simulate"
	"github.com/keysentry/keysentry/internal/stage"
)

const topic = "auth.events"

// flow produces simulated events, in their order, as fast as it is let.
type flow struct {
	opt    Options
	client *kafka.Client

	mu      sync.Mutex
	all     int // how many there are to be
	n       int // produced and acknowledged
	limit   int // how many may have been produced
	rate    float64
	changed chan struct{} // closed and replaced when something changed

	due time.Time // when the next batch is due; run's own
}

func newFlow(o Options, client *kafka.Client) *flow {
	return &flow{opt: o, client: client, all: o.Events, changed: make(chan struct{})}
}

// open lets the flow go on to limit events, at rate a second; 0: at once.
func (f *flow) open(limit int, rate float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit, f.rate = max(f.limit, min(limit, f.all)), rate
	f.tell()
}

// finish makes the events that are produced all that there are.
func (f *flow) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all, f.limit = f.n, f.n
	f.tell()
}

// goal is how many events there are to be.
func (f *flow) goal() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all
}

func (f *flow) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *flow) sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// wait returns when everything is produced.
func (f *flow) wait(ctx context.Context) error {
	for {
		f.mu.Lock()
		done, changed := f.n >= f.all, f.changed
		f.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// span is the simulated time in which the events are made. Half of the run is
// ordinary; then somebody tries a key that never existed.
const span = 100 * time.Second

// headroom makes the simulation give more events than are asked for: it begins
// at night, when it is at about 0.8 of its mean rate.
const headroom = 1.35

var errEnough = errors.New("enough events")

// run produces until all events are there.
func (f *flow) run(ctx context.Context) error {
	var batch []kafka.Message
	made := 0
	opt := simulate.Options{Scenario: "unauthorized-spike", Seed: f.opt.Seed, Duration: span,
		Rate: headroom * float64(f.opt.Events) / span.Seconds()}
	err := simulate.Generate(opt, func(e *event.Event, _ simulate.Truth) error {
		present(e, event.At(time.Now()))
		batch = append(batch, kafka.Message{Time: e.Time, Key: []byte(e.Host), Value: event.Append(nil, e)})
		made++
		if made < f.opt.Events && len(batch) < batchSize {
			return nil
		}
		if err := f.produce(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
		if made >= f.opt.Events {
			return errEnough
		}
		return nil
	}, nil)
	if err == nil {
		return fmt.Errorf("the simulation ended after %d of %d events", made, f.opt.Events)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// present moves the times of a simulated event, so that it happens now.
func present(e *event.Event, now event.Instant) {
	shift := now - e.Time
	for _, t := range []*event.Instant{&e.Time, &e.SentAt, &e.IssuedAt, &e.ExpiresAt} {
		if *t != 0 {
			*t += shift
		}
	}
}

// batchSize is how many events are made and written at once.
const batchSize = 100

// produce writes a batch, in parts when only that much is let through. While the
// broker is away it tries again, and so may write events twice; the count takes
// what the topic holds.
func (f *flow) produce(ctx context.Context, batch []kafka.Message) error {
	for len(batch) > 0 {
		f.mu.Lock()
		room, rate, changed := f.limit-f.n, f.rate, f.changed
		f.mu.Unlock()
		if room <= 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			}
			continue
		}
		part := batch[:min(room, len(batch))]
		if rate > 0 {
			if err := stage.Pause(ctx, time.Until(f.turn(len(part), rate, time.Now()))); err != nil {
				return err
			}
		}
		if err := f.client.ProduceBatch(ctx, topic, part); err != nil {
			if err := stage.Pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		batch = batch[len(part):]
		f.mu.Lock()
		f.n += len(part)
		f.tell()
		f.mu.Unlock()
	}
	return nil
}

// maxCatchUp bounds the burst after a pause of the producer.
const maxCatchUp = 250 * time.Millisecond

// turn is when n more events are due at a rate, so that the time of producing
// does not slow the flow.
func (f *flow) turn(n int, rate float64, now time.Time) time.Time {
	if least := now.Add(-maxCatchUp); f.due.Before(least) {
		f.due = least
	}
	f.due = f.due.Add(time.Duration(float64(n) / rate * float64(time.Second)))
	return f.due
}
