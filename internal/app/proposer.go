package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
)

// proposer plans a playbook when an incident triggers it, on the leader. It only
// proposes: nothing runs before a person approves. About a key in other hands it
// proposes nothing before the evidence suffices (detect/suspicion); a person may ask
// for a plan from any incident. What comes while this member
// does not lead, or while the journal takes nothing, is looked at again later.
type proposer struct {
	enabled bool
	manager *alert.Manager
	runner  *playbook.Runner
	library *playbook.Library
	leading func() bool
	inputs  func(inc incident.Incident) map[string]string
	// dead says that the incident is about a key that works no longer, so that
	// replacing the live one would change nothing.
	dead func(inc incident.Incident) bool
	log  *slog.Logger

	mu      sync.Mutex
	waiting map[string]bool // incident ids
	all     bool            // look at every incident: what a former leader left
	wake    chan struct{}
}

// newProposer readies p.
func newProposer(p *proposer) *proposer {
	p.waiting, p.all, p.wake = map[string]bool{}, true, make(chan struct{}, 1)
	return p
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
	if !p.all {
		p.waiting[c.IncidentID] = true
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// proposeEvery is the pause before what could not be proposed is tried again.
const proposeEvery = time.Second

func (p *proposer) run(ctx context.Context) error {
	if !p.enabled {
		return nil
	}
	tick := time.NewTicker(proposeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-tick.C:
		}
		for _, id := range p.take() {
			if !p.propose(ctx, id) {
				p.mu.Lock()
				p.waiting[id] = true
				p.mu.Unlock()
			}
		}
	}
}

// take is what is to be looked at now. Away from the leadership it is nothing,
// and everything afterwards: the leader of now may die before it has proposed.
func (p *proposer) take() (ids []string) {
	leading := p.leading()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !leading:
		p.all = true
	case p.all:
		p.all = false
		for _, inc := range p.manager.Incidents() {
			ids = append(ids, inc.ID)
		}
	default:
		ids = slices.Sorted(maps.Keys(p.waiting))
	}
	clear(p.waiting)
	return ids
}

// propose reports whether the incident is settled: it has a plan, or can have
// none.
func (p *proposer) propose(ctx context.Context, id string) bool {
	inc, ok := p.manager.Incident(id)
	if !ok || !inc.State.Active() || p.hasRun(inc) {
		return true
	}
	if inc.AboutKey() && (inc.GateMetAt == 0 || p.dead(inc)) {
		return true // the finding that changes this wakes us again
	}
	for _, pb := range p.library.Propose(inc.Kind, inc.Severity) {
		planned, err := p.runner.Plan(ctx, playbook.PlanRequest{Playbook: pb.Name, IncidentID: inc.ID, Network: inc.Subject.Network, Inputs: p.inputs(inc)})
		switch {
		case err == nil:
			p.log.Info("playbook proposed", "incident", inc.ID, "playbook", pb.Name, "run", planned.RunID)
			return true
		case errors.Is(err, playbook.ErrRefusedPlan):
			// The incident stands without a plan; a person can still ask for one.
			p.log.Warn("playbook was not proposed", "incident", inc.ID, "playbook", pb.Name, "error", err)
		case errors.Is(err, playbook.ErrNotLeader) || ctx.Err() != nil:
			return false
		default:
			p.log.Warn("playbook could not be proposed, trying again", "incident", inc.ID, "playbook", pb.Name, "error", err)
			return false
		}
	}
	return true
}

// hasRun reports whether a run of the incident is open, or was planned in this
// life of the incident, however it ended.
func (p *proposer) hasRun(inc incident.Incident) bool {
	since := max(inc.OpenedAt, inc.ReopenedAt)
	for _, id := range inc.Runs {
		if run, ok := p.manager.RunByID(id); ok && !run.DryRun && (!run.Ended || run.PlannedAt >= since) {
			return true
		}
	}
	return false
}
