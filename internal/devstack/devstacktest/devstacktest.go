// Package devstacktest gives tests the servers of internal/devstack: one
// ClickHouse and one broker of each kind per test binary, started by the first
// test that asks and stopped by Main. Tests keep out of each other's way by
// databases and topics of their own.
//
// A test whose server this machine cannot have is skipped with the reason; with
// CI=true in the environment it fails instead, so that a green run has run it.
//
// The package's TestMain is
//
//	func TestMain(m *testing.M) { devstacktest.Main(m) }
package devstacktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keysentry/keysentry/internal/devstack"
)

// Main is the body of a TestMain: it becomes a server process when it was
// started as one; else it runs the tests and stops what they have started.
func Main(m *testing.M) {
	devstack.MaybeRunChild()
	os.Exit(run(m))
}

// Run is Main for a TestMain with more to do: it returns the exit status. The
// caller has called devstack.MaybeRunChild.
func Run(m *testing.M) int { return run(m) }

func run(m *testing.M) int {
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, s := range []stopper{&clickHouse, &fakeKafka, &apacheKafka} {
		if err := s.stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "devstacktest:", err)
			code = max(code, 1)
		}
	}
	return code
}

type stopper interface{ stop(context.Context) error }

// shared is one server of this test binary.
type shared[T interface{ Stop(context.Context) error }] struct {
	mu      sync.Mutex
	started bool
	server  T
	err     error
}

func (s *shared[T]) get(t testing.TB, start func(context.Context) (T, error)) T {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		// Not the test's context: the server outlives the test.
		s.server, s.err = start(context.Background())
		s.started = true
	}
	Check(t, s.err)
	return s.server
}

func (s *shared[T]) stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started || s.err != nil {
		return nil
	}
	s.started = false
	return s.server.Stop(ctx)
}

// These are the process's servers: package variables, because Go gives tests no
// other place that lives as long as TestMain.
var (
	clickHouse  shared[*devstack.ClickHouse]
	fakeKafka   shared[*devstack.FakeKafka]
	apacheKafka shared[*devstack.ApacheKafka]
	names       atomic.Int64
)

// Check ends the test when err is not nil: as skipped when the machine lacks
// the part and this is not CI, else as failed. For tests that start servers of
// their own.
func Check(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, devstack.ErrUnavailable) && os.Getenv("CI") != "true":
		t.Skip("SKIP: ", err)
	default:
		t.Fatal(err)
	}
}

// ClickHouse is the native address of the shared ClickHouse. Use a database of
// your own (see Name).
func ClickHouse(t testing.TB) string {
	t.Helper()
	return ClickHouseServer(t).Addr()
}

// ClickHouseServer is the shared ClickHouse itself; it is not the caller's to
// stop.
func ClickHouseServer(t testing.TB) *devstack.ClickHouse {
	t.Helper()
	return clickHouse.get(t, func(ctx context.Context) (*devstack.ClickHouse, error) {
		return devstack.StartClickHouse(ctx, devstack.ClickHouseOptions{})
	})
}

// FakeKafka is the address of the shared fake Kafka. Use topics of your own.
func FakeKafka(t testing.TB) string {
	t.Helper()
	return fakeKafka.get(t, func(ctx context.Context) (*devstack.FakeKafka, error) {
		return devstack.StartFakeKafka(ctx, devstack.FakeOptions{})
	}).Addr()
}

// ApacheKafka is the address of the shared Apache Kafka. Use topics of your own.
func ApacheKafka(t testing.TB) string {
	t.Helper()
	return apacheKafka.get(t, func(ctx context.Context) (*devstack.ApacheKafka, error) {
		return devstack.StartApacheKafka(ctx, devstack.ApacheOptions{})
	}).Addr()
}

// Brokers runs test against the fake and against the real Kafka, each as a
// subtest ("kfake", "kafka") with the broker's address.
func Brokers(t *testing.T, test func(t *testing.T, addr string)) {
	t.Helper()
	for name, start := range map[string]func(testing.TB) string{"kfake": FakeKafka, "kafka": ApacheKafka} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// CreateTopic creates a topic with a name of its own and returns the name.
func CreateTopic(t testing.TB, addr string, partitions int32, configs map[string]string) string {
	t.Helper()
	name := Name(t)
	if err := devstack.CreateTopic(t.Context(), addr, devstack.Topic{Name: name, Partitions: partitions, Configs: configs}); err != nil {
		t.Fatal(err)
	}
	return name
}

// Name is a name for a database, topic or group that no other test of this
// process has: the test's own, cut so that a number still fits into the 63
// characters of a database, and with what such names may not hold replaced.
func Name(t testing.TB) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name())
	return fmt.Sprintf("%.48s_%d", safe, names.Add(1))
}
