package alert

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// planned is a rig with an incident about a compromised key and a plan.
func planned(t *testing.T) (*rig, string) {
	t.Helper()
	r := newRig(t)
	r.record(found(finding.KeyCompromise, finding.Page, "key_id", "k1", 1))
	id := r.only().ID
	plan(r, id)
	return r, id
}

func approve(id, person string) journal.Decision {
	return journal.Decision{ID: id, Action: journal.ActionApprove, RunID: "run-1", PlanHash: "hash-1", Person: person, Via: "cli"}
}

func TestDecideRefuses(t *testing.T) {
	t.Parallel()
	zero := 0
	one := 1
	nothing := func(*rig, string) {}
	ack := func(r *rig, id string) {
		r.decide(journal.Decision{ID: "ack", Action: journal.ActionAck, IncidentID: id, Person: "rita"})
	}
	tests := []struct {
		name   string
		before func(r *rig, id string)
		d      journal.Decision // IncidentID "this" is the incident
		want   string           // part of the reason; empty: accepted
	}{
		{"approval", nothing, approve("d", "ana"), ""},
		{"approval through Slack", nothing, approve("d", "slack:U0BOB"), ""},
		{"unknown person", nothing, approve("d", "eve"), "not in the list of people"},
		{"unknown Slack user", nothing, approve("d", "slack:U0EVE"), "not in the list of people"},
		{"a person's id given as a Slack user", nothing, approve("d", "slack:ana"), "not in the list of people"},
		{"empty Slack user", nothing, approve("d", "slack:"), "not in the list of people"},
		{"wrong person", nothing, approve("d", "rita"), "no authority"},
		{"person without roles", nothing, approve("d", "vera"), "no authority"},
		{"unknown action", nothing, journal.Decision{ID: "d", Action: "dance", Person: "ana"}, "no such action"},
		{"no hash", nothing, journal.Decision{ID: "d", Action: journal.ActionApprove, RunID: "run-1", Person: "ana"}, "hash of the plan"},
		{"forged hash", nothing, journal.Decision{ID: "d", Action: journal.ActionApprove, RunID: "run-1", PlanHash: "hash-2", Person: "ana"}, "stale"},
		{"unknown run", nothing, journal.Decision{ID: "d", Action: journal.ActionApprove, RunID: "run-9", PlanHash: "hash-1", Person: "ana"}, "no such run"},
		{"approved before", func(r *rig, _ string) { r.decide(approve("first", "bob")) }, approve("d", "ana"), "approved by bob"},
		{"incident is closed", closeIt, approve("d", "bob"), "closed by ana"},
		{"deny the plan of a closed incident", closeIt, journal.Decision{ID: "d", Action: journal.ActionDeny, RunID: "run-1", Person: "bob", Reason: "x"}, ""},
		{"denied before", func(r *rig, _ string) {
			r.decide(journal.Decision{ID: "no", Action: journal.ActionDeny, RunID: "run-1", Person: "bob", Reason: "not now"})
		}, approve("d", "ana"), "denied by bob"},
		{"run is over", func(r *rig, _ string) {
			r.append(journal.KindRunState, journal.RunState{RunID: "run-1", State: "expired", Ended: true})
		}, approve("d", "ana"), "the run is over: expired"},
		{"15 min after the acknowledgement", func(r *rig, id string) { ack(r, id); r.clock = r.clock.Add(15 * time.Minute) }, approve("d", "ana"), "expired"},
		{"just before that", func(r *rig, id string) { ack(r, id); r.clock = r.clock.Add(15*time.Minute - 1) }, approve("d", "ana"), ""},
		{"unacknowledged, 1 h later", func(r *rig, _ string) { r.clock = r.clock.Add(time.Hour) }, approve("d", "ana"), ""},
		{"2 h later", func(r *rig, _ string) { r.clock = r.clock.Add(2 * time.Hour) }, approve("d", "ana"), "expired"},
		{"acknowledged after 1:50, 2 h after the plan", func(r *rig, id string) {
			r.clock = r.clock.Add(110 * time.Minute)
			ack(r, id)
			r.clock = r.clock.Add(10 * time.Minute)
		}, approve("d", "ana"), "expired"},
		{"planned again", func(r *rig, id string) {
			r.append(journal.KindRunPlanned, journal.RunPlanned{RunID: "run-1", IncidentID: id, PlanHash: "hash-2"})
		}, approve("d", "ana"), "stale"},
		{"dry run", func(r *rig, id string) {
			r.append(journal.KindRunPlanned, journal.RunPlanned{RunID: "run-1", IncidentID: id, PlanHash: "hash-1", DryRun: true})
		}, approve("d", "ana"), "dry run"},
		{"acknowledged twice", ack, journal.Decision{ID: "d", Action: journal.ActionAck, IncidentID: "this", Person: "ana"}, "already acknowledged by rita"},
		{"acknowledge a stale button", nothing, journal.Decision{ID: "d", Action: journal.ActionAck, IncidentID: "this", Person: "ana", Generation: &one}, "stale"},
		{"acknowledge", nothing, journal.Decision{ID: "d", Action: journal.ActionAck, IncidentID: "this", Person: "ana", Generation: &zero}, ""},
		{"unknown incident", nothing, journal.Decision{ID: "d", Action: journal.ActionAck, IncidentID: "inc-0", Person: "ana"}, "no such incident"},
		{"close without a verdict", nothing, journal.Decision{ID: "d", Action: journal.ActionClose, IncidentID: "this", Person: "ana"}, "verdict"},
		{"false positive without a reason", nothing, journal.Decision{ID: "d", Action: journal.ActionClose, Verdict: "false", IncidentID: "this", Person: "ana"}, "reason"},
		{"false positive", nothing, journal.Decision{ID: "d", Action: journal.ActionClose, Verdict: "false", Reason: "a test", IncidentID: "this", Person: "ana"}, ""},
		{"closed before", closeIt, journal.Decision{ID: "d", Action: journal.ActionAck, IncidentID: "this", Person: "ana"}, "closed by ana"},
		{"silence without a reason", nothing, journal.Decision{ID: "d", Action: journal.ActionSilence, IncidentID: "this", Person: "ana"}, "reason"},
		{"silence into the past", nothing, journal.Decision{ID: "d", Action: journal.ActionSilence, IncidentID: "this", Person: "ana", Reason: "x", Until: 1}, "past"},
		{"silence for a year", nothing, journal.Decision{ID: "d", Action: journal.ActionSilence, IncidentID: "this", Person: "ana", Reason: "x",
			Until: event.At(time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC))}, "7 days"},
		{"deny without a reason", nothing, journal.Decision{ID: "d", Action: journal.ActionDeny, RunID: "run-1", Person: "ana"}, "reason"},
		{"deny another plan", nothing, journal.Decision{ID: "d", Action: journal.ActionDeny, RunID: "run-1", PlanHash: "old", Person: "ana", Reason: "x"}, "stale"},
		{"choose before the run acts", nothing, journal.Decision{ID: "d", Action: journal.ActionChoose, RunID: "run-1", Choice: "extend", Person: "ana"}, "does not wait"},
		{"choose nonsense", rotate, journal.Decision{ID: "d", Action: journal.ActionChoose, RunID: "run-1", Choice: "explode", Person: "ana"}, "choice is needed"},
		{"extend without a reason", rotate, journal.Decision{ID: "d", Action: journal.ActionChoose, RunID: "run-1", Choice: "extend", Person: "ana"}, "reason"},
		{"revoke before the overlap is over", rotate, journal.Decision{ID: "d", Action: journal.ActionChoose, RunID: "run-1", Choice: "revoke_now", Person: "ana"}, "not overdue"},
		{"revoke when it is over", func(r *rig, id string) {
			rotate(r, id)
			r.append(journal.KindRunState, journal.RunState{RunID: "run-1", State: "overdue"})
		}, journal.Decision{ID: "d", Action: journal.ActionChoose, RunID: "run-1", Choice: "revoke_now", Person: "ana"}, ""},
		{"extend before the overlap", rotate, journal.Decision{ID: "d", Action: journal.ActionChoose, RunID: "run-1", Choice: "extend", Reason: "x", Person: "ana"}, "no overlap"},
		{"approve with an outcome chosen for a routine plan", nothing, journal.Decision{ID: "d", Action: journal.ActionApprove, RunID: "run-1",
			PlanHash: "hash-1", Choice: "revoke_now", Person: "ana"}, "compromise"},
		{"approve with an unknown outcome", nothing, journal.Decision{ID: "d", Action: journal.ActionApprove, RunID: "run-1",
			PlanHash: "hash-1", Choice: "explode", Person: "ana"}, "choice"},
		{"resume what is not stopped", rotate, journal.Decision{ID: "d", Action: journal.ActionResume, RunID: "run-1", Person: "ana"}, "nothing to resume"},
		{"resume what was held", func(r *rig, id string) {
			rotate(r, id)
			r.append(journal.KindRunState, journal.RunState{RunID: "run-1", State: "failed"})
		}, journal.Decision{ID: "d", Action: journal.ActionResume, RunID: "run-1", Person: "ana"}, ""},
		{"resume what was stopped and not heard of it yet", func(r *rig, id string) {
			rotate(r, id)
			r.decide(journal.Decision{ID: "stop", Action: journal.ActionStop, RunID: "run-1", Person: "ana"})
		}, journal.Decision{ID: "d", Action: journal.ActionResume, RunID: "run-1", Person: "ana"}, ""},
		{"stop everything", nothing, journal.Decision{ID: "d", Action: journal.ActionStop, Person: "ana"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, id := planned(t)
			tt.before(r, id)
			if tt.d.IncidentID == "this" {
				tt.d.IncidentID = id
			}
			before := r.journal.count(journal.KindDecision)
			got := r.decide(tt.d)
			if (got.Refused == "") != (tt.want == "") || !strings.Contains(got.Refused, tt.want) {
				t.Errorf("refused: got %q, want %q", got.Refused, tt.want)
			}
			if n := r.journal.count(journal.KindDecision) - before; n != 1 {
				t.Errorf("%d records, every decision is recorded once", n)
			}
		})
	}
}

