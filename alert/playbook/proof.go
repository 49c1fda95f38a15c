package playbook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// proof is what the events say about a cut-over, as of now.
type proof struct {
	hosts    int // live hosts of the inventory
	laggards []string
	foreign  int  // addresses or hosts outside the inventory that use the old key
	covered  bool // the data of the quiet time is complete
	coverage float64
	known    bool // coverage can be told
}

// proven: every live host shows the wanted key, none the other, over complete
// data. A network of which nothing is seen proves nothing.
func (p proof) proven() bool { return p.hosts > 0 && len(p.laggards) == 0 && p.covered }

// why says what is missing.
func (p proof) why() string {
	switch {
	case p.hosts == 0:
		return "no live host is seen"
	case len(p.laggards) > 0:
		return hostsLeft(p.laggards)
	case !p.known:
		return "the coverage of the data is unknown"
	case !p.covered:
		return fmt.Sprintf("only %.0f %% of the expected data is there", 100*p.coverage)
	}
	return "proven"
}

// hostsLeft names at most ten hosts.
func hostsLeft(hosts []string) string {
	noun := "hosts"
	if len(hosts) == 1 {
		noun = "host"
	}
	shown, more := hosts, ""
	if len(hosts) > 10 {
		shown, more = hosts[:10], fmt.Sprintf(" and %d more", len(hosts)-10)
	}
	return fmt.Sprintf("%d %s left: %s%s", len(hosts), noun, strings.Join(shown, " "), more)
}

// judge weighs the evidence: a host is over when it shows the wanted key, by
// enough mints or by the key in its heartbeat, and has shown the other neither
// in its heartbeat nor, for the quiet time, in a mint.
func judge(cfg Config, use []KeyUse, wanted, other string, now event.Instant) proof {
	type host struct{ shows, showsOther bool }
	hosts := map[string]*host{}
	var p proof
	quietFrom := now.Add(-cfg.ProofQuiet)
	for _, u := range use {
		if u.Foreign {
			if u.KeyID == other {
				p.foreign++
			}
			continue
		}
		if !u.Live {
			continue
		}
		h := hosts[u.Host]
		if h == nil {
			h = &host{}
			hosts[u.Host] = h
		}
		if u.HeartbeatKey == wanted || u.KeyID == wanted && u.Mints >= cfg.ProofMints {
			h.shows = true
		}
		if u.HeartbeatKey == other || u.KeyID == other && u.Last > quietFrom {
			h.showsOther = true
		}
	}
	p.hosts = len(hosts)
	for name, h := range hosts {
		if !h.shows || h.showsOther {
			p.laggards = append(p.laggards, name)
		}
	}
	slices.Sort(p.laggards)
	return p
}

// proof looks at the evidence for a run's wait step.
func (r *Runner) proof(run *run, s journal.PlanStep) proof {
	wanted, other := run.keyID("new"), run.keyID("old")
	if s.Inputs["key"] == "old" {
		wanted, other = other, wanted
	}
	now := event.At(r.deps.Now())
	p := judge(r.cfg, r.deps.Evidence.KeyUse(run.planned.Network, now), wanted, other, now)
	p.coverage, p.known = r.deps.Evidence.Coverage(run.planned.Network, now.Add(-r.cfg.ProofQuiet), now)
	p.covered = p.known && p.coverage >= r.cfg.ProofCoverage
	return p
}

// liveHosts lists the hosts of a network's inventory that speak.
func (r *Runner) liveHosts(network string) []string {
	var out []string
	for _, u := range r.deps.Evidence.KeyUse(network, event.At(r.deps.Now())) {
		if u.Live && !u.Foreign && !slices.Contains(out, u.Host) {
			out = append(out, u.Host)
		}
	}
	slices.Sort(out)
	return out
}

// wait looks once whether the cut-over is proven; the runner comes back.
func (r *Runner) wait(ctx context.Context, run *run, s journal.PlanStep) (moved bool, err error) {
	overlap, err := time.ParseDuration(s.Inputs["overlap"])
	if err != nil {
		return false, fmt.Errorf("overlap of step %s: %w", s.ID, err)
	}
	back := run.entered[StateBackOut] != 0
	if st := run.steps[s.ID]; st == nil {
		state := StateOverlap
		if back {
			state = StateBackOut
		}
		key := idempotenceKey(run.planned.RunID, s.ID, 1)
		p := r.proof(run, s)
		return true, r.append(ctx, r.stepEntry(run, s, journal.Step{Attempt: 1, State: "started", Key: key}),
			r.stateEntry(run, journal.RunState{State: string(state), Clock: r.clockText(run, p, overlap)}))
	}
	w := waiting{r: r, run: run, step: s, overlap: overlap, proof: r.proof(run, s), now: event.At(r.deps.Now()), back: back}
	began := run.steps[s.ID].started
	w.deadline = began.Add(overlap)
	if run.extended != 0 && !back {
		w.deadline = run.extended.Add(overlap)
	}
	w.laggardsAt = began.Add(time.Duration(r.cfg.LaggardsAt * float64(overlap)))
	return w.look(ctx)
}

