package playbook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// Run drives the open runs while this member leads, each in its own goroutine,
// until ctx ends; then it waits for them.
func (r *Runner) Run(ctx context.Context) error {
	defer r.wg.Wait()
	tick := time.NewTicker(r.cfg.EvidenceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-tick.C:
		}
		lead, from := r.leading()
		if lead == nil || r.deps.Now().Before(from) {
			continue
		}
		overdue := 0
		for _, id := range r.fold.open() {
			r.start(ctx, lead, id)
			if run := r.fold.snapshot(id); run != nil && run.state == StateOverdue {
				overdue++
			}
		}
		r.metrics.overdue.Set(float64(overdue))
	}
}

// start drives a run unless that happens already. The goroutine ends when the
// run can do nothing for now.
func (r *Runner) start(ctx, lead context.Context, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.driving[id] {
		return
	}
	r.driving[id] = true
	r.wg.Go(func() {
		both, cancel := context.WithCancel(lead)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		err := r.drive(both, id)
		if err != nil && both.Err() == nil {
			r.log.Error("a run cannot go on for now", "run", id, "err", err)
			pause(both, time.Second)
		}
		r.mu.Lock()
		delete(r.driving, id)
		r.mu.Unlock()
	})
}

// drive takes one run as far as it goes.
func (r *Runner) drive(ctx context.Context, id string) error {
	for ctx.Err() == nil {
		run := r.fold.snapshot(id)
		if run == nil || run.ended {
			return nil
		}
		moved, err := r.advance(ctx, run)
		if err != nil || !moved {
			return err
		}
	}
	return ctx.Err()
}

// advance makes one move, and reports whether there was one to make.
func (r *Runner) advance(ctx context.Context, run *run) (moved bool, err error) {
	switch {
	case run.state == StatePlanned:
		return r.decidePlan(ctx, run)
	case run.stopped != "":
		if run.state == StateStopped {
			return false, nil
		}
		return true, r.enter(ctx, run, journal.RunState{State: string(StateStopped), Reason: "stopped by " + run.stopped,
			Text: "Stopped by " + run.stopped + ": no further step starts until someone resumes. " + r.keysText(run)})
	case run.choice == choiceBackOut && run.canBackOut():
		return true, r.enter(ctx, run, journal.RunState{State: string(StateBackOut), Reason: "chosen by " + run.chooser,
			Text: "Backing out, chosen by " + run.chooser + ": the old key is restored, then the new one is revoked."})
	case run.state == StateStopped || run.held():
		if run.resume == "" {
			return false, nil
		}
		return true, r.enter(ctx, run, journal.RunState{State: string(run.progress), Reason: "resumed by " + run.resume,
			Text: "Resumed by " + run.resume + "."})
	}
	step, ok := run.next()
	if !ok {
		return true, r.finish(ctx, run)
	}
	if step.Type == typeWait {
		return r.wait(ctx, run, step)
	}
	return r.step(ctx, run, step)
}

// decidePlan ends or approves a plan.
func (r *Runner) decidePlan(ctx context.Context, run *run) (moved bool, err error) {
	switch {
	case run.planned.DryRun:
		return true, r.enter(ctx, run, journal.RunState{State: string(StateDone), Ended: true, Reason: "dry run",
			Text: "Dry run: nothing was called."})
	case run.denied != "":
		return true, r.enter(ctx, run, journal.RunState{State: string(StateDenied), Ended: true, Reason: "denied by " + run.denied,
			Text: "Denied by " + run.denied + "."})
	case len(run.approvals) >= max(run.planned.Approvals, 1) && event.At(r.deps.Now()) <= run.expires.Add(startGrace):
		return true, r.approved(ctx, run)
	case event.At(r.deps.Now()) > run.expires:
		text := "The plan expired without approval; nothing was done. Plan again to start."
		if len(run.approvals) > 0 {
			text = "The plan expired: approved by " + strings.Join(run.approvals, ", ") + ", but not started in time; nothing was done. Plan again to start."
		}
		return true, r.enter(ctx, run, journal.RunState{State: string(StateExpired), Ended: true, Reason: "not approved and started in time", Text: text})
	}
	return false, nil
}

