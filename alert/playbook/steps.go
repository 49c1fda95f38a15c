package playbook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// canaryName is the entry of a secret store that prechecks write.
const canaryName = "keysentry-precheck"

// precheck proves everything that the steps after the issue will need.
func (c *call) precheck(ctx context.Context) (result, error) {
	if err := c.budget(); err != nil {
		return result{}, err
	}
	p := c.target.Provider.Capabilities()
	if !p.Issue || !p.Revoke || !p.List {
		return result{}, fmt.Errorf("%w: provider %s cannot issue, list and revoke keys by API", errFinal, p.Name)
	}
	cur, err := c.target.Store.Get(ctx, c.target.SecretName)
	if err != nil {
		return result{}, fmt.Errorf("read the secret store: %w", err)
	}
	old := c.fingerprint(cur.Value)
	want, err := c.input("old_key")
	if err != nil {
		return result{}, err
	}
	if want != "" && want != old {
		return result{}, fmt.Errorf("%w: the secret store holds key %s, not %s: someone has rotated already", errFinal, old, want)
	}
	if err := c.canary(ctx); err != nil {
		return result{}, err
	}
	probe, err := c.probe(ctx, cur.Value)
	if err != nil {
		return result{}, err
	}
	if !probe.OK {
		return result{}, fmt.Errorf("%w: the present key is dead already (status %d)", errFinal, probe.Status)
	}
	id, err := c.providerID(ctx, cur.Value)
	if err != nil {
		return result{}, err
	}
	return result{text: "Checks passed: the store is writable, the present key " + old + " works.",
		outputs: map[string]string{outOldKey: old, outOldProviderID: id, outOldVersion: strconv.FormatInt(cur.Version, 10)}}, nil
}

// budget refuses when too many networks began a run within the hour.
func (c *call) budget() error {
	now := event.At(c.r.deps.Now())
	began := map[string]bool{}
	for _, run := range c.r.fold.all() {
		at := run.entered[StatePrecheck]
		if at != 0 && now.Sub(at) < time.Hour && run.planned.RunID != c.run.planned.RunID {
			began[run.planned.Network] = true
		}
	}
	delete(began, c.run.planned.Network)
	if len(began) >= c.r.cfg.BudgetPerHour {
		return fmt.Errorf("%w: %d networks began a run within the last hour, the budget is %d", errFinal, len(began), c.r.cfg.BudgetPerHour)
	}
	return nil
}

// canary proves that the store takes a write and gives it back.
func (c *call) canary(ctx context.Context) error {
	var version int64
	cur, err := c.target.Store.Get(ctx, canaryName)
	switch {
	case err == nil:
		version = cur.Version
	case !errors.Is(err, ErrNotFound):
		return fmt.Errorf("read the secret store: %w", err)
	}
	v := secret.New(c.key)
	if _, err := c.put(ctx, canaryName, v, version); err != nil {
		return fmt.Errorf("the secret store is not writable: %w", err)
	}
	back, err := c.target.Store.Get(ctx, canaryName)
	if err != nil {
		return fmt.Errorf("read back from the secret store: %w", err)
	}
	if back.Value.Reveal() != v.Reveal() {
		return errors.New("the secret store gave something else back than was written")
	}
	return nil
}

// providerID finds the provider's name of a key by its digest.
func (c *call) providerID(ctx context.Context, v secret.Value) (string, error) {
	keys, err := c.target.Provider.List(ctx)
	if err != nil {
		return "", fmt.Errorf("list keys: %w", err)
	}
	h := sha256.Sum256([]byte(v.Reveal()))
	digest := hex.EncodeToString(h[:])
	for _, k := range keys {
		if k.Digest == digest {
			return k.ID, nil
		}
	}
	return "", fmt.Errorf("%w: the provider does not list the key that the store holds", errFinal)
}

// issue makes the new key. A key that is listed under this label was made by a
// try whose answer was lost.
func (c *call) issue(ctx context.Context) (result, error) {
	k, have := c.r.mem.get(c.key)
	if !have {
		keys, err := c.target.Provider.List(ctx)
		if err != nil {
			return result{}, fmt.Errorf("list keys: %w", err)
		}
		for _, listed := range keys {
			if listed.Label == c.key {
				return result{}, &lostKeyError{listed.ID}
			}
		}
		if err := c.revokeLost(ctx, keys, "old"); err != nil {
			return result{}, err
		}
		if err := c.affirm(ctx); err != nil {
			return result{}, err
		}
		if k, err = c.target.Provider.Issue(ctx, c.key); err != nil {
			return result{}, fmt.Errorf("issue a key: %w", err)
		}
		c.r.mem.put(c.key, k)
	}
	id := c.fingerprint(k.Value)
	return result{text: "A new key was issued: " + id + ".", outputs: map[string]string{outNewKey: id, outNewProviderID: k.ID},
		entries: entries(c.r.keyEntry(c.run, id, "created"))}, nil
}

