package detect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/networks"
	"github.com/keysentry/keysentry/event"
)

// openedSession is a redemption of a token.
func openedSession(ts event.Instant, token, source string, kv ...string) ev {
	return ev{typ: event.TypeSessionCreated, ts: ts, origin: event.OriginGateway, status: 200, source: source,
		fields: fields(append([]string{"user_id", "u", "token_id", token}, kv...)...)}
}

// mintOfToken is a mint of a token by a host of ours.
func mintOfToken(ts event.Instant, token string, expires event.Instant) ev {
	v := minted(ts, "h1", "k1")
	v.fields[event.FieldTokenID], v.expires = token, expires
	return v
}

// lastTraits are the traits of the last of the events.
func lastTraits(e *Engine, events ...ev) string {
	_, got := observe(e, 0, events...)
	return (got[len(got)-1].Traits &^ networkTraits).String()
}

// networkTraits are tested apart: nearly every first event has them.
const networkTraits = event.TraitFreshNetwork | event.TraitYoungNetwork

func TestNetworkTraits(t *testing.T) {
	t.Parallel()
	from := func(ts float64, source string) ev { return minted(at(ts), "h1", "k1").from(source) }
	opened := func(ts float64, source string) ev { return openedSession(at(ts), "t", source) }
	for _, tc := range []struct {
		name   string
		events []ev
		want   string
	}{
		{"the very first", []ev{from(0, "192.0.2.1")}, "fresh_network"},
		{"the second there", []ev{from(0, "192.0.2.1"), from(1, "192.0.2.99")}, ""},
		{"in the first minutes all are known", []ev{from(0, "192.0.2.1"), from(500, "198.51.100.1"), from(501, "198.51.100.1")}, ""},
		{"a new one later", []ev{from(0, "192.0.2.1"), from(700, "198.51.100.1")}, "fresh_network young_network"},
		{"its second", []ev{from(0, "192.0.2.1"), from(700, "198.51.100.1"), from(710, "198.51.100.7")}, "young_network"},
		{"an hour later", []ev{from(0, "192.0.2.1"), from(700, "198.51.100.1"), from(4200, "198.51.100.7"), from(4301, "198.51.100.7")}, "fresh_network"},
		{"then again", []ev{from(0, "192.0.2.1"), from(700, "198.51.100.1"), from(4301, "198.51.100.7"), from(4302, "198.51.100.7")}, ""},
		{"a session is no mint", []ev{from(0, "192.0.2.1"), opened(700, "192.0.2.1")}, "fresh_network young_network"},
		{"a heartbeat neither", []ev{from(0, "192.0.2.1"), heartbeat(at(700), "h1", "k1").from("198.51.100.1")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, got := observe(newEngine(t, nil), 0, tc.events...)
			if s := (got[len(got)-1].Traits & networkTraits).String(); s != tc.want {
				t.Errorf("got %q, want %q", s, tc.want)
			}
		})
	}
	m := newPlaceMemory()
	e := event.Event{Type: event.TypeSessionCreated}
	for i := range 3 * maxPlaces {
		e.SourceNet = fmt.Sprint(i)
		m.saw(&e)
	}
	if n := len(m.young) + len(m.old); n > 2*maxPlaces {
		t.Errorf("%d networks are kept, want at most %d", n, 2*maxPlaces)
	}
}

// walk is n mints of one caller for users that follow each other by step.
func walk(n, step int) []ev {
	var out []ev
	for i := range n {
		out = append(out, minted(at(float64(i)), "h1", "k1").with("user_id", fmt.Sprintf("user-%05d", 1000+i*step)))
	}
	return out
}

