package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	kafkajournal "github.com/keysentry/keysentry/alert/journal/kafka"
	"github.com/keysentry/keysentry/alert/slack"
	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/rules"
)

// The states of a doctor's row.
const (
	DoctorGood = "ok"
	DoctorWarn = "warn"
	DoctorFail = "FAIL"
)

// DoctorRow is one check of doctor.
type DoctorRow struct {
	Status string `json:"status"`
	Check  string `json:"check"`
	Detail string `json:"detail"` // what was found, and what to change
}

// doctor collects rows.
type doctor struct {
	cfg    *config.Config
	getenv func(string) string
	rows   []DoctorRow
	// reach is how far back the windows of the rules look.
	reach time.Duration
}

func (d *doctor) say(status, check, format string, args ...any) {
	d.rows = append(d.rows, DoctorRow{status, check, fmt.Sprintf(format, args...)})
}

// Check resolves every secret and reads every file that the configuration names,
// as the start does, without connecting. It returns the faults.
func Check(cfg *config.Config, getenv func(string) string) []error {
	var faults []error
	note := func(path string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", path, err))
		}
	}
	resolve := func(path string, ref secret.Ref) {
		_, err := ref.Resolve(getenv)
		note(path, err)
	}
	resolve("journal.key", cfg.Journal.Key)
	resolve("store.password", cfg.Store.Password)
	resolve("kafka.sasl.password", cfg.Kafka.SASL.Password)
	resolve("ingest.fingerprint_key", cfg.Ingest.FingerprintKey)
	resolve("slack.token", cfg.Slack.Token)
	resolve("slack.signing_secret", cfg.Slack.SigningSecret)
	for i, s := range cfg.Ingest.HTTP.Sources {
		resolve(fmt.Sprintf("ingest.http.sources[%d].token", i), s.Token)
	}
	for i, p := range cfg.Alert.People {
		resolve(fmt.Sprintf("alert.people[%d].credential", i), p.Credential)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Networks)) {
		resolve("networks."+name+".fingerprint_key", cfg.Networks[name].FingerprintKey)
		resolve("networks."+name+".provider.admin_token", cfg.Networks[name].Provider.AdminToken)
	}
	if _, err := LoadPlaybooks(cfg.Playbook); err != nil {
		note("playbooks", err)
	}
	a := &App{cfg: cfg, opts: Options{Getenv: getenv}}
	if _, err := a.newDecoder(); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		return faults // what follows would only say the same again
	}
	return a.checkParts()
}

// checkParts builds what the start builds of secrets and files.
func (a *App) checkParts() (faults []error) {
	note := func(path string, err error) {
		if err != nil {
			faults = append(faults, operator(path, err))
		}
	}
	key, err := a.cfg.Journal.Key.Resolve(a.opts.Getenv)
	if err == nil {
		err = kafkajournal.CheckKey(key)
	}
	if err != nil {
		faults = append(faults, err) // it begins with the path
	}
	for _, build := range []func() error{a.buildNetworks, a.buildPeople, a.buildEvents} {
		if err := build(); err != nil {
			faults = append(faults, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.cfg.Networks)) {
		if spec := a.cfg.Networks[name]; spec.Provider.Type != "" {
			_, err := a.target(spec)
			note("networks."+name, err)
		}
	}
	_, err = a.escrow()
	note("playbooks.escrow", err)
	note("http", a.cfg.HTTP.CheckFiles())
	return faults
}

// Doctor connects to everything the daemon depends on and says what it found. It
// changes nothing.
func Doctor(ctx context.Context, cfg *config.Config, getenv func(string) string) []DoctorRow {
	d := &doctor{cfg: cfg, getenv: getenv}
	if faults := Check(cfg, getenv); len(faults) > 0 {
		for _, f := range faults {
			d.say(DoctorFail, "configuration", "%v", f)
		}
	} else {
		d.say(DoctorGood, "configuration", "secrets resolve, playbooks and mappings load")
	}
	d.rules()
	for _, look := range []func(context.Context){d.kafka, d.clickhouse, d.slack} {
		bounded, cancel := context.WithTimeout(ctx, startTimeout)
		look(bounded)
		cancel()
	}
	return d.rows
}

func (d *doctor) rules() {
	set, diags, err := LoadRules(d.cfg.Rules)
	if err != nil {
		d.say(DoctorFail, "rules", "%v", err)
		return
	}
	broken := 0
	for _, g := range diags {
		if g.Severity == rules.Error {
			broken++
			d.say(DoctorFail, "rules", "left out: %s", g)
		}
	}
	if broken == 0 {
		d.say(DoctorGood, "rules", "%d rules and %d correlations", len(set.Rules), len(set.Correlations))
	}
	windows := d.cfg.Detect.Windows
	windows.Lateness = d.cfg.Detect.Lateness
	d.reach = correlate.New(set, windows).Lookback()
}

func (d *doctor) slack(ctx context.Context) {
	if !d.cfg.Slack.Enabled() {
		d.say(DoctorWarn, "slack", "not configured: messages go to standard output")
		return
	}
	s, err := slack.New(d.cfg.Slack, slack.Deps{Getenv: d.getenv, Logger: quiet()})
	if err == nil {
		err = s.CheckToken(ctx)
	}
	if err != nil {
		d.say(DoctorFail, "slack", "%v", err)
		return
	}
	d.say(DoctorGood, "slack", "the token is good")
}
