package devstacktest

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/keysentry/keysentry/internal/devstack"
)

func TestMain(m *testing.M) { Main(m) }

// recorder is a test that only remembers how it was ended.
type recorder struct {
	testing.TB
	end string
}

func (r *recorder) Helper()      {}
func (r *recorder) Skip(...any)  { r.end = "skip" }
func (r *recorder) Fatal(...any) { r.end = "fail" }

func TestCheck(t *testing.T) {
	missing := &devstack.UnavailableError{Part: "x"}
	for _, tc := range []struct {
		name, ci string
		err      error
		want     string
	}{
		{"fine", "", nil, ""},
		{"missing", "", missing, "skip"},
		{"missing on CI", "true", missing, "fail"},
		{"broken", "", errors.New("broken"), "fail"},
		{"broken on CI", "true", errors.New("broken"), "fail"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("CI", tc.ci)
			r := &recorder{TB: t}
			Check(r, tc.err)
			if r.end != tc.want {
				t.Errorf("ended with %q, want %q", r.end, tc.want)
			}
		})
	}
}

func TestSharedServersStayTheSame(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]func(testing.TB) string{"ClickHouse": ClickHouse, "kfake": FakeKafka} {
		first, second := addr(t), addr(t)
		if first != second {
			t.Errorf("%s: %s and %s, want one server", name, first, second)
		}
		conn, err := net.Dial("tcp", first)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = conn.Close()
	}
}

func TestBrokers(t *testing.T) {
	t.Parallel()
	Brokers(t, func(t *testing.T, addr string) {
		a := CreateTopic(t, addr, 2, devstack.LogAppendTime())
		b := CreateTopic(t, addr, 1, nil)
		if a == b {
			t.Errorf("both topics are named %s", a)
		}
	})
}

type server struct{ stopped int }

func (s *server) Stop(context.Context) error { s.stopped++; return nil }

func TestSharedStopsWhatItStarted(t *testing.T) {
	t.Parallel()
	srv := &server{}
	var s shared[*server]
	if err := s.stop(t.Context()); err != nil || srv.stopped != 0 {
		t.Errorf("before a start: %v, stopped %d times", err, srv.stopped)
	}
	s.get(t, func(context.Context) (*server, error) { return srv, nil })
	for range 2 {
		if err := s.stop(t.Context()); err != nil || srv.stopped != 1 {
			t.Errorf("after the start: %v, stopped %d times", err, srv.stopped)
		}
	}
}
