package stored_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/store"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

var start = event.At(time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC))

// querier gives a client the shape that the package asks for, and counts.
type querier struct {
	*store.Client
	asked []string
}

func (q *querier) Query(ctx context.Context, sql string, params map[string]string) (stored.Rows, error) {
	q.asked = append(q.asked, sql)
	rows, err := q.Client.Query(ctx, sql, params)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func newStore(t testing.TB) *querier {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Addrs, cfg.Database = []string{devstacktest.ClickHouse(t)}, devstacktest.Name(t)
	cfg.Insert.MaxAge = 20 * time.Millisecond
	c, err := store.New(cfg, store.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &querier{Client: c}
}

// save stores events through the daemon's writer; those of one partition are in
// order of offset.
func save(t testing.TB, c *store.Client, events []event.Event, rejects ...ingest.Reject) {
	t.Helper()
	w := store.NewWriter(c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	parts := map[event.Partition][]event.Event{}
	for _, e := range events {
		p := event.Partition{Topic: e.Ref.Topic, ID: e.Ref.Partition}
		parts[p] = append(parts[p], e)
	}
	for p, list := range parts {
		if err := w.Assign(t.Context(), p, 0); err != nil {
			t.Fatal(err)
		}
		for chunk := range slices.Chunk(list, 20_000) {
			b := &ingest.Batch{Partition: p, First: chunk[0].Ref.Offset, Next: chunk[len(chunk)-1].Ref.Offset + 1, Events: chunk, Rejects: rejects}
			rejects = nil
			if err := w.Append(t.Context(), b, func(int64) {}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

const twoRules = `title: denied
name: denied
logsource: {product: keysentry}
detection: {s: {type: session.denied}, condition: s}
---
title: second
name: second
logsource: {product: keysentry}
detection: {s: {user_id: u2}, condition: s}
---
title: many
name: many
correlation: {type: value_count, rules: [denied], group-by: [user_id], timespan: 7d, field: host, condition: {gte: 3}}
---
title: both
name: both
correlation: {type: temporal, rules: [denied, second], group-by: [user_id], timespan: 5m}
`

func load(t testing.TB) *rules.Set {
	t.Helper()
	set, diags := rules.Load([]rules.File{{Name: "r.yml", Data: []byte(twoRules)}}, rules.Options{Layout: rules.LayoutEvent})
	for _, d := range diags {
		if d.Severity == rules.Error {
			t.Fatal(d)
		}
	}
	return set
}

// denied is an event of user u<offset> at a minute.
func denied(topic string, partition int32, off int64, minute int) event.Event {
	ts := start.Add(time.Duration(minute) * time.Minute)
	e := event.Event{Type: event.TypeSessionDenied, Ref: event.Ref{Topic: topic, Partition: partition, Offset: off}, TS: ts, Time: ts, ObservedAt: ts.Add(time.Second)}
	e.Present = e.Present.Set(event.FieldType).Set(event.FieldTime)
	e.SetString(event.FieldUserID, "u"+strconv.FormatInt(off, 10))
	e.SetString(event.FieldHost, "h"+strconv.Itoa(minute))
	return e
}

func position(topic string, partition int32, below int64) event.Standing {
	return event.Standing{Partition: event.Partition{Topic: topic, ID: partition}, Below: below}
}

func TestRead(t *testing.T) {
	t.Parallel()
	q := newStore(t)
	save(t, q.Client, []event.Event{
		denied("a", 0, 0, 0), denied("a", 0, 1, 10), denied("a", 0, 2, 20), denied("a", 0, 3, 30),
		denied("a", 7, 0, 5), denied("a", 7, 1, 15),
		denied("it's", 0, 2, 12),
		denied("other", 0, 0, 1),
	})
	set := load(t)
	r := &stored.Reader{Store: q, MaxLateness: 24 * time.Hour, QueryBytes: 1} // a query for each rule
	at := func(minute int) event.Instant { return start.Add(time.Duration(minute) * time.Minute) }
	all := []event.Standing{position("a", 0, 3), position("a", 7, 1), position("it's", 0, 9)}
	for _, tc := range []struct {
		name     string
		from, to int
		since    []event.Instant
		below    []event.Standing
		want     string
	}{
		{"below the positions, each event once", 0, 60, []event.Instant{at(0), at(0)}, all, "a/0@0[0] a/7@0[0] a/0@1[0] it's/0@2[0 1] a/0@2[0 1]"},
		{"a band of time", 5, 12, []event.Instant{at(0), at(0)}, all, "a/7@0[0] a/0@1[0]"},
		{"a rule that looks back less", 0, 60, []event.Instant{at(11), at(15)}, all, "it's/0@2[0] a/0@2[0 1]"},
		{"a rule that nobody wants", 0, 60, []event.Instant{0, at(0)}, all, "it's/0@2[1] a/0@2[1]"},
		{"nobody wants any", 0, 60, []event.Instant{0, at(60)}, all, ""},
		{"no partition", 0, 60, []event.Instant{at(0), at(0)}, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			err := r.Read(t.Context(), stored.Request{Rules: set, From: at(tc.from), To: at(tc.to), Since: tc.since, Below: tc.below}, func(row *stored.Row) bool {
				e := &row.Event
				got = append(got, e.Ref.Topic+"/"+strconv.Itoa(int(e.Ref.Partition))+"@"+strconv.FormatInt(e.Ref.Offset, 10)+strings.Join(strings.Fields(fmtHits(row.Hits)), " "))
				if e.UserID != "u"+strconv.FormatInt(e.Ref.Offset, 10) || e.Host == "" || !e.Present.Has(event.FieldHost) {
					t.Errorf("read without its fields: %+v", e)
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("until it is enough", func(t *testing.T) {
		n := 0
		err := r.Read(t.Context(), stored.Request{Rules: set, From: at(0), To: at(60), Since: []event.Instant{at(0), at(0)}, Below: all}, func(*stored.Row) bool {
			n++
			return n < 2
		})
		if n != 2 || err != nil {
			t.Errorf("%d events, %v", n, err)
		}
	})
	t.Run("until time is over", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := r.Read(ctx, stored.Request{Rules: set, From: at(0), To: at(60), Since: []event.Instant{at(0), at(0)}, Below: all}, func(*stored.Row) bool { return true })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that the context has ended", err)
		}
	})
}

func fmtHits(hits []int32) string {
	var out []string
	for _, h := range hits {
		out = append(out, strconv.Itoa(int(h)))
	}
	return "[" + strings.Join(out, " ") + "]"
}

func TestHistory(t *testing.T) {
	t.Parallel()
	q := newStore(t)
	r := &stored.Reader{Store: q, AskTimeout: time.Minute}
	if h, err := r.History(t.Context(), start); err != nil || h.Oldest != 0 || len(h.First) != 0 {
		t.Errorf("of an empty table: %+v, %v", h, err)
	}
	save(t, q.Client, []event.Event{denied("a", 0, 3, 10), denied("a", 0, 4, 0), denied("a", 1, 0, 20)})
	oldest := start.Add(time.Second)
	q.asked = nil
	if h, err := r.History(t.Context(), oldest+1); err != nil || h.Oldest != oldest || len(h.First) != 0 || len(q.asked) != 1 {
		t.Errorf("that reaches back far enough: %+v, %v after %d questions", h, err, len(q.asked))
	}
	save(t, q.Client, []event.Event{denied("a", 2, 5, 30)}, ingest.Reject{Ref: event.Ref{Topic: "a", Partition: 2}, ObservedAt: start, Reason: ingest.Reason("not_json")})
	want := stored.History{Oldest: oldest, First: map[event.Partition]int64{{Topic: "a"}: 3, {Topic: "a", ID: 1}: 0, {Topic: "a", ID: 2}: 0}}
	h, err := r.History(t.Context(), oldest)
	if diff := cmp.Diff(want, h); diff != "" || err != nil {
		t.Errorf("that does not (-want +got), %v:\n%s", err, diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.History(ctx, start); err == nil {
		t.Error("answered although the context has ended")
	}
}

// BenchmarkRead reads 200,000 stored events that match, of a million.
func BenchmarkRead(b *testing.B) {
	q := newStore(b)
	const total, matching = 1_000_000, 200_000
	events := make([]event.Event, 0, total)
	for i := range total {
		e := denied("a", int32(i%4), int64(i/4), i%10_000)
		e.TS = start.Add(time.Duration(i) * 600 * time.Millisecond) // a week
		e.ObservedAt, e.Time = e.TS.Add(time.Second), e.TS
		if i%(total/matching) != 0 {
			e.Type = event.TypeSessionCreated
		}
		events = append(events, e)
	}
	save(b, q.Client, events)
	set := load(b)
	r := &stored.Reader{Store: q, MaxLateness: 24 * time.Hour, QueryBytes: 100_000}
	var below []event.Standing
	for p := range int32(4) {
		below = append(below, position("a", p, total))
	}
	for name, extra := range map[string][]event.Field{"few_columns": nil, "with_evidence": {event.FieldType, event.FieldStatus, event.FieldNetwork,
		event.FieldKeyID, event.FieldEndpoint, event.FieldReason, event.FieldService, event.FieldCertID, event.FieldSourceIP, event.FieldCauseConfidence}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				err := r.Read(b.Context(), stored.Request{Rules: set, Extra: extra, From: start, To: start.Add(8 * 24 * time.Hour), Since: []event.Instant{1, 1}, Below: below}, func(*stored.Row) bool {
					n++
					return true
				})
				if err != nil || n < matching {
					b.Fatalf("%d events, %v", n, err)
				}
			}
			b.ReportMetric(float64(matching*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
