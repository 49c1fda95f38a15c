package devstack

import (
	"fmt"
	"os"
	"runtime"
)

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
	if err := runChdb(args[0], append([]string{"clickhouse"}, args[1:]...)); err != nil {
		fmt.Fprintf(os.Stderr, "keysentry devstack-clickhouse: %v\n", err)
		return 1
	}
	return 0
}
