//go:build !linux

package devstack

import (
	"os"
	"syscall"
)

// dieWithParent does nothing here: only the closed standard input ends it.
func dieWithParent() *syscall.SysProcAttr { return nil }

// ownGroup does nothing here.
func ownGroup() *syscall.SysProcAttr { return nil }

// terminate asks a process to stop.
func terminate(p *os.Process) error { return p.Signal(os.Interrupt) }
