package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// ratedLogins is a rule with a season.
const ratedLogins = `title: Login of a canary
name: canary_logs_in
logsource: {product: keysentry, service: session}
detection:
  selection: {type: session.created, user_id|startswith: canary}
  condition: selection
---
title: A canary logs in at an odd rate
name: canary_rate
correlation:
  type: rate_anomaly
  rules: [canary_logs_in]
  group-by: [user_id]
level: high
severity: ticket
`

// TestBaselines: a rule whose seasons were lost, and one that is due by the clock,
// learn from the stored events.
func TestBaselines(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := sourceTopic(t, broker, 1, devstack.LogAppendTime())
	r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	r.withRules(ratedLogins)
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: r.cfg.Store.Addrs, Auth: clickhouse.Auth{Database: r.cfg.Store.Database}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exec := func(sql string) {
		t.Helper()
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	season := func() string { return r.number("SELECT max(seen) FROM baselines FINAL", nil) }
	begin := func(f func(*config.Config)) *daemon {
		t.Helper()
		d := r.start("only", f)
		d.leads()
		await(t, "the rule's memory", func() bool { return strings.Contains(d.logs.String(), "rule knows what came before") })
		return d
	}

	// One login, stored, and copies of it every ten minutes of five days.
	d := begin(nil)
	produce(t, broker, topic, loginFrom("198.51.100.1"))
	r.stored(topic, 1)
	d.stop()
	exec(`INSERT INTO events SELECT e.* REPLACE (ts - toIntervalMinute(10 * (1 + number)) AS ts, observed_at - toIntervalMinute(10 * (1 + number)) AS observed_at,
		1000000 + number AS offset) FROM (SELECT * FROM events FINAL WHERE topic = '` + topic + `') AS e CROSS JOIN (SELECT number FROM numbers(720)) AS n`)
	exec("TRUNCATE TABLE baselines")

	// Lost: it is read off the events at the start.
	d = begin(nil)
	await(t, "five days of a season", func() bool { return len(season()) == 4 && season() > "7000" })
	d.stop()

	// Due: what runs is told, and a group that was dropped comes back.
	since := r.number("SELECT toString(max(since)) FROM rule_memory WHERE rule_id IN (SELECT rule_id FROM baselines)", nil)
	id := r.number("SELECT rule_id FROM baselines LIMIT 1", nil)
	hash := r.number("SELECT rule_hash FROM baselines LIMIT 1", nil)
	exec("TRUNCATE TABLE rule_memory")
	exec(fmt.Sprintf("INSERT INTO rule_memory SELECT '%s', '%s', toDateTime('%s', 'UTC') - INTERVAL 2 DAY", id, hash, since))
	d = begin(nil)
	await(t, "the run by the clock", func() bool { return strings.Contains(d.logs.String(), "seasons were read off the stored events") })
	if n := d.metric("keysentry_baselines_rules_total"); n < 1 {
		t.Errorf("%v rules were counted", n)
	}
	if got, err := r.store.MemorySince(t.Context(), id, hash); err != nil || time.Since(got.Time()) > time.Hour {
		t.Errorf("the run is kept as of %v, %v", got, err)
	}
	d.stop()

	// Never: the same, with the schedule taken away.
	exec("TRUNCATE TABLE rule_memory")
	exec(fmt.Sprintf("INSERT INTO rule_memory SELECT '%s', '%s', toDateTime('%s', 'UTC') - INTERVAL 2 DAY", id, hash, since))
	d = begin(func(c *config.Config) { c.Posture.Baselines = "" })
	time.Sleep(2 * time.Second)
	if strings.Contains(d.logs.String(), "seasons were read off the stored events") {
		t.Error("it ran without a schedule")
	}
	d.stop()
	if n, err := r.store.ReadMemory(t.Context(), id, hash, 0, func([]memory.Piece) error { return nil }); n != 1 || err != nil {
		t.Errorf("%d seasons are kept, %v, want 1", n, err)
	}
}
