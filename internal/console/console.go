// Package console is the HTTP port of the daemon: health, metrics, the JSON API,
// the pages for people, and the door for Slack's clicks. It reads incidents and
// runs and passes decisions on; it decides nothing itself. A standby forwards
// whatever changes something to the leader, with the caller's own credentials,
// so that forwarding needs no trust between the members.
package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/internal/metrics"
)

// Desk is the incident desk: what is known, and where decisions go.
type Desk interface {
	Incidents() []incident.Incident
	Incident(id string) (incident.Incident, bool)
	Runs() []incident.Run
	Run(id string) (incident.Run, bool)
	// Decide checks and records a decision. The answer says in Refused why it had
	// no effect. An error means that nothing was recorded.
	Decide(ctx context.Context, d journal.Decision) (journal.Decision, error)
	// Person finds who a personal credential belongs to.
	Person(credential string) (id string, ok bool)
}

// Planner makes plans on a person's demand.
type Planner interface {
	Plan(ctx context.Context, req playbook.PlanRequest) (journal.RunPlanned, error)
}

// Status is what the daemon says about itself.
type Status struct {
	Version   string            `json:"version"`
	Instance  string            `json:"instance"`
	Role      string            `json:"role"` // leader, standby, starting
	Leader    string            `json:"leader,omitempty"`
	Network   []string          `json:"networks,omitempty"`
	Rules     int               `json:"rules"`
	Parts     map[string]string `json:"parts"` // part -> "ok" or what is wrong
	Ready     bool              `json:"ready"`
	Positions []Position        `json:"positions,omitempty"`
}

// Position is how far one partition was read.
type Position struct {
	Partition string `json:"partition"`
	Detected  int64  `json:"detected"`
	Stored    int64  `json:"stored"`
	End       int64  `json:"end"`
}

// Deps is what the console shows and where it sends what it is asked to do.
type Deps struct {
	Desk    Desk
	Keys    KeyRoom
	Planner Planner
	Status  func() Status
	// Leader is the base URL of the leader when it is another member, else empty.
	Leader    func() string
	Scorecard func(ctx context.Context) (posture.Scorecard, error)
	Slack     http.Handler // may be nil
	Events    http.Handler // takes events over HTTP; nil: nobody may post any
	Metrics   *metrics.Registry
	Logger    *slog.Logger
}

// Server is the HTTP port.
type Server struct {
	cfg      Config
	deps     Deps
	listener net.Listener
	http     *http.Server
	pages    *pages
	forward  *http.Transport
	patience time.Duration // with requests under way at the end
}

// New builds the server and opens its port, so that the address is known before
// anything is served. The caller runs it, or closes it.
func New(cfg Config, deps Deps) (*Server, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	p, err := newPages()
	if err != nil {
		return nil, err
	}
	forward, err := transport(cfg.TLS.CAFile)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w (is another daemon running? change http.listen)", err)
	}
	if cfg.TLS.CertFile != "" {
		cert, err := cfg.certificate()
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	}
	s := &Server{cfg: cfg, deps: deps, listener: l, pages: p, forward: forward, patience: stopTimeout}
	s.http = &http.Server{
		Handler: s.handler(), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(deps.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

func (c Config) certificate() (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile)
	if err != nil {
		return cert, fmt.Errorf("load http.tls: %w", err)
	}
	return cert, nil
}

// CheckFiles reads the files that the section names, without opening the port.
func (c Config) CheckFiles() error {
	_, err := transport(c.TLS.CAFile)
	if c.TLS.CertFile != "" {
		_, certErr := c.certificate()
		err = errors.Join(err, certErr)
	}
	return err
}

// URL is the base URL of this member.
func (s *Server) URL() string { return s.cfg.BaseURL(s.listener.Addr()) }

// Close closes a server that was never run.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, then lets requests under way finish, for a while: half
// of it undisturbed, half of it with their contexts ended, and then they are cut off.
func (s *Server) Run(ctx context.Context) error {
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	s.http.BaseContext = func(net.Listener) context.Context { return requests }
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	defer time.AfterFunc(s.patience/2, cancelRequests).Stop()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience)
	defer cancel()
	err := s.http.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close() // of a slow client; no fault of the daemon's
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stop http: %w", err)
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", s.deps.Metrics.Handler())
	mux.HandleFunc("GET /api/v1/status", s.status)
	mux.HandleFunc("GET /api/v1/incidents", s.incidents)
	mux.HandleFunc("GET /api/v1/incidents/{id}", s.incident)
	mux.HandleFunc("GET /api/v1/runs", s.runs)
	mux.HandleFunc("GET /api/v1/runs/{id}", s.run)
	mux.HandleFunc("GET /api/v1/posture", s.posture)
	mux.HandleFunc("POST /api/v1/decisions", s.toLeader(s.decide))
	mux.HandleFunc("GET /api/v1/keys", s.toLeader(s.keys))
	mux.HandleFunc("POST /api/v1/keys/adopt", s.toLeader(s.adopt))
	mux.HandleFunc("POST /api/v1/plans", s.toLeader(s.plan))
	if s.deps.Slack != nil {
		mux.HandleFunc("POST "+slackPath, s.toLeader(s.deps.Slack.ServeHTTP))
	}
	if s.deps.Events != nil {
		mux.Handle(eventsPath, s.deps.Events) // here, whoever leads
	}
	mux.HandleFunc("GET /{$}", s.overviewPage)
	mux.HandleFunc("GET /incidents/{id}", s.incidentPage)
	mux.HandleFunc("GET /style.css", s.stylesheet)
	return s.guard(mux)
}

const (
	slackPath  = "/slack/interactivity"
	eventsPath = "/v1/events"
)

// guard sets the headers that every answer carries, bounds every body, and
// refuses names that are not ours.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if r.URL.Path != eventsPath { // which bounds bodies by their source
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		// Slack's clicks and producers' events come under the name of whatever stands
		// before the port, and prove themselves by a signature and a token that no page
		// in a browser has.
		if r.URL.Path != slackPath && r.URL.Path != eventsPath && !s.cfg.answersTo(r.Host) {
			fail(w, http.StatusMisdirectedRequest, "this port listens on loopback and does not answer to that name; a proxy's name belongs into http.advertise")
			return
		}
		next.ServeHTTP(w, r)
	})
}
