package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/e2ebench"
)

func benchCommand(std stdio) *cobra.Command {
	c := group("bench", "Measure the whole product", "Measure the whole product on this machine, on servers of its own.")
	e2e := &cobra.Command{Use: "e2e", Short: "Events per second end to end, CPU per event, alert latency, against the floor", Args: noArgs,
		Long: `Fill a topic, run the daemon on it with the shipped rules and store everything in
ClickHouse; then measure in the same run the floor: a raw fetch of the same topic
plus a columnar insert of the same, already decoded rows. Prints one JSON object.`}
	o := e2ebench.Options{Version: version}
	broker := choiceFlag(e2e.Flags(), "broker", "embedded broker, or Apache Kafka, which needs Java and Maven", "kfake", "kafka")
	e2e.Flags().IntVar(&o.Events, "events", 1_000_000, "events")
	e2e.RunE = action(func(ctx context.Context) error {
		o.Progress, o.Broker = std.err, *broker
		r, err := e2ebench.Run(ctx, o)
		if err != nil {
			return err
		}
		return json.NewEncoder(std.out).Encode(r)
	})
	c.AddCommand(e2e)
	return c
}
