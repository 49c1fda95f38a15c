package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/secret"
)

// commands is the whole command line, by the groups of the help.
func commands(std stdio) []*cobra.Command {
	var all []*cobra.Command
	for _, g := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{groupTry, []*cobra.Command{demoCommand(std), devCommand(std), simulateCommand(std)}},
		{groupRun, []*cobra.Command{runCommand(std), checkConfigCommand(std), doctorCommand(std)}},
		{groupAsk, []*cobra.Command{incidentsCommand(std), explainCommand(std), keysCommand(std), playbookCommand(std), postureCommand(std), queryCommand(std), journalCommand(std)}},
		{groupWork, []*cobra.Command{rulesCommand(std), mapCommand(std), replayCommand(std), quarantineCommand(std)}},
		{groupMeasure, []*cobra.Command{tortureCommand(std), benchCommand(std), qualityCommand(std)}},
		{"", []*cobra.Command{versionCommand(std)}},
	} {
		for _, c := range g.commands {
			c.GroupID = g.id
			all = append(all, c)
		}
	}
	return all
}

// configFlag adds --config.
func configFlag(c *cobra.Command) *string {
	return c.Flags().StringP("config", "c", envOr("KEYSENTRY_CONFIG", "keysentry.yml"), "configuration `FILE` (or $KEYSENTRY_CONFIG)")
}

// loadConfig loads the configuration; its faults are wrong use.
func loadConfig(path string) (*config.Config, error) {
	cfg, err := config.Load(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usage(fmt.Errorf("there is no configuration %s; give --config FILE, and begin from configs/keysentry.yml", path))
	}
	return cfg, usage(err)
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// newLogger writes what the configuration asks for to w.
func newLogger(cfg config.LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	// The configuration was validated; an unknown level stays at info.
	_ = level.UnmarshalText([]byte(cfg.Level))
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// daemonFlags are the flags of commands that ask a running daemon.
type daemonFlags struct {
	server, credentialFile, caFile *string
	format                         *string
}

func addDaemonFlags(c *cobra.Command) daemonFlags {
	f := c.PersistentFlags()
	return daemonFlags{
		server:         f.String("server", envOr("KEYSENTRY_SERVER", "http://127.0.0.1:8340"), "base `URL` of a daemon (or $KEYSENTRY_SERVER)"),
		credentialFile: f.String("credential-file", "", "`FILE` with your personal credential (or $KEYSENTRY_CREDENTIAL)"),
		caFile:         f.String("ca-file", "", "`FILE` with the certificate authority of the daemon's https"),
		format:         formatFlag(c),
	}
}

func formatFlag(c *cobra.Command) *string {
	return choiceFlag(c.PersistentFlags(), "format", "how to print", "text", "json", "ndjson")
}

func (d daemonFlags) client() (*console.Client, error) {
	ref := secret.Ref{File: *d.credentialFile}
	if ref.IsZero() && os.Getenv("KEYSENTRY_CREDENTIAL") != "" {
		ref.Env = "KEYSENTRY_CREDENTIAL"
	}
	credential, err := ref.Resolve(os.Getenv)
	if err != nil {
		return nil, usage(err)
	}
	c, err := console.NewClient(strings.TrimSuffix(*d.server, "/"), credential, *d.caFile)
	return c, usage(err)
}

// list prints rows: one JSON array, one object a line, or whatever text does.
func list[T any](out io.Writer, format string, rows []T, text func(w io.Writer)) error {
	switch format {
	case "text":
		if len(rows) == 0 {
			return nil
		}
		w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		text(w)
		return w.Flush()
	case "json":
		if rows == nil {
			rows = []T{}
		}
		return printJSON(out, rows)
	case "ndjson":
		enc := json.NewEncoder(out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no way to print %q", format) // the flag has refused it
}

// show prints one value: JSON, or whatever text does.
func show(out io.Writer, format string, v any, text func(w io.Writer)) error {
	switch format {
	case "text":
		text(out)
		return nil
	case "json":
		return printJSON(out, v)
	case "ndjson":
		return json.NewEncoder(out).Encode(v)
	}
	return fmt.Errorf("no way to print %q", format) // the flag has refused it
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// group is a command that only holds others.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long}
}

// action wraps a function that only needs the context.
func action(f func(ctx context.Context) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error { return f(c.Context()) }
}
