package playbook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// call is one try of one step.
type call struct {
	r                   *Runner
	run                 *run
	step                journal.PlanStep
	target              Target
	key                 string // idempotence key
	attempt, generation int
	intent              event.Instant // when the newest intent was written
}

// result is what a step that succeeded leaves: outputs for later steps, a
// sentence for people, and further records.
type result struct {
	outputs map[string]string
	text    string
	entries []journal.Entry
}

// errFinal marks a failure that another try cannot cure.
var errFinal = errors.New("not to be retried")

// lostKeyError says that a key exists at the provider whose value nobody has.
type lostKeyError struct{ providerID string }

func (e *lostKeyError) Error() string {
	return "the value of the issued key " + e.providerID + " is lost"
}

// perform checks, acts, and verifies, within the step's timeout.
func (c *call) perform(ctx context.Context) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.step.TimeoutS)*time.Second)
	defer cancel()
	for _, name := range c.step.Precondition {
		if err := c.check(ctx, name); err != nil {
			return result{}, fmt.Errorf("precondition %s: %w", name, err)
		}
	}
	act, ok := actions()[c.step.Type]
	if !ok {
		return result{}, fmt.Errorf("%w: this version has no step type %q", errFinal, c.step.Type)
	}
	res, err := act(c, ctx)
	if err != nil {
		return result{}, err
	}
	for _, name := range c.step.Verification {
		if err := c.check(ctx, name); err != nil {
			return result{}, fmt.Errorf("verification %s: %w", name, err)
		}
	}
	return res, nil
}

// actions are the step types that act; approve and wait_for_evidence only wait.
// Each converges: what is there already is not done again.
func actions() map[string]func(*call, context.Context) (result, error) {
	return map[string]func(*call, context.Context) (result, error){
		typePrecheck:   (*call).precheck,
		typeIssue:      (*call).issue,
		typeStore:      (*call).store,
		typeRestore:    (*call).restore,
		typeProbe:      (*call).test,
		typeDistribute: (*call).distribute,
		typeRevoke:     (*call).revoke,
		typeVerify:     (*call).verify,
		typeNotify:     (*call).notify,
	}
}

// affirm is called right before every effect. When the intent has grown old,
// while probes were waited for, it is written anew: the journal takes it only
// from the one who still leads.
func (c *call) affirm(ctx context.Context) error {
	if event.At(c.r.deps.Now()).Sub(c.intent) <= c.r.cfg.MaxIntentAge {
		return nil
	}
	c.attempt++
	e := c.r.stepEntry(c.run, c.step, journal.Step{Attempt: c.attempt, State: "started", Key: c.key})
	if err := c.r.append(ctx, e); err != nil {
		return fmt.Errorf("journal the intent again: %w", err)
	}
	c.intent = e.Time
	if age := event.At(c.r.deps.Now()).Sub(c.intent); age > c.r.cfg.MaxIntentAge {
		c.r.metrics.lateActs.Inc()
		return fmt.Errorf("the intent was accepted %s after it was written", short(age))
	}
	return nil
}

// put writes the secret store.
func (c *call) put(ctx context.Context, name string, v secret.Value, expect int64) (int64, error) {
	if err := c.affirm(ctx); err != nil {
		return 0, err
	}
	return c.target.Store.Put(ctx, name, v, expect)
}

// kill revokes one key at the provider; its callers have seen another one mint.
func (c *call) kill(ctx context.Context, id string) error {
	if err := c.affirm(ctx); err != nil {
		return err
	}
	return c.target.Provider.Revoke(ctx, id)
}

// input is an input of the step with its references to outputs filled in.
func (c *call) input(name string) (string, error) {
	return expand(c.step.Inputs[name], false, func(ref string) (string, bool) {
		rest, ok := strings.CutPrefix(ref, "steps.")
		id, out, _ := strings.Cut(rest, ".")
		st := c.run.steps[id]
		if !ok || st == nil || st.state != "done" {
			return "", false
		}
		v, ok := st.outputs[out]
		return v, ok
	})
}

// stepOf is the first step of a type.
func (run *run) stepOf(typ string) (journal.PlanStep, bool) {
	for _, s := range run.planned.Plan.Steps {
		if s.Type == typ {
			return s, true
		}
	}
	return journal.PlanStep{}, false
}

// output is an output of the first step of a type, or empty.
func (run *run) output(typ, name string) string {
	s, ok := run.stepOf(typ)
	if st := run.steps[s.ID]; ok && st != nil && st.state == "done" {
		return st.outputs[name]
	}
	return ""
}

// keyID is the fingerprint of the run's old or new key, or empty.
func (run *run) keyID(which string) string {
	if which == "old" {
		return run.output(typePrecheck, outOldKey)
	}
	return run.output(typeIssue, outNewKey)
}

func (c *call) fingerprint(v secret.Value) string {
	return c.r.deps.Fingerprint(c.run.planned.Network, v)
}

