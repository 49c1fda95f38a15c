package detect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

// TestEveryVerdictExplainsItself: whatever the cause, each ground has a sentence,
// nothing is ruled out that it is, and something is to be done.
func TestEveryVerdictExplainsItself(t *testing.T) {
	t.Parallel()
	ruledOut := 0
	for _, list := range [][]causeCase{keyCases(), answerCases(), tokenCases(), sessionCases(), certificateCases()} {
		for _, tc := range list {
			cfg := DefaultConfig()
			cfg.InventoryAge = 10 * time.Second
			r := newRegistries(cfg, tc.world.declared)
			d := r.diagnoser(clockTable(), &cfg)
			for i, v := range append(settled(), tc.world.before...) {
				e := v.event(int64(i))
				if e.Refused() {
					e.Cause = d.diagnose(&e).cause
				}
				r.learn(&e)
			}
			e := tc.v.event(200)
			x := d.explain(&e)
			if x.Cause != tc.want || x.Resolution == "" || len(x.Evidence) == 0 || x.Differs != event.CauseNone {
				t.Errorf("%s: %+v", tc.name, x)
			}
			for _, s := range x.Evidence {
				if s.Text == "" || strings.Contains(s.Text, "%!") {
					t.Errorf("%s: %s says %q", tc.name, s.Ground, s.Text)
				}
			}
			for _, a := range x.RuledOut {
				if a.Cause == x.Cause || a.Why == "" || strings.Contains(a.Why, "%!") {
					t.Errorf("%s: ruled out %+v", tc.name, a)
				}
			}
			ruledOut += len(x.RuledOut)
		}
	}
	if ruledOut < 100 {
		t.Errorf("%d alternatives were ruled out in all: that explains little", ruledOut)
	}
}

func TestExplainClockSkewWithValues(t *testing.T) {
	t.Parallel()
	mint := token(-5, "api-7", "u", "t", 312*time.Second)
	fast := mint.event(1)
	past := &Past{Events: []event.Event{fast}, MintsSince: at(-90_000),
		Clocks: map[string]offset.Estimate{"api-7": {Offset: 312 * time.Second, Error: 4 * time.Second, Slope: 0.8, Confident: true, AsOf: start}}}
	v := sessionCall(403, "token_id", "t", "user_id", "u", "host", "gw-1")
	e := v.event(9)
	got := Explain(DefaultConfig(), nil, past, &e)
	want := Explanation{Cause: event.CauseClockSkew, Confidence: byDates,
		Evidence: []Statement{
			{"token_dates", "by its mint the token is valid from 2026-11-23T09:05:07Z to 2026-11-23T09:15:07Z, and the call came at 2026-11-23T09:00:10Z"},
			{"mint_known", "host api-7 minted the token at 2026-11-23T08:59:55Z"},
			{"clock_ahead", "host api-7 dated the token 312 s ahead of when Kafka had its record; the platform tolerates 60 s"},
		},
		RuledOut: []Alternative{
			{event.CauseExpiredAuthToken, "by the date of its mint the token lives until 2026-11-23T09:15:07Z"},
			{event.CauseInvalidToken, "the token was minted at 2026-11-23T08:59:55Z for this user"},
			{event.CauseMissingAuthToken, "the call presented token t"},
			{event.CauseUserBanned, "the platform answers 401 to a banned user, and it answered 403"},
		},
		Resolution: "Sync NTP on host api-7: it is 312 s +- 4.0 s fast, drifting +0.8 s/h. Its tokens are refused until then.",
		Facts:      []finding.Pair{{Field: "host", Value: "api-7"}, {Field: "clock_offset", Value: "+312.0 s +- 4.0 s"}, {Field: "clock_drift", Value: "+0.80 s/h"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestExplainStragglerNamesTheCurrentKey(t *testing.T) {
	t.Parallel()
	past := &Past{Snapshot: Snapshot{
		Keys:  []Key{{Network: "n1", KeyID: "k1", State: KeyRevoked, Revoked: at(-60), Source: "events:console"}, {Network: "n1", KeyID: "k2", State: KeyActive, Activated: at(-100)}},
		Hosts: []SnapshotHost{{Network: "n1", Host: "h1", FirstMint: at(-90_000), LastMint: at(-5), LastSeen: at(-5)}},
	}}
	v := mintRefused(401, "h1", "k1")
	e := v.event(9)
	got := Explain(DefaultConfig(), nil, past, &e)
	if got.Cause != event.CauseRetiredKeyStraggler || got.Resolution != "Redeploy host h1 with the current key k2." {
		t.Errorf("%+v", got)
	}
	if got.RuledOut[0] != (Alternative{event.CauseUnknownKey, "the key is registered: revoked"}) {
		t.Errorf("%+v", got.RuledOut)
	}
}

// TestExplainKeepsTheLiveDecision: what was decided when the event came stands, also
// where what is stored says otherwise; that is shown.
func TestExplainKeepsTheLiveDecision(t *testing.T) {
	t.Parallel()
	v := mintRefused(401, "h1", "k1")
	e := v.event(9)
	e.Cause, e.CauseConfidence, e.Rediagnosed = event.CauseRetiredKeyForeign, 0.8, true
	got := Explain(DefaultConfig(), nil, &Past{}, &e)
	if got.Cause != event.CauseRetiredKeyForeign || got.Confidence != 0.8 || !got.Rediagnosed || got.Differs != event.CauseUnknownKey {
		t.Errorf("%+v", got)
	}
	e.CauseGrounds = event.Grounds(0).With(event.GroundKeyRevoked)
	if got = Explain(DefaultConfig(), nil, &Past{}, &e); len(got.Evidence) != 1 || got.Evidence[0].Text != event.GroundKeyRevoked.Doc() {
		t.Errorf("the stored grounds are to be told, in general where their values are gone: %+v", got.Evidence)
	}
}

// TestFindingsCarryTheValuesOfTheResolution: whom to mend, and by how much.
func TestFindingsCarryTheValuesOfTheResolution(t *testing.T) {
	t.Parallel()
	factsOf := func(name string, vs ...ev) map[string]string {
		cfg := DefaultConfig()
		cfg.InventoryAge = 10 * time.Second
		e, err := New(cfg, Deps{Rules: shipped(t), Clocks: clockTable()})
		if err != nil {
			t.Fatal(err)
		}
		e.Assign([]event.Partition{part0})
		observe(e, 0, settled()...)
		fs, _ := observe(e, 100, vs...)
		out := map[string]string{}
		for _, f := range rule(fs, name) {
			out["subject"] = f.Subject.Value
			for _, p := range f.Facts {
				out[p.Field] = p.Value
			}
		}
		return out
	}
	// The gateway that saw it is not the host whose clock it is.
	got := factsOf("clock_skew", token(9, "fast", "u", "t", 312*time.Second), sessionCall(403, "token_id", "t", "host", "gw-1"))
	if got["minting_host"] != "fast" || got["host"] != "gw-1" || got["subject"] != "fast" || got["clock_offset"] != "+312.0 s +- 4.0 s" || got["clock_drift"] == "" {
		t.Errorf("clock skew: %v", got)
	}
	got = factsOf("retired_key_straggler", mintRefused(401, "h1", "k1"))
	if got["current_key"] != "k2" || got["key_id"] != "k1" || got["host"] != "h1" {
		t.Errorf("straggler: %v", got)
	}
}
