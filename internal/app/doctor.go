package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	kafkajournal "github.com/keysentry/keysentry/alert/journal/kafka"
	"github.com/keysentry/keysentry/alert/slack"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/store"
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
	for _, build := range []func() error{a.buildPeople, a.buildEvents} {
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
}

func (d *doctor) kafka(ctx context.Context) {
	client, err := openKafka(d.cfg, d.getenv)
	if err != nil {
		d.say(DoctorFail, "kafka", "%v", err)
		return
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		d.say(DoctorFail, "kafka", "no broker answers at %s: %v; is kafka.brokers right?", strings.Join(d.cfg.Kafka.Brokers, ", "), err)
		return
	}
	d.say(DoctorGood, "kafka", "answers at %s", strings.Join(d.cfg.Kafka.Brokers, ", "))
	infos, err := client.CheckTopics(ctx, topicNames(d.cfg.Ingest.Config))
	if err != nil {
		d.say(DoctorFail, "kafka topics", "%v", err)
		return
	}
	faults := kafka.CheckInputs(infos, (&App{cfg: d.cfg}).imported)
	for _, f := range faults {
		d.say(DoctorFail, "kafka topics", "%v", f)
	}
	for _, t := range infos {
		if ms, ok := t.RetentionMS(); t.Exists && ok && ms >= 0 && time.Duration(ms)*time.Millisecond < d.cfg.Ingest.MaxLateness {
			d.say(DoctorWarn, "kafka topics", "%s keeps records for %v only; windows and a ClickHouse outage may need more than that",
				t.Name, time.Duration(ms)*time.Millisecond)
		}
	}
	if len(faults) == 0 {
		d.say(DoctorGood, "kafka topics", "%d input topics keep their promises", len(infos))
	}
	d.ownTopics(ctx, client, infos)
}

func (d *doctor) ownTopics(ctx context.Context, client *kafka.Client, inputs []kafka.TopicInfo) {
	missing, faults, err := client.CheckOwnTopics(ctx)
	switch {
	case err != nil:
		d.say(DoctorFail, "own topics", "%v", err)
	case len(faults) > 0:
		d.say(DoctorFail, "own topics", "%v", errors.Join(faults...))
	case len(missing) > 0:
		d.say(DoctorWarn, "own topics", "%s will be created by the first run; it needs the right to create topics", strings.Join(missing, ", "))
	default:
		d.say(DoctorGood, "own topics", "journal, control, quarantine and verdicts are set up as they must be")
	}
	d.verdictRetention(ctx, client, inputs)
}

// verdictRetention says when causes are forgotten before the events that storage
// may have to read again.
func (d *doctor) verdictRetention(ctx context.Context, client *kafka.Client, inputs []kafka.TopicInfo) {
	infos, err := client.CheckTopics(ctx, []string{d.cfg.Kafka.Topics.Verdicts})
	if err != nil || !infos[0].Exists {
		return // said already
	}
	kept, ok := infos[0].RetentionMS()
	if !ok || kept < 0 {
		return
	}
	for _, t := range inputs {
		if ms, ok := t.RetentionMS(); ok && (ms < 0 || ms > kept) {
			d.say(DoctorWarn, "own topics", "%s keeps verdicts for %v, and %s keeps events for longer: of an outage of ClickHouse that lasts longer than that, causes would be decided anew; "+
				"raise retention.ms of %s to that of the events, if such an outage has to be survived", infos[0].Name, time.Duration(kept)*time.Millisecond, t.Name, infos[0].Name)
			return
		}
	}
}

func (d *doctor) clickhouse(ctx context.Context) {
	s, err := store.New(d.cfg.Store, store.Deps{Getenv: d.getenv, Log: quiet()})
	if err != nil {
		d.say(DoctorFail, "clickhouse", "%v", err)
		return
	}
	defer func() { _ = s.Close() }()
	info, err := s.Info(ctx)
	if store.NoDatabase(err) {
		d.say(DoctorWarn, "clickhouse", "%s answers; database %s will be created by the first run, if user %s may", strings.Join(d.cfg.Store.Addrs, ", "),
			d.cfg.Store.Database, d.cfg.Store.Username)
		return
	}
	if err != nil {
		d.say(DoctorFail, "clickhouse", "%s: %v", strings.Join(d.cfg.Store.Addrs, ", "), err)
		return
	}
	d.say(DoctorGood, "clickhouse", "version %s, user %s, schema %d of %d", info.Version, info.User, info.Schema, info.WantSchema)
	for _, p := range info.Problems {
		d.say(DoctorWarn, "clickhouse", "%s", p)
	}
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
