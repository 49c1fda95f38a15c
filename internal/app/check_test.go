package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/secret"
)

// withNetwork gives the configuration a network that playbooks may act on.
func withNetwork(r *rig, c *config.Config) {
	r.t.Helper()
	identity := filepath.Join(r.dir, "identity")
	if _, err := os.Stat(identity); errors.Is(err, os.ErrNotExist) {
		if err := encfile.GenerateIdentity(identity); err != nil {
			r.t.Fatal(err)
		}
	}
	n := config.NetworkSpec{FingerprintKey: secret.Ref{Env: "FINGERPRINT_KEY"}, ProbeUser: "probe"}
	n.Provider.Type, n.Provider.URL, n.Provider.AdminToken, n.Provider.Timeout = "simulated", "http://127.0.0.1:1", secret.Ref{Env: "CREDENTIAL"}, time.Second
	n.Secret.Type, n.Secret.Name = "encfile", "key"
	n.Secret.Config = encfile.Config{Path: filepath.Join(r.dir, "secrets.age"), IdentityFile: identity, Keep: 2}
	c.Networks = map[string]config.NetworkSpec{"acme": n}
}

// What the start refuses, check-config has to find.
func TestCheckFindsWhatTheStartRefuses(t *testing.T) {
	t.Parallel()
	nobody := closedPort(t)
	for name, tc := range map[string]struct {
		change func(r *rig, c *config.Config)
		want   string // empty: good
	}{
		"good": {func(*rig, *config.Config) {}, ""},
		"a short journal key": {func(r *rig, c *config.Config) {
			c.Journal.Key = secret.Ref{Env: "SHORT"}
			r.env["SHORT"] = "short"
		}, "journal.key"},
		"a table of networks with a fault": {func(r *rig, c *config.Config) {
			c.Detect.NetworksFile = filepath.Join(r.dir, "nets.csv")
			if err := os.WriteFile(c.Detect.NetworksFile, []byte("192.0.2.0/24,here\n"), 0o600); err != nil {
				t.Error(err)
			}
		}, "nets.csv:1: "},
		"a table of networks that is not there": {func(r *rig, c *config.Config) { c.Detect.NetworksFile = filepath.Join(r.dir, "none") }, "detect.networks_file"},
		"one credential for two": {func(_ *rig, c *config.Config) {
			c.Alert.People = append(c.Alert.People, alert.Person{ID: "bob", Credential: c.Alert.People[0].Credential})
		}, "alert.people[1].credential"},
		"an identity that is not there": {func(_ *rig, c *config.Config) {
			n := c.Networks["acme"]
			n.Secret.IdentityFile += ".none"
			c.Networks["acme"] = n
		}, "networks.acme"},
		"an escrow for nobody": {func(r *rig, c *config.Config) {
			c.Playbook.Escrow = config.EscrowConfig{Dir: r.dir, Recipient: "age1nobody"}
		}, "playbooks.escrow"},
		"a source with a token of somebody else": {func(r *rig, c *config.Config) {
			c.Ingest.HTTP.Sources = []httpingest.SourceConfig{
				{Name: "a", Token: secret.Ref{Env: "CREDENTIAL"}, Topic: "auth.events"}, {Name: "b", Token: secret.Ref{Env: "SAME"}, Topic: "auth.events"}}
			r.env["SAME"] = r.env["CREDENTIAL"]
		}, "ingest.http.sources[1].token: is the token of a too"},
		"a source with a short token": {func(r *rig, c *config.Config) {
			c.Ingest.HTTP.Sources = []httpingest.SourceConfig{{Name: "a", Token: secret.Ref{Env: "SHORT"}, Topic: "auth.events"}}
			r.env["SHORT"] = "short"
		}, "ingest.http.sources[0].token"},
		"a source without its token": {func(_ *rig, c *config.Config) {
			c.Ingest.HTTP.Sources = []httpingest.SourceConfig{{Name: "a", Token: secret.Ref{Env: "MISSING"}, Topic: "auth.events"}}
		}, "ingest.http.sources[0].token: environment variable MISSING"},
		"a certificate that is not there": {func(r *rig, c *config.Config) {
			c.HTTP.TLS.CertFile, c.HTTP.TLS.KeyFile = filepath.Join(r.dir, "crt"), filepath.Join(r.dir, "key")
		}, "http.tls"},
		"an authority that is not there": {func(r *rig, c *config.Config) { c.HTTP.TLS.CAFile = filepath.Join(r.dir, "ca") }, "http.tls.ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nobody, nobody, ingest.TopicConfig{Name: "auth.events", Origin: event.OriginGateway})
			cfg := r.config("only", func(c *config.Config) {
				withNetwork(r, c)
				tc.change(r, c)
			})
			opts := r.options(&daemon{logs: &logs{}})
			_, err := app.New(cfg, opts)
			var fault *app.OperatorError
			if tc.want != "" && !errors.As(err, &fault) {
				t.Fatalf("the start says %v, want an operator's fault", err)
			}
			got := errors.Join(app.Check(cfg, opts.Getenv)...)
			if (got == nil) != (tc.want == "") || got != nil && !strings.Contains(got.Error(), tc.want) {
				t.Errorf("Check says %v, want a fault of %q", got, tc.want)
			}
		})
	}
}
