package detect

import (
	"slices"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// blindTitles are the rules that see nothing of network n1, with why.
func blindTitles(e *Engine, now event.Instant) map[string]string {
	out := map[string]string{}
	for _, b := range e.Blind(now)["n1"] {
		out[b.Rule.Name] = b.Why
	}
	return out
}

func TestBlind(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	if got := e.Blind(at(0)); len(got) != 0 {
		t.Errorf("of networks that nobody saw: %v", got)
	}
	mint := mintOfToken(at(0), "t1", 0).with("boot", "b")
	observe(e, 0, mint, openedSession(at(1), "t1", "100.64.0.1", "device_id", "d1"))
	got := blindTitles(e, at(2))
	for rule, want := range map[string]string{
		"admin_key_new_place":  "no events of origin console",
		"mint_outside_egress":  "nothing declared in detect.declared_egress",
		"session_without_mint": "no field seq",
		"clock_off":            "no field clock_offset",
		"dormant_key":          "", "token_other_device": "", "key_from_new_network": "",
	} {
		if got[rule] != want {
			t.Errorf("%s: got %q, want %q", rule, got[rule], want)
		}
	}
	if far := blindTitles(e, at(sightDays*86400+1)); far["dormant_key"] == "" {
		t.Error("a week without events, and the rules see")
	}
	next := newEngine(t, egress)
	next.LoadSnapshot(e.Snapshot())
	gateway := minted(at(1), "", "k1")
	gateway.origin = event.OriginGateway
	observe(e, 5, gateway)
	if why := blindTitles(e, at(2))["mint_outside_egress"]; why != "nothing declared in detect.declared_egress" {
		t.Errorf("with mints of a gateway: %q", why)
	}
	observe(next, 5, gateway)
	again := blindTitles(next, at(2))
	if again["dormant_key"] != "" || again["mint_outside_egress"] != "" || again["admin_key_new_place"] == "" {
		t.Errorf("after a restart with egress declared: %v", again)
	}
	act := lifecycle(event.TypeServerKeyCreated, at(3), "k2").with("actor", "ada").from("198.51.100.1")
	observe(next, 10, act)
	for _, days := range []float64{1, sightDaysConsole - 1} {
		if why := blindTitles(next, at(days*86400))["admin_key_new_place"]; why != "" {
			t.Errorf("%v days after an act at the console: %s", days, why)
		}
	}
}

// TestBlindIsSaidInFindings: a finding about a key names the rules about keys that
// would page and see nothing there.
func TestBlindIsSaidInFindings(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	fs, _ := observe(e, 0, append(settled(), refused(at(1), "", "k1", "198.51.100.7"))...)
	fs = append(fs, drain(e, 100, 2)...)
	i := slices.IndexFunc(fs, func(f finding.Finding) bool { return f.RuleName == "retired_key_foreign" })
	if i < 0 {
		t.Fatal("nothing fired")
	}
	for _, p := range fs[i].Facts {
		if p.Field == "blind_here" {
			if !strings.Contains(p.Value, "Server key works from outside of our egress (nothing declared in detect.declared_egress)") {
				t.Errorf("blind_here: %s", p.Value)
			}
			return
		}
	}
	t.Errorf("facts: %v", fs[i].Facts)
}
