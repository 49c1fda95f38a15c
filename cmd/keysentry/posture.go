package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/detect/posture"
)

func postureCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "posture [check]",
		Short: "Show the scorecard: what goes bad by ageing",
		Long: `Run every posture check now and print the scorecard. "check" exits 1 unless
every check passes; unknown is not a pass.`,
		Args:      cobra.MatchAll(upTo(1), onlyValid),
		ValidArgs: []string{"check"},
	}
	d := addDaemonFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error { return scorecard(c.Context(), std, d, len(args) == 1) }
	return c
}

func scorecard(ctx context.Context, std stdio, d daemonFlags, strict bool) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	card, err := client.Posture(ctx)
	if err != nil {
		return err
	}
	var failed error
	err = show(std.out, *d.format, card, func(w io.Writer) { failed = card.WriteText(w) })
	if err != nil || failed != nil {
		return firstOf(err, failed)
	}
	for _, r := range card.Rows {
		if strict && r.Status != posture.Pass {
			return bad
		}
	}
	return nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
