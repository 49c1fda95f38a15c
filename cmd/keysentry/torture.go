package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/torture"
)

func tortureCommand(std stdio) *cobra.Command {
	var faults strings.Builder
	for _, f := range torture.Describe() {
		fmt.Fprintf(&faults, "\n  %-22s %s", f[0], f[1])
	}
	c := &cobra.Command{
		Use:   "torture",
		Short: "Break the daemon on purpose, and count",
		Long: `Run the daemon on an own Kafka and ClickHouse while events flow, break something,
and count what is stored afterwards. Prints one JSON object per fault; exits 1
when a promise was broken, or when the fault could not be shown to have happened.
Each fault has its own number of rounds and bar; docs/explanation/torture.md says
what is judged.

Faults:
` + faults.String(),
		Args: noArgs,
	}
	o := torture.Options{Version: version}
	f := c.Flags()
	f.StringVar(&o.Fault, "fault", "kill", "`NAME` of a fault, or all")
	f.IntVar(&o.Rounds, "rounds", 0, "how often (0: the fault's own number; of standbys, steps of 5 s)")
	f.IntVar(&o.Events, "events", 0, "events in all (0: 200,000; clickhouse-outage goes by rate and time)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of the moments")
	f.DurationVar(&o.Outage, "outage", torture.DefaultOutage, "how long ClickHouse is away in clickhouse-outage")
	f.Float64Var(&o.Rate, "rate", torture.DefaultRate, "events per second of clickhouse-outage")
	broker := choiceFlag(f, "broker", "embedded broker, or Apache Kafka, which needs Java and Maven", "kfake", "kafka")
	c.RunE = action(func(ctx context.Context) error {
		o.Progress, o.Broker = std.err, *broker
		if err := torture.Check(o); err != nil {
			return usage(err)
		}
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
