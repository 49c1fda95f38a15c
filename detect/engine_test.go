package detect

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/rules/library"
)

var (
	part0 = event.Partition{Topic: "auth", ID: 0}
	part1 = event.Partition{Topic: "auth", ID: 1}
	start = event.At(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
)

// at is s seconds after the start of the test's story.
func at(s float64) event.Instant { return start.Add(time.Duration(s * float64(time.Second))) }

// ev builds an event of the story.
type ev struct {
	typ     event.Type
	ts      event.Instant
	origin  event.Origin
	fields  map[event.Field]string
	status  uint16
	source  string
	expires event.Instant
	issued  event.Instant
	before  event.Instant
	after   event.Instant
	ahead   time.Duration // of the clock of who speaks
	client  string
	offset  float64 // of a heartbeat
	margin  float64
	mode    event.AuthMode
}

func (v ev) event(off int64) event.Event {
	e := event.Event{Type: v.typ, TS: v.ts, Time: v.ts.Add(v.ahead), ObservedAt: v.ts, Origin: v.origin, Status: v.status,
		Ref: event.Ref{Topic: part0.Topic, Offset: off}}
	e.Present = e.Present.Set(event.FieldType).Set(event.FieldTime)
	e.SetString(event.FieldNetwork, "n1")
	for f, s := range v.fields {
		e.SetString(f, s)
	}
	if v.status != 0 {
		e.Present = e.Present.Set(event.FieldStatus)
	}
	if v.mode != event.ModeNone {
		e.Mode = v.mode
		e.Present = e.Present.Set(event.FieldAuthMode)
	}
	if v.source != "" {
		e.SourceIP = netip.MustParseAddr(v.source)
		e.Present = e.Present.Set(event.FieldSourceIP)
	}
	if v.client != "" {
		e.ClientIP = netip.MustParseAddr(v.client)
		e.Present = e.Present.Set(event.FieldClientIP)
	}
	if v.offset != 0 {
		e.ClockOffset, e.ClockError = v.offset, v.margin
		e.Present = e.Present.Set(event.FieldClockOffset).Set(event.FieldClockError)
	}
	for f, t := range map[event.Field]event.Instant{event.FieldExpiresAt: v.expires, event.FieldIssuedAt: v.issued,
		event.FieldCertNotBefore: v.before, event.FieldCertNotAfter: v.after} {
		if t != 0 {
			e.SetInstant(f, t)
		}
	}
	return e
}

func fields(kv ...string) map[event.Field]string {
	m := map[event.Field]string{}
	for i := 0; i < len(kv); i += 2 {
		f, ok := event.ParseField(kv[i])
		if !ok {
			panic(kv[i])
		}
		m[f] = kv[i+1]
	}
	return m
}

const mintPath = "/api/v4/authentication/token"

func minted(ts event.Instant, host, key string) ev {
	return ev{typ: event.TypeAuthTokenIssued, ts: ts, origin: event.OriginBackend, status: 200, source: "10.0.0.1",
		fields: fields("host", host, "service", "chat", "key_id", key, "user_id", "u", "endpoint", mintPath, "region", "eu")}
}

func refused(ts event.Instant, host, key, source string) ev {
	origin := event.OriginBackend
	if host == "" {
		origin = event.OriginGateway
	}
	v := ev{typ: event.TypeAuthTokenDenied, ts: ts, origin: origin, status: 401, source: source,
		fields: fields("key_id", key, "user_id", "u", "endpoint", mintPath)}
	if host != "" {
		v.fields[event.FieldHost] = host
	}
	return v
}

func lifecycle(typ event.Type, ts event.Instant, key string) ev {
	return ev{typ: typ, ts: ts, origin: event.OriginConsole, fields: fields("key_id", key)}
}

func heartbeat(ts event.Instant, host, key string) ev {
	return ev{typ: event.TypeHeartbeat, ts: ts, origin: event.OriginBackend, fields: fields("host", host, "service", "chat", "key_id", key)}
}

type clocks map[string]time.Duration

func (c clocks) Offset(_, host string) (time.Duration, time.Duration, bool) {
	d, ok := c[host]
	return d, 4 * time.Second, ok
}

func shipped(t testing.TB) *rules.Set {
	t.Helper()
	set, diags := rules.Load(library.Files(), rules.Options{Layout: rules.LayoutEvent})
	for _, d := range diags {
		if d.Severity == rules.Error {
			t.Fatal(d)
		}
	}
	return set
}

func newEngine(t testing.TB, change func(*Config)) *Engine {
	t.Helper()
	cfg := DefaultConfig()
	cfg.InventoryAge = 10 * time.Second
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg, Deps{Rules: shipped(t), Clocks: clocks{"fast": 312 * time.Second, "slow": -312 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	e.Assign([]event.Partition{part0})
	return e
}

// observe judges one event after the other, as one batch each.
func observe(e *Engine, off int64, vs ...ev) (fs []finding.Finding, out []event.Event) {
	for i, v := range vs {
		b := []event.Event{v.event(off + int64(i))}
		fs = append(fs, e.Observe(part0, b)...)
		out = append(out, b...)
	}
	return fs, out
}

// settled is a network with a revoked key k1, an active key k2, and a host h1
// that is in the inventory.
func settled() []ev {
	return []ev{
		lifecycle(event.TypeServerKeyCreated, at(-9000), "k1"), lifecycle(event.TypeServerKeyActivated, at(-9000), "k1"),
		minted(at(-60), "h1", "k1"), minted(at(-30), "h1", "k1"),
		lifecycle(event.TypeServerKeyCreated, at(-20), "k2"), lifecycle(event.TypeServerKeyActivated, at(-20), "k2"),
		minted(at(-10), "h1", "k2"), heartbeat(at(-5), "h1", "k2"),
		lifecycle(event.TypeServerKeyRevoked, at(-1), "k1"),
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	session := func(status uint16, kv ...string) ev {
		return ev{typ: event.TypeSessionDenied, ts: at(1), origin: event.OriginGateway, status: status,
			fields: fields(append([]string{"endpoint", "/api/v4/sessions", "user_id", "u"}, kv...)...)}
	}
	request := func(status uint16, kv ...string) ev {
		return ev{typ: event.TypeRequestUnauthorized, ts: at(1), origin: event.OriginGateway, status: status,
			fields: fields(append([]string{"endpoint", "/api/v3/posts"}, kv...)...)}
	}
	tls := func(alert string, kv ...string) ev {
		v := ev{typ: event.TypeMTLSHandshakeFailed, ts: at(1), origin: event.OriginGateway, fields: fields(kv...)}
		if alert != "" {
			v.fields[event.FieldTLSAlert] = alert
		}
		return v
	}
	with := func(v ev, change func(*ev)) ev { change(&v); return v }
	status := func(v ev, s uint16) ev { v.status = s; return v }
	for _, tc := range []struct {
		name   string
		before []ev
		v      ev
		want   event.Cause
		sure   bool // confidence of at least 0.9
	}{
		{"a key nobody knows", nil, refused(at(1), "h1", "k9", "10.0.0.1"), event.CauseUnknownKey, true},
		{"a revoked key on a host of ours", nil, refused(at(1), "h1", "k1", "10.0.0.1"), event.CauseRetiredKeyStraggler, true},
		{"a revoked key on our host, seen by a gateway", nil, refused(at(1), "", "k1", "10.0.0.1"), event.CauseRetiredKeyStraggler, true},
		{"a revoked key from elsewhere", nil, refused(at(1), "", "k1", "198.51.100.7"), event.CauseRetiredKeyForeign, true},
		{"a revoked key under our host's name from elsewhere", nil, refused(at(1), "h1", "k1", "198.51.100.7"), event.CauseRetiredKeyForeign, true},
		{"a revoked key on a host that was stopped", []ev{{typ: event.TypeHostStopped, ts: at(0), origin: event.OriginBackend, fields: fields("host", "h1")}},
			refused(at(1), "h1", "k1", "10.0.0.1"), event.CauseRetiredKeyForeign, false},
		{"a key that worked and that nobody retired", []ev{minted(at(0), "h1", "k0")}, refused(at(1), "h1", "k0", "10.0.0.1"), event.CauseRetiredKeyStraggler, false},
		{"the active key is refused", nil, refused(at(1), "h1", "k2", "10.0.0.1"), event.CauseUnknown, false},
		{"the active key in another region", nil, with(refused(at(1), "h1", "k2", "10.0.0.1"), func(v *ev) { v.fields[event.FieldRegion] = "us" }), event.CauseWrongRegion, false},
		{"no key at all", nil, with(refused(at(1), "h1", "k2", "10.0.0.1"), func(v *ev) { delete(v.fields, event.FieldKeyID) }), event.CauseUnknownKey, false},
		{"403 at the mint", nil, status(refused(at(1), "h1", "k2", "10.0.0.1"), 403), event.CauseSecureModeOff, false},
		{"403 at the mint, secure mode known to be off", []ev{{typ: event.TypeSecureModeDisabled, ts: at(0), origin: event.OriginConsole, fields: fields()}},
			status(refused(at(1), "h1", "k2", "10.0.0.1"), 403), event.CauseSecureModeOff, true},
		{"403 at the mint with a revoked key", nil, status(refused(at(1), "h1", "k1", "10.0.0.1"), 403), event.CauseRetiredKeyStraggler, true},
		{"400 at the mint", nil, status(refused(at(1), "h1", "k2", "10.0.0.1"), 400), event.CauseBadRequest, false},
		{"429", nil, status(refused(at(1), "h1", "k1", "10.0.0.1"), 429), event.CauseRateLimited, true},
		{"503", nil, status(refused(at(1), "h1", "k1", "10.0.0.1"), 503), event.CausePlatformError, true},

		{"401 at sessions", nil, session(401, "token_id", "t"), event.CauseUserBanned, false},
		{"the code says banned", nil, session(401, "code", "user_banned"), event.CauseUserBanned, true},
		{"a log without status or endpoint", nil, ev{typ: event.TypeSessionDenied, ts: at(1), fields: fields("reason", "Failed password for root")}, event.CauseUnknown, false},
		{"no auth token", nil, session(403, "code", "missing_auth_token"), event.CauseMissingAuthToken, true},
		{"a bad auth token", nil, session(403, "token_id", "t"), event.CauseInvalidToken, false},
		{"an expired auth token", nil, session(403, "code", "auth_token_expired", "host", "h1"), event.CauseExpiredAuthToken, true},
		{"expired by its dates", nil, with(session(401), func(v *ev) { v.expires = at(0) }), event.CauseExpiredAuthToken, true},
		{"expired because its host is slow", []ev{minted(at(0), "slow", "k2")}, session(403, "code", "auth_token_expired", "host", "slow"), event.CauseClockSkew, true},
		{"expired although its host is fast", []ev{minted(at(0), "fast", "k2")}, session(403, "code", "auth_token_expired", "host", "fast"), event.CauseExpiredAuthToken, true},
		{"not yet valid because its host is fast", []ev{minted(at(0), "fast", "k2")}, session(403, "code", "auth_token_not_yet_valid", "host", "fast"), event.CauseClockSkew, true},
		{"not yet valid, host unknown", nil, session(403, "code", "auth_token_not_yet_valid"), event.CauseInvalidToken, false},
		{"not yet valid, and its host's last mint proves a fast clock", []ev{with(minted(at(0), "h1", "k2"), func(v *ev) { v.ahead = 2 * time.Minute })},
			session(403, "code", "auth_token_not_yet_valid", "host", "h1"), event.CauseClockSkew, true},
		{"not yet valid, but its host's clock was put right", []ev{with(minted(at(0), "h1", "k2"), func(v *ev) { v.ahead = 2 * time.Minute }), minted(at(0.5), "h1", "k2")},
			session(403, "code", "auth_token_not_yet_valid", "host", "h1"), event.CauseInvalidToken, false},
		{"not yet valid, and another host is fast", []ev{with(minted(at(0), "h2", "k2"), func(v *ev) { v.ahead = 2 * time.Minute })},
			session(403, "code", "auth_token_not_yet_valid", "host", "h1"), event.CauseInvalidToken, false},
		{"issued ahead by its dates", []ev{minted(at(0), "fast", "k2")}, with(session(403, "host", "fast"), func(v *ev) { v.issued = at(300) }), event.CauseClockSkew, true},

		{"an ended session", nil, with(request(401, "session_id", "s"), func(v *ev) { v.expires = at(0) }), event.CauseSessionExpired, true},
		{"a session that was revoked", []ev{{typ: event.TypeSessionRevoked, ts: at(0), fields: fields("session_id", "s")}}, request(401, "session_id", "s"), event.CauseSessionRevoked, true},
		{"a user whose sessions were revoked", []ev{{typ: event.TypeSessionRevoked, ts: at(0), fields: fields("user_id", "u")}}, request(401, "session_id", "s", "user_id", "u"), event.CauseSessionRevoked, true},
		{"and who came back", []ev{{typ: event.TypeSessionRevoked, ts: at(0), fields: fields("user_id", "u")}, {typ: event.TypeSessionCreated, ts: at(0), fields: fields("user_id", "u")}},
			request(401, "session_id", "s", "user_id", "u"), event.CauseSessionExpired, false},
		{"a device that was taken over", nil, request(401, "code", "session_displaced"), event.CauseSessionDisplaced, true},
		{"a revoked key at another endpoint", nil, request(401, "key_id", "k1"), event.CauseRetiredKeyForeign, true},
		{"nothing to go by", nil, request(401), event.CauseUnknown, false},

		{"no certificate", nil, tls("certificate_required"), event.CauseCertMissing, true},
		{"expired by the alert", nil, tls("certificate expired", "cert_id", "c"), event.CauseCertExpired, true},
		{"expired by the dates", nil, with(tls("bad_certificate", "cert_id", "c"), func(v *ev) { v.after = at(0) }), event.CauseCertExpired, true},
		{"not yet valid", nil, with(tls("bad_certificate", "cert_id", "c"), func(v *ev) { v.before = at(9) }), event.CauseCertNotYetValid, true},
		{"disabled by the registry", []ev{{typ: event.TypeCertificateDisabled, ts: at(0), fields: fields("cert_id", "c")}}, tls("handshake_failure", "cert_id", "c"), event.CauseCertDisabled, true},
		{"another's name", []ev{{typ: event.TypeCertificateIssued, ts: at(0), fields: fields("cert_id", "c", "cert_cn", "chat")}}, tls("", "cert_id", "c", "cert_cn", "mail"), event.CauseCertCNMismatch, true},
		{"an authority nobody trusts", nil, tls("unknown_ca", "cert_id", "c"), event.CauseCertUnknownCA, true},
		{"handshake failure without more", nil, tls("handshake_failure", "cert_id", "c"), event.CauseUnknown, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, nil)
			observe(e, 0, settled()...)
			observe(e, 100, tc.before...)
			_, got := observe(e, 200, tc.v)
			if got[0].Cause != tc.want || got[0].CauseConfidence >= 0.9 != tc.sure {
				t.Errorf("got %s with %.2f, want %s, sure: %v", got[0].Cause, got[0].CauseConfidence, tc.want, tc.sure)
			}
			if resolutions[got[0].Cause] == "" {
				t.Errorf("%s has no resolution", got[0].Cause)
			}
			again := []event.Event{tc.v.event(200)}
			e.Diagnose(again)
			if again[0].Cause != tc.want || !again[0].Rediagnosed {
				t.Errorf("diagnosed again: %s, flagged %v", again[0].Cause, again[0].Rediagnosed)
			}
		})
	}
}

func TestEveryCauseHasAResolution(t *testing.T) {
	t.Parallel()
	for _, c := range event.Causes() {
		if resolutions[c] == "" {
			t.Errorf("%s has none", c)
		}
	}
}

func TestUnknownKeyIsUnsureWhileTheRegistryLearns(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	_, got := observe(e, 0, refused(at(1), "", "k9", "198.51.100.7"))
	if got[0].Cause != event.CauseUnknownKey || got[0].CauseConfidence > 0.5 {
		t.Errorf("got %s with %.2f", got[0].Cause, got[0].CauseConfidence)
	}
}

// rule picks the findings of one rule.
func rule(fs []finding.Finding, name string) (out []finding.Finding) {
	for _, f := range fs {
		if f.RuleName == name {
			out = append(out, f)
		}
	}
	return out
}

func TestRetiredKeyFromElsewherePagesOnce(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	observe(e, 0, settled()...)
	fs, _ := observe(e, 100, refused(at(1), "", "k1", "198.51.100.7"), refused(at(2), "", "k1", "198.51.100.7"))
	got := rule(fs, "retired_key_foreign")
	if len(got) != 1 {
		t.Fatalf("%d findings, want 1: %+v", len(got), fs)
	}
	f := got[0]
	if f.Severity != finding.Page || f.Kind != finding.KeyCompromise || f.Cause != event.CauseRetiredKeyForeign || f.CauseConfidence < 0.9 {
		t.Errorf("%+v", f)
	}
	if want := (finding.Subject{Network: "n1", Field: "key_id", Value: "k1"}); f.Subject != want {
		t.Errorf("about %+v", f.Subject)
	}
	if f.Playbook != "rotate-server-key" || !strings.Contains(f.Resolution, "where the retired key was kept") {
		t.Errorf("playbook %q, resolution %q", f.Playbook, f.Resolution)
	}
	if len(f.Evidence) != 1 || f.Evidence[0].SourceIP != "198.51.100.7" || f.Evidence[0].Ref.Offset != 100 {
		t.Errorf("evidence %+v", f.Evidence)
	}
	facts := map[string]string{}
	for _, p := range f.Facts {
		facts[p.Field] = p.Value
	}
	if facts["key_state"] != "revoked" || facts["key_revoked_at"] == "" {
		t.Errorf("facts %v", f.Facts)
	}
}

func TestOwnProbeIsNoSignalOnce(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	observe(e, 0, settled()...)
	e.ApplyProbe(journal.Probe{RunID: "r", RequestID: "q1", KeyID: "k1", Until: at(60)})
	probe := refused(at(5), "", "k1", "198.51.100.7")
	probe.fields[event.FieldRequestID] = "q1"
	fs, got := observe(e, 100, probe)
	if len(fs) != 0 || got[0].Cause != event.CauseRetiredKeyForeign {
		t.Errorf("the probe made %d findings, cause %s", len(fs), got[0].Cause)
	}
	if fs, _ = observe(e, 101, probe); len(rule(fs, "retired_key_foreign")) != 1 {
		t.Error("a copy of the probe went unnoticed")
	}
	if uses := e.ForeignUse("n1"); len(uses) != 1 || uses[0].Refused != 1 {
		t.Errorf("foreign uses: %+v", uses)
	}
}

func TestProbeOfAnotherKeyOrTooLateIsASignal(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]journal.Probe{
		"another key":  {RequestID: "q1", KeyID: "k2", Until: at(60)},
		"long over":    {RequestID: "q1", KeyID: "k1", Until: at(-60)},
		"not yet":      {RequestID: "q1", KeyID: "k1", Until: at(600)},
		"other number": {RequestID: "q2", KeyID: "k1", Until: at(60)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, nil)
			observe(e, 0, settled()...)
			e.ApplyProbe(p)
			v := refused(at(5), "", "k1", "198.51.100.7")
			v.fields[event.FieldRequestID] = "q1"
			if fs, _ := observe(e, 100, v); len(rule(fs, "retired_key_foreign")) != 1 {
				t.Error("it was taken for our probe")
			}
		})
	}
}

