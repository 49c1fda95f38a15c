package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

// patience bounds each wait.
const patience = 75 * time.Second

// step is one promise of the story; a story goes on as long as it makes sense.
type step func(ctx context.Context) bool

// story plays every chapter and reports whether every promise was kept.
func (w *world) story(ctx context.Context) bool {
	ok := true
	for _, s := range []step{w.ordinary, w.drifts, w.straggler, w.theft, w.rotation, w.tripwire, w.drifted, w.stored} {
		if ctx.Err() != nil || w.failed() != nil {
			return false
		}
		if !s(ctx) {
			ok = false
		}
	}
	return ok
}

// await polls until f is true.
func (w *world) await(ctx context.Context, f func() bool) bool {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) && ctx.Err() == nil && w.failed() == nil {
		if f() {
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return false
}

// find returns the newest incident that f wants.
func (w *world) find(ctx context.Context, f func(incident.Incident) bool) (incident.Incident, bool) {
	list, err := w.client.Incidents(ctx)
	if err != nil {
		return incident.Incident{}, false
	}
	for _, inc := range list {
		if f(inc) {
			return inc, true
		}
	}
	return incident.Incident{}, false
}

func (w *world) incident(ctx context.Context, f func(incident.Incident) bool) (inc incident.Incident, ok bool) {
	ok = w.await(ctx, func() bool {
		inc, ok = w.find(ctx, f)
		return ok
	})
	return inc, ok
}

func (w *world) ordinary(ctx context.Context) bool {
	ok := w.await(ctx, func() bool {
		st, err := w.client.Status(ctx)
		if err != nil || st.Role != "leader" || !st.Ready {
			return false
		}
		read := int64(0)
		for _, p := range st.Positions {
			read += p.Detected
		}
		return read > 200
	})
	w.out.verdict(ok, "ordinary traffic is read, judged and stored; the console is at %s", w.daemon.URL())
	// Hosts enter the inventory with age.
	select {
	case <-ctx.Done():
	case <-time.After(6 * time.Second):
	}
	return ok
}

// drifts sets a clock wrong. Its consequences are looked at later: a clock is
// estimated from closed minutes.
func (w *world) drifts(context.Context) bool {
	w.out.chapter("A host's clock drifts")
	w.out.say("the clock of %s is now 95 s fast; tokens that it asks for lie in the future", driftHost)
	w.fleet.SetClock(driftHost, 95*time.Second, 0)
	return true
}

func (w *world) drifted(ctx context.Context) bool {
	w.out.chapter("What became of the drifting clock")
	inc, ok := w.incident(ctx, func(i incident.Incident) bool { return i.Kind == finding.ClockSkew && i.Subject.Value == driftHost })
	w.out.verdict(ok, "the refusals of %s are called %s, not an attack; %s: %s", driftHost, inc.Lead.Cause, inc.Severity, inc.Lead.Resolution)
	for _, f := range inc.Lead.Facts {
		if strings.Contains(f.Field, "clock") {
			w.out.say("%s: %s", f.Field, f.Value)
		}
	}
	w.fleet.SetClock(driftHost, 0, 0)
	return ok
}

func (w *world) straggler(ctx context.Context) bool {
	w.out.chapter("Somebody rotates the key by hand, and a host does not follow")
	w.fleet.SetStraggler(lateHost, true)
	_, key := w.platform.IssueKey("rotated by hand")
	old, err := w.secrets.Get(ctx, secretName)
	if err == nil {
		_, err = w.secrets.Put(ctx, secretName, key, old.Version)
	}
	if err != nil {
		w.out.verdict(false, "the new key could not be stored: %v", err)
		return false
	}
	w.out.say("a new key is in the secret store; %s never reloads", lateHost)
	w.await(ctx, func() bool {
		for _, h := range w.fleet.Status() {
			if h.Host != lateHost && h.KeyID != w.fleetDeps.Fingerprint(key.Reveal()) {
				return false
			}
		}
		return true
	})
	w.out.say("the other hosts use it; the old key is revoked in the console")
	w.platform.RevokeKey(w.firstID)
	inc, ok := w.incident(ctx, func(i incident.Incident) bool { return i.Kind == finding.KeyStraggler })
	w.out.verdict(ok, "%s is named as a straggler, with what to do: %q", lateHost, inc.Lead.Resolution)
	return ok
}

// A thief that tries a key, and one that uses it.
const (
	trying = 5  // mints a second
	using  = 30 // more than any backend
)

// retiredForeign is the shipped rule on a retired key in other hands.
const retiredForeign = "b3ddb0c2-46bb-407e-89ae-713089f0f361"

// steal lets a thief have a key for a while.
func (w *world) steal(ctx context.Context, key secret.Value, rate float64, d time.Duration) {
	thief, err := platform.NewThief(platform.ThiefConfig{Network: network, Key: key, From: netip.MustParseAddr("203.0.113.66"),
		UserAgent: "python-requests/2.32", MintsPerSecond: rate, Users: 2000, Seed: 3}, w.fleetDeps)
	if err != nil {
		w.out.say("the thief failed: %v", err)
		return
	}
	bounded, cancel := context.WithTimeout(ctx, d)
	w.start(func() error {
		defer cancel()
		return thief.Run(bounded)
	})
}

func (w *world) theft(ctx context.Context) bool {
	w.out.chapter("A stolen key")
	w.out.say("somebody at 203.0.113.66 tries the key that was rotated away")
	w.steal(ctx, w.firstKey, trying, 3*time.Second)
	inc, ok := w.incident(ctx, func(i incident.Incident) bool { return i.Kind == finding.KeyCompromise && i.HasRule(retiredForeign) })
	w.out.verdict(ok, "page %s: %s", inc.ID, inc.Lead.Summary)
	if !ok {
		return false
	}
	fired := inc.Lead.Fired.Time()
	w.out.verdict(inc.Severity == finding.Page && inc.Lead.Cause == event.CauseRetiredKeyForeign,
		"its cause is %s, seen %s after the first use", inc.Lead.Cause, fired.Sub(inc.Lead.First.Time()).Round(time.Millisecond))
	runs, err := w.client.Runs(ctx)
	w.out.verdict(err == nil && len(runs) == 0, "nothing is proposed: a refused call says nothing about the live key")
	return w.stolen(ctx)
}

// stolen lets the thief have the live key, too.
func (w *world) stolen(ctx context.Context) bool {
	live, err := w.secrets.Get(ctx, secretName)
	if err != nil {
		w.out.verdict(false, "the live key is not in the store: %v", err)
		return false
	}
	keyID := w.fleetDeps.Fingerprint(live.Value.Reveal())
	w.out.say("the same place held the live key, too: now it mints tokens, for one user after the other")
	w.steal(ctx, live.Value, using, 12*time.Second)
	inc, ok := w.incident(ctx, func(i incident.Incident) bool {
		return i.Kind == finding.KeyCompromise && i.Subject.Value == keyID && i.GateMetAt != 0
	})
	if ok {
		inc, err = w.client.Incident(ctx, inc.ID)
	}
	if !ok || err != nil || inc.Suspicion == nil {
		w.out.verdict(false, "the evidence about the live key suffices to propose a rotation (%v)", err)
		return false
	}
	w.out.verdict(inc.Severity == finding.Page, "page %s: %s", inc.ID, inc.Suspicion.Words())
	for _, c := range inc.Suspicion.Contributions {
		w.out.say("  %s", c.Words())
	}
	w.out.verdict(inc.Suspicion.Gate.Met, "the evidence %s", inc.Suspicion.Gate.Words())
	return inc.Suspicion.Gate.Met
}

// waitingRun is the run that waits for approval.
func (w *world) waitingRun(ctx context.Context) (run incident.Run, ok bool) {
	ok = w.await(ctx, func() bool {
		runs, err := w.client.Runs(ctx)
		if err != nil {
			return false
		}
		for _, r := range runs {
			if r.Waiting() {
				run = r
				return true
			}
		}
		return false
	})
	return run, ok
}

func (w *world) rotation(ctx context.Context) bool {
	w.out.chapter("The rotation")
	run, ok := w.waitingRun(ctx)
	w.out.verdict(ok, "a rotation is proposed (%s); nothing happens without approval", run.ID)
	if !ok {
		return false
	}
	for _, s := range run.Plan.Steps {
		for _, c := range s.Calls {
			w.out.say("  %-10s %s", s.ID, c)
		}
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	_, err := w.client.Decide(ctx, journal.Decision{ID: "demo-" + hex.EncodeToString(id), Action: journal.ActionApprove, RunID: run.ID,
		IncidentID: run.IncidentID, PlanHash: run.PlanHash})
	w.out.verdict(err == nil, "approved by %s, bound to plan %.12s", person, run.PlanHash)
	if err != nil {
		w.out.say("%v", err)
		return false
	}
	done := w.follow(ctx, run.ID)
	stats := w.platform.Stats()
	w.out.verdict(stats.MinActive >= 1, "the platform was never without a working key (fewest: %d)", stats.MinActive)
	return done && stats.MinActive >= 1
}

// follow tells the run's states, and puts the straggler right when it holds the
// proof up.
func (w *world) follow(ctx context.Context, id string) bool {
	said := map[string]bool{}
	tell := func(what string) {
		if what != "" && !said[what] {
			said[what] = true
			w.out.say("rotation: %s", what)
		}
	}
	cured := false
	var last incident.Run
	w.await(ctx, func() bool {
		run, err := w.client.Run(ctx, id)
		if err != nil {
			return false
		}
		last = run
		tell(run.State)
		tell(run.Clock)
		if !cured && strings.Contains(run.Clock, "1 host left") && strings.Contains(run.Clock, lateHost) {
			cured = true
			w.out.say("somebody redeploys %s; it loads the new key", lateHost)
			w.fleet.SetStraggler(lateHost, false)
		}
		return run.Ended
	})
	proof := w.proof(last)
	w.out.verdict(proof, "every live host was proven to use the new key before the old one was revoked")
	w.out.verdict(last.State == "done", "the old key is dead, the rotation is %s %s", last.State, last.Reason)
	return proof && last.State == "done"
}

// proof reports whether the step that waits for evidence was done before the
// one that revokes began.
func (w *world) proof(run incident.Run) bool {
	var proven, revoked event.Instant
	for _, s := range run.Steps {
		switch {
		case s.ID == "cut_over" && s.State == "done":
			proven = s.At
		case s.ID == "revoke" && s.State == "done":
			revoked = s.At
		}
	}
	return proven != 0 && revoked > proven
}

func (w *world) tripwire(ctx context.Context) bool {
	w.out.chapter("The old key's next use")
	before, err := w.secrets.GetVersion(ctx, secretName, 2)
	if err != nil {
		w.out.verdict(false, "the rotated key is not in the store: %v", err)
		return false
	}
	keyID := w.fleetDeps.Fingerprint(before.Value.Reveal())
	w.out.say("somebody at 203.0.113.66 tries the key that was just revoked")
	w.steal(ctx, before.Value, trying, 3*time.Second)
	inc, ok := w.incident(ctx, func(i incident.Incident) bool {
		return i.Kind == finding.KeyCompromise && i.Subject.Value == keyID && i.HasRule(retiredForeign)
	})
	w.out.verdict(ok, "recognised at once as a retired key in other hands (%s)", inc.ID)
	return ok
}

func (w *world) stored(ctx context.Context) bool {
	w.out.chapter("What analysts have")
	var line string
	ok := w.await(ctx, func() bool {
		st, err := w.client.Status(ctx)
		if err != nil {
			return false
		}
		var read int64 // what is known to be stored before counting: traffic goes on
		for _, p := range st.Positions {
			read += p.Stored
		}
		n, err := w.count(ctx)
		if err != nil {
			line = err.Error()
			return false
		}
		line = fmt.Sprintf("%d records were acknowledged as stored; %d rows, %d distinct coordinates, %d in quarantine", read, n.Final, n.Distinct, n.Quarantine)
		return read > 0 && int64(n.Distinct) >= read && n.Final == n.Distinct && n.View == n.Distinct && n.Quarantine == 0
	})
	w.out.verdict(ok, "ClickHouse holds each event once: %s", line)
	return ok
}
