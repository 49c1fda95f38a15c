package e2ebench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/stage"
	"github.com/keysentry/keysentry/store"
)

// floor measures the least that fetching and storing the same events can cost.
func (b *bench) floor(ctx context.Context) (err error) {
	c, err := b.stage.Store("floor")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.Migrate(ctx); err != nil {
		return err
	}
	b.say("preparing the floor: decoding the rows")
	blocks, err := b.decodeAll(ctx)
	if err != nil {
		return err
	}
	if err := b.mergesOver(ctx); err != nil {
		return err
	}
	runtime.GC()
	b.say("measuring the floor: %d blocks", len(blocks))
	began := time.Now()
	var fetched atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for p, end := range b.ends {
		g.Go(func() error {
			n, err := b.fetchAll(gctx, p, end, nil)
			fetched.Add(n)
			return err
		})
	}
	g.Go(func() error { return c.InsertPrepared(gctx, blocks) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	took := time.Since(began)
	stored, err := stage.Number(ctx, c, "SELECT count() FROM events")
	if err != nil {
		return err
	}
	if n := int64(b.opt.Events); fetched.Load() != n || int64(stored) != n {
		return fmt.Errorf("floor: %d events: %d fetched, %d stored", n, fetched.Load(), stored)
	}
	b.result.FloorEventsPerS = float64(b.opt.Events) / took.Seconds()
	b.say("the floor took %.2f s: %.0f events/s", took.Seconds(), b.result.FloorEventsPerS)
	return nil
}

// fetchAll reads a partition up to end and hands each answer to take, if there
// is one. It returns how many records came.
func (b *bench) fetchAll(ctx context.Context, p event.Partition, end int64, take func(*ingest.Fetched) error) (n int64, err error) {
	for next := int64(0); next < end; {
		f, err := b.kafka.Fetch(ctx, p, next)
		if err != nil {
			return n, err
		}
		n += int64(len(f.Records))
		if take != nil {
			if err := take(f); err != nil {
				return n, err
			}
		}
		next = f.Next
	}
	return n, nil
}

// decodeAll puts the events of the topic into blocks of the size that the daemon
// inserts.
func (b *bench) decodeAll(ctx context.Context) ([]*store.Prepared, error) {
	dec, err := ingest.NewDecoder(b.cfg.Ingest.Config, ingest.DecoderDeps{Redactor: redact.New()})
	if err != nil {
		return nil, err
	}
	blocks := []*store.Prepared{store.Prepare(nil)}
	size := b.cfg.Store.Insert.MaxRows
	for p, end := range b.ends {
		clock := ingest.NewClock(b.cfg.Ingest.ClockMaxHosts)
		next := int64(0)
		_, err := b.fetchAll(ctx, p, end, func(f *ingest.Fetched) error {
			batch, err := dec.Decode(p, f, next, clock, event.At(time.Now()))
			if err != nil {
				return err
			}
			defer batch.Release()
			next = f.Next
			for events := batch.Events; len(events) > 0; {
				last := blocks[len(blocks)-1]
				if last.Rows() >= size {
					last = store.Prepare(nil)
					blocks = append(blocks, last)
				}
				n := min(len(events), size-last.Rows())
				last.Add(events[:n])
				events = events[n:]
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return blocks, nil
}
