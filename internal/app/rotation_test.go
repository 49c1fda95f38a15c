package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/alert/slack/slacktest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

const (
	network   = "acme"
	keyName   = "server-key"
	straggler = "batch-1"
	thiefAddr = "203.0.113.66"
)

// estate is a platform with the backends of one customer, whose events reach the
// broker, and the secret store that they take their key from.
type estate struct {
	t        *testing.T
	rig      *rig
	platform *platform.Platform
	fleet    *platform.Fleet
	deps     platform.FleetDeps
	secrets  *encfile.Store
	topics   map[event.Origin]string
	client   *kafka.Client
	ctx      context.Context
	wg       sync.WaitGroup

	mu    sync.Mutex
	mints map[string]time.Time // the last mint of the fleet by key_id
	late  int                  // mints of the straggler
}

func newEstate(t *testing.T, broker string) *estate {
	t.Helper()
	e := &estate{t: t, topics: map[event.Origin]string{}, mints: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(context.Background())
	e.ctx = ctx
	t.Cleanup(func() { cancel(); e.wg.Wait() })
	var topics []ingest.TopicConfig
	for _, o := range []event.Origin{event.OriginBackend, event.OriginGateway, event.OriginConsole} {
		e.topics[o] = sourceTopic(t, broker, 1, devstack.LogAppendTime())
		topics = append(topics, ingest.TopicConfig{Name: e.topics[o], Origin: o, Lifecycle: o == event.OriginConsole})
	}
	e.rig = newRig(t, broker, devstacktest.ClickHouse(t), topics...)
	e.configure()
	kc := kafka.DefaultConfig()
	kc.Brokers = []string{broker}
	var err error
	if e.client, err = kafka.NewClient(kc, kafka.Deps{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.client.Close)
	return e
}

// configure sets times that suit a test.
func (e *estate) configure() {
	r := e.rig
	r.env["ADMIN_TOKEN"], r.env["NETWORK_KEY"] = key16+"admin", key16+"network"
	identity := filepath.Join(r.dir, "identity")
	if err := encfile.GenerateIdentity(identity); err != nil {
		e.t.Fatal(err)
	}
	spec := config.NetworkSpec{FingerprintKey: secret.Ref{Env: "NETWORK_KEY"}, ProbeUser: "keysentry-probe"}
	spec.Provider.Type, spec.Provider.Timeout, spec.Provider.AdminToken = "simulated", 5*time.Second, secret.Ref{Env: "ADMIN_TOKEN"}
	spec.Secret.Type, spec.Secret.Name, spec.Secret.Config = "encfile", keyName, encfile.DefaultConfig()
	spec.Secret.Path, spec.Secret.IdentityFile = filepath.Join(r.dir, "secrets.age"), identity
	r.cfg.Networks = map[string]config.NetworkSpec{network: spec}
	r.cfg.Detect.InventoryAge = 2 * time.Second
	rules := filepath.Join(r.dir, "thief.yml")
	if err := os.WriteFile(rules, []byte(thiefRules), 0o600); err != nil {
		e.t.Fatal(err)
	}
	r.cfg.Rules.Paths = []string{rules}
	p := &r.cfg.Playbook
	p.ProofQuiet, p.ClockEvery, p.EvidenceEvery = 3*time.Second, time.Second, 200*time.Millisecond
	p.NewLeaderWait, p.MaxIntentAge = time.Second, time.Second
}

// open starts the platform with one key, which every host has.
func (e *estate) open() {
	t, spec := e.t, e.rig.cfg.Networks[network]
	fingerprint := func(v string) string { return event.Fingerprint([]byte(e.rig.env["NETWORK_KEY"]), v) }
	pc := platform.DefaultConfig()
	pc.Network, pc.AdminToken = network, secret.New(e.rig.env["ADMIN_TOKEN"])
	var err error
	if e.platform, err = platform.New(pc, platform.Deps{Now: time.Now, Emit: e.emit, Fingerprint: fingerprint}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.run("platform", func(ctx context.Context) error { return e.platform.Serve(ctx, l) })
	spec.Provider.URL = "http://" + l.Addr().String()
	e.rig.cfg.Networks[network] = spec
	if e.secrets, err = encfile.New(spec.Secret.Config); err != nil {
		t.Fatal(err)
	}
	e.deps = platform.FleetDeps{URL: spec.Provider.URL, Emit: e.emit, Fingerprint: fingerprint, Now: time.Now,
		Keys: func(ctx context.Context) (secret.Value, error) {
			s, err := e.secrets.Get(ctx, keyName)
			return s.Value, err
		}}
	fc := platform.FleetConfig{Network: network, Users: 100, Poll: 200 * time.Millisecond, Heartbeat: time.Second, Seed: 1}
	for i, name := range []string{"api-1", "api-2", straggler} {
		fc.Hosts = append(fc.Hosts, platform.Host{Name: name, Region: "eu", Service: "login", Release: "1", MintsPerSecond: 5,
			SourceIP: netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + i)})})
	}
	if e.fleet, err = platform.NewFleet(fc, e.deps); err != nil {
		t.Fatal(err)
	}
}

