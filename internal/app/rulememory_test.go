package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// newAddress is a rule that remembers.
const newAddress = `title: Login of a canary
name: canary_logs_in
logsource: {product: keysentry, service: session}
detection:
  selection: {type: session.created, user_id|startswith: canary}
  condition: selection
---
title: A canary logs in from a new address
name: %s
correlation:
  type: first_seen
  rules: [canary_logs_in]
  group-by: [user_id]
  field: source_ip
  lookback: 30d
level: high
severity: ticket
`

// loginFrom is the start of a canary's session from an address.
func loginFrom(address string) kafka.Message {
	return kafka.Message{Key: []byte("canary-7"), Value: fmt.Appendf(nil, `{"type":"session.created","time":%q,"network":"n1","host":"gw-1","user_id":"canary-7","source_ip":%q}`,
		time.Now().UTC().Format(time.RFC3339Nano), address)}
}

// TestMemoryOfRules: what a rule has seen it still knows after a restart, and a
// new rule knows what the stored events tell. Partitions without events do not hold
// that up.
func TestMemoryOfRules(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := sourceTopic(t, broker, 3, devstack.LogAppendTime())
	r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	r.cfg.Rules.Builtin = false // the shipped rules remember too
	r.cfg.Rules.Paths = []string{filepath.Join(r.dir, "rules")}
	rule := func(name string) {
		t.Helper()
		if err := os.MkdirAll(r.cfg.Rules.Paths[0], 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.cfg.Rules.Paths[0], "canary.yml"), fmt.Appendf(nil, newAddress, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const first, second, third = "198.51.100.1", "198.51.100.2", "198.51.100.3"
	findings := func(rule string) (addresses []string) {
		for _, f := range bodies[finding.Finding](t, r.journal(), journal.KindFinding) {
			if f.RuleName == rule && len(f.Evidence) > 0 {
				addresses = append(addresses, f.Evidence[len(f.Evidence)-1].SourceIP)
			}
		}
		return addresses
	}
	until := func(rule string, want ...string) {
		t.Helper()
		await(t, fmt.Sprintf("findings of %s about %v", rule, want), func() bool { return slices.Equal(findings(rule), want) })
	}
	remembered := func(n int) {
		t.Helper()
		await(t, fmt.Sprintf("%d addresses kept", n), func() bool { return r.number("SELECT count() FROM v_first_seen", nil) == strconv.Itoa(n) })
	}

	rule("canary_moves")
	d := r.start("only", nil)
	d.leads()
	await(t, "the rule's memory", func() bool { return strings.Contains(d.logs.String(), "rule knows what came before") })
	produce(t, broker, topic, loginFrom(first))
	until("canary_moves", first)
	remembered(1)
	d.stop()

	d = r.start("only", nil)
	d.leads()
	produce(t, broker, topic, loginFrom(first), loginFrom(second))
	until("canary_moves", first, second)
	r.stored(topic, 3)
	d.stop()

	rule("canary_travels")
	d = r.start("only", nil)
	d.leads()
	await(t, "the rule's memory", func() bool { return strings.Contains(d.logs.String(), "rule knows what came before") })
	produce(t, broker, topic, loginFrom(second), loginFrom(first), loginFrom(third))
	until("canary_travels", third)
	d.stop()
	if got := findings("canary_travels"); !slices.Equal(got, []string{third}) {
		t.Errorf("a new rule fired about %v, want %s", got, third)
	}
}
