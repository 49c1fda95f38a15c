package console

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

//go:embed pages
var pageFiles embed.FS

// pages are the parsed templates. html/template escapes every value for the
// place it stands in, so that no event can write markup.
type pages struct{ overview, incident *template.Template }

func newPages() (*pages, error) {
	funcs := template.FuncMap{"when": when}
	parse := func(name string) (*template.Template, error) {
		t, err := template.New("layout.html").Funcs(funcs).ParseFS(pageFiles, "pages/layout.html", "pages/"+name)
		if err != nil {
			return nil, fmt.Errorf("parse page %s: %w", name, err)
		}
		return t, nil
	}
	overview, err := parse("overview.html")
	if err != nil {
		return nil, err
	}
	inc, err := parse("incident.html")
	if err != nil {
		return nil, err
	}
	return &pages{overview, inc}, nil
}

func when(i event.Instant) string {
	if i == 0 {
		return ""
	}
	return i.Time().Format("2006-01-02 15:04:05")
}

// show renders aside first, so that a fault gives a clean 500 and no half page.
func (s *Server) show(w http.ResponseWriter, t *template.Template, data any) {
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		s.deps.Logger.Error("render page", "error", err)
		fail(w, http.StatusInternalServerError, "the page could not be rendered; see the log")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = out.WriteTo(w)
}

type overview struct {
	Title  string
	Now    string
	Status Status
	Active []incident.Incident
	Past   []incident.Incident
	Runs   []incident.Run
	Card   *posture.Scorecard
	// CardError says why there is no scorecard.
	CardError string
}

// pastShown bounds the list of ended incidents on the page; the API has all.
const pastShown = 50

// cardTime bounds the wait for the scorecard, which asks ClickHouse: incidents
// have to be seen while ClickHouse hangs.
const cardTime = 3 * time.Second

func (s *Server) overviewPage(w http.ResponseWriter, r *http.Request) {
	v := overview{Title: "Overview", Now: time.Now().UTC().Format(time.DateTime), Status: s.deps.Status(), Runs: s.deps.Desk.Runs()}
	for _, inc := range s.deps.Desk.Incidents() {
		if inc.State.Active() {
			v.Active = append(v.Active, inc)
		} else if len(v.Past) < pastShown {
			v.Past = append(v.Past, inc)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), cardTime)
	defer cancel()
	if card, err := s.deps.Scorecard(ctx); err != nil {
		v.CardError = err.Error()
	} else {
		v.Card = &card
	}
	s.show(w, s.pages.overview, v)
}

type incidentView struct {
	Title    string
	Now      string
	Status   Status
	Incident incident.Incident
	Runs     []incident.Run
}

func (s *Server) incidentPage(w http.ResponseWriter, r *http.Request) {
	inc, ok := s.deps.Desk.Incident(r.PathValue("id"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	v := incidentView{Title: inc.ID, Now: time.Now().UTC().Format(time.DateTime), Status: s.deps.Status(), Incident: inc}
	for _, id := range inc.Runs {
		if run, ok := s.deps.Desk.Run(id); ok {
			v.Runs = append(v.Runs, run)
		}
	}
	s.show(w, s.pages.incident, v)
}

func (s *Server) stylesheet(w http.ResponseWriter, _ *http.Request) {
	b, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		fail(w, http.StatusInternalServerError, "no stylesheet")
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(b)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