func (e *estate) run(name string, f func(context.Context) error) {
	e.wg.Go(func() {
		if err := f(e.ctx); err != nil && e.ctx.Err() == nil {
			e.t.Errorf("%s: %v", name, err)
		}
	})
}

// emit brings an event to the topic of its witness.
func (e *estate) emit(ev event.Event) {
	if ev.Type == event.TypeAuthTokenIssued && ev.Host != "gw-1" {
		e.mu.Lock()
		e.mints[ev.KeyID] = time.Now()
		if ev.Host == straggler {
			e.late++
		}
		e.mu.Unlock()
	}
	topic := e.topics[ev.Origin]
	err := e.client.ProduceBatch(e.ctx, topic, []kafka.Message{{Time: ev.Time, Key: []byte(ev.Host), Value: event.Append(nil, &ev)}})
	if err != nil && e.ctx.Err() == nil {
		e.t.Errorf("produce to %s: %v", topic, err)
	}
}

// steal lets a thief try a key until the test ends or the function is called.
func (e *estate) steal(key secret.Value) (stop context.CancelFunc) {
	thief, err := platform.NewThief(platform.ThiefConfig{Network: network, Key: key, From: netip.MustParseAddr(thiefAddr),
		UserAgent: "python-requests/2.32", MintsPerSecond: 40, Users: 500, Seed: 3}, e.deps)
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(e.ctx)
	e.run("thief", func(context.Context) error { return thief.Run(ctx) })
	return cancel
}

