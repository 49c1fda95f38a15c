// Command keysentry watches the audit events of a server-side secret, says why
// authentication fails, tells security, and runs the response.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/devstack"
)

// version is set at link time.
var version = "unknown"

// Exit codes: a good answer, a bad answer, wrong use (arguments, configuration).
const (
	exitGood  = 0
	exitBad   = 1
	exitUsage = 2
)

// exitError carries the exit code of a failure; its message is what the person
// sees. A nil Err says that everything was said already.
type exitError struct {
	Code int
	Err  error
}

func (e *exitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *exitError) Unwrap() error { return e.Err }

// usage marks err as wrong use.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, err}
}

// bad marks an answer that is no error of ours: a check that failed, a rule that
// did not fire. The command has printed what there is to say.
var bad = &exitError{Code: exitBad}

func main() {
	// An embedded server is a child process of this binary.
	devstack.MaybeRunChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// stdio is the three streams of a process.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, std stdio) int {
	root := newRoot(std)
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return exitGood
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintln(std.err, "keysentry: "+exit.Err.Error())
		}
		return exit.Code
	}
	fmt.Fprintln(std.err, "keysentry: "+err.Error())
	return exitBad
}

func newRoot(std stdio) *cobra.Command {
	root := &cobra.Command{
		Use:   "keysentry",
		Short: "Watch a server-side secret, say why authentication fails, run the response",
		Long: `Keysentry reads the audit events of every token minted, redeemed or refused from
Kafka, stores each exactly once in ClickHouse, says why authentication fails,
tells security in Slack and, with evidence and approval, rotates the key.

Begin with "keysentry demo" to see it work, or with
"keysentry check-config --config keysentry.yml" for your own.

Exit codes: 0 good, 1 a bad answer (a check failed, something is broken),
2 wrong use (arguments, configuration).`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; see '%s --help'", err, c.CommandPath()))
	})
	root.SetVersionTemplate("keysentry {{.Version}}\n")
	root.AddGroup(
		&cobra.Group{ID: groupTry, Title: "Try it:"},
		&cobra.Group{ID: groupRun, Title: "Run it:"},
		&cobra.Group{ID: groupAsk, Title: "Look and decide:"},
		&cobra.Group{ID: groupWork, Title: "Rules and data:"},
		&cobra.Group{ID: groupMeasure, Title: "Measure it:"},
	)
	root.AddCommand(commands(std)...)
	root.InitDefaultCompletionCmd(root.Name())
	root.SetHelpCommand(helpCommand(root))
	strict(root)
	return root
}

// The groups of the help.
const (
	groupTry     = "try"
	groupRun     = "run"
	groupAsk     = "ask"
	groupWork    = "work"
	groupMeasure = "measure"
)
