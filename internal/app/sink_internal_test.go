package app

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/config"
)

// TestALeakWeighsByTheKeysState: the value of a key that works, or of one that
// nobody told of, is a fact; that of a key that was replaced or revoked is none. It
// is written down as it was then, so that the journal alone gives the same sum.
func TestALeakWeighsByTheKeysState(t *testing.T) {
	t.Parallel()
	set, _ := compileRules(config.RulesConfig{Builtin: true}, nil)
	engine, err := detect.New(detect.DefaultConfig(), detect.Deps{Rules: set})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []journal.KeyChange{{KeyID: "old", State: "active", At: 1}, {KeyID: "live", State: "active", At: 2}, {KeyID: "dead", State: "revoked", At: 1}} {
		k.Network = "net"
		engine.ApplyKey(k)
	}
	paper := &pages{}
	manager, err := alert.New(alert.DefaultConfig(), alert.Deps{Journal: paper, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	paper.readers = []func(journal.Record){manager.Apply}
	a := &App{session: &session{engine: engine}, manager: manager}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = manager.Run(ctx) })
	defer func() { cancel(); wg.Wait() }()
	manager.Lead(ctx, 1)
	var leaks []finding.Finding
	for _, id := range []string{"live", "old", "dead", "new"} {
		leaks = append(leaks, finding.Finding{ID: id, RuleID: "ingest.own_key", Kind: finding.SecretLeak, Severity: finding.Page, First: 5, Last: 5, Fired: 5, Count: 1,
			Subject: finding.Subject{Network: "net", Field: event.FieldKeyID.String(), Value: id}, Risk: &finding.Risk{Family: finding.Possession, Fact: finding.ValueSeen}})
	}
	if err := (sink{a}).Journal(ctx, leaks); err != nil {
		t.Fatal(err)
	}
	met := map[string]bool{}
	for _, inc := range manager.Incidents() {
		met[inc.Subject.Value] = inc.GateMetAt != 0
	}
	if len(met) != 4 || !met["live"] || !met["new"] || met["old"] || met["dead"] {
		t.Errorf("the gate is met for %v, want live and new", met)
	}
	for _, rec := range paper.all() {
		var f finding.Finding
		if rec.Kind == journal.KindFinding && json.Unmarshal(rec.Body, &f) == nil && (f.Risk.Fact == finding.ValueSeen) != met[f.ID] {
			t.Errorf("%s is journaled with %+v", f.ID, f.Risk)
		}
	}
}
