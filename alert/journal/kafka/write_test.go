package kafkajournal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// What a write is told may be wrong in every way; what counts is what the tail
// reads.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	addr := devstacktest.FakeKafka(t)
	type produce = func(ctx context.Context, topic string, partition int32, batch []byte) (int64, error)
	lost := fmt.Errorf("read: %w", io.ErrUnexpectedEOF)
	tests := []struct {
		name    string
		wrap    func(real produce) produce
		want    error
		strays  int
		records int64 // head afterwards
	}{
		{name: "written, answer lost", strays: 1, records: 2, wrap: func(real produce) produce {
			tries := 0
			return func(ctx context.Context, topic string, p int32, b []byte) (int64, error) {
				base, err := real(ctx, topic, p, b)
				if tries++; tries == 1 && err == nil {
					_, err = real(ctx, topic, p, b) // as a slow first and a fast second request
				}
				return base, err
			}
		}},
		{name: "request lost, then written", records: 2, wrap: func(real produce) produce {
			tries := 0
			return func(ctx context.Context, topic string, p int32, b []byte) (int64, error) {
				if tries++; tries < 3 {
					return -1, lost
				}
				return real(ctx, topic, p, b)
			}
		}},
		{name: "written, every answer lost", records: 2, wrap: func(real produce) produce {
			tries := 0
			return func(ctx context.Context, topic string, p int32, b []byte) (int64, error) {
				if tries++; tries == 1 {
					_, _ = real(ctx, topic, p, b)
				}
				return -1, lost
			}
		}},
		{name: "every request lost", want: ErrUnknownOutcome, records: 1, wrap: func(produce) produce {
			return func(context.Context, string, int32, []byte) (int64, error) { return -1, lost }
		}},
		{name: "refused for good", want: kafkago.MessageSizeTooLarge, records: 1, wrap: func(produce) produce {
			return func(context.Context, string, int32, []byte) (int64, error) { return -1, kafkago.MessageSizeTooLarge }
		}},
		{name: "refused after a lost answer", want: ErrUnknownOutcome, records: 1, wrap: func(produce) produce {
			tries := 0
			return func(context.Context, string, int32, []byte) (int64, error) {
				if tries++; tries == 1 {
					return -1, lost
				}
				return -1, kafkago.TopicAuthorizationFailed
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := start(t, addr, journalTopic(t, addr), func(c *Config, _ *Deps) { c.AppendTimeout = 1500 * time.Millisecond })
			lead(t, n)
			n.produce = tt.wrap(n.produce)
			_, err := n.Append(t.Context(), note(1))
			if !errors.Is(err, tt.want) || (err != nil) != (tt.want != nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			n.produce = n.deps.Wire.Produce
			caughtUp(t, n)
			if got := n.Head().N; got != tt.records {
				t.Errorf("head %d, want %d", got, tt.records)
			}
			if got := count(t, n.met.strays.WithLabelValues(string(journal.StrayWrongPrev))); got != float64(tt.strays) {
				t.Errorf("%v strays, want %d", got, tt.strays)
			}
			if _, err := n.Append(t.Context(), note(2)); err != nil {
				t.Errorf("the next append: %v", err)
			}
		})
	}
}

// Two processes take the journal from each other while both write. What each is
// told must be true, and both must see the same history.
func TestRivals(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := journalTopic(t, addr)
		nodes := []*node{start(t, addr, topic), start(t, addr, topic)}
		var mu sync.Mutex
		told := map[string]bool{} // id: accepted or not; an unknown outcome is absent
		var wg sync.WaitGroup
		for i, n := range nodes {
			wg.Go(func() {
				for k := range 60 {
					if _, ok := n.Leading(); !ok && k%5 == 0 {
						_, _ = n.TakeOver(t.Context(), 1, journal.TookOver{Member: fmt.Sprint(i)})
					}
					e := note(1000*i + k)
					_, err := n.Append(t.Context(), e)
					if !errors.Is(err, ErrUnknownOutcome) {
						mu.Lock()
						told[e.Body.(journal.IncidentChange).IncidentID] = err == nil
						mu.Unlock()
					}
					if err != nil && !errors.Is(err, ErrLostLeadership) && !errors.Is(err, ErrNotLeading) {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
		wg.Wait()
		for _, n := range nodes {
			caughtUp(t, n)
		}
		if diff := cmp.Diff(nodes[0].records(), nodes[1].records()); diff != "" {
			t.Errorf("the two saw different histories:\n%s", diff)
		}
		times := map[string]int{}
		for _, r := range nodes[0].records() {
			var c journal.IncidentChange
			if r.Kind == journal.KindIncident && json.Unmarshal(r.Body, &c) == nil {
				times[c.IncidentID]++
			}
		}
		accepted := 0
		for id, ok := range told {
			if want := map[bool]int{true: 1, false: 0}[ok]; times[id] != want {
				t.Errorf("entry %s is there %d times, told %t", id, times[id], ok)
			}
			if ok {
				accepted++
			}
		}
		raw, err := nodes[0].ReadAll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rep := journal.Verify(raw, testKey(), nodes[1].Head())
		if !rep.Good() || accepted == 0 {
			t.Errorf("accepted %d, verify: %+v", accepted, rep)
		}
		t.Logf("told %d, accepted %d, superseded %d", len(told), accepted, rep.Superseded)
	})
}

func TestRecordsThatFitNoWrite(t *testing.T) {
	t.Parallel()
	addr := devstacktest.FakeKafka(t)
	n := start(t, addr, journalTopic(t, addr))
	lead(t, n)
	big := note(1)
	big.Body = journal.IncidentChange{Note: strings.Repeat("x", maxBatch)}
	if _, err := n.Append(t.Context(), big); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
	if _, err := n.Append(t.Context(), journal.Entry{Kind: journal.KindStep, Body: func() {}}); err == nil {
		t.Error("a body that cannot be encoded: got no error")
	}
	if _, err := n.Append(t.Context()); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if _, err := n.Append(t.Context(), note(2)); err != nil {
		t.Errorf("the next: %v", err)
	}
}
