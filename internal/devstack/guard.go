package devstack

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// guardGrace is how long a guarded program may take to stop by itself.
const guardGrace = 20 * time.Second

// runGuardChild runs the program args[0] with the rest as its arguments and
// ends it when our standard input ends, which is when our parent wants it or is
// no more. This is for programs that know nothing of such a rule (java,
// clickhouse): first politely, after guardGrace by force. It returns the
// program's exit status.
func runGuardChild(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "keysentry devstack guard: no program given")
		return 2
	}
	// The guard itself may be killed too. Where the kernel can, it then ends the
	// program; it ties that to the thread that started the program.
	runtime.LockOSThread()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = dieWithParent()
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "keysentry devstack guard: start %s: %v\n", args[0], err)
		return 1
	}
	fmt.Printf("%s%d\n", helloPrefix, cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	parent := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(parent) }()

	select {
	case <-ended:
		return cmd.ProcessState.ExitCode()
	case <-parent:
	}
	_ = terminate(cmd.Process)
	select {
	case <-ended:
	case <-time.After(guardGrace):
		_ = cmd.Process.Kill()
		<-ended
	}
	return 0
}
