package app_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
)

// closedPort is an address at which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// TestFaultsOfTheOperator: what a person got wrong ends the daemon soon, with one
// line that says what to change.
func TestFaultsOfTheOperator(t *testing.T) {
	t.Parallel()
	nobody := closedPort(t)
	tests := []struct {
		name     string
		topic    map[string]string // its settings
		change   func(*rig, *config.Config)
		operator bool // an *app.OperatorError: trying again would not help
		want     []string
	}{
		{"a token that Slack refuses", devstack.LogAppendTime(),
			func(r *rig, _ *config.Config) { r.env["SLACK_TOKEN"] = "xoxb-mistyped-token" }, true,
			[]string{"slack.token", "invalid_auth"}},
		{"a token of another team", devstack.LogAppendTime(),
			func(_ *rig, c *config.Config) { c.Slack.TeamID = "T0OTHER" }, true,
			[]string{"slack.token", "T0OTHER"}},
		{"a topic with the producer's times", nil,
			nil, true,
			[]string{"LogAppendTime", "observed: producer", "message.timestamp.type"}},
		{"a topic that does not exist", devstack.LogAppendTime(),
			func(_ *rig, c *config.Config) { c.Ingest.Topics[0].Name = "no-such-topic" }, true,
			[]string{"no-such-topic"}},
		{"no broker", devstack.LogAppendTime(),
			func(_ *rig, c *config.Config) { c.Kafka.Brokers = []string{nobody} }, false,
			[]string{"kafka.brokers", nobody}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			broker := devstacktest.FakeKafka(t)
			topic := sourceTopic(t, broker, 1, tt.topic)
			r := newRig(t, broker, nobody, ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
			cfg := r.config("only", func(c *config.Config) {
				if tt.change != nil {
					tt.change(r, c)
				}
			})
			d := &daemon{logs: &logs{}}
			a, err := app.New(cfg, r.options(d))
			if err != nil {
				t.Fatalf("New: %v; this fault is for Run to find", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			began := time.Now()
			err = a.Run(ctx)
			if err == nil {
				t.Fatalf("Run returned nil after %v", time.Since(began))
			}
			var fault *app.OperatorError
			if errors.As(err, &fault) != tt.operator {
				t.Errorf("an operator's fault: %v, want %v", !tt.operator, tt.operator)
			}
			oneLine(t, err.Error(), tt.want)
			if strings.Contains(err.Error()+d.logs.String(), r.env["SLACK_TOKEN"]) {
				t.Errorf("the token is in the error or in the log")
			}
			if n := len(r.slack.Messages()); n != 0 {
				t.Errorf("%d messages in Slack, want none", n)
			}
		})
	}
}

// oneLine holds an error to being one line that says what is wanted.
func oneLine(t *testing.T, got string, want []string) {
	t.Helper()
	t.Logf("says: %s", got)
	if strings.Contains(got, "\n") {
		t.Errorf("the error has several lines: %q", got)
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("the error %q does not say %q", got, w)
		}
	}
}

// TestFaultsOfTheConfiguration are found before anything is spoken to.
func TestFaultsOfTheConfiguration(t *testing.T) {
	t.Parallel()
	nobody := closedPort(t)
	t.Run("a public port without TLS", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nobody, nobody, ingest.TopicConfig{Name: "auth.events", Origin: event.OriginGateway})
		cfg := r.config("only", func(c *config.Config) { c.HTTP.Listen = "0.0.0.0:0" })
		err := errors.Join(cfg.Validate()...)
		if err == nil {
			t.Fatal("the configuration counts as valid")
		}
		oneLine(t, err.Error(), []string{"http.listen", "loopback", "tls.cert_file"})
		if a, err := app.New(cfg, r.options(&daemon{logs: &logs{}})); err == nil {
			t.Errorf("New opened the port all the same: %s", a.URL())
		}
	})
	t.Run("a secret that is not there", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct{ env, want string }{
			{"JOURNAL_KEY", "journal.key"}, {"SLACK_TOKEN", "slack"}, {"CREDENTIAL", "alert.people[0].credential"}, {"FINGERPRINT_KEY", "ingest.fingerprint_key"},
		} {
			r := newRig(t, nobody, nobody, ingest.TopicConfig{Name: "auth.events", Origin: event.OriginGateway})
			delete(r.env, tt.env)
			cfg := r.config("only", func(c *config.Config) {
				if tt.env == "JOURNAL_KEY" {
					c.Journal.Key = secret.Ref{Env: tt.env}
				}
			})
			_, err := app.New(cfg, r.options(&daemon{logs: &logs{}}))
			var fault *app.OperatorError
			if !errors.As(err, &fault) {
				t.Errorf("without %s: %v, want an operator's fault", tt.env, err)
				continue
			}
			oneLine(t, err.Error(), []string{tt.want, tt.env})
		}
	})
}
