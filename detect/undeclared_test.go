package detect

import (
	"net/netip"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// asked is the ids of the keys that somebody is asked about.
func asked(fs []finding.Finding) (keys []string) {
	for _, f := range fs {
		if f.RuleID == finding.RuleUndeclaredRotation {
			keys = append(keys, f.Subject.Value)
		}
	}
	return keys
}

func adopted(key, probe string, created event.Instant) journal.KeyChange {
	return journal.KeyChange{Network: "n1", KeyID: key, State: journal.KeyAdopted, At: at(0), Person: "ada", Probe: probe, Created: created}
}

func TestUndeclaredRotation(t *testing.T) {
	t.Parallel()
	long := undeclaredAfter.Seconds()
	mints := func(key string) []ev {
		return []ev{minted(at(1), "h1", key), minted(at(2+long), "h1", key), minted(at(3+long), "h1", key)}
	}
	elsewhere := mints("k9")
	for i := range elsewhere {
		elsewhere[i].source = "203.0.113.9"
	}
	for name, tc := range map[string]struct {
		before []ev
		change *journal.KeyChange
		events []ev
		want   int
	}{
		"a key that nobody told of":           {settled(), nil, mints("k9"), 1},
		"the key that is known":               {settled(), nil, mints("k2"), 0},
		"for less than a while":               {settled(), nil, []ev{minted(at(1), "h1", "k9"), minted(at(long-1), "h1", "k9")}, 0},
		"before any key is known":             {[]ev{minted(at(-60), "h1", "k1"), minted(at(-30), "h1", "k1")}, nil, mints("k9"), 0},
		"on a host that is new":               {settled(), nil, []ev{minted(at(1), "h2", "k9"), minted(at(2), "h2", "k9")}, 0},
		"under our name from elsewhere":       {settled(), nil, elsewhere, 1}, // it came before with other sources: a host has several
		"adopted with a probe":                {settled(), ptr(adopted("k9", journal.ProbeAgreed, 0)), mints("k9"), 0},
		"adopted without one":                 {settled(), ptr(adopted("k9", "", 0)), mints("k9"), 0},
		"denied":                              {settled(), &journal.KeyChange{Network: "n1", KeyID: "k9", State: journal.KeyDenied}, mints("k9"), 0},
		"again the next day":                  {settled(), nil, append(mints("k9"), heartbeat(at(54000), "h1", "k9"), minted(at(54001), "h1", "k9"), minted(at(54002), "h1", "k9")), 2},
		"refused: it does not work":           {settled(), nil, []ev{refused(at(1), "h1", "k9", "10.0.0.1"), refused(at(2+long), "h1", "k9", "10.0.0.1")}, 0},
		"two of them":                         {settled(), nil, append(mints("k8"), mints("k9")...), 2},
		"told of in between, by the platform": {settled(), nil, []ev{minted(at(1), "h1", "k9"), lifecycle(event.TypeServerKeyCreated, at(2), "k9"), minted(at(2+long), "h1", "k9")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, nil)
			observe(e, 0, tc.before...)
			if tc.change != nil {
				e.ApplyKey(*tc.change)
			}
			fs, _ := observe(e, 100, tc.events...)
			if got := asked(fs); len(got) != tc.want {
				t.Errorf("asked about %q, want %d times", got, tc.want)
			}
			ids := map[string]bool{}
			for _, f := range fs {
				if f.RuleID == finding.RuleUndeclaredRotation && (f.Severity != finding.Ticket || len(f.Evidence) != 1 || f.Risk != nil || ids[f.ID]) {
					t.Errorf("%+v", f)
				}
				ids[f.ID] = true
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// A restart asks the same question under the same id, so that the journal has it once.
func TestUndeclaredRotationAfterARestart(t *testing.T) {
	t.Parallel()
	long := undeclaredAfter.Seconds()
	story := append(settled(), minted(at(1), "h1", "k9"), minted(at(2+long), "h1", "k9"))
	e := newEngine(t, nil)
	before, _ := observe(e, 0, story...)
	again := newEngine(t, nil)
	for i, v := range story {
		again.Replay(part0, []event.Event{v.event(int64(i))})
	}
	after, _ := observe(again, 100, minted(at(9+long), "h1", "k9"))
	if len(asked(before)) != 1 || len(asked(after)) != 1 {
		t.Fatalf("asked %q before and %q after", asked(before), asked(after))
	}
	if before[len(before)-1].ID != after[len(after)-1].ID {
		t.Error("the ids differ")
	}
}

// What a person told is in the registry once the platform agreed, and nowhere else.
func TestAdopt(t *testing.T) {
	t.Parallel()
	stranger := refused(at(1), "", "k9", "203.0.113.9")
	cause := func(e *Engine, off int64, v ev) event.Cause {
		_, out := observe(e, off, v)
		return out[0].Cause
	}
	e := newEngine(t, nil)
	if got := cause(e, 0, stranger); got != event.CauseUnknownKey || !e.keys.learning("n1") {
		t.Fatalf("at first: %s, learning %v", got, e.keys.learning("n1"))
	}
	e.ApplyKey(adopted("k9", "", at(-86400)))
	if !e.keys.learning("n1") || e.LiveKey("n1") != "" || len(e.Keys("n1")) != 0 || cause(e, 1, stranger) != event.CauseUnknownKey {
		t.Error("an entry without a probe is believed")
	}
	if got := e.Claims("n1"); len(got) != 1 || got[0].Source != "person:ada" || got[0].Probed || got[0].Created != at(-86400) {
		t.Errorf("it is listed as %+v", got)
	}
	e.ApplyKey(adopted("k9", journal.ProbeAgreed, at(-86400)))
	if got := e.Keys("n1"); len(got) != 1 || len(e.Claims("n1")) != 0 || got[0].State != KeyActive || !got[0].Probed || got[0].Source != "person:ada" || got[0].Created != at(-86400) {
		t.Fatalf("the registry holds %+v", got)
	}
	if e.keys.learning("n1") || e.LiveKey("n1") != "k9" || !e.Knows("n1") || e.Knows("n2") {
		t.Error("the network is still learning, or has no live key")
	}
	// An older one that works is retired by it, as by an activation; one of unknown age
	// retires nothing.
	e.ApplyKey(adopted("k1", journal.ProbeAgreed, at(-2*86400)))
	if k, _ := e.Key("n1", "k1"); k.State != KeyRetired {
		t.Errorf("the older key is %s", k.State)
	}
	e.ApplyKey(adopted("k0", journal.ProbeAgreed, 0))
	k0, _ := e.Key("n1", "k0")
	k9, _ := e.Key("n1", "k9")
	if k0.State != KeyActive || k0.Created != 0 || k9.State != KeyActive || e.LiveKey("n1") != "k0" {
		t.Errorf("%+v beside %+v", k0, k9)
	}
	// A word does not bring a revoked key back.
	observe(e, 9, lifecycle(event.TypeServerKeyRevoked, at(5), "k0"))
	e.ApplyKey(adopted("k0", journal.ProbeAgreed, 0))
	if k, _ := e.Key("n1", "k0"); k.State != KeyRevoked {
		t.Errorf("a revoked key is %s after it was adopted", k.State)
	}
}

// Nobody enters the inventory from a source of an open compromise.
func TestInventoryAndOpenCompromise(t *testing.T) {
	t.Parallel()
	live := func(e *Engine, host string, now event.Instant) bool {
		for _, u := range e.KeyUse("n1", now) {
			if u.Host == host && u.Live {
				return true
			}
		}
		return false
	}
	from := func(v ev, source string) ev { v.source = source; return v }
	bad := []Source{{"n1", netip.MustParseAddr("203.0.113.9")}}

	e := newEngine(t, nil)
	observe(e, 0, settled()...)
	observe(e, 20, from(minted(at(1), "evil", "k2"), "203.0.113.9"), from(minted(at(5), "evil", "k2"), "203.0.113.9"),
		from(minted(at(2), "evil-2", "k2"), "203.0.113.9"), from(minted(at(5), "evil-2", "k2"), "203.0.113.9"))
	e.Bar(bad)
	e.Bar(bad) // said again and again
	observe(e, 30, from(minted(at(12), "evil", "k2"), "203.0.113.9"), from(minted(at(13), "other", "k2"), "203.0.113.9"), from(minted(at(30), "other", "k2"), "203.0.113.9"))
	if live(e, "evil", at(31)) || live(e, "other", at(31)) {
		t.Error("a host entered from the source of an open compromise")
	}
	if !live(e, "h1", at(31)) {
		t.Error("a host of ours was taken out")
	}
	if got := e.ForeignUse("n1"); len(got) != 2 { // evil and other
		t.Errorf("foreign uses: %+v", got)
	}
	// When the incident is over, the day begins anew.
	e.Bar(nil)
	observe(e, 40, from(minted(at(40), "evil", "k2"), "203.0.113.9"), from(minted(at(40), "evil-2", "k2"), "203.0.113.9"))
	if live(e, "evil", at(41)) || live(e, "evil-2", at(41)) {
		t.Error("what it minted during the incident counts")
	}
	observe(e, 50, from(minted(at(51), "evil", "k2"), "203.0.113.9"))
	if !live(e, "evil", at(52)) {
		t.Error("a host of a closed incident does not enter")
	}
	// A compromise that names our own address takes no host of ours out, and lets
	// nobody use its name from elsewhere.
	e.Bar([]Source{{"n1", netip.MustParseAddr("10.0.0.1")}, bad[0]})
	observe(e, 60, minted(at(60), "h1", "k2"), from(minted(at(61), "h1", "k2"), "203.0.113.9"))
	if !live(e, "h1", at(62)) || e.hosts.hosts[hostName{"n1", "h1"}].cameFrom(netip.MustParseAddr("203.0.113.9")) {
		t.Error("our own host was taken out, or the thief speaks in its name")
	}
}

// The other clauses of the inventory.
func TestInventoryClauses(t *testing.T) {
	t.Parallel()
	const day, beat = 24 * time.Hour, 10 * time.Minute
	service := func(v ev, name string) ev { v.fields[event.FieldService] = name; return v }
	from := func(v ev, source string) ev { v.source = source; return v }
	stop := func(ts event.Instant, host string) ev {
		return ev{typ: event.TypeHostStopped, ts: ts, origin: event.OriginBackend, fields: fields("host", host)}
	}
	off := func(d time.Duration) event.Instant { return start.Add(d) }
	entered := []ev{minted(off(0), "h", "k"), minted(off(day), "h", "k"), heartbeat(off(day), "h", "k")}
	nightly := []ev{service(minted(off(0), "h", "k"), "nightly"), service(minted(off(day), "h", "k"), "nightly")}
	for name, tc := range map[string]struct {
		events []ev
		now    event.Instant
		want   bool
	}{
		"a day of mints":                         {entered, off(day + time.Minute), true},
		"less than a day":                        {[]ev{minted(off(0), "h", "k"), minted(off(day-time.Second), "h", "k")}, off(day), false},
		"heartbeats alone":                       {[]ev{heartbeat(off(0), "h", "k"), heartbeat(off(day), "h", "k")}, off(day), false},
		"from undeclared egress":                 {[]ev{from(minted(off(0), "h", "k"), "192.0.2.1"), from(minted(off(day), "h", "k"), "192.0.2.1")}, off(day), false},
		"first from elsewhere, then declared":    {[]ev{from(minted(off(0), "h", "k"), "192.0.2.1"), minted(off(day), "h", "k")}, off(day), false},
		"as an undeclared service":               {[]ev{service(minted(off(0), "h", "k"), "x"), service(minted(off(day), "h", "k"), "x")}, off(day), false},
		"it says that it stops":                  {append(entered, stop(off(day+time.Minute), "h")), off(day + 2*time.Minute), false},
		"another says that it stops":             {append(entered, stop(off(day+time.Minute), "g")), off(day + 2*time.Minute), true},
		"a stop of before its last word":         {append(entered, stop(off(day-time.Minute), "h")), off(day + 2*time.Minute), true},
		"ten minutes without a heartbeat":        {entered, off(day + beat), true},
		"more than ten":                          {entered, off(day + beat + time.Second), false},
		"a scheduled service sleeps":             {nightly, off(day + 20*time.Hour), true},
		"a scheduled service says it is gone":    {append(nightly, stop(off(day+time.Hour), "h")), off(day + 20*time.Hour), false},
		"and comes back":                         {append(nightly, stop(off(day+time.Hour), "h"), service(minted(off(2*day), "h", "k"), "nightly")), off(2*day + time.Hour), true},
		"seen by a gateway, which is not itself": {[]ev{gateway(minted(off(0), "h", "k")), gateway(minted(off(day), "h", "k"))}, off(day), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, func(c *Config) {
				c.InventoryAge, c.ScheduledServices = day, []string{"nightly"}
				c.DeclaredServices, c.DeclaredEgress = []string{"chat", "nightly"}, []string{"10.0.0.0/8"}
			})
			observe(e, 0, tc.events...)
			got := false
			for _, u := range e.KeyUse("n1", tc.now) {
				got = got || u.Host == "h" && u.Live
			}
			if got != tc.want {
				t.Errorf("in the inventory: %v, want %v", got, tc.want)
			}
		})
	}
}

func gateway(v ev) ev { v.origin = event.OriginGateway; return v }
