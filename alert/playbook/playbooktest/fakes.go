package playbooktest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/internal/secret"
)

// MemStore is a secret store in memory.
type MemStore struct {
	mu      sync.Mutex
	secrets map[string][]secret.Value
}

var _ playbook.SecretStore = (*MemStore)(nil)

// Describe names the entry.
func (s *MemStore) Describe(name string) string { return name + " in memory" }

// Get returns the newest version.
func (s *MemStore) Get(ctx context.Context, name string) (playbook.Stored, error) {
	s.mu.Lock()
	n := len(s.secrets[name])
	s.mu.Unlock()
	return s.GetVersion(ctx, name, int64(n))
}

// GetVersion returns one version.
func (s *MemStore) GetVersion(ctx context.Context, name string, n int64) (playbook.Stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return playbook.Stored{}, err
	}
	if n < 1 || n > int64(len(s.secrets[name])) {
		return playbook.Stored{}, playbook.ErrNotFound
	}
	return playbook.Stored{Value: s.secrets[name][n-1], Version: n}, nil
}

// Put adds a version if the newest one is expect.
func (s *MemStore) Put(ctx context.Context, name string, v secret.Value, expect int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if int64(len(s.secrets[name])) != expect {
		return 0, playbook.ErrConflict
	}
	if s.secrets == nil {
		s.secrets = map[string][]secret.Value{}
	}
	s.secrets[name] = append(s.secrets[name], v)
	return expect + 1, nil
}

// Journal is a journal in memory: everything is accepted at once. Followers see
// each record, as the members of a group do.
type Journal struct {
	mu        sync.Mutex
	records   []journal.Record
	followers []func(journal.Record) error
}

// Append accepts entries.
func (j *Journal) Append(ctx context.Context, entries ...journal.Entry) ([]journal.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	j.mu.Lock()
	var out []journal.Record
	for _, e := range entries {
		b, err := json.Marshal(e.Body)
		if err != nil {
			j.mu.Unlock()
			return nil, err
		}
		rec := journal.Record{N: int64(len(j.records)) + 1, Time: e.Time, Kind: e.Kind, Body: b}
		j.records = append(j.records, rec)
		out = append(out, rec)
	}
	followers := j.followers
	j.mu.Unlock()
	for _, rec := range out {
		for _, f := range followers {
			if err := f(rec); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// Follow calls f with every record so far, and with each later one.
func (j *Journal) Follow(f func(journal.Record) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, rec := range j.records {
		if err := f(rec); err != nil {
			return err
		}
	}
	j.followers = append(j.followers, f)
	return nil
}

// Records returns everything accepted so far.
func (j *Journal) Records() []journal.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]journal.Record{}, j.records...)
}

// InProcess serves requests by calling h in the goroutine of the caller. A
// handler that aborts (http.ErrAbortHandler) is a cut connection.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ h http.Handler }

func (t inProcess) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(error); !ok || !errors.Is(e, http.ErrAbortHandler) {
				panic(p)
			}
			resp, err = nil, errors.New("connection reset by peer")
			if ctxErr := req.Context().Err(); ctxErr != nil {
				err = ctxErr
			}
		}
	}()
	rec := httptest.NewRecorder()
	t.h.ServeHTTP(rec, req)
	return rec.Result(), nil
}