func TestDoubleClicks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name              string
		id                func(i int) string
		accepted, refused int
	}{
		{"one click, sent 50 times", func(int) string { return "click" }, 1, 0},
		{"50 clicks", func(i int) string { return "click-" + itoa(i) }, 1, 49},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := planned(t)
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					if _, err := r.m.Decide(t.Context(), approve(tt.id(i), "ana")); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if a, ref := r.journal.decisions(); a != tt.accepted || ref != tt.refused {
				t.Errorf("journal: %d accepted, %d refused; want %d, %d", a, ref, tt.accepted, tt.refused)
			}
		})
	}
}

func TestTwoPeople(t *testing.T) {
	t.Parallel()
	r, id := planned(t)
	r.append(journal.KindRunPlanned, journal.RunPlanned{RunID: "run-2", IncidentID: id, PlanHash: "h", Approvals: 2, RequestedBy: "ana"})
	do := func(n, person string) string {
		return r.decide(journal.Decision{ID: n, Action: journal.ActionApprove, RunID: "run-2", PlanHash: "h", Person: person}).Refused
	}
	if got := do("1", "ana"); !strings.Contains(got, "requested") {
		t.Errorf("the requester approved: %q", got)
	}
	if got := do("2", "bob"); got != "" {
		t.Errorf("first approval: %q", got)
	}
	if run, _ := r.m.RunByID("run-2"); run.ApprovedAt != 0 || !run.Waiting() {
		t.Error("one approval was enough for two")
	}
	if got := do("3", "bob"); !strings.Contains(got, "another person") {
		t.Errorf("one person twice: %q", got)
	}
	r.m.cfg.People = append(r.m.cfg.People, Person{ID: "carl", Roles: []string{"approver"}})
	if got := do("4", "carl"); got != "" {
		t.Errorf("second approval: %q", got)
	}
	if run, _ := r.m.RunByID("run-2"); !run.Acting() {
		t.Errorf("two approvals were not enough: %+v", run.ApprovedBy)
	}
}