// revokeLost kills keys whose value is lost, while the named key answers.
func (c *call) revokeLost(ctx context.Context, keys []ProviderKey, alive string) error {
	for _, id := range c.run.lost {
		if !active(keys, id) {
			continue
		}
		ok, err := c.answers(ctx, alive)
		if err != nil || !ok {
			return err // none dies while no other is known to work; the revoke step comes back to it
		}
		if err := c.kill(ctx, id); err != nil {
			return fmt.Errorf("revoke the lost key %s: %w", id, err)
		}
	}
	return nil
}

func active(keys []ProviderKey, id string) bool {
	for _, k := range keys {
		if k.ID == id {
			return k.Active
		}
	}
	return false
}

// store puts the new key into the secret store and reads it back.
func (c *call) store(ctx context.Context) (result, error) {
	want := c.run.keyID("new")
	cur, err := c.target.Store.Get(ctx, c.target.SecretName)
	if err != nil {
		return result{}, fmt.Errorf("read the secret store: %w", err)
	}
	if c.fingerprint(cur.Value) != want {
		issue, _ := c.run.stepOf(typeIssue)
		label := idempotenceKey(c.run.planned.RunID, issue.ID, c.run.steps[issue.ID].generation)
		k, ok := c.r.mem.get(label)
		if !ok {
			return result{}, &lostKeyError{c.run.output(typeIssue, outNewProviderID)}
		}
		if old := c.run.keyID("old"); c.fingerprint(cur.Value) != old {
			return result{}, fmt.Errorf("%w: the secret store no longer holds the old key %s: someone changed it", errFinal, old)
		}
		if _, err := c.put(ctx, c.target.SecretName, k.Value, cur.Version); err != nil {
			return result{}, fmt.Errorf("write the secret store: %w", err)
		}
		if cur, err = c.target.Store.Get(ctx, c.target.SecretName); err != nil {
			return result{}, fmt.Errorf("read back from the secret store: %w", err)
		}
		if c.fingerprint(cur.Value) != want {
			return result{}, errors.New("the secret store gave another key back than was written")
		}
	}
	return result{text: "The new key is in the secret store, version " + strconv.FormatInt(cur.Version, 10) + ".",
		outputs: map[string]string{outNewVersion: strconv.FormatInt(cur.Version, 10)}}, nil
}

// restore makes the old key the newest version again.
func (c *call) restore(ctx context.Context) (result, error) {
	cur, err := c.target.Store.Get(ctx, c.target.SecretName)
	if err != nil {
		return result{}, fmt.Errorf("read the secret store: %w", err)
	}
	if have := c.fingerprint(cur.Value); have != c.run.keyID("old") {
		if have != c.run.keyID("new") {
			return result{}, fmt.Errorf("%w: the secret store holds a key that is not ours: someone changed it", errFinal)
		}
		old, err := c.value(ctx, "old")
		if err != nil {
			return result{}, err
		}
		if cur.Version, err = c.put(ctx, c.target.SecretName, old, cur.Version); err != nil {
			return result{}, fmt.Errorf("write the secret store: %w", err)
		}
	}
	return result{text: "The old key is in the secret store again.",
		outputs: map[string]string{outRestoredVersion: strconv.FormatInt(cur.Version, 10)}}, nil
}

// test mints with the new key, then with the old one.
func (c *call) test(ctx context.Context) (result, error) {
	ok, err := c.answers(ctx, "new")
	if err != nil {
		return result{}, err
	}
	if !ok {
		return result{}, errors.New("the new key does not mint")
	}
	old, err := c.answers(ctx, "old")
	if err != nil {
		return result{}, err
	}
	res := result{text: "Both keys work.", outputs: map[string]string{outOverlap: string(OverlapParallel)}}
	if !old {
		res = result{text: "No parallel run here: the old key died when the new one was issued. Hosts fail until they load the new key.",
			outputs: map[string]string{outOverlap: string(OverlapReplace)}}
	}
	res.entries = entries(c.r.keyEntry(c.run, c.run.keyID("new"), "active"))
	return res, nil
}

