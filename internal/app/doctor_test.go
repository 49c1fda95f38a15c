package app_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
)

func (r *rig) doctor() []app.DoctorRow {
	return app.Doctor(r.t.Context(), r.cfg, func(name string) string { return r.env[name] })
}

// said holds the rows to one of a status and a check that says all of want.
func said(t *testing.T, rows []app.DoctorRow, status, check string, want ...string) {
	t.Helper()
	for _, row := range rows {
		if row.Status == status && row.Check == check && !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(row.Detail, w) }) {
			return
		}
	}
	t.Errorf("no row %s %s says %q; rows:", status, check, want)
	for _, row := range rows {
		t.Errorf("  %s\t%s\t%s", row.Status, row.Check, row.Detail)
	}
}

// doctor: what doctor says about rights, to a user that may list them.
func (k *secureKafka) doctor(t *testing.T) {
	topic := sourceTopic(t, k.Addr(), 1, devstack.LogAppendTime())
	r := newRig(t, "unused:1", devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginBackend})
	k.use(r, scram512TLS)
	r.cfg.Kafka.SASL.Username, r.env["KAFKA_PASSWORD"] = "stranger", "the stranger's"
	me, topics := "User:stranger", r.cfg.Kafka.Topics
	allow := func(rules ...devstack.Rule) {
		t.Helper()
		if err := devstack.Allow(t.Context(), k.Addr(), rules...); err != nil {
			t.Fatal(err)
		}
	}
	// awaitSaid asks again: a broker applies a new rule a moment later.
	awaitSaid := func(status, check string, want ...string) {
		t.Helper()
		await(t, status+" "+check+": "+strings.Join(want, ", "), func() bool {
			return slices.ContainsFunc(r.doctor(), func(row app.DoctorRow) bool {
				return row.Status == status && row.Check == check && !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(row.Detail, w) })
			})
		})
	}
	for _, own := range []string{topics.Journal, topics.Control, topics.Quarantine} {
		if err := devstack.CreateTopic(t.Context(), k.Addr(), devstack.Topic{Name: own, Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	allow(devstack.Rule{Principal: me, Topic: topic, Operations: []string{"DESCRIBE", "DESCRIBE_CONFIGS"}})
	allow(devstack.Rule{Principal: me, Cluster: true, Operations: []string{"DESCRIBE"}})
	awaitSaid(app.DoctorFail, "kafka rights", "kafka-acls.sh", "--allow-principal User:stranger --topic "+topic+" --operation Read")
	awaitSaid(app.DoctorFail, "kafka rights", "--group "+r.cfg.Kafka.Group.ID+" --operation Read")
	awaitSaid(app.DoctorFail, "own topics", topics.Journal, "may not see it")
	allow(devstack.Rule{Principal: me, Topic: topic, Operations: []string{"READ"}},
		devstack.Rule{Principal: me, Topic: strings.TrimSuffix(topics.Journal, "journal"), Prefix: true, Operations: []string{"READ", "WRITE", "DESCRIBE_CONFIGS"}},
		devstack.Rule{Principal: me, Group: r.cfg.Kafka.Group.ID, Operations: []string{"READ"}},
		devstack.Rule{Principal: "User:backend", Topic: topic, Operations: []string{"WRITE"}})
	awaitSaid(app.DoctorGood, "kafka access", "nobody else may write to topic "+topics.Journal)
	awaitSaid(app.DoctorGood, "kafka access", "nobody else may join consumer group "+r.cfg.Kafka.Group.ID)
	awaitSaid(app.DoctorGood, "kafka access", "topic "+topic+" (origin backend) is written by User:backend")
	awaitSaid(app.DoctorGood, "kafka rights", "may do what the daemon does")
	said(t, r.doctor(), app.DoctorFail, "own topics", topics.Journal, "retention.ms=-1")

	r.env["TOKEN"] = strings.Repeat("t", 40)
	r.cfg.Ingest.HTTP.Sources = []httpingest.SourceConfig{{Name: "s", Topic: topic, Token: secret.Ref{Env: "TOKEN"}}}
	said(t, r.doctor(), app.DoctorFail, "kafka rights", "--topic "+topic+" --operation Write")

	allow(devstack.Rule{Principal: "User:mallory", Topic: "*", Operations: []string{"ALL"}},
		devstack.Rule{Principal: "User:eve", Group: r.cfg.Kafka.Group.ID, Operations: []string{"READ"}})
	awaitSaid(app.DoctorFail, "kafka access", "User:mallory may write to topic "+topics.Journal, "--remove")
	awaitSaid(app.DoctorFail, "kafka access", "User:eve may join consumer group", "--remove")
}

// TestDoctorOnRetention: the longest window of the rules decides how long records
// must be kept. A broker without an authorizer is told plainly.
func TestDoctorOnRetention(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, broker string) {
		for _, tt := range []struct {
			name   string
			keeps  string // retention.ms
			bytes  string // retention.bytes
			status string
			want   []string
		}{
			{"too short for the rules", "60000", "-1", app.DoctorFail, []string{"1m0s", "the rules look back", "--add-config retention.ms=604800000"}},
			{"too short for an outage", "108000000", "-1", app.DoctorWarn, []string{"30h0m0s", "outage of ClickHouse"}},
			{"a week", "604800000", "-1", app.DoctorGood, []string{"168h0m0s", "the rules look back"}},
			{"without end", "-1", "-1", app.DoctorGood, []string{"without end"}},
			{"by size", "604800000", "1048576", app.DoctorWarn, []string{"retention.bytes=1048576"}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				topic := sourceTopic(t, broker, 1, map[string]string{"message.timestamp.type": "LogAppendTime", "retention.ms": tt.keeps, "retention.bytes": tt.bytes})
				r := newRig(t, broker, "127.0.0.1:1", ingest.TopicConfig{Name: topic, Origin: event.OriginBackend})
				rows := r.doctor()
				said(t, rows, tt.status, "retention", append(tt.want, topic)...)
				said(t, rows, app.DoctorGood, "kafka rights", "may do what the daemon does")
				// The fake has no authorizer either, but answers with an empty list.
				if strings.Contains(t.Name(), "/kafka/") {
					said(t, rows, app.DoctorWarn, "kafka access", "no authorizer")
				} else {
					said(t, rows, app.DoctorWarn, "kafka access", "no rule names topic "+topic)
				}
			})
		}
	})
}