// waiting is one look at an overlap.
type waiting struct {
	r                    *Runner
	run                  *run
	step                 journal.PlanStep
	overlap              time.Duration
	proof                proof
	now                  event.Instant
	deadline, laggardsAt event.Instant
	back                 bool
}

func (w *waiting) look(ctx context.Context) (moved bool, err error) {
	run := w.run
	if w.proof.proven() {
		return true, w.end(ctx, "proven", fmt.Sprintf("Proven: all %d live hosts use the key, and none the other for %s.",
			w.proof.hosts, short(w.r.cfg.ProofQuiet)))
	}
	if w.overlap == 0 && !w.back {
		return true, w.end(ctx, "skipped", "No overlap, as approved: "+w.proof.why()+".")
	}
	choice, who := run.choice, run.chooser
	if choice == "" && w.now >= w.deadline && run.preset != "" && (run.preset != choiceExtend || run.extensions == 0) {
		choice, who = run.preset, strings.Join(run.approvals, ", ")+" with the approval"
	}
	switch {
	case w.back:
	case choice == choiceExtend && run.extensions == 0:
		return true, w.state(ctx, StateOverlap, reasonExtended, "Extended by "+short(w.overlap)+", chosen by "+who+".")
	case choice == choiceRevokeNow && w.now >= w.deadline:
		return true, w.end(ctx, "overridden", "Revoking without proof, chosen by "+who+": "+w.proof.why()+". They will fail.")
	case choice == choiceBackOut && run.canBackOut():
		return true, w.state(ctx, StateBackOut, "chosen by "+who, "Backing out, chosen by "+who+".")
	case w.now >= w.deadline && run.state != StateOverdue:
		return true, w.state(ctx, StateOverdue, "no proof", "The overlap is over and the cut-over is not proven: "+w.proof.why()+
			". Nothing is revoked by itself: extend once, revoke now, or back out.")
	}
	if w.now >= w.laggardsAt && !run.laggardsTold {
		return true, w.state(ctx, run.state, reasonLaggards, "Not there yet after "+short(w.laggardsAt.Sub(run.steps[w.step.ID].started))+": "+w.proof.why()+".")
	}
	if text := w.r.clockText(run, w.proof, w.deadline.Sub(w.now)); text != run.clock && w.now.Sub(run.clockAt) >= w.r.cfg.ClockEvery {
		return true, w.state(ctx, run.state, "", "") // only the clock moves
	}
	return false, nil
}

// state journals a state of the overlap with its clock.
func (w *waiting) state(ctx context.Context, s State, reason, text string) error {
	left := w.deadline.Sub(w.now)
	if reason == reasonExtended {
		left = w.overlap
	}
	rs := journal.RunState{State: string(s), Reason: reason, Text: text, Clock: w.r.clockText(w.run, w.proof, left)}
	return w.r.append(ctx, w.r.stateEntry(w.run, rs))
}

// end finishes the wait, with proof or by decision.
func (w *waiting) end(ctx context.Context, how, text string) error {
	if w.proof.foreign > 0 {
		text += fmt.Sprintf(" The other key is also used from %d places outside the inventory: an attack, which does not hold the proof up.", w.proof.foreign)
	}
	st := w.run.steps[w.step.ID]
	out := []journal.Entry{w.r.stepEntry(w.run, w.step, journal.Step{Attempt: st.attempt, State: "done",
		Key: idempotenceKey(w.run.planned.RunID, w.step.ID, 1), Outputs: map[string]string{outProof: how}, Text: text})}
	if !w.back {
		state := StateProven
		if how != "proven" {
			state = StateOverlap
		}
		out = append(out, w.r.keyEntry(w.run, w.run.keyID("old"), "retired"),
			w.r.stateEntry(w.run, journal.RunState{State: string(state), Reason: how, Text: text}))
	}
	return w.r.append(ctx, out...)
}

// clockText is the live clock of an overlap.
func (r *Runner) clockText(run *run, p proof, left time.Duration) string {
	which := "both keys valid"
	if run.output(typeProbe, outOverlap) == string(OverlapReplace) {
		which = "only the new key works"
	}
	switch {
	case run.entered[StateBackOut] != 0:
		return "backing out, " + p.why()
	case left <= 0:
		return which + ", overdue by " + short(-left) + ", " + p.why()
	}
	return which + " " + short(left) + ", " + p.why()
}