// startGrace is how long after a plan's end a run may start that was approved in
// time: a takeover fits in, an outage does not, after which a person looks anew.
const startGrace = time.Minute

func (r *Runner) approved(ctx context.Context, run *run) error {
	if hash, err := Hash(run.planned); err != nil || hash != run.planned.PlanHash {
		return r.enter(ctx, run, journal.RunState{State: string(StateFailed), Ended: true, Reason: "the plan does not have the hash that was approved",
			Text: "The plan does not have the hash that was approved: nothing was done."})
	}
	text := "Approved by " + strings.Join(run.approvals, ", ") + "."
	entries := []journal.Entry{r.stateEntry(run, journal.RunState{State: string(StateApproved), Text: text})}
	for _, s := range run.planned.Plan.Steps {
		if s.Type == typeApprove {
			entries = append(entries, r.stepEntry(run, s, journal.Step{Attempt: 1, State: "done", Text: text}))
		}
	}
	return r.append(ctx, entries...)
}

// next is the first step of the plan that is not done; while backing out, of the
// compensations.
func (run *run) next() (journal.PlanStep, bool) {
	for _, s := range run.sequence() {
		if st := run.steps[s.ID]; st == nil || st.state != "done" {
			return s, true
		}
	}
	return journal.PlanStep{}, false
}

// sequence is the steps to do: those of the plan or, while backing out, the
// compensations of what was begun, the last one first.
func (run *run) sequence() []journal.PlanStep {
	if run.entered[StateBackOut] == 0 {
		return run.planned.Plan.Steps
	}
	byID := map[string]journal.PlanStep{}
	for _, c := range run.planned.Plan.Compensations {
		byID[c.ID] = c
	}
	var out []journal.PlanStep
	for i := len(run.planned.Plan.Steps) - 1; i >= 0; i-- {
		s := run.planned.Plan.Steps[i]
		if run.steps[s.ID] == nil {
			continue
		}
		for _, id := range s.Compensation {
			out = append(out, byID[id])
		}
	}
	return out
}

// finish ends a run whose steps are all done.
func (r *Runner) finish(ctx context.Context, run *run) error {
	s := journal.RunState{State: string(StateDone), Ended: true, Text: "Done. " + r.keysText(run)}
	if run.entered[StateBackOut] != 0 {
		s = journal.RunState{State: string(StateBackOut), Ended: true, Reason: "backed out",
			Text: "Backed out: the old key is in use everywhere and the new one is dead."}
	}
	r.forget(run)
	return r.enter(ctx, run, s)
}

// step tries one step once: intent, action, result.
func (r *Runner) step(ctx context.Context, run *run, s journal.PlanStep) (moved bool, err error) {
	st := run.steps[s.ID]
	if st == nil {
		st = &stepState{generation: 1}
	}
	if st.fails > 0 {
		again := st.ended.Add(time.Duration(s.RetryS * float64(time.Second)))
		if d := again.Sub(event.At(r.deps.Now())); d > 0 {
			return true, pause(ctx, d)
		}
	}
	c := &call{r: r, run: run, step: s, attempt: st.attempt + 1, generation: st.generation, target: r.deps.Targets[run.planned.Network]}
	c.key = idempotenceKey(run.planned.RunID, s.ID, st.generation)
	if c.target.Provider == nil {
		return true, r.failed(ctx, c, fmt.Errorf("%w: network %s is no longer configured", errFinal, run.planned.Network))
	}
	intent := r.stepEntry(run, s, journal.Step{Attempt: c.attempt, State: "started", Key: c.key})
	c.intent = intent.Time
	entries := []journal.Entry{intent}
	if enters := stepTypes()[s.Type].enters; enters != "" && run.state != enters && run.entered[StateBackOut] == 0 {
		entries = append(entries, r.stateEntry(run, journal.RunState{State: string(enters)}))
	}
	if err := r.append(ctx, entries...); err != nil {
		return false, fmt.Errorf("journal the intent of step %s: %w", s.ID, err)
	}
	r.metrics.steps.WithLabelValues(s.Type, "started").Inc()
	if why := r.tooLate(run, intent.Time); why != "" {
		return true, r.append(ctx, r.stepEntry(run, s, journal.Step{Attempt: c.attempt, State: "late", Key: c.key, Error: why}))
	}
	res, err := c.perform(ctx)
	switch {
	case err == nil:
		return true, r.done(ctx, c, res)
	case ctx.Err() != nil:
		return false, ctx.Err() // nobody leads here any more: the next leader converges
	}
	return true, r.failed(ctx, c, err)
}

