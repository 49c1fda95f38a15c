package detect

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keysentry/keysentry/event"
)

// tokenMint is a mint as its backend tells it.
func tokenMint(ts event.Instant, host, user, token string) event.Event {
	v := minted(ts, host, "k1")
	v.fields[event.FieldTokenID], v.fields[event.FieldUserID] = token, user
	v.issued, v.expires = ts, ts.Add(10*time.Minute)
	e := v.event(0)
	e.ClientIP = netip.MustParseAddr("100.64.1.2")
	return e
}

func TestMintsRemember(t *testing.T) {
	t.Parallel()
	m := newMints(100)
	e := tokenMint(at(1), "api-1", "u1", "t1")
	m.saw(&e)
	got, ok := m.get("n1", "t1")
	want := mint{Issued: at(1), Expires: at(601), TS: at(1), Observed: at(1), Client: netip.MustParseAddr("100.64.1.2"),
		User: m.user("n1", "u1"), Host: "api-1", Key: "k1"}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); !ok || d != "" {
		t.Errorf("ok %v, (-want +got):\n%s", ok, d)
	}
	for _, x := range [][2]string{{"n2", "t1"}, {"n1", "t2"}, {"n1", ""}, {"t1", "n1"}} {
		if got, ok := m.get(x[0], x[1]); ok {
			t.Errorf("%v: %+v, want nothing", x, got)
		}
	}
}

// TestMintsOfTwoObservers: whoever comes first, the token is dated and its host is
// named by the backend that made it.
func TestMintsOfTwoObservers(t *testing.T) {
	t.Parallel()
	backend := tokenMint(at(10), "api-1", "u1", "t1")
	backend.IssuedAt, backend.Time = at(310), at(310) // its clock is fast
	gateway := tokenMint(at(11), "gw-1", "u1", "t1")
	gateway.Origin = event.OriginGateway
	for name, order := range map[string][]event.Event{"backend first": {backend, gateway}, "gateway first": {gateway, backend}} {
		m := newMints(10)
		for i := range order {
			m.saw(&order[i])
		}
		got, _ := m.get("n1", "t1")
		if got.Host != "api-1" || got.Issued != at(310) || got.TS != at(10) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	m := newMints(10)
	m.saw(&gateway)
	if got, ok := m.get("n1", "t1"); !ok || got.Host != "" {
		t.Errorf("a gateway is no host that mints: %+v", got)
	}
}

func TestMintsAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 3000
	m := newMints(limit)
	for i := range 3 * limit {
		e := tokenMint(at(float64(i)), fmt.Sprint("api-", i/100), "u", fmt.Sprint("t", i))
		m.saw(&e)
		m.saw(&e) // told twice
		if _, ok := m.get("n1", fmt.Sprint("t", i)); !ok {
			t.Fatalf("the latest mint, %d, is not remembered", i)
		}
	}
	for i := range 3 * limit {
		got, ok := m.get("n1", fmt.Sprint("t", i))
		if want := i >= 2*limit; ok != want || ok && (got.TS != at(float64(i)) || got.Host != fmt.Sprint("api-", i/100)) {
			t.Fatalf("mint %d: %v %+v", i, ok, got)
		}
	}
	if n := len(m.names.numbers); n != limit/100+1 {
		t.Errorf("%d names are kept, want those of the hosts and the key that are remembered", n)
	}
	if since, ok := m.reaches("n1"); !ok || since != at(2*limit) {
		t.Errorf("it reaches back to %v, want %v", since, at(2*limit))
	}
	if _, ok := m.reaches("n2"); ok {
		t.Error("it knows of mints of a network without any")
	}
}

func TestMintsAllocateNothing(t *testing.T) {
	m := newMints(2048)
	var events []event.Event
	for i := range 10_000 {
		events = append(events, tokenMint(at(float64(i)), fmt.Sprint("api-", i%20), "u", fmt.Sprint("t", i)))
	}
	for i := range events {
		m.saw(&events[i])
	}
	i := 0
	if n := testing.AllocsPerRun(5000, func() {
		m.saw(&events[i%len(events)])
		m.get("n1", events[i%len(events)].TokenID)
		i++
	}); n != 0 {
		t.Errorf("%v allocations for each mint", n)
	}
}

func BenchmarkMints(b *testing.B) {
	m := newMints(262_144)
	var events []event.Event
	for i := range 600_000 {
		events = append(events, tokenMint(at(float64(i)), fmt.Sprint("api-", i%200), "u", fmt.Sprint("t", i)))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		m.saw(&events[i%len(events)])
		i++
	}
}