func TestTraits(t *testing.T) {
	t.Parallel()
	created := lifecycle(event.TypeServerKeyCreated, at(-9000), "k1")
	active := lifecycle(event.TypeServerKeyActivated, at(-9000), "k1")
	second := lifecycle(event.TypeServerKeyActivated, at(-10), "k2")
	revoked := lifecycle(event.TypeServerKeyRevoked, at(-5), "k1")
	mint, month := minted(at(0), "h1", "k1"), float64(30*24*3600)
	cert := func(typ event.Type, id string) ev {
		return lifecycle(typ, at(0), "").with("cert_id", id, "cert_cn", "mint.example.com")
	}
	on := event.TypeCertificateActivated
	known := mintOfToken(at(-1000), "t0", 0) // since when mints are known
	phone := mintOfToken(at(0), "t1", at(600))
	for _, tc := range []struct {
		name   string
		config func(*Config)
		events []ev
		want   string
	}{
		{"a known key", nil, []ev{created, active, mint}, ""},
		{"no registry", nil, []ev{mint}, ""},
		{"an unknown key", nil, []ev{created, active, minted(at(0), "h1", "k9")}, "unknown_key"},
		{"a key without a fingerprint", nil, []ev{created, {typ: event.TypeRequestUnauthorized, ts: at(0), status: 401}}, ""},
		{"an unknown key that is refused", nil, []ev{created, active, refused(at(0), "h1", "k9", "10.0.0.1")}, "unknown_key"},
		{"a retired key", nil, []ev{created, active, second, mint}, "retired_key"},
		{"a revoked key", nil, []ev{created, active, second, revoked, mint}, "revoked_key"},
		{"a key that slept", nil, []ev{created, active, mint, minted(at(month), "h1", "k1")}, "dormant_key"},
		{"the next use of it", nil, []ev{created, active, mint, minted(at(month), "h1", "k1"), minted(at(month+1), "h1", "k1")}, ""},
		{"one that slept a little less", nil, []ev{created, active, mint, minted(at(month-1), "h1", "k1")}, ""},
		{"one that nobody could have seen", nil, []ev{lifecycle(event.TypeServerKeyCreated, at(-month), "k1"), mint}, ""},
		{"a refused use wakes nothing", nil, []ev{created, active, mint, refused(at(month), "h1", "k1", "10.0.0.1"), minted(at(month), "h1", "k1")}, "dormant_key"},
		{"inside of egress", egress, []ev{mint}, ""},
		{"outside of egress", egress, []ev{mint.from("198.51.100.7")}, "outside_egress"},
		{"egress as IPv6 writes it", egress, []ev{mint.from("::ffff:10.0.0.9")}, ""},
		{"an egress that nobody declared", nil, []ev{mint.from("198.51.100.7")}, ""},
		{"somebody else", nil, append(settled(), minted(at(0), "h1", "k2").from("198.51.100.7")), "not_in_inventory"},
		{"a host of ours", nil, append(settled(), minted(at(0), "h1", "k2")), ""},
		{"before there is an inventory", nil, []ev{minted(at(0), "h9", "k2")}, ""},
		{"a name that is expected", cns, []ev{mint.with("cert_cn", "MINT.example.com")}, ""},
		{"one label for the star", cns, []ev{mint.with("cert_cn", "a.svc.example.com")}, ""},
		{"not two", cns, []ev{mint.with("cert_cn", "a.b.svc.example.com")}, "unexpected_cn"},
		{"a strange name", cns, []ev{mint.with("cert_cn", "evil.example.org")}, "unexpected_cn"},
		{"a second key", nil, []ev{created, active, second}, "second_key"},
		{"a key after the other was revoked", nil, []ev{created, active, revoked, second}, ""},
		{"the first key", nil, []ev{created, active}, ""},
		{"a third certificate", nil, []ev{cert(on, "a"), cert(on, "b"), cert(on, "c")}, "third_certificate"},
		{"a second certificate", nil, []ev{cert(on, "a"), cert(on, "b"), cert(on, "b")}, ""},
		{"a certificate for a disabled one", nil, []ev{cert(on, "a"), cert(on, "b"), cert(event.TypeCertificateDisabled, "a"), cert(on, "c")}, ""},
		{"Monday morning is a time for changes", changes, []ev{lifecycle(event.TypeServerKeyCreated, at(0), "k1")}, ""},
		{"a service mints in its hours", sleeps, []ev{minted(at(0), "h1", "k1").with("service", "nightly")}, ""},
		{"and at another time", sleeps, []ev{minted(at(5*3600), "h1", "k1").with("service", "nightly")}, "off_schedule"},
		{"one without a schedule mints always", sleeps, []ev{minted(at(5*3600), "h1", "k1").with("service", "chat")}, ""},
		{"the evening is not", changes, []ev{lifecycle(event.TypeServerKeyCreated, at(10*3600), "k1")}, "outside_change_window"},
		{"our own run may", changes, []ev{{typ: event.TypeServerKeyCreated, ts: at(10 * 3600), origin: event.OriginKeysentry, fields: fields("key_id", "k1")}}, ""},
		{"a good session", nil, []ev{known, phone, openedSession(at(1), "t1", "100.64.0.1")}, ""},
		{"one nobody minted", nil, []ev{known, phone, openedSession(at(1), "t2", "100.64.0.1")}, "no_mint_seen"},
		{"too soon to know", nil, []ev{phone, openedSession(at(1), "t2", "100.64.0.1")}, ""},
		{"a session without a token", nil, []ev{known, phone, openedSession(at(1), "", "100.64.0.1")}, ""},
		{"mints that stopped", nil, []ev{known, phone, openedSession(at(5000), "t2", "100.64.0.1")}, ""},
		{"a mint that comes late", nil, []ev{known, phone, openedSession(at(1), "t2", "100.64.0.1"), mintOfToken(at(0.5), "t2", 0)}, "mint_after_session"},
		{"a session that comes late", nil, []ev{known, phone, openedSession(at(700), "t1", "100.64.0.1")}, "late_redemption"},
		{"within the leeway", nil, []ev{known, phone, openedSession(at(659), "t1", "100.64.0.1")}, ""},
		{"from home", nil, []ev{clientMint("100.64.0.9"), openedSession(at(1), "t1", "100.64.0.1")}, ""},
		{"far away", nil, []ev{clientMint("203.0.113.9"), openedSession(at(1), "t1", "100.64.0.1")}, "far_from_mint"},
		{"whoever mints redeems", egress, []ev{known, mintOfToken(at(0), "t1", 0).from("198.51.100.7"), openedSession(at(1), "t1", "198.51.100.9")}, "minted_here"},
		{"a phone redeems", egress, []ev{known, mintOfToken(at(0), "t1", 0).from("198.51.100.7"), openedSession(at(1), "t1", "100.64.0.1")}, ""},
		{"our own test client redeems", egress, []ev{known, phone, openedSession(at(1), "t1", "10.0.0.77")}, ""},
		{"a copy on another device", nil, []ev{phone, openedSession(at(1), "t1", "100.64.0.1", "device_id", "d1"), openedSession(at(2), "t1", "100.64.0.1", "device_id", "d2")}, "other_device"},
		{"the same device again", nil, []ev{phone, openedSession(at(1), "t1", "100.64.0.1", "device_id", "d1"), openedSession(at(2), "t1", "100.99.0.1", "device_id", "d1")}, ""},
		{"two networks at once", nil, []ev{phone, openedSession(at(1), "t1", "100.64.0.1"), openedSession(at(2), "t1", "203.0.113.1")}, "network_jump"},
		{"a train ride", nil, []ev{phone, openedSession(at(1), "t1", "100.64.0.1"), openedSession(at(60), "t1", "203.0.113.1")}, ""},
		{"two observers", nil, []ev{phone, openedSession(at(1), "t1", "100.64.0.1"), {typ: event.TypeSessionCreated, ts: at(2), origin: event.OriginClient, source: "10.0.0.1", fields: fields("user_id", "u", "token_id", "t1")}}, ""},
		{"twenty in a row", nil, walk(20, 1), "user_sequence"},
		{"with gaps", nil, walk(20, maxStride), "user_sequence"},
		{"nineteen", nil, walk(19, 1), ""},
		{"too wide", nil, walk(40, maxStride+1), ""},
		{"backwards", nil, walk(40, -1), ""},
		{"the same user", nil, walk(40, 0), ""},
		{"a nightly job", func(c *Config) { c.ScheduledServices = []string{"chat"} }, walk(40, 1), ""},
		{"another name between", nil, append(walk(19, 1), minted(at(20), "h1", "k1").with("user_id", "admin"), minted(at(21), "h1", "k1").with("user_id", "x1")), ""},
		{"a clock that is off", nil, []ev{clockBeat(120, 1)}, "clock_off"},
		{"or behind", nil, []ev{clockBeat(-120, 1)}, "clock_off"},
		{"or perhaps not", nil, []ev{clockBeat(120, 70)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := lastTraits(newEngine(t, tc.config), tc.events...); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func egress(c *Config) { c.DeclaredEgress = []string{"10.0.0.0/24"} }
func cns(c *Config)    { c.ExpectedCNs = []string{"mint.example.com", "*.svc.example.com"} }
// sleeps declares a service that mints for four hours from the first moment of the
// tests on.
func sleeps(c *Config) {
	c.Schedules = map[string][]string{"nightly": {"daily 09:00-13:00"}}
}

func changes(c *Config) {
	c.ChangeWindows = []string{"mon-fri 08:00-18:00"}
}

func clientMint(client string) ev {
	v := mintOfToken(at(0), "t1", 0)
	v.client = client
	return v
}

func clockBeat(offset, margin float64) ev {
	v := heartbeat(at(0), "h1", "k1")
	v.offset, v.margin = offset, margin
	return v
}

func TestClockOffByEstimate(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	e.clocks = clocks{"h1": -90 * time.Second, "h2": 62 * time.Second}
	for host, want := range map[string]string{"h1": "clock_off", "h2": "", "h3": ""} {
		if got := lastTraits(e, heartbeat(at(0), host, "k1")); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}

// TestTokensAreForgotten: at its bound the memory says nothing about what it may
// have forgotten.
func TestTokensAreForgotten(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(c *Config) { c.MaxTokens = 1000 })
	var events []ev
	for i := range 5000 {
		events = append(events, mintOfToken(at(float64(i)/10), fmt.Sprint("t", i), 0))
	}
	if got := lastTraits(e, append(events, openedSession(at(500), "t10", "100.64.0.1"))...); got != "" {
		t.Errorf("a token of a time that was forgotten: %q", got)
	}
	if n := len(e.tokens.young) + len(e.tokens.old); n > 1000 {
		t.Errorf("%d tokens are kept, want at most 1000", n)
	}
	big, known := newEngine(t, nil), mintOfToken(at(-1000), "first", 0)
	if got := lastTraits(big, append(append([]ev{known}, events...), openedSession(at(700), "t9999", "100.64.0.1"))...); got != "no_mint_seen" {
		t.Errorf("with room: %q", got)
	}
}

// TestTraitsOfReplays: what is read again gets its traits without changing what is
// known, and a restart from a snapshot goes on where it was.
func TestTraitsOfReplays(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	month := float64(30 * 24 * 3600)
	observe(e, 0, append(settled(), minted(at(0), "h1", "k2"))...)
	late := batch(0, minted(at(month), "h1", "k2"))
	for range 2 {
		e.Diagnose(late)
		if got, want := late[0].Traits, event.TraitDormantKey; !got.Has(want) || late[0].SourceNet != "10.0.0.0/24" || late[0].Rediagnosed {
			t.Errorf("got %v in %s, rediagnosed %v", got, late[0].SourceNet, late[0].Rediagnosed)
		}
	}
	next := newEngine(t, nil)
	next.LoadSnapshot(e.Snapshot())
	if _, got := observe(next, 0, minted(at(month), "h1", "k2")); !got[0].Traits.Has(event.TraitDormantKey) {
		t.Errorf("after a restart: %v", got[0].Traits)
	}
}

// TestMintKeyIsTheSubject: who mints and redeems with a key gives evidence about
// that key, not about the live one.
func TestMintKeyIsTheSubject(t *testing.T) {
	t.Parallel()
	e := newEngine(t, egress)
	stolen := mintOfToken(at(1), "t1", 0).from("198.51.100.7")
	fs, _ := observe(e, 0, append(settled(), stolen, openedSession(at(2), "t1", "198.51.100.9"))...)
	for _, f := range append(fs, drain(e, 100, 3)...) {
		if f.RuleName == "minted_here" {
			if f.Subject.Field != "key_id" || f.Subject.Value != "k1" {
				t.Errorf("subject %+v", f.Subject)
			}
			return
		}
	}
	t.Error("nothing fired")
}

func TestProbesHaveNoTraits(t *testing.T) {
	t.Parallel()
	e := newEngine(t, egress)
	e.ApplyProbe(journal.Probe{RequestID: "r1", Until: at(30)})
	v := minted(at(0), "h1", "k1").from("198.51.100.7").with("request_id", "r1")
	if got := lastTraits(e, v); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestSourceNet(t *testing.T) {
	t.Parallel()
	table, err := networks.Parse("t", strings.NewReader("198.51.100.0/25,64500\n"))
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, nil)
	e.places = networks.NewNamer(table)
	_, got := observe(e, 0, minted(at(0), "h1", "k1").from("198.51.100.7"), minted(at(0), "h1", "k1").from("198.51.100.200"), heartbeat(at(0), "h1", "k1"))
	for i, want := range []string{"AS64500", "198.51.100.0/24", ""} {
		if got[i].SourceNet != want {
			t.Errorf("%d: got %q, want %q", i, got[i].SourceNet, want)
		}
	}
	again := batch(0, minted(at(0), "h1", "k1").from("198.51.100.7"))
	e.Derive(again)
	if again[0].SourceNet != "AS64500" {
		t.Errorf("read again: %q", again[0].SourceNet)
	}
}

func TestChangeWindows(t *testing.T) {
	t.Parallel()
	for text, hours := range map[string]map[string]bool{ // from Monday 2026-11-23 on
		"mon-fri 08:00-18:00":   {"2026-11-23T08:00:00Z": true, "2026-11-23T17:59:59Z": true, "2026-11-23T18:00:00Z": false, "2026-11-28T09:00:00Z": false},
		"Sat,SUN 10:00-12:00":   {"2026-11-28T10:30:00Z": true, "2026-11-29T10:30:00Z": true, "2026-11-30T10:30:00Z": false},
		"fri-mon 00:00-24:00":   {"2026-11-27T00:00:00Z": true, "2026-11-30T23:59:00Z": true, "2026-11-26T23:59:00Z": false},
		"daily 22:00-02:00":     {"2026-11-23T23:00:00Z": true, "2026-11-24T01:59:00Z": true, "2026-11-24T02:00:00Z": false},
		"mon 22:00-02:00":       {"2026-11-24T01:00:00Z": true, "2026-11-23T01:00:00Z": false},
		"  tue   09:00 - 10:00": nil, "mon": nil, "monday 08:00-18:00": nil, "mon 8-18": nil, "mon 08:00-08:00": nil, "mon 24:00-08:00": nil, "": nil, "mon 08:00-25:00": nil, "mon- 08:00-09:00": nil,
	} {
		w, err := parseChangeWindow(text)
		if (err == nil) != (hours != nil) {
			t.Errorf("%q: %v", text, err)
		}
		for clock, want := range hours {
			u, err := time.Parse(time.RFC3339, clock)
			if err != nil {
				t.Fatal(err)
			}
			if got := (changeWindows{w}).open(event.At(u)); got != want {
				t.Errorf("%q at %s: got %v, want %v", text, clock, got, want)
			}
		}
	}
}

func BenchmarkTraits(b *testing.B) {
	e := newEngine(b, egress)
	observe(e, 0, settled()...)
	mint := batch(0, mintOfToken(at(0), "t1", at(600)))[0]
	redeem := batch(0, openedSession(at(1), "t1", "100.64.0.1", "device_id", "d1"))[0]
	for _, c := range []struct {
		name string
		ev   event.Event
	}{{"mint", mint}, {"session", redeem}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.derive(&c.ev)
				c.ev.Traits = e.judgeTraits(&c.ev)
				e.learn(&c.ev, false)
			}
		})
	}
}
