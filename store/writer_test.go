package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

func TestWriterStoresEachRowOnce(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(cfg *Config) { cfg.Insert.MaxRows = 3000 })
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	assign(t, w, part1, 0)
	var a0, a1 acks
	for o := int64(0); o < 10_000; o += 1000 {
		appendBatch(t, w, batch(part0, o, o+1000), a0.tell)
		appendBatch(t, w, batch(part1, o, o+1000), a1.tell)
	}
	flush(t, w)
	wantRows(t, c, 20_000)
	want := []int64{1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000}
	for p, got := range map[string][]int64{"partition 0": a0.next, "partition 1": a1.next} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s acknowledged (-want +got):\n%s", p, diff)
		}
	}
	if got := value(t, w.met.rows.WithLabelValues("events")); got != 20_000 {
		t.Errorf("counted %v rows, want 20000", got)
	}
}

func wantRows(t *testing.T, c *Client, want uint64) {
	t.Helper()
	n, err := c.Count(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	n.Quarantine = 0
	if diff := cmp.Diff(Count{Rows: want, Distinct: want, Final: want, View: want}, n); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestReplayAfterAssignStoresNothingTwice(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		committed int64
		replay    [][2]int64 // batches of the second reader
	}{
		{name: "same batches", committed: 0, replay: [][2]int64{{0, 500}, {500, 1000}}},
		{name: "other batches", committed: 0, replay: [][2]int64{{0, 333}, {333, 900}, {900, 1500}}},
		{name: "from the middle", committed: 700, replay: [][2]int64{{700, 1200}}},
		{name: "nothing above committed", committed: 1000, replay: [][2]int64{{1000, 1100}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t)
			first, stop := startWriter(t, c)
			assign(t, first, part0, 0)
			appendBatch(t, first, withReject(batch(part0, 0, 500), 250), nil)
			appendBatch(t, first, batch(part0, 500, 1000), nil)
			flush(t, first)
			stop()

			second, _ := startWriter(t, c)
			assign(t, second, part0, tt.committed)
			var got acks
			var end int64
			for _, r := range tt.replay {
				b := batch(part0, r[0], r[1])
				if r[0] <= 250 && 250 < r[1] {
					withReject(b, 250)
				}
				appendBatch(t, second, b, got.tell)
				end = r[1]
			}
			flush(t, second)
			rows, distinct := count(t, c)
			if want := uint64(max(end, 1000) - 1); rows != want || distinct != want {
				t.Errorf("rows %d, distinct %d, want %d", rows, distinct, want)
			}
			if n := rejects(t, c); n != 1 {
				t.Errorf("%d rows in quarantine, want 1", n)
			}
			if got.last() != end {
				t.Errorf("acknowledged %d, want %d", got.last(), end)
			}
			if n := value(t, second.met.duplicates); n != float64(1000-tt.committed) {
				t.Errorf("counted %v duplicates avoided, want %d", n, 1000-tt.committed)
			}
		})
	}
}

// withReject turns the event at offset into a reject.
func withReject(b *ingest.Batch, offset int64) *ingest.Batch {
	i := offset - b.First
	e := b.Events[i]
	b.Events = append(b.Events[:i:i], b.Events[i+1:]...)
	b.Rejects = append(b.Rejects, ingest.Reject{Ref: e.Ref, ObservedAt: e.ObservedAt, Reason: ingest.ReasonBadJSON, Detail: "truncated", Excerpt: `{"id":`, Size: 6})
	return b
}

func rejects(t *testing.T, c *Client) (n uint64) {
	t.Helper()
	if err := c.conn.QueryRow(t.Context(), "SELECT count() FROM quarantine").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRowsThatComeAgainInTheQueueAreLeftOut(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(cfg *Config) { cfg.Insert.MaxAge = time.Minute }) // one insert for all
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	var got acks
	appendBatch(t, w, batch(part0, 0, 100), got.tell)
	appendBatch(t, w, batch(part0, 50, 150), got.tell)
	appendBatch(t, w, &ingest.Batch{Partition: part0, First: 150, Next: 160}, got.tell) // control records only
	flush(t, w)
	wantRows(t, c, 150)
	if diff := cmp.Diff([]int64{100, 150, 160}, got.next); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
}

