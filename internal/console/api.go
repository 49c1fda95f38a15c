package console

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
)

// Answer is the body of every error, and of a decision.
type Answer struct {
	Error    string            `json:"error,omitempty"`
	Decision *journal.Decision `json:"decision,omitempty"`
}

// PlanRequest is the body of POST /api/v1/plans.
type PlanRequest struct {
	Playbook   string            `json:"playbook"`
	IncidentID string            `json:"incident_id,omitempty"`
	Network    string            `json:"network,omitempty"`
	Inputs     map[string]string `json:"inputs,omitempty"`
	DryRun     bool              `json:"dry_run,omitempty"`
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// The status is sent; a client that went away is the only error left.
	_ = enc.Encode(v)
}

func fail(w http.ResponseWriter, code int, message string) { reply(w, code, Answer{Error: message}) }

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	st := s.deps.Status()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !st.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, st.Role)
	for _, name := range sortedKeys(st.Parts) {
		fmt.Fprintf(w, "%s: %s\n", name, st.Parts[name])
	}
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.deps.Status())
}

func (s *Server) incidents(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.deps.Desk.Incidents())
}

func (s *Server) incident(w http.ResponseWriter, r *http.Request) {
	inc, ok := s.deps.Desk.Incident(r.PathValue("id"))
	if !ok {
		fail(w, http.StatusNotFound, "no such incident: "+r.PathValue("id"))
		return
	}
	reply(w, http.StatusOK, inc)
}

func (s *Server) runs(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.deps.Desk.Runs())
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	run, ok := s.deps.Desk.Run(r.PathValue("id"))
	if !ok {
		fail(w, http.StatusNotFound, "no such run: "+r.PathValue("id"))
		return
	}
	reply(w, http.StatusOK, run)
}

func (s *Server) posture(w http.ResponseWriter, r *http.Request) {
	card, err := s.deps.Scorecard(r.Context())
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "posture: "+err.Error())
		return
	}
	reply(w, http.StatusOK, card)
}

// person identifies the caller by the bearer token, or answers 401.
func (s *Server) person(w http.ResponseWriter, r *http.Request) (string, bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if ok {
		if id, known := s.deps.Desk.Person(token); known {
			return id, true
		}
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	fail(w, http.StatusUnauthorized, "give a personal credential of the configuration (people[].credential) as a bearer token")
	return "", false
}

func decode[T any](w http.ResponseWriter, r *http.Request) (T, bool) {
	var v T
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		fail(w, http.StatusBadRequest, "body: "+err.Error())
		return v, false
	}
	return v, true
}

func (s *Server) decide(w http.ResponseWriter, r *http.Request) {
	who, ok := s.person(w, r)
	if !ok {
		return
	}
	d, ok := decode[journal.Decision](w, r)
	if !ok {
		return
	}
	if d.Action == journal.ActionAdoptKey {
		fail(w, http.StatusBadRequest, "a key is adopted by its value, which the platform is asked about: POST /api/v1/keys/adopt")
		return
	}
	d.Probe, d.Created = "", 0
	// Who decides is who holds the credential, whatever the body says. Ids are the
	// person's own, so that nobody takes the id of another's click beforehand.
	d.Person, d.Refused = who, ""
	if d.ID != "" {
		d.ID = who + "/" + d.ID
	}
	if d.Via != "console" {
		d.Via = "cli"
	}
	if d, ok = s.record(w, r, d); ok {
		reply(w, http.StatusOK, Answer{Decision: &d})
	}
}

// record passes a decision to the desk, and answers unless it was accepted.
func (s *Server) record(w http.ResponseWriter, r *http.Request, d journal.Decision) (journal.Decision, bool) {
	d, err := s.deps.Desk.Decide(r.Context(), d)
	switch {
	case errors.Is(err, alert.ErrNoDecisionID):
		fail(w, http.StatusBadRequest, err.Error())
	case err != nil:
		fail(w, http.StatusServiceUnavailable, err.Error())
	case d.Refused != "":
		reply(w, http.StatusConflict, Answer{Error: d.Refused, Decision: &d})
	default:
		return d, true
	}
	return d, false
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	who, ok := s.person(w, r)
	if !ok {
		return
	}
	req, ok := decode[PlanRequest](w, r)
	if !ok {
		return
	}
	// A plan holds its network and is shown to everybody: to ask for one is a
	// decision, with an authority of its own.
	what := "plan " + req.Playbook
	if req.DryRun {
		what = "dry run of " + req.Playbook
	}
	if _, ok := s.record(w, r, journal.Decision{ID: who + "/plan-" + rand.Text(), Action: journal.ActionStart, IncidentID: req.IncidentID,
		Person: who, Via: "cli", Reason: what}); !ok {
		return
	}
	planned, err := s.deps.Planner.Plan(r.Context(), playbook.PlanRequest{
		Playbook: req.Playbook, IncidentID: req.IncidentID, Network: req.Network, Inputs: req.Inputs, RequestedBy: who, DryRun: req.DryRun,
	})
	switch {
	case errors.Is(err, playbook.ErrNotLeader):
		fail(w, http.StatusServiceUnavailable, "this member does not lead yet; try again in a few seconds")
	case err != nil:
		fail(w, http.StatusUnprocessableEntity, err.Error())
	default:
		reply(w, http.StatusOK, planned)
	}
}
