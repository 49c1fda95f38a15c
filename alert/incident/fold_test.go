package incident

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// view is everything that a Set answers.
type view struct {
	Last      int64
	Incidents []Incident
	Runs      []Run
	Orphans   []finding.Finding
	Messages  []Message
	Notices   map[string][]Notice
	Noticed   []string
	Leader    [2]Leader
}

func look(s *Set) view {
	v := view{Last: s.Last(), Orphans: s.Orphans(), Noticed: s.Noticed(), Notices: map[string][]Notice{}}
	for _, i := range s.Incidents() {
		v.Incidents = append(v.Incidents, i.Clone())
		v.Notices[i.ID] = slices.Clone(s.Notices(i.ID))
	}
	for _, r := range s.Runs() {
		v.Runs = append(v.Runs, r.Clone())
	}
	for _, m := range s.Messages() {
		v.Messages = append(v.Messages, *m)
	}
	v.Leader[0], v.Leader[1] = s.Leader()
	return v
}

func record(t rapid.TB, n int64, kind journal.Kind, body any) journal.Record {
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return journal.Record{N: n, Offset: n, Time: event.Instant(n * 1e9), Kind: kind, Body: raw}
}

// drawRecord makes any record about a handful of findings, incidents and runs,
// sensible or not.
func drawRecord(t *rapid.T, n int64) journal.Record {
	few := func(prefix string) string { return fmt.Sprintf("%s%d", prefix, rapid.IntRange(0, 4).Draw(t, prefix)) }
	switch rapid.IntRange(0, 8).Draw(t, "kind") {
	case 0, 1:
		if rapid.Bool().Draw(t, "about a key") {
			return record(t, n, journal.KindFinding, aboutKey(few("f"), rapid.SampledFrom(
				[]string{finding.Place, finding.Volume, finding.Sequence}).Draw(t, "family"), event.Instant(n*1e9), rapid.Int64Range(0, 5).Draw(t, "offset")))
		}
		return record(t, n, journal.KindFinding, finding.Finding{ID: few("f"), RuleID: few("rule"), Kind: finding.Other, Count: 2,
			Severity: finding.Severity(rapid.IntRange(0, 2).Draw(t, "severity")), Shadow: rapid.IntRange(0, 9).Draw(t, "shadow") == 0,
			Subject: finding.Subject{Network: "n", Field: "host", Value: few("host")}, Group: []finding.Pair{{Field: "source_ip", Value: few("ip")}}})
	case 2, 3:
		ops := []string{OpOpen, OpJoin, OpDropped, OpReopen, OpMitigate, OpResolve, OpEscalate, OpUnsilence, OpNote, "nonsense"}
		return record(t, n, journal.KindIncident, journal.IncidentChange{IncidentID: few("inc"), FindingID: few("f"),
			Op: rapid.SampledFrom(ops).Draw(t, "op"), Count: 3, Note: few("note")})
	case 4:
		actions := []string{journal.ActionAck, journal.ActionClose, journal.ActionSilence, journal.ActionApprove, journal.ActionDeny, journal.ActionChoose}
		return record(t, n, journal.KindDecision, journal.Decision{ID: few("d"), Action: rapid.SampledFrom(actions).Draw(t, "action"),
			IncidentID: few("inc"), RunID: few("run"), Person: few("person"), Until: event.Instant(n*1e9 + 5e9),
			Refused: rapid.SampledFrom([]string{"", "", "no"}).Draw(t, "refused"), Verdict: "true"})
	case 5:
		return record(t, n, journal.KindRunPlanned, journal.RunPlanned{RunID: few("run"), IncidentID: few("inc"), PlanHash: few("h"),
			Approvals: rapid.IntRange(0, 2).Draw(t, "approvals")})
	case 6:
		return record(t, n, journal.KindRunState, journal.RunState{RunID: few("run"), State: few("state"), Text: few("text"), Ended: rapid.Bool().Draw(t, "ended")})
	case 7:
		states := []string{StateNew, StateSending, StateSent, StateUnknown, StateDropped}
		return record(t, n, journal.KindOutbox, journal.Outbox{MessageID: few("m"), IncidentID: few("inc"), State: rapid.SampledFrom(states).Draw(t, "state"),
			Channel: "c", TS: few("ts"), Root: rapid.Bool().Draw(t, "root"), Upto: int64(rapid.IntRange(0, int(n)).Draw(t, "upto"))})
	}
	return record(t, n, journal.KindStep, journal.Step{RunID: few("run"), StepID: few("step"), State: few("state"), Text: few("text")})
}

