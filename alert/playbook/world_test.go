package playbook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/alert/playbook/action/simulated"
	"github.com/keysentry/keysentry/alert/playbook/playbooktest"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

const (
	network    = "acme"
	secretName = "acme/server-key"
	pbName     = "rotate-server-key"
)

// world is everything around a runner: it outlives the runners that crash in it.
// It must be used inside a synctest bubble.
type world struct {
	t        *testing.T
	platform *platform.Platform
	store    playbook.SecretStore
	faulty   playbook.SecretStore // what runners get instead of store, if set
	journal  *playbooktest.Journal
	hosts    *hosts
	library  *playbook.Library
	escrow   playbook.Escrow
	logs     *lockedBuffer
	first    secret.Value

	slow   time.Duration   // the next intent takes this long to be accepted
	values map[string]bool // every key that ever existed
	mu     sync.Mutex
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func fingerprint(_ string, v secret.Value) string {
	var h uint64 = 14695981039346656037
	for _, c := range []byte("test" + v.Reveal()) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return fmt.Sprintf("k1:%016x", h)
}

func loadLibrary(t *testing.T) *playbook.Library {
	t.Helper()
	lib, errs := playbook.Load(os.DirFS("../../configs/playbooks"))
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	return lib
}

func newWorld(t *testing.T, overlap platform.Overlap) *world {
	t.Helper()
	cfg := platform.DefaultConfig()
	cfg.Network, cfg.Overlap, cfg.AdminToken = network, overlap, secret.New("admin-token-of-the-test")
	p, err := platform.New(cfg, platform.Deps{Now: time.Now,
		Fingerprint: func(v string) string { return fingerprint(network, secret.New(v)) }})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, platform: p, store: &playbooktest.MemStore{}, journal: &playbooktest.Journal{}, library: loadLibrary(t),
		logs: &lockedBuffer{}, values: map[string]bool{cfg.AdminToken.Reveal(): true}}
	_, w.first = p.IssueKey("by hand")
	w.values[w.first.Reveal()] = true
	if _, err := w.store.Put(t.Context(), secretName, w.first, 0); err != nil {
		t.Fatal(err)
	}
	w.hosts = &hosts{w: w, delay: 10 * time.Second, names: []string{"api-1", "api-2", "batch-1"}, loaded: map[string]secret.Value{},
		seen: map[string]map[string]playbook.KeyUse{}, stragglers: map[string]bool{}}
	return w
}

// hosts are backends that load the stored key after a delay and mint every
// second.
type hosts struct {
	w          *world
	delay      time.Duration
	names      []string
	mu         sync.Mutex
	stragglers map[string]bool
	loaded     map[string]secret.Value
	newSince   time.Time
	pending    secret.Value
	seen       map[string]map[string]playbook.KeyUse
	missing    float64 // the share of the data that is not there; negative: unknown
	thief      string  // the key that a foreign host uses
}