// click presses a button in the fake Slack and returns the daemon's status.
func (e *estate) click(d *daemon, label string, c slacktest.Click) int {
	e.t.Helper()
	res, err := e.rig.slack.Press(e.t.Context(), d.app.URL()+"/slack/interactivity", label, c)
	if err != nil {
		e.t.Fatalf("press %s: %v", label, err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// state waits until a run is in a state.
func (d *daemon) state(id, state string) (run incident.Run) {
	d.t.Helper()
	await(d.t, "run "+id+" is "+state, func() bool {
		d.failed()
		var err error
		if run, err = d.client.Run(d.t.Context(), id); err != nil {
			return false
		}
		if run.Ended && run.State != state {
			d.t.Fatalf("the run ended %s: %s", run.State, run.Reason)
		}
		return run.State == state
	})
	return run
}

// thiefRules are two independent signals about a key that is used from outside the
// fleet's network, and faster than any of its hosts.
const thiefRules = `
title: Minted from outside
name: outside
logsource: {product: keysentry, category: authentication}
detection:
  mint: {type: auth_token.issued, source_ip|exists: true}
  ours: {source_ip|cidr: 198.51.100.0/24}
  condition: mint and not ours
level: medium
incident: key_compromise
risk: {subject: key_id, score: 3, family: place}
---
title: Minted in a hurry
name: hurry
correlation:
  type: event_count
  rules: [any_mint]
  group-by: [network, key_id, source_ip]
  timespan: 5s
  condition: {gte: 60}
level: medium
incident: key_compromise
risk: {subject: key_id, score: 3, family: volume}
---
title: A mint
name: any_mint
logsource: {product: keysentry, category: authentication}
detection:
  mint: {type: auth_token.issued}
  condition: mint
level: low
`

// retiredForeign is the shipped rule on a retired key in other hands.
const retiredForeign = "b3ddb0c2-46bb-407e-89ae-713089f0f361"

// TestRotationByClick: a retired key is used by a stranger, which pages and proposes
// nothing; then the live one is, security approves the rotation in Slack, the daemon is restarted while both keys are valid, the
// rotation goes on to its end, and the next use of the old key is recognised.
func TestRotationByClick(t *testing.T) {
	t.Parallel()
	e := newEstate(t, devstacktest.FakeKafka(t))
	e.open()
	lostID, lost := e.platform.IssueKey("lost")
	_, current := e.platform.IssueKey("current")
	if _, err := e.secrets.Put(t.Context(), keyName, current, 0); err != nil {
		t.Fatal(err)
	}
	e.platform.RevokeKey(lostID)
	e.fleet.SetStraggler(straggler, true)
	e.run("fleet", e.fleet.Run)
	d := e.rig.start("only", nil)
	d.leads()
	await(t, "the fleet is known", func() bool { return minted(e.fleet) })

	stop := e.steal(lost)
	inc := d.incident("the stolen key", func(i incident.Incident) bool { return i.Kind == finding.KeyCompromise })
	stop()
	if inc.Lead.Cause != event.CauseRetiredKeyForeign || inc.Severity != finding.Page || inc.GateMetAt != 0 {
		t.Errorf("the incident is a %s because of %s, gate met %v; want a page because of %s and no gate", inc.Severity, inc.Lead.Cause, inc.GateMetAt, event.CauseRetiredKeyForeign)
	}
	stop = e.steal(current)
	currentID := e.deps.Fingerprint(current.Reveal())
	inc = d.incident("two signals about the live key", func(i incident.Incident) bool { return i.Subject.Value == currentID && i.GateMetAt != 0 })
	stop()
	if inc.Severity != finding.Page || inc.Suspicion == nil || !strings.Contains(inc.Suspicion.Gate.Because, "place") {
		t.Errorf("the incident is a %s, %+v; want a page because of place and volume", inc.Severity, inc.Suspicion)
	}
	e.rig.told(pageTo, "Why this score")
	await(t, "a plan to approve in Slack", func() bool { _, _, ok := e.rig.slack.Find("Approve plan"); return ok })
	id := e.approve(d)

	d.state(id, "overlap")
	e.heldUp(d, id)
	if got := len(e.platform.ActiveKeys()); got != 2 {
		t.Errorf("%d working keys in the overlap, want 2", got)
	}
	d.stop()
	d = e.rig.start("only", nil)
	d.leads()
	if run := d.state(id, "overlap"); len(run.ApprovedBy) != 1 || run.ApprovedBy[0] != person {
		t.Errorf("approved by %q, want %s", run.ApprovedBy, person)
	}
	e.heldUp(d, id)
	e.fleet.SetStraggler(straggler, false)
	d.state(id, "done")
	e.afterwards(d, current)
}

// minted reports whether every host has minted a while.
func minted(f *platform.Fleet) bool {
	for _, h := range f.Status() {
		if h.Minted < 25 {
			return false
		}
	}
	return true
}

// heldUp waits until the straggler has used the old key for longer than the
// proof wants quiet, and holds the rotation to naming it and to waiting for it.
func (e *estate) heldUp(d *daemon, id string) {
	t := e.t
	t.Helper()
	e.mu.Lock()
	before, began := e.late, time.Now()
	e.mu.Unlock()
	await(t, straggler+" goes on with the old key", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.late > before && time.Since(began) > e.rig.cfg.Playbook.ProofQuiet+time.Second
	})
	await(t, "the clock names "+straggler+" alone", func() bool {
		d.failed()
		run, err := d.client.Run(t.Context(), id)
		if err == nil && run.State != "overlap" {
			t.Fatalf("the run is %s while %s uses the old key", run.State, straggler)
		}
		return err == nil && strings.Contains(run.Clock, "1 host left: "+straggler)
	})
}

// approve clicks: forged, as a stranger, and as who may, several times. It
// returns the run.
func (e *estate) approve(d *daemon) (id string) {
	t := e.t
	runs, err := d.client.Runs(t.Context())
	if err != nil || len(runs) != 1 || !runs[0].Waiting() {
		t.Fatalf("runs %+v (%v), want one that waits", runs, err)
	}
	id = runs[0].ID
	if got := e.click(d, "Approve plan", slacktest.Click{User: personID, Secret: "not-the-signing-secret"}); got != http.StatusUnauthorized {
		t.Errorf("a forged click was answered %d, want 401", got)
	}
	if got := e.click(d, "Approve plan", slacktest.Click{User: personID, At: time.Now().Add(-time.Hour)}); got != http.StatusUnauthorized {
		t.Errorf("a click of an hour ago was answered %d, want 401", got)
	}
	e.click(d, "Approve plan", slacktest.Click{User: "U0STRANGER"})
	if run, err := d.client.Run(t.Context(), id); err != nil || !run.Waiting() || len(run.ApprovedBy) > 0 {
		t.Fatalf("after clicks of others the run is %s, approved by %q (%v); want waiting", run.State, run.ApprovedBy, err)
	}
	for range 3 { // nervous fingers
		if got := e.click(d, "Approve plan", slacktest.Click{User: personID}); got != http.StatusOK {
			t.Errorf("the approver's click was answered %d, want 200", got)
		}
	}
	return id
}

// afterwards holds the estate to the end of a rotation.
func (e *estate) afterwards(d *daemon, old secret.Value) {
	t := e.t
	if n := len(e.platform.ActiveKeys()); n != 1 {
		t.Errorf("%d working keys, want 1", n)
	}
	if st := e.platform.Stats(); st.MinActive < 1 {
		t.Errorf("there was a moment with %d working keys", st.MinActive)
	}
	now, err := e.secrets.Get(t.Context(), keyName)
	if err != nil {
		t.Fatal(err)
	}
	if now.Value.Reveal() == old.Reveal() {
		t.Error("the secret store still holds the old key")
	}
	keyID := e.deps.Fingerprint(old.Reveal())
	stop := e.steal(old)
	d.incident("the use of the key that was rotated away", func(i incident.Incident) bool {
		return i.Kind == finding.KeyCompromise && i.Subject.Value == keyID && i.HasRule(retiredForeign)
	})
	stop()
	e.rig.told(pageTo, keyID)
	t.Logf("Slack shows:\n%s", e.rig.slack.Text())
	d.stop()
	records := e.rig.journal()
	findingsOnce(t, records)
	accepted, refused := 0, 0
	for _, dec := range bodies[journal.Decision](t, records, journal.KindDecision) {
		switch {
		case dec.Action != journal.ActionApprove:
		case dec.Refused == "":
			accepted++
		default:
			refused++
		}
	}
	if accepted != 1 || refused < 1 {
		t.Errorf("%d approvals accepted and %d refused in the journal, want 1 and at least the stranger's", accepted, refused)
	}
	e.quiet(records, keyID)
	for _, v := range []string{old.Reveal(), now.Value.Reveal()} {
		if strings.Contains(e.rig.slack.Text()+d.logs.String(), v) {
			t.Error("a server key is readable in Slack or in the log")
		}
		for _, rec := range records {
			if strings.Contains(string(rec.Body), v) {
				t.Errorf("record %d (%s) holds a server key", rec.N, rec.Kind)
			}
		}
	}
}

// quiet holds the proof to the quiet that it promises: it came no earlier than
// that after the last mint with the old key.
func (e *estate) quiet(records []journal.Record, oldKey string) {
	t := e.t
	e.mu.Lock()
	last := e.mints[oldKey]
	e.mu.Unlock()
	for _, rec := range records {
		var s journal.RunState
		if rec.Kind != journal.KindRunState || json.Unmarshal(rec.Body, &s) != nil || s.State != "proven" {
			continue
		}
		if quiet := rec.Time.Time().Sub(last); quiet < e.rig.cfg.Playbook.ProofQuiet-200*time.Millisecond {
			t.Errorf("the proof came %v after the last mint with the old key, want %v", quiet, e.rig.cfg.Playbook.ProofQuiet)
		}
		return
	}
	t.Error("no proof is in the journal")
}
