package alert

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// maxIntentAge is how old a journaled intent to send may be when the sending
// starts: a new leader waits longer than that before its first message.
const maxIntentAge = 5 * time.Second

// post brings one message one state further towards sent.
func (m *Manager) post(ctx context.Context, j job, now time.Time) {
	a := m.out.attempts[j.message.ID]
	if a == nil {
		a = &attempt{}
		m.out.attempts[j.message.ID] = a
	}
	if a.ts == "" && doubtful(j.state, a) {
		found, goOn := m.lookup(ctx, j, a, now)
		if !goOn {
			return
		}
		a.ts = found
	}
	if a.ts == "" && !m.send(ctx, j, a) {
		return
	}
	sent := j.outboxRecord(incident.StateSent, event.At(m.deps.Now()))
	body := sent.Body.(journal.Outbox)
	body.TS = a.ts
	sent.Body = body
	if err := m.journalOutbox(ctx, sent); err != nil {
		m.delay(a)
		return
	}
	m.sent(j, a.ts)
}

// doubtful: the journal says that sending began, and nothing says how it ended.
func doubtful(state string, a *attempt) bool {
	return (state == incident.StateSending || state == incident.StateUnknown) && !a.refused && !a.looked
}

// lookup asks the messenger for a message that may have arrived. goOn is false
// when the answer has to wait.
func (m *Manager) lookup(ctx context.Context, j job, a *attempt, now time.Time) (ts string, goOn bool) {
	m.mu.Lock()
	msg, ok := m.set.Message(j.message.ID)
	var since event.Instant
	if ok {
		since = msg.ChangedAt
	}
	m.mu.Unlock()
	// What was under way needs a moment to show.
	if settle := since.Add(m.cfg.Delivery.SettleAfter).Time().Sub(now); ok && settle > 0 {
		a.notBefore = now.Add(settle)
		return "", false
	}
	callCtx, cancel := context.WithTimeout(ctx, m.cfg.Delivery.Timeout)
	defer cancel()
	ts, found, err := m.deps.Notifier.Lookup(callCtx, j.message)
	switch {
	case err != nil:
		m.failed("lookup", j, err)
		a.lookups++
		m.delay(a)
		m.backOff(j, err)
		if a.lookups < m.cfg.Delivery.Lookups {
			return "", false
		}
		m.log.Error("a message cannot be looked up and is posted again, perhaps twice", "message", j.message.ID, "error", err)
	case found:
		m.succeeded("lookup", "found")
		return ts, true
	default:
		m.succeeded("lookup", "absent")
	}
	a.looked = true
	return "", true
}

// send journals the intent and posts. It reports whether the message is out.
func (m *Manager) send(ctx context.Context, j job, a *attempt) bool {
	// Every attempt has an intent of its own: its acceptance is the proof that
	// this member still leads.
	intent := event.At(m.deps.Now())
	if err := m.journalOutbox(ctx, m.intents(&j, intent)...); err != nil {
		m.delay(a)
		return false
	}
	if event.At(m.deps.Now()).Sub(intent) > maxIntentAge {
		return false // too old to act on; nothing was sent, so intend anew
	}
	kind := "reply"
	if j.root {
		kind = "root"
	}
	a.refused, a.looked = false, false
	callCtx, cancel := context.WithTimeout(ctx, m.cfg.Delivery.Timeout)
	defer cancel()
	ts, err := m.deps.Notifier.Post(callCtx, j.message)
	m.paced(j)
	if err == nil {
		m.succeeded(kind, "sent")
		a.ts = ts
		return true
	}
	m.failed(kind, j, err)
	m.delay(a)
	class, _ := classify(err)
	if a.refused = class != Unknown; a.refused {
		m.backOff(j, err)
		return false
	}
	// The journal hears of the doubt even when ctx is why there is one.
	_ = m.journalOutbox(context.WithoutCancel(ctx), j.outboxRecord(incident.StateUnknown, event.At(m.deps.Now())))
	return false
}

