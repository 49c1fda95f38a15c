package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/rules"
)

func checkConfigCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "check-config",
		Short: "Check a configuration and everything it names, without connecting",
		Long: `Check a configuration: every fault is named by its path. Secrets are resolved
(never shown), rules are compiled, playbooks are loaded. Nothing is connected;
"keysentry doctor" does that.

Exits 2 when there is a fault.`,
		Args: noArgs,
	}
	path := configFlag(c)
	print := c.Flags().Bool("print", false, "print the configuration with all defaults")
	c.RunE = action(func(context.Context) error {
		cfg, err := loadConfig(*path)
		if err != nil {
			return err
		}
		if faults := app.Check(cfg, os.Getenv); len(faults) > 0 {
			for _, f := range faults {
				fmt.Fprintf(std.err, "keysentry: %s: %v\n", *path, f)
			}
			return &exitError{Code: exitUsage}
		}
		set, diags, err := app.LoadRules(cfg.Rules)
		if err != nil {
			return usage(err)
		}
		broken := 0
		for _, d := range diags {
			if d.Severity == rules.Error {
				broken++
				fmt.Fprintln(std.err, "keysentry: "+d.String())
			}
		}
		if broken > 0 {
			return usage(fmt.Errorf("%d rule documents have errors and would be left out", broken))
		}
		if *print {
			return cfg.Print(std.out)
		}
		fmt.Fprintf(std.out, "%s is good: %d topics, %d rules, %d correlations, %d people\n",
			*path, len(cfg.Ingest.Topics), len(set.Rules), len(set.Correlations), len(cfg.Alert.People))
		return nil
	})
	return c
}
