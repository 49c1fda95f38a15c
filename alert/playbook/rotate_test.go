package playbook_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

func TestRotation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		overlap platform.Overlap
		text    string
	}{
		"both keys answer":       {platform.Parallel, "Both keys work."},
		"the old key dies first": {platform.Replace, "No parallel run here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, tc.overlap, func(t *testing.T, w *world) {
				l := w.begin(testConfig(), 0)
				p := w.plan(l, nil)
				w.approve(p, "bob")
				v := l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
				l.end()
				w.rotated()
				if !v.Ended {
					t.Error("a done run has not ended")
				}
				wantStates(t, w, "approved precheck issuing issued stored tested distributing overlap proven revoked verified done")
				old, fresh := fingerprint(network, w.first), stepOutput(w, "issue", "new_key")
				want := []journal.KeyChange{{Network: network, KeyID: fresh, State: "created", RunID: p.RunID},
					{Network: network, KeyID: fresh, State: "active", RunID: p.RunID},
					{Network: network, KeyID: old, State: "retired", RunID: p.RunID},
					{Network: network, KeyID: old, State: "revoked", RunID: p.RunID}}
				got := bodies[journal.KeyChange](w, journal.KindKeyObserved)
				for i := range got {
					got[i].At = 0
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("key changes (-want +got):\n%s", d)
				}
				if !strings.Contains(allText(w), tc.text) {
					t.Errorf("nobody is told %q", tc.text)
				}
			})
		})
	}
}

// wantStates compares the states that the run was in, in order.
func wantStates(t *testing.T, w *world, want string) {
	t.Helper()
	var got []string
	for _, s := range bodies[journal.RunState](w, journal.KindRunState) {
		if len(got) == 0 || got[len(got)-1] != s.State {
			got = append(got, s.State)
		}
	}
	if d := cmp.Diff(strings.Fields(want), got); d != "" {
		t.Errorf("states (-want +got):\n%s", d)
	}
}

func stepOutput(w *world, step, name string) string {
	out := ""
	for _, s := range bodies[journal.Step](w, journal.KindStep) {
		if s.StepID == step && s.State == "done" {
			out = s.Outputs[name]
		}
	}
	return out
}

func allText(w *world) string {
	var b strings.Builder
	for _, s := range bodies[journal.RunState](w, journal.KindRunState) {
		b.WriteString(s.Text + "\n" + s.Clock + "\n")
	}
	for _, s := range bodies[journal.Step](w, journal.KindStep) {
		b.WriteString(s.Text + "\n")
	}
	return b.String()
}

// TestIntentIsJournaledFirst reads the journal as an auditor would: each step is
// started before it is done, and each probe was announced.
func TestIntentIsJournaledFirst(t *testing.T) {
	t.Parallel()
	inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
		l := w.begin(testConfig(), 0)
		p := w.plan(l, nil)
		w.approve(p, "bob")
		l.untilState(p.RunID, playbook.StateDone, 10*time.Minute)
		l.end()
		state := map[string]string{}
		for _, s := range bodies[journal.Step](w, journal.KindStep) {
			if s.State == "done" && state[s.StepID] != "started" && s.StepID != "approve" {
				t.Errorf("step %s is done, but was %q before", s.StepID, state[s.StepID])
			}
			if state[s.StepID] == "done" {
				t.Errorf("step %s goes on after it was done", s.StepID)
			}
			state[s.StepID] = s.State
		}
		probes := bodies[journal.Probe](w, journal.KindProbe)
		if got, want := len(probes), w.platform.Stats().Minted+w.platform.Stats().MintsRefused; got != want || got == 0 {
			t.Errorf("%d probes announced, %d sent", got, want)
		}
	})
}

