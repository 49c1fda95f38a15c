package playbook_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

// calls counts what reached the outside.
func (w *world) calls() string {
	s := w.platform.Stats()
	return fmt.Sprint(s.Issued, s.Revoked, s.Minted, s.MintsRefused)
}

func TestApprovalsThatDoNotCount(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*journal.Decision)
		after  time.Duration
		want   playbook.State
	}{
		"the right one":    {func(*journal.Decision) {}, 0, playbook.StateDone},
		"wrong hash":       {func(d *journal.Decision) { d.PlanHash = strings.Repeat("0", 64) }, 0, playbook.StateExpired},
		"no hash":          {func(d *journal.Decision) { d.PlanHash = "" }, 0, playbook.StateExpired},
		"another run":      {func(d *journal.Decision) { d.RunID = "run-other" }, 0, playbook.StateExpired},
		"refused by alert": {func(d *journal.Decision) { d.Refused = "not on the list" }, 0, playbook.StateExpired},
		"too late":         {func(*journal.Decision) {}, 16 * time.Minute, playbook.StateExpired},
		"an ack":           {func(d *journal.Decision) { d.Action = journal.ActionAck }, 0, playbook.StateExpired},
		"a denial":         {func(d *journal.Decision) { d.Action = journal.ActionDeny }, 0, playbook.StateDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
				l := w.begin(testConfig(), 0)
				p := w.plan(l, nil)
				before := w.calls()
				time.Sleep(tc.after)
				d := journal.Decision{ID: "d", Action: journal.ActionApprove, RunID: p.RunID, PlanHash: p.PlanHash, Person: "bob"}
				tc.change(&d)
				w.decide(d)
				v := l.until(p.RunID, time.Hour, func(v playbook.RunView) bool { return v.Ended })
				l.end()
				if v.State != tc.want {
					t.Errorf("the run ended as %s, want %s", v.State, tc.want)
				}
				if tc.want != playbook.StateDone && w.calls() != before {
					t.Errorf("calls %s before, %s after", before, w.calls())
				}
			})
		})
	}
}

func TestApprovalsAfterTheEndAndTwice(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		for range 50 {
			w.approve(p, "bob")
		}
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		after := w.calls()
		for range 50 {
			w.approve(p, "carl")
		}
		time.Sleep(5 * time.Minute)
		l.end()
		if w.calls() != after || w.platform.Stats().Issued != 2 {
			t.Errorf("late approvals made calls: %s, then %s", after, w.calls())
		}
	})
}

func TestZeroOverlapTakesTwoPeople(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		w.hosts.set(func() { w.hosts.delay = time.Hour })
		l := w.begin(testConfig(), 0)
		if _, err := l.runner.Plan(t.Context(), playbook.PlanRequest{Playbook: pbName, Network: network, Inputs: map[string]string{"overlap": "0s"}}); err == nil {
			t.Error("a routine rotation without overlap is planned")
		}
		p := w.plan(l, map[string]string{"mode": "compromise", "overlap": "0s"})
		if p.Approvals != 2 || !strings.Contains(p.Plan.Summary, "3 live hosts fail") {
			t.Errorf("plan %q wants %d approvals", p.Plan.Summary, p.Approvals)
		}
		for _, person := range []string{"bob", "bob", "ann"} { // ann asked for it
			w.approve(p, person)
		}
		time.Sleep(time.Minute)
		if v, _ := l.runner.Get(p.RunID); v.State != playbook.StatePlanned {
			t.Fatalf("one person twice and the requester were enough: %s", v.State)
		}
		w.approve(p, "carl")
		l.untilState(p.RunID, playbook.StateDone, 5*time.Minute)
		l.end()
		w.rotated()
		if !strings.Contains(allText(w), "3 hosts left: api-1 api-2 batch-1") {
			t.Error("the hosts that fail are not named")
		}
	})
}

func TestDryRunCallsNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		before := w.calls()
		p, err := l.runner.Plan(t.Context(), playbook.PlanRequest{Playbook: pbName, Network: network, DryRun: true, RequestedBy: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		w.approve(p, "bob")
		v := l.until(p.RunID, time.Hour, func(v playbook.RunView) bool { return v.Ended })
		l.end()
		if v.State != playbook.StateDone || w.calls() != before || len(bodies[journal.Step](w, journal.KindStep)) > 0 {
			t.Errorf("a dry run is %s, calls %s then %s", v.State, before, w.calls())
		}
		var calls []string
		for _, s := range p.Plan.Steps {
			calls = append(calls, s.Calls...)
		}
		all := strings.Join(calls, "\n")
		for _, want := range []string{"POST http://platform.test/admin/v1/keys", "DELETE http://platform.test/admin/v1/keys/ID the old key",
			"write the new key to acme/server-key in memory", "POST http://hosts/reload", "with the new key"} {
			if !strings.Contains(all, want) {
				t.Errorf("the plan does not list %q:\n%s", want, all)
			}
		}
	})
}

func TestStopAndResume(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateOverlap, 10*time.Minute)
		w.decide(journal.Decision{Action: journal.ActionStop, RunID: p.RunID, Person: "carl"})
		l.untilState(p.RunID, playbook.StateStopped, time.Minute)
		at := len(bodies[journal.Step](w, journal.KindStep))
		time.Sleep(3 * time.Hour) // past the overlap's end too
		if got := len(bodies[journal.Step](w, journal.KindStep)); got != at {
			t.Errorf("%d steps began after the stop", got-at)
		}
		l.end()
		l = w.begin(testConfig(), 0) // a restart does not forget the stop
		time.Sleep(time.Hour)
		if v, _ := l.runner.Get(p.RunID); v.State != playbook.StateStopped {
			t.Errorf("after a restart the run is %s", v.State)
		}
		w.decide(journal.Decision{Action: journal.ActionResume, RunID: p.RunID, Person: "carl"})
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		l.end()
		w.rotated()
	})
}

func TestStraggler(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		decide []string // choices, in order, each when the run is overdue
		want   playbook.State
		text   string
	}{
		"nobody decides":   {nil, playbook.StateOverdue, "Nothing is revoked by itself"},
		"extend once":      {[]string{"extend", "extend"}, playbook.StateOverdue, "Extended by 1h"},
		"revoke now":       {[]string{"revoke_now"}, playbook.StateDone, "1 host left: batch-1. They will fail."},
		"back out":         {[]string{"back_out"}, playbook.StateBackOut, "Backed out"},
		"extend, back out": {[]string{"extend", "back_out"}, playbook.StateBackOut, "Backed out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
				w.hosts.set(func() { w.hosts.stragglers["batch-1"] = true })
				l := w.begin(testConfig(), 0)
				p := w.plan(l, nil)
				w.approve(p, "bob")
				for _, choice := range tc.decide {
					l.untilState(p.RunID, playbook.StateOverdue, 3*time.Hour)
					w.decide(journal.Decision{Action: journal.ActionChoose, RunID: p.RunID, Person: "bob", Choice: choice})
					time.Sleep(5 * time.Second)
				}
				l.untilState(p.RunID, tc.want, 3*time.Hour)
				time.Sleep(3 * time.Hour)
				v, _ := l.runner.Get(p.RunID)
				l.end()
				if v.State != tc.want || v.Ended != (tc.want != playbook.StateOverdue) {
					t.Errorf("the run is %s, ended %t", v.State, v.Ended)
				}
				if !strings.Contains(allText(w), tc.text) {
					t.Errorf("nobody is told %q", tc.text)
				}
				switch active := len(w.platform.ActiveKeys()); {
				case tc.want == playbook.StateOverdue && active != 2:
					t.Errorf("%d keys are active while overdue, want both", active)
				case tc.want == playbook.StateOverdue && !strings.Contains(allText(w), "Not there yet after 45m: 1 host left: batch-1"):
					t.Error("the laggard was not named at 45 min")
				case tc.want != playbook.StateOverdue:
					w.oneKeyWorks()
				}
				if cur, _ := w.store.Get(t.Context(), secretName); (cur.Value.Reveal() == w.first.Reveal()) != (tc.want == playbook.StateBackOut) {
					t.Error("the store holds the wrong key")
				}
			})
		})
	}
}

