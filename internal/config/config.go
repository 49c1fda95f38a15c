// Package config is the configuration of the daemon: one YAML file, composed of
// every component's own section. Load reports every fault at once, by path.
// Secrets are named by file or environment variable, never written down.
package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/alert"
	kafkajournal "github.com/keysentry/keysentry/alert/journal/kafka"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/alert/playbook/action/simulated"
	"github.com/keysentry/keysentry/alert/slack"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/store"
)

// Config is the whole configuration.
type Config struct {
	// Instance names this daemon in the journal and in logs; no two daemons of a
	// group have the same. Empty: the host's name.
	Instance string `yaml:"instance"`
	// DataDir holds what a daemon keeps for itself; not shared by two of them.
	DataDir string    `yaml:"data_dir"`
	Log     LogConfig `yaml:"log"`

	HTTP     console.Config         `yaml:"http"`
	Kafka    kafka.Config           `yaml:"kafka"`
	Ingest   IngestConfig           `yaml:"ingest"`
	Store    store.Config           `yaml:"store"`
	Rules    RulesConfig            `yaml:"rules"`
	Detect   detect.Config          `yaml:"detect"`
	Journal  kafkajournal.Config    `yaml:"journal"`
	Alert    alert.Config           `yaml:"alert"`
	Slack    slack.Config           `yaml:"slack"`
	Playbook PlaybookConfig         `yaml:"playbooks"`
	Networks map[string]NetworkSpec `yaml:"networks,omitempty"` // by the network's name: what is known of it, and what playbooks may act on
	Posture  posture.Config         `yaml:"posture"`
}

// LogConfig is what the daemon writes about itself, to standard error.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // json, text
}

// IngestConfig says which topics hold audit events, what each may say, how far
// reading and storing may drift apart, and who may post events over HTTP.
type IngestConfig struct {
	ingest.Config `yaml:",inline"`
	HTTP          httpingest.Config `yaml:"http,omitempty"`
}

// Validate reports every fault; each error begins with the field's path.
func (c IngestConfig) Validate() []error {
	errs := c.Config.Validate()
	for _, err := range c.HTTP.Validate() {
		errs = append(errs, fmt.Errorf("http.%w", err))
	}
	for i, s := range c.HTTP.Sources {
		known := slices.ContainsFunc(c.Topics, func(t ingest.TopicConfig) bool { return t.Name == s.Topic })
		if s.Topic != "" && !known {
			errs = append(errs, fmt.Errorf("http.sources[%d].topic: %q is none of ingest.topics", i, s.Topic))
		}
	}
	return errs
}

// RulesConfig says which rules run.
type RulesConfig struct {
	// Builtin runs the shipped rules.
	Builtin bool `yaml:"builtin"`
	// Paths are files and folders of further rules, read again when they change and
	// on SIGHUP. Names that begin with a dot are passed over.
	Paths []string `yaml:"paths,omitempty"`
	// Disable lists ids or names of rules that do not run.
	Disable      []string            `yaml:"disable,omitempty"`
	Placeholders map[string][]string `yaml:"placeholders,omitempty"` // values of %name% in rules, by name
}

// PlaybookConfig says which playbooks exist and how carefully they run.
type PlaybookConfig struct {
	playbook.Config `yaml:",inline"`
	// Paths are folders of further playbooks; one of the same name replaces the
	// shipped one.
	Paths []string `yaml:"paths,omitempty"`
	// Propose plans a playbook by itself when an incident triggers it; a person
	// still has to approve.
	Propose bool `yaml:"propose"`
	// Escrow takes a new key that could not be stored, encrypted to an operator.
	Escrow EscrowConfig `yaml:"escrow,omitempty"`
}

// EscrowConfig is a folder, and the age recipient (age1...) whose identity an
// operator keeps elsewhere.
type EscrowConfig struct {
	Dir       string `yaml:"dir"`       // folder of the encrypted files
	Recipient string `yaml:"recipient"` // age recipient, age1...
}

// NetworkSpec is what is declared of one network, and what playbooks may act on in
// it.
type NetworkSpec struct {
	detect.Declared `yaml:",inline"`
	// FingerprintKey is the key with which the network's producers make
	// fingerprints.
	FingerprintKey secret.Ref     `yaml:"fingerprint_key"`
	Provider       ProviderConfig `yaml:"provider"`
	Secret         SecretConfig   `yaml:"secret"`
	ProbeUser      string         `yaml:"probe_user"` // a user that exists for probes only
}

// ProviderConfig is the platform's administration.
type ProviderConfig struct {
	Type             string `yaml:"type"` // simulated
	simulated.Config `yaml:",inline"`
}

// SecretConfig is where the network's server key is kept for its backends.
type SecretConfig struct {
	Type           string `yaml:"type"` // encfile
	Name           string `yaml:"name"` // name of the server key in the store
	encfile.Config `yaml:",inline"`
}