// distribute calls the reload hook.
func (c *call) distribute(ctx context.Context) (result, error) {
	if c.target.Distributor == nil {
		return result{text: "The hosts watch the secret store by themselves."}, nil
	}
	cur, err := c.target.Store.Get(ctx, c.target.SecretName)
	if err != nil {
		return result{}, fmt.Errorf("read the secret store: %w", err)
	}
	if want := c.run.keyID(c.which("new")); c.fingerprint(cur.Value) != want {
		return result{}, fmt.Errorf("the secret store does not hold key %s", want)
	}
	if err := c.affirm(ctx); err != nil {
		return result{}, err
	}
	hosts, err := c.target.Distributor.Distribute(ctx, c.target.SecretName, cur.Version)
	if err != nil {
		return result{}, fmt.Errorf("call the reload hook: %w", err)
	}
	var deaf []string
	for _, h := range hosts {
		if !h.OK {
			deaf = append(deaf, h.Host)
		}
	}
	text := fmt.Sprintf("%d hosts were told to load the key.", len(hosts)-len(deaf))
	if len(deaf) > 0 {
		text += " Not reached: " + strings.Join(deaf, " ") + "."
	}
	return result{text: text}, nil
}

// which is the step's input key, or fallback.
func (c *call) which(fallback string) string {
	if w := c.step.Inputs["key"]; w != "" {
		return w
	}
	return fallback
}

// revoke kills the old key (or, backing out, the new one), and every key whose
// value was lost. It is the only place that does, besides revokeLost, and both
// first see another key mint.
func (c *call) revoke(ctx context.Context) (result, error) {
	which, other := c.which("old"), "new"
	if which == "new" {
		other = "old"
	}
	keys, err := c.target.Provider.List(ctx)
	if err != nil {
		return result{}, fmt.Errorf("list keys: %w", err)
	}
	targets := c.revokeTargets(keys, which)
	var seen time.Time // when the other key last minted
	for _, id := range targets {
		if !active(keys, id) {
			continue
		}
		if seen.IsZero() || c.r.deps.Now().Sub(seen) >= c.r.cfg.ProbeMaxAge {
			ok, err := c.answers(ctx, other)
			if err != nil {
				return result{}, err
			}
			if !ok {
				return result{}, fmt.Errorf("%w: the %s key does not answer, and the last working key is never revoked", errFinal, other)
			}
			seen = c.r.deps.Now()
		}
		if err := c.kill(ctx, id); err != nil {
			return result{}, fmt.Errorf("revoke: %w", err)
		}
	}
	res := result{text: "The " + which + " key is revoked."}
	if id := c.run.keyID(which); id != "" {
		res.text = "The " + which + " key " + id + " is revoked."
		res.entries = entries(c.r.keyEntry(c.run, id, "revoked"))
	}
	if which == "new" {
		res.entries = append(res.entries, c.r.keyEntry(c.run, c.run.keyID("old"), "active"))
	}
	return res, nil
}

// revokeTargets lists the provider's ids of what a revoke step kills. Backing
// out, that includes keys that were issued but never seen.
func (c *call) revokeTargets(keys []ProviderKey, which string) []string {
	targets := append([]string{}, c.run.lost...)
	if which == "old" {
		return append(targets, c.run.output(typePrecheck, outOldProviderID))
	}
	if id := c.run.output(typeIssue, outNewProviderID); id != "" {
		targets = append(targets, id)
	}
	issue, ok := c.run.stepOf(typeIssue)
	if st := c.run.steps[issue.ID]; ok && st != nil {
		for g := 1; g <= st.generation; g++ {
			for _, k := range keys {
				if k.Label == idempotenceKey(c.run.planned.RunID, issue.ID, g) {
					targets = append(targets, k.ID)
				}
			}
		}
	}
	return targets
}

// verify sees the old key refused and the new one work.
func (c *call) verify(ctx context.Context) (result, error) {
	for _, name := range []string{checkOldDead, checkNewAnswers} {
		if err := c.check(ctx, name); err != nil {
			return result{}, err
		}
	}
	return result{text: "Verified: the old key is refused, the new one mints."}, nil
}

// notify leaves a sentence for the incident's thread.
func (c *call) notify(context.Context) (result, error) {
	text, err := c.input("text")
	return result{text: text}, err
}

// escrow hands a key that could not be stored to the operator, and says so.
func (c *call) escrow(ctx context.Context) string {
	if c.step.Type != typeStore {
		return ""
	}
	issue, _ := c.run.stepOf(typeIssue)
	k, ok := c.r.mem.get(idempotenceKey(c.run.planned.RunID, issue.ID, c.run.steps[issue.ID].generation))
	if !ok {
		return ""
	}
	if c.r.deps.Escrow == nil {
		return "The new key is only in the memory of this process (no escrow is configured): do not restart it. "
	}
	where, err := c.r.deps.Escrow.Deposit(ctx, c.run.planned.RunID+"-"+k.ID, k.Value)
	if err != nil {
		c.r.log.Error("escrow failed", "run", c.run.planned.RunID, "err", err)
		return "The new key is only in the memory of this process (the escrow failed): do not restart it. "
	}
	return "The new key lies encrypted to the operator in " + where + ". "
}
