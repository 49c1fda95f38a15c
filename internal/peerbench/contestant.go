package peerbench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// contestant is one of the two programs.
type contestant struct {
	name string
	path string
	env  []string
	eval func(w work, rules, events string) []string
}

// keysentry is our side.
func keysentry(path string) contestant {
	return contestant{name: "keysentry", path: path, env: []string{"GOMAXPROCS=1"}, eval: func(_ work, rules, events string) []string {
		return []string{"rules", "eval", "--rules", rules, "--events", events, "--time", "time"}
	}}
}

// rsigma is the peer.
func rsigma(path string) contestant {
	return contestant{name: "rsigma", path: path, eval: func(w work, rules, events string) []string {
		args := []string{"engine", "eval", "--rules", rules, "--event", "@" + events, "--input-format", "json", "--quiet"}
		if w.correlates {
			// One alert while a condition holds, as an episode is one finding, and none
			// for the rules below it.
			args = append(args, "--timestamp-field", "time", "--suppress", "24h", "--no-detections")
		}
		return args
	}}
}

// run evaluates a file of events and returns the processor time of the process
// and the number of lines it wrote.
func (c contestant) run(ctx context.Context, w work, rules, events string) (time.Duration, int, error) {
	cmd := exec.CommandContext(ctx, c.path, c.eval(w, rules, events)...)
	cmd.Env = append(os.Environ(), c.env...)
	var out lineCounter
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %s", c.name, err, lastLine(said.Bytes()))
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), out.lines, nil
}

// lineCounter counts the lines written to it.
type lineCounter struct{ lines int }

func (c *lineCounter) Write(b []byte) (int, error) {
	c.lines += bytes.Count(b, []byte("\n"))
	return len(b), nil
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// rsigmaRefuses reports whether rsigma has an error in a folder of rules.
func rsigmaRefuses(ctx context.Context, c contestant, folder string) (bool, error) {
	cmd := exec.CommandContext(ctx, c.path, "rule", "validate", "--output-format", "json", folder)
	cmd.Env = append(os.Environ(), c.env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // it may exit 1 on errors
		return false, fmt.Errorf("%s: %w", c.name, err)
	}
	return parseValidation(out)
}

func parseValidation(out []byte) (bool, error) {
	var v struct {
		Summary *struct {
			CompileErrors int `json:"compile_errors"`
			ParseErrors   int `json:"parse_errors"`
		} `json:"summary"`
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return false, fmt.Errorf("read what rule validate says: %w", err)
	}
	if v.Summary == nil {
		return false, errors.New("rule validate gives no summary")
	}
	return v.Summary.CompileErrors+v.Summary.ParseErrors > 0, nil
}

// rsigmaVersion is the version that is measured against unless a program is
// named. Its results are stated in docs/explanation/rule-engine.md.
const rsigmaVersion = "0.21.0"

// installRsigma builds rsigma with cargo into the user's cache folder, once.
func installRsigma(ctx context.Context, progress io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	root := filepath.Join(cache, "keysentry", "peers", "rsigma-"+rsigmaVersion)
	program := filepath.Join(root, "bin", "rsigma")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	cargo, err := exec.LookPath("cargo")
	if err != nil {
		return "", fmt.Errorf("%w: rsigma is built with cargo, which is not on the PATH; install Rust, or name an rsigma with --program", ErrMissing)
	}
	fmt.Fprintf(progress, "keysentry: build rsigma %s with cargo into %s; this takes some minutes, once\n", rsigmaVersion, root)
	cmd := exec.CommandContext(ctx, cargo, "install", "rsigma", "--version", rsigmaVersion, "--locked", "--root", root)
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("cargo install rsigma: %w", err)
	}
	return program, nil
}
