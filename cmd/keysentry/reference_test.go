package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// checkPage compares a generated page of docs/reference with the one on disk.
func checkPage(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "reference", name)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s is out of date, run: go test ./cmd/keysentry -run Reference -update\n%s", path, diff)
	}
}

// allCommands calls f for every command that the help shows.
func allCommands(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" && sub.Name() != "help" {
			allCommands(sub, f)
		}
	}
}

func TestReferenceOfCommands(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Commands\n\n<!-- generated from the commands, refresh with: go test ./cmd/keysentry -run Reference -update -->\n\n" +
		"Exit codes: 0 a good answer, 1 a bad answer (a check failed, something is broken), 2 wrong use (arguments, configuration).\n" +
		"`keysentry completion bash|zsh|fish|powershell` prints completions for your shell; every command has `--help`.\n")
	allCommands(newRoot(stdio{strings.NewReader(""), io.Discard, io.Discard}), func(c *cobra.Command) {
		if c.HasParent() {
			writeCommand(&b, c)
		}
	})
	checkPage(t, "cli.md", b.String())
}

func writeCommand(b *strings.Builder, c *cobra.Command) {
	level := strings.Repeat("#", 1+strings.Count(c.CommandPath(), " "))
	fmt.Fprintf(b, "\n%s %s\n\n", level, c.CommandPath())
	if c.HasSubCommands() {
		fmt.Fprintf(b, "%s\n", c.Long)
	} else {
		about := c.Long
		if about == "" {
			about = c.Short + "."
		}
		fmt.Fprintf(b, "    %s\n\n%s\n", strings.TrimSuffix(c.UseLine(), " [flags]"), fenceLists(about))
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", dedent(c.Example))
	}
	flags := c.NonInheritedFlags()
	if c.HasAvailableLocalFlags() {
		writeFlags(b, flags)
	}
}

// fenceLists puts indented lines of a help text into a code block.
func fenceLists(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "  ") {
			lines[i] = "    " + strings.TrimSpace(l)
			if i > 0 && !strings.HasPrefix(lines[i-1], "    ") {
				lines[i] = "\n" + lines[i]
			}
		}
	}
	return strings.Join(lines, "\n")
}

func dedent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

func writeFlags(b *strings.Builder, flags *pflag.FlagSet) {
	rows := ""
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		typ, text := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if typ != "" {
			name += " " + typ
		}
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		def := ""
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			def = "`" + f.DefValue + "`"
		}
		rows += fmt.Sprintf("| `%s` | %s | %s |\n", strings.ReplaceAll(name, "|", "\\|"), def, strings.ReplaceAll(text, "|", "\\|"))
	})
	if rows != "" {
		b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n" + rows)
	}
}

// TestEveryCommandHelps: each command says what it is and explains its flags.
func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	allCommands(newRoot(stdio{strings.NewReader(""), io.Discard, io.Discard}), func(c *cobra.Command) {
		var out, errs bytes.Buffer
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		if code := run(t.Context(), args, stdio{strings.NewReader(""), &out, &errs}); code != exitGood {
			t.Errorf("%s --help: exit code %d: %s", c.CommandPath(), code, &errs)
		}
		if !strings.Contains(out.String(), "Usage:\n  keysentry") {
			t.Errorf("%s --help does not say how to use it:\n%s", c.CommandPath(), &out)
		}
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, " ") && len(line) > 100 {
				t.Errorf("%s --help: a line is longer than a terminal: %s", c.CommandPath(), line)
			}
		}
		if c.HasParent() && (c.Short == "" || strings.HasSuffix(c.Short, ".")) {
			t.Errorf("%s: the short help is %q, want a phrase without a full stop", c.CommandPath(), c.Short)
		}
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s is not explained", c.CommandPath(), f.Name)
			}
		})
	})
}
