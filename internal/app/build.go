package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	kafkajournal "github.com/keysentry/keysentry/alert/journal/kafka"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/alert/playbook/action/simulated"
	"github.com/keysentry/keysentry/alert/slack"
	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/networks"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/detect/posture/check"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/rules/library"
	"github.com/keysentry/keysentry/store"
)

func (a *App) buildKafka() (err error) {
	password, err := a.cfg.Kafka.SASL.Password.Resolve(a.opts.Getenv)
	if err != nil {
		return operator("kafka.sasl.password", err)
	}
	a.kafka, err = kafka.NewClient(a.cfg.Kafka, kafka.Deps{Password: password, Log: a.log, Metrics: a.opts.Metrics})
	if err != nil {
		return operator("kafka", err)
	}
	a.control = kafka.NewControl(a.kafka)
	a.group, err = kafka.NewGroup(a.kafka, kafka.GroupOptions{Topics: topicNames(a.cfg.Ingest.Config), DataDir: a.cfg.DataDir, Metrics: a.opts.Metrics})
	if err != nil {
		return operator("kafka", err)
	}
	key, err := a.cfg.Journal.Key.Resolve(a.opts.Getenv)
	if err != nil {
		return operator("journal.key", err)
	}
	a.verdictKey = key
	a.journal, err = kafkajournal.New(a.cfg.Journal, kafkajournal.Deps{
		Wire: a.kafka.Wire(), Topic: a.cfg.Kafka.Topics.Journal, Key: key, Log: a.log, Metrics: a.opts.Metrics, OnStray: a.noteStray,
	})
	return operator("journal", err)
}

func topicNames(cfg ingest.Config) []string {
	names := make([]string, len(cfg.Topics))
	for i, t := range cfg.Topics {
		names[i] = t.Name
	}
	return names
}

func (a *App) buildStore() (err error) {
	a.store, err = store.New(a.cfg.Store, store.Deps{Log: a.log, Metrics: a.opts.Metrics, Getenv: a.opts.Getenv})
	if err != nil {
		return operator("store", err)
	}
	a.writer = store.NewWriter(a.store)
	a.mirror = store.NewMirror(a.store, a.replayJournal)
	a.roller = store.NewRoller(a.store)
	a.storeErr = errors.New("not connected yet")
	return nil
}

// LoadRules loads the shipped rules and those of the configuration, without the
// disabled ones. A document with a fault is left out and named in the
// diagnostics; the error is about reading files.
func LoadRules(cfg config.RulesConfig) (*rules.Set, []rules.Diagnostic, error) {
	own, _, err := ReadRuleFiles(cfg.Paths)
	if err != nil {
		return nil, nil, err
	}
	set, diags := compileRules(cfg, own)
	return set, diags, nil
}

func compileRules(cfg config.RulesConfig, own []rules.File) (*rules.Set, []rules.Diagnostic) {
	var files []rules.File
	if cfg.Builtin {
		files = append(files, library.Files()...)
	}
	return rules.Load(append(files, own...), rules.Options{Layout: rules.LayoutEvent, Placeholders: cfg.Placeholders, Disable: cfg.Disable})
}

// buildNetworks reads the table of networks, if there is one.
func (a *App) buildNetworks() (err error) {
	a.networks, err = ReadNetworks(a.cfg.Detect)
	return operator("detect.networks_file", err)
}

// ReadNetworks reads the table of networks that the configuration names; nil
// without one.
func ReadNetworks(cfg detect.Config) (*networks.Table, error) {
	if cfg.NetworksFile == "" {
		return nil, nil
	}
	f, err := os.Open(cfg.NetworksFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was read only
	return networks.Parse(cfg.NetworksFile, f)
}

func (a *App) buildRules() error {
	a.stamp = stampRules(a.cfg.Rules.Paths) // before they are read: an edit in between is seen
	own, _, err := ReadRuleFiles(a.cfg.Rules.Paths)
	if err != nil {
		return operator("rules", err)
	}
	set, diags := compileRules(a.cfg.Rules, own)
	a.reportRules(diags)
	a.rules, a.tried = set, digestRules(own, nil)
	return nil
}

// reportRules says which rules do not run, and why, and keeps it in mind.
func (a *App) reportRules(diags []rules.Diagnostic) {
	faults := map[string]int{}
	for _, d := range diags {
		if d.Severity == rules.Error {
			faults[faultKey(d)]++
			a.log.Error("rule is left out", "at", fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Col), "code", d.Code, "error", d.Message, "hint", d.Hint)
		}
	}
	a.mu.Lock()
	a.ruleFaults = faults
	a.mu.Unlock()
}

