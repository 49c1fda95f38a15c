package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ClickHouseOptions says how to start a ClickHouse. The zero value is a server
// on free ports, with the user "default" without a password, whose data is
// gone when it stops.
type ClickHouseOptions struct {
	Dir      string    // the data folder; empty: a temporary one, removed by Stop
	TCPPort  int       // native protocol; 0: a free port
	HTTPPort int       // 0: a free port
	Log      io.Writer // what the server writes; nil: kept only for errors
	Progress io.Writer // what a download says; nil: standard error
	// Users exist besides "default", who may do everything and has no password.
	Users []User
	// RemoteServers are clusters for Distributed tables: name to one address
	// (native host:port) per shard.
	RemoteServers map[string][]string
}

// User is somebody who may log in to the embedded ClickHouse.
type User struct {
	Name           string
	PasswordSHA256 string // hex; empty: no password
	// ReadOnly puts the user in a profile with readonly=2: reading, and changing
	// settings of the own session (clients need that), nothing else.
	ReadOnly bool
	// Settings are those of the user's profile, instead of ReadOnly.
	Settings [][2]string
	// Grants are GRANT statements, for example "GRANT SELECT ON keysentry.*".
	// Empty: everything that ReadOnly leaves.
	Grants []string
}

// ClickHouse is a running server. Stop or Kill it.
type ClickHouse struct {
	proc     *process
	engine   string
	dir      string
	temp     bool
	tcpPort  int
	httpPort int
}

// readyPatience bounds the wait for a server to answer: a small machine under
// load takes a while to load the engine from a cold disk.
const readyPatience = 90 * time.Second

// startTries bounds how often other ports are tried when a port was taken
// between choosing it and listening on it.
const startTries = 5

// errPortTaken is the fault that is worth another try with other ports.
var errPortTaken = errors.New("a port is taken")

// StartClickHouse starts a ClickHouse server of the machine's own binary, or of
// libchdb (fetched through npm when it is not in the cache), and returns when
// it answers. It keeps running after ctx ends; Stop ends it.
func StartClickHouse(ctx context.Context, o ClickHouseOptions) (*ClickHouse, error) {
	eng, err := findEngine(ctx, o.Progress)
	if err != nil {
		return nil, err
	}
	c := &ClickHouse{engine: eng.describe(), dir: o.Dir}
	if o.Dir == "" {
		if c.dir, err = os.MkdirTemp("", "keysentry-clickhouse-"); err != nil {
			return nil, fmt.Errorf("make a data folder: %w", err)
		}
		c.temp = true
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	for try := 1; ; try++ {
		err = c.start(ctx, o, eng)
		fixed := o.TCPPort != 0 && o.HTTPPort != 0
		if err == nil || fixed || try == startTries || !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		c.removeTemp()
		return nil, err
	}
	return c, nil
}

// start tries once.
func (c *ClickHouse) start(ctx context.Context, o ClickHouseOptions, eng engine) error {
	for _, p := range []int{o.TCPPort, o.HTTPPort} {
		if p == 0 {
			continue
		}
		if err := waitPortFree(p, 5*time.Second); err != nil {
			return fmt.Errorf("start ClickHouse: %w", err)
		}
	}
	ports, err := choosePorts(o.TCPPort, o.HTTPPort)
	if err != nil {
		return err
	}
	c.tcpPort, c.httpPort = ports[0], ports[1]
	name := fmt.Sprintf("keysentry-devstack-%d-%d", os.Getpid(), time.Now().UnixNano())
	conf, err := writeClickHouseConfig(c, o, name)
	if err != nil {
		return err
	}
	kind, args := eng.command(c, conf)
	c.proc, err = startProcess(ctx, kind, args, o.Log)
	if err != nil {
		return fmt.Errorf("start ClickHouse: %w", err)
	}
	err = c.awaitReady(ctx, name)
	if err == nil {
		err = c.checkUsers(ctx, o.Users)
	}
	if err != nil {
		c.proc.kill()
	}
	return err
}

// checkUsers sees that every user can do what the options say: the server
// starts with a grant that it does not understand, and leaves it out.
func (c *ClickHouse) checkUsers(ctx context.Context, users []User) error {
	for _, u := range users {
		if len(u.Grants) == 0 {
			continue
		}
		got, err := c.query(ctx, "SELECT count() FROM system.grants WHERE user_name = '"+u.Name+"'")
		if err != nil {
			return fmt.Errorf("read the grants of ClickHouse user %s: %w", u.Name, err)
		}
		if got == "0" {
			return fmt.Errorf("ClickHouse user %q: the server took none of the grants %q", u.Name, u.Grants)
		}
	}
	return nil
}

// awaitReady waits until the HTTP port answers with the name that this very
// start was given: another server may have got the port instead. The HTTP port
// opens last, so the native one is open then.
func (c *ClickHouse) awaitReady(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		if got, err := c.query(ctx, "SELECT displayName()"); err == nil && got == name {
			return nil
		}
		select {
		case <-c.proc.done:
			err := errors.New("the server ended before it was ready")
			if portClash(c.proc.tail.String()) {
				err = errPortTaken
			}
			return c.proc.describe("start ClickHouse", err)
		case <-ctx.Done():
			return c.proc.describe("wait for ClickHouse", ctx.Err())
		case <-tick.C:
		}
	}
}

