package devstack

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// parentEnv makes the test binary a program that starts servers and then
// waits to be killed.
const parentEnv = "KEYSENTRY_DEVSTACK_TEST_PARENT"

func TestMain(m *testing.M) {
	MaybeRunChild()
	if os.Getenv(parentEnv) != "" {
		os.Exit(runTestParent())
	}
	os.Exit(m.Run())
}

// servers is what the program says of what it has started.
type servers struct {
	ClickHouse, Kafka int    // process ids
	Addr              string // of ClickHouse
}

func runTestParent() int {
	ctx := context.Background()
	c, err := StartClickHouse(ctx, ClickHouseOptions{Dir: os.Getenv(parentEnv) + "/clickhouse"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	k, err := StartApacheKafka(ctx, ApacheOptions{Dir: os.Getenv(parentEnv) + "/kafka"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(servers{c.Pid(), k.Pid(), c.Addr()})
	select {}
}
