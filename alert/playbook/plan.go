package playbook

import (
	"context"

	"github.com/keysentry/keysentry/alert/journal"
)

// PlanRequest asks for a plan.
type PlanRequest struct {
	Playbook    string
	IncidentID  string
	Network     string
	Inputs      map[string]string
	RequestedBy string // a person; empty for a proposal of ours
	// DryRun makes a plan that can never be approved.
	DryRun bool
}

// Plan fills a playbook's inputs in, lists every call that a run would make,
// journals the plan and returns it. It calls nothing outside but the journal.
func (r *Runner) Plan(ctx context.Context, req PlanRequest) (journal.RunPlanned, error) {
	return journal.RunPlanned{}, ErrNotLeader
}

// Run drives approved runs until ctx ends, and waits for the steps under way.
func (r *Runner) Run(ctx context.Context) error { <-ctx.Done(); return nil }
