package store

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

// newClient is a client on a database of its own, migrated.
func newClient(t testing.TB, change ...func(*Config)) *Client {
	t.Helper()
	c := bareClient(t, change...)
	if _, err := c.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// bareClient is a client whose database does not exist yet.
func bareClient(t testing.TB, change ...func(*Config)) *Client {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Addrs = []string{devstacktest.ClickHouse(t)}
	cfg.Database = devstacktest.Name(t)
	cfg.Insert.MaxAge = 20 * time.Millisecond
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.conn.Exec(context.Background(), "DROP DATABASE IF EXISTS "+cfg.Database)
		_ = c.Close()
	})
	return c
}

// startWriter runs a writer until the test ends or stop is called.
func startWriter(t testing.TB, c *Client) (w *Writer, stop func()) {
	t.Helper()
	w = NewWriter(c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(stop)
	return w, stop
}

func flush(t testing.TB, w *Writer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.Flush(ctx); err != nil {
		t.Fatal("flush:", err)
	}
}

func assign(t testing.TB, w *Writer, p event.Partition, committed int64) {
	t.Helper()
	if err := w.Assign(t.Context(), p, committed); err != nil {
		t.Fatal(err)
	}
}

// acks notes what was acknowledged for one partition.
type acks struct {
	mu   sync.Mutex
	next []int64
}

func (a *acks) tell(next int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = append(a.next, next)
}

func (a *acks) last() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.next) == 0 {
		return -1
	}
	return a.next[len(a.next)-1]
}

func appendBatch(t testing.TB, w *Writer, b *ingest.Batch, told func(int64)) {
	t.Helper()
	if told == nil {
		told = func(int64) {}
	}
	if err := w.Append(t.Context(), b, told); err != nil {
		t.Fatal(err)
	}
}

var (
	part0 = event.Partition{Topic: "auth.events", ID: 0}
	part1 = event.Partition{Topic: "auth.events", ID: 1}
	epoch = event.At(time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC))
)

// batch holds mints with offsets [first, next) of p, 1 ms apart.
func batch(p event.Partition, first, next int64) *ingest.Batch {
	b := &ingest.Batch{Partition: p, First: first, Next: next}
	for o := first; o < next; o++ {
		b.Events = append(b.Events, mint(event.Ref{Topic: p.Topic, Partition: p.ID, Offset: o}))
	}
	return b
}

// mint is a typical event, about 380 bytes as JSON.
func mint(ref event.Ref) event.Event {
	n := ref.Offset
	at := epoch.Add(time.Duration(n) * time.Millisecond)
	host := n % 50
	e := event.Event{Type: event.TypeAuthTokenIssued, Origin: event.OriginBackend, Mode: event.ModeSecure, Ref: ref,
		Time: at, SentAt: at.Add(2 * time.Millisecond), ObservedAt: at.Add(5 * time.Millisecond), TS: at,
		IssuedAt: at, ExpiresAt: at.Add(10 * time.Minute), Seq: uint64(n), Status: 200,
		SourceIP: netip.AddrFrom4([4]byte{10, 1, byte(host), 7}), ClientIP: netip.AddrFrom4([4]byte{81, byte(n >> 16), byte(n >> 8), byte(n)})}
	for _, f := range []event.Field{event.FieldType, event.FieldTime, event.FieldSentAt, event.FieldAuthMode, event.FieldIssuedAt,
		event.FieldExpiresAt, event.FieldSeq, event.FieldStatus, event.FieldSourceIP, event.FieldClientIP} {
		e.Present = e.Present.Set(f)
	}
	id := strconv.FormatUint(uint64(n)*0x9E3779B97F4A7C15, 16)
	for f, v := range map[event.Field]string{
		event.FieldID: "01J" + id, event.FieldNetwork: "net-" + strconv.Itoa(int(n%3)), event.FieldRegion: "eu", event.FieldService: "token-service",
		event.FieldHost: fmt.Sprintf("api-%d", host), event.FieldRelease: "2026.3.1", event.FieldBoot: fmt.Sprintf("b%08x", host*7919),
		event.FieldUserID: "user-" + strconv.Itoa(int(n*7919%1_000_003)), event.FieldKeyID: "k1:9f86d081884c7d65", event.FieldTokenID: "t1:" + id + id,
		event.FieldEndpoint: "/api/v4/authentication/token", event.FieldMethod: "POST", event.FieldRequestID: "req-" + id,
	} {
		e.SetString(f, v)
	}
	return e
}

// count reads the table's rows: in all, and by distinct coordinates.
func count(t testing.TB, c *Client) (rows, distinct uint64) {
	t.Helper()
	err := c.conn.QueryRow(t.Context(), "SELECT count(), uniqExact(topic, partition, offset, idx) FROM events").Scan(&rows, &distinct)
	if err != nil {
		t.Fatal(err)
	}
	return rows, distinct
}

// value is what a counter or gauge stands at.
func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

func address(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || a == netip.IPv6Unspecified() {
		return netip.Addr{}
	}
	return a.Unmap()
}

// waitFor waits for something that other goroutines bring about.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("waited 30 s in vain")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