func TestKeyUseProvesCutOver(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(c *Config) { c.ScheduledServices = []string{"nightly"} })
	nightly := minted(at(-80), "batch-1", "k1")
	nightly.fields[event.FieldService] = "nightly"
	later := nightly
	later.ts = at(-60)
	observe(e, 0, nightly, later)
	observe(e, 10, settled()...)
	observe(e, 50, minted(at(0), "young", "k2"))
	want := []KeyUse{
		{Network: "n1", Host: "batch-1", Service: "nightly", KeyID: "k1", First: at(-80), Last: at(-60), Mints: 2, Live: true, Scheduled: true},
		{Network: "n1", Host: "h1", Service: "chat", KeyID: "k1", First: at(-60), Last: at(-30), Mints: 2, HeartbeatKey: "k2", HeartbeatAt: at(-5), Live: true},
		{Network: "n1", Host: "h1", Service: "chat", KeyID: "k2", First: at(-10), Last: at(-10), Mints: 1, HeartbeatKey: "k2", HeartbeatAt: at(-5), Live: true},
		{Network: "n1", Host: "young", Service: "chat", KeyID: "k2", First: at(0), Last: at(0), Mints: 1},
	}
	if diff := cmp.Diff(want, e.KeyUse("n1", at(5))); diff != "" {
		t.Error(diff)
	}
	for _, u := range e.KeyUse("n1", at(3600)) {
		if u.Live != u.Scheduled {
			t.Errorf("an hour without a heartbeat: %+v", u)
		}
	}
	if other := e.KeyUse("n2", at(5)); len(other) != 0 {
		t.Errorf("another network has %+v", other)
	}
}

