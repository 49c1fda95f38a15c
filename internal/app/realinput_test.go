package app_test

import (
	"bufio"
	"compress/gzip"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/slack/slacktest"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// TestRealInput: logs that other people published go through Apache Kafka into
// ClickHouse without a loss, and the attack that is in them reaches Slack.
func TestRealInput(t *testing.T) {
	sshLines := lines(t, sharedData(t, "openssh/OpenSSH_2k.log"))
	trailLines := lines(t, sharedData(t, "cloudtrail-attacks/events.ndjson.gz"))
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
	inc := d.incident("an incident about the source that guesses passwords", func(i incident.Incident) bool {
		return i.Subject.Field == event.FieldSourceIP.String() && i.Severity == finding.Page && i.Subject.Value == "183.62.140.253"
	})
	m := r.told(pageTo, inc.Subject.Value)
	text := slacktest.Show(m).Text
	for _, want := range []string{inc.ID, "183.62.140.253", "One source is refused again and again", "Block the source"} {
		if !strings.Contains(text, want) {
			t.Errorf("the message does not say %q", want)
		}
	}
	t.Logf("Slack shows:\n%s", r.slack.Text())
}

// lines reads a file's lines, unpacked.
func lines(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	var out []string
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if s.Text() != "" {
			out = append(out, s.Text())
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
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
