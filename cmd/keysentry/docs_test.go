package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// pages is README.md and every page of docs.
func pages(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	out := map[string]string{}
	add := func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = string(text)
	}
	add(filepath.Join(root, "README.md"))
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			add(path)
		}
		return err
	})
	if err != nil || len(out) < 10 {
		t.Fatalf("%d pages: %v", len(out), err)
	}
	return out
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksInTheDocumentationResolve(t *testing.T) {
	t.Parallel()
	for path, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), filepath.FromSlash(target))); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	}
}

// command is a documented call: a line of its own, in a code block.
var command = regexp.MustCompile(`(?m)^(?:    )?(?:\$ )?keysentry( [a-z-].*)?$`)

// TestDocumentedCommandsExist: each command that a page shows is one, with these
// flags and this number of arguments. It is not run.
func TestDocumentedCommandsExist(t *testing.T) {
	t.Parallel()
	seen := 0
	for path, text := range pages(t) {
		if strings.HasSuffix(path, filepath.Join("reference", "cli.md")) {
			continue // generated: synopses, with the names of arguments in capitals
		}
		for _, m := range command.FindAllStringSubmatch(text, -1) {
			line, _, _ := strings.Cut(m[1], " #")
			line = strings.TrimSuffix(line, " &")
			seen++
			if err := parseOnly(splitWords(line)); err != nil {
				t.Errorf("%s: keysentry%s: %v", path, line, err)
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands were found; does the pattern still fit the pages?", seen)
	}
}

// parseOnly parses a command line as the binary does, up to where it would run.
func parseOnly(args []string) error {
	root := newRoot(stdio{strings.NewReader(""), io.Discard, io.Discard})
	replaceRuns(root)
	root.SetArgs(args)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	return root.Execute()
}

// replaceRuns lets every command do nothing; groups that are no commands themselves keep
// refusing.
func replaceRuns(c *cobra.Command) {
	if !c.HasSubCommands() || len(c.ValidArgs) > 0 {
		c.RunE, c.Run = func(*cobra.Command, []string) error { return nil }, nil
	}
	for _, sub := range c.Commands() {
		replaceRuns(sub)
	}
}

// splitWords splits at spaces outside double quotes.
func splitWords(s string) []string {
	var words []string
	for i, part := range strings.Split(s, `"`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
