package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/slack/slacktest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/store"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

const (
	// patience bounds each wait; none is ever used up on the way to a pass.
	patience = 60 * time.Second
	pageTo   = "C0PAGE"
	ticketTo = "C0TICKET"
	person   = "ada"
	personID = "U0ADA"
	key16    = "0123456789abcdef0123456789abcdef"
)

// rig is one installation: a broker, a ClickHouse and a Slack that daemons of
// one test share, and a configuration for them that no other test uses.
type rig struct {
	t     *testing.T
	dir   string
	cfg   *config.Config
	slack *slacktest.Server
	store *store.Client
	env   map[string]string
}

// newRig makes the installation. The topics exist already.
func newRig(t *testing.T, broker, clickhouse string, topics ...ingest.TopicConfig) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), slack: slacktest.NewServer(pageTo, ticketTo), env: map[string]string{
		"FINGERPRINT_KEY": key16 + "f", "CREDENTIAL": key16 + "c",
		"SLACK_TOKEN": slacktest.Token, "SLACK_SIGNING": slacktest.SigningSecret,
	}}
	t.Cleanup(r.slack.Close)
	name := devstacktest.Name(t)
	cfg := config.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Kafka.Brokers = []string{broker}
	cfg.Kafka.Group.ID = name
	cfg.Kafka.Topics = kafka.TopicConfig{Quarantine: name + ".quarantine", Journal: name + ".journal", Control: name + ".control",
		Verdicts: name + ".verdicts"}
	cfg.Ingest.Topics = topics
	cfg.Ingest.FingerprintKey = secret.Ref{Env: "FINGERPRINT_KEY"}
	cfg.Store.Addrs, cfg.Store.Database = []string{clickhouse}, name
	// A file, because the commands that read the journal know this process's
	// environment only.
	cfg.Journal.Key = secret.Ref{File: filepath.Join(r.dir, "journal-key")}
	if err := os.WriteFile(cfg.Journal.Key.File, []byte(key16), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Detect.Lateness = time.Second
	cfg.Slack.Token, cfg.Slack.SigningSecret = secret.Ref{Env: "SLACK_TOKEN"}, secret.Ref{Env: "SLACK_SIGNING"}
	cfg.Slack.APIURL, cfg.Slack.Channels.Page, cfg.Slack.Channels.Ticket = r.slack.APIURL(), pageTo, ticketTo
	cfg.Alert.People = []alert.Person{{ID: person, Slack: personID, Roles: []string{"responder", "approver"}, Credential: secret.Ref{Env: "CREDENTIAL"}}}
	d := &cfg.Alert.Delivery
	d.PerChannel, d.PerMinute, d.EditInterval, d.ReplyInterval = 50*time.Millisecond, 600, 500*time.Millisecond, 500*time.Millisecond
	d.RetryMin, d.TakeoverWait = 200*time.Millisecond, 500*time.Millisecond
	r.cfg = cfg

	// The test's own eyes on ClickHouse; the daemon has its own connection.
	sc := cfg.Store
	c, err := store.New(sc, store.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r.store = c
	return r
}

// daemon is one running member of an installation.
type daemon struct {
	t       *testing.T
	name    string
	app     *app.App
	client  *console.Client
	metrics *metrics.Registry
	logs    *logs
	cancel  context.CancelFunc
	done    chan error
	stopped bool
	last    string // its status before it was stopped
}

// start runs a daemon whose configuration is the rig's, changed by f; its data
// folder belongs to its name, so that a second start of a name is a restart.
func (r *rig) start(name string, f func(*config.Config)) *daemon {
	r.t.Helper()
	d := &daemon{t: r.t, name: name, logs: &logs{}, metrics: metrics.New(), done: make(chan error, 1)}
	cfg := r.config(name, f)
	if errs := cfg.Validate(); len(errs) > 0 {
		r.t.Fatalf("the configuration is not valid: %v", errors.Join(errs...))
	}
	a, err := app.New(cfg, r.options(d))
	if err != nil {
		r.t.Fatalf("make daemon %s: %v", name, err)
	}
	d.app = a
	if d.client, err = console.NewClient(a.URL(), secret.New(r.env["CREDENTIAL"]), ""); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go func() { d.done <- a.Run(ctx) }()
	r.t.Cleanup(func() {
		if !d.stopped {
			st, _ := d.client.Status(context.Background())
			b, _ := json.Marshal(st)
			d.last = string(b)
			d.stop()
		}
		if r.t.Failed() {
			r.t.Logf("last status of %s: %s", name, d.last)
			r.t.Logf("log of %s:\n%s", name, d.logs.tail(80))
		}
	})
	return d
}

// config is the configuration of one member.
func (r *rig) config(name string, f func(*config.Config)) *config.Config {
	cfg := *r.cfg
	cfg.Networks = maps.Clone(r.cfg.Networks)
	cfg.Instance, cfg.DataDir = name, filepath.Join(r.dir, name)
	if f != nil {
		f(&cfg)
	}
	return &cfg
}

func (r *rig) options(d *daemon) app.Options {
	return app.Options{Version: "test", Getenv: func(k string) string { return r.env[k] }, Out: d.logs, Metrics: d.metrics,
		Logger: slog.New(slog.NewTextHandler(d.logs, nil))}
}

// stop ends the daemon as SIGTERM does and holds it to the ten seconds that it
// has for that.
func (d *daemon) stop() {
	d.t.Helper()
	d.stopped = true
	d.cancel()
	began := time.Now()
	select {
	case err := <-d.done:
		if err != nil {
			d.t.Errorf("daemon %s ended with: %v", d.name, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			d.t.Errorf("daemon %s took %v to stop, want at most 10s", d.name, took)
		}
	case <-time.After(patience):
		d.t.Errorf("daemon %s does not stop", d.name)
	}
}

// failed ends the test when the daemon has ended by itself.
func (d *daemon) failed() {
	d.t.Helper()
	if d.stopped {
		return
	}
	select {
	case err := <-d.done:
		d.stopped = true
		d.t.Fatalf("daemon %s ended by itself: %v", d.name, err)
	default:
	}
}

// await polls until ok, or ends the test saying what was waited for.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("stopped while waiting: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// leads waits until the daemon leads and its detection is live.
func (d *daemon) leads() {
	d.t.Helper()
	await(d.t, d.name+" leads and is ready", func() bool {
		d.failed()
		st, err := d.client.Status(d.t.Context())
		return err == nil && st.Role == "leader" && st.Ready && len(st.Positions) > 0
	})
}

// standsBy waits until the daemon knows a leader that is not itself.
func (d *daemon) standsBy() {
	d.t.Helper()
	await(d.t, d.name+" stands by", func() bool {
		d.failed()
		st, err := d.client.Status(d.t.Context())
		return err == nil && st.Role == "standby" && st.Leader != "" && st.Leader != d.name && strings.Contains(d.logs.String(), "standing by")
	})
}

// incidents lists what the daemon knows.
func (d *daemon) incidents() []incident.Incident {
	d.t.Helper()
	d.failed()
	list, err := d.client.Incidents(d.t.Context())
	if err != nil {
		d.t.Fatalf("list incidents: %v", err)
	}
	return list
}

// incident waits for one that f wants.
func (d *daemon) incident(what string, f func(incident.Incident) bool) (found incident.Incident) {
	d.t.Helper()
	await(d.t, what, func() bool {
		for _, inc := range d.incidents() {
			if f(inc) {
				found = inc
				return true
			}
		}
		return false
	})
	return found
}

// detected waits until detection has seen n records of all topics.
func (d *daemon) detected(n int64) {
	d.t.Helper()
	await(d.t, d.name+" has detected everything", func() bool {
		d.failed()
		st, err := d.client.Status(d.t.Context())
		if err != nil {
			return false
		}
		sum := int64(0)
		for _, p := range st.Positions {
			sum += p.Detected
		}
		return sum >= n
	})
}

// gauge is the value of a metric, summed over its labels.
func (d *daemon) metric(name string) (sum float64) {
	d.t.Helper()
	families, err := d.metrics.Gatherer().Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

// stored waits until ClickHouse holds exactly n events of a topic, each once in
// every way of counting, and none in quarantine.
func (r *rig) stored(topic string, n int) {
	r.t.Helper()
	r.storedBeside(topic, n, 0)
}

// storedBeside is stored, with so many records in quarantine.
func (r *rig) storedBeside(topic string, n, quarantined int) {
	r.t.Helper()
	var got store.Count
	var err error
	deadline := time.Now().Add(patience)
	for {
		got, err = r.store.Count(r.t.Context(), topic)
		if err == nil && got.Distinct >= uint64(n) && got.Quarantine >= uint64(quarantined) {
			break
		}
		if time.Now().After(deadline) || r.t.Context().Err() != nil {
			r.t.Fatalf("topic %s: counted %+v (%v), want %d events and %d in quarantine", topic, got, err, n, quarantined)
		}
		time.Sleep(50 * time.Millisecond)
	}
	want := uint64(n)
	if got.Distinct != want || got.Final != want || got.View != want || got.Quarantine != uint64(quarantined) {
		r.t.Errorf("topic %s: counted %+v, want %d events in each way and %d in quarantine", topic, got, n, quarantined)
	}
}

// journal is the whole history, which has to be sound.
func (r *rig) journal() (out []journal.Record) {
	r.t.Helper()
	report, err := app.VerifyJournal(r.t.Context(), r.cfg, journal.Head{})
	if err != nil {
		r.t.Fatalf("verify the journal: %v", err)
	}
	if !report.Good() {
		r.t.Errorf("the journal has problems: %+v", report.Problems)
	}
	err = app.ExportJournal(r.t.Context(), r.cfg, func(rec journal.Record) error {
		out = append(out, rec)
		return nil
	})
	if err != nil {
		r.t.Fatalf("read the journal: %v", err)
	}
	return out
}

// mirrored waits until ClickHouse has every record that the journal has now.
func (r *rig) mirrored() {
	r.t.Helper()
	n := len(r.journal())
	await(r.t, "the journal in ClickHouse", func() bool {
		return r.number("SELECT count() FROM journal FINAL WHERE n <= {n:Int64}", map[string]string{"n": strconv.Itoa(n)}) == strconv.Itoa(n)
	})
}

// number is what a query gives that has one value.
func (r *rig) number(sql string, params map[string]string) string {
	r.t.Helper()
	rows, err := r.store.Query(r.t.Context(), sql, params)
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		r.t.Fatalf("no answer to %s", sql)
	}
	values, err := rows.Values()
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprint(values[0])
}

// bodies are the bodies of one kind of record.
func bodies[T any](t *testing.T, records []journal.Record, kind journal.Kind) (out []T) {
	t.Helper()
	for _, rec := range records {
		if rec.Kind != kind {
			continue
		}
		var b T
		if err := json.Unmarshal(rec.Body, &b); err != nil {
			t.Fatalf("record %d: %v", rec.N, err)
		}
		out = append(out, b)
	}
	return out
}

// findingsOnce holds the journal to each finding standing in it once.
func findingsOnce(t *testing.T, records []journal.Record) []finding.Finding {
	t.Helper()
	list := bodies[finding.Finding](t, records, journal.KindFinding)
	seen := map[string]int{}
	for _, f := range list {
		if seen[f.ID]++; seen[f.ID] == 2 {
			t.Errorf("finding %s (%s) was journaled more than once", f.ID, f.RuleTitle)
		}
	}
	return list
}

// roots are the messages of a channel that begin a thread and show the text.
func (r *rig) roots(channel, text string) (out []slacktest.Message) {
	for _, m := range r.slack.Messages() {
		if m.Channel == channel && m.Thread == "" && m.OnlyFor == "" && strings.Contains(slacktest.Show(m).Text, text) {
			out = append(out, m)
		}
	}
	return out
}

// told waits for the message about something.
func (r *rig) told(channel, text string) (found slacktest.Message) {
	r.t.Helper()
	await(r.t, "a message in "+channel+" about "+text, func() bool {
		list := r.roots(channel, text)
		if len(list) > 0 {
			found = list[0]
		}
		return len(list) > 0
	})
	return found
}

// sourceTopic creates an input topic.
func sourceTopic(t *testing.T, broker string, partitions int32, configs map[string]string) string {
	t.Helper()
	return devstacktest.CreateTopic(t, broker, partitions, configs)
}

// imported are the settings of a topic whose records are old.
func imported() map[string]string { return map[string]string{"retention.ms": "-1"} }

// produce brings records to a topic.
func produce(t *testing.T, broker, topic string, msgs ...kafka.Message) {
	t.Helper()
	p, err := app.NewProducer([]string{broker}, topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		if err := p.Add(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// logs keeps what a daemon writes.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
