package alert

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

func TestFindingsOfOneSubjectAreOneIncident(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := found(finding.Other, finding.Ticket, "host", "api-1", 1), found(finding.Other, finding.Page, "host", "api-1", 2)
	b.RuleID = "another-rule"
	r.record(a, a)
	r.record(a, b)
	inc := r.only()
	if inc.Findings != 2 || inc.Events != 6 || inc.Severity != finding.Page || inc.Lead.ID != b.ID {
		t.Errorf("got %d findings, %d events, %v, lead %s", inc.Findings, inc.Events, inc.Severity, inc.Lead.RuleID)
	}
	if got := r.counter("findings_total", map[string]string{"outcome": "repeated"}); got != 2 {
		t.Errorf("repeated: got %v, want 2", got)
	}
	if got := r.journal.count(journal.KindFinding); got != 2 {
		t.Errorf("finding records: got %d, want 2", got)
	}
}

func TestFindingThatJSONCannotHoldIsStillAnIncident(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := found(finding.Other, finding.Page, "host", "api-1", 1)
	f.Value, f.CauseConfidence = math.Inf(1), float32(math.NaN())
	f.Series.Counts = append(make([]float64, 2*maxSeries), math.NaN())
	f.Evidence = make([]finding.Evidence, 2*finding.MaxEvidence)
	r.record(f)
	if inc := r.only(); inc.Findings != 1 || len(inc.Lead.Series.Counts) != maxSeries || len(inc.Lead.Evidence) != 0 {
		t.Errorf("got %d findings, %d buckets, %d events", inc.Findings, len(inc.Lead.Series.Counts), len(inc.Lead.Evidence))
	}
}

func TestShadowFindingsAreOnlyRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := found(finding.Other, finding.Page, "host", "api-1", 1)
	f.Shadow = true
	r.record(f)
	r.record(f)
	if n := len(r.m.Incidents()); n != 0 || r.journal.count(journal.KindFinding) != 1 {
		t.Errorf("got %d incidents, %d records", n, r.journal.count(journal.KindFinding))
	}
}

func TestIncidentEndsAndReturns(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		away      time.Duration
		incidents int
		gen       int
	}{
		{"reopens within the time", 2 * time.Hour, 1, 1},
		{"is a new one later", 30 * time.Hour, 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.record(found(finding.Other, finding.Ticket, "host", "api-1", 1))
			r.clock = r.clock.Add(time.Hour)
			r.tick()
			if got := r.only().State; got != incident.Resolved {
				t.Fatalf("after a quiet hour: %s", got)
			}
			r.clock = r.clock.Add(tt.away)
			r.record(found(finding.Other, finding.Ticket, "host", "api-1", 2))
			all := r.m.Incidents()
			if len(all) != tt.incidents || all[0].State != incident.Open || all[0].Generation != tt.gen {
				t.Errorf("got %d incidents, newest %s generation %d", len(all), all[0].State, all[0].Generation)
			}
		})
	}
}

func TestCompromiseDoesNotResolveByItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(found(finding.KeyCompromise, finding.Page, "key_id", "k1", 1))
	r.clock = r.clock.Add(48 * time.Hour)
	r.tick()
	if got := r.only().State; got != incident.Open {
		t.Errorf("got %s, want open", got)
	}
}

func TestUnacknowledgedPageIsEscalatedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(found(finding.KeyCompromise, finding.Page, "key_id", "k1", 1))
	r.pass(time.Minute)
	r.clock = r.clock.Add(5 * time.Minute)
	r.tick()
	r.tick()
	r.pass(time.Minute)
	var loud int
	for _, m := range r.messenger.replies() {
		if m.Broadcast {
			loud++
		}
	}
	if loud != 1 || !r.only().Escalated {
		t.Errorf("got %d loud replies, escalated %v", loud, r.only().Escalated)
	}
}