func TestRetryWithTheSameTokenIsFolded(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	s := newInserter(c)
	defer s.close()
	b := newEventBlock()
	for _, e := range batch(part0, 0, 100).Events {
		b.append(&e)
	}
	for range 3 {
		if err := s.send(t.Context(), &b.block); err != nil {
			t.Fatal(err)
		}
	}
	wantRows(t, c, 100)
	if err := c.conn.Exec(t.Context(), "TRUNCATE TABLE events"); err != nil {
		t.Fatal(err)
	}
	if err := s.send(t.Context(), &b.block); err != nil {
		t.Fatal(err)
	}
	wantRows(t, c, 100) // an operator who empties the table can read Kafka again
}

// TestUnknownOutcome lets the insert arrive and cuts the answer off.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	proxy := newCuttingProxy(t, devstacktest.ClickHouse(t))
	c := newClient(t)
	cfg := c.cfg
	cfg.Addrs = []string{proxy.addr()}
	cfg.Insert.Timeout = 2 * time.Second
	through, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	w := NewWriter(through)
	w.client = c // look-ups go straight; only the insert's answer is lost
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() { cancel(); <-done }()
	assign(t, w, part0, 0)
	var got acks
	proxy.swallowAnswers(true)
	appendBatch(t, w, batch(part0, 0, 1000), got.tell)
	waitFor(t, func() bool { return value(t, w.met.unknown) >= 1 })
	proxy.swallowAnswers(false)
	flush(t, w)
	wantRows(t, c, 1000)
	if got.last() != 1000 || !w.Healthy() {
		t.Errorf("acknowledged %d, healthy %v", got.last(), w.Healthy())
	}
	if n := value(t, w.met.duplicates); n != 1000 {
		t.Errorf("%v rows found stored after the unknown outcome, want 1000", n)
	}
}

// TestKillDuringInserts kills the server while rows flow, again and again.
func TestKillDuringInserts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := devstack.StartClickHouse(t.Context(), devstack.ClickHouseOptions{Dir: dir})
	devstacktest.Check(t, err)
	defer func() { server.Kill() }()
	host, port := server.Addr(), 0
	_, p, _ := net.SplitHostPort(host)
	if _, err := fmt.Sscan(p, &port); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Addrs = []string{host}
	cfg.Insert.MaxRows, cfg.Insert.MaxAge, cfg.Insert.Timeout = 2000, 5*time.Millisecond, 3*time.Second
	c, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	var got acks
	const total, step = 120_000, 500
	appended := make(chan int64, 1024)
	go func() {
		defer close(appended)
		for o := int64(0); o < total; o += step {
			if err := w.Append(context.Background(), batch(part0, o, o+step), got.tell); err != nil {
				return
			}
			appended <- o
		}
	}()
	for kill := range 3 {
		mark := int64(kill+1) * total / 5
		for o := range appended {
			if o >= mark {
				break
			}
		}
		server.Kill()
		server, err = devstack.StartClickHouse(t.Context(), devstack.ClickHouseOptions{Dir: dir, TCPPort: port})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range appended {
	}
	flush(t, w)
	wantRows(t, c, total)
	if got.last() != total {
		t.Errorf("acknowledged %d, want %d", got.last(), total)
	}
}

func TestAppendBlocksWhileTheQueueIsFull(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(cfg *Config) { cfg.Insert.MaxBytes = 1 << 16; cfg.Insert.QueueBytes = 1 << 18 })
	w := NewWriter(c) // not running: nothing leaves
	assign(t, w, part0, 0)
	var err error
	var o int64
	for ; o < 100_000 && err == nil; o += 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err = w.Append(ctx, batch(part0, o, o+100), func(int64) {})
		cancel()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("after %d rows: %v, want the context's error", o, err)
	}
	if w.bytes > 1<<18+1<<17 {
		t.Errorf("%d bytes queued, the limit is %d", w.bytes, 1<<18)
	}
	// Room comes back when rows leave.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	appendBatch(t, w, batch(part0, o-100, o), nil)
	flush(t, w)
	cancel()
	<-done
	wantRows(t, c, uint64(o))
}