// live lets the hosts live until ctx ends.
func (h *hosts) live(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		h.step(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// set changes the hosts while they live.
func (h *hosts) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *hosts) step(ctx context.Context) {
	cur, err := h.w.store.Get(context.WithoutCancel(ctx), secretName)
	if err != nil {
		h.w.t.Error(err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if cur.Value.Reveal() != h.pending.Reveal() {
		h.pending, h.newSince = cur.Value, time.Now()
	}
	now := event.At(time.Now())
	for _, n := range h.names {
		_, started := h.loaded[n]
		if !started || !h.stragglers[n] && time.Since(h.newSince) >= h.delay {
			h.loaded[n] = h.pending
		}
		id := fingerprint(network, h.loaded[n])
		if h.seen[n] == nil {
			h.seen[n] = map[string]playbook.KeyUse{}
		}
		u := h.seen[n][id]
		if u.First == 0 {
			u.First = now
		}
		u.Host, u.KeyID, u.Last, u.Live, u.Mints = n, id, now, true, u.Mints+1
		h.seen[n][id] = u
	}
}

func (h *hosts) KeyUse(_ string, now event.Instant) []playbook.KeyUse {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []playbook.KeyUse
	for _, n := range h.names {
		for _, u := range h.seen[n] {
			out = append(out, u)
		}
	}
	if h.thief != "" {
		out = append(out, playbook.KeyUse{Host: "203.0.113.9", KeyID: h.thief, Last: now, Mints: 50, Foreign: true})
	}
	return out
}

func (h *hosts) Coverage(string, event.Instant, event.Instant) (float64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return 1 - h.missing, h.missing >= 0
}

func testConfig() playbook.Config {
	c := playbook.DefaultConfig()
	c.ProofQuiet = 20 * time.Second
	return c
}

// life is one runner in a world, from its start to its death.
type life struct {
	w      *world
	runner *playbook.Runner
	reg    *metrics.Registry
	cancel context.CancelFunc
	done   chan struct{}
	// crash: at operation number crashAt the runner is dead: nothing it does has
	// an effect any more. at names that operation.
	crashAt, ops int
	dead         bool
	at           string
	mu           sync.Mutex
}

var errCrashed = errors.New("crashed")

// point is passed before and after every effect; it reports whether the process
// is dead by now.
func (l *life) point(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errCrashed
	}
	l.ops++
	if l.ops == l.crashAt {
		l.dead, l.at = true, name
		l.cancel()
		return errCrashed
	}
	return nil
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// around makes an effect crashable before and after.
func around[T any](l *life, name string, do func() (T, error)) (T, error) {
	var zero T
	if err := l.point("before " + name); err != nil {
		return zero, err
	}
	v, err := do()
	if dead := l.point("after " + name); dead != nil {
		return zero, dead
	}
	return v, err
}

type crashJournal struct{ l *life }

func (j crashJournal) Append(ctx context.Context, entries ...journal.Entry) ([]journal.Record, error) {
	name := "journal"
	for _, e := range entries {
		name += " " + string(e.Kind)
		switch b := e.Body.(type) {
		case journal.Step:
			name += ":" + b.StepID + "=" + b.State
		case journal.RunState:
			name += ":" + b.State
		}
	}
	return around(j.l, name, func() ([]journal.Record, error) {
		j.l.w.mu.Lock()
		slow := j.l.w.slow
		if strings.Contains(name, "=started") {
			j.l.w.slow = 0
		} else {
			slow = 0
		}
		j.l.w.mu.Unlock()
		time.Sleep(slow)
		return j.l.w.journal.Append(ctx, entries...)
	})
}

type crashProvider struct {
	l *life
	playbook.KeyProvider
}

func (p crashProvider) Issue(ctx context.Context, label string) (playbook.IssuedKey, error) {
	return around(p.l, "issue", func() (playbook.IssuedKey, error) {
		k, err := p.KeyProvider.Issue(ctx, label)
		if err == nil {
			p.l.w.mu.Lock()
			p.l.w.values[k.Value.Reveal()] = true
			p.l.w.mu.Unlock()
		}
		return k, err
	})
}

func (p crashProvider) Revoke(ctx context.Context, id string) error {
	_, err := around(p.l, "revoke", func() (int, error) { return 0, p.KeyProvider.Revoke(ctx, id) })
	return err
}

func (p crashProvider) Mint(ctx context.Context, req playbook.MintRequest) (playbook.MintResult, error) {
	return around(p.l, "mint", func() (playbook.MintResult, error) { return p.KeyProvider.Mint(ctx, req) })
}

type crashStore struct {
	l *life
	playbook.SecretStore
}

func (s crashStore) Put(ctx context.Context, name string, v secret.Value, expect int64) (int64, error) {
	return around(s.l, "put "+name, func() (int64, error) { return s.SecretStore.Put(ctx, name, v, expect) })
}

type hook struct{ l *life }

func (h hook) Describe() string { return "POST http://hosts/reload" }

func (h hook) Distribute(context.Context, string, int64) ([]playbook.HostResult, error) {
	return around(h.l, "distribute", func() ([]playbook.HostResult, error) {
		var out []playbook.HostResult
		for _, n := range h.l.w.hosts.names {
			out = append(out, playbook.HostResult{Host: n, OK: true})
		}
		return out, nil
	})
}

// begin starts a runner from the journal; it leads at once.
func (w *world) begin(cfg playbook.Config, crashAt int) *life {
	w.t.Helper()
	l := &life{w: w, reg: metrics.New(), done: make(chan struct{}), crashAt: crashAt}
	pc := simulated.DefaultConfig()
	pc.URL = "http://platform.test"
	prov, err := simulated.New(pc, simulated.Deps{AdminToken: secret.New("admin-token-of-the-test"),
		Client: &http.Client{Transport: playbooktest.InProcess(w.platform.Handler())}})
	if err != nil {
		w.t.Fatal(err)
	}
	store := w.store
	if w.faulty != nil {
		store = w.faulty
	}
	l.runner, err = playbook.New(cfg, playbook.Deps{Journal: crashJournal{l}, Library: w.library, Evidence: w.hosts,
		Targets: map[string]playbook.Target{network: {Provider: crashProvider{l, prov}, Store: crashStore{l, store},
			SecretName: secretName, Distributor: hook{l}, ProbeUser: "keysentry-probe"}},
		Fingerprint: fingerprint, Escrow: w.escrow, Now: time.Now, Metrics: l.reg,
		Logger: slog.New(slog.NewTextHandler(w.logs, nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.journal.Follow(func(rec journal.Record) error {
		if l.isDead() {
			return nil
		}
		return l.runner.Apply(rec)
	}); err != nil {
		w.t.Fatal(err)
	}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(w.t.Context())
	l.runner.Lead(ctx, 1)
	go func() {
		defer close(l.done)
		if err := l.runner.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	return l
}

func (l *life) end() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.cancel()
	<-l.done
}

// inWorld runs f in a bubble with living hosts.
func inWorld(t *testing.T, overlap platform.Overlap, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, overlap)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.hosts.live(ctx) })
		time.Sleep(time.Minute) // simulated: the hosts have a history
		f(t, w)
		cancel()
		wg.Wait()
		w.leaksNothing()
	})
}

// decide journals an accepted decision, as alerting does.
func (w *world) decide(d journal.Decision) {
	w.t.Helper()
	if d.ID == "" {
		d.ID = fmt.Sprint("d", len(w.journal.Records()))
	}
	if _, err := w.journal.Append(w.t.Context(), journal.Entry{Kind: journal.KindDecision, Time: event.At(time.Now()), Body: d}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) approve(p journal.RunPlanned, person string) {
	w.t.Helper()
	w.decide(journal.Decision{Action: journal.ActionApprove, RunID: p.RunID, PlanHash: p.PlanHash, Person: person, Via: "cli"})
}

func (w *world) plan(l *life, inputs map[string]string) journal.RunPlanned {
	w.t.Helper()
	p, err := l.runner.Plan(w.t.Context(), playbook.PlanRequest{Playbook: pbName, Network: network, IncidentID: "inc-1",
		Inputs: inputs, RequestedBy: "ann"})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// until waits, in simulated time, for a condition of a run.
func (l *life) until(id string, within time.Duration, cond func(playbook.RunView) bool) playbook.RunView {
	l.w.t.Helper()
	var v playbook.RunView
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		v, _ = l.runner.Get(id)
		if cond(v) || l.isDead() {
			return v
		}
	}
	b, _ := json.MarshalIndent(v.Steps, "", " ")
	l.w.t.Fatalf("the run is %s (%s %s) after %s:\n%s", v.State, v.Reason, v.Text, within, b)
	return v
}

func (l *life) untilState(id string, s playbook.State, within time.Duration) playbook.RunView {
	l.w.t.Helper()
	return l.until(id, within, func(v playbook.RunView) bool { return v.State == s })
}

// bodies decodes every record of a kind.
func bodies[T any](w *world, kind journal.Kind) []T {
	w.t.Helper()
	var out []T
	for _, rec := range w.journal.Records() {
		if rec.Kind != kind {
			continue
		}
		var b T
		if err := json.Unmarshal(rec.Body, &b); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// leaksNothing looks for every key that ever existed in the journal and the logs.
func (w *world) leaksNothing() {
	w.t.Helper()
	var all strings.Builder
	for _, rec := range w.journal.Records() {
		all.Write(rec.Body)
	}
	all.WriteString(w.logs.String())
	for v := range w.values {
		if strings.Contains(all.String(), v) {
			w.t.Error("a secret is in the journal or the logs")
		}
	}
	if len(w.values) < 2 {
		w.t.Error("the test knows no key to look for")
	}
}

// rotated checks the end of a good rotation: one key works, it is the stored
// one, and there never was none.
func (w *world) rotated() {
	w.t.Helper()
	w.oneKeyWorks()
	cur, err := w.store.Get(context.Background(), secretName)
	if err != nil {
		w.t.Fatal(err)
	}
	if cur.Value.Reveal() == w.first.Reveal() {
		w.t.Error("the store still holds the old key")
	}
}

func (w *world) oneKeyWorks() {
	w.t.Helper()
	if got := w.platform.ActiveKeys(); len(got) != 1 {
		w.t.Errorf("%d keys are active, want 1", len(got))
	}
	if got := w.platform.Stats().MinActive; got < 1 {
		w.t.Errorf("at some time %d keys worked", got)
	}
	if !w.storedKeyWorks() {
		w.t.Error("the stored key does not mint")
	}
}

func (w *world) storedKeyWorks() bool {
	cur, err := w.store.Get(context.Background(), secretName)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &http.Client{Transport: playbooktest.InProcess(w.platform.Handler())}
	req, err := http.NewRequest(http.MethodPost, "http://platform.test/api/v4/authentication/token", strings.NewReader(`{"userId":"u"}`))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("x-server-key", cur.Value.Reveal())
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
