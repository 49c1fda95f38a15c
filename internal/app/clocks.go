package app

import (
	"context"
	"time"

	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/store"
)

// speakers says which topic may speak of which network, by the configuration.
func speakers(topics []ingest.TopicConfig) func(topic, network string) bool {
	admit := make(map[string]func(string) bool, len(topics))
	for _, t := range topics {
		admit[t.Name] = t.Allow.Network()
	}
	return func(topic, network string) bool {
		ok := admit[topic]
		return ok != nil && ok(network)
	}
}

// clockOffsetsEvery is how often the estimates of clocks are written for
// analysts; they change when a minute closes.
const clockOffsetsEvery = time.Minute

// keepClockOffsets writes the leader's estimates to ClickHouse.
func (a *App) keepClockOffsets(ctx context.Context) error {
	return a.whenStored(ctx, func(ctx context.Context) error {
		tick := time.NewTicker(clockOffsetsEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if err := a.store.WriteClockOffsets(ctx, a.clockOffsets()); err != nil && ctx.Err() == nil {
				a.log.Warn("clock offsets were not stored; the next ones follow in a minute", "error", err)
			}
		}
	})
}

// clockOffsets lists the estimates that rest on at least one closed minute.
func (a *App) clockOffsets() []store.ClockOffset {
	a.mu.Lock()
	s := a.session
	a.mu.Unlock()
	if s == nil {
		return nil
	}
	var rows []store.ClockOffset
	for p, snap := range s.pipeline.Clocks() {
		for _, h := range snap.Hosts {
			e := h.Current
			if e.AsOf == 0 {
				continue
			}
			rows = append(rows, store.ClockOffset{Host: h.Name, Partition: p, Minute: e.AsOf, Offset: e.Offset.Seconds(), Error: e.Error.Seconds(),
				Drift: e.Slope, Anchored: e.Anchored, Confident: e.Confident, Samples: e.Records})
		}
	}
	return rows
}
