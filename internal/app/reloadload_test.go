package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// watched is a rule of an operator, about users whose name begins with a text.
const watched = `title: Watched user, %[1]s
id: 5b1f9f3e-6f0a-4b52-9a34-5f3f0c9c1a%02[2]d
name: watched_%[2]d
logsource: {product: keysentry, category: authentication}
detection:
  selection: {type: session.created, user_id|startswith: %[3]s}
  condition: selection
level: medium
risk: {subject: user_id, score: 0}
summary: A watched user logged in.
suppress: 1d
`

// halfway counts refused logins of one user.
const halfway = `title: Refused
id: 5b1f9f3e-6f0a-4b52-9a34-5f3f0c9c1b01
name: refused
logsource: {product: keysentry, service: session}
detection:
  selection: {type: session.denied, user_id|startswith: victim}
  condition: selection
---
title: Five refused logins
id: 5b1f9f3e-6f0a-4b52-9a34-5f3f0c9c1b02
name: five_refused
correlation:
  type: event_count
  rules: [refused]
  group-by: [user_id]
  timespan: 10m
  condition: {gte: 5}
level: medium
risk: {subject: user_id, score: 0}
`

// load is a producer that does not stop for a reload.
type load struct {
	t    *testing.T
	p    *app.Producer
	sent atomic.Int64
	stop chan struct{}
	done chan error
}

const (
	loadEvery = 20 * time.Millisecond
	loadBatch = 60 // 3,000 events a second
)

func startLoad(t *testing.T, broker, topic string) *load {
	t.Helper()
	newProducer := func() *app.Producer {
		p, err := app.NewProducer([]string{broker}, topic)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	l := &load{t: t, p: newProducer(), stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { l.done <- l.run(newProducer()) }()
	return l
}

func (l *load) run(p *app.Producer) error {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-l.stop:
			return p.Close(l.t.Context())
		case <-tick.C:
		}
		for range loadBatch {
			n++
			if err := p.Add(l.t.Context(), login(fmt.Sprintf("user-%d", n))); err != nil {
				return err
			}
		}
		if err := p.Flush(l.t.Context()); err != nil {
			return err
		}
		l.sent.Add(loadBatch)
	}
}