// probe mints with a key, after the probe is journaled so that its own event is
// known for what it is.
func (c *call) probe(ctx context.Context, v secret.Value) (MintResult, error) {
	id := "probe-" + c.r.deps.NewID()
	now := event.At(c.r.deps.Now())
	err := c.r.append(ctx, journal.Entry{Kind: journal.KindProbe, Time: now, Body: journal.Probe{
		RunID: c.run.planned.RunID, RequestID: id, KeyID: c.fingerprint(v), Until: now.Add(probeLife)}})
	if err != nil {
		return MintResult{}, fmt.Errorf("journal a probe: %w", err)
	}
	res, err := c.target.Provider.Mint(ctx, MintRequest{Key: v, UserID: c.target.ProbeUser, RequestID: id})
	switch {
	case err != nil:
		c.r.metrics.probes.WithLabelValues("error").Inc()
		return res, fmt.Errorf("probe: %w", err)
	case res.OK:
		c.r.metrics.probes.WithLabelValues("ok").Inc()
	case res.Dead:
		c.r.metrics.probes.WithLabelValues("dead").Inc()
	default:
		c.r.metrics.probes.WithLabelValues("error").Inc()
		return res, fmt.Errorf("probe: the platform answered %d, which says nothing about the key", res.Status)
	}
	return res, nil
}

// probeLife is how long after its journaling a probe's event may come.
const probeLife = 60 * time.Second

// value finds the run's old or new key: the new one in memory or as the newest
// version in the store, the old one as the version that the precheck read.
func (c *call) value(ctx context.Context, which string) (secret.Value, error) {
	want := c.run.keyID(which)
	if want == "" {
		return secret.Value{}, fmt.Errorf("the %s key is not known yet", which)
	}
	if issue, ok := c.run.stepOf(typeIssue); ok && which == "new" {
		label := idempotenceKey(c.run.planned.RunID, issue.ID, c.run.steps[issue.ID].generation)
		if k, ok := c.r.mem.get(label); ok && c.fingerprint(k.Value) == want {
			return k.Value, nil
		}
	}
	cur, err := c.target.Store.Get(ctx, c.target.SecretName)
	if err != nil {
		return secret.Value{}, fmt.Errorf("read the secret store: %w", err)
	}
	// A back-out adds a version, so either key may lie at several numbers.
	for v := cur.Version; v > 0 && v > cur.Version-maxVersionsBack; v-- {
		old, err := c.target.Store.GetVersion(ctx, c.target.SecretName, v)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return secret.Value{}, fmt.Errorf("read version %d of the secret store: %w", v, err)
		}
		if c.fingerprint(old.Value) == want {
			return old.Value, nil
		}
	}
	return secret.Value{}, fmt.Errorf("the %s key is in none of the last versions of the secret store", which)
}

// maxVersionsBack bounds the search for a key among the versions of a secret.
const maxVersionsBack = 10

// answers probes the run's old or new key.
func (c *call) answers(ctx context.Context, which string) (bool, error) {
	v, err := c.value(ctx, which)
	if err != nil {
		return false, err
	}
	res, err := c.probe(ctx, v)
	return res.OK, err
}

// check evaluates one named check.
func (c *call) check(ctx context.Context, name string) error {
	which, want := "old", true
	switch name {
	case checkStoreHoldsNew, checkStoreHoldsOld:
		return c.storeHolds(ctx, name)
	case checkNewAnswers:
		which = "new"
	case checkOldDead:
		want = false
	}
	got, err := c.answers(ctx, which)
	if err == nil && got != want {
		verb := map[bool]string{true: "answers", false: "is dead"}
		err = fmt.Errorf("the %s key %s", which, verb[got])
	}
	return err
}

func (c *call) storeHolds(ctx context.Context, name string) error {
	which := "new"
	if name == checkStoreHoldsOld {
		which = "old"
	}
	cur, err := c.target.Store.Get(ctx, c.target.SecretName)
	if err != nil {
		return fmt.Errorf("read the secret store: %w", err)
	}
	if c.fingerprint(cur.Value) != c.run.keyID(which) {
		return fmt.Errorf("the secret store does not hold the %s key", which)
	}
	return nil
}

func entries(e ...journal.Entry) []journal.Entry { return e }

// keysText says which keys exist now, for people.
func (r *Runner) keysText(run *run) string {
	old, fresh := run.keyID("old"), run.keyID("new")
	switch {
	case run.entered[StateRevoked] != 0:
		return "Key " + fresh + " is in use, key " + old + " is dead."
	case fresh != "":
		return "Old key " + old + " and new key " + fresh + " exist."
	case run.touched():
		return "Old key " + old + " exists; a new one may have been issued."
	case old != "":
		return "Only the present key " + old + " exists."
	}
	return ""
}

// forget drops a run's key from memory.
func (r *Runner) forget(run *run) {
	issue, ok := run.stepOf(typeIssue)
	if st := run.steps[issue.ID]; ok && st != nil {
		for g := 1; g <= st.generation; g++ {
			r.mem.drop(idempotenceKey(run.planned.RunID, issue.ID, g))
		}
	}
}
