package devstack

import (
	"os"
	"syscall"
)

// dieWithParent asks the kernel to kill the process when the thread that
// started it ends; it also keeps the terminal's Ctrl-C away from it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// ownGroup keeps the terminal's Ctrl-C away from the process: it stops when
// its starter stops it, in order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// terminate asks a process to stop.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
