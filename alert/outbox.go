package alert

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// outbox is what this process knows about deliveries beyond the journal: when
// the next may go out, and which attempts surely failed. It may be lost at any
// time; the journal then makes the next process look messages up.
type outbox struct {
	takeOver atomic.Bool // a new leadership: look at every incident again

	dirty    map[string]bool      // incidents that may owe a message
	attempts map[string]*attempt  // by message id
	edits    map[string]edit      // by root message id: what it shows
	replied  map[string]time.Time // by incident
	channels map[string]*channel  // by name
	charts   map[string]chartDue  // by root message id
}

// attempt is what is known about sending one message.
type attempt struct {
	failures, lookups int
	notBefore         time.Time
	// refused: the messenger surely did not take it, whatever the journal says.
	refused bool
	// looked: a look-up has not found it since the last attempt.
	looked bool
	// ts is set when it was taken and the journal has not heard of it yet.
	ts string
}

type edit struct {
	shown     string // rendered content
	at        time.Time
	failures  int
	notBefore time.Time
	gone      bool
}

type channel struct {
	next  time.Time   // of anything
	posts []time.Time // in the last minute
}

type chartDue struct {
	message Message
	ts      string
}

func newOutbox() *outbox {
	return &outbox{dirty: map[string]bool{}, attempts: map[string]*attempt{}, edits: map[string]edit{},
		replied: map[string]time.Time{}, channels: map[string]*channel{}, charts: map[string]chartDue{}}
}

// payload is what the journal keeps of a message: a reply whole; a root only
// as a name, because it shows the incident as it is when it goes out.
type payload struct {
	Reply *Message `json:"reply,omitempty"`
}

// job is one call to the messenger that is due.
type job struct {
	kind     jobKind
	priority int
	n        int64 // older first
	message  Message
	state    string // of the journal; "" is a message that is not in it yet
	ts       string // of the message to edit
	upto     int64
	root     bool
}

type jobKind string

const (
	jobPost  jobKind = "post"
	jobEdit  jobKind = "edit"
	jobChart jobKind = "chart"
)

// gather is the least time between two looks at what is owed.
const gather = 20 * time.Millisecond

// idle is how long the outbox sleeps when nothing wakes it.
const idle = time.Second

func (m *Manager) runOutbox(ctx context.Context) {
	if m.deps.Notifier == nil {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-m.wake:
		case <-ctx.Done():
			return
		}
		wait := m.pump(ctx)
		// A burst of records is looked at once.
		if !sleep(ctx, gather) {
			return
		}
		timer.Reset(max(wait-gather, 0))
	}
}

// pump makes the calls that are due and says when to look again.
func (m *Manager) pump(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		now := m.deps.Now()
		j, wait := m.nextJob(now)
		if j == nil {
			return wait
		}
		m.do(ctx, *j, now)
	}
	return idle
}

// nextJob picks the most urgent call that may be made now, or says how long to
// wait.
func (m *Manager) nextJob(now time.Time) (*job, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.leading {
		return nil, idle
	}
	if m.out.takeOver.Swap(false) {
		m.out.forget()
		for _, inc := range m.set.Incidents() {
			m.out.dirty[inc.ID] = true
		}
	}
	if d := m.actAfter.Sub(now); d > 0 {
		return nil, min(d, idle)
	}
	for _, id := range m.set.TakeTouched() {
		m.out.dirty[id] = true
	}
	m.count.unsent.Set(float64(len(m.set.Messages())))
	jobs := m.jobs()
	slices.SortStableFunc(jobs, func(a, b job) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.n, b.n))
	})
	wait := idle
	for i := range jobs {
		d := m.holdBack(&jobs[i], now)
		if d <= 0 {
			return &jobs[i], 0
		}
		wait = min(wait, d)
	}
	return nil, wait
}

// forget drops what a former leadership knew: the journal may have moved on.
func (o *outbox) forget() {
	clear(o.dirty)
	clear(o.attempts)
	clear(o.edits)
	clear(o.charts)
}

// jobs lists every call that somebody is owed; mu is held.
func (m *Manager) jobs() []job {
	var out []job
	for _, msg := range m.set.Messages() {
		if j, ok := m.pending(msg); ok {
			out = append(out, j)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.out.dirty)) {
		inc, ok := m.set.Incident(id)
		if !ok {
			delete(m.out.dirty, id)
			continue
		}
		more := m.owed(inc)
		if len(more) == 0 {
			delete(m.out.dirty, id)
		}
		out = append(out, more...)
	}
	for _, id := range slices.Sorted(maps.Keys(m.out.charts)) {
		c := m.out.charts[id]
		out = append(out, job{kind: jobChart, priority: 9, message: c.message, ts: c.ts})
	}
	return out
}

// pending is the job of a message that the journal knows and that is not sent.
func (m *Manager) pending(msg *incident.Message) (job, bool) {
	var p payload
	if err := json.Unmarshal(msg.Payload, &p); err != nil {
		m.count.unread.Inc()
		p = payload{}
	}
	j := job{kind: jobPost, n: msg.N, state: msg.State, root: p.Reply == nil}
	if !j.root {
		j.message = *p.Reply
		j.priority = priority(j.message.Severity, false)
		return j, true
	}
	inc, ok := m.set.Incident(msg.IncidentID)
	if !ok {
		return j, false
	}
	j.message = m.compose(inc, msg.Channel)
	j.message.Since = msg.CreatedAt
	j.priority = priority(inc.Severity, true)
	return j, true
}