func TestTwoDenialsEscalate(t *testing.T) {
	t.Parallel()
	r, id := planned(t)
	r.append(journal.KindRunPlanned, journal.RunPlanned{RunID: "run-2", IncidentID: id, PlanHash: "h"})
	for _, run := range []string{"run-1", "run-2"} {
		r.decide(journal.Decision{ID: run, Action: journal.ActionDeny, RunID: run, Person: "ana", Reason: "no"})
	}
	if inc := r.only(); !inc.Escalated || inc.Denials != 2 {
		t.Errorf("got escalated %v, %d denials", inc.Escalated, inc.Denials)
	}
}

func TestDecideIsNotRecordedWithoutAnID(t *testing.T) {
	t.Parallel()
	r, _ := planned(t)
	if _, err := r.m.Decide(t.Context(), approve("", "ana")); !errors.Is(err, ErrNoDecisionID) {
		t.Errorf("got %v", err)
	}
}

func TestDecideWithAJournalThatFails(t *testing.T) {
	t.Parallel()
	r, _ := planned(t)
	r.journal.fail = errDown
	if _, err := r.m.Decide(t.Context(), approve("d", "ana")); !errors.Is(err, errDown) {
		t.Fatalf("got %v", err)
	}
	r.journal.fail = nil
	if got := r.decide(approve("d", "ana")); got.Refused != "" {
		t.Errorf("sent again: %q", got.Refused)
	}
}