func (a *App) newDecoder() (*ingest.Decoder, error) {
	key, err := a.cfg.Ingest.FingerprintKey.Resolve(a.opts.Getenv)
	if err != nil {
		return nil, operator("ingest.fingerprint_key", err)
	}
	mappings, err := openMappings(a.cfg.Ingest.Mappings)
	if err != nil {
		return nil, operator("ingest.mappings", err)
	}
	d, err := ingest.NewDecoder(a.cfg.Ingest.Config, ingest.DecoderDeps{Redactor: a.redactor, Mappings: mappings, FingerprintKey: key, Metrics: a.opts.Metrics})
	return d, operator("ingest", err)
}

func (a *App) buildResponse() error {
	if _, err := a.newDecoder(); err != nil { // faults of mappings show at start, not at the first takeover
		return err
	}
	var notifier alert.Notifier = alert.NewTextNotifier(a.opts.Out)
	routes := alert.DefaultRoutes()
	if a.cfg.Slack.Enabled() {
		s, err := slack.New(a.cfg.Slack, slack.Deps{Getenv: a.opts.Getenv, Decider: desk{a}, Now: a.opts.Now, Logger: a.log, Metrics: a.opts.Metrics})
		if err != nil {
			return operator("slack", err)
		}
		a.slack, notifier, routes = s, s, a.cfg.Slack.Routes()
	}
	var err error
	a.manager, err = alert.New(a.cfg.Alert, alert.Deps{
		Journal: a.journal, Notifier: notifier, Positions: positions{a}, Routes: routes, Keys: keyBook{a}, Database: a.cfg.Store.Database, Now: a.opts.Now, Logger: a.log, Metrics: a.opts.Metrics,
	})
	if err != nil {
		return operator("alert", err)
	}
	if err := a.buildPeople(); err != nil {
		return err
	}
	return a.buildPlaybooks()
}

func (a *App) buildPeople() error {
	a.people = map[[sha256.Size]byte]string{}
	for i, p := range a.cfg.Alert.People {
		v, err := p.Credential.Resolve(a.opts.Getenv)
		if err != nil {
			return operator(fmt.Sprintf("alert.people[%d].credential", i), err)
		}
		if v.Empty() {
			continue
		}
		digest := sha256.Sum256([]byte(v.Reveal()))
		if other, taken := a.people[digest]; taken {
			return operator(fmt.Sprintf("alert.people[%d].credential", i), fmt.Errorf("is the credential of %s too", other))
		}
		a.people[digest] = p.ID
	}
	return nil
}

// LoadPlaybooks loads the shipped playbooks and those of the configuration.
func LoadPlaybooks(cfg config.PlaybookConfig) (*playbook.Library, error) {
	shipped, err := fs.Sub(configs.Playbooks, "playbooks")
	if err != nil {
		return nil, err
	}
	sources := []fs.FS{shipped}
	for _, p := range cfg.Paths {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("paths: %w", err)
		}
		sources = append(sources, os.DirFS(filepath.Clean(p)))
	}
	lib, errs := playbook.Load(sources...)
	return lib, errors.Join(errs...)
}

func (a *App) buildPlaybooks() (err error) {
	if a.library, err = LoadPlaybooks(a.cfg.Playbook); err != nil {
		return operator("playbooks", err)
	}
	a.targets, a.keys = map[string]playbook.Target{}, map[string]secret.Value{}
	for _, name := range slices.Sorted(maps.Keys(a.cfg.Networks)) {
		spec := a.cfg.Networks[name]
		if a.keys[name], err = spec.FingerprintKey.Resolve(a.opts.Getenv); err != nil {
			return operator("networks."+name+".fingerprint_key", err)
		}
		if spec.Provider.Type == "" {
			continue
		}
		if a.targets[name], err = a.target(spec); err != nil {
			return operator("networks."+name, err)
		}
	}
	escrow, err := a.escrow()
	if err != nil {
		return operator("playbooks.escrow", err)
	}
	a.runner, err = playbook.New(a.cfg.Playbook.Config, playbook.Deps{
		Journal: a.journal, Library: a.library, Targets: a.targets, Evidence: evidence{a}, Escrow: escrow, Now: a.opts.Now, Logger: a.log, Metrics: a.opts.Metrics,
		Fingerprint: func(network string, key secret.Value) string {
			return event.Fingerprint([]byte(a.keys[network].Reveal()), key.Reveal())
		},
	})
	if err != nil {
		return operator("playbooks", err)
	}
	a.proposer = newProposer(&proposer{enabled: a.cfg.Playbook.Propose, manager: a.manager, runner: a.runner, library: a.library, inputs: a.planInputs, dead: a.deadKey,
		leading: func() bool { return a.engine() != nil }, log: a.log})
	a.subscribe()
	return nil
}