func TestPresetOutcome(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		w.hosts.set(func() { w.hosts.stragglers["batch-1"] = true })
		l := w.begin(testConfig(), 0)
		p := w.plan(l, map[string]string{"mode": "compromise", "overlap": "10m"})
		w.decide(journal.Decision{Action: journal.ActionApprove, RunID: p.RunID, PlanHash: p.PlanHash, Person: "bob", Choice: "revoke_now"})
		l.untilState(p.RunID, playbook.StateDone, 12*time.Minute)
		l.end()
		w.rotated()
	})
}

func TestClockText(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		w.hosts.set(func() { w.hosts.delay = 40 * time.Minute })
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateDone, 2*time.Hour)
		l.end()
		var clocks []string
		for _, s := range bodies[journal.RunState](w, journal.KindRunState) {
			if s.Clock != "" {
				clocks = append(clocks, s.Clock)
			}
		}
		if len(clocks) < 30 || len(clocks) > 50 {
			t.Errorf("%d clock records in 40 min, want about one a minute", len(clocks))
		}
		if !strings.Contains(strings.Join(clocks, "\n"), "both keys valid 23m, 3 hosts left: api-1 api-2 batch-1") {
			t.Errorf("the clock says otherwise: %q", clocks)
		}
	})
}

func TestProofNeedsDataAndIgnoresForeigners(t *testing.T) {
	t.Parallel()
	t.Run("a thief does not hold it up", func(t *testing.T) {
		t.Parallel()
		inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
			w.hosts.set(func() { w.hosts.thief = fingerprint(network, w.first) })
			l := w.begin(testConfig(), 0)
			p := w.plan(l, nil)
			w.approve(p, "bob")
			l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
			l.end()
			w.rotated()
			if !strings.Contains(allText(w), "outside the inventory: an attack") {
				t.Error("the foreign use is not told")
			}
		})
	})
	for name, missing := range map[string]float64{"a gap in the data": 0.1, "coverage unknown": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
				w.hosts.set(func() { w.hosts.missing = missing })
				l := w.begin(testConfig(), 0)
				p := w.plan(l, nil)
				w.approve(p, "bob")
				l.untilState(p.RunID, playbook.StateOverdue, 2*time.Hour)
				l.end()
				if len(w.platform.ActiveKeys()) != 2 {
					t.Error("a key was revoked without proof")
				}
			})
		})
	}
}

func TestOneAtATimeCooldownAndUnknownNames(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		refused := func(why string, req playbook.PlanRequest) {
			t.Helper()
			if _, err := l.runner.Plan(t.Context(), req); !errors.Is(err, playbook.ErrRefusedPlan) || !strings.Contains(err.Error(), why) {
				t.Errorf("Plan: %v, want a refusal with %q", err, why)
			}
		}
		refused("one at a time", playbook.PlanRequest{Playbook: pbName, Network: network, RequestedBy: "ann"})
		refused("no playbook", playbook.PlanRequest{Playbook: "none", Network: network})
		refused("no key provider", playbook.PlanRequest{Playbook: pbName, Network: "other"})
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		refused("we propose nothing", playbook.PlanRequest{Playbook: pbName, Network: network})
		refused("above the maximum", playbook.PlanRequest{Playbook: pbName, Network: network, RequestedBy: "ann", Inputs: map[string]string{"overlap": "2h"}})
		refused("no input", playbook.PlanRequest{Playbook: pbName, Network: network, RequestedBy: "ann", Inputs: map[string]string{"x": "2h"}})
		if _, err := l.runner.Plan(t.Context(), playbook.PlanRequest{Playbook: pbName, Network: network, RequestedBy: "ann"}); err != nil {
			t.Errorf("a person is held up by the cooldown: %v", err)
		}
		l.runner.StepDown()
		if _, err := l.runner.Plan(t.Context(), playbook.PlanRequest{Playbook: pbName, Network: network}); !errors.Is(err, playbook.ErrNotLeader) {
			t.Errorf("a standby plans: %v", err)
		}
		l.end()
	})
}

func TestAcknowledgementStartsTheWindow(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p, err := l.runner.Plan(t.Context(), playbook.PlanRequest{Playbook: pbName, Network: network, IncidentID: "inc-9"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if v, _ := l.runner.Get(p.RunID); v.State != playbook.StatePlanned {
			t.Fatalf("a proposal that nobody acknowledged is %s after an hour", v.State)
		}
		w.decide(journal.Decision{Action: journal.ActionAck, IncidentID: "inc-9", Person: "ann"})
		time.Sleep(14 * time.Minute)
		if v, _ := l.runner.Get(p.RunID); v.State != playbook.StatePlanned {
			t.Fatalf("the proposal is %s 14 min after the acknowledgement", v.State)
		}
		l.untilState(p.RunID, playbook.StateExpired, 2*time.Minute)
		l.end()
	})
}

