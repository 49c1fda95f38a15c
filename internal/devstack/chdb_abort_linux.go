package devstack

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// parkAborts keeps the server alive when a connection's first packet is bad.
//
// clickhouse-local, unlike the server, ends the process when an exception
// leaves a connection's thread, which on the native port is what a wrong
// password, a database that does not exist or a stray byte leads to; one test's
// mistake would end the server of all others. By then the client has its
// answer, and the thread, which has raised SIGABRT, holds one lock: that of the
// error handler it is in, which every new connection takes too. So the signal's
// handler gives the thread's locks back and keeps the thread for ever. An
// abort on any other thread, or with no such lock, ends the process as it
// should.
func parkAborts() error {
	libc, err := purego.Dlopen("", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load the C library: %w", err)
	}
	var signal func(sig int32, handler uintptr) uintptr
	var unlock func(mutex uintptr) int32
	for name, fn := range map[string]any{"signal": &signal, "pthread_mutex_unlock": &unlock} {
		addr, err := purego.Dlsym(libc, name)
		if err != nil {
			return fmt.Errorf("find %s in the C library: %w", name, err)
		}
		purego.RegisterFunc(fn, addr)
	}
	signal(int32(syscall.SIGABRT), purego.NewCallback(func(int32) uintptr {
		var held []uintptr
		if onConnectionThread() {
			held = heldMutexes(int32(syscall.Gettid()))
		}
		if len(held) == 0 {
			os.Exit(134) // what a shell shows for SIGABRT
		}
		for _, m := range held {
			unlock(m)
		}
		fmt.Fprintln(os.Stderr, "keysentry devstack-clickhouse: a client's first packet was refused")
		for {
			time.Sleep(time.Hour)
		}
	}))
	return nil
}

// onConnectionThread reports whether this thread serves a native connection.
func onConnectionThread() bool {
	name, err := os.ReadFile("/proc/thread-self/comm")
	return err == nil && bytes.HasPrefix(name, []byte("TCPHandler"))
}

// mutex is the beginning of glibc's pthread_mutex_t.
type mutex struct {
	lock, count, owner, users int32
}

// heldMutexes finds the mutexes among libchdb's own variables that a thread of
// this process holds.
func heldMutexes(tid int32) []uintptr {
	var held []uintptr
	for _, r := range libraryData() {
		for a := r.from; a+unsafe.Sizeof(mutex{}) <= r.to; a += 8 {
			m := (*mutex)(memory(a))
			if m.owner == tid && m.users == 1 && (m.lock == 1 || m.lock == 2) && m.count <= 1 {
				held = append(held, a)
			}
		}
	}
	return held
}

// memory is the address a, which is C's and so not the garbage collector's.
func memory(a uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

type addresses struct{ from, to uintptr }

// libraryData lists the writable memory of libchdb's variables: its mappings
// and the nameless one that follows them (variables without initial value).
func libraryData() []addresses {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var found []addresses
	var libEnd uintptr
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var r addresses
		var perms, offset, dev, path string
		var inode int
		_, _ = fmt.Sscanf(sc.Text(), "%x-%x %s %s %s %d %s", &r.from, &r.to, &perms, &offset, &dev, &inode, &path)
		ours := strings.HasSuffix(path, "/"+chdbLib)
		if strings.HasPrefix(perms, "rw") && (ours || path == "" && r.from == libEnd) {
			found = append(found, r)
		}
		if ours || r.from == libEnd {
			libEnd = r.to
		}
	}
	return found
}
