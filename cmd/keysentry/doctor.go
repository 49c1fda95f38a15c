package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/app"
)

func doctorCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything that the daemon depends on, and say what to change",
		Long: `Connect to Kafka, ClickHouse, Slack and the secret stores of a configuration and
check what the daemon's promises rest on: topics and their settings, versions,
rights, schema, tokens. Nothing is changed.

Exits 1 when a check fails; warnings alone are good.`,
		Args: noArgs,
	}
	path := configFlag(c)
	format := formatFlag(c)
	c.RunE = action(func(ctx context.Context) error {
		cfg, err := loadConfig(*path)
		if err != nil {
			return err
		}
		rows := app.Doctor(ctx, cfg, os.Getenv)
		err = list(std.out, *format, rows, func(w io.Writer) {
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\n", r.Status, r.Check, r.Detail)
			}
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Status == app.DoctorFail {
				return bad
			}
		}
		return nil
	})
	return c
}
