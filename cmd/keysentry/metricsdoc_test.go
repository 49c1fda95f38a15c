package main

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// describe matches what a prometheus.Desc says of itself; it has no other way.
var describe = regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: "(.*?)", (?:unit: "\w*", )?constLabels: \{[^}]*\}, variableLabels: \{([^}]*)\}\}$`)

// TestReferenceOfMetrics builds every component that counts, as the daemon does,
// and lists what they have registered.
func TestReferenceOfMetrics(t *testing.T) {
	t.Parallel()
	reg := metrics.New()
	buildEverything(t, reg)
	kinds := kindsOf(t, reg)

	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		reg.Gatherer().(prometheus.Collector).Describe(descs)
	}()
	var rows []string
	for d := range descs {
		m := describe.FindStringSubmatch(d.String())
		if m == nil {
			t.Errorf("cannot read %s", d)
			continue
		}
		if !strings.HasPrefix(m[1], metrics.Namespace+"_") {
			continue // the runtime's and the process's own
		}
		kind := kinds[m[1]]
		if kind == "" { // has labels, and nothing was counted yet
			kind = "gauge"
			if strings.HasSuffix(m[1], "_total") {
				kind = "counter"
			}
		}
		labels := strings.ReplaceAll(m[3], ",", " ")
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", m[1], kind, labels, strings.ReplaceAll(m[2], `\"`, `"`)))
	}
	slices.Sort(rows)
	if len(rows) < 60 {
		t.Errorf("%d metrics; were all components built?", len(rows))
	}
	checkPage(t, "metrics.md", "# Metrics\n\n<!-- generated from the components, refresh with: go test ./cmd/keysentry -run Reference -update -->\n\n"+
		"`GET /metrics` on the HTTP port, in the Prometheus format, together with the Go runtime's (`go_*`) and the process's (`process_*`).\n"+
		"A component that is built anew, at a takeover, begins again at zero.\n\n"+
		"| metric | type | labels | meaning |\n|---|---|---|---|\n"+strings.Join(rows, "\n")+"\n")
}

// buildEverything registers the metrics of a daemon that leads.
func buildEverything(t *testing.T, reg *metrics.Registry) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := config.Default()
	cfg.DataDir, cfg.HTTP.Listen = t.TempDir(), "127.0.0.1:0"
	cfg.Kafka.Brokers = []string{"127.0.0.1:1"}
	cfg.Journal.Key = secret.Ref{Env: "KEY"}
	cfg.Slack.Token, cfg.Slack.Channels.Page = secret.Ref{Env: "KEY"}, "C0123ABCD"
	cfg.Ingest.HTTP.Sources = []httpingest.SourceConfig{{Name: "gateway", Token: secret.Ref{Env: "KEY"}, Topic: cfg.Ingest.Topics[0].Name}}
	env := func(string) string { return "0123456789abcdef" }
	if _, err := app.New(cfg, app.Options{Logger: log, Out: io.Discard, Metrics: reg, Getenv: env}); err != nil {
		t.Fatal(err)
	}
	// What a member builds when it begins to lead.
	set, _, err := app.LoadRules(cfg.Rules)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := detect.New(detect.DefaultConfig(), detect.Deps{Rules: set, Logger: log, Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := ingest.NewDecoder(cfg.Ingest.Config, ingest.DecoderDeps{Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ingest.New(cfg.Ingest.Config, ingest.Deps{
		Source: struct{ ingest.Source }{}, Writer: struct{ ingest.EventWriter }{}, Detector: engine,
		Sink: struct{ ingest.FindingSink }{}, Decoder: decoder, Log: log, Metrics: reg,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func kindsOf(t *testing.T, reg *metrics.Registry) map[string]string {
	t.Helper()
	families, err := reg.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, f := range families {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	return kinds
}
