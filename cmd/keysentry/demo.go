package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/demo"
)

func demoCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play the story: a drift, a straggler, a stolen key, the rotation",
		Long: `Start an embedded Kafka and ClickHouse and a simulated platform with its backends,
run the daemon on them and play the story, step by step: a host's clock drifts, a
straggler keeps an old key, a key is stolen, security is told, a person approves,
the key is rotated with proof, and the old key's next use is recognised.

It then keeps running, so that you can look around; --exit ends it, and exits 1 if
a promised step did not happen.`,
		Args: noArgs,
	}
	exit := c.Flags().Bool("exit", false, "end by itself after the story")
	dir := c.Flags().String("dir", "", "folder for the data (default: a temporary one)")
	verbose := c.Flags().Bool("verbose", false, "show the daemon's own log")
	c.RunE = action(func(ctx context.Context) error {
		ok, err := demo.Run(ctx, demo.Options{Out: std.out, Err: std.err, Exit: *exit, Dir: *dir, Verbose: *verbose, Version: version})
		if err == nil && !ok {
			return bad
		}
		return err
	})
	return c
}
