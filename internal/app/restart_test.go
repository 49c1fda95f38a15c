package app_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// stream produces requests until it is stopped and then tells how many.
type stream struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	n      int
	err    error
}

func startStream(t *testing.T, broker, topic string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{cancel: cancel}
	p, err := app.NewProducer([]string{broker}, topic)
	if err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() {
		defer func() { _ = p.Close(context.Background()) }()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for s.err == nil {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for _, m := range requests(s.n, 20) {
				s.err = p.Add(context.Background(), m)
			}
			s.n += 20
			if s.err == nil {
				s.err = p.Flush(context.Background())
			}
		}
	})
	t.Cleanup(cancel)
	return s
}

// stop returns how many records were produced.
func (s *stream) stop(t *testing.T) int {
	t.Helper()
	s.cancel()
	s.wg.Wait()
	if s.err != nil {
		t.Fatalf("produce: %v", s.err)
	}
	return s.n
}

const guesser = "203.0.113.9"

// about finds the incident about a source of refusals.
func about(source string) func(incident.Incident) bool {
	return func(i incident.Incident) bool {
		return i.Subject.Field == event.FieldSourceIP.String() && i.Subject.Value == source && i.Severity.String() == "page"
	}
}

// TestRestart: a daemon that is stopped in the middle of a stream and started
// again loses nothing, stores nothing twice, and does not tell old news again.
func TestRestart(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := sourceTopic(t, broker, 2, devstack.LogAppendTime())
	r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	d := r.start("only", nil)
	d.leads()
	load := startStream(t, broker, topic)
	produce(t, broker, topic, refusals(guesser, 40)...)
	inc := d.incident("a page about "+guesser, about(guesser))
	r.told(pageTo, guesser)
	if _, err := d.client.Decide(t.Context(), journal.Decision{ID: "ack-1", Action: journal.ActionAck, IncidentID: inc.ID}); err != nil {
		t.Fatalf("acknowledge: %v", err)
	}
	d.detected(1500)
	d.stop() // holds it to nil within ten seconds

	d = r.start("only", nil)
	d.leads()
	again, err := d.client.Incident(t.Context(), inc.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again.State != incident.Acknowledged || again.AckedBy != person || again.OpenedAt != inc.OpenedAt {
		t.Errorf("after the restart the incident is %s, acknowledged by %q, opened %v; want acknowledged by %s, opened %v",
			again.State, again.AckedBy, again.OpenedAt, person, inc.OpenedAt)
	}
	// More of the same belongs to the episode that is open.
	produce(t, broker, topic, refusals(guesser, 40)...)
	total := load.stop(t) + 80
	r.stored(topic, total)
	d.detected(int64(total))
	r.mirrored()
	d.stop()

	spikes := 0
	for _, f := range findingsOnce(t, r.journal()) {
		if f.RuleName == "unauthorized_spike_source" {
			spikes++
		}
	}
	if spikes != 1 {
		t.Errorf("the spike fired %d times, want once: its episode was open", spikes)
	}
	if n := len(r.roots(pageTo, guesser)); n != 1 {
		t.Errorf("%d messages about %s, want one\n%s", n, guesser, r.slack.Text())
	}
}

// TestTakeover: of two daemons one works; when it ends, the other goes on where
// it was.
func TestTakeover(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := sourceTopic(t, broker, 2, devstack.LogAppendTime())
	r := newRig(t, broker, devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	first := r.start("first", nil)
	first.leads()
	second := r.start("second", nil)
	second.standsBy()
	load := startStream(t, broker, topic)
	produce(t, broker, topic, refusals(guesser, 40)...)
	inc := first.incident("a page about "+guesser, about(guesser))
	r.told(pageTo, guesser)
	// A standby hands what people decide to the leader.
	if _, err := second.client.Decide(t.Context(), journal.Decision{ID: "ack-1", Action: journal.ActionAck, IncidentID: inc.ID}); err != nil {
		t.Errorf("acknowledge at the standby: %v", err)
	}
	first.detected(1000)
	watch := watchLeaders(t, first, second)
	began := time.Now()
	first.stop()
	second.leads()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the take-over took %v, want at most 15s", took)
	} else {
		t.Logf("the take-over took %v", took.Round(time.Millisecond))
	}
	watch()
	produce(t, broker, topic, refusals(guesser, 40)...)
	produce(t, broker, topic, refusals("203.0.113.10", 40)...)
	second.incident("a page about 203.0.113.10", about("203.0.113.10"))
	r.told(pageTo, "203.0.113.10")
	total := load.stop(t) + 120
	r.stored(topic, total)
	if again, err := second.client.Incident(t.Context(), inc.ID); err != nil || again.State != incident.Acknowledged || again.AckedBy != person {
		t.Errorf("at the second daemon the incident is %s, acknowledged by %q (%v), want acknowledged by %s", again.State, again.AckedBy, err, person)
	}
	r.mirrored()
	second.stop()

	records := r.journal()
	findingsOnce(t, records)
	var leaders []string
	for _, l := range bodies[journal.TookOver](t, records, journal.KindTookOver) {
		leaders = append(leaders, l.Member)
	}
	if len(leaders) != 2 || leaders[0] != "first" || leaders[1] != "second" {
		t.Errorf("leaders %q, want first and second", leaders)
	}
	oneAtATime(t, records)
	for _, source := range []string{guesser, "203.0.113.10"} {
		if n := len(r.roots(pageTo, source)); n != 1 {
			t.Errorf("%d messages about %s, want one", n, source)
		}
	}
}

// watchLeaders looks for a moment with two leaders until the function that it
// returns is called.
func watchLeaders(t *testing.T, a, b *daemon) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	leads := func(d *daemon) bool {
		st, err := d.client.Status(ctx)
		return err == nil && st.Role == "leader"
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			// The first one is asked twice, so that a hand-over between two questions
			// does not look like two leaders.
			if leads(a) && leads(b) && leads(a) {
				t.Error("two daemons lead at once")
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// oneAtATime holds the journal to records of the leader of their time only.
func oneAtATime(t *testing.T, records []journal.Record) {
	t.Helper()
	epoch := int64(-1)
	for _, rec := range records {
		if rec.Kind == journal.KindTookOver {
			epoch = rec.Offset
			continue
		}
		if rec.Epoch != epoch {
			t.Errorf("record %d (%s) is of epoch %d while epoch %d leads", rec.N, rec.Kind, rec.Epoch, epoch)
		}
	}
}
