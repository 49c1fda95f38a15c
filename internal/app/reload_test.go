package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// canary is a rule of an operator: nobody should ever log in as this user.
const canary = `title: %s
id: 5b1f9f3e-6f0a-4b52-9a34-5f3f0c9c1a01
name: canary_login
status: experimental
description: A user that exists only to be watched.
author: A test
date: 2026-11-23
tags: [attack.t1078]
logsource: {product: keysentry, category: authentication}
detection:
  selection: {type: session.created, user_id|startswith: canary}
  condition: selection
falsepositives: [none]
level: high
severity: page
incident: other
risk: {subject: user_id, score: 0, family: possession}
summary: Somebody logged in as the canary.
resolution: Find out who knows the canary's password.
suppress: 1d
`

// login is the start of a user's session.
func login(user string) kafka.Message {
	return kafka.Message{Value: fmt.Appendf(nil, `{"type":"session.created","time":%q,"network":"n1","host":"gw-1","user_id":%q}`,
		time.Now().UTC().Format(time.RFC3339Nano), user)}
}

// sang finds the incident about a canary.
func sang(user string) func(incident.Incident) bool {
	return func(i incident.Incident) bool { return i.Subject.Value == user }
}

// TestReload: new rules run without a restart; a slip of the pen is refused and
// changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := sourceTopic(t, broker, 1, devstack.LogAppendTime())
	r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	file := filepath.Join(r.dir, "rules", "canary.yml")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What is left out from the start does not stand in the way of a reload.
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "foreign.yml"), []byte("title: not for us\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cfg.Rules.Paths = []string{filepath.Dir(file)}
	d := r.start("only", nil)
	d.leads()
	produce(t, broker, topic, login("canary-0"))
	d.detected(1)
	if n := len(d.incidents()); n != 0 {
		t.Fatalf("%d incidents before the rule is there, want none", n)
	}

	write(fmt.Sprintf(canary, "A canary sang"))
	if err := d.app.Reload(t.Context()); err != nil {
		t.Fatalf("reload: %v", err)
	}
	produce(t, broker, topic, login("canary-1"))
	d.incident("an incident about canary-1", sang("canary-1"))
	r.told(pageTo, "Somebody logged in as the canary")

	write(strings.Replace(fmt.Sprintf(canary, "Typo"), "detection:", "detecton:", 1))
	err := d.app.Reload(t.Context())
	if err == nil {
		t.Fatal("a rule with a typing error was taken")
	}
	oneLine(t, err.Error(), []string{"canary.yml", "detect"})
	produce(t, broker, topic, login("canary-2"))
	d.incident("an incident about canary-2: the rule that ran before runs on", sang("canary-2"))
	d.stop()
	var results []string
	for _, c := range bodies[journal.ConfigChange](t, r.journal(), journal.KindConfig) {
		results = append(results, c.Result)
	}
	// The watch of the files may have been first, and each call is told.
	if results = slices.Compact(results); strings.Join(results, " ") != "applied refused" {
		t.Errorf("the journal tells of reloads that were %q, want applied and refused", results)
	}
}
