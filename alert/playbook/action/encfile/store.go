// Package encfile is a secret store in one local file, encrypted with age to an
// identity that lies in another file, and an escrow that encrypts to an
// operator's recipient.
//
// A write is atomic and durable: a new file is written and synced beside the old
// one and renamed over it, and the folder is synced. Writers of several
// processes exclude each other by a lock file; readers need no lock.
package encfile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"

	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/internal/secret"
)

// Config says where the store is.
type Config struct {
	// Path is the encrypted file; it is made at the first write.
	Path string `yaml:"path"`
	// IdentityFile holds an age X25519 identity (AGE-SECRET-KEY-1...), as
	// age-keygen writes it.
	IdentityFile string `yaml:"identity_file"`
	// Keep is how many versions of a secret are kept.
	Keep int `yaml:"keep"`
}

// DefaultConfig keeps 20 versions.
func DefaultConfig() Config { return Config{Keep: 20} }

// Validate reports every fault by its path.
func (c Config) Validate() []error {
	var errs []error
	if c.Path == "" {
		errs = append(errs, errors.New("path: give the file that holds the secrets"))
	}
	if c.IdentityFile == "" {
		errs = append(errs, errors.New("identity_file: give a file with an age identity"))
	}
	if c.Keep < 2 {
		errs = append(errs, errors.New("keep: at least 2, so that the old key can be restored"))
	}
	return errs
}

// Store implements playbook.SecretStore.
type Store struct {
	cfg      Config
	identity *age.X25519Identity

	mu     sync.Mutex
	cached content
	stamp  stamp
}

var _ playbook.SecretStore = (*Store)(nil)

// content is what the file holds, decrypted.
type content map[string][]version

type version struct {
	Version int64  `json:"version"`
	Value   string `json:"value"`
}

// stamp tells whether the file has changed since it was read.
type stamp struct {
	info fs.FileInfo
}

func (s stamp) same(info fs.FileInfo) bool {
	return s.info != nil && os.SameFile(s.info, info) && s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime())
}

// New reads the identity.
func New(cfg Config) (*Store, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	id, err := readIdentity(cfg.IdentityFile)
	if err != nil {
		return nil, err
	}
	return &Store{cfg: cfg, identity: id}, nil
}

// GenerateIdentity writes a new identity to path, which must not exist, readable
// by its owner only.
func GenerateIdentity(path string) error {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("generate an identity: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the identity: %w", err)
	}
	if _, err := fmt.Fprintf(f, "# public key: %s\n%s\n", id.Recipient(), id); err != nil {
		return errors.Join(fmt.Errorf("write the identity: %w", err), f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

func readIdentity(path string) (*age.X25519Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read identity_file: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, err := age.ParseX25519Identity(line)
		if err != nil {
			return nil, fmt.Errorf("identity_file %s holds no age X25519 identity", path) // the cause may quote it
		}
		return id, nil
	}
	return nil, fmt.Errorf("identity_file %s is empty", path)
}

// Describe names the entry and the file.
func (s *Store) Describe(name string) string { return name + " in " + s.cfg.Path }

// Get returns the newest version.
func (s *Store) Get(ctx context.Context, name string) (playbook.Stored, error) {
	return s.get(ctx, name, func(vs []version) (version, bool) { return vs[len(vs)-1], true })
}

// GetVersion returns one version.
func (s *Store) GetVersion(ctx context.Context, name string, n int64) (playbook.Stored, error) {
	return s.get(ctx, name, func(vs []version) (version, bool) {
		for _, v := range vs {
			if v.Version == n {
				return v, true
			}
		}
		return version{}, false
	})
}

func (s *Store) get(ctx context.Context, name string, pick func([]version) (version, bool)) (playbook.Stored, error) {
	if err := ctx.Err(); err != nil {
		return playbook.Stored{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.load()
	if err != nil {
		return playbook.Stored{}, err
	}
	if len(c[name]) == 0 {
		return playbook.Stored{}, playbook.ErrNotFound
	}
	v, ok := pick(c[name])
	if !ok {
		return playbook.Stored{}, playbook.ErrNotFound
	}
	return playbook.Stored{Value: secret.New(v.Value), Version: v.Version}, nil
}

// Put adds a version if the newest one is expect.
func (s *Store) Put(ctx context.Context, name string, v secret.Value, expect int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := lock(ctx, s.cfg.Path+".lock")
	if err != nil {
		return 0, fmt.Errorf("lock the secret store: %w", err)
	}
	defer unlock()
	c, err := s.load()
	if err != nil {
		return 0, err
	}
	var newest int64
	if vs := c[name]; len(vs) > 0 {
		newest = vs[len(vs)-1].Version
	}
	if newest != expect {
		return 0, playbook.ErrConflict
	}
	next := make(content, len(c)+1)
	for k, vs := range c {
		next[k] = vs
	}
	vs := append(append([]version{}, c[name]...), version{Version: newest + 1, Value: v.Reveal()})
	next[name] = vs[max(0, len(vs)-s.cfg.Keep):]
	if err := s.save(next); err != nil {
		return 0, err
	}
	return newest + 1, nil
}

// maxFile bounds the decrypted content.
const maxFile = 16 << 20

// load decrypts the file unless it is as it was; a missing file is empty.
func (s *Store) load() (content, error) {
	info, err := os.Stat(s.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return content{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret store: %w", err)
	}
	if s.stamp.same(info) {
		return s.cached, nil
	}
	b, err := os.ReadFile(s.cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("read the secret store: %w", err)
	}
	r, err := age.Decrypt(bytes.NewReader(b), s.identity)
	if err != nil {
		return nil, fmt.Errorf("decrypt the secret store: %w", err)
	}
	var c content
	if err := json.NewDecoder(io.LimitReader(r, maxFile)).Decode(&c); err != nil {
		return nil, errors.New("the secret store decrypts to something else than secrets")
	}
	s.cached, s.stamp = c, stamp{info}
	return c, nil
}

func (s *Store) save(c content) error {
	plain, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the secret store: %w", err)
	}
	sealed, err := seal(plain, s.identity.Recipient())
	if err != nil {
		return err
	}
	s.stamp = stamp{} // read again, whatever comes of the write
	return writeDurably(s.cfg.Path, sealed)
}

func seal(plain []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out.Bytes(), nil
}

// writeDurably replaces path by b: either the old content or the new is there
// after a crash, never a part.
func writeDurably(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write the secret store: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after the rename
	if _, err := f.Write(b); err != nil {
		return errors.Join(fmt.Errorf("write the secret store: %w", err), f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the secret store: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write the secret store: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the folder of the secret store: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