// escrow is where a key goes that could not be stored; nil when none is set up.
func (a *App) escrow() (playbook.Escrow, error) {
	c := a.cfg.Playbook.Escrow
	if c.Recipient == "" {
		return nil, nil
	}
	return encfile.NewEscrow(c.Dir, c.Recipient)
}

func (a *App) target(spec config.NetworkSpec) (playbook.Target, error) {
	token, err := spec.Provider.AdminToken.Resolve(a.opts.Getenv)
	if err != nil {
		return playbook.Target{}, fmt.Errorf("provider.admin_token: %w", err)
	}
	provider, err := simulated.New(spec.Provider.Config, simulated.Deps{AdminToken: token})
	if err != nil {
		return playbook.Target{}, fmt.Errorf("provider: %w", err)
	}
	secrets, err := encfile.New(spec.Secret.Config)
	if err != nil {
		return playbook.Target{}, fmt.Errorf("secret: %w", err)
	}
	return playbook.Target{Provider: provider, Store: secrets, SecretName: spec.Secret.Name, ProbeUser: spec.ProbeUser}, nil
}

// planInputs fills a proposal's inputs from the incident: which key is to be
// replaced, when the incident is about a live one. About a dead key there is
// nothing to replace but whatever is live now.
func (a *App) planInputs(inc incident.Incident) map[string]string {
	engine := a.engine()
	if engine == nil || inc.Subject.Field != event.FieldKeyID.String() {
		return nil
	}
	for _, k := range engine.Keys(inc.Subject.Network) {
		if k.KeyID == inc.Subject.Value && k.State == detect.KeyActive {
			return map[string]string{"old_key": k.KeyID}
		}
	}
	return nil
}

// deadKey reports whether the incident is about a key that is known to be revoked.
func (a *App) deadKey(inc incident.Incident) bool {
	return inc.Subject.Field == event.FieldKeyID.String() && a.keyState(inc.Subject.Network, inc.Subject.Value) == detect.KeyRevoked
}

// keyState is what the live engine's registry says of a key; empty when it says
// nothing.
func (a *App) keyState(network, keyID string) detect.KeyState {
	if engine := a.engine(); engine != nil {
		if k, ok := engine.Key(network, keyID); ok {
			return k.State
		}
	}
	return ""
}

func (a *App) buildPosture() (err error) {
	reg := registry{a.store}
	a.posture, err = posture.New(a.cfg.Posture, posture.Deps{
		Checks: check.All(reg), History: history{a}, Coverage: held{a.store},
		Now: a.opts.Now, Logger: a.log, Metrics: a.opts.Metrics,
	})
	return operator("posture", err)
}

func (a *App) buildConsole() (err error) {
	var clicks, events http.Handler // nil inside too when there is none
	if a.slack != nil {
		clicks = a.slack
	}
	if a.events != nil {
		events = a.events
	}
	a.console, err = console.New(a.cfg.HTTP, console.Deps{
		Desk: desk{a}, Keys: keyRoom{a}, Planner: a.runner, Status: a.status, Leader: a.leaderURL, Slack: clicks, Events: events,
		Scorecard: func(ctx context.Context) (posture.Scorecard, error) { return a.posture.Scorecard(ctx), nil },
		Metrics:   a.opts.Metrics, Logger: a.log,
	})
	return operator("http", err)
}

// leaderURL is the leader's address when another member leads, else empty.
func (a *App) leaderURL() string {
	if _, leading := a.journal.Leading(); leading {
		return ""
	}
	last := a.memory.lastLeader()
	if last.Member == a.cfg.Instance || last.Address == a.URL() {
		return ""
	}
	return strings.TrimSuffix(last.Address, "/")
}
