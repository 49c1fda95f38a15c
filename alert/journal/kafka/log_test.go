package kafkajournal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/kafkawire"
	"github.com/keysentry/keysentry/internal/secret"
)

func testKey() secret.Value { return secret.New("a key that only the daemons hold") }

// node is one process: a Log that runs, and what its subscriber saw.
type node struct {
	*Log
	mu     sync.Mutex
	seen   []journal.Record
	strays []Stray
	stop   func() error
}

func (n *node) records() []journal.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen)
}

func (n *node) kinds() string {
	var out []string
	for _, r := range n.records() {
		out = append(out, string(r.Kind))
	}
	return strings.Join(out, " ")
}

func wireTo(t testing.TB, addr string) *kafkawire.Client {
	t.Helper()
	cfg := kafkawire.DefaultConfig()
	cfg.Brokers = []string{addr}
	cfg.RequestTimeout = 2 * time.Second
	w, err := kafkawire.New(cfg, kafkawire.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func start(t testing.TB, addr, topic string, change ...func(*Config, *Deps)) *node {
	t.Helper()
	n := &node{}
	cfg := DefaultConfig()
	deps := Deps{Wire: wireTo(t, addr), Topic: topic, Key: testKey(), OnStray: func(s Stray) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.strays = append(n.strays, s)
	}}
	for _, f := range change {
		f(&cfg, &deps)
	}
	l, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	n.Log = l
	l.Subscribe(func(r journal.Record) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.seen = append(n.seen, r)
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	n.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = n.stop() })
	return n
}

func journalTopic(t testing.TB, addr string) string {
	return devstacktest.CreateTopic(t, addr, 1, map[string]string{"retention.ms": "-1"})
}

func lead(t testing.TB, n *node) int64 {
	t.Helper()
	epoch, err := n.TakeOver(t.Context(), 1e9, journal.TookOver{Member: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

func note(i int) journal.Entry {
	return journal.Entry{Kind: journal.KindIncident, Time: event.Instant(i) * 1e9, Body: journal.IncidentChange{IncidentID: fmt.Sprint(i), Op: "note"}}
}

func count(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func caughtUp(t testing.TB, n *node) {
	t.Helper()
	if err := n.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAppendAndReadBack(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := journalTopic(t, addr)
		a := start(t, addr, topic)
		if _, err := a.Append(t.Context(), note(1)); !errors.Is(err, ErrNotLeading) {
			t.Fatalf("before the takeover: got %v, want ErrNotLeading", err)
		}
		epoch := lead(t, a)
		if got, ok := a.Leading(); !ok || got != epoch {
			t.Errorf("leading %d, %t; want %d", got, ok, epoch)
		}
		got, err := a.Append(t.Context(), note(1), note(2))
		if err != nil {
			t.Fatal(err)
		}
		// The subscriber has seen them before Append returned.
		seen := a.records()
		if diff := cmp.Diff(seen[1:], got); diff != "" {
			t.Errorf("appended (-seen +returned):\n%s", diff)
		}
		for i, r := range got {
			if r.N != int64(i+2) || r.Epoch != epoch || r.Offset != int64(i+1) {
				t.Errorf("record %d: number %d, epoch %d, offset %d", i, r.N, r.Epoch, r.Offset)
			}
		}
		// Another process reads the same.
		b := start(t, addr, topic)
		caughtUp(t, b)
		if diff := cmp.Diff(seen, b.records()); diff != "" {
			t.Errorf("the other process (-first +other):\n%s", diff)
		}
		if a.Head() != b.Head() || a.Head().N != 3 {
			t.Errorf("heads %v and %v", a.Head(), b.Head())
		}
		raw, err := b.ReadAll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if rep := journal.Verify(raw, testKey(), a.Head()); !rep.Good() || rep.Accepted != 3 {
			t.Errorf("verify: %+v", rep)
		}
		a.StepDown()
		if _, err := a.Append(t.Context(), note(3)); !errors.Is(err, ErrNotLeading) {
			t.Errorf("after stepping down: got %v, want ErrNotLeading", err)
		}
	})
}

func TestConcurrentAppends(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		n := start(t, addr, journalTopic(t, addr))
		lead(t, n)
		const writers, each = 20, 10
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					got, err := n.Append(t.Context(), note(w), note(1000*w+i))
					if err != nil || len(got) != 2 || got[1].N != got[0].N+1 {
						t.Errorf("writer %d: %v, %v", w, got, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if got, want := n.Head().N, int64(1+2*writers*each); got != want {
			t.Errorf("head %d, want %d", got, want)
		}
		if len(n.strays) > 0 {
			t.Errorf("strays: %v", n.strays)
		}
	})
}

func TestTakeOverEndsTheOtherLeadership(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := journalTopic(t, addr)
		a, b := start(t, addr, topic), start(t, addr, topic)
		first := lead(t, a)
		second := lead(t, b)
		if second <= first {
			t.Errorf("epoch %d after %d", second, first)
		}
		caughtUp(t, a)
		if _, ok := a.Leading(); ok {
			t.Error("the first still believes that it leads")
		}
		if _, err := a.Append(t.Context(), note(1)); !errors.Is(err, ErrNotLeading) {
			t.Errorf("got %v, want ErrNotLeading", err)
		}
		if _, err := b.Append(t.Context(), note(2)); err != nil {
			t.Error(err)
		}
		if again := lead(t, b); again <= second {
			t.Errorf("taking over again: epoch %d after %d", again, second)
		}
		if _, ok := b.Leading(); !ok {
			t.Error("a leader that took over again does not lead")
		}
	})
}

func TestTwoWritersOnTheSameHead(t *testing.T) {
	t.Parallel()
	addr := devstacktest.FakeKafka(t)
	topic := journalTopic(t, addr)
	a := start(t, addr, topic)
	lead(t, a)
	// Another leader that read up to the same head writes between the sealing and
	// the sending of ours: commit is called with what seal made before.
	req := &request{entries: []journal.Entry{note(1)}, answer: make(chan answer, 1)}
	p, _ := a.seal([]*request{req})
	rival, err := journal.Seal(note(2), a.Head(), 0, testKey())
	if err != nil {
		t.Fatal(err)
	}
	produceRecord(t, addr, topic, rival)
	err = a.commit(t.Context(), p)
	a.finish(p, err)
	if got := <-req.answer; !errors.Is(got.err, ErrLostLeadership) {
		t.Fatalf("got %v, want ErrLostLeadership", got.err)
	}
	if _, ok := a.Leading(); ok {
		t.Error("still leading")
	}
	caughtUp(t, a)
	if a.Head().Hash != rival.Hash {
		t.Error("the first offset did not win")
	}
	if got := count(t, a.met.strays.WithLabelValues(string(journal.StrayWrongPrev))); got != 1 {
		t.Errorf("counted %v strays, want 1", got)
	}
}

func produceRecord(t *testing.T, addr, topic string, r journal.Record) {
	t.Helper()
	value, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	produceRaw(t, addr, topic, value)
}

func produceRaw(t *testing.T, addr, topic string, value []byte) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: value}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func TestStrays(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := journalTopic(t, addr)
		n := start(t, addr, topic)
		lead(t, n)
		forged, err := journal.Seal(journal.Entry{Kind: journal.KindDecision, Time: 5, Body: journal.Decision{Action: journal.ActionApprove}},
			n.Head(), 0, secret.New("not the key of the daemons"))
		if err != nil {
			t.Fatal(err)
		}
		produceRecord(t, addr, topic, forged)
		changed := n.records()[0]
		changed.Epoch = 99
		produceRecord(t, addr, topic, changed)
		produceRaw(t, addr, topic, []byte("{"))
		produceRecord(t, addr, topic, n.records()[0])
		if _, err := n.Append(t.Context(), note(1)); err != nil {
			t.Fatalf("append among strays: %v", err)
		}
		var got []journal.Reason
		for _, s := range n.strays {
			got = append(got, s.Reason)
		}
		want := []journal.Reason{journal.StrayBadMAC, journal.StrayBadHash, journal.StrayBadJSON, journal.StrayWrongPrev}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("strays (-want +got):\n%s", diff)
		}
		for _, r := range want {
			if v := count(t, n.met.strays.WithLabelValues(string(r))); v != 1 {
				t.Errorf("%s counted %v times", r, v)
			}
		}
		if got := n.kinds(); got != "took_over incident" {
			t.Errorf("subscribers saw %q", got)
		}
	})
}

