package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
)

// Announce queues a message that belongs to no incident, such as a digest, and
// returns when it is durable: it is then sent as every other, exactly once as far
// as the messenger can tell. An empty channel means that of digests, else of
// tickets, else of pages. The other entries are journaled in the same write, so
// that who announces can see by one of them that it was done. A message whose id
// still waits to be sent is not queued again.
func (m *Manager) Announce(ctx context.Context, msg Message, with ...journal.Entry) error {
	if msg.ID == "" || msg.IncidentID != "" || msg.Thread != "" || len(msg.Buttons) > 0 {
		return errors.New("announce: a message with an id is needed, without incident, thread or buttons")
	}
	release, err := m.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	now := m.now()
	if msg.Channel == "" {
		msg.Channel = m.deps.Routes.quietest()
	}
	msg.Since = now
	// A Message holds only strings and numbers: it always encodes.
	raw, _ := json.Marshal(payload{Reply: &msg})
	if len(raw) > maxAnnounced {
		return fmt.Errorf("announce: the message takes %d bytes, more than %d", len(raw), maxAnnounced)
	}
	m.mu.Lock()
	_, waits := m.set.Message(msg.ID)
	m.mu.Unlock()
	var entries []journal.Entry
	if !waits && msg.Channel != "" {
		entries = append(entries, journal.Entry{Kind: journal.KindOutbox, Time: now, Body: journal.Outbox{
			MessageID: msg.ID, State: incident.StateNew, Channel: msg.Channel, Payload: raw}})
	}
	if entries = append(entries, with...); len(entries) == 0 {
		return nil
	}
	if err := m.append(ctx, entries...); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

// maxAnnounced keeps a message and its entries within one write of the journal.
const maxAnnounced = 256 << 10
