//go:build linux || darwin

package devstack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/ebitengine/purego"
)

// runChdb loads libchdb and runs clickhouse-local's entry point with argv until
// it returns. libchdb's signal handlers stay off, because they would replace
// those of the Go runtime.
func runChdb(lib string, argv []string) error {
	h, err := purego.Dlopen(lib, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load libchdb: %w", err)
	}
	for _, name := range []string{"chdb_set_signal_handlers_enabled", "chdb_query_cmdline", "chdb_result_error"} {
		if _, err := purego.Dlsym(h, name); err != nil {
			return fmt.Errorf("libchdb is not the expected version: %w", err)
		}
	}
	var (
		setSignalHandlers func(enabled int32)
		queryCmdline      func(argc int32, argv **byte) uintptr
		resultError       func(result uintptr) string
	)
	purego.RegisterLibFunc(&setSignalHandlers, h, "chdb_set_signal_handlers_enabled")
	purego.RegisterLibFunc(&queryCmdline, h, "chdb_query_cmdline")
	purego.RegisterLibFunc(&resultError, h, "chdb_result_error")

	setSignalHandlers(0)
	if err := parkAborts(); err != nil {
		return err
	}
	ptrs := make([]*byte, len(argv)+1) // C wants a null after the last
	for i, a := range argv {
		b := append([]byte(a), 0)
		ptrs[i] = &b[0]
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	for _, p := range ptrs {
		if p != nil {
			pin.Pin(p)
		}
	}
	pin.Pin(&ptrs[0])
	result := queryCmdline(int32(len(argv)), &ptrs[0])
	if result == 0 {
		return errors.New("libchdb gave no result")
	}
	if msg := resultError(result); msg != "" {
		return fmt.Errorf("ClickHouse: %s", msg)
	}
	return nil
}

// parkAborts keeps the server alive when a connection's first packet is bad.
// clickhouse-local, unlike the server, ends the process when an exception
// leaves a connection's thread, which on the native port is what a wrong
// password, a database that does not exist, or a stray byte leads to. By then
// the client has its answer. The thread is about to call abort, and so has
// raised SIGABRT; the handler keeps the thread for ever and lets all others go
// on. An abort on another kind of thread ends the process as it should.
func parkAborts() error {
	var signal func(sig int32, handler uintptr) uintptr
	libc, err := purego.Dlopen("", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load the C library: %w", err)
	}
	addr, err := purego.Dlsym(libc, "signal")
	if err != nil {
		return fmt.Errorf("find signal in the C library: %w", err)
	}
	purego.RegisterFunc(&signal, addr)
	signal(int32(syscall.SIGABRT), purego.NewCallback(func(int32) uintptr {
		if !onConnectionThread() {
			os.Exit(134) // what a shell shows for SIGABRT
		}
		fmt.Fprintln(os.Stderr, "keysentry devstack-clickhouse: a client's first packet was refused")
		for {
			time.Sleep(time.Hour)
		}
	}))
	return nil
}

// onConnectionThread reports whether this thread serves a native connection;
// where threads cannot be asked for their name, it believes so.
func onConnectionThread() bool {
	name, err := os.ReadFile("/proc/thread-self/comm")
	return err != nil || bytes.HasPrefix(name, []byte("TCP"))
}
