package devstack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// A program that is killed can run no code; its servers must end all the same,
// also one with a query at work.
func TestServersEndWithKilledParent(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func() error{
		"java":    func() error { _, err := findJava(); return err },
		"engine":  func() error { _, err := findEngine(t.Context(), nil); return err },
		"library": func() error { _, err := ensureKafkaJars(t.Context(), nil); return err },
	} {
		if err := check(); errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
			t.Skip(name, err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	var s servers
	if err := json.NewDecoder(out).Decode(&s); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, s.Addr, clickhouse.Auth{})
	if !alive(s.ClickHouse) || !alive(s.Kafka) {
		t.Fatalf("not running: %+v", s)
	}
	go func() {
		_ = conn.Exec(t.Context(), "SELECT sleepEachRow(1) FROM numbers(60) SETTINGS max_block_size = 1")
	}()

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	killed := time.Now()
	for name, pid := range map[string]int{"ClickHouse": s.ClickHouse, "Kafka": s.Kafka} {
		for alive(pid) {
			if time.Since(killed) > 30*time.Second {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				t.Fatalf("%s (%d) runs 30 s after its parent was killed", name, pid)
			}
			time.Sleep(20 * time.Millisecond) // another program's end has no channel
		}
		t.Logf("%s gone %v after the parent", name, time.Since(killed))
	}
}

// alive reports whether a process runs. Orphans are reaped by init, but a
// container's may be lazy: a zombie does not run.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !isZombie(string(stat))
}

func isZombie(stat string) bool {
	_, rest, _ := strings.Cut(stat, ") ")
	return strings.HasPrefix(rest, "Z")
}
