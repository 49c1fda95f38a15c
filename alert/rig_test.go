package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

// crash is what a crashing operation panics with.
type crash struct{}

// bomb counts the operations that a process could die before or after, and
// goes off at one of them.
type bomb struct{ at, n int }

func (b *bomb) tick() {
	if b == nil {
		return
	}
	if b.n++; b.n == b.at {
		panic(crash{})
	}
}

// memJournal accepts everything and feeds it to the managers at once.
type memJournal struct {
	mu      sync.Mutex
	records []journal.Record
	readers []*Manager
	bomb    *bomb
	fail    error // instead of accepting
	lose    error // after accepting
	limit   int   // bytes that one append may take, as the real journal's; 0: any
	appends int
}

func (j *memJournal) Append(_ context.Context, entries ...journal.Entry) ([]journal.Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.appends++
	if j.fail != nil {
		return nil, j.fail
	}
	if n := sizeOf(entries); j.limit > 0 && n > j.limit {
		return nil, fmt.Errorf("the records take %d bytes, more than the %d of one write", n, j.limit)
	}
	var out []journal.Record
	for _, e := range entries {
		j.bomb.tick()
		raw, err := json.Marshal(e.Body)
		if err != nil {
			return nil, err
		}
		rec := journal.Record{N: int64(len(j.records) + 1), Time: e.Time, Kind: e.Kind, Body: raw, Offset: int64(len(j.records))}
		j.records = append(j.records, rec)
		out = append(out, rec)
		for _, m := range j.readers {
			m.Apply(rec)
		}
	}
	j.bomb.tick()
	return out, j.lose
}

// sizeOf is what entries take when they are encoded.
func sizeOf(entries []journal.Entry) (n int) {
	for _, e := range entries {
		raw, _ := json.Marshal(e.Body) // an error is the append's business
		n += len(raw)
	}
	return n
}

func (j *memJournal) all() []journal.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.records)
}

// count counts records by kind and, for decisions, by refusal.
func (j *memJournal) count(k journal.Kind) int {
	n := 0
	for _, r := range j.all() {
		if r.Kind == k {
			n++
		}
	}
	return n
}

func (j *memJournal) decisions() (accepted, refused int) {
	for _, r := range j.all() {
		var d journal.Decision
		if r.Kind == journal.KindDecision && json.Unmarshal(r.Body, &d) == nil {
			if d.Refused == "" {
				accepted++
			} else {
				refused++
			}
		}
	}
	return accepted, refused
}

type sentMessage struct {
	Message
	ts    string
	edits int
	at    time.Time
}

// messenger is a Notifier with a memory and faults.
type messenger struct {
	mu         sync.Mutex
	now        func() time.Time
	sent       []*sentMessage
	bomb       *bomb
	posts      []error // outcome of the next posts; nil is success
	accept     bool    // a failing post arrives nevertheless
	lookupErr  error
	lookups    int
	updates    int
	updateErrs []error
}

func (n *messenger) Post(_ context.Context, m Message) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bomb.tick()
	var err error
	if len(n.posts) > 0 {
		err, n.posts = n.posts[0], n.posts[1:]
	}
	if err != nil && !n.accept {
		return "", err
	}
	s := &sentMessage{Message: m, ts: fmt.Sprint(len(n.sent) + 1), at: n.now()}
	n.sent = append(n.sent, s)
	n.bomb.tick()
	return s.ts, err
}

func (n *messenger) Update(_ context.Context, m Message, ts string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.updates++
	if len(n.updateErrs) > 0 {
		err := n.updateErrs[0]
		n.updateErrs = n.updateErrs[1:]
		return err
	}
	for _, s := range n.sent {
		if s.ts == ts {
			s.Message, s.edits = m, s.edits+1
		}
	}
	return nil
}

func (n *messenger) Lookup(_ context.Context, m Message) (string, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups++
	n.bomb.tick()
	if n.lookupErr != nil {
		return "", false, n.lookupErr
	}
	for _, s := range n.sent {
		if s.ID == m.ID {
			return s.ts, true, nil
		}
	}
	return "", false, nil
}

// roots and replies of what arrived.
func (n *messenger) roots() []*sentMessage {
	return n.pick(func(s *sentMessage) bool { return s.Thread == "" })
}
func (n *messenger) replies() []*sentMessage {
	return n.pick(func(s *sentMessage) bool { return s.Thread != "" })
}

func (n *messenger) pick(want func(*sentMessage) bool) []*sentMessage {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*sentMessage
	for _, s := range n.sent {
		if want(s) {
			out = append(out, s)
		}
	}
	return out
}