func TestInhibition(t *testing.T) {
	t.Parallel()
	straggler := found(finding.KeyStraggler, finding.Ticket, "host", "api-1", 7)
	foreign := found(finding.Other, finding.Page, "source_ip", "198.51.100.7", 7)
	foreign.Cause = event.CauseRetiredKeyForeign
	aboutKey := found(finding.Other, finding.Ticket, "key_id", "k1", 8)
	skewed := found(finding.Other, finding.Ticket, "host", "api-2", 9)
	skewed.Cause = event.CauseClockSkew
	otherNet := straggler
	otherNet.ID, otherNet.Subject.Network = "other", "net-2"
	tests := []struct {
		name      string
		before    func(r *rig, id string)
		finding   finding.Finding
		inhibited bool
	}{
		{"a straggler during a rotation", rotate, straggler, true},
		{"a straggler of another network", rotate, otherNet, false},
		{"a foreign use of the retired key", rotate, foreign, false},
		{"a straggler without a rotation", func(*rig, string) {}, straggler, false},
		{"a straggler while the rotation waits for approval", plan, straggler, false},
		{"what else is said of a compromised key", func(*rig, string) {}, aboutKey, true},
		{"a silenced incident inhibits nothing", silence, aboutKey, false},
		{"a closed incident inhibits nothing", closeIt, aboutKey, false},
		{"refusals that a proven offset explains", skew, skewed, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.record(found(finding.KeyCompromise, finding.Page, "key_id", "k1", 1))
			tt.before(r, r.only().ID)
			n := len(r.m.Incidents())
			r.record(tt.finding)
			if got := len(r.m.Incidents()) == n; got != tt.inhibited {
				t.Errorf("inhibited: got %v, want %v", got, tt.inhibited)
			}
		})
	}
}

func plan(r *rig, id string) {
	r.append(journal.KindRunPlanned, journal.RunPlanned{RunID: "run-1", Playbook: "rotate-server-key", IncidentID: id, Network: "net",
		PlanHash: "hash-1", Approvals: 1, Plan: journal.Plan{Summary: "rotate", Steps: []journal.PlanStep{{ID: "issue", Calls: []string{"POST /keys"}}}}})
}

func rotate(r *rig, id string) {
	plan(r, id)
	r.decide(journal.Decision{ID: "approve", Action: journal.ActionApprove, RunID: "run-1", PlanHash: "hash-1", Person: "ana"})
}

func silence(r *rig, id string) {
	r.decide(journal.Decision{ID: "silence", Action: journal.ActionSilence, IncidentID: id, Person: "ana", Reason: "known"})
}

func closeIt(r *rig, id string) {
	r.decide(journal.Decision{ID: "close", Action: journal.ActionClose, Verdict: "true", IncidentID: id, Person: "ana"})
}

func skew(r *rig, _ string) { r.record(found(finding.ClockSkew, finding.Ticket, "host", "api-2", 3)) }

func TestSilence(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(found(finding.Other, finding.Ticket, "host", "api-1", 1))
	r.pass(20 * time.Second)
	silence(r, r.only().ID)
	r.record(found(finding.Other, finding.Ticket, "host", "api-1", 2))
	r.append(journal.KindIncident, journal.IncidentChange{IncidentID: r.only().ID, Op: incident.OpNote, Note: "quiet please"})
	r.pass(time.Minute)
	if n := len(r.messenger.replies()); n != 0 {
		t.Fatalf("%d replies during a silence", n)
	}
	if got := r.only().Held; got != 1 {
		t.Errorf("held: got %d, want 1", got)
	}
	broken := found(finding.Other, finding.Ticket, "host", "api-1", 3)
	broken.RuleID = "another family"
	r.record(broken)
	r.pass(time.Minute)
	if inc := r.only(); inc.SilencedUntil != 0 || len(r.messenger.replies()) == 0 {
		t.Errorf("another rule must break the silence: until %v, %d replies", inc.SilencedUntil, len(r.messenger.replies()))
	}
}

func TestSilenceEndsByItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.ResolveAfter = 24 * time.Hour })
	r.record(found(finding.Other, finding.Ticket, "host", "api-1", 1))
	silence(r, r.only().ID)
	r.clock = r.clock.Add(time.Hour)
	r.tick()
	if inc := r.only(); inc.SilencedUntil != 0 || inc.State != incident.Open {
		t.Errorf("got until %v, %s", inc.SilencedUntil, inc.State)
	}
}

func TestStormIsOneIncidentAndFewMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const sources, each = 10_000, 10
	var batch []finding.Finding
	minute := map[int]int{}
	for e := range each {
		for s := range sources {
			ip := "10.0." + itoa(s/256) + "." + itoa(s%256)
			batch = append(batch, found(finding.Other, finding.Ticket, "source_ip", ip, e))
			if len(batch) == 500 {
				r.record(batch...)
				batch = batch[:0]
				r.pass(300 * time.Millisecond)
			}
		}
	}
	r.pass(2 * time.Minute)
	for _, m := range r.messenger.sent {
		minute[int(m.at.Unix()/60)]++
	}
	for at, n := range minute {
		if n > 5 {
			t.Errorf("minute %d: %d messages", at, n)
		}
	}
	inc := r.only()
	if inc.Subject.Value != incident.Many {
		t.Errorf("subject: got %q", inc.Subject.Value)
	}
	if inc.Findings+inc.Dropped != sources*each {
		t.Errorf("told %d findings, want %d", inc.Findings+inc.Dropped, sources*each)
	}
	if n := len(r.journal.all()); n > 2000 {
		t.Errorf("journal: %d records", n)
	}
	root := r.messenger.roots()[0]
	if !strings.Contains(RenderText(root.Message), "only counted") {
		t.Errorf("the message does not tell what was dropped:\n%s", RenderText(root.Message))
	}
	if n := len(r.m.flood.sources.byKey); n > maxWindows {
		t.Errorf("flood guard: %d windows", n)
	}
}

// Evidence holds what a caller wrote: JSON may take six bytes for one of it.
func TestFindingsTooLargeForOneWriteAreStillJournaled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.journal.limit = 768 << 10
	var batch []finding.Finding
	for e := range 10 {
		f := found(finding.KeyCompromise, finding.Page, "key_id", "k"+itoa(e), e)
		for range finding.MaxEvidence {
			f.Evidence = append(f.Evidence, finding.Evidence{Type: event.TypeAuthTokenIssued, Reason: strings.Repeat("<", 1024), Endpoint: strings.Repeat("<", 512)})
		}
		batch = append(batch, f)
	}
	r.record(batch...)
	if n := len(r.m.Incidents()); n != len(batch) {
		t.Errorf("got %d incidents, want %d", n, len(batch))
	}
	if n := r.journal.count(journal.KindFinding); n != len(batch) {
		t.Errorf("got %d findings in the journal, want %d", n, len(batch))
	}
}

func TestDryRunDoesNotHideThePlanThatWaits(t *testing.T) {
	t.Parallel()
	r, id := planned(t)
	r.append(journal.KindRunPlanned, journal.RunPlanned{RunID: "run-2", Playbook: "rotate-server-key", IncidentID: id, Network: "net", PlanHash: "hash-2", DryRun: true})
	r.append(journal.KindRunState, journal.RunState{RunID: "run-2", State: "done", Ended: true})
	r.pass(time.Minute)
	root := r.messenger.roots()[0]
	if root.Plan == nil || root.Plan.RunID != "run-1" {
		t.Fatalf("the message shows %+v, want the plan of run-1", root.Plan)
	}
	if !slices.ContainsFunc(root.Buttons, func(b Button) bool { return b.Action == journal.ActionApprove && b.RunID == "run-1" }) {
		t.Errorf("no button approves run-1: %+v", root.Buttons)
	}
}

func TestLoudSourceDoesNotHideAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for e := range 100 {
		r.record(found(finding.Other, finding.Ticket, "source_ip", "10.0.0.1", e))
	}
	r.record(found(finding.Other, finding.Ticket, "source_ip", "10.0.0.2", 1))
	all := r.m.Incidents()
	if len(all) != 2 || all[1].Findings != 10+1 || all[1].Dropped != 89 {
		t.Errorf("got %d incidents, loud one %d kept %d dropped", len(all), all[1].Findings, all[1].Dropped)
	}
}