// UnmarshalYAML starts from the defaults of the network's parts.
func (n *NetworkSpec) UnmarshalYAML(node *yaml.Node) error {
	type plain NetworkSpec // without this method
	p := plain{Provider: ProviderConfig{Config: simulated.DefaultConfig()}, Secret: SecretConfig{Config: encfile.DefaultConfig()}}
	if err := decodeStrict(node, &p); err != nil {
		return err
	}
	*n = NetworkSpec(p)
	return nil
}

// Default is the configuration without a file.
func Default() *Config {
	return &Config{
		DataDir:  "keysentry-data",
		Log:      LogConfig{Level: "info", Format: "json"},
		HTTP:     console.DefaultConfig(),
		Kafka:    kafka.DefaultConfig(),
		Ingest:   IngestConfig{Config: ingest.DefaultConfig(), HTTP: httpingest.DefaultConfig()},
		Store:    store.DefaultConfig(),
		Rules:    RulesConfig{Builtin: true},
		Detect:   detect.DefaultConfig(),
		Journal:  kafkajournal.DefaultConfig(),
		Alert:    alert.DefaultConfig(),
		Slack:    slack.DefaultConfig(),
		Playbook: PlaybookConfig{Config: playbook.DefaultConfig(), Propose: true},
		Posture:  posture.DefaultConfig(),
	}
}

// Validate reports every fault; each error begins with the field's path.
func (c *Config) Validate() []error {
	var errs []error
	if c.Instance != strings.TrimSpace(c.Instance) {
		errs = append(errs, errors.New("instance: must not begin or end with a space"))
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("data_dir: give a folder of its own"))
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		errs = append(errs, fmt.Errorf("log.level: %q is not debug, info, warn or error", c.Log.Level))
	}
	if !slices.Contains([]string{"json", "text"}, c.Log.Format) {
		errs = append(errs, fmt.Errorf("log.format: %q is not json or text", c.Log.Format))
	}
	for _, s := range []struct {
		name string
		errs []error
	}{
		{"http", c.HTTP.Validate()}, {"kafka", c.Kafka.Validate()}, {"ingest", c.Ingest.Validate()},
		{"store", c.Store.Validate()}, {"detect", c.Detect.Validate()}, {"journal", c.Journal.Validate()},
		{"alert", c.Alert.Validate()}, {"slack", c.Slack.Validate()}, {"playbooks", c.Playbook.Validate()},
		{"posture", c.Posture.Validate()},
	} {
		for _, err := range s.errs {
			errs = append(errs, fmt.Errorf("%s.%w", s.name, err))
		}
	}
	if !c.Rules.Builtin && len(c.Rules.Paths) == 0 {
		errs = append(errs, errors.New("rules: no rule would run; set builtin: true or give paths"))
	}
	if (c.Playbook.Escrow.Dir == "") != (c.Playbook.Escrow.Recipient == "") {
		errs = append(errs, errors.New("playbooks.escrow: give dir and recipient together"))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Networks)) {
		for _, err := range c.Networks[name].validate() {
			errs = append(errs, fmt.Errorf("networks.%s.%w", name, err))
		}
	}
	return append(errs, c.validateCredentials()...)
}

// validateCredentials: a credential that is named wrongly must not wait for the
// night in which it is needed.
func (c *Config) validateCredentials() []error {
	var errs []error
	for i, p := range c.Alert.People {
		if p.Credential.IsZero() {
			continue
		}
		if err := p.Credential.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("alert.people[%d].credential: %w", i, err))
		}
	}
	if len(c.Ingest.HTTP.Sources) > 0 && !c.HTTP.Private() {
		errs = append(errs, errors.New("http.advertise: producers send their tokens (ingest.http.sources) to it; give an https address"))
	}
	return errs
}

func (n NetworkSpec) validate() []error {
	errs := n.Declared.Validate()
	declares := len(n.Regions) > 0 || len(n.Certificates) > 0
	if n.Provider.Type == "" && declares && n.FingerprintKey.IsZero() {
		return errs // nothing acts on it
	}
	if err := n.FingerprintKey.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("fingerprint_key: %w", err))
	}
	if n.Provider.Type == "" {
		return errs
	}
	if n.Provider.Type != "simulated" {
		errs = append(errs, fmt.Errorf("provider.type: %q is unknown; use simulated", n.Provider.Type))
	}
	for _, err := range n.Provider.Validate() {
		errs = append(errs, fmt.Errorf("provider.%w", err))
	}
	if n.Secret.Type != "encfile" {
		errs = append(errs, fmt.Errorf("secret.type: %q is unknown; use encfile", n.Secret.Type))
	}
	if n.Secret.Name == "" {
		errs = append(errs, errors.New("secret.name: give the name of the server key in the store"))
	}
	for _, err := range n.Secret.Validate() {
		errs = append(errs, fmt.Errorf("secret.%w", err))
	}
	if n.ProbeUser == "" {
		errs = append(errs, errors.New("probe_user: give a user that exists for probes only"))
	}
	return errs
}