// TestCrashEverywhere kills the runner before and after every effect of a
// rotation, one per round, until a round meets no crash.
func TestCrashEverywhere(t *testing.T) {
	t.Parallel()
	for _, overlap := range []platform.Overlap{platform.Parallel, platform.Replace} {
		t.Run(string(overlap), func(t *testing.T) {
			t.Parallel()
			rounds := 0
			for at, over := 1, false; !over; at++ {
				inWorld(t, overlap, func(t *testing.T, w *world) {
					l := w.begin(testConfig(), 0)
					p := w.plan(l, nil)
					w.approve(p, "bob")
					l.mu.Lock()
					l.crashAt = l.ops + at
					l.mu.Unlock()
					l.until(p.RunID, 20*time.Minute, func(v playbook.RunView) bool { return v.Ended })
					over = !l.isDead()
					l.end()
					if !over {
						l2 := w.begin(testConfig(), 0)
						v := l2.until(p.RunID, 30*time.Minute, func(v playbook.RunView) bool { return v.Ended })
						l2.end()
						if v.State != playbook.StateDone {
							t.Errorf("crash at %q: the run ended as %s: %s", l.at, v.State, v.Text)
						}
					}
					w.rotated()
					lost := strings.Contains(allText(w), "was lost")
					if issued := w.platform.Stats().Issued - 1; issued != 1 && !lost || issued > 2 {
						t.Errorf("crash at %q: %d keys were issued, told lost: %t", l.at, issued, lost)
					}
					if t.Failed() {
						t.Fatalf("crash at %q", l.at)
					}
				})
				if t.Failed() {
					return
				}
				rounds = at
			}
			if rounds < 50 {
				t.Errorf("only %d crash points were met", rounds)
			}
			t.Logf("%d crash points", rounds-1)
		})
	}
}

// TestCrashesInARow kills the runner again and again at random effects, until one
// life is long enough.
func TestCrashesInARow(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		overlap := platform.Parallel
		if seed%2 == 1 {
			overlap = platform.Replace
		}
		inWorld(t, overlap, func(t *testing.T, w *world) {
			l := w.begin(testConfig(), 0)
			p := w.plan(l, nil)
			w.approve(p, "bob")
			l.end()
			var at []string
			for range 6 {
				l = w.begin(testConfig(), 1+rng.IntN(25))
				v := l.until(p.RunID, 20*time.Minute, func(v playbook.RunView) bool { return v.Ended })
				l.end()
				at = append(at, l.at)
				if v.Ended {
					break
				}
			}
			l = w.begin(testConfig(), 0)
			v := l.until(p.RunID, time.Hour, func(v playbook.RunView) bool { return v.Ended })
			l.end()
			if v.State != playbook.StateDone {
				t.Errorf("seed %d, crashes at %q: the run ended as %s: %s", seed, at, v.State, v.Text)
			}
			w.rotated()
			lost := strings.Count(allText(w), "was lost")
			if issued := w.platform.Stats().Issued - 1; issued > 1+lost {
				t.Errorf("seed %d, crashes at %q: %d keys issued, %d told lost", seed, at, issued, lost)
			}
		})
	}
}

// TestCrashWhileBackingOut kills the runner around every effect of a back-out.
func TestCrashWhileBackingOut(t *testing.T) {
	t.Parallel()
	rounds := 0
	for at, over := 1, false; !over; at++ {
		inWorld(t, platform.Parallel, func(t *testing.T, w *world) {
			w.hosts.set(func() { w.hosts.stragglers["batch-1"] = true })
			l := w.begin(testConfig(), 0)
			p := w.plan(l, map[string]string{"overlap": "5m"})
			w.approve(p, "bob")
			l.untilState(p.RunID, playbook.StateOverdue, time.Hour)
			l.mu.Lock()
			l.crashAt = l.ops + at
			l.mu.Unlock()
			w.decide(journal.Decision{Action: journal.ActionChoose, RunID: p.RunID, Person: "bob", Choice: "back_out"})
			ended := func(v playbook.RunView) bool { return v.Ended }
			v := l.until(p.RunID, 20*time.Minute, ended)
			over = !l.isDead()
			l.end()
			if !over {
				l2 := w.begin(testConfig(), 0)
				v = l2.until(p.RunID, 20*time.Minute, ended)
				l2.end()
			}
			if v.State != playbook.StateBackOut {
				t.Errorf("crash at %q: the run ended as %s: %s", l.at, v.State, v.Text)
			}
			w.oneKeyWorks()
			if cur, _ := w.store.Get(context.Background(), secretName); cur.Value.Reveal() != w.first.Reveal() {
				t.Errorf("crash at %q: the store does not hold the old key", l.at)
			}
		})
		if t.Failed() {
			return
		}
		rounds = at
	}
	if rounds < 20 {
		t.Errorf("only %d crash points were met", rounds)
	}
}
