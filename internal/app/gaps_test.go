package app_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/alert/slack/slacktest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// toldFast is how soon people must know of lost data.
const toldFast = 10 * time.Second

// findingOf is the finding of a rule, once in the journal.
func (r *rig) findingOf(rule string) (finding.Finding, bool) {
	r.t.Helper()
	list := findingsOnce(r.t, r.journal())
	i := slices.IndexFunc(list, func(f finding.Finding) bool { return f.RuleID == rule })
	if i < 0 {
		return finding.Finding{}, false
	}
	return list[i], true
}

func fact(f finding.Finding, field string) string {
	for _, p := range f.Facts {
		if p.Field == field {
			return p.Value
		}
	}
	return ""
}

// TestRetentionOvertakesTheDaemon: what retention removed while the daemon was
// down is an incident that names the first and the last offset, and the store
// knows it too.
func TestRetentionOvertakesTheDaemon(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, broker string) {
		topic := sourceTopic(t, broker, 1, devstack.LogAppendTime())
		r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
		d := r.start("only", nil)
		d.leads()
		produce(t, broker, topic, loginsAt("h", 0, 5)...)
		d.detected(5)
		r.stored(topic, 5)
		d.stop()
		produce(t, broker, topic, loginsAt("h", 5, 7)...)
		forget(t, broker, topic, 1)
		produce(t, broker, topic, loginsAt("h", 12, 3)...)

		d = r.start("only", nil)
		d.leads()
		began := time.Now()
		m := r.told(ticketTo, "Records were removed by retention before they were read")
		t.Logf("people knew %v after the daemon led: %s", time.Since(began).Round(time.Millisecond), slacktest.Show(m).Text)
		if shown := slacktest.Show(m).Text; !strings.Contains(shown, "First offset: 5") || !strings.Contains(shown, "Last offset: 11") {
			t.Errorf("the message names neither offset:\n%s", shown)
		}
		d.detected(15)
		r.stored(topic, 8)
		f, ok := r.findingOf(ingest.RuleDataGap)
		if !ok || fact(f, "first_offset") != "5" || fact(f, "last_offset") != "11" || f.Fired == 0 {
			t.Errorf("the journal has %+v, want offsets 5 to 11", f)
		}
		want := "0-14 stored 8 lost 7 missing 0 5-11 lost"
		await(t, "the schema", func() bool {
			return r.number("SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'v_continuity'", nil) == "1"
		})
		var got string
		await(t, "the gap in ClickHouse", func() bool {
			got = r.number("SELECT concat(toString(from_offset), '-', toString(to_offset), ' stored ', toString(stored), ' lost ', toString(lost), ' missing ', toString(missing), ' ', arrayStringConcat(gaps, ', ')) FROM v_continuity WHERE topic = {t:String}",
				map[string]string{"t": topic})
			return got == want
		})
		d.stop()
	})
}

// recreate deletes a topic and makes it again.
func recreate(t *testing.T, broker, topic string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	one := kmsg.NewDeleteTopicsRequestTopic()
	one.Topic = kmsg.StringPtr(topic)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis, req.TopicNames, req.Topics = 5000, []string{topic}, append(req.Topics, one)
	res, err := req.RequestWith(t.Context(), c)
	if err != nil || res.Topics[0].ErrorCode != 0 {
		t.Fatalf("delete topic %s: %v %+v", topic, err, res)
	}
	deadline := time.Now().Add(patience)
	for {
		// The name may be taken for a moment yet, which CreateTopic takes for success.
		err := devstack.CreateTopic(t.Context(), broker, devstack.Topic{Name: topic, Partitions: 1, Configs: devstack.LogAppendTime()})
		if err == nil || time.Now().After(deadline) {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

// endsWithAdvice waits for the daemon to stop by itself, because a person has to
// decide.
func (d *daemon) endsWithAdvice(want string) {
	d.t.Helper()
	select {
	case err := <-d.done:
		d.stopped = true
		var op *app.OperatorError
		if !errors.As(err, &op) || !strings.Contains(err.Error(), want) {
			d.t.Errorf("daemon %s ended with %v, want an operator's fault about %q", d.name, err, want)
		}
	case <-time.After(patience):
		d.t.Fatalf("daemon %s goes on", d.name)
	}
}

// TestRecreatedTopic: a topic that is longer than what was read of the one before
// it looks like more of the same. The daemon notices all the same, while it runs
// and when it starts, tells people, and stops before rows are mixed; under a new
// name the rest is read.
func TestRecreatedTopic(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, broker string) {
		for name, running := range map[string]bool{"while running": true, "while down": false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				topic := sourceTopic(t, broker, 1, devstack.LogAppendTime())
				r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
				d := r.start("only", nil)
				d.leads()
				produce(t, broker, topic, loginsAt("h", 0, 5)...)
				d.detected(5)
				r.stored(topic, 5)
				if !running {
					d.stop()
				}
				recreate(t, broker, topic)
				began := time.Now()
				if running {
					m := r.told(pageTo, "An input topic was deleted and made again")
					if took := time.Since(began); took > toldFast {
						t.Logf("people knew %v after the topic was made again, want %v on an idle machine", took, toldFast)
					}
					if shown := slacktest.Show(m).Text; !strings.Contains(shown, topic) || !strings.Contains(shown, "the next offset to read was 5") {
						t.Errorf("the message says:\n%s", shown)
					}
					d.endsWithAdvice("was deleted and made again")
				}
				produce(t, broker, topic, loginsAt("h", 100, 9)...)
				d = r.start("only", nil)
				d.endsWithAdvice("was deleted and made again")
				r.told(pageTo, "An input topic was deleted and made again")
				f, ok := r.findingOf(ingest.RuleTopicRecreated) // once, however many starts
				if !ok || fact(f, "old_topic_id") == "" || fact(f, "old_topic_id") == fact(f, "new_topic_id") || !strings.HasPrefix(fact(f, "partition_0"), "the next offset to read was 5; ") {
					t.Errorf("the journal has %+v", f)
				}
				r.stored(topic, 5) // nothing of the other topic

				fresh := sourceTopic(t, broker, 1, devstack.LogAppendTime())
				produce(t, broker, fresh, loginsAt("h", 100, 9)...)
				d = r.start("only", func(c *config.Config) {
					c.Ingest.Topics = []ingest.TopicConfig{{Name: fresh, Origin: event.OriginGateway}}
				})
				d.leads()
				d.detected(9)
				r.stored(fresh, 9)
				r.stored(topic, 5)
				d.stop()
			})
		}
	})
}
