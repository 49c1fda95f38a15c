package devstack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// childEnv tells a started copy of this program that it is a server process.
const childEnv = "KEYSENTRY_DEVSTACK_CHILD"

// The kinds of server process.
const (
	childClickHouse = "clickhouse" // is a ClickHouse, through libchdb
	childGuard      = "guard"      // runs another program and ends with us
)

// helloPrefix begins the line by which a server process says that it is one,
// and which process id the server has.
const helloPrefix = "keysentry-devstack pid "

// MaybeRunChild turns this process into a server process when it was started
// as one, and never returns then. main and TestMain call it first.
func MaybeRunChild() {
	switch os.Getenv(childEnv) {
	case childClickHouse:
		os.Exit(RunClickHouseChild(os.Args[1:]))
	case childGuard:
		os.Exit(runGuardChild(os.Args[1:]))
	}
}

// process is a server process: a copy of this program in one of the child
// kinds. It ends when its standard input does, which we hold.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer // the server's standard input
	line  io.Closer // its lifeline
	pid   int       // of the server itself: the guard's child, or cmd's own
	tail  *tailWriter

	done chan struct{} // closed when the process is gone
	err  error         // how it ended; read after done
}

// startProcess starts a copy of this program as a server process of a kind. It
// returns when the copy has said hello.
func startProcess(ctx context.Context, kind string, args []string, log io.Writer) (*process, error) {
	if os.Getenv(childEnv) != "" {
		return nil, fmt.Errorf("start a server process: this program is one itself (%s is set): its main or TestMain must call devstack.MaybeRunChild first", childEnv)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find our own program: %w", err)
	}
	p := &process{tail: &tailWriter{next: log}, done: make(chan struct{})}
	p.cmd = exec.Command(self, args...)
	p.cmd.Env = append(os.Environ(), childEnv+"="+kind)
	p.cmd.SysProcAttr = ownGroup()
	p.cmd.Stderr = p.tail
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a server process: %w", err)
	}
	p.stdin = stdin
	lineRead, lineWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a server process: %w", err)
	}
	p.line = lineWrite
	p.cmd.ExtraFiles = []*os.File{lineRead} // becomes lifelineFD
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a server process: %w", err)
	}
	p.cmd.Stdout = outWrite
	err = p.cmd.Start()
	_, _ = outWrite.Close(), lineRead.Close()
	if err != nil {
		_, _ = outRead.Close(), lineWrite.Close()
		return nil, fmt.Errorf("start a server process: %w", err)
	}
	hello := make(chan int, 1)
	go p.readOutput(outRead, hello)
	return p, p.awaitHello(ctx, hello)
}

// readOutput takes the hello, passes the rest to the log, and reaps.
func (p *process) readOutput(out *os.File, hello chan<- int) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), helloPrefix); ok {
			if pid, convErr := strconv.Atoi(id); convErr == nil {
				hello <- pid
			}
			_, _ = io.Copy(p.tail, r)
			break
		}
		_, _ = io.WriteString(p.tail, line)
		if err != nil {
			break
		}
	}
	close(hello)
	_ = out.Close()
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) awaitHello(ctx context.Context, hello <-chan int) error {
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	var err error
	select {
	case pid, ok := <-hello:
		if ok {
			p.pid = pid
			return nil
		}
		err = errors.New("it ended before it said hello (does main or TestMain call devstack.MaybeRunChild?)")
	case <-timeout.C:
		err = errors.New("it said no hello in 30 s (does main or TestMain call devstack.MaybeRunChild?)")
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.kill()
	return p.describe("start a server process", err)
}

// stop closes the server's standard input and waits until it is gone; when ctx
// ends first, the server is killed.
func (p *process) stop(ctx context.Context) error {
	p.letGo()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("the server did not stop in time and was killed: %w", ctx.Err())
	}
}

// letGo closes what the server waits for the end of.
func (p *process) letGo() { _, _ = p.stdin.Close(), p.line.Close() }

// kill ends the server at once (SIGKILL) and waits until it is gone.
func (p *process) kill() {
	if p.pid != 0 && p.pid != p.cmd.Process.Pid {
		if srv, err := os.FindProcess(p.pid); err == nil {
			_ = srv.Kill() // the guard sees its end and ends too
		}
		p.letGo()
		select {
		case <-p.done:
			return
		case <-time.After(5 * time.Second):
		}
	}
	_ = p.cmd.Process.Kill()
	p.letGo()
	<-p.done
}

// describe wraps err with the last lines that the server wrote.
func (p *process) describe(verb string, err error) error {
	if last := p.tail.String(); last != "" {
		return fmt.Errorf("%s: %w; its last words:\n%s", verb, err, last)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// tailWriter passes everything on and remembers the end of it.
type tailWriter struct {
	mu   sync.Mutex
	next io.Writer // may be nil
	last []byte
}

const tailBytes = 4096

func (w *tailWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = append(w.last, b...)
	if over := len(w.last) - tailBytes; over > 0 {
		w.last = append(w.last[:0], w.last[over:]...)
	}
	if w.next != nil {
		_, _ = w.next.Write(b) // a log that is full must not stop the server
	}
	return len(b), nil
}

// String is the end of what was written.
func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.last))
}
