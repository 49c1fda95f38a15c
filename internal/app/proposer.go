package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
)

// proposer plans a playbook when an incident triggers it, on the leader. It only
// proposes: nothing runs before a person approves.
type proposer struct {
	enabled bool
	manager *alert.Manager
	runner  *playbook.Runner
	library *playbook.Library
	leading func() bool
	inputs  func(inc incident.Incident) map[string]string
	log     *slog.Logger

	mu      sync.Mutex
	waiting map[string]bool // incident ids
	wake    chan struct{}
}

// apply notes incidents that changed; the journal's reader must not be held up.
func (p *proposer) apply(r journal.Record) {
	if r.Kind != journal.KindIncident || !p.enabled {
		return
	}
	var c journal.IncidentChange
	if err := json.Unmarshal(r.Body, &c); err != nil {
		return // the manager has said so
	}
	switch c.Op {
	case incident.OpOpen, incident.OpJoin, incident.OpReopen:
	default:
		return
	}
	p.mu.Lock()
	p.waiting[c.IncidentID] = true
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *proposer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
		p.mu.Lock()
		ids := p.waiting
		p.waiting = map[string]bool{}
		p.mu.Unlock()
		if !p.leading() {
			continue // history, or another member's business
		}
		for id := range ids {
			p.propose(ctx, id)
		}
	}
}

func (p *proposer) propose(ctx context.Context, id string) {
	inc, ok := p.manager.Incident(id)
	if !ok || !inc.State.Active() || p.hasRun(inc) {
		return
	}
	for _, pb := range p.library.Propose(inc.Kind, inc.Severity) {
		planned, err := p.runner.Plan(ctx, playbook.PlanRequest{Playbook: pb.Name, IncidentID: inc.ID, Network: inc.Subject.Network, Inputs: p.inputs(inc)})
		switch {
		case err == nil:
			p.log.Info("playbook proposed", "incident", inc.ID, "playbook", pb.Name, "run", planned.RunID)
			return
		case errors.Is(err, playbook.ErrNotLeader) || ctx.Err() != nil:
			return
		default:
			// The incident stands without a plan; a person can still ask for one.
			p.log.Warn("playbook was not proposed", "incident", inc.ID, "playbook", pb.Name, "error", err)
		}
	}
}

// hasRun reports whether a run of the incident is open already, or one ended
// well in this life of the incident.
func (p *proposer) hasRun(inc incident.Incident) bool {
	for _, id := range inc.Runs {
		if run, ok := p.manager.RunByID(id); ok && !run.DryRun && (!run.Ended || run.PlannedAt >= inc.OpenedAt) {
			return true
		}
	}
	return false
}
