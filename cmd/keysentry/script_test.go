package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// TestScripts runs testdata/script/*.txtar. Besides testscript's own, scripts have
// these commands:
//
//	exits N keysentry ARGS   the command exits with N
//	wrong ARGS               keysentry ARGS exits 2 and says one line, on stderr only
//	parses json|ndjson       the last standard output is that
//	envsubst FILES           $NAME in the files becomes the value of the environment
//	ready                    waits until the daemon at $PORT is
//	waitfor RE COMMAND       repeats the command until its output matches
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, params(t, "testdata/script"))
}

// TestScriptsWithServers runs the scripts that want a Kafka ($KAFKA) and a
// ClickHouse ($CLICKHOUSE).
func TestScriptsWithServers(t *testing.T) {
	t.Parallel()
	p := params(t, "testdata/servers")
	kafka, clickhouse := devstacktest.FakeKafka(t), devstacktest.ClickHouse(t)
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		// Topics and database of this script's own.
		name := devstacktest.Name(t)
		e.Setenv("KAFKA", kafka)
		e.Setenv("CLICKHOUSE", clickhouse)
		e.Setenv("NAME", name)
		if err := devstack.CreateTopic(context.Background(), kafka, devstack.Topic{Name: name, Partitions: 2, Configs: devstack.LogAppendTime()}); err != nil {
			return err
		}
		return setup(e)
	}
	testscript.Run(t, p)
}

func params(t *testing.T, dir string) testscript.Params {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return testscript.Params{
		Dir:                 dir,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOT", root)
			port, err := freePort()
			e.Setenv("PORT", strconv.Itoa(port))
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "wrong": wrong, "parses": parses, "ready": ready, "waitfor": waitfor, "envsubst": envsubst,
		},
	}
}

// exits runs a command that has to exit with a given code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// wrong runs keysentry with arguments that it has to refuse with one clear line.
func wrong(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: wrong ARGS...")
	}
	exits(ts, false, append([]string{"2", "keysentry"}, args...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("wrong use printed to standard output:\n%s", out)
	}
	text := ts.ReadFile("stderr")
	if strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "keysentry: ") || len(text) > 300 {
		ts.Fatalf("want one line that begins with \"keysentry: \", got:\n%s", text)
	}
}

// parses checks the last standard output.
func parses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: parses json|ndjson")
	}
	text := ts.ReadFile("stdout")
	lines := []string{text}
	if args[0] == "ndjson" && text == "" {
		return
	}
	if args[0] == "ndjson" {
		lines = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	for i, line := range lines {
		if !json.Valid([]byte(line)) {
			ts.Fatalf("line %d is not JSON: %s", i+1, line)
		}
	}
}

// ready waits until the daemon at $PORT says that it is.
func ready(ts *testscript.TestScript, _ bool, _ []string) {
	url := "http://127.0.0.1:" + ts.Getenv("PORT") + "/readyz"
	var last string
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		last = fmt.Sprintf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	ts.Fatalf("%s: %s", url, last)
}

// waitfor repeats a command until its standard output matches.
func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfor RE COMMAND ARGS...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err = ts.Exec(args[1], args[2:]...); err == nil && re.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%s: no match for %s; last error: %v", args[1], args[0], err)
}

// envsubst replaces $NAME in files by the script's environment.
func envsubst(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: envsubst FILES...")
	}
	for _, name := range args {
		path := ts.MkAbs(name)
		text := []byte(os.Expand(ts.ReadFile(name), ts.Getenv))
		ts.Check(os.WriteFile(path, text, 0o600))
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