// tooLate says why an intent that was accepted is not acted on, or nothing.
func (r *Runner) tooLate(run *run, intent event.Instant) string {
	if age := event.At(r.deps.Now()).Sub(intent); age > r.cfg.MaxIntentAge {
		r.metrics.lateActs.Inc()
		return "the intent was accepted " + short(age) + " after it was written"
	}
	// What the journal took before the intent is folded by now.
	if latest := r.fold.snapshot(run.planned.RunID); latest != nil && latest.stopped != "" {
		return "stopped by " + latest.stopped + " before it began"
	}
	return ""
}

// done journals a finished step, and the state that the run has reached by it.
func (r *Runner) done(ctx context.Context, c *call, res result) error {
	entries := []journal.Entry{r.stepEntry(c.run, c.step, journal.Step{Attempt: c.attempt, State: "done", Key: c.key,
		Outputs: res.outputs, Text: res.text})}
	entries = append(entries, res.entries...)
	if reach := stepTypes()[c.step.Type].reach; reach != "" && c.run.entered[StateBackOut] == 0 {
		entries = append(entries, r.stateEntry(c.run, journal.RunState{State: string(reach), Text: res.text}))
	}
	if err := r.append(ctx, entries...); err != nil {
		return fmt.Errorf("journal the result of step %s: %w", c.step.ID, err)
	}
	r.metrics.steps.WithLabelValues(c.step.Type, "done").Inc()
	return nil
}

// failed journals a failed try, and what follows: another try, a key to issue
// anew, the end, or a person.
func (r *Runner) failed(ctx context.Context, c *call, cause error) error {
	var lost *lostKeyError
	if errors.As(cause, &lost) {
		return r.lostKey(ctx, c, lost)
	}
	state := "failed"
	if c.step.Type == typeIssue && !errors.Is(cause, ErrRefused) && !errors.Is(cause, errFinal) {
		state = "unknown"
	}
	entries := []journal.Entry{r.stepEntry(c.run, c.step, journal.Step{Attempt: c.attempt, State: state, Key: c.key, Error: cause.Error()})}
	fails := 1
	if st := c.run.steps[c.step.ID]; st != nil {
		fails += st.fails
	}
	if fails >= c.step.Attempts || errors.Is(cause, errFinal) {
		entries = append(entries, r.stateEntry(c.run, r.giveUp(ctx, c, cause, state)))
	}
	if err := r.append(ctx, entries...); err != nil {
		return fmt.Errorf("journal the failure of step %s: %w", c.step.ID, err)
	}
	r.metrics.steps.WithLabelValues(c.step.Type, state).Inc()
	return nil
}

