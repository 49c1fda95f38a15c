package past_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/store"
	"github.com/keysentry/keysentry/store/past"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

var (
	part0 = event.Partition{Topic: "auth.events"}
	epoch = event.At(time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC))
)

// newClient is a client of a database of its own.
func newClient(t *testing.T) *store.Client {
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
	return c
}

// keep stores events, and waits until they are.
func keep(t *testing.T, c *store.Client, events []event.Event) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := store.NewWriter(c)
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	if err := w.Assign(ctx, part0, 0); err != nil {
		t.Fatal(err)
	}
	done := make(chan int64, 1)
	b := &ingest.Batch{Partition: part0, Next: int64(len(events)), Events: slices.Clone(events)}
	if err := w.Append(ctx, b, func(next int64) { done <- next }); err != nil {
		t.Fatal(err)
	}
	<-done
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
}

// told is an event at s seconds after epoch, as the daemon has it.
func told(off int64, s float64, typ event.Type, origin event.Origin, kv map[event.Field]string) event.Event {
	at := epoch.Add(time.Duration(s * float64(time.Second)))
	e := event.Event{Type: typ, Origin: origin, Time: at, ObservedAt: at, TS: at, Ref: event.Ref{Topic: part0.Topic, Offset: off}}
	e.Present = e.Present.Set(event.FieldType).Set(event.FieldTime)
	e.SetString(event.FieldNetwork, "acme")
	for f, v := range kv {
		e.SetString(f, v)
	}
	return e
}

// story is a network with a revoked key k1, its successor k2, a host api-1 whose
// clock is fast, a revoked user and a disabled certificate.
func story() []event.Event {
	type kv = map[event.Field]string
	host := kv{event.FieldHost: "api-1", event.FieldService: "chat", event.FieldRegion: "eu"}
	with := func(base, more kv) kv {
		out := kv{}
		for _, m := range []kv{base, more} {
			for f, v := range m {
				out[f] = v
			}
		}
		return out
	}
	var out []event.Event
	add := func(s float64, typ event.Type, origin event.Origin, f kv, change func(*event.Event)) {
		e := told(int64(len(out)), s, typ, origin, f)
		if change != nil {
			change(&e)
		}
		out = append(out, e)
	}
	from := func(ip string) func(*event.Event) {
		return func(e *event.Event) {
			e.SourceIP, e.Present = netip.MustParseAddr(ip), e.Present.Set(event.FieldSourceIP)
		}
	}
	console, backend, gateway := event.OriginConsole, event.OriginBackend, event.OriginGateway
	add(-100_000, event.TypeServerKeyActivated, console, kv{event.FieldKeyID: "k1"}, nil)
	add(-90_000, event.TypeAuthTokenIssued, backend, with(host, kv{event.FieldKeyID: "k1", event.FieldTokenID: "t0", event.FieldUserID: "u"}), from("10.0.0.1"))
	add(-50, event.TypeServerKeyActivated, console, kv{event.FieldKeyID: "k2"}, nil)
	add(-40, event.TypeServerKeyRevoked, console, kv{event.FieldKeyID: "k1"}, nil)
	add(-30, event.TypeCertificateActivated, console, kv{event.FieldCertID: "c1", event.FieldCertCN: "chat.acme"}, nil)
	add(-20, event.TypeCertificateDisabled, console, kv{event.FieldCertID: "c1"}, nil)
	add(-9, event.TypeSessionCreated, gateway, kv{event.FieldUserID: "u", event.FieldSessionID: "s", event.FieldDeviceID: "d", event.FieldRegion: "eu"}, nil)
	add(-5, event.TypeAuthTokenIssued, backend, with(host, kv{event.FieldKeyID: "k2", event.FieldTokenID: "t", event.FieldUserID: "u"}), func(e *event.Event) {
		from("10.0.0.1")(e)
		e.SetInstant(event.FieldIssuedAt, e.TS.Add(312*time.Second))
	})
	add(-1, event.TypeSessionRevoked, gateway, kv{event.FieldUserID: "u"}, nil)
	// What comes after the refusals of the test must change nothing.
	add(500, event.TypeServerKeyRevoked, console, kv{event.FieldKeyID: "k2"}, nil)
	return out
}

// refusal is what was refused at the second 10.
func refusal(typ event.Type, origin event.Origin, status uint16, source string, kv map[event.Field]string) event.Event {
	e := told(100, 10, typ, origin, kv)
	e.Status, e.Present = status, e.Present.Set(event.FieldStatus)
	if source != "" {
		e.SourceIP, e.Present = netip.MustParseAddr(source), e.Present.Set(event.FieldSourceIP)
	}
	return e
}

