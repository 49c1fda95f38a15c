//go:build !linux

package stage

import (
	"errors"
	"syscall"
	"time"
)

func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

var errNoProc = errors.New("processes are measured on Linux only")

// CPU is not known here.
func CPU(int) (time.Duration, error) { return 0, errNoProc }

func peakRSS(int) (float64, error) { return 0, errNoProc }
