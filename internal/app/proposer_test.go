package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/alert/playbook/action/simulated"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/secret"
)

// pages is a journal in memory that every part hears of.
type pages struct {
	mu      sync.Mutex
	n       int64
	down    bool
	readers []func(journal.Record)
}

func (p *pages) Append(_ context.Context, entries ...journal.Entry) (out []journal.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return nil, errors.New("the broker is away")
	}
	for _, e := range entries {
		raw, err := json.Marshal(e.Body)
		if err != nil {
			return nil, err
		}
		p.n++
		rec := journal.Record{N: p.n, Time: e.Time, Kind: e.Kind, Body: raw, Offset: p.n}
		for _, f := range p.readers {
			f(rec)
		}
		out = append(out, rec)
	}
	return out, nil
}

func (p *pages) set(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *pages) append(t *testing.T, kind journal.Kind, body any) {
	t.Helper()
	if _, err := p.Append(t.Context(), journal.Entry{Kind: kind, Time: event.At(time.Now()), Body: body}); err != nil {
		t.Fatal(err)
	}
}

type nothingSeen struct{}

func (nothingSeen) KeyUse(string, event.Instant) []playbook.KeyUse { return nil }
func (nothingSeen) Coverage(string, event.Instant, event.Instant) (float64, bool) {
	return 0, false
}

// office is a member with a proposer, and whether it leads.
type office struct {
	t        *testing.T
	journal  *pages
	manager  *alert.Manager
	runner   *playbook.Runner
	proposer *proposer

	mu      sync.Mutex
	leading bool
	dead    bool // the key of the incident; set before anything runs
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, journal: &pages{}}
	identity := filepath.Join(t.TempDir(), "identity")
	if err := encfile.GenerateIdentity(identity); err != nil {
		t.Fatal(err)
	}
	store, err := encfile.New(encfile.Config{Path: identity + ".age", IdentityFile: identity, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	provider, err := simulated.New(simulated.Config{URL: "http://127.0.0.1:1", Timeout: time.Second}, simulated.Deps{AdminToken: secret.New("token")})
	if err != nil {
		t.Fatal(err)
	}
	library, err := LoadPlaybooks(config.PlaybookConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if o.manager, err = alert.New(alert.DefaultConfig(), alert.Deps{Journal: o.journal, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	o.runner, err = playbook.New(playbook.DefaultConfig(), playbook.Deps{Journal: o.journal, Library: library, Evidence: nothingSeen{}, Now: time.Now,
		Targets:     map[string]playbook.Target{"net": {Provider: provider, Store: store, SecretName: "key", ProbeUser: "probe"}},
		Fingerprint: func(string, secret.Value) string { return "v1:0" }})
	if err != nil {
		t.Fatal(err)
	}
	o.proposer = newProposer(&proposer{enabled: true, manager: o.manager, runner: o.runner, library: library, log: slog.New(slog.DiscardHandler),
		inputs: func(incident.Incident) map[string]string { return nil },
		dead:   func(incident.Incident) bool { return o.dead },
		leading: func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.leading
		}})
	o.journal.readers = []func(journal.Record){o.manager.Apply, func(r journal.Record) { _ = o.runner.Apply(r) }, o.proposer.apply}
	return o
}

// run lets the proposer work until the end of the test's bubble.
func (o *office) run() (stop func()) {
	ctx, cancel := context.WithCancel(o.t.Context())
	done := make(chan error, 1)
	go func() { done <- o.proposer.run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			o.t.Error(err)
		}
	}
}

func (o *office) lead() {
	o.mu.Lock()
	o.leading = true
	o.mu.Unlock()
	o.manager.Lead(o.t.Context(), 1)
	o.runner.Lead(o.t.Context(), 1)
}

// stolen writes what the former leader did before it died: two independent signals.
func (o *office) stolen() {
	o.signal(finding.Place, 1)
	o.signal(finding.Volume, 2)
}

// signal journals a finding about the key, over one event, and its incident.
func (o *office) signal(family string, offset int64) {
	at := event.At(time.Now())
	id := fmt.Sprintf("f-%d", offset)
	f := finding.Finding{ID: id, RuleID: family, RuleTitle: family, Kind: finding.KeyCompromise, Severity: finding.Page, Fired: at, First: at, Last: at, Count: 1,
		Subject: finding.Subject{Network: "net", Field: "key_id", Value: "k1"}, Risk: &finding.Risk{Family: family, Score: 3},
		Evidence: []finding.Evidence{{Ref: event.Ref{Topic: "t", Offset: offset}, TS: at, Type: event.TypeAuthTokenIssued}}}
	o.journal.append(o.t, journal.KindFinding, f)
	op := incident.OpJoin
	if _, ok := o.manager.Incident("inc-1"); !ok {
		op = incident.OpOpen
	}
	o.journal.append(o.t, journal.KindIncident, journal.IncidentChange{IncidentID: "inc-1", Op: op, FindingID: id, Kind: f.Kind})
}

func (o *office) plans(want int) {
	o.t.Helper()
	time.Sleep(5 * time.Second)
	synctest.Wait()
	if got := len(o.manager.Runs()); got != want {
		o.t.Errorf("got %d plans, want %d", got, want)
	}
}

func TestANewLeaderProposesWhatTheOldOneDidNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.run()()
		o.stolen()
		o.plans(0)
		o.lead()
		o.plans(1)
	})
}

func TestAProposalWaitsForTheJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.run()()
		o.lead()
		o.stolen()
		o.journal.set(true)
		o.plans(0)
		o.journal.set(false)
		o.plans(1)
	})
}

func TestAReopenedIncidentGetsAPlanOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.run()()
		o.lead()
		o.stolen()
		o.plans(1)
		run := o.manager.Runs()[0].ID
		o.journal.append(t, journal.KindRunState, journal.RunState{RunID: run, State: "denied", Ended: true})
		o.signal(finding.Sequence, 3)
		o.plans(1) // one that was denied is not asked for again
		o.journal.append(t, journal.KindIncident, journal.IncidentChange{IncidentID: "inc-1", Op: incident.OpResolve})
		o.journal.append(t, journal.KindIncident, journal.IncidentChange{IncidentID: "inc-1", Op: incident.OpReopen})
		o.signal(finding.Possession, 4)
		o.plans(2)
	})
}

func TestNothingIsProposedBeforeTheEvidenceSuffices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.run()()
		o.lead()
		o.signal(finding.Place, 1)
		o.plans(0)
		o.signal(finding.Volume, 1) // the same event says nothing new
		o.plans(0)
		// The gate limits our proposals, not people.
		planned, err := o.runner.Plan(t.Context(), playbook.PlanRequest{Playbook: "rotate-server-key", IncidentID: "inc-1", Network: "net", RequestedBy: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		o.plans(1)
		o.journal.append(t, journal.KindRunState, journal.RunState{RunID: planned.RunID, State: "denied", Ended: true})
		o.journal.append(t, journal.KindIncident, journal.IncidentChange{IncidentID: "inc-1", Op: incident.OpResolve})
		o.journal.append(t, journal.KindIncident, journal.IncidentChange{IncidentID: "inc-1", Op: incident.OpReopen})
		o.plans(1)
		o.signal(finding.Sequence, 2)
		o.plans(2)
	})
}

func TestNothingIsProposedForADeadKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.dead = true
		defer o.run()()
		o.lead()
		o.stolen()
		o.plans(0)
	})
}