func TestKeyRegistry(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	observe(e, 0, settled()...)
	want := []Key{
		{Network: "n1", KeyID: "k1", State: KeyRevoked, Created: at(-9000), Activated: at(-9000), Retired: at(-20), Revoked: at(-1), Used: at(-30), Source: "lifecycle"},
		{Network: "n1", KeyID: "k2", State: KeyActive, Created: at(-20), Activated: at(-20), Used: at(-10), Source: "lifecycle"},
	}
	if diff := cmp.Diff(want, e.Keys("n1")); diff != "" {
		t.Error(diff)
	}
	e.ApplyKey(journal.KeyChange{Network: "n1", KeyID: "k1", State: "active", At: at(5)})
	e.ApplyKey(journal.KeyChange{Network: "n1", KeyID: "k2", State: "no such state", At: at(5)})
	if ks := e.Keys(""); ks[0].State != KeyRevoked || ks[1].State != KeyActive {
		t.Errorf("a key came back to life: %+v", ks)
	}
	e.ApplyKey(journal.KeyChange{Network: "n1", KeyID: "k3", State: "active", At: at(6)})
	if ks := e.Keys("n1"); ks[1].KeyID != "k2" && ks[2].KeyID != "k2" || e.keys.get("n1", "k2").State != KeyRetired {
		t.Errorf("a successor retires the key before it: %+v", ks)
	}
}