// priority: pages before everything, new incidents before news of old ones.
func priority(s finding.Severity, root bool) int {
	switch {
	case s == finding.Page && root:
		return 0
	case s == finding.Page:
		return 1
	case root:
		return 2
	}
	return 3
}

// owed lists what an incident's channel has not been told: the root, the news,
// or that the root shows something old.
func (m *Manager) owed(inc *incident.Incident) []job {
	ch := m.deps.Routes[inc.Severity]
	if ch == "" {
		return nil
	}
	root, ok := inc.Root(ch)
	if !ok {
		id := rootID(inc, ch)
		if _, pending := m.set.Message(id); pending || inc.State == incident.Closed || inc.Silenced(m.now()) {
			return nil
		}
		msg := m.compose(inc, ch)
		return []job{{kind: jobPost, priority: priority(inc.Severity, true), n: inc.Timeline[0].N, message: msg, root: true}}
	}
	var out []job
	for _, r := range inc.Roots {
		msg := m.compose(inc, r.Channel)
		if e := m.out.edits[r.MessageID]; !e.gone && e.shown != content(msg) && m.worthEditing(inc, r.MessageID) {
			out = append(out, job{kind: jobEdit, priority: 4, n: inc.Timeline[0].N, message: msg, ts: r.TS, root: true})
		}
	}
	notices := m.set.Notices(inc.ID)
	if len(notices) == 0 || inc.Silenced(m.now()) || m.replyPending(inc.ID) {
		return out
	}
	reply := m.composeReply(inc, root, notices)
	upto := notices[len(notices)-1].N
	return append(out, job{kind: jobPost, priority: priority(inc.Severity, false), n: notices[0].N, message: reply, upto: upto})
}

// worthEditing: after a takeover nobody knows what the messages show; those
// about incidents that are over are taken to be right.
func (m *Manager) worthEditing(inc *incident.Incident, rootID string) bool {
	_, known := m.out.edits[rootID]
	return known || inc.State.Active()
}

func (m *Manager) replyPending(incidentID string) bool {
	return slices.ContainsFunc(m.set.Messages(), func(msg *incident.Message) bool { return msg.IncidentID == incidentID })
}

// holdBack says how long a job has to wait still; mu is held.
func (m *Manager) holdBack(j *job, now time.Time) time.Duration {
	d := m.cfg.Delivery
	ch := m.out.channel(j.message.Channel)
	wait := ch.next.Sub(now)
	switch j.kind {
	case jobEdit:
		e := m.out.edits[j.message.ID]
		return max(wait, e.notBefore.Sub(now), e.at.Add(d.EditInterval).Sub(now))
	case jobChart:
		return wait
	}
	if a := m.out.attempts[j.message.ID]; a != nil {
		wait = max(wait, a.notBefore.Sub(now))
		if a.ts != "" {
			return wait // only the journal has to hear of it
		}
	}
	if !j.root {
		wait = max(wait, m.out.replied[j.message.IncidentID].Add(d.ReplyInterval).Sub(now))
	}
	return max(wait, ch.budget(now, allowance(j.priority, d.PerMinute)))
}

// allowance keeps room for what is more urgent: a page's root may use the whole
// minute, other roots all but one message, replies all but two.
func allowance(priority, perMinute int) int {
	switch priority {
	case 0:
		return perMinute
	case 2:
		return max(1, perMinute-1)
	}
	return max(1, perMinute-2)
}

func (o *outbox) channel(name string) *channel {
	c, ok := o.channels[name]
	if !ok {
		c = &channel{}
		o.channels[name] = c
	}
	return c
}

// budget is how long until fewer than n messages went out within the last
// minute.
func (c *channel) budget(now time.Time, n int) time.Duration {
	c.posts = slices.DeleteFunc(c.posts, func(t time.Time) bool { return now.Sub(t) >= time.Minute })
	if len(c.posts) < n {
		return 0
	}
	return c.posts[len(c.posts)-n].Add(time.Minute).Sub(now)
}

func rootID(inc *incident.Incident, channel string) string { return inc.ID + "/" + channel }

func replyID(inc *incident.Incident, upto int64) string {
	return inc.ID + "/" + strconv.FormatInt(upto, 10)
}

// do makes one call; the next state is read anew afterwards.
func (m *Manager) do(ctx context.Context, j job, now time.Time) {
	switch j.kind {
	case jobEdit:
		m.edit(ctx, j, now)
	case jobChart:
		m.chart(ctx, j)
	default:
		m.post(ctx, j, now)
	}
}

// outboxRecord is a change of a message's state.
func (j *job) outboxRecord(state string, now event.Instant) journal.Entry {
	return journal.Entry{Kind: journal.KindOutbox, Time: now, Body: journal.Outbox{
		MessageID: j.message.ID, IncidentID: j.message.IncidentID, State: state, Channel: j.message.Channel, Root: j.root}}
}

// journalOutbox appends under the right to append.
func (m *Manager) journalOutbox(ctx context.Context, entries ...journal.Entry) error {
	release, err := m.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	err = m.append(ctx, entries...)
	if err != nil && !errors.Is(err, ErrNotLeader) {
		m.log.Warn("the outbox could not be journaled, trying again", "error", err)
	}
	return err
}
