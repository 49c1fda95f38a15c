package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/devstack"
)

func devCommand(std stdio) *cobra.Command {
	c := group("dev", "Run Kafka and ClickHouse for development", "Run Kafka and ClickHouse on this machine, without installing either.")
	up := &cobra.Command{Use: "up", Short: "Run both until interrupted, and print how to connect", Args: noArgs,
		Long: `Run Kafka and ClickHouse on loopback until interrupted. Data stays in --dir from
one time to the next.`}
	dir := up.Flags().String("dir", "keysentry-dev", "folder for the data")
	kind := up.Flags().String("kafka", "fake", "fake (embedded) or apache (needs Java and Maven)")
	up.RunE = action(func(ctx context.Context) error {
		if *kind != "fake" && *kind != "apache" {
			return usage(fmt.Errorf("--kafka %q is not fake or apache", *kind))
		}
		return devstack.Up(ctx, devstack.UpOptions{Dir: *dir, Out: std.out, Kafka: *kind})
	})

	fetch := &cobra.Command{Use: "fetch [PART...]", Short: "Fetch the parts into the user's cache: clickhouse, kafka (default: both)",
		ValidArgs: []string{"clickhouse", "kafka"}, Args: cobra.OnlyValidArgs}
	fetch.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"clickhouse", "kafka"}
		}
		return devstack.Prefetch(c.Context(), std.err, args...)
	}
	c.AddCommand(up, fetch)
	return c
}
