package posture

import (
	"context"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// digestName is the digest's name among the runs of checks.
const digestName = "digest"

// Publisher brings a digest to people.
type Publisher interface {
	// Publish is durable when it returns: the message and the run are recorded
	// together or not at all, so that a digest whose run is recorded is sent once.
	Publish(ctx context.Context, due event.Instant, channel string, card Scorecard, run journal.PostureRun) error
}

// digestDue publishes the digest when it is due, and returns how long it will not
// be. However many were missed, one is sent: as of now, in the name of the last.
func (r *Runner) digestDue(ctx context.Context) time.Duration {
	if r.digest == nil {
		return pollAtLeast
	}
	from := r.began
	if last, ok := r.deps.History.LastRun(digestName); ok {
		from = last.Time()
	}
	now := r.deps.Now().UTC()
	due := r.digest.Next(from)
	if due.IsZero() { // such as 30 February
		return pollAtLeast
	}
	if due.After(now) {
		return due.Sub(now)
	}
	for i := 0; i < maxMissed; i++ {
		next := r.digest.Next(due)
		if next.IsZero() || next.After(now) {
			break
		}
		due = next
	}
	card := r.Scorecard(ctx)
	if ctx.Err() != nil { // what could not be asked any more would be told as unknown
		return pollAtLeast
	}
	run := journal.PostureRun{Check: digestName, Due: event.At(due), Status: string(card.Status())}
	if err := r.deps.Publish.Publish(ctx, event.At(due), r.cfg.Digest.Channel, card, run); err != nil {
		r.deps.Logger.Error("posture digest not recorded, it will be made again", "due", due, "error", err)
		return pollAtLeast
	}
	r.runs.WithLabelValues(digestName, run.Status).Inc()
	return max(r.digest.Next(due).Sub(r.deps.Now().UTC()), 0)
}

// maxMissed bounds the search for the last of many missed digests; the rest of them
// is passed over with the next.
const maxMissed = 100_000
