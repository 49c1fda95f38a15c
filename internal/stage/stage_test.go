package stage

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/stage/stagetest"
)

func TestMain(m *testing.M) { stagetest.Main(m) }

func newStage(t *testing.T) *Stage {
	t.Helper()
	s, err := New(t.Context(), Options{Broker: Fake, Topics: []devstack.Topic{{Name: "auth.events", Configs: devstack.LogAppendTime()}}})
	devstacktest.Check(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
			t.Errorf("the data folder is still there: %v", err)
		}
	})
	return s
}

func start(t *testing.T, s *Stage, change func(*config.Config)) *Daemon {
	t.Helper()
	cfg, err := s.Configure("one", change)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.StartDaemon(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func awaitLeader(t *testing.T, d *Daemon) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		if st, err := d.Status(ctx); err == nil && st.Role == "leader" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no leader: %v", d.Running())
		case <-d.Done():
			t.Fatal(d.Running())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestDaemonLeadsAndStops(t *testing.T) {
	t.Parallel()
	d := start(t, newStage(t), nil)
	awaitLeader(t, d)
	if runtime.GOOS == "linux" {
		cpu, err := CPU(d.Pid())
		if err != nil || cpu <= 0 {
			t.Errorf("processor time: %v, %v", cpu, err)
		}
		if d.PeakRSS() <= 0 {
			t.Error("no memory was measured")
		}
	}
	if err := d.Running(); err != nil {
		t.Errorf("running: %v", err)
	}
	if err := d.Pause(); err != nil {
		t.Error(err)
	}
	if err := d.Resume(); err != nil {
		t.Error(err)
	}
	if n, err := d.Metric(t.Context(), "go_goroutines"); n <= 0 || err != nil {
		t.Errorf("a metric of the daemon: %v, %v", n, err)
	}
	if _, err := d.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := d.Running(); err == nil {
		t.Error("it is said to run after it stopped")
	}
	if d.Killed() {
		t.Error("it is said to have been killed")
	}
}

func TestDaemonIsKilled(t *testing.T) {
	t.Parallel()
	d := start(t, newStage(t), nil)
	if d.Killed() {
		t.Error("it is said to have been killed while it runs")
	}
	d.Kill()
	select {
	case <-d.Done():
	default:
		t.Error("it runs after it was killed")
	}
	if !d.Killed() {
		t.Error("it is not said to have been killed")
	}
}

func TestRunningTellsLastWords(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := start(t, s, func(c *config.Config) { c.Ingest.Topics[0].Name = "no.such.topic" })
	select {
	case <-d.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("it did not refuse the topic")
	}
	if err := d.Running(); err == nil || !strings.Contains(err.Error(), "no.such.topic") {
		t.Errorf("got %v, want the daemon's last words", err)
	}
}

func TestNewRefusesBroker(t *testing.T) {
	t.Parallel()
	if _, err := New(t.Context(), Options{Broker: "rabbit"}); err == nil || !strings.Contains(err.Error(), `"rabbit"`) {
		t.Errorf("got %v", err)
	}
}

func TestConfigureRefusesFaults(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	if _, err := s.Configure("one", func(c *config.Config) { c.Log.Level = "loud" }); err == nil || !strings.Contains(err.Error(), "log.level") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "one.yml")); !os.IsNotExist(err) {
		t.Errorf("a wrong configuration was written: %v", err)
	}
}