type memPositions struct {
	mu    sync.Mutex
	saves int
	at    map[event.Partition]int64
	back  bool
	err   error
}

func (p *memPositions) Save(_ context.Context, detected map[event.Partition]int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.saves++
	for k, v := range detected {
		p.back = p.back || v < p.at[k]
		p.at[k] = v
	}
	return nil
}

// get is the position of the one partition of the tests.
func (p *memPositions) get() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[part]
}

func (p *memPositions) saved() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.saves
}

// rig is a manager with everything around it made of memory and a clock that
// only the test moves.
type rig struct {
	t         *testing.T
	cfg       Config
	clock     time.Time
	journal   *memJournal
	messenger *messenger
	positions *memPositions
	metrics   *metrics.Registry
	m         *Manager
	member    string
}

func people() []Person {
	return []Person{
		{ID: "ana", Slack: "U0ANA", Roles: []string{"approver", "responder"}},
		{ID: "bob", Slack: "U0BOB", Roles: []string{"approver"}},
		{ID: "rita", Slack: "U0RITA", Roles: []string{"responder"}},
		{ID: "vera", Slack: "U0VERA"},
	}
}

func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	cfg := DefaultConfig()
	cfg.People = people()
	for _, f := range change {
		f(&cfg)
	}
	r := &rig{t: t, cfg: cfg, clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), journal: &memJournal{},
		positions: &memPositions{at: map[event.Partition]int64{}}, metrics: metrics.New(), member: "one"}
	r.messenger = &messenger{now: func() time.Time { return r.clock }}
	r.start()
	return r
}

// start makes a manager as a new process would: it reads the journal and leads.
func (r *rig) start() {
	r.t.Helper()
	r.metrics = metrics.New()
	m, err := New(r.cfg, Deps{Journal: r.journal, Notifier: r.messenger, Positions: r.positions, Now: func() time.Time { return r.clock }, Metrics: r.metrics})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, rec := range r.journal.all() {
		m.Apply(rec)
	}
	r.journal.readers = []*Manager{m}
	r.m = m
	recs, err := r.journal.Append(r.t.Context(), journal.Entry{Kind: journal.KindTookOver, Time: event.At(r.clock), Body: journal.TookOver{Member: r.member}})
	if err != nil {
		r.t.Fatal(err)
	}
	m.Lead(r.t.Context(), recs[0].Offset)
}

func (r *rig) record(findings ...finding.Finding) {
	r.t.Helper()
	if err := r.m.Record(r.t.Context(), findings); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) append(k journal.Kind, body any) {
	r.t.Helper()
	if _, err := r.journal.Append(r.t.Context(), journal.Entry{Kind: k, Time: event.At(r.clock), Body: body}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tick() {
	r.t.Helper()
	if err := r.m.Tick(r.t.Context(), event.At(r.clock)); err != nil {
		r.t.Fatal(err)
	}
}

// pass lets the outbox work while time goes by.
func (r *rig) pass(d time.Duration) {
	end := r.clock.Add(d)
	for r.clock.Before(end) {
		wait := r.m.pump(r.t.Context())
		r.clock = r.clock.Add(max(min(wait, end.Sub(r.clock)), time.Millisecond))
	}
}

func (r *rig) decide(d journal.Decision) journal.Decision {
	r.t.Helper()
	got, err := r.m.Decide(r.t.Context(), d)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// only is the one incident that there should be.
func (r *rig) only() incident.Incident {
	r.t.Helper()
	all := r.m.Incidents()
	if len(all) != 1 {
		r.t.Fatalf("got %d incidents, want 1", len(all))
	}
	return all[0]
}

// counter reads one of the manager's counters.
func (r *rig) counter(name string, labels map[string]string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gatherer().Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "keysentry_alert_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			match := true
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					match = false
				}
			}
			if match {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// found makes a finding about a subject.
func found(kind finding.Kind, sev finding.Severity, field, value string, episode int) finding.Finding {
	at := event.At(time.Date(2026, 3, 1, 11, 59, 0, 0, time.UTC)).Add(time.Duration(episode) * time.Second)
	group := []finding.Pair{{Field: field, Value: value}}
	rule := "rule-" + string(kind)
	return finding.Finding{ID: finding.MakeID(rule, group, at), RuleID: rule, RuleTitle: "Title of " + rule, Kind: kind, Severity: sev,
		Subject: finding.Subject{Network: "net", Field: field, Value: value}, Group: group, First: at, Last: at, Fired: at, Count: 3,
		Summary: "Something happened"}
}

var errDown = errors.New("down")

func failing(c Class) error { return &NotifyError{Class: c, Err: errDown} }