func TestBeginningGone(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := journalTopic(t, addr)
		a := start(t, addr, topic)
		lead(t, a)
		c, err := kgo.NewClient(kgo.SeedBrokers(addr))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		part := kmsg.NewDeleteRecordsRequestTopicPartition()
		part.Offset = 1
		tp := kmsg.NewDeleteRecordsRequestTopic()
		tp.Topic, tp.Partitions = topic, append(tp.Partitions, part)
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis, req.Topics = 5000, append(req.Topics, tp)
		if _, err := req.RequestWith(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		l, err := New(DefaultConfig(), Deps{Wire: wireTo(t, addr), Topic: topic, Key: testKey()})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Run(t.Context()); !errors.Is(err, ErrBeginningGone) {
			t.Errorf("got %v, want ErrBeginningGone", err)
		}
		if _, err := l.Append(t.Context(), note(1)); err == nil {
			t.Error("append after the end: got no error")
		}
		if err := l.CaughtUp(t.Context()); err == nil {
			t.Error("caught up after the end: got no error")
		}
	})
}

func TestRunEndsAndAnswers(t *testing.T) {
	t.Parallel()
	addr := devstacktest.FakeKafka(t)
	n := start(t, addr, journalTopic(t, addr))
	lead(t, n)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for {
				if _, err := n.Append(context.Background(), note(i)); err != nil {
					return
				}
			}
		})
	}
	if err := n.stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	wg.Wait() // every append got its answer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := start(t, addr, journalTopic(t, addr)).CaughtUp(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("caught up with an ended context: got %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := wireTo(t, "127.0.0.1:1")
	for name, d := range map[string]Deps{
		"no connection": {Topic: "t", Key: testKey()},
		"no topic":      {Wire: w, Key: testKey()},
		"short key":     {Wire: w, Topic: "t", Key: secret.New("short")},
	} {
		if _, err := New(DefaultConfig(), d); err == nil || strings.Contains(err.Error(), "short\"") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := len((Config{}).Validate()); got != 2 {
		t.Errorf("the empty configuration has %d faults, want 2", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	addr := devstacktest.FakeKafka(b)
	n := start(b, addr, journalTopic(b, addr))
	lead(b, n)
	for b.Loop() {
		if _, err := n.Append(b.Context(), note(1)); err != nil {
			b.Fatal(err)
		}
	}
}