func TestTheKillSwitchIsForEveryRun(t *testing.T) {
	t.Parallel()
	r, id := planned(t)
	rotate(r, id)
	r.append(journal.KindRunPlanned, journal.RunPlanned{RunID: "run-2", IncidentID: id, Network: "other", PlanHash: "hash-2"})
	for _, step := range []struct{ action, want string }{{journal.ActionStop, "ana"}, {journal.ActionResume, ""}} {
		if d := r.decide(journal.Decision{ID: step.action, Action: step.action, Person: "ana"}); d.Refused != "" {
			t.Fatalf("%s: refused: %s", step.action, d.Refused)
		}
		for _, run := range []string{"run-1", "run-2"} {
			if got, _ := r.m.RunByID(run); got.StoppedBy != step.want {
				t.Errorf("after %s, %s is stopped by %q, want %q", step.action, run, got.StoppedBy, step.want)
			}
		}
	}
}

func TestADecisionsIDIsBounded(t *testing.T) {
	t.Parallel()
	r, id := planned(t)
	_, err := r.m.Decide(t.Context(), journal.Decision{ID: strings.Repeat("x", 201), Action: journal.ActionAck, IncidentID: id, Person: "ana"})
	if !errors.Is(err, ErrNoDecisionID) || r.journal.count(journal.KindDecision) != 0 {
		t.Errorf("got %v, want ErrNoDecisionID and no record", err)
	}
}

func TestDecisionsAreClipped(t *testing.T) {
	t.Parallel()
	r, id := planned(t)
	d := r.decide(journal.Decision{ID: "d", Action: strings.Repeat("x", 5000), IncidentID: id, Person: strings.Repeat("é", 5000), Reason: strings.Repeat("y", 5000) + "\xff"})
	if len(d.Action) > 800 || len(d.Person) > 800 || len(d.Reason) > 4000 {
		t.Errorf("got %d, %d, %d bytes", len(d.Action), len(d.Person), len(d.Reason))
	}
	if r.only().State != incident.Open {
		t.Errorf("state: %s", r.only().State)
	}
}
