package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/app"
)

func runCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon",
		Long: `Run the daemon until SIGINT or SIGTERM; it then stops within ten seconds and
exits 0. Rule files are read again when they change, and on SIGHUP; the running
rules stay when the new ones are faulty.

Several daemons with the same kafka.group.id are one active member and its
standbys. Without a slack.token messages go to standard output.

Exit codes: 1 when something broke or a server cannot be reached, 2 when the
configuration, a topic's settings or the Slack token has to be changed first.`,
		Args: noArgs,
	}
	path := configFlag(c)
	// For rehearsals: docs/explanation/torture.md.
	dieAt := c.Flags().String("die-at", "", "for torture: end at the `POINT:N`th passing of a point, as kill -9 does")
	_ = c.Flags().MarkHidden("die-at")
	c.RunE = action(func(ctx context.Context) error {
		opts := app.Options{Version: version, Out: std.out}
		if *dieAt != "" {
			at, err := app.ParseDieAt(*dieAt)
			if err != nil {
				return usage(fmt.Errorf("--die-at: %w", err))
			}
			opts.DieAt = at
		}
		cfg, err := loadConfig(*path)
		if err != nil {
			return err
		}
		opts.Logger = newLogger(cfg.Log, std.err)
		a, err := app.New(cfg, opts)
		if err != nil {
			return exitOf(err)
		}
		stopReload := reloadOnHangup(ctx, a)
		defer stopReload()
		return exitOf(a.Run(ctx))
	})
	return c
}

// exitOf gives faults that a person has to mend the exit code of wrong use.
func exitOf(err error) error {
	var op *app.OperatorError
	if errors.As(err, &op) {
		return usage(err)
	}
	return err
}

// reloadOnHangup reloads at each SIGHUP until the returned function is called.
func reloadOnHangup(ctx context.Context, a *app.App) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-signals:
				// The daemon has logged and journaled the outcome; it keeps running on
				// the old rules when the new ones are refused.
				_ = a.Reload(ctx)
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}
}