func TestAClosedIncidentOffersNoApproval(t *testing.T) {
	t.Parallel()
	r, id := planned(t)
	r.pass(time.Minute)
	closeIt(r, id)
	r.pass(time.Minute)
	var got []string
	for _, b := range r.messenger.roots()[0].Buttons {
		got = append(got, b.Action)
	}
	if want := []string{journal.ActionDeny}; !slices.Equal(got, want) {
		t.Errorf("got buttons %v, want %v", got, want)
	}
}

func TestAFullFloodGuardMakesRoomWhenWindowsEnd(t *testing.T) {
	t.Parallel()
	s := newWindows[int](time.Hour)
	start := event.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	for i := range maxWindows {
		if s.take(i, start.Add(time.Duration(i)*time.Millisecond)) == nil {
			t.Fatalf("no room for window %d", i)
		}
	}
	if s.take(-1, start.Add(time.Minute)) != nil {
		t.Error("there is room in a full guard")
	}
	if got, want := s.sweepAt, start.Add(time.Hour); got != want {
		t.Errorf("looks through the windows again at %v, want at the end of the first, %v", got.Time(), want.Time())
	}
	if s.take(-1, start.Add(time.Hour-1)) != nil {
		t.Error("there is room before the first window is over")
	}
	if s.take(-1, start.Add(time.Hour)) == nil || len(s.byKey) != maxWindows {
		t.Errorf("the first window is over, and it is not replaced: %d windows", len(s.byKey))
	}
}

func TestEachCompromisedKeyIsAnIncident(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var fs []finding.Finding
	for i := range 20 {
		fs = append(fs, found(finding.KeyCompromise, finding.Page, "key_id", "k"+itoa(i), 1))
	}
	r.record(fs...)
	if n := len(r.m.Incidents()); n != 20 {
		t.Errorf("got %d incidents, want 20", n)
	}
}

func TestOrphanFindsItsIncident(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.append(journal.KindFinding, found(finding.Other, finding.Ticket, "host", "api-1", 1))
	r.tick()
	if inc := r.only(); inc.Findings != 1 {
		t.Errorf("got %d findings", inc.Findings)
	}
	if n := r.journal.count(journal.KindFinding); n != 1 {
		t.Errorf("the finding was journaled %d times", n)
	}
}

func TestOnlyTheLeaderActs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.m.StepDown()
	if err := r.m.Record(t.Context(), []finding.Finding{found(finding.Other, finding.Page, "host", "a", 1)}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("record: %v", err)
	}
	if err := r.m.Tick(t.Context(), event.At(r.clock)); !errors.Is(err, ErrNotLeader) {
		t.Errorf("tick: %v", err)
	}
	if _, err := r.m.Decide(t.Context(), journal.Decision{ID: "x", Action: journal.ActionStop, Person: "ana"}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("decide: %v", err)
	}
	r.append(journal.KindFinding, found(finding.Other, finding.Page, "host", "a", 1))
	r.pass(time.Minute)
	if n := len(r.messenger.sent); n != 0 {
		t.Errorf("%d messages", n)
	}
}

func TestUnreadableRecordIsCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.m.Apply(journal.Record{N: 99, Kind: journal.KindFinding, Body: []byte(`{"severity":7}`)})
	if got := r.counter("records_unreadable_total", nil); got != 1 {
		t.Errorf("got %v, want 1", got)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	if errs := DefaultConfig().Validate(); len(errs) != 0 {
		t.Fatalf("the defaults are at fault: %v", errs)
	}
	c := DefaultConfig()
	c.Queue, c.Approval.Max, c.ReopenWithin = 0, 3*time.Hour, 0
	c.People = []Person{{ID: "a", Slack: "U1"}, {ID: "a", Slack: "U1"}, {}}
	c.Authority = map[string][]string{"dance": nil, "ack": {"nobody"}}
	var got []string
	for _, e := range c.Validate() {
		path, _, _ := strings.Cut(e.Error(), ": ")
		got = append(got, path)
	}
	want := []string{"reopen_within", "queue", "approval.max", "people[1].id", "people[1].slack", "people[2].id", "authority.ack[0]", "authority.dance"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
