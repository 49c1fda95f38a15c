package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/keysentry/keysentry/ingest"
)

// The points at which a rehearsal can make the daemon die.
const (
	// DieBeforeInsert: a batch with events is about to be given to the writer.
	DieBeforeInsert = "before-insert"
	// DieAfterInsert: ClickHouse acknowledged rows; their offsets are not committed.
	DieAfterInsert = "after-insert"
	// DieInRebalance: a generation of the group gave this member the partitions,
	// and it has not begun to work on them.
	DieInRebalance = "rebalance"
	// DieInTakeOver: the leadership is journaled, and nothing was read yet.
	DieInTakeOver = "take-over"
)

var diePoints = []string{DieBeforeInsert, DieAfterInsert, DieInRebalance, DieInTakeOver}

// DieAt makes the daemon end itself, as kill -9 does, when it passes a point for
// the given time, counted from 1. The zero value never does. It is for
// rehearsals, which have to hit a moment that chance would hardly ever hit.
type DieAt struct {
	Point   string
	Passing int64
}

// ParseDieAt reads POINT:N.
func ParseDieAt(s string) (DieAt, error) {
	point, n, _ := strings.Cut(s, ":")
	passing, err := strconv.ParseInt(n, 10, 64)
	if err != nil || passing < 1 || !slices.Contains(diePoints, point) {
		return DieAt{}, fmt.Errorf("%q: want POINT:N with a POINT of %s and N from 1", s, strings.Join(diePoints, ", "))
	}
	return DieAt{Point: point, Passing: passing}, nil
}

// String is what ParseDieAt reads.
func (d DieAt) String() string { return d.Point + ":" + strconv.FormatInt(d.Passing, 10) }

// DyingWords is what the daemon logs right before it ends itself.
const DyingWords = "dying at the wished point"

// doom counts how often the point was passed.
type doom struct {
	at     DieAt
	log    *slog.Logger
	die    func() // does not return
	passed atomic.Int64
}

func newDoom(at DieAt, log *slog.Logger) *doom {
	return &doom{at: at, log: log, die: func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // no other statement runs while the signal is on its way
	}}
}

// pass is called at every point.
func (d *doom) pass(point string) {
	if point != d.at.Point || d.passed.Add(1) != d.at.Passing {
		return
	}
	d.log.Warn(DyingWords, "point", d.at.String())
	d.die()
}

// doomed is a writer with points before and after the insert.
type doomed struct {
	ingest.EventWriter
	*doom
}

// Append implements ingest.EventWriter.
func (w *doomed) Append(ctx context.Context, b *ingest.Batch, acked func(next int64)) error {
	rows := len(b.Events) > 0
	if rows {
		w.pass(DieBeforeInsert)
	}
	return w.EventWriter.Append(ctx, b, func(next int64) {
		if rows {
			w.pass(DieAfterInsert)
		}
		acked(next)
	})
}
