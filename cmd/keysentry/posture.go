package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/detect/posture/check"
)

func postureCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "posture [check]",
		Short: "Show the scorecard: what goes bad by ageing",
		Long: `Run every posture check now and print the scorecard. "check" exits 1 unless
every check passes; unknown is not a pass. With --name only the checks that are
named are shown and count; all of them are run.`,
		Args:      cobra.MatchAll(upTo(1), onlyValid),
		ValidArgs: []string{"check"},
	}
	d := addDaemonFlags(c)
	names := c.Flags().StringSlice("name", nil, "show only the check `NAME`; may be given several times")
	c.RunE = func(c *cobra.Command, args []string) error {
		return scorecard(c.Context(), std, d, len(args) == 1, *names)
	}
	c.AddCommand(postureLintCommand(std))
	return c
}

func postureLintCommand(std stdio) *cobra.Command {
	return &cobra.Command{
		Use:   "lint PATH...",
		Short: "Check files of your own posture checks",
		Long: `Read the files and folders as the daemon would (posture.checks), and print every
fault with its line. Nothing is asked of ClickHouse: whether the query returns the
columns that the file declares shows when the check runs.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			checks, err := check.LoadOwn(args, nil)
			if err != nil {
				fmt.Fprintln(std.out, err)
				return bad
			}
			for _, k := range checks {
				fmt.Fprintf(std.out, "ok  %s: %s\n", k.Name(), k.Title())
			}
			return nil
		},
	}
}

func scorecard(ctx context.Context, std stdio, d daemonFlags, strict bool, names []string) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	card, err := client.Posture(ctx)
	if err != nil {
		return err
	}
	if err := only(&card, names); err != nil {
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

// only keeps the rows of the checks that are named.
func only(card *posture.Scorecard, names []string) error {
	for _, n := range names {
		if !slices.ContainsFunc(card.Rows, func(r posture.Row) bool { return r.Check == n }) {
			return usage(fmt.Errorf("the daemon has no posture check %q", n))
		}
	}
	if len(names) > 0 {
		card.Rows = slices.DeleteFunc(card.Rows, func(r posture.Row) bool { return !slices.Contains(names, r.Check) })
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
