package platform

import (
	"crypto/subtle"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Op names an operation that a fault can hit.
type Op string

// The operations.
const (
	OpMint    Op = "mint"
	OpSession Op = "session"
	OpIssue   Op = "issue"
	OpList    Op = "list"
	OpRevoke  Op = "revoke"
	OpSweep   Op = "sweep" // revoke the sessions of a user
)

// FaultKind is how an operation goes wrong.
type FaultKind string

// The faults.
const (
	Hang        FaultKind = "hang"               // answer nothing, do nothing
	Error500    FaultKind = "500"                // do nothing, answer 500
	ResetBefore FaultKind = "reset"              // do nothing, cut the connection
	ResetAfter  FaultKind = "reset_after_accept" // do it, then cut the connection without an answer
	Error500Did FaultKind = "500_after_accept"   // do it, then answer 500
)

// Fault makes the next Times calls of an operation go wrong.
type Fault struct {
	Kind  FaultKind `json:"kind"`
	Times int       `json:"times"`
}

// SetFault arms a fault; one with Times 0 disarms.
func (p *Platform) SetFault(op Op, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[op] = &f
}

// takeFault uses one fault up.
func (p *Platform) takeFault(op Op) FaultKind {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.faults[op]
	if f == nil || f.Times == 0 {
		return ""
	}
	f.Times--
	return f.Kind
}

// Handler serves the API.
func (p *Platform) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v4/authentication/token", p.faulty(OpMint, p.mint))
	mux.HandleFunc("POST /api/v4/sessions", p.faulty(OpSession, p.openSession))
	mux.HandleFunc("POST /sessions", p.faulty(OpSession, p.openSession))
	mux.HandleFunc("DELETE /api/v4/sessions/users/{user}", p.admin(p.faulty(OpSweep, p.sweep)))
	mux.HandleFunc("POST /admin/v1/keys", p.admin(p.faulty(OpIssue, p.issue)))
	mux.HandleFunc("GET /admin/v1/keys", p.admin(p.faulty(OpList, p.list)))
	mux.HandleFunc("DELETE /admin/v1/keys/{id}", p.admin(p.faulty(OpRevoke, p.revoke)))
	mux.HandleFunc("POST /admin/v1/faults/{op}", p.admin(p.arm))
	return mux
}

// faulty lets an armed fault hit a handler.
func (p *Platform) faulty(op Op, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch p.takeFault(op) {
		case "":
			next(w, r)
		case Hang:
			// Only with the body read does the server notice that the client left.
			_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<16))
			t := time.NewTimer(p.cfg.HangFor)
			defer t.Stop()
			select {
			case <-r.Context().Done():
			case <-t.C:
			}
			cut(w)
		case Error500:
			answer(w, http.StatusInternalServerError, map[string]string{"code": "internal"})
		case ResetBefore:
			cut(w)
		case ResetAfter:
			next(swallow{header: http.Header{}}, r)
			cut(w)
		case Error500Did:
			next(swallow{header: http.Header{}}, r)
			answer(w, http.StatusInternalServerError, map[string]string{"code": "internal"})
		}
	}
}

// swallow takes an answer that nobody will see.
type swallow struct{ header http.Header }

func (s swallow) Header() http.Header         { return s.header }
func (s swallow) Write(b []byte) (int, error) { return len(b), nil }
func (s swallow) WriteHeader(int)             {}

// cut ends the connection without an answer.
func cut(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	c, _, err := h.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func (p *Platform) admin(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(got), []byte(p.cfg.AdminToken.Reveal())) != 1 {
			answer(w, http.StatusUnauthorized, map[string]string{"code": "not_an_admin"})
			return
		}
		next(w, r)
	}
}

// mint answers POST /api/v4/authentication/token. The optional issuedAt is the
// caller's clock, which the token's times start from.
func (p *Platform) mint(w http.ResponseWriter, r *http.Request) {
	var req struct {
		UserID   string    `json:"userId"`
		IssuedAt time.Time `json:"issuedAt"`
	}
	if !decode(w, r, &req) {
		return
	}
	key := r.Header.Get("x-server-key")
	now := p.deps.Now()
	if req.IssuedAt.IsZero() {
		req.IssuedAt = now
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.secure:
		answer(w, http.StatusForbidden, map[string]string{"code": "secure_mode_off"})
	case !p.answers(key):
		p.stats.MintsRefused++
		answer(w, http.StatusUnauthorized, map[string]string{"code": "invalid_server_key"})
	case req.UserID == "":
		answer(w, http.StatusBadRequest, map[string]string{"code": "bad_request"})
	default:
		p.forgetExpired(now)
		p.stats.Minted++
		t := "at_" + random(16)
		tok := authToken{user: req.UserID, issued: req.IssuedAt, expires: req.IssuedAt.Add(p.cfg.TokenLife)}
		p.tokens[t] = tok
		answer(w, http.StatusOK, map[string]any{"authToken": t, "issuedAt": tok.issued, "expiresAt": tok.expires})
	}
}

