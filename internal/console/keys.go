package console

import (
	"context"
	"net/http"
	"net/url"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// KeyRoom is the registry of server keys.
type KeyRoom interface {
	// Keys lists the keys of a network, or of all when it is empty.
	Keys(network string) ([]Key, error)
	// Adopt names the key by its fingerprint, asks the platform and records the
	// decision. It keeps no value. An error means that nothing was recorded.
	Adopt(ctx context.Context, a Adoption) (journal.Decision, error)
}

// Key is one key of the registry.
type Key struct {
	Network   string        `json:"network"`
	KeyID     string        `json:"key_id"`
	State     string        `json:"state"` // created, active, retired, revoked
	Created   event.Instant `json:"created,omitempty"`
	Activated event.Instant `json:"activated,omitempty"`
	Retired   event.Instant `json:"retired,omitempty"`
	Revoked   event.Instant `json:"revoked,omitempty"`
	// ToldBy is who told it last: lifecycle, run, person:ID, or what ClickHouse says.
	ToldBy string `json:"told_by"`
	// Probed: the platform was asked when the key was adopted, and agreed.
	Probed bool `json:"probed"`
	// Believed: the entry decides causes. One that a person told and no probe agreed
	// to does not.
	Believed bool `json:"believed"`
}

// Adoption is a person's word that a key is one of ours.
type Adoption struct {
	Person, Network string
	Value           secret.Value
	Created         event.Instant // absent: unknown
	NoProbe         bool
	Reason          string
}

// AdoptRequest is the body of POST /api/v1/keys/adopt. Value is the key itself: it
// travels to the daemon and from there to the platform, and is kept nowhere.
type AdoptRequest struct {
	Network string        `json:"network"`
	Value   string        `json:"value"`
	Created event.Instant `json:"created,omitempty"`
	NoProbe bool          `json:"no_probe,omitempty"`
	Reason  string        `json:"reason,omitempty"`
}

// maxKey bounds the value of a key.
const maxKey = 4096

func (s *Server) keys(w http.ResponseWriter, r *http.Request) {
	rows, err := s.deps.Keys.Keys(r.URL.Query().Get("network"))
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	reply(w, http.StatusOK, rows)
}

func (s *Server) adopt(w http.ResponseWriter, r *http.Request) {
	who, ok := s.person(w, r)
	if !ok {
		return
	}
	req, ok := decode[AdoptRequest](w, r)
	switch {
	case !ok:
		return
	case req.Value == "" || len(req.Value) > maxKey:
		fail(w, http.StatusBadRequest, "value: the key itself is needed, at most 4096 bytes")
		return
	}
	d, err := s.deps.Keys.Adopt(r.Context(), Adoption{Person: who, Network: req.Network, Value: secret.New(req.Value), Created: req.Created,
		NoProbe: req.NoProbe, Reason: req.Reason})
	switch {
	case err != nil:
		fail(w, http.StatusServiceUnavailable, err.Error())
	case d.Refused != "":
		reply(w, http.StatusConflict, Answer{Error: d.Refused, Decision: &d})
	default:
		reply(w, http.StatusOK, Answer{Decision: &d})
	}
}

// Keys lists the keys of a network, or of all.
func (c *Client) Keys(ctx context.Context, network string) (out []Key, err error) {
	return out, c.do(ctx, http.MethodGet, "/api/v1/keys?network="+url.QueryEscape(network), nil, &out)
}

// Adopt sends a key that is one of ours.
func (c *Client) Adopt(ctx context.Context, req AdoptRequest) (journal.Decision, error) {
	var out Answer
	if err := c.do(ctx, http.MethodPost, "/api/v1/keys/adopt", req, &out); err != nil {
		return journal.Decision{}, err
	}
	return *out.Decision, nil
}
