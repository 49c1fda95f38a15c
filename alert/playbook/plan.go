package playbook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// PlanRequest asks for a plan.
type PlanRequest struct {
	Playbook    string
	IncidentID  string
	Network     string
	Inputs      map[string]string
	RequestedBy string // a person; empty for a proposal of ours
	// DryRun makes a plan that can never be approved and ends at once.
	DryRun bool
}

// Errors of Plan.
var (
	// ErrRefusedPlan wraps every reason why a plan is not made.
	ErrRefusedPlan = errors.New("no plan")
)

// Plan fills a playbook's inputs in, lists every call that a run would make,
// journals the plan and returns it. It calls nothing outside but the journal.
func (r *Runner) Plan(ctx context.Context, req PlanRequest) (journal.RunPlanned, error) {
	if lead, _ := r.leading(); lead == nil {
		return journal.RunPlanned{}, ErrNotLeader
	}
	r.planning.Lock()
	defer r.planning.Unlock()
	pb, ok := r.deps.Library.Get(req.Playbook)
	if !ok {
		return journal.RunPlanned{}, fmt.Errorf("%w: there is no playbook %q", ErrRefusedPlan, req.Playbook)
	}
	target, ok := r.deps.Targets[req.Network]
	if !ok {
		return journal.RunPlanned{}, fmt.Errorf("%w: network %q has no key provider and secret store in the configuration", ErrRefusedPlan, req.Network)
	}
	now := event.At(r.deps.Now())
	if !req.DryRun {
		if err := r.free(req, now); err != nil {
			return journal.RunPlanned{}, fmt.Errorf("%w: %w", ErrRefusedPlan, err)
		}
	}
	p := planner{pb: pb, target: target, req: req, run: "run-" + r.deps.NewID(), hosts: len(r.liveHosts(req.Network))}
	planned, err := p.plan()
	if err != nil {
		return journal.RunPlanned{}, fmt.Errorf("%w: %w", ErrRefusedPlan, err)
	}
	planned.ExpiresAt = now.Add(r.cfg.ApprovalMax)
	if req.RequestedBy != "" || r.fold.acknowledged(req.IncidentID) {
		planned.ExpiresAt = now.Add(min(r.cfg.ApprovalWindow, r.cfg.ApprovalMax))
	}
	if err := r.append(ctx, journal.Entry{Kind: journal.KindRunPlanned, Time: now, Body: planned}); err != nil {
		return journal.RunPlanned{}, fmt.Errorf("journal the plan: %w", err)
	}
	r.metrics.runs.WithLabelValues(planned.Playbook, string(StatePlanned)).Inc()
	return planned, nil
}

// free refuses a plan for a network that is busy or, for a proposal of ours, in
// its cooldown.
func (r *Runner) free(req PlanRequest, now event.Instant) error {
	for _, run := range r.fold.all() {
		if run.planned.Network != req.Network || run.planned.DryRun {
			continue
		}
		if !run.ended && (run.state != StatePlanned || now <= run.expires) {
			return fmt.Errorf("run %s of %s is %s: one at a time in a network", run.planned.RunID, req.Network, run.state)
		}
		if req.RequestedBy == "" && run.entered[StateApproved] != 0 && now.Sub(run.since) < r.cfg.Cooldown {
			return fmt.Errorf("run %s of %s ended %s ago: we propose nothing for %s after a run",
				run.planned.RunID, req.Network, short(now.Sub(run.since)), short(r.cfg.Cooldown))
		}
	}
	return nil
}

