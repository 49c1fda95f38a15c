// Package playbooktest holds what tests of playbooks share: a conformance suite
// for each port of alert/playbook, an in-memory secret store and journal, and a
// transport that serves HTTP in the caller's goroutine, so that time can be
// simulated around it.
package playbooktest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/internal/secret"
)

// StoreSuite proves that open makes secret stores that keep their contract. Each
// call of open gives an empty store.
func StoreSuite(t *testing.T, open func(t *testing.T) playbook.SecretStore) {
	for name, check := range map[string]func(t *testing.T, s playbook.SecretStore){
		"an absent secret":        storeAbsent,
		"versions and read back":  storeVersions,
		"check and set":           storeCheckAndSet,
		"one of many writers":     storeRace,
		"a cancelled call":        storeCancelled,
		"an odd value comes back": storeOddValue,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, open(t))
		})
	}
}

func storeAbsent(t *testing.T, s playbook.SecretStore) {
	if _, err := s.Get(t.Context(), "none"); !errors.Is(err, playbook.ErrNotFound) {
		t.Errorf("Get of an absent secret: %v, want ErrNotFound", err)
	}
	if _, err := s.GetVersion(t.Context(), "none", 1); !errors.Is(err, playbook.ErrNotFound) {
		t.Errorf("GetVersion of an absent secret: %v, want ErrNotFound", err)
	}
	if _, err := s.Put(t.Context(), "none", secret.New("v"), 3); !errors.Is(err, playbook.ErrConflict) {
		t.Errorf("Put over version 3 of an absent secret: %v, want ErrConflict", err)
	}
}

func storeVersions(t *testing.T, s playbook.SecretStore) {
	for i := range int64(3) {
		n, err := s.Put(t.Context(), "a", secret.New(fmt.Sprint("value ", i+1)), i)
		if err != nil || n != i+1 {
			t.Fatalf("Put %d = %d, %v", i+1, n, err)
		}
	}
	if _, err := s.Put(t.Context(), "b", secret.New("other"), 0); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), "a")
	if err != nil || got.Version != 3 || got.Value.Reveal() != "value 3" {
		t.Errorf("Get = version %d, %v, want version 3", got.Version, err)
	}
	got, err = s.GetVersion(t.Context(), "a", 2)
	if err != nil || got.Version != 2 || got.Value.Reveal() != "value 2" {
		t.Errorf("GetVersion(2) = version %d, %v", got.Version, err)
	}
	if _, err := s.GetVersion(t.Context(), "a", 4); !errors.Is(err, playbook.ErrNotFound) {
		t.Errorf("GetVersion(4): %v, want ErrNotFound", err)
	}
}

func storeCheckAndSet(t *testing.T, s playbook.SecretStore) {
	if _, err := s.Put(t.Context(), "a", secret.New("first"), 0); err != nil {
		t.Fatal(err)
	}
	for _, expect := range []int64{0, 2, -1} {
		if _, err := s.Put(t.Context(), "a", secret.New("wrong"), expect); !errors.Is(err, playbook.ErrConflict) {
			t.Errorf("Put over %d: %v, want ErrConflict", expect, err)
		}
	}
	if got, err := s.Get(t.Context(), "a"); err != nil || got.Value.Reveal() != "first" {
		t.Errorf("a refused write changed the secret (err %v)", err)
	}
}

func storeRace(t *testing.T, s playbook.SecretStore) {
	const writers = 8
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() { _, errs[i] = s.Put(t.Context(), "a", secret.New(fmt.Sprint(i)), 0) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, playbook.ErrConflict):
			t.Errorf("a losing writer got %v, want ErrConflict", err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won, want 1", won)
	}
}

func storeCancelled(t *testing.T, s playbook.SecretStore) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want context.Canceled", err)
	}
	if _, err := s.Put(ctx, "a", secret.New("v"), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v, want context.Canceled", err)
	}
}

func storeOddValue(t *testing.T, s playbook.SecretStore) {
	odd := "ünï\n\"quoted\" <&> " + strings.Repeat("x", 4000)
	if _, err := s.Put(t.Context(), "a", secret.New(odd), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "a"); err != nil || got.Value.Reveal() != odd {
		t.Errorf("another value came back (err %v)", err)
	}
}

// ProviderSuite proves that a key provider keeps its contract. open gives a
// provider of a network with one working key.
func ProviderSuite(t *testing.T, open func(t *testing.T) (playbook.KeyProvider, secret.Value)) {
	t.Run("the life of a key", func(t *testing.T) {
		t.Parallel()
		p, first := open(t)
		providerLife(t, p, first)
	})
	t.Run("a plan can name every call", func(t *testing.T) {
		t.Parallel()
		p, _ := open(t)
		c := p.Capabilities()
		for _, op := range []playbook.Operation{playbook.OpIssue, playbook.OpList, playbook.OpRevoke, playbook.OpMint} {
			if c.Calls[op] == "" {
				t.Errorf("Capabilities().Calls lacks %s", op)
			}
		}
		if c.Name == "" {
			t.Error("a provider needs a name")
		}
	})
	t.Run("a key that does not exist", func(t *testing.T) {
		t.Parallel()
		p, _ := open(t)
		if err := p.Revoke(t.Context(), "no-such-id"); !errors.Is(err, playbook.ErrRefused) {
			t.Errorf("Revoke: %v, want ErrRefused", err)
		}
		res, err := p.Mint(t.Context(), playbook.MintRequest{Key: secret.New("no-such-key"), UserID: "u", RequestID: "r"})
		if err != nil || res.OK || !res.Dead {
			t.Errorf("Mint with an unknown key = %+v, %v, want dead", res, err)
		}
	})
	t.Run("a cancelled call", func(t *testing.T) {
		t.Parallel()
		p, _ := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.List(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("List: %v, want context.Canceled", err)
		}
	})
}

func providerLife(t *testing.T, p playbook.KeyProvider, first secret.Value) {
	ctx := t.Context()
	if res, err := p.Mint(ctx, playbook.MintRequest{Key: first, UserID: "u", RequestID: "r1"}); err != nil || !res.OK {
		t.Fatalf("the first key does not mint: %+v, %v", res, err)
	}
	k, err := p.Issue(ctx, "label-1")
	if err != nil || k.ID == "" || k.Value.Empty() {
		t.Fatalf("Issue = %q, %v", k.ID, err)
	}
	if res, err := p.Mint(ctx, playbook.MintRequest{Key: k.Value, UserID: "u", RequestID: "r2"}); err != nil || !res.OK {
		t.Errorf("the new key does not mint: %+v, %v", res, err)
	}
	listed := find(t, p, k.ID)
	h := sha256.Sum256([]byte(k.Value.Reveal()))
	if listed.Label != "label-1" || !listed.Active || listed.Digest != "" && listed.Digest != hex.EncodeToString(h[:]) {
		t.Errorf("List gives %+v", listed)
	}
	for range 2 { // the second time it is dead already
		if err := p.Revoke(ctx, k.ID); err != nil {
			t.Errorf("Revoke: %v", err)
		}
	}
	if find(t, p, k.ID).Active {
		t.Error("a revoked key is listed as active")
	}
	if res, err := p.Mint(ctx, playbook.MintRequest{Key: k.Value, UserID: "u", RequestID: "r3"}); err != nil || res.OK || !res.Dead {
		t.Errorf("a revoked key mints: %+v, %v", res, err)
	}
}

func find(t *testing.T, p playbook.KeyProvider, id string) playbook.ProviderKey {
	t.Helper()
	keys, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == id {
			return k
		}
	}
	t.Fatalf("key %s is not listed", id)
	return playbook.ProviderKey{}
}