func TestAppendToAPartitionThatIsNotAssigned(t *testing.T) {
	t.Parallel()
	w := NewWriter(newClient(t))
	if err := w.Append(t.Context(), batch(part0, 0, 1), func(int64) {}); err == nil {
		t.Error("no error")
	}
}

func TestRevokeDropsWhatIsQueued(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(cfg *Config) { cfg.Insert.MaxAge = time.Minute; cfg.Insert.MaxRows = 150 })
	w := NewWriter(c)
	assign(t, w, part0, 0)
	assign(t, w, part1, 0)
	var a0, a1 acks
	appendBatch(t, w, batch(part0, 0, 100), a0.tell)
	appendBatch(t, w, batch(part1, 0, 100), a1.tell) // seals
	appendBatch(t, w, batch(part0, 100, 120), a0.tell)
	w.Revoke(part0)
	w.Revoke(part0) // twice does nothing
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	flush(t, w)
	cancel()
	<-done
	wantRows(t, c, 100)
	if a0.last() != -1 || a1.last() != 100 {
		t.Errorf("acknowledged %d and %d, want none and 100", a0.last(), a1.last())
	}
}

func TestRevokeEndsRetrying(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	if err := c.conn.Exec(t.Context(), "RENAME TABLE events TO away"); err != nil {
		t.Fatal(err)
	}
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	assign(t, w, part1, 0)
	var a0, a1 acks
	appendBatch(t, w, batch(part0, 0, 10), a0.tell)
	appendBatch(t, w, batch(part1, 0, 10), a1.tell)
	waitFor(t, func() bool { return !w.Healthy() })
	w.Revoke(part0)
	if err := c.conn.Exec(t.Context(), "RENAME TABLE away TO events"); err != nil {
		t.Fatal(err)
	}
	flush(t, w)
	wantRows(t, c, 10)
	if a0.last() != -1 || a1.last() != 10 || !w.Healthy() {
		t.Errorf("acknowledged %d and %d, want none and 10; healthy %v", a0.last(), a1.last(), w.Healthy())
	}
}

func TestPoisonRowGoesToQuarantine(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	if err := c.conn.Exec(t.Context(), "ALTER TABLE events ADD CONSTRAINT test CHECK user_id != 'poison'"); err != nil {
		t.Fatal(err)
	}
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	b := batch(part0, 0, 500)
	b.Events[123].UserID = "poison"
	var got acks
	appendBatch(t, w, b, got.tell)
	flush(t, w)
	wantRows(t, c, 499)
	q, ok, err := c.QuarantineGet(t.Context(), b.Events[123].Ref)
	if err != nil || !ok {
		t.Fatal("not in quarantine:", err)
	}
	want := ingest.Reject{Ref: b.Events[123].Ref, ObservedAt: b.Events[123].ObservedAt, Reason: ingest.ReasonBadValue, Detail: "the database refuses the event, code 469"}
	if diff := cmp.Diff(want, q.Reject); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.last() != 500 {
		t.Errorf("acknowledged %d, want 500", got.last())
	}
}

func TestInsertOfManyDaysIsSplit(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	b := batch(part0, 0, 260)
	for i := range b.Events { // 130 days, two rows each, as an import has them
		b.Events[i].ObservedAt = epoch.Add(time.Duration(i%130) * 24 * time.Hour)
	}
	appendBatch(t, w, b, nil)
	flush(t, w)
	wantRows(t, c, 260)
	if n := value(t, w.met.inserts); n != 3 {
		t.Errorf("%v inserts, want 3 of at most 50 days", n)
	}
}

func TestOldEventsAreKept(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	b := batch(part0, 0, 10)
	for i := range b.Events { // an import of logs older than the retention
		b.Events[i].ObservedAt = event.At(time.Date(2015, 12, 10, 0, 0, i, 0, time.UTC))
	}
	appendBatch(t, w, b, nil)
	flush(t, w)
	if err := c.conn.Exec(t.Context(), "OPTIMIZE TABLE events FINAL"); err != nil {
		t.Fatal(err)
	}
	wantRows(t, c, 10)
}

