package encfile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/alert/playbook/playbooktest"
	"github.com/keysentry/keysentry/internal/secret"
)

func open(t *testing.T) (*encfile.Store, encfile.Config) {
	t.Helper()
	dir := t.TempDir()
	cfg := encfile.DefaultConfig()
	cfg.Path, cfg.IdentityFile = filepath.Join(dir, "secrets.age"), filepath.Join(dir, "identity")
	if err := encfile.GenerateIdentity(cfg.IdentityFile); err != nil {
		t.Fatal(err)
	}
	s, err := encfile.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, cfg
}

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		playbooktest.StoreSuite(t, func(t *testing.T) playbook.SecretStore { s, _ := open(t); return s })
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		playbooktest.StoreSuite(t, func(*testing.T) playbook.SecretStore { return &playbooktest.MemStore{} })
	})
}

func TestFileHidesSecretsAndIsPrivate(t *testing.T) {
	t.Parallel()
	s, cfg := open(t)
	const plain = "sk_live_very_secret"
	if _, err := s.Put(t.Context(), "key", secret.New(plain), 0); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(plain)) {
		t.Error("the file shows the secret")
	}
	for _, p := range []string{cfg.Path, cfg.IdentityFile} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if perm := info.Mode().Perm(); perm != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(p), perm)
		}
	}
}

func TestAnotherProcessIsSeen(t *testing.T) {
	t.Parallel()
	a, cfg := open(t)
	b, err := encfile.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Put(t.Context(), "key", secret.New("one"), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), "key"); err != nil || got.Value.Reveal() != "one" {
		t.Fatalf("the other store does not see the first write: %v", err)
	}
	if _, err := b.Put(t.Context(), "key", secret.New("two"), 1); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Get(t.Context(), "key"); err != nil || got.Value.Reveal() != "two" || got.Version != 2 {
		t.Errorf("the first store does not see the second write: version %d, %v", got.Version, err)
	}
}

func TestOldVersionsAreDropped(t *testing.T) {
	t.Parallel()
	_, cfg := open(t)
	cfg.Keep = 2
	s, err := encfile.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		if _, err := s.Put(t.Context(), "key", secret.New("v"), i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GetVersion(t.Context(), "key", 1); err == nil {
		t.Error("version 1 is still there, want only two kept")
	}
	if _, err := s.GetVersion(t.Context(), "key", 2); err != nil {
		t.Errorf("version 2 is gone: %v", err)
	}
}

func TestBrokenFileIsAnErrorAndStays(t *testing.T) {
	t.Parallel()
	s, cfg := open(t)
	if err := os.WriteFile(cfg.Path, []byte("not age"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "key"); err == nil {
		t.Error("Get of a broken file succeeds")
	}
	if _, err := s.Put(t.Context(), "key", secret.New("v"), 0); err == nil {
		t.Error("Put over a broken file succeeds")
	}
	if b, _ := os.ReadFile(cfg.Path); string(b) != "not age" {
		t.Error("the broken file was replaced: an operator may still need it")
	}
}

func TestFaultyConfigAndIdentity(t *testing.T) {
	t.Parallel()
	_, good := open(t)
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("AGE-SECRET-KEY-1NOTAKEY\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*encfile.Config)
		want   string
	}{
		"no path":        {func(c *encfile.Config) { c.Path = "" }, "path: "},
		"no identity":    {func(c *encfile.Config) { c.IdentityFile = "" }, "identity_file: "},
		"keep one":       {func(c *encfile.Config) { c.Keep = 1 }, "keep: "},
		"absent file":    {func(c *encfile.Config) { c.IdentityFile = bad + "x" }, "read identity_file"},
		"bad identity":   {func(c *encfile.Config) { c.IdentityFile = bad }, "holds no age"},
		"other identity": {func(c *encfile.Config) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tc.change(&cfg)
			_, err := encfile.New(cfg)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("New: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("New: %v, want an error with %q", err, tc.want)
			case err != nil && strings.Contains(err.Error(), "NOTAKEY"):
				t.Errorf("the error quotes the identity: %v", err)
			}
		})
	}
}

func TestEscrowOpensWithTheOperatorsIdentityOnly(t *testing.T) {
	t.Parallel()
	operator, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	// The folder need not be there: the hour of need is no time to find that out.
	dir := filepath.Join(t.TempDir(), "escrow", "keys")
	e, err := encfile.NewEscrow(dir, operator.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	path, err := e.Deposit(t.Context(), "run/../1", secret.New("sk_live_x"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(b), operator)
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(r); err != nil || plain.String() != "sk_live_x" {
		t.Errorf("another secret came out (err %v)", err)
	}
	if _, err := encfile.NewEscrow(t.TempDir(), "age1nonsense"); err == nil {
		t.Error("a nonsense recipient is accepted")
	}
}
