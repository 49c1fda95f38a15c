package quality

import (
	"context"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// onCall is the person of the simulation.
const onCall = "on-call"

// How the person works: an incident is acknowledged soon, and closed when nothing
// has been heard of it for a while.
const (
	ackAfter   = 2 * time.Minute
	closeAfter = 2 * time.Hour
)

// attend lets a minute of the person's work pass. verdict says what came of an
// incident that is closed.
func (w *world) attend(verdict func(incidentID string) string) error {
	ctx := context.Background()
	if err := w.manager.Tick(ctx, w.now); err != nil {
		return err
	}
	for _, inc := range w.manager.Incidents() {
		d := journal.Decision{IncidentID: inc.ID, Person: onCall, Via: "cli", Reason: "looked at"}
		switch {
		case !inc.State.Active():
			continue
		case w.now.Sub(inc.LastAt) >= closeAfter:
			d.Action, d.Verdict = journal.ActionClose, verdict(inc.ID)
		case inc.AckedBy == "" && w.now.Sub(since(&inc)) >= ackAfter:
			d.Action = journal.ActionAck
		default:
			continue
		}
		d.ID = fmt.Sprintf("%s-%s-%d", d.Action, inc.ID, w.now)
		got, err := w.manager.Decide(ctx, d)
		if err != nil {
			return err
		}
		if got.Refused != "" {
			return fmt.Errorf("the person on call could not %s %s: %s", d.Action, inc.ID, got.Refused)
		}
	}
	return nil
}

// ownRun takes a fact in that a rotation of our own brought about.
func (w *world) ownRun(e *event.Event) {
	states := map[event.Type]string{event.TypeServerKeyCreated: "created", event.TypeServerKeyActivated: "active", event.TypeServerKeyRevoked: "revoked"}
	if state, ok := states[e.Type]; ok {
		w.engine.ApplyKey(journal.KeyChange{Network: e.Network, KeyID: e.KeyID, State: state, At: e.Time})
	}
}

// since is when an incident's present life began.
func since(inc *incident.Incident) event.Instant { return max(inc.OpenedAt, inc.ReopenedAt) }
