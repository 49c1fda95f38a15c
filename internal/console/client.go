package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/internal/secret"
)

// Client asks a running daemon, as the command line does.
type Client struct {
	base       string
	credential secret.Value
	http       *http.Client
}

// ErrNoDaemon says that nothing answers at the address.
var ErrNoDaemon = errors.New("no daemon answers")

// Refused is the daemon's no: the request was understood and not carried out.
type Refused struct {
	Status  int
	Message string
}

func (r *Refused) Error() string { return r.Message }

// NewClient asks the daemon at base (as http://127.0.0.1:8340). The credential
// may be empty for reading.
func NewClient(base string, credential secret.Value, caFile string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("%q is no address of a daemon; give one like http://127.0.0.1:8340", base)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) && !credential.Empty() {
		return nil, fmt.Errorf("a credential is not sent over plain http to %s; use https", u.Host)
	}
	t, err := transport(caFile)
	if err != nil {
		return nil, err
	}
	// No daemon redirects: whoever does is not to have the credential.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: base, credential: credential, http: &http.Client{Transport: t, Timeout: 20 * time.Second, CheckRedirect: stay}}, nil
}

// Status asks how the daemon is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, http.MethodGet, "/api/v1/status", nil, &s)
}

// Incidents lists the incidents, newest first.
func (c *Client) Incidents(ctx context.Context) (out []incident.Incident, err error) {
	return out, c.do(ctx, http.MethodGet, "/api/v1/incidents", nil, &out)
}

// Incident returns one incident.
func (c *Client) Incident(ctx context.Context, id string) (out incident.Incident, err error) {
	return out, c.do(ctx, http.MethodGet, "/api/v1/incidents/"+url.PathEscape(id), nil, &out)
}

// Runs lists the runs, newest first.
func (c *Client) Runs(ctx context.Context) (out []incident.Run, err error) {
	return out, c.do(ctx, http.MethodGet, "/api/v1/runs", nil, &out)
}

// Run returns one run.
func (c *Client) Run(ctx context.Context, id string) (out incident.Run, err error) {
	return out, c.do(ctx, http.MethodGet, "/api/v1/runs/"+url.PathEscape(id), nil, &out)
}

// Posture returns the scorecard.
func (c *Client) Posture(ctx context.Context) (out posture.Scorecard, err error) {
	return out, c.do(ctx, http.MethodGet, "/api/v1/posture", nil, &out)
}

// Decide sends a decision. A refusal is a *Refused.
func (c *Client) Decide(ctx context.Context, d journal.Decision) (journal.Decision, error) {
	var out Answer
	if err := c.do(ctx, http.MethodPost, "/api/v1/decisions", d, &out); err != nil {
		return d, err
	}
	return *out.Decision, nil
}

// Plan asks for a plan.
func (c *Client) Plan(ctx context.Context, req PlanRequest) (out journal.RunPlanned, err error) {
	return out, c.do(ctx, http.MethodPost, "/api/v1/plans", req, &out)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if !c.credential.Empty() {
		req.Header.Set("Authorization", "Bearer "+c.credential.Reveal())
	}
	res, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return fmt.Errorf("%w at %s; is \"keysentry run\" up, and is --server right?", ErrNoDaemon, c.base)
		}
		return fmt.Errorf("ask the daemon: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return refusal(res.StatusCode, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the answer of %s is not Keysentry's: %w", c.base, err)
	}
	return nil
}

func refusal(status int, text []byte) error {
	var a Answer
	if err := json.Unmarshal(text, &a); err != nil || a.Error == "" {
		a.Error = http.StatusText(status)
	}
	return &Refused{Status: status, Message: a.Error}
}
