package devstack

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// stopGrace is how long the engine may take to stop by itself. It waits for
// connections that are open and idle, and without end for those of parkAborts.
// What a client was told is stored is in the files by then.
const stopGrace = 2 * time.Second

// lifelineFD is a pipe from the parent, beside standard input, which the
// engine reads: both end when the parent stops us or is no more.
const lifelineFD = 3

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
	go endWithParent()
	if err := runChdb(args[0], append([]string{"clickhouse"}, args[1:]...)); err != nil {
		fmt.Fprintf(os.Stderr, "keysentry devstack-clickhouse: %v\n", err)
		return 1
	}
	return 0
}

// endWithParent ends the process when the lifeline has ended and the engine
// has had its time to stop.
func endWithParent() {
	_, _ = io.Copy(io.Discard, os.NewFile(lifelineFD, "lifeline"))
	time.Sleep(stopGrace)
	os.Exit(0)
}