// portClash tells from a server's last words that a port was taken.
func portClash(words string) bool {
	return strings.Contains(words, "Address already in use") || strings.Contains(words, "BindException")
}

// query asks over HTTP as "default" and returns the trimmed answer.
func (c *ClickHouse) query(ctx context.Context, sql string) (string, error) {
	u := "http://" + c.HTTPAddr() + "/?query=" + url.QueryEscape(sql)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("HTTP %d: %s", resp.StatusCode, strings.TrimSpace(string(b)))
	}
	return strings.TrimSpace(string(b)), nil
}

// Addr is the native protocol's host:port.
func (c *ClickHouse) Addr() string { return hostPort(c.tcpPort) }

// HTTPAddr is the HTTP interface's host:port.
func (c *ClickHouse) HTTPAddr() string { return hostPort(c.httpPort) }

// TCPPort and HTTPPort, given to the next start, keep the address.
func (c *ClickHouse) TCPPort() int { return c.tcpPort }

// HTTPPort is the port of HTTPAddr.
func (c *ClickHouse) HTTPPort() int { return c.httpPort }

// Pid is the server's process id.
func (c *ClickHouse) Pid() int { return c.proc.pid }

// Engine says what serves: the binary or the library, with its path.
func (c *ClickHouse) Engine() string { return c.engine }

// Done is closed when the server is gone, for whatever reason.
func (c *ClickHouse) Done() <-chan struct{} { return c.proc.done }

// Stop stops the server cleanly and waits until it is gone; when ctx ends
// first it is killed and ctx's error returned. A second Stop does nothing.
func (c *ClickHouse) Stop(ctx context.Context) error {
	err := c.proc.stop(ctx)
	c.removeTemp()
	return err
}

// Kill ends the server as kill -9 does and waits until it is gone. The data
// folder stays, a temporary one too until Stop.
func (c *ClickHouse) Kill() { c.proc.kill() }

func (c *ClickHouse) removeTemp() {
	if c.temp {
		_ = os.RemoveAll(c.dir)
	}
}

// engine is the thing that serves.
type engine struct {
	binary string // path of a clickhouse binary, or empty
	lib    string // path of libchdb
}

// findEngine goes through the order of choice: a binary on the PATH, libchdb
// from the cache, libchdb through npm.
func findEngine(ctx context.Context, progress io.Writer) (engine, error) {
	if bin, err := exec.LookPath("clickhouse"); err == nil {
		return engine{binary: bin}, nil
	}
	lib, err := ensureChdb(ctx, progress)
	if err != nil {
		return engine{}, err
	}
	return engine{lib: lib}, nil
}

func (e engine) describe() string {
	if e.binary != "" {
		return e.binary
	}
	return e.lib
}

// command is the kind of child process and its arguments.
func (e engine) command(c *ClickHouse, conf string) (kind string, args []string) {
	if e.binary != "" {
		return childGuard, []string{e.binary, "server", "--config-file=" + conf}
	}
	return childClickHouse, []string{
		e.lib,
		"--config-file=" + conf,
		"--path=" + c.dir,
		fmt.Sprintf("--tcp_port=%d", c.tcpPort),
		fmt.Sprintf("--http_port=%d", c.httpPort),
		"--listen_host=" + loopback,
		"--query=SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; " +
			"SELECT count() FROM file('/dev/stdin','LineAsString','line String')",
	}
}