func TestValuesSurvive(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 8192)
	full := mint(event.Ref{Topic: part0.Topic, Offset: 1, Idx: math.MaxInt32})
	for _, f := range []event.Field{event.FieldActor, event.FieldActorRole, event.FieldSessionID, event.FieldDeviceID, event.FieldCode,
		event.FieldReason, event.FieldCertID, event.FieldCertCN, event.FieldTLSAlert, event.FieldUserAgent} {
		full.SetString(f, long+f.String())
	}
	full.SetString(event.FieldReason, "\x00'\"\\\n\u202e\U0001F511 {x:String}")
	full.SetInstant(event.FieldCertNotBefore, event.At(time.Date(2000, 1, 1, 0, 0, 0, 1, time.UTC)))
	full.SetInstant(event.FieldCertNotAfter, event.At(time.Date(2099, 12, 31, 23, 59, 59, 999_999_999, time.UTC)))
	full.Seq, full.Status, full.ClockOffset, full.ClockError = math.MaxUint64, math.MaxUint16, -312.000000001, 4
	full.Present = full.Present.Set(event.FieldClockOffset).Set(event.FieldClockError)
	full.SourceIP = netip.MustParseAddr("2001:db8::ffff")
	full.Type, full.Cause, full.CauseConfidence, full.Rediagnosed, full.Redacted = event.TypeAuthTokenDenied, event.CauseClockSkew, 0.75, true, true
	bare := event.Event{Type: event.TypeHeartbeat, Ref: event.Ref{Topic: part0.Topic, Offset: 2}, Time: epoch, TS: epoch, ObservedAt: epoch}
	bare.Present = bare.Present.Set(event.FieldType).Set(event.FieldTime)
	emptied := bare
	emptied.Ref.Offset = 3
	emptied.SetString(event.FieldUserID, "")

	c := newClient(t)
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	appendBatch(t, w, &ingest.Batch{Partition: part0, First: 1, Next: 4, Events: []event.Event{full, bare, emptied}}, nil)
	flush(t, w)
	for _, want := range []event.Event{full, bare, emptied} {
		got := readEvent(t, c, want.Ref)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("offset %d (-want +got):\n%s", want.Ref.Offset, diff)
		}
	}
}

// readEvent reads a row back into an event, by the column of each field.
func readEvent(t *testing.T, c *Client, ref event.Ref) event.Event {
	t.Helper()
	var got event.Event
	scan := func(column string, into any) {
		t.Helper()
		err := c.conn.QueryRow(t.Context(), "SELECT "+column+" FROM events FINAL WHERE offset = ? AND topic = ?", ref.Offset, ref.Topic).Scan(into)
		if err != nil {
			t.Fatalf("%s: %v", column, err)
		}
	}
	var present uint64
	scan("present", &present)
	for f := range event.NumFields {
		switch f.Kind() {
		case event.KindString:
			var v string
			scan(f.String(), &v)
			switch {
			case f == event.FieldTopic:
				got.Ref.Topic = v
			case f == event.FieldSourceNet:
				got.SourceNet = v
			case f == event.FieldTraits:
				got.Traits, _ = event.ParseTraits(v)
			case v != "":
				got.SetString(f, v)
			}
		case event.KindInstant:
			var v int64
			scan("toUnixTimestamp64Nano("+f.String()+")", &v)
			got.SetInstant(f, event.Instant(v))
		}
	}
	got.Present = event.FieldSet(present)
	var typ, origin, mode, cause string
	scan("type", &typ)
	scan("origin", &origin)
	scan("auth_mode", &mode)
	scan("cause", &cause)
	got.Type, _ = event.ParseType(typ)
	got.Origin, _ = event.ParseOrigin(origin)
	got.Mode, _ = event.ParseAuthMode(mode)
	got.Cause, _ = event.ParseCause(cause)
	var source, client net.IP
	scan("source_ip", &source)
	scan("client_ip", &client)
	got.SourceIP, got.ClientIP = address(source), address(client)
	scan("seq", &got.Seq)
	scan("status", &got.Status)
	scan("clock_offset", &got.ClockOffset)
	scan("clock_error", &got.ClockError)
	scan("cause_confidence", &got.CauseConfidence)
	scan("rediagnosed", &got.Rediagnosed)
	scan("redacted", &got.Redacted)
	scan("partition", &got.Ref.Partition)
	scan("offset", &got.Ref.Offset)
	scan("idx", &got.Ref.Idx)
	return got
}
