package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// slow is a rule with a timespan that no topic has to keep, and quick one with a
// short one.
const slow = `title: Seen
name: seen_login
logsource: {product: keysentry, category: authentication}
detection:
  selection: {type: session.created, user_id|startswith: seen}
  condition: selection
---
title: Many users of one host
id: 5b1f9f3e-6f0a-4b52-9a34-5f3f0c9c1b01
name: many_users
correlation:
  type: value_count
  rules: [seen_login]
  group-by: [host]
  timespan: 7d
  field: user_id
  condition: {gte: 6}
level: high
severity: page
incident: other
summary: Many users of one host.
---
title: Two users of one host
id: 5b1f9f3e-6f0a-4b52-9a34-5f3f0c9c1b02
name: two_users
correlation:
  type: value_count
  rules: [seen_login]
  group-by: [host]
  timespan: 30s
  field: user_id
  condition: {gte: 2}
level: high
severity: page
incident: other
summary: Two users of one host.
`

// withRules gives every daemon of the rig rules of its own, beside those shipped.
func (r *rig) withRules(text string) {
	r.t.Helper()
	file := filepath.Join(r.dir, "rules", "own.yml")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.cfg.Rules.Paths = []string{filepath.Dir(file)}
}

// loginsAt are the logins of users [first, first+n) at a host.
func loginsAt(host string, first, n int) (out []kafka.Message) {
	for i := first; i < first+n; i++ {
		out = append(out, kafka.Message{Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil,
			`{"type":"session.created","time":%q,"network":"n1","host":%q,"user_id":"seen-%d"}`, time.Now().UTC().Format(time.RFC3339Nano), host, i)})
	}
	return out
}

// forget deletes every record of a topic, as retention does.
func forget(t *testing.T, broker, topic string, partitions int32) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tp := kmsg.NewDeleteRecordsRequestTopic()
	tp.Topic = topic
	for i := range partitions {
		part := kmsg.NewDeleteRecordsRequestTopicPartition()
		part.Partition, part.Offset = i, -1
		tp.Partitions = append(tp.Partitions, part)
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis, req.Topics = 5000, append(req.Topics, tp)
	res, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range res.Topics[0].Partitions {
		if p.ErrorCode != 0 {
			t.Fatalf("delete the records of %s: %+v", topic, res)
		}
	}
}

// fired counts the findings of a rule by host, each once in the journal.
func (r *rig) fired(rule string) map[string]int {
	r.t.Helper()
	out := map[string]int{}
	for _, f := range findingsOnce(r.t, r.journal()) {
		if f.RuleName == rule {
			out[f.Group[0].Value]++
		}
	}
	return out
}

// TestWindowsAreFilledFromClickHouse: what Kafka has forgotten still counts after a
// restart, once; what had fired does not fire again.
func TestWindowsAreFilledFromClickHouse(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := sourceTopic(t, broker, 2, devstack.LogAppendTime())
	r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	r.cfg.Ingest.FillTimeout = patience // the machine may be busy
	r.cfg.Rules.Builtin = false // some shipped rules learn for days
	r.withRules(slow)
	d := r.start("only", nil)
	d.leads()
	produce(t, broker, topic, loginsAt("half", 0, 4)...)
	produce(t, broker, topic, loginsAt("whole", 0, 6)...)
	produce(t, broker, topic, loginsAt("few", 0, 2)...)
	d.detected(12)
	r.stored(topic, 12)
	await(t, "the finding about the host that has all", func() bool { return r.fired("many_users")["whole"] == 1 })
	d.stop()
	forget(t, broker, topic, 2)

	d = r.start("only", nil)
	d.leads()
	if got := d.metric("keysentry_detect_rules_learning"); got != 0 {
		t.Errorf("%v rules are learning, want none: everything is stored", got)
	}
	if got := d.metric("keysentry_detect_filled_events_total"); got != 12 {
		t.Errorf("%v stored events filled windows, want 12", got)
	}
	produce(t, broker, topic, loginsAt("half", 4, 2)...)
	produce(t, broker, topic, loginsAt("whole", 6, 2)...)
	produce(t, broker, topic, loginsAt("few", 1, 3)...) // one of them again
	await(t, "the finding about the host whose logins are half forgotten", func() bool { return r.fired("many_users")["half"] == 1 })
	d.detected(19)
	r.stored(topic, 19)
	d.stop()
	forget(t, broker, topic, 2)

	d = r.start("only", nil)
	d.leads()
	produce(t, broker, topic, loginsAt("half", 7, 3)...)
	d.detected(22)
	r.stored(topic, 22)
	d.stop()
	got := r.fired("many_users")
	if got["half"] != 1 || got["whole"] != 1 || got["few"] != 0 {
		t.Errorf("findings by host: %v, want half and whole once", got)
	}
}

// TestWindowsAreLearningWithoutClickHouse: what cannot be filled is said, and does
// not keep the rest from working.
func TestWindowsAreLearningWithoutClickHouse(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	ch := newEngine(t)
	topic := sourceTopic(t, broker, 1, devstack.LogAppendTime())
	r := newRig(t, broker, ch.Addr(), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	r.cfg.Store.DialTimeout = time.Second
	r.cfg.Rules.Builtin = false // some shipped rules learn for days
	r.withRules(slow)
	d := r.start("only", nil)
	d.leads()
	produce(t, broker, topic, loginsAt("half", 0, 4)...)
	d.detected(4)
	r.stored(topic, 4)
	d.stop()
	forget(t, broker, topic, 1)
	ch.Kill()

	began := time.Now()
	d = r.start("only", func(c *config.Config) { c.HTTP.Listen = "127.0.0.1:0" })
	d.leads()
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
	st, err := d.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if said := st.Parts["rules"]; !strings.Contains(said, "learning") {
		t.Errorf("the status says %q about rules, want that some are learning", said)
	}
	if got := d.metric("keysentry_detect_rules_learning"); got == 0 {
		t.Error("no rule is learning")
	}
	produce(t, broker, topic, loginsAt("other", 0, 2)...)
	produce(t, broker, topic, loginsAt("half", 4, 2)...)
	await(t, "the finding of the rule with a short timespan", func() bool { return r.fired("two_users")["other"] == 1 })
	d.detected(8)
	if got := r.fired("many_users"); len(got) != 0 {
		t.Errorf("the rule with the long timespan fired for %v: it cannot know", got)
	}
	ch.again()
	r.stored(topic, 8)
	d.stop()
}
