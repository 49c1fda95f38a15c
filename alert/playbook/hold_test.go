package playbook_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

// change journals a change of an incident, as alerting does.
func (w *world) change(c journal.IncidentChange) {
	w.t.Helper()
	if _, err := w.journal.Append(w.t.Context(), journal.Entry{Kind: journal.KindIncident, Time: event.At(time.Now()), Body: c}); err != nil {
		w.t.Fatal(err)
	}
}

func TestTheKillSwitchStopsEveryRun(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateOverlap, 10*time.Minute)
		w.decide(journal.Decision{Action: journal.ActionStop, Person: "carl"})
		l.untilState(p.RunID, playbook.StateStopped, time.Minute)
		w.decide(journal.Decision{Action: journal.ActionResume, Person: "carl"})
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		l.end()
		w.rotated()
	})
}

// A stop that lies before a step's intent in the journal holds that step too.
func TestAStopHoldsAStepWhoseIntentComesAfterIt(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		before := w.calls()
		w.mu.Lock()
		w.slow = 3 * time.Second
		w.mu.Unlock()
		time.Sleep(15 * time.Second) // the new leader's wait is over
		w.approve(p, "bob")
		time.Sleep(time.Second)
		w.decide(journal.Decision{Action: journal.ActionStop, RunID: p.RunID, Person: "carl"})
		l.untilState(p.RunID, playbook.StateStopped, time.Minute)
		if w.calls() != before {
			t.Errorf("the stopped run made calls: %s, then %s", before, w.calls())
		}
		var got []string
		for _, s := range bodies[journal.Step](w, journal.KindStep) {
			if s.StepID == "precheck" {
				got = append(got, fmt.Sprint(s.Attempt, s.State))
			}
		}
		if want := "[1started 1late]"; fmt.Sprint(got) != want {
			t.Errorf("precheck went %v, want %s", got, want)
		}
		w.decide(journal.Decision{Action: journal.ActionResume, RunID: p.RunID, Person: "carl"})
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		l.end()
		w.rotated()
	})
}

func TestAnApprovalDoesNotOutliveThePlan(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		l.end()
		w.approve(p, "bob") // in time, while nobody leads
		before := w.calls()
		time.Sleep(20 * time.Hour)
		l = w.begin(testConfig(), 0)
		l.untilState(p.RunID, playbook.StateExpired, time.Minute)
		l.end()
		if w.calls() != before {
			t.Errorf("an approval of yesterday made calls: %s, then %s", before, w.calls())
		}
	})
}

func TestAnApprovalInTheLastSecondCounts(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		l.end()
		time.Sleep(time.Until(p.ExpiresAt.Time()) - time.Second)
		w.approve(p, "bob")
		l = w.begin(testConfig(), 0) // waits as every new leader
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		l.end()
		w.rotated()
	})
}

func TestAReopenedIncidentIsAcknowledgedAnew(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		w.decide(journal.Decision{Action: journal.ActionAck, IncidentID: "inc-9", Person: "ann"})
		w.change(journal.IncidentChange{IncidentID: "inc-9", Op: incident.OpReopen})
		p, err := l.runner.Plan(t.Context(), playbook.PlanRequest{Playbook: pbName, Network: network, IncidentID: "inc-9"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if v, _ := l.runner.Get(p.RunID); v.State != playbook.StatePlanned {
			t.Errorf("a proposal that nobody acknowledged is %s after an hour", v.State)
		}
		l.end()
	})
}

// Until the old key was really being revoked there is a way back.
func TestAStopRightBeforeTheRevokeLeavesTheWayBack(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateOverlap, 10*time.Minute)
		w.mu.Lock()
		w.slow = 4 * time.Second
		w.mu.Unlock()
		l.untilState(p.RunID, playbook.StateProven, 10*time.Minute)
		w.decide(journal.Decision{Action: journal.ActionStop, RunID: p.RunID, Person: "carl"})
		v := l.untilState(p.RunID, playbook.StateStopped, time.Minute)
		for _, s := range v.Steps {
			if s.ID == "revoke" && s.State != "late" {
				t.Fatalf("the revoke is %q, want late: the test is about nothing", s.State)
			}
		}
		w.decide(journal.Decision{Action: journal.ActionChoose, RunID: p.RunID, Person: "bob", Choice: "back_out"})
		w.decide(journal.Decision{Action: journal.ActionResume, RunID: p.RunID, Person: "bob"})
		l.until(p.RunID, time.Hour, func(v playbook.RunView) bool { return v.Ended })
		l.end()
		if v, _ := l.runner.Get(p.RunID); v.State != playbook.StateBackOut {
			t.Errorf("the run ended %s, want %s", v.State, playbook.StateBackOut)
		}
		w.oneKeyWorks()
	})
}