// send brings one more record, among the others.
func (l *load) send(m kafka.Message) {
	l.t.Helper()
	if err := l.p.Add(l.t.Context(), m); err != nil {
		l.t.Fatal(err)
	}
	if err := l.p.Flush(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	l.sent.Add(1)
}

func (l *load) end() int {
	l.t.Helper()
	close(l.stop)
	if err := <-l.done; err != nil {
		l.t.Fatalf("the producer: %v", err)
	}
	if err := l.p.Close(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	return int(l.sent.Load())
}

// effective sends logins of ever new users whose names begin with prefix, until
// the rule with the title fires. It returns how long after from that was.
func (l *load) effective(d *daemon, title, prefix string, from time.Time) time.Duration {
	l.t.Helper()
	before, n := d.fired(title), 0
	await(l.t, title+" fires", func() bool {
		if d.fired(title) > before {
			return true
		}
		l.send(login(fmt.Sprintf("%s%d", prefix, n)))
		n++
		return false
	})
	return time.Since(from)
}

// fired is how often the rule with a title has fired.
func (d *daemon) fired(title string) float64 {
	d.t.Helper()
	families, err := d.metrics.Gatherer().Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "keysentry_detect_findings_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == title {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestReloadUnderLoad: an edit of a rule file takes effect while events keep
// coming, however it is saved. Nothing is lost or judged twice, what other rules
// have counted stays, and a broken edit changes nothing and says so.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := sourceTopic(t, broker, 2, devstack.LogAppendTime())
	r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	dir, mounted := filepath.Join(r.dir, "rules"), filepath.Join(r.dir, "mounted")
	file := filepath.Join(dir, "watched.yml")
	rule := func(manner string, n int) string { return fmt.Sprintf(watched, manner, n, fmt.Sprintf("w%02d.", n)) }
	writeFile(t, filepath.Join(dir, "halfway.yml"), halfway)
	writeFile(t, file, rule("nothing yet", 1))
	mount(t, mounted, "..v1", rule("a mounted folder", 2))
	r.cfg.Rules.Paths = []string{dir, mounted}
	d := r.start("only", nil)
	d.leads()

	l := startLoad(t, broker, topic)
	refuse := func() {
		l.send(kafka.Message{Value: fmt.Appendf(nil, `{"type":"session.denied","time":%q,"network":"n1","host":"gw-1","user_id":"victim","reason":"x"}`,
			time.Now().UTC().Format(time.RFC3339Nano))})
	}
	for range 3 {
		refuse()
	}
	for i, m := range []struct {
		name string
		save func(text string)
	}{
		{"written in place", func(text string) { writeFile(t, file, text) }},
		{"renamed over", func(text string) {
			writeFile(t, file+".new", text)
			rename(t, file+".new", file)
		}},
		{"deleted and created anew", func(text string) {
			remove(t, file)
			writeFile(t, file, text)
		}},
		{"moved to a backup and written", func(text string) {
			rename(t, file, file+"~")
			writeFile(t, file, text)
		}},
		{"swapped as a mounted folder", func(text string) { mount(t, mounted, "..v2", text) }},
	} {
		n := 10 + i
		from := time.Now()
		m.save(rule(m.name, n))
		t.Logf("%s: effective %d ms after the save", m.name, l.effective(d, "Watched user, "+m.name, fmt.Sprintf("w%02d.", n), from).Milliseconds())
	}

	// A slip of the pen is said and changes nothing: the rule of before runs on.
	writeFile(t, file, strings.Replace(rule("a slip", 20), "detection:", "detecton:", 1))
	await(t, "the log says that the edit is refused", func() bool { return strings.Contains(d.logs.String(), "reload refused") })
	l.effective(d, "Watched user, moved to a backup and written", "w13.again.", time.Now())
	writeFile(t, file, rule("mended", 21))
	l.effective(d, "Watched user, mended", "w21.", time.Now())

	for range 3 {
		refuse()
	}
	await(t, "the half-way count reaches its threshold", func() bool { return d.fired("Five refused logins") > 0 })
	total := l.end()
	d.detected(int64(total))
	r.stored(topic, total)
	if got := d.metric("keysentry_detect_events_total"); got != float64(total) {
		t.Errorf("%v events were judged, %d were produced", got, total)
	}
	t.Logf("%d events", total)
	d.stop()
	checkReloads(t, r.journal())
}

func checkReloads(t *testing.T, records []journal.Record) {
	t.Helper()
	five := 0
	for _, f := range findingsOnce(t, records) {
		if f.RuleName == "five_refused" {
			five++
			if f.Value != 5 {
				t.Errorf("five_refused fired at %v, want 5", f.Value)
			}
		}
	}
	if five != 1 {
		t.Errorf("five_refused fired %d times, want once", five)
	}
	var applied, refused int
	for _, c := range bodies[journal.ConfigChange](t, records, journal.KindConfig) {
		switch c.Result {
		case "applied":
			applied++
			if c.Hash == "" || !strings.Contains(c.Detail, "watched_") {
				t.Errorf("a change does not name its rule: %+v", c)
			}
		case "refused":
			refused++
			oneLine(t, c.Detail, []string{"watched.yml", "KS103"})
		}
	}
	// A save in two steps may be seen as two changes, but never as none.
	if applied < 6 || refused != 1 {
		t.Errorf("the journal has %d changes that were applied and %d refused, want 6 and 1", applied, refused)
	}
}

// mount makes or swaps a folder as Kubernetes mounts a ConfigMap: the file is a
// link into ..data, and ..data is a link to a version, renamed over the old one.
func mount(t *testing.T, dir, version, text string) {
	t.Helper()
	writeFile(t, filepath.Join(dir, version, "mounted.yml"), text)
	if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
		t.Fatal(err)
	}
	rename(t, filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
	if _, err := os.Lstat(filepath.Join(dir, "mounted.yml")); err == nil {
		return
	}
	if err := os.Symlink(filepath.Join("..data", "mounted.yml"), filepath.Join(dir, "mounted.yml")); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}