func TestProviderFaults(t *testing.T) {
	t.Parallel()
	for _, op := range []platform.Op{platform.OpIssue, platform.OpList, platform.OpRevoke, platform.OpMint} {
		for _, kind := range []platform.FaultKind{platform.Hang, platform.Error500, platform.Error500Did, platform.ResetBefore, platform.ResetAfter} {
			t.Run(string(op)+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
					w.platform.SetFault(op, platform.Fault{Kind: kind, Times: 2})
					l := w.begin(testConfig(), 0)
					p := w.plan(l, nil)
					w.approve(p, "bob")
					v := l.until(p.RunID, time.Hour, func(v playbook.RunView) bool { return v.Ended })
					l.end()
					if v.State != playbook.StateDone {
						t.Fatalf("the run ended as %s: %s", v.State, v.Text)
					}
					w.rotated()
				})
			})
		}
	}
}

// brokenStore refuses every write of the key once broken is set.
type brokenStore struct {
	playbook.SecretStore
	mu     sync.Mutex
	broken bool
}

var errDisk = errors.New("disk full")

func (s *brokenStore) Put(ctx context.Context, name string, v secret.Value, expect int64) (int64, error) {
	s.mu.Lock()
	broken := s.broken && name == secretName
	s.mu.Unlock()
	if broken {
		return 0, errDisk
	}
	return s.SecretStore.Put(ctx, name, v, expect)
}

type deposits struct{ got []secret.Value }

func (d *deposits) Deposit(_ context.Context, name string, v secret.Value) (string, error) {
	d.got = append(d.got, v)
	return "/escrow/" + name, nil
}

func TestStoreBreaksAfterTheIssue(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		broken := &brokenStore{SecretStore: w.store, broken: true}
		w.faulty = broken
		escrow := &deposits{}
		w.escrow = escrow
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.approve(p, "bob")
		v := l.untilState(p.RunID, playbook.StateFailed, 10*time.Minute)
		if v.Ended || !strings.Contains(v.Text, "encrypted to the operator in /escrow/") || len(escrow.got) != 1 {
			t.Errorf("ended %t, %d deposits: %s", v.Ended, len(escrow.got), v.Text)
		}
		broken.mu.Lock()
		broken.broken = false
		broken.mu.Unlock()
		w.decide(journal.Decision{Action: journal.ActionResume, RunID: p.RunID, Person: "bob"})
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		l.end()
		w.rotated()
		if got := w.platform.Stats().Issued; got != 2 {
			t.Errorf("%d keys were issued in all, want the first and the new one", got)
		}
	})
}

func TestBackOutBeforeTheStore(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		broken := &brokenStore{SecretStore: w.store, broken: true}
		w.faulty = broken
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateFailed, 10*time.Minute)
		w.decide(journal.Decision{Action: journal.ActionChoose, RunID: p.RunID, Person: "bob", Choice: "back_out"})
		v := l.until(p.RunID, 10*time.Minute, func(v playbook.RunView) bool { return v.Ended })
		l.end()
		if v.State != playbook.StateBackOut {
			t.Errorf("the run ended as %s: %s", v.State, v.Text)
		}
		w.oneKeyWorks()
	})
}

func TestFailureBeforeTheIssueChangesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		inputs map[string]string
		setup  func(*world)
		want   string
	}{
		"another key in the store": {map[string]string{"old_key": "k1:other"}, func(*world) {}, "someone has rotated already"},
		"the key is dead": {nil, func(w *world) {
			w.platform.IssueKey("spare")
			w.platform.RevokeKey(w.platform.ActiveKeys()[0])
		}, "dead already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
				tc.setup(w)
				before := w.platform.Stats().Issued
				l := w.begin(testConfig(), 0)
				p := w.plan(l, tc.inputs)
				w.approve(p, "bob")
				v := l.until(p.RunID, 10*time.Minute, func(v playbook.RunView) bool { return v.Ended })
				l.end()
				if v.State != playbook.StateFailed || !strings.Contains(v.Text, tc.want) || !strings.Contains(v.Text, "nothing was changed") {
					t.Errorf("the run ended as %s: %s", v.State, v.Text)
				}
				if w.platform.Stats().Issued != before {
					t.Error("a key was issued")
				}
			})
		})
	}
}

