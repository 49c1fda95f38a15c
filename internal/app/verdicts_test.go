package app_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// aboutKey is a record about a server key, with more fields.
func aboutKey(typ, key, more string) kafka.Message {
	return kafka.Message{Key: []byte(key), Value: fmt.Appendf(nil, `{"type":%q,"time":%q,"network":"n1","key_id":%q%s}`,
		typ, time.Now().UTC().Format(time.RFC3339Nano), key, more)}
}

// refusedWith are n mints that were refused to a key.
func refusedWith(key string, n int) []kafka.Message {
	out := make([]kafka.Message, n)
	for i := range out {
		out[i] = aboutKey("auth_token.denied", key, `,"host":"gw-1","source_ip":"203.0.113.9","status":401`)
	}
	return out
}

// causes is what a daemon has decided live, by cause.
func (d *daemon) causes() map[string]int {
	d.t.Helper()
	families, err := d.metrics.Gatherer().Gather()
	if err != nil {
		d.t.Fatal(err)
	}
	out := map[string]int{}
	for _, f := range families {
		if f.GetName() != "keysentry_detect_refused_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if n := int(m.GetCounter().GetValue()); n > 0 {
				out[m.GetLabel()[0].GetValue()] = n
			}
		}
	}
	return out
}

// TestCausesOutliveClickHouse: while ClickHouse is gone, what is known of a key
// changes, and the daemon is restarted. Every event is stored with the cause that
// was decided when it came.
func TestCausesOutliveClickHouse(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, broker string) {
		ch := newEngine(t)
		topic := sourceTopic(t, broker, 1, devstack.LogAppendTime())
		r := newRig(t, broker, ch.Addr(), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway, Lifecycle: true})
		r.cfg.Store.DialTimeout = time.Second
		r.cfg.Ingest.DetachAfter = 200 * time.Millisecond
		key := event.Fingerprint([]byte(key16), "a server key")

		first := r.start("only", nil)
		first.leads()
		n := 0
		send := func(d *daemon, msgs ...kafka.Message) {
			t.Helper()
			for len(msgs) > 0 { // in several batches
				part := min(len(msgs), 50)
				produce(t, broker, topic, msgs[:part]...)
				n, msgs = n+part, msgs[part:]
				d.detected(int64(n))
			}
		}
		send(first, refusedWith(key, 20)...)
		r.stored(topic, n)
		ch.Kill()
		send(first, refusedWith(key, 400)...)
		revoked := n
		send(first, aboutKey("server_key.revoked", key, ""))
		send(first, refusedWith(key, 300)...)
		live := first.causes()
		if live["unknown_key"] != revoked || live["retired_key_foreign"]+live["retired_key_straggler"] != 300 {
			t.Fatalf("decided live: %v", live)
		}
		first.stop()

		second := r.start("only", nil)
		second.leads()
		send(second, refusedWith(key, 200)...)
		ch.again()
		r.stored(topic, n)
		for cause, m := range second.causes() {
			live[cause] += m
		}
		stored := func(where string) int {
			t.Helper()
			m, err := strconv.Atoi(r.number("SELECT count() FROM events FINAL WHERE topic = {topic:String} AND "+where, map[string]string{"topic": topic}))
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		for cause, want := range live {
			if got := stored("cause = '" + cause + "'"); got != want {
				t.Errorf("%d events are stored as %s, %d were decided live", got, cause, want)
			}
		}
		if got := stored(fmt.Sprintf("cause = 'unknown_key' AND offset < %d", revoked)); got != revoked {
			t.Errorf("of %d events before the key was revoked %d are stored with their cause", revoked, got)
		}
		if got := stored("rediagnosed"); got != 0 {
			t.Errorf("%d causes were decided anew", got)
		}
		if joined := second.metric("keysentry_ingest_verdicts_joined_total"); joined < 650 {
			t.Errorf("%v verdicts were joined, want those of the former process", joined)
		}
		t.Logf("decided live: %v; joined: %v, missing: %v", live, second.metric("keysentry_ingest_verdicts_joined_total"), second.metric("keysentry_ingest_verdicts_missing_total"))
	})
}