// The same records give the same state, also when some come twice, and also
// when somebody reads the state in between.
func TestFoldIsDeterministic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var recs []journal.Record
		for n := range int64(rapid.IntRange(1, 80).Draw(t, "records")) {
			recs = append(recs, drawRecord(t, n+1))
		}
		a, b := NewSet(), NewSet()
		for _, r := range recs {
			_ = a.Apply(r)
		}
		for i, r := range recs {
			_ = b.Apply(r)
			if again := rapid.IntRange(0, i).Draw(t, "again"); again <= i {
				_ = b.Apply(recs[again])
			}
			look(b)
			b.TakeTouched()
		}
		if diff := cmp.Diff(look(a), look(b), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		checkInvariants(t, a)
	})
}

// aboutKey is a finding about one key, over one event; its rule is named after its
// family.
func aboutKey(id, family string, at event.Instant, offset int64) finding.Finding {
	return finding.Finding{ID: id, RuleID: family, RuleTitle: family, Kind: finding.KeyCompromise, Severity: finding.Ticket, Count: 1, First: at, Last: at, Fired: at,
		Subject: finding.Subject{Network: "n", Field: "key_id", Value: "k"}, Risk: &finding.Risk{Family: family, Score: 3},
		Evidence: []finding.Evidence{{Ref: event.Ref{Topic: "t", Offset: offset}, TS: at, Type: event.TypeAuthTokenIssued}}}
}

func checkInvariants(t *rapid.T, s *Set) {
	for _, inc := range s.Incidents() {
		var sum uint64
		for _, r := range inc.Rules {
			sum += r.Count
		}
		if sum != inc.Findings {
			t.Fatalf("%s: rules count %d findings, the incident %d", inc.ID, sum, inc.Findings)
		}
		if !slices.Contains(States(), inc.State) {
			t.Fatalf("%s: state %q", inc.ID, inc.State)
		}
		if inc.GateMetAt != 0 && (inc.Severity != finding.Page || inc.Suspicion == nil || !inc.AboutKey()) {
			t.Fatalf("%s: the gate is met at %s with %+v", inc.ID, inc.Severity, inc.Suspicion)
		}
		if (inc.State == Closed) != (inc.ClosedAt != 0) {
			t.Fatalf("%s: %s, closed at %v", inc.ID, inc.State, inc.ClosedAt)
		}
	}
	for _, r := range s.Runs() {
		if r.Waiting() && r.Acting() {
			t.Fatalf("%s waits and acts", r.ID)
		}
	}
}

func TestApplyUnreadableRecord(t *testing.T) {
	t.Parallel()
	s := NewSet()
	if err := s.Apply(journal.Record{N: 1, Kind: journal.KindDecision, Body: []byte(`{`)}); err == nil {
		t.Error("no error")
	}
	if err := s.Apply(journal.Record{N: 2, Kind: "of the future", Body: []byte(`{}`)}); err != nil {
		t.Errorf("an unknown kind: %v", err)
	}
	if s.Last() != 2 {
		t.Errorf("last: %d", s.Last())
	}
}