// TestNewKeyDiesBeforeTheRevoke: the old key stays when nothing else works.
func TestNewKeyDiesBeforeTheRevoke(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		w.hosts.set(func() { w.hosts.delay = 5 * time.Minute })
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateOverlap, 10*time.Minute)
		w.platform.RevokeKey(stepOutput(w, "issue", "new_provider_id"))
		v := l.untilState(p.RunID, playbook.StateFailed, 30*time.Minute)
		time.Sleep(time.Hour)
		l.end()
		if v.Ended || len(w.platform.ActiveKeys()) != 1 {
			t.Errorf("ended %t, %d keys active: %s", v.Ended, len(w.platform.ActiveKeys()), v.Text)
		}
	})
}

func TestNewLeaderWaits(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		l.end()
		w.approve(p, "bob")
		began := time.Now()
		l = w.begin(testConfig(), 0)
		l.until(p.RunID, time.Minute, func(v playbook.RunView) bool { return v.State != playbook.StatePlanned })
		if waited := time.Since(began); waited < 10*time.Second {
			t.Errorf("a new leader acted after %s", waited)
		}
		l.end()
	})
}

func TestAnIntentThatIsAcceptedLateIsNotActedOn(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.mu.Lock()
		w.slow = 6 * time.Second
		w.mu.Unlock()
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		l.end()
		var got []string
		for _, s := range bodies[journal.Step](w, journal.KindStep) {
			if s.StepID == "precheck" {
				got = append(got, fmt.Sprint(s.Attempt, s.State))
			}
		}
		if want := "[1started 1late 2started 2done]"; fmt.Sprint(got) != want {
			t.Errorf("precheck went %v, want %s", got, want)
		}
		w.rotated()
	})
}

// journalRun writes a run of another making into the journal.
func (w *world) journalRun(p journal.RunPlanned, states ...playbook.State) {
	w.t.Helper()
	now := event.At(time.Now())
	entries := []journal.Entry{{Kind: journal.KindRunPlanned, Time: now, Body: p}}
	for _, s := range states {
		entries = append(entries, journal.Entry{Kind: journal.KindRunState, Time: now, Body: journal.RunState{RunID: p.RunID, State: string(s), Ended: s == playbook.StateDone}})
	}
	if _, err := w.journal.Append(w.t.Context(), entries...); err != nil {
		w.t.Fatal(err)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		wait time.Duration
		want playbook.State
	}{
		"two others within the hour": {0, playbook.StateFailed},
		"an hour later":              {time.Hour, playbook.StateDone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
				for _, n := range []string{"n1", "n2"} {
					w.journalRun(journal.RunPlanned{RunID: "run-" + n, Network: n}, playbook.StateApproved, playbook.StatePrecheck, playbook.StateDone)
				}
				time.Sleep(tc.wait)
				l := w.begin(testConfig(), 0)
				p := w.plan(l, nil)
				w.approve(p, "bob")
				v := l.until(p.RunID, 10*time.Minute, func(v playbook.RunView) bool { return v.Ended })
				l.end()
				if v.State != tc.want {
					t.Errorf("the run ended as %s: %s", v.State, v.Text)
				}
			})
		})
	}
}

// TestPlanWithAnotherHash: a plan that was changed after its hash was made does
// not run, although the approval names that hash.
func TestPlanWithAnotherHash(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p, err := l.runner.Plan(t.Context(), playbook.PlanRequest{Playbook: pbName, Network: network, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		p.RunID, p.DryRun = "run-forged", false
		w.journalRun(p)
		before := w.calls()
		w.approve(p, "bob")
		v := l.until(p.RunID, 10*time.Minute, func(v playbook.RunView) bool { return v.Ended })
		l.end()
		if v.State != playbook.StateFailed || w.calls() != before {
			t.Errorf("the run ended as %s: %s", v.State, v.Text)
		}
	})
}
