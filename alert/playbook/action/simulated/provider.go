// Package simulated is the key provider of the simulated platform: it speaks to
// the admin API and the mint endpoint of internal/simulate/platform over HTTP,
// as a provider for a real platform would to that one's.
//
// It keeps no state. An answer that says "no" is playbook.ErrRefused; anything
// else that is not a clear answer leaves the outcome unknown.
package simulated

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// Config says where the platform is.
type Config struct {
	URL string `yaml:"url"` // base URL of the administration of the platform
	// AdminToken opens the admin API.
	AdminToken secret.Ref `yaml:"admin_token"`
	// Timeout bounds one call.
	Timeout time.Duration `yaml:"timeout"`
}

// DefaultConfig has no address.
func DefaultConfig() Config { return Config{Timeout: 10 * time.Second} }

// Validate reports every fault by its path.
func (c Config) Validate() []error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, errors.New("url: give the platform's address, as https://host"))
	}
	if err := c.AdminToken.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("admin_token: %w", err))
	}
	if c.Timeout <= 0 {
		errs = append(errs, errors.New("timeout: must be above zero"))
	}
	return errs
}

// Deps is what a Provider works with.
type Deps struct {
	AdminToken secret.Value // Config.AdminToken, resolved
	Client     *http.Client // nil: a client of its own
}

// Provider implements playbook.KeyProvider.
type Provider struct {
	url    string
	token  secret.Value
	client *http.Client
	limit  time.Duration
}

var _ playbook.KeyProvider = (*Provider)(nil)

// New builds a provider. It calls nothing.
func New(cfg Config, deps Deps) (*Provider, error) {
	if deps.AdminToken.Empty() {
		return nil, errors.New("simulated platform: the admin token is empty")
	}
	if cfg.URL == "" || cfg.Timeout <= 0 {
		return nil, errors.New("simulated platform: url and timeout are needed")
	}
	client := deps.Client
	if client == nil {
		client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second}}
	}
	// A redirect would take the keys to whom it names, and that one's answer would
	// count as the platform's.
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client = &own
	return &Provider{url: strings.TrimSuffix(cfg.URL, "/"), token: deps.AdminToken, client: client, limit: cfg.Timeout}, nil
}

const (
	keysPath = "/admin/v1/keys"
	mintPath = "/api/v4/authentication/token"
)

// Capabilities says that everything goes by API; whether keys overlap is learnt
// by the test step.
func (p *Provider) Capabilities() playbook.Capabilities {
	return playbook.Capabilities{Name: "simulated platform", Issue: true, List: true, Revoke: true, Overlap: playbook.OverlapUnknown,
		Calls: map[playbook.Operation]string{
			playbook.OpIssue:  "POST " + p.url + keysPath,
			playbook.OpList:   "GET " + p.url + keysPath,
			playbook.OpRevoke: "DELETE " + p.url + keysPath + "/ID",
			playbook.OpMint:   "POST " + p.url + mintPath,
		}}
}

// Issue makes a key.
func (p *Provider) Issue(ctx context.Context, label string) (playbook.IssuedKey, error) {
	var out struct {
		ID  string `json:"id"`
		Key string `json:"key"`
	}
	status, err := p.call(ctx, request{method: http.MethodPost, path: keysPath, body: map[string]string{"label": label}, admin: true}, &out)
	if err != nil {
		return playbook.IssuedKey{}, err
	}
	if status != http.StatusCreated {
		return playbook.IssuedKey{}, unexpected("issue a key", status)
	}
	if out.ID == "" || out.Key == "" {
		return playbook.IssuedKey{}, errors.New("issue a key: the answer lacks the id or the key")
	}
	return playbook.IssuedKey{ID: out.ID, Value: secret.New(out.Key)}, nil
}

// List returns every key.
func (p *Provider) List(ctx context.Context) ([]playbook.ProviderKey, error) {
	var out struct {
		Keys []struct {
			ID       string    `json:"id"`
			Label    string    `json:"label"`
			Digest   string    `json:"sha256"`
			Active   bool      `json:"active"`
			IssuedAt time.Time `json:"issuedAt"`
		} `json:"keys"`
	}
	status, err := p.call(ctx, request{method: http.MethodGet, path: keysPath, admin: true}, &out)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, unexpected("list keys", status)
	}
	keys := make([]playbook.ProviderKey, 0, len(out.Keys))
	for _, k := range out.Keys {
		keys = append(keys, playbook.ProviderKey{ID: k.ID, Label: k.Label, Digest: k.Digest, Active: k.Active, Issued: event.At(k.IssuedAt)})
	}
	return keys, nil
}

// Revoke kills a key.
func (p *Provider) Revoke(ctx context.Context, id string) error {
	status, err := p.call(ctx, request{method: http.MethodDelete, path: keysPath + "/" + url.PathEscape(id), admin: true}, nil)
	if err != nil {
		return err
	}
	if status != http.StatusNoContent {
		return unexpected("revoke a key", status)
	}
	return nil
}

// Mint asks for a token and drops it.
func (p *Provider) Mint(ctx context.Context, req playbook.MintRequest) (playbook.MintResult, error) {
	status, err := p.call(ctx, request{method: http.MethodPost, path: mintPath, body: map[string]string{"userId": req.UserID},
		header: http.Header{"X-Server-Key": {req.Key.Reveal()}, "X-Request-Id": {req.RequestID}}}, nil)
	if err != nil {
		return playbook.MintResult{}, err
	}
	return playbook.MintResult{OK: status == http.StatusOK, Dead: status == http.StatusUnauthorized, Status: status}, nil
}

// unexpected tells a clear refusal (4xx) from an answer that leaves open whether
// something happened.
func unexpected(what string, status int) error {
	if status >= 400 && status < 500 {
		return fmt.Errorf("%s: %w: status %d", what, playbook.ErrRefused, status)
	}
	return fmt.Errorf("%s: status %d", what, status)
}

type request struct {
	method, path string
	body         any
	header       http.Header
	admin        bool
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// call sends one request. Errors name the method and path, never headers or
// bodies: those hold keys.
func (p *Provider) call(ctx context.Context, r request, into any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	var body io.Reader = http.NoBody
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return 0, fmt.Errorf("encode a request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, p.url+r.path, body)
	if err != nil {
		return 0, fmt.Errorf("build a request: %w", err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	if r.admin {
		req.Header.Set("Authorization", "Bearer "+p.token.Reveal())
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", r.method, r.path, withoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	limited := io.LimitReader(resp.Body, maxAnswer)
	if into == nil || resp.StatusCode >= 300 {
		_, _ = io.Copy(io.Discard, limited)
		return resp.StatusCode, nil
	}
	if err := json.NewDecoder(limited).Decode(into); err != nil {
		return 0, fmt.Errorf("%s %s: read the answer: %w", r.method, r.path, err)
	}
	return resp.StatusCode, nil
}

// withoutURL drops the URL that net/http puts in front, which may hold user
// information.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
