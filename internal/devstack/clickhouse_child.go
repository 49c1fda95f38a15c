package devstack

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

// orphanGrace is how long a server whose parent is gone may take to end its
// queries and stop by itself.
const orphanGrace = 10 * time.Second

// RunClickHouseChild makes this process a ClickHouse server: args[0] is the
// path of libchdb, the rest are arguments of clickhouse-local. It returns the
// exit status when standard input ends. It is for the hidden subcommand
// devstack-clickhouse and for MaybeRunChild.
func RunClickHouseChild(args []string) int {
	if len(args) > 0 && args[0] == "devstack-clickhouse" {
		args = args[1:]
	}
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "keysentry devstack-clickhouse: not for people; keysentry dev up starts it")
		return 2
	}
	runtime.LockOSThread()
	fmt.Printf("%s%d\n", helloPrefix, os.Getpid())
	go endAfterParent(os.Getppid())
	if err := runChdb(args[0], append([]string{"clickhouse"}, args[1:]...)); err != nil {
		fmt.Fprintf(os.Stderr, "keysentry devstack-clickhouse: %v\n", err)
		return 1
	}
	return 0
}

// endAfterParent makes sure that the server ends after its parent has, also
// when a query that runs for hours keeps the engine from stopping.
func endAfterParent(parent int) {
	for os.Getppid() == parent {
		time.Sleep(time.Second)
	}
	time.Sleep(orphanGrace)
	fmt.Fprintln(os.Stderr, "keysentry devstack-clickhouse: the parent is gone and the engine does not stop; ending")
	os.Exit(1)
}
