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
	e2e.Flags().StringVar(&o.Broker, "broker", "kfake", "kfake or kafka")
	e2e.Flags().IntVar(&o.Events, "events", 1_000_000, "events")
	e2e.RunE = action(func(ctx context.Context) error {
		o.Progress = std.err
		r, err := e2ebench.Run(ctx, o)
		if err != nil {
			return err
		}
		return json.NewEncoder(std.out).Encode(r)
	})
	c.AddCommand(e2e)
	return c
}