// Hash is what an approval binds itself to: the SHA-256 of the canonical JSON
// (keys sorted) of everything that decides what a run does.
func Hash(p journal.RunPlanned) (string, error) {
	b, err := json.Marshal(map[string]any{"run_id": p.RunID, "playbook": p.Playbook, "incident_id": p.IncidentID,
		"network": p.Network, "approvals": p.Approvals, "dry_run": p.DryRun, "plan": p.Plan})
	if err != nil {
		return "", fmt.Errorf("encode the plan: %w", err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// planner fills one playbook in.
type planner struct {
	pb     *Playbook
	target Target
	req    PlanRequest
	run    string
	hosts  int
	inputs map[string]string
}

func (p *planner) plan() (journal.RunPlanned, error) {
	if err := p.fillInputs(); err != nil {
		return journal.RunPlanned{}, err
	}
	title, err := expand(p.pb.Title, false, p.lookup)
	if err != nil {
		return journal.RunPlanned{}, err
	}
	out := journal.RunPlanned{RunID: p.run, Playbook: p.pb.Name, IncidentID: p.req.IncidentID, Network: p.req.Network,
		RequestedBy: p.req.RequestedBy, DryRun: p.req.DryRun, Approvals: 1, Plan: journal.Plan{Summary: title, Inputs: p.inputs}}
	for _, s := range p.pb.Steps {
		if !p.holds(s.When) {
			continue
		}
		ps, err := p.step(s)
		if err != nil {
			return journal.RunPlanned{}, err
		}
		if n, err := strconv.Atoi(ps.Inputs["people"]); err == nil && s.Type == typeApprove {
			out.Approvals = max(out.Approvals, n)
		}
		if s.Type == typeWait && isZero(ps.Inputs["overlap"]) {
			out.Approvals = max(out.Approvals, 2)
			out.Plan.Summary += fmt.Sprintf("; NO OVERLAP: %d live hosts fail until each has loaded the new key", p.hosts)
		}
		out.Plan.Steps = append(out.Plan.Steps, ps)
	}
	for _, s := range p.pb.Compensations {
		ps, err := p.step(s)
		if err != nil {
			return journal.RunPlanned{}, err
		}
		out.Plan.Compensations = append(out.Plan.Compensations, ps)
	}
	out.PlanHash, err = Hash(out)
	return out, err
}

// fillInputs merges what was asked for with the defaults.
func (p *planner) fillInputs() error {
	p.inputs = map[string]string{}
	for name := range p.req.Inputs {
		if _, known := p.pb.Inputs[name]; !known {
			return fmt.Errorf("playbook %s has no input %q", p.pb.Name, name)
		}
	}
	for _, name := range sortedKeys(p.pb.Inputs) {
		in := p.pb.Inputs[name]
		v, given := p.req.Inputs[name]
		if name == "network" {
			v, given = p.req.Network, true
		}
		switch {
		case !given && in.Required:
			return fmt.Errorf("input %s is required", name)
		case !given:
			v = in.Default
		}
		if given {
			if err := in.check(v); err != nil {
				return fmt.Errorf("input %s: %w", name, err)
			}
		}
		p.inputs[name] = v
	}
	if isZero(p.inputs["overlap"]) && p.inputs["mode"] != "compromise" {
		return errors.New("an overlap of zero is for mode compromise only")
	}
	return nil
}

func isZero(v string) bool {
	d, err := time.ParseDuration(v)
	return err == nil && d == 0
}

// lookup knows inputs and the run, but not yet what steps will put out.
func (p *planner) lookup(ref string) (string, bool) {
	kind, name, _ := strings.Cut(ref, ".")
	switch kind {
	case "inputs":
		v, ok := p.inputs[name]
		return v, ok
	case "run":
		v, ok := map[string]string{"id": p.run, "network": p.req.Network, "incident_id": p.req.IncidentID, "playbook": p.pb.Name}[name]
		return v, ok
	}
	return "", false
}

// holds evaluates a condition that the loader has checked.
func (p *planner) holds(when string) bool {
	m := whenForm.FindStringSubmatch(when)
	return m == nil || (p.inputs[m[1]] == m[3]) == (m[2] == "==")
}

func (p *planner) step(s StepDef) (journal.PlanStep, error) {
	ps := journal.PlanStep{ID: s.ID, Type: s.Type, Reversible: s.Reversible, TimeoutS: int64((s.Timeout + time.Second - 1) / time.Second),
		Attempts: max(s.Retry.Attempts, 1), RetryS: s.Retry.Delay.Seconds(), Precondition: s.Precondition,
		Verification: s.Verification, Compensation: s.Compensation}
	if ps.TimeoutS == 0 {
		ps.TimeoutS = 30
	}
	if len(s.Inputs) > 0 {
		ps.Inputs = map[string]string{}
	}
	for name, text := range s.Inputs {
		v, err := expand(text, true, p.lookup)
		if err != nil {
			return ps, fmt.Errorf("step %s: input %s: %w", s.ID, name, err)
		}
		ps.Inputs[name] = v
	}
	ps.Calls = p.calls(ps)
	return ps, nil
}

// calls says in words every call that a step makes.
func (p *planner) calls(s journal.PlanStep) []string {
	provider := p.target.Provider.Capabilities()
	at := func(op Operation) string { return provider.Name + ": " + provider.Calls[op] }
	store := p.target.Store.Describe(p.target.SecretName)
	probe := func(which string) string {
		return at(OpMint) + " for " + p.target.ProbeUser + " with the " + which + " key"
	}
	which := s.Inputs["key"]
	var calls []string
	switch s.Type {
	case typePrecheck:
		canary := p.target.Store.Describe(canaryName)
		calls = []string{"read " + store, "write and read back " + canary, probe("old"), at(OpList)}
	case typeIssue:
		calls = []string{at(OpList), at(OpIssue)}
	case typeStore:
		calls = []string{"read " + store, "write the new key to " + store + " (only if unchanged since the precheck)", "read back " + store}
	case typeRestore:
		calls = []string{"read " + store, "write the old key to " + store, "read back " + store}
	case typeProbe:
		calls = []string{probe("new"), probe("old")}
	case typeDistribute:
		calls = []string{"nothing: the hosts watch " + store}
		if p.target.Distributor != nil {
			calls = []string{p.target.Distributor.Describe()}
		}
	case typeRevoke:
		other := "new"
		if which == "new" {
			other = "old"
		}
		calls = []string{at(OpList), probe(other), at(OpRevoke) + " the " + which + " key"}
	case typeVerify:
		calls = []string{probe("old"), probe("new")}
	}
	for _, check := range append(append([]string{}, s.Precondition...), s.Verification...) {
		switch check {
		case checkOldAnswers, checkOldDead:
			calls = append(calls, check+": "+probe("old"))
		case checkNewAnswers:
			calls = append(calls, check+": "+probe("new"))
		default:
			calls = append(calls, check+": read "+store)
		}
	}
	return calls
}

// short prints a duration without its zero tail: 23m, 1h, 45s.
func short(d time.Duration) string {
	if d >= time.Minute {
		d = d.Round(time.Minute)
	} else {
		d = d.Round(time.Second)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