func TestPastExplainsStoredEvents(t *testing.T) {
	t.Parallel()
	type kv = map[event.Field]string
	c := newClient(t)
	keep(t, c, story())
	r := past.Reader{Client: c}
	if _, err := store.NewRoller(c).Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteClockOffsets(t.Context(), []store.ClockOffset{{Host: "api-1", Partition: part0, Minute: epoch, Offset: 312, Error: 4, Drift: 0.8, Confident: true, Samples: 900}}); err != nil {
		t.Fatal(err)
	}
	denied, request := event.TypeAuthTokenDenied, event.TypeRequestUnauthorized
	for name, tc := range map[string]struct {
		e          event.Event
		want       event.Cause
		resolution string
	}{
		"straggler": {refusal(denied, event.OriginBackend, 401, "10.0.0.1", kv{event.FieldHost: "api-1", event.FieldKeyID: "k1"}), event.CauseRetiredKeyStraggler,
			"Redeploy host api-1 with the current key k2."},
		"foreign": {refusal(denied, event.OriginGateway, 401, "198.51.100.7", kv{event.FieldKeyID: "k1"}), event.CauseRetiredKeyForeign, ""},
		"the key that is revoked later": {refusal(denied, event.OriginBackend, 401, "10.0.0.1", kv{event.FieldHost: "api-1", event.FieldKeyID: "k2", event.FieldRegion: "us"}),
			event.CauseWrongRegion, ""},
		"clock": {refusal(event.TypeSessionDenied, event.OriginGateway, 403, "100.64.0.1", kv{event.FieldTokenID: "t", event.FieldUserID: "u", event.FieldEndpoint: "/api/v4/sessions"}), event.CauseClockSkew,
			"Sync NTP on host api-1: it is 312 s +- 4.0 s fast, drifting +0.8 s/h. Its tokens are refused until then."},
		"revoked user": {refusal(request, event.OriginGateway, 401, "", kv{event.FieldSessionID: "s", event.FieldUserID: "u", event.FieldEndpoint: "/api/v3/posts"}), event.CauseSessionRevoked, ""},
		"disabled certificate": {refusal(event.TypeMTLSHandshakeFailed, event.OriginBackend, 0, "10.0.0.1", kv{event.FieldHost: "api-1", event.FieldCertID: "c1", event.FieldTLSAlert: "handshake_failure"}),
			event.CauseCertDisabled, "Install the active certificate on host api-1: c1, which it presents, was disabled."},
		"secure mode, by the refusals of all": {refusal(denied, event.OriginBackend, 403, "10.0.0.1", kv{event.FieldHost: "api-1", event.FieldKeyID: "k2"}), event.CauseSecureModeOff, ""},
	} {
		known, err := r.Past(t.Context(), &tc.e)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := detect.Explain(detect.DefaultConfig(), nil, known, &tc.e)
		if got.Cause != tc.want || tc.resolution != "" && got.Resolution != tc.resolution {
			t.Errorf("%s: %+v\nknown: %+v", name, got, known)
		}
	}
}

// TestEventsAreReadWhole: an event that comes back from the store is the one that
// went in, and it is found by its place and by its id.
func TestEventsAreReadWhole(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	events := story()
	for i := range events {
		events[i].SetString(event.FieldID, fmt.Sprintf("evt-%d", i))
	}
	e := &events[8]
	e.Type, e.Cause, e.CauseConfidence, e.Rediagnosed = event.TypeRequestUnauthorized, event.CauseClockSkew, 0.5, true
	e.SetString(event.FieldEndpoint, "/api/v4/posts")
	e.CauseGrounds = event.Grounds(0).With(event.GroundMintKnown, event.GroundClockOffset)
	want := e.Clone()
	keep(t, c, events)
	r := past.Reader{Client: c}
	got, ok, err := r.EventAt(t.Context(), want.Ref)
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || !ok || d != "" {
		t.Errorf("by place: %v %v (-want +got):\n%s", ok, err, d)
	}
	byID, err := r.EventsByID(t.Context(), want.ID)
	if err != nil || len(byID) != 1 || byID[0].Ref != want.Ref {
		t.Errorf("by id: %v %+v", err, byID)
	}
	if _, ok, err := r.EventAt(t.Context(), event.Ref{Topic: part0.Topic, Offset: 99}); ok || err != nil {
		t.Errorf("a place without an event: %v %v", ok, err)
	}
	if none, err := r.EventsByID(t.Context(), "' OR 1 --"); err != nil || len(none) != 0 {
		t.Errorf("an id that nobody gave: %v %v", none, err)
	}
}