// intents are the records that have to precede a posting.
func (m *Manager) intents(j *job, now event.Instant) []journal.Entry {
	sending := j.outboxRecord(incident.StateSending, now)
	if j.state != "" {
		return []journal.Entry{sending}
	}
	var p payload
	if !j.root {
		p.Reply = &j.message
	}
	// A Message holds only strings and numbers: it always encodes.
	raw, _ := json.Marshal(p)
	fresh := j.outboxRecord(incident.StateNew, now)
	body := fresh.Body.(journal.Outbox)
	body.Payload, body.Upto = raw, j.upto
	fresh.Body = body
	return []journal.Entry{fresh, sending}
}

// sent notes what is only good for pacing.
func (m *Manager) sent(j job, ts string) {
	now := m.deps.Now()
	delete(m.out.attempts, j.message.ID)
	if !j.root {
		m.out.replied[j.message.IncidentID] = now
		return
	}
	m.out.edits[j.message.ID] = edit{shown: content(j.message), at: now}
	m.out.replied[j.message.IncidentID] = now
	if _, ok := m.deps.Notifier.(Charter); ok && len(j.message.Series.Counts) > 1 {
		m.out.charts[j.message.ID] = chartDue{j.message, ts}
	}
}

// edit shows the incident as it is now. An edit that is lost is made again, so
// it needs no record.
func (m *Manager) edit(ctx context.Context, j job, now time.Time) {
	e := m.out.edits[j.message.ID]
	e.at = now
	callCtx, cancel := context.WithTimeout(ctx, m.cfg.Delivery.Timeout)
	defer cancel()
	err := m.deps.Notifier.Update(callCtx, j.message, j.ts)
	m.out.channel(j.message.Channel).next = m.deps.Now().Add(m.cfg.Delivery.PerChannel)
	if err == nil {
		e.shown, e.failures, e.notBefore = content(j.message), 0, time.Time{}
		m.succeeded("edit", "sent")
	} else {
		m.failed("edit", j, err)
		class, _ := classify(err)
		e.gone = class == Gone
		e.notBefore = m.deps.Now().Add(m.pause(e.failures))
		e.failures++
		m.backOff(j, err)
	}
	m.out.edits[j.message.ID] = e
}

// chart tries once.
func (m *Manager) chart(ctx context.Context, j job) {
	delete(m.out.charts, j.message.ID)
	callCtx, cancel := context.WithTimeout(ctx, m.cfg.Delivery.Timeout)
	defer cancel()
	if err := m.deps.Notifier.(Charter).Chart(callCtx, j.message, j.ts); err != nil {
		m.failed("chart", j, err)
		return
	}
	m.succeeded("chart", "sent")
}

// paced counts a posting, successful or not, against the channel's limits.
func (m *Manager) paced(j job) {
	now := m.deps.Now()
	ch := m.out.channel(j.message.Channel)
	ch.next = now.Add(m.cfg.Delivery.PerChannel)
	ch.posts = append(ch.posts, now)
}

// backOff keeps the whole channel quiet when the messenger asks for it, or when
// trying is pointless for a while.
func (m *Manager) backOff(j job, err error) {
	class, after := classify(err)
	switch class {
	case RetryAfter:
	case Permanent:
		after = m.cfg.Delivery.RetryMax
	default:
		return
	}
	ch := m.out.channel(j.message.Channel)
	if t := m.deps.Now().Add(after); t.After(ch.next) {
		ch.next = t
	}
}

func (m *Manager) delay(a *attempt) {
	a.notBefore = m.deps.Now().Add(m.pause(a.failures))
	a.failures++
}

// pause doubles with each failure.
func (m *Manager) pause(failures int) time.Duration {
	d := m.cfg.Delivery
	return min(d.RetryMin<<min(failures, 16), d.RetryMax)
}

func (m *Manager) succeeded(kind, outcome string) {
	m.count.messages.WithLabelValues(kind, outcome).Inc()
	m.mu.Lock()
	m.deliverErr = nil
	m.mu.Unlock()
}

func (m *Manager) failed(kind string, j job, err error) {
	class, _ := classify(err)
	m.count.messages.WithLabelValues(kind, string(class)).Inc()
	m.mu.Lock()
	m.deliverErr = err
	m.mu.Unlock()
	m.log.Warn("a message could not be delivered", "kind", kind, "message", j.message.ID, "channel", j.message.Channel, "error", err)
}
