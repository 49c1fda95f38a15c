package app_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/slack/slacktest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/published"
)

// TestRealInput: logs that other people published go through Apache Kafka into
// ClickHouse without a loss, and the attack that is in them reaches Slack.
func TestRealInput(t *testing.T) {
	sshLines := publishedLines(t, "openssh/OpenSSH_2k.log")
	trailLines := publishedLines(t, "cloudtrail-attacks/events.ndjson.gz")
	if len(sshLines) != 2000 || len(trailLines) != 1233 {
		t.Fatalf("%d lines of OpenSSH and %d of CloudTrail, want 2000 and 1233", len(sshLines), len(trailLines))
	}
	broker, clickhouse := devstacktest.ApacheKafka(t), devstacktest.ClickHouse(t)
	ssh, trail := sourceTopic(t, broker, 1, imported()), sourceTopic(t, broker, 2, imported())
	r := newRig(t, broker, clickhouse,
		// The log names no year and begins on a December 10th, which has to be past.
		ingest.TopicConfig{Name: ssh, Origin: event.OriginGateway, Observed: ingest.ObservedProducer, Mapping: "openssh", Network: "bastion", Year: 2025},
		ingest.TopicConfig{Name: trail, Origin: event.OriginConsole, Observed: ingest.ObservedProducer, Mapping: "cloudtrail"})
	r.cfg.Store.TTLDays = 18250
	produce(t, broker, ssh, messages(sshLines)...)
	produce(t, broker, trail, messages(trailLines)...)

	d := r.start("only", nil)
	r.stored(ssh, len(sshLines))
	r.stored(trail, len(trailLines))
	r.ask(t, "SELECT count() FROM v_events WHERE topic = {t:String} AND type = 'session.denied'", ssh, len(failures(t, sshLines)))
	denied := 0
	for _, l := range trailLines {
		if strings.Contains(l, `"errorCode":"AccessDenied"`) {
			denied++
		}
	}
	r.ask(t, "SELECT count() FROM v_events WHERE topic = {t:String} AND code = 'AccessDenied'", trail, denied)
	r.ask(t, "SELECT count() FROM v_events WHERE topic = {t:String} AND key_id != '' AND NOT startsWith(key_id, 'v1:')", trail, 0)

	const loudest = "183.62.140.253"
	inc := d.incident("an incident about the source that guesses most", about(loudest))
	text := slacktest.Show(r.told(pageTo, loudest)).Text
	for _, want := range []string{inc.ID, loudest, "One source is refused again and again", "30 when it fired, where the rule says", "Failed password for root", "Block the source"} {
		if !strings.Contains(text, want) {
			t.Errorf("the message does not say %q", want)
		}
	}
	d.stop()
	got := map[string]bool{}
	for _, f := range findingsOnce(t, r.journal()) {
		if f.RuleName == "unauthorized_spike_source" && f.Group[0].Field == event.FieldSourceIP.String() && f.Kind == finding.Other {
			got[f.Group[0].Value] = true
		}
	}
	if diff := cmp.Diff(guessers(failures(t, sshLines)), got); diff != "" {
		t.Errorf("sources with 30 failures within five minutes (-counted in the file +found):\n%s", diff)
	}
	t.Logf("Slack shows:\n%s", r.slack.Text())
}

// ask holds the one number that a query about a topic gives to what is wanted.
func (r *rig) ask(t *testing.T, sql, topic string, want int) {
	t.Helper()
	if got := r.number(sql, map[string]string{"t": topic}); got != strconv.Itoa(want) {
		t.Errorf("%s: %s, want %d", sql, got, want)
	}
}

// failure is one refused login of the log.
type failure struct {
	at   time.Time
	from string
}

var failed = regexp.MustCompile(`^(\w{3} [ \d]\d \d\d:\d\d:\d\d) .*: Failed \S+ for .* from (\S+) port`)

// failures counts in the file itself, by other means than the product's.
func failures(t *testing.T, lines []string) (out []failure) {
	t.Helper()
	for _, l := range lines {
		m := failed.FindStringSubmatch(l)
		if m == nil {
			if m = repeated.FindStringSubmatch(l); m == nil {
				continue
			}
		}
		at, err := time.Parse(time.Stamp, m[1])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, failure{at, m[2]})
	}
	return out
}

var repeated = regexp.MustCompile(`^(\w{3} [ \d]\d \d\d:\d\d:\d\d) .*: message repeated \d+ times: \[ Failed \S+ for .* from (\S+) port`)

// guessers are the sources with thirty failures within five minutes.
func guessers(list []failure) map[string]bool {
	out, by := map[string]bool{}, map[string][]time.Time{}
	for _, f := range list {
		by[f.from] = append(by[f.from], f.at)
		if n := len(by[f.from]); n >= 30 && f.at.Sub(by[f.from][n-30]) < 5*time.Minute {
			out[f.from] = true
		}
	}
	return out
}

func messages(lines []string) []kafka.Message {
	out := make([]kafka.Message, len(lines))
	for i, l := range lines {
		out[i] = kafka.Message{Value: []byte(l)}
	}
	return out
}

func publishedLines(t *testing.T, name string) []string {
	t.Helper()
	var out []string
	for _, l := range published.Lines(t, name) {
		out = append(out, string(l))
	}
	return out
}