// giveUp says where a run stands whose step failed for good.
func (r *Runner) giveUp(ctx context.Context, c *call, cause error, state string) journal.RunState {
	s := journal.RunState{State: string(StateFailed), Reason: c.step.ID + ": " + cause.Error()}
	touched := c.run.touched() || c.step.Type == typeIssue && state == "unknown"
	if !touched {
		s.Ended, s.Text = true, "Step "+c.step.ID+" failed before a key was issued: nothing was changed. "+cause.Error()
		r.forget(c.run)
		return s
	}
	if state == "unknown" {
		s.State = string(StateUnknown)
	}
	s.Text = "Step " + c.step.ID + " failed: " + cause.Error() + ". " + c.escrow(ctx) + r.keysText(c.run) + " Resume to try again"
	if c.run.canBackOut() {
		s.Text += ", or back out"
	}
	s.Text += "."
	return s
}

// lostKey journals that a key was issued whose value nobody has, so that the
// issue is done anew under another label.
func (r *Runner) lostKey(ctx context.Context, c *call, lost *lostKeyError) error {
	issue, ok := c.run.stepOf(typeIssue)
	if !ok {
		return errors.New("a key is lost, and the plan has no step that issues one")
	}
	attempt := c.attempt
	if st := c.run.steps[issue.ID]; st != nil && c.step.ID != issue.ID {
		attempt = st.attempt
	}
	text := "The value of an issued key was lost before it was stored: that key is unusable, it will be revoked once another one is known to work, and a new one is issued."
	entries := []journal.Entry{r.stepEntry(c.run, issue, journal.Step{Attempt: attempt, State: "compensated", Error: lost.Error(), Text: text,
		Outputs: map[string]string{outLostProviderID: lost.providerID}})}
	if old := c.run.output(typeIssue, outNewKey); old != "" {
		entries = append(entries, r.keyEntry(c.run, old, "revoked"))
	}
	entries = append(entries, r.stateEntry(c.run, journal.RunState{State: string(StateIssuing), Reason: "key lost", Text: text}))
	return r.append(ctx, entries...)
}

// idempotenceKey is given to the outside, so that a repeated call is recognised.
func idempotenceKey(run, step string, generation int) string {
	h := sha256.Sum256([]byte(run + "/" + step + "/" + strconv.Itoa(generation)))
	return "ks-" + hex.EncodeToString(h[:12])
}

// enter journals one state.
func (r *Runner) enter(ctx context.Context, run *run, s journal.RunState) error {
	if err := r.append(ctx, r.stateEntry(run, s)); err != nil {
		return fmt.Errorf("journal state %s: %w", s.State, err)
	}
	return nil
}

func (r *Runner) stateEntry(run *run, s journal.RunState) journal.Entry {
	s.RunID = run.planned.RunID
	return journal.Entry{Kind: journal.KindRunState, Time: event.At(r.deps.Now()), Body: s}
}

func (r *Runner) stepEntry(run *run, s journal.PlanStep, body journal.Step) journal.Entry {
	body.RunID, body.StepID = run.planned.RunID, s.ID
	return journal.Entry{Kind: journal.KindStep, Time: event.At(r.deps.Now()), Body: body}
}

func (r *Runner) keyEntry(run *run, keyID, state string) journal.Entry {
	now := event.At(r.deps.Now())
	return journal.Entry{Kind: journal.KindKeyObserved, Time: now, Body: journal.KeyChange{
		Network: run.planned.Network, KeyID: keyID, State: state, At: now, RunID: run.planned.RunID}}
}

// append journals and folds. The fold sees the records again from the journal's
// own reader, which changes nothing.
func (r *Runner) append(ctx context.Context, entries ...journal.Entry) error {
	for _, e := range entries {
		if s, ok := e.Body.(journal.RunState); ok {
			if run := r.fold.snapshot(s.RunID); run != nil && string(run.state) != s.State {
				r.metrics.runs.WithLabelValues(run.planned.Playbook, s.State).Inc()
			}
		}
	}
	recs, err := r.deps.Journal.Append(ctx, entries...)
	for _, rec := range recs {
		if _, ferr := r.fold.apply(rec); ferr != nil && err == nil {
			err = ferr
		}
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
