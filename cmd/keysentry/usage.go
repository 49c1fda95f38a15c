package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpCommand is "help COMMAND", which unlike the library's own is wrong use when
// there is no such command.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND...]", Short: "Show the help of a command", RunE: func(_ *cobra.Command, args []string) error {
		c, rest, err := root.Find(args)
		if err != nil {
			return usage(err)
		}
		if len(rest) > 0 {
			return unknownCommand(c, rest[0])
		}
		c.InitDefaultHelpFlag()
		return c.Help()
	}}
}

// strict makes wrong arguments of c and of the commands below it wrong use: the
// library has no kinds of errors, and shows the help of a group instead of
// refusing an unknown subcommand.
func strict(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err == nil {
				return nil
			}
			return usage(fmt.Errorf("%s: %w; see '%s --help'", short(c), err, c.CommandPath()))
		}
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				return unknownCommand(c, args[0])
			case c.HasParent():
				return usage(fmt.Errorf("%s: give a command; see '%s --help'", short(c), c.CommandPath()))
			}
			return c.Help()
		}
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

// short is the command without the program's name, which run puts before errors.
func short(c *cobra.Command) string {
	_, rest, _ := strings.Cut(c.CommandPath(), " ")
	return rest
}

func unknownCommand(c *cobra.Command, name string) error {
	hint := ""
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return usage(fmt.Errorf("there is no command %q%s; see '%s --help'", strings.TrimSpace(short(c)+" "+name), hint, c.CommandPath()))
}

// The checks of arguments below return plain errors: strict makes them wrong use
// and names the command.

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("takes no arguments, got %q", args)
	}
	return nil
}

// exactArgs wants n arguments.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("wants %s, got %d argument(s)", what, len(args))
		}
		return nil
	}
}

func upTo(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return fmt.Errorf("takes at most %d argument(s), got %q", n, args)
		}
		return nil
	}
}

func atLeastOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return errors.New("give " + what)
		}
		return nil
	}
}

// onlyValid wants arguments of c.ValidArgs.
func onlyValid(c *cobra.Command, args []string) error {
	for _, a := range args {
		if !slices.Contains(c.ValidArgs, a) {
			return fmt.Errorf("%q is not %s", a, strings.Join(c.ValidArgs, " or "))
		}
	}
	return nil
}

// choice is the value of a flag that takes one of a few words. A wrong word is
// refused before anything is done.
type choice struct {
	value *string
	words []string
}

// choiceFlag adds a flag whose default is the first word.
func choiceFlag(f *pflag.FlagSet, name, help string, words ...string) *string {
	c := choice{value: new(string), words: words}
	*c.value = words[0]
	f.Var(c, name, help)
	return c.value
}

// String implements pflag.Value.
func (c choice) String() string { return *c.value }

// Type implements pflag.Value.
func (c choice) Type() string { return strings.Join(c.offered(), "|") }

// offered is the words without the empty default.
func (c choice) offered() []string {
	return slices.DeleteFunc(slices.Clone(c.words), func(w string) bool { return w == "" })
}

// Set implements pflag.Value.
func (c choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("use %s", strings.Join(c.offered(), ", "))
	}
	*c.value = s
	return nil
}
