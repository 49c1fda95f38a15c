package detect

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
)

func TestSnapshotCarriesTheRegistriesOverARestart(t *testing.T) {
	t.Parallel()
	first := newEngine(t, nil)
	observe(first, 0, settled()...)
	observe(first, 50, ev{typ: event.TypeCertificateIssued, ts: at(0), fields: fields("cert_id", "c", "cert_cn", "chat"), after: at(1e6)},
		ev{typ: event.TypeSecureModeDisabled, ts: at(0), fields: fields()})
	raw, err := json.Marshal(first.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var s Snapshot
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	second := newEngine(t, nil)
	second.LoadSnapshot(s)
	if diff := cmp.Diff(first.Snapshot(), second.Snapshot(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	_, got := observe(second, 100, refused(at(1), "h1", "k1", "10.0.0.1"), refused(at(2), "", "k1", "198.51.100.7"))
	if got[0].Cause != event.CauseRetiredKeyStraggler || got[1].Cause != event.CauseRetiredKeyForeign || got[0].CauseConfidence < 0.9 {
		t.Errorf("got %s (%.2f) and %s", got[0].Cause, got[0].CauseConfidence, got[1].Cause)
	}
	second.LoadKeys([]Key{{Network: "n1", KeyID: "k1", State: KeyActive}, {Network: "n1", KeyID: "k7", State: KeyRevoked}, {Network: "n1", KeyID: "k8", State: "odd"}})
	if ks := second.Keys("n1"); len(ks) != 3 || second.keys.get("n1", "k1").State != KeyRevoked {
		t.Errorf("%+v", ks)
	}
}

func TestRegistriesWantWhatTheSnapshotLacks(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	day := e.cfg.InventoryAge + e.cfg.HeartbeatTimeout
	if got := e.RegistrySince(at(0)); got != at(0).Add(-max(day, e.cfg.TokenLife+e.cfg.TokenLeeway)) {
		t.Errorf("without a snapshot since %v", got)
	}
	if got := e.Snapshot().At; got != 0 {
		t.Errorf("a snapshot of nothing is of %v", got)
	}
	observe(e, 0, minted(at(100), "h1", "k1"))
	s := e.Snapshot()
	if s.At != at(100).Add(-e.cfg.Lateness) {
		t.Errorf("the snapshot is of %v", s.At)
	}
	next := newEngine(t, nil)
	next.LoadSnapshot(s)
	life := e.cfg.TokenLife + e.cfg.TokenLeeway // no snapshot holds tokens
	for _, tc := range []struct{ end, want event.Instant }{
		{at(200), at(200).Add(-life)},
		{at(50), at(50).Add(-life)}, // of a partition that is behind
		{s.At.Add(life), s.At},
		{at(1e6), at(1e6).Add(-max(day, life))},
	} {
		if got := next.RegistrySince(tc.end); got != tc.want {
			t.Errorf("for an end of %v since %v, want %v", tc.end, got, tc.want)
		}
	}
	if got := next.Snapshot().At; got != s.At {
		t.Errorf("before any event the next snapshot is of %v", got)
	}
}

func TestInventoryIsBoundedAndForgets(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(c *Config) { c.MaxHosts = 10 })
	for i := range 50 {
		observe(e, int64(i), minted(at(float64(i)), "pod-"+string(rune('A'+i)), "k1"))
	}
	if n := len(e.hosts.hosts); n != 10 || e.hosts.evicted != 40 {
		t.Errorf("%d hosts, %d evicted", n, e.hosts.evicted)
	}
	observe(e, 100, minted(at(49).Add(forgetAfter+time.Hour), "late", "k1"))
	if n := len(e.hosts.hosts); n != 1 {
		t.Errorf("%d hosts a day later", n)
	}
}

func TestDeclaredServicesAndEgressNarrowTheInventory(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(c *Config) {
		c.DeclaredServices, c.DeclaredEgress = []string{"chat"}, []string{"10.0.0.0/24"}
	})
	odd := minted(at(0), "h2", "k1")
	odd.fields[event.FieldService] = "mail"
	away := minted(at(0), "h3", "k1")
	away.source = "198.51.100.7"
	observe(e, 0, minted(at(0), "h1", "k1"), odd, away)
	if us := e.KeyUse("n1", at(1)); len(us) != 1 || us[0].Host != "h1" {
		t.Errorf("hosts: %+v", us)
	}
	if fs := e.ForeignUse("n1"); len(fs) != 2 || fs[0].Succeeded != 1 {
		t.Errorf("foreign: %+v", fs)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if errs := DefaultConfig().Validate(); len(errs) != 0 {
		t.Error(errs)
	}
	bad := Config{Lateness: 2 * time.Hour, DeclaredEgress: []string{"here"}, InventoryAge: -1,
		Schedules: map[string][]string{"a": nil, "b": {"daily 02:00-04:00", "at night"}}}
	var got []string
	for _, err := range bad.Validate() {
		got = append(got, err.Error()[:8])
	}
	want := []string{"idle_aft", "inventor", "heartbea", "token_li", "dormant_", "session_", "lateness", "max_host", "max_toke", "sequence", "schedule", "schedule", "max_mint", "max_sess", "evidence", "declared", "windows.", "windows.", "windows."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