// answers reports whether a key is alive; the caller holds the lock.
func (p *Platform) answers(key string) bool {
	for _, k := range p.keys {
		if k.active && k.value == key {
			return true
		}
	}
	return false
}

// maxTokens bounds the tokens that the platform remembers.
const maxTokens = 100_000

// forgetExpired keeps the map of tokens bounded; the caller holds the lock.
func (p *Platform) forgetExpired(now time.Time) {
	if len(p.tokens) < maxTokens {
		return
	}
	for t, a := range p.tokens {
		if now.After(a.expires.Add(p.cfg.Leeway)) {
			delete(p.tokens, t)
		}
	}
	if len(p.tokens) >= maxTokens {
		clear(p.tokens)
	}
}

func (p *Platform) openSession(w http.ResponseWriter, r *http.Request) {
	var req struct {
		UserID    string `json:"userId"`
		AuthToken string `json:"authToken"`
	}
	if !decode(w, r, &req) {
		return
	}
	now := p.deps.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	tok, known := p.tokens[req.AuthToken]
	refuse := func(status int, code string) {
		p.stats.SessionsRefused++
		answer(w, status, map[string]string{"code": code})
	}
	switch {
	case p.banned[req.UserID]:
		refuse(http.StatusUnauthorized, "user_banned")
	case req.AuthToken == "":
		refuse(http.StatusForbidden, "missing_auth_token")
	case !known || tok.user != req.UserID:
		refuse(http.StatusForbidden, "invalid_auth_token")
	case tok.issued.After(now.Add(p.cfg.Leeway)):
		refuse(http.StatusForbidden, "auth_token_not_yet_valid")
	case now.After(tok.expires.Add(p.cfg.Leeway)):
		refuse(http.StatusForbidden, "auth_token_expired")
	default:
		delete(p.tokens, req.AuthToken)
		p.sessions[req.UserID]++
		p.stats.Sessions++
		answer(w, http.StatusOK, map[string]any{"accessToken": "ac_" + random(16), "expiresAt": now.Add(p.cfg.AccessLife)})
	}
}

func (p *Platform) sweep(w http.ResponseWriter, r *http.Request) {
	user := r.PathValue("user")
	p.mu.Lock()
	n := p.sessions[user]
	delete(p.sessions, user)
	p.stats.SessionsRevoked += n
	p.mu.Unlock()
	answer(w, http.StatusOK, map[string]int{"revoked": n})
}

func (p *Platform) issue(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Label string `json:"label"`
	}
	if !decode(w, r, &req) {
		return
	}
	id, key := p.IssueKey(req.Label)
	answer(w, http.StatusCreated, map[string]string{"id": id, "key": key.Reveal()})
}

// KeyInfo is one entry of GET /admin/v1/keys.
type KeyInfo struct {
	ID       string    `json:"id"`
	Label    string    `json:"label"`
	Digest   string    `json:"sha256"`
	Active   bool      `json:"active"`
	IssuedAt time.Time `json:"issuedAt"`
}

func (p *Platform) list(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	out := make([]KeyInfo, 0, len(p.keys))
	for _, k := range p.keys {
		out = append(out, KeyInfo{ID: k.id, Label: k.label, Digest: digest(k.value), Active: k.active, IssuedAt: k.issued})
	}
	p.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"overlap": p.cfg.Overlap, "keys": out})
}

func (p *Platform) revoke(w http.ResponseWriter, r *http.Request) {
	if !p.RevokeKey(r.PathValue("id")) {
		answer(w, http.StatusNotFound, map[string]string{"code": "no_such_key"})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *Platform) arm(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if !decode(w, r, &f) {
		return
	}
	p.SetFault(Op(r.PathValue("op")), f)
	w.WriteHeader(http.StatusNoContent)
}

// decode reads a small JSON body, or answers 400.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(into); err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"code": "bad_request"})
		return false
	}
	return true
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
