package stage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/secret"
)

// Daemon is one run of the daemon. Kill or Stop it.
type Daemon struct {
	cmd    *exec.Cmd
	client *console.Client
	base   string // of its HTTP port
	logs   string
	done   chan struct{}
	err    error // how it ended; read after done

	mu   sync.Mutex
	peak float64
}

// StartDaemon starts the daemon of a configuration that Configure made, with
// further arguments of "run". What it says is appended to INSTANCE.log and
// INSTANCE.out in the stage's folder.
func (s *Stage) StartDaemon(cfg *config.Config, args ...string) (*Daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find our own program: %w", err)
	}
	d := &Daemon{done: make(chan struct{}), base: "http://" + cfg.HTTP.Listen, logs: filepath.Join(s.Dir, cfg.Instance+".log")}
	if d.client, err = console.NewClient(d.base, secret.Value{}, ""); err != nil {
		return nil, err
	}
	d.cmd = exec.Command(self, append([]string{"run", "--config", s.configFile(cfg)}, args...)...)
	d.cmd.SysProcAttr = dieWithUs()
	errs, err := os.OpenFile(d.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the daemon's log: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(s.Dir, cfg.Instance+".out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		_ = errs.Close()
		return nil, fmt.Errorf("open the daemon's output: %w", err)
	}
	d.cmd.Stderr, d.cmd.Stdout = errs, out
	started := make(chan error)
	go func() {
		// The kernel ties the child's life to the thread that started it.
		runtime.LockOSThread()
		err := d.cmd.Start()
		_, _ = errs.Close(), out.Close()
		started <- err
		if err == nil {
			d.err = d.cmd.Wait()
			close(d.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	s.mu.Lock()
	s.daemons = append(s.daemons, d)
	s.mu.Unlock()
	go d.watch()
	return d, nil
}

// watchEvery is how often the memory of a daemon is looked at.
const watchEvery = 100 * time.Millisecond

// watch remembers the high-water mark, which is gone with the process.
func (d *Daemon) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		d.look()
		select {
		case <-d.done:
			return
		case <-tick.C:
		}
	}
}

func (d *Daemon) look() {
	if now, err := peakRSS(d.Pid()); err == nil {
		d.mu.Lock()
		d.peak = max(d.peak, now)
		d.mu.Unlock()
	}
}

// PeakRSS is the most memory that the daemon had resident so far, in MiB.
func (d *Daemon) PeakRSS() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peak
}

// Pid is the process id.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Done is closed when the daemon is gone.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Running is an error with the daemon's last words when it has ended.
func (d *Daemon) Running() error {
	select {
	case <-d.done:
		return fmt.Errorf("the daemon ended by itself (%v); its last words:\n%s", d.cmd.ProcessState, d.LastWords())
	default:
		return nil
	}
}

// Status asks the daemon how it is.
func (d *Daemon) Status(ctx context.Context) (console.Status, error) { return d.client.Status(ctx) }

// Kill ends the daemon as kill -9 does, and waits until it is gone.
func (d *Daemon) Kill() {
	d.look()
	_ = d.cmd.Process.Kill()
	<-d.done
}

// Pause stops the daemon in its tracks, as SIGSTOP does, until Resume.
func (d *Daemon) Pause() error { return d.signal(syscall.SIGSTOP) }

// Resume lets a paused daemon go on.
func (d *Daemon) Resume() error { return d.signal(syscall.SIGCONT) }

func (d *Daemon) signal(sig syscall.Signal) error {
	if err := d.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send the daemon signal %v: %w", sig, err)
	}
	return nil
}

// Killed reports whether the daemon was ended by SIGKILL. It is false while it
// runs.
func (d *Daemon) Killed() bool {
	select {
	case <-d.done:
	default:
		return false
	}
	st, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGKILL
}

// Stop asks the daemon to stop and returns how long it took. An exit code other
// than 0 is an error; when ctx ends first, the daemon is killed.
func (d *Daemon) Stop(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	d.look()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-ctx.Done():
		d.Kill()
		return time.Since(began), fmt.Errorf("the daemon did not stop in time: %w", ctx.Err())
	}
	if d.err != nil {
		return time.Since(began), fmt.Errorf("stop the daemon: %w; its last words:\n%s", d.err, d.LastWords())
	}
	return time.Since(began), nil
}

// LastWords is the end of the log.
func (d *Daemon) LastWords() string {
	const most = 4096
	b, err := os.ReadFile(d.logs)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}
