package playbook_test

import (
	"context"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/alert/playbook/action/simulated"
	"github.com/keysentry/keysentry/alert/playbook/playbooktest"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

// witness makes evidence of the events that a fleet emits, as detection does.
type witness struct {
	mu    sync.Mutex
	fleet map[string]bool
	use   map[[2]string]*playbook.KeyUse
	beat  map[string]string
	probs []string
	types map[event.Type]int
}

func (w *witness) see(e event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.types[e.Type]++
	if err := e.Validate(); err != nil {
		w.probs = append(w.probs, e.Type.String()+": "+err.Error())
	}
	switch e.Type {
	case event.TypeHeartbeat:
		w.beat[e.Host] = e.KeyID
	case event.TypeAuthTokenIssued, event.TypeAuthTokenDenied:
		k := [2]string{e.Host, e.KeyID}
		u := w.use[k]
		if u == nil {
			u = &playbook.KeyUse{Host: e.Host, KeyID: e.KeyID, First: e.Time, Live: w.fleet[e.Host], Foreign: !w.fleet[e.Host]}
			w.use[k] = u
		}
		u.Last = e.Time
		if e.Type == event.TypeAuthTokenIssued {
			u.Mints++
		}
	}
}

func (w *witness) KeyUse(string, event.Instant) []playbook.KeyUse {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []playbook.KeyUse
	for _, u := range w.use {
		c := *u
		c.HeartbeatKey = w.beat[u.Host]
		out = append(out, c)
	}
	return out
}

func (w *witness) Coverage(string, event.Instant, event.Instant) (float64, bool) { return 1, true }

type reload struct{ fleet *platform.Fleet }

func (r reload) Describe() string { return "tell every host to reload" }

func (r reload) Distribute(context.Context, string, int64) ([]playbook.HostResult, error) {
	var out []playbook.HostResult
	took := strings.Join(r.fleet.Reload(""), " ")
	for _, n := range r.fleet.Names() {
		out = append(out, playbook.HostResult{Host: n, OK: strings.Contains(took, n)})
	}
	return out, nil
}

// TestRotationOfAFleet rotates a simulated network with the encrypted file store,
// proven from the events of its backends, while a thief holds the old key.
func TestRotationOfAFleet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sc := encfile.DefaultConfig()
	sc.Path, sc.IdentityFile = filepath.Join(dir, "secrets.age"), filepath.Join(dir, "id")
	if err := encfile.GenerateIdentity(sc.IdentityFile); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { rotateFleet(t, sc) })
}

func rotateFleet(t *testing.T, sc encfile.Config) {
	fpKey := []byte("key of the network")
	fp := func(v string) string { return event.Fingerprint(fpKey, v) }
	see := &witness{use: map[[2]string]*playbook.KeyUse{}, beat: map[string]string{}, types: map[event.Type]int{},
		fleet: map[string]bool{"api-1": true, "api-2": true, "batch-1": true}}
	pc := platform.DefaultConfig()
	pc.AdminToken = secret.New("admin")
	p, err := platform.New(pc, platform.Deps{Now: time.Now, Emit: see.see, Fingerprint: fp})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: playbooktest.InProcess(p.Handler())}
	store, err := encfile.New(sc)
	if err != nil {
		t.Fatal(err)
	}
	_, old := p.IssueKey("first")
	if _, err := store.Put(t.Context(), "key", old, 0); err != nil {
		t.Fatal(err)
	}
	fd := platform.FleetDeps{URL: "http://platform.test", Client: client, Emit: see.see, Fingerprint: fp, Now: time.Now,
		Keys: func(ctx context.Context) (secret.Value, error) { s, err := store.Get(ctx, "key"); return s.Value, err }}
	fleet, err := platform.NewFleet(platform.FleetConfig{Network: "demo", Users: 50, Poll: 5 * time.Second, Heartbeat: 10 * time.Second, Seed: 1,
		Hosts: []platform.Host{{Name: "api-1", MintsPerSecond: 2, ReloadDelay: 3 * time.Second},
			{Name: "api-2", MintsPerSecond: 2, ReloadDelay: 40 * time.Second}, {Name: "batch-1", MintsPerSecond: 0.5, Straggler: true}}}, fd)
	if err != nil {
		t.Fatal(err)
	}
	thief, err := platform.NewThief(platform.ThiefConfig{Network: "demo", Key: old, From: netip.MustParseAddr("203.0.113.9"), MintsPerSecond: 1, Users: 50}, fd)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = fleet.Run(ctx) })
	wg.Go(func() { _ = thief.Run(ctx) })
	time.Sleep(time.Minute)

	j := &playbooktest.Journal{}
	sp := simulated.DefaultConfig()
	sp.URL = "http://platform.test"
	prov, err := simulated.New(sp, simulated.Deps{AdminToken: pc.AdminToken, Client: client})
	if err != nil {
		t.Fatal(err)
	}
	r, err := playbook.New(testConfig(), playbook.Deps{Journal: j, Library: loadLibrary(t), Evidence: see, Now: time.Now,
		Targets:     map[string]playbook.Target{"demo": {Provider: prov, Store: store, SecretName: "key", Distributor: reload{fleet}, ProbeUser: "probe"}},
		Fingerprint: func(_ string, v secret.Value) string { return fp(v.Reveal()) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Follow(r.Apply); err != nil {
		t.Fatal(err)
	}
	r.Lead(ctx, 1)
	wg.Go(func() { _ = r.Run(ctx) })
	plan, err := r.Plan(ctx, playbook.PlanRequest{Playbook: pbName, Network: "demo", RequestedBy: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(ctx, journal.Entry{Kind: journal.KindDecision, Time: event.At(time.Now()), Body: journal.Decision{ID: "1",
		Action: journal.ActionApprove, RunID: plan.RunID, PlanHash: plan.PlanHash, Person: "bob"}}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Minute)
	v, _ := r.Get(plan.RunID)
	if v.State != playbook.StateOverlap || !strings.Contains(v.Clock, "1 host left: batch-1") {
		t.Errorf("with a straggler the run is %s: %s", v.State, v.Clock)
	}
	before, refusedBefore := thief.Counts()
	fleet.SetStraggler("batch-1", false)
	time.Sleep(5 * time.Minute)
	v, _ = r.Get(plan.RunID)
	minted, refused := thief.Counts()
	cancel()
	wg.Wait()
	if v.State != playbook.StateDone {
		t.Errorf("the run is %s: %s %s", v.State, v.Text, v.Clock)
	}
	if before == 0 || refusedBefore != 0 || refused == 0 || minted < before {
		t.Errorf("the thief got %d tokens and was refused %d times, before %d and %d", minted, refused, before, refusedBefore)
	}
	for _, h := range fleet.Status() {
		if h.Refused > 0 || h.KeyID == fp(old.Reveal()) {
			t.Errorf("host %s was refused %d times and uses %s", h.Host, h.Refused, h.KeyID)
		}
	}
	if len(see.probs) > 0 {
		t.Errorf("faulty events: %q", see.probs[:1])
	}
	for _, typ := range []event.Type{event.TypeServerKeyCreated, event.TypeServerKeyActivated, event.TypeServerKeyRevoked, event.TypeHeartbeat,
		event.TypeHostStarted, event.TypeHostStopped, event.TypeSessionCreated} {
		if see.types[typ] == 0 {
			t.Errorf("no event of type %s", typ)
		}
	}
}
