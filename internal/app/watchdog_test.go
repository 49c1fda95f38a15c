package app_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// quiet is a broker that takes requests and, once it is told to, answers none.
type quiet struct {
	*devstack.FakeKafka
	silence chan struct{}
	end     func()
}

func newQuiet(t *testing.T, topic string) *quiet {
	t.Helper()
	f, err := devstack.StartFakeKafka(t.Context(), devstack.FakeOptions{Topics: []devstack.Topic{{Name: topic, Partitions: 2, Configs: devstack.LogAppendTime()}}})
	devstacktest.Check(t, err)
	q := &quiet{FakeKafka: f, silence: make(chan struct{})}
	q.end = sync.OnceFunc(func() { close(q.silence) })
	t.Cleanup(func() {
		q.end()
		_ = f.Stop(context.Background())
	})
	return q
}

// fallSilent answers nothing any more.
func (q *quiet) fallSilent(string) {
	q.Cluster().Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		<-q.silence
		return nil, nil, false
	})
}

// hideRecords answers no fetch of a topic any more.
func (q *quiet) hideRecords(topic string) {
	c := q.Cluster()
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if req := r.(*kmsg.FetchRequest); len(req.Topics) > 0 && req.Topics[0].Topic == topic {
			c.SleepControl(func() { <-q.silence })
		}
		return nil, nil, false
	})
}

// silences are the ways in which a broker may be stuck.
var silences = map[string]func(*quiet, string){"everything": (*quiet).fallSilent, "fetches": (*quiet).hideRecords}

func watchedRig(t *testing.T, q *quiet, topic string) *rig {
	t.Helper()
	r := newRig(t, q.Addr(), devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	r.cfg.Kafka.RequestTimeout, r.cfg.Kafka.RetryFor = 500*time.Millisecond, time.Second
	r.cfg.Ingest.Watchdog.StuckAfter = 3 * time.Second
	return r
}

var memberOf = regexp.MustCompile(`msg="consumer group generation" .*member=(\S+)`)

// TestStuckClientIsMadeAnew: when Kafka takes requests and answers none, the
// connections are made anew and the group is joined as another member, and all
// goes on where it was.
func TestStuckClientIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, silence := range silences {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stuckAndHelped(t, silence)
		})
	}
}

func stuckAndHelped(t *testing.T, silence func(*quiet, string)) {
	const topic = "hanging"
	q := newQuiet(t, topic)
	r := watchedRig(t, q, topic)
	d := r.start("only", nil)
	d.leads()
	produce(t, q.Addr(), topic, refusals(guesser, 40)...)
	d.detected(40)
	silence(q, topic)
	await(t, "new connections", func() bool {
		d.failed()
		return d.metric("keysentry_ingest_reconnects_total") > 0
	})
	st, err := d.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Ready || st.Parts["progress"] == "" {
		t.Errorf("while nothing progresses the status is %+v", st)
	}
	q.end()
	produce(t, q.Addr(), topic, refusals("203.0.113.77", 40)...)
	d.detected(80)
	d.leads()
	r.stored(topic, 80)
	if n := d.metric("keysentry_ingest_reconnects_total"); n != 1 {
		t.Errorf("connections were made anew %v times", n)
	}
	if n := d.metric("keysentry_ingest_stuck_total"); n == 0 {
		t.Error("nothing was counted as stuck")
	}
	members := memberOf.FindAllStringSubmatch(d.logs.String(), -1)
	if first, last := members[0][1], members[len(members)-1][1]; first == last {
		t.Errorf("%s is the member still", last)
	}
	d.stop()
	findingsOnce(t, r.journal())
}

// TestStuckForGood: when new connections do not help the daemon ends with an error
// that says what is stuck where, so that a supervisor starts it again.
func TestStuckForGood(t *testing.T) {
	t.Parallel()
	for name, silence := range silences {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stuckForGood(t, silence)
		})
	}
}

func stuckForGood(t *testing.T, silence func(*quiet, string)) {
	const topic = "dead"
	q := newQuiet(t, topic)
	r := watchedRig(t, q, topic)
	d := r.start("only", nil)
	d.leads()
	produce(t, q.Addr(), topic, refusals(guesser, 40)...)
	d.detected(40)
	silence(q, topic)
	var err error
	select {
	case err = <-d.done:
		d.stopped = true
	case <-time.After(patience):
		t.Fatal("the daemon goes on without any progress")
	}
	var fault *app.OperatorError
	if err == nil || errors.As(err, &fault) {
		t.Fatalf("it ended with %v, want an error that a restart may mend", err)
	}
	for _, want := range []string{"makes no progress for", topic + "/", "offset 40", "the last error is", "look at the brokers' logs"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it ended with %q, want it to say %q", err, want)
		}
	}
	t.Log(err)
}

// TestAwayIsNotStuck: a broker that is gone is waited for.
func TestAwayIsNotStuck(t *testing.T) {
	t.Parallel()
	const topic = "gone"
	f, err := devstack.StartFakeKafka(t.Context(), devstack.FakeOptions{Topics: []devstack.Topic{{Name: topic, Partitions: 2, Configs: devstack.LogAppendTime()}}})
	devstacktest.Check(t, err)
	q := &quiet{FakeKafka: f}
	r := watchedRig(t, q, topic)
	d := r.start("only", nil)
	d.leads()
	if err := f.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	// The group's patience is the longest; nobody can say what else to wait for.
	await(t, "the word that kafka is away", func() bool {
		d.failed()
		return d.metric("keysentry_ingest_kafka_away_total") >= 2
	})
	if n := d.metric("keysentry_ingest_reconnects_total"); n != 0 {
		t.Errorf("connections were made anew %v times", n)
	}
	d.stop()
}
