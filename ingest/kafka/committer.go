package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// The errors of a Committer.
var (
	// ErrGenerationLost is final: the partitions may be another member's.
	ErrGenerationLost = errors.New("the generation of the consumer group is over; its commits are refused")
	// ErrOffsetBack refuses to move a committed position back.
	ErrOffsetBack = errors.New("a committed offset must not go back")
	// ErrNotAssigned refuses a partition that the generation does not hold.
	ErrNotAssigned = errors.New("the partition is not assigned to this member")
)

// offsetStore is the part of kafkago.Generation that commits.
type offsetStore interface {
	CommitOffsets(offsets map[string]map[int]int64) error
}

// committer commits within one generation. The broker refuses a generation that
// is over; the guard against going back covers what the broker does not check.
type committer struct {
	gen offsetStore
	met *groupMetrics

	mu        sync.Mutex
	committed map[event.Partition]int64
	over      bool
}

var _ ingest.Committer = (*committer)(nil)

func newCommitter(gen offsetStore, start map[event.Partition]int64, met *groupMetrics) *committer {
	c := &committer{gen: gen, met: met, committed: make(map[event.Partition]int64, len(start))}
	for p, o := range start {
		c.committed[p] = o
	}
	return c
}

// end refuses all later commits.
func (c *committer) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

// Commit implements ingest.Committer. Offsets that are committed already are
// not sent again. Nothing is committed when one of the offsets is refused. The
// library bounds the call by group.timeout; ctx is looked at before it.
func (c *committer) Commit(ctx context.Context, offsets map[event.Partition]int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.over {
		c.met.refused.Inc()
		return ErrGenerationLost
	}
	send := map[string]map[int]int64{}
	for p, o := range offsets {
		old, ok := c.committed[p]
		switch {
		case !ok:
			c.met.refused.Inc()
			return fmt.Errorf("commit %s: %w", p, ErrNotAssigned)
		case o < old:
			c.met.refused.Inc()
			return fmt.Errorf("commit %s at %d after %d: %w", p, o, old, ErrOffsetBack)
		case o == old:
			continue
		}
		if send[p.Topic] == nil {
			send[p.Topic] = map[int]int64{}
		}
		send[p.Topic][int(p.ID)] = o
	}
	if len(send) == 0 {
		return nil
	}
	if err := c.gen.CommitOffsets(send); err != nil {
		if lost(err) {
			c.over = true
			c.met.refused.Inc()
			return fmt.Errorf("%w: %w", ErrGenerationLost, err)
		}
		return fmt.Errorf("commit offsets: %w", err)
	}
	for p, o := range offsets {
		c.committed[p] = o
	}
	c.met.committed.Inc()
	return nil
}