func TestStateIsBounded(t *testing.T) {
	t.Parallel()
	s := NewSet()
	n := int64(0)
	put := func(k journal.Kind, body any) {
		n++
		if err := s.Apply(record(t, n, k, body)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range MaxIncidents + 100 {
		id := fmt.Sprint(i)
		put(journal.KindFinding, finding.Finding{ID: id, RuleID: id, Kind: finding.Other, Subject: finding.Subject{Field: "host", Value: id}})
		put(journal.KindIncident, journal.IncidentChange{IncidentID: id, Op: OpOpen, FindingID: id})
	}
	last := fmt.Sprint(MaxIncidents + 99)
	for i := range 3 * MaxTimeline {
		id := fmt.Sprintf("more-%d", i)
		put(journal.KindFinding, finding.Finding{ID: id, RuleID: id, Kind: finding.Other, Subject: finding.Subject{Field: "host", Value: id}})
		put(journal.KindIncident, journal.IncidentChange{IncidentID: last, Op: OpJoin, FindingID: id})
		put(journal.KindIncident, journal.IncidentChange{IncidentID: last, Op: OpNote})
	}
	inc, _ := s.Incident(last)
	if len(s.Incidents()) != MaxIncidents || len(inc.Timeline) > MaxTimeline || len(inc.Rules) > MaxRules ||
		len(inc.Affected[0].Values) > MaxAffected || !inc.Affected[0].More || len(s.Notices(last)) > MaxNotices {
		t.Errorf("%d incidents, %d entries, %d rules, %d values, %d notices", len(s.Incidents()), len(inc.Timeline), len(inc.Rules),
			len(inc.Affected[0].Values), len(s.Notices(last)))
	}
	if inc.Findings != 3*MaxTimeline+1 {
		t.Errorf("the count stopped at %d", inc.Findings)
	}
	if inc.Timeline[0].What != "opened" {
		t.Errorf("the beginning of the story is gone: %q", inc.Timeline[0].What)
	}
}

// The second independent signal raises the incident to a page and is told aloud,
// once; a verdict ends the account.
func TestGate(t *testing.T) {
	t.Parallel()
	s, n := NewSet(), int64(0)
	put := func(k journal.Kind, body any) {
		t.Helper()
		n++
		if err := s.Apply(record(t, n, k, body)); err != nil {
			t.Fatal(err)
		}
	}
	join := func(id, family string, offset int64) {
		put(journal.KindFinding, aboutKey(id, family, event.Instant(n*1e9), offset))
		put(journal.KindIncident, journal.IncidentChange{IncidentID: "i", Op: OpOpen, FindingID: id})
		put(journal.KindIncident, journal.IncidentChange{IncidentID: "i", Op: OpJoin, FindingID: id})
	}
	want := func(what string, sev finding.Severity, met bool, loud int) {
		t.Helper()
		inc, _ := s.Incident("i")
		got := 0
		for _, x := range s.Notices("i") {
			if x.Loud && x.What == "the evidence suffices to propose a rotation" {
				got++
			}
		}
		if inc.Severity != sev || inc.GateMetAt != 0 != met || got != loud {
			t.Errorf("%s: %s, met at %v, told %d times; want %s, %v, %d", what, inc.Severity, inc.GateMetAt, got, sev, met, loud)
		}
	}
	join("f1", finding.Place, 1)
	want("one signal", finding.Ticket, false, 0)
	join("f2", finding.Volume, 1)
	want("the same event", finding.Ticket, false, 0)
	other := aboutKey("f3", finding.Sequence, event.Instant(n*1e9), 7)
	other.Subject.Value, other.Kind = "another", finding.Other
	put(journal.KindFinding, other)
	put(journal.KindIncident, journal.IncidentChange{IncidentID: "i", Op: OpJoin, FindingID: "f3", Inhibited: true})
	want("a finding about something else", finding.Ticket, false, 0)
	join("f4", finding.Volume, 2)
	want("another event", finding.Page, true, 1)
	join("f5", finding.Sequence, 3)
	want("more of it", finding.Page, true, 1)
	if a := s.Assess("i", event.Instant(n*1e9)); a == nil || !a.Gate.Met || len(a.Contributions) != 3 {
		t.Errorf("the assessment is %+v", a)
	}
	put(journal.KindDecision, journal.Decision{ID: "d", Action: journal.ActionClose, IncidentID: "i", Person: "ada", Verdict: "false"})
	put(journal.KindIncident, journal.IncidentChange{IncidentID: "i", Op: OpReopen})
	want("reopened after a verdict: what it was is judged", finding.Digest, false, 1)
	if a := s.Assess("i", event.Instant(n*1e9)); a != nil {
		t.Errorf("the account of the life before: %+v", a)
	}
	join("f6", finding.Volume, 9)
	want("one signal of the new life", finding.Ticket, false, 1)
	join("f7", finding.Place, 10)
	want("two", finding.Page, true, 2)
}
