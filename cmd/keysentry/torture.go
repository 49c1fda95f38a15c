package main

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/torture"
)

func tortureCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "torture",
		Short: "Break the daemon on purpose, and count",
		Long: `Run the daemon on an own Kafka and ClickHouse while events flow, break something,
and count what is stored afterwards. Prints one JSON object per fault; exits 1
when a promise was broken.

Faults: ` + strings.Join(torture.Faults(), ", "),
		Args: noArgs,
	}
	o := torture.Options{Version: version}
	f := c.Flags()
	f.StringVar(&o.Fault, "fault", "kill", strings.Join(torture.Faults(), ", ")+" or all")
	f.IntVar(&o.Rounds, "rounds", 20, "how often")
	f.IntVar(&o.Events, "events", 200_000, "events in all")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of the moments")
	broker := choiceFlag(f, "broker", "embedded broker, or Apache Kafka, which needs Java and Maven", "kfake", "kafka")
	c.RunE = action(func(ctx context.Context) error {
		o.Progress, o.Broker = std.err, *broker
		enc := json.NewEncoder(std.out)
		ok := true
		err := torture.Run(ctx, o, func(r torture.Result) error {
			ok = ok && r.OK
			return enc.Encode(r)
		})
		if err == nil && !ok {
			return bad
		}
		return err
	})
	return c
}
