package e2ebench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/simulate"
)

const (
	fillBatch = 5000
	// fillRate is how dense the simulated events lie, in events per second of
	// their own time.
	fillRate = 10_000
	// maxSample bounds the events that are kept for the load.
	maxSample = 200_000
)

var errEnough = errors.New("enough events")

// fill writes the events: ordinary traffic of twenty hosts, in the second half
// of the simulation with refused calls from one address. The seed is fixed.
func (b *bench) fill(ctx context.Context) error {
	b.say("version %s: filling the topic with %d events", b.opt.Version, b.opt.Events)
	// Twice the time that the events need at the mean rate, because the
	// simulation may begin in a quiet hour.
	span := 2 * time.Duration(float64(b.opt.Events)/fillRate*float64(time.Second))
	opt := simulate.Options{Scenario: "unauthorized-spike", Seed: 1, Start: time.Now().Add(-span).UTC(), Duration: span, Rate: fillRate}
	var batch []kafka.Message
	made, size := 0, 0
	err := simulate.Generate(opt, func(e *event.Event, _ simulate.Truth) error {
		m := kafka.Message{Key: []byte(e.Host), Value: event.Append(nil, e)}
		if len(b.sample) < maxSample {
			b.sample = append(b.sample, m)
		}
		batch = append(batch, m)
		made++
		size += len(m.Value)
		if len(batch) < fillBatch && made < b.opt.Events {
			return nil
		}
		if err := b.kafka.ProduceBatch(ctx, topic, batch); err != nil {
			return fmt.Errorf("fill the topic: %w", err)
		}
		batch = batch[:0]
		if made == b.opt.Events {
			return errEnough
		}
		return nil
	}, nil)
	switch {
	case err == nil:
		return fmt.Errorf("fill the topic: the simulation ended after %d of %d events", made, b.opt.Events)
	case !errors.Is(err, errEnough):
		return err
	}
	b.say("filled: %d bytes an event on the average", size/made)
	b.ends = map[event.Partition]int64{}
	for i := range int32(partitions) {
		p := event.Partition{Topic: topic, ID: i}
		if _, b.ends[p], err = b.kafka.Bounds(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
