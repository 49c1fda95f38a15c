package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// TestHowToWriteARule does what the page says, from the first command to the
// last, on a broker and a ClickHouse.
func TestHowToWriteARule(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIP: a daemon and two servers are too much for -short")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto", "write-a-rule.md"))
	if err != nil {
		t.Fatal(err)
	}
	script, commands := scriptOf(string(page))
	if commands < 15 {
		t.Fatalf("only %d commands were found in the page", commands)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "write-a-rule.txtar"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	p := params(t, dir)
	p.UpdateScripts = false
	kafka, clickhouse := devstacktest.FakeKafka(t), devstacktest.ClickHouse(t)
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		if err := setup(e); err != nil {
			return err
		}
		name := devstacktest.Name(t)
		for k, v := range map[string]string{
			"KAFKA": kafka, "CLICKHOUSE": clickhouse, "NAME": name, "KEYSENTRY_SERVER": "http://127.0.0.1:" + e.Getenv("PORT"),
			"KEYSENTRY_JOURNAL_KEY": "0123456789abcdef0123456789abcdef", "KEYSENTRY_FINGERPRINT_KEY": "0123456789abcdef0123456789abcdef",
		} {
			e.Setenv(k, v)
		}
		return devstack.CreateTopic(context.Background(), kafka, devstack.Topic{Name: name, Partitions: 1, Configs: map[string]string{"retention.ms": "-1"}})
	}
	testscript.Run(t, p)
}

var (
	// block is a fenced block of a page, with its language.
	block = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")
	// savedAs says which file the next block is.
	savedAs = regexp.MustCompile("(?s).*Save as `([^`]+)`")
	// exitsWith is the exit code of a command that is not 0.
	exitsWith = regexp.MustCompile(`\s+# exits (\d)$`)
	// mine replaces what a reader has by what the test has.
	mine = strings.NewReplacer(
		`kafka: {brokers: ["127.0.0.1:9092"]}`, `kafka: {brokers: ["$KAFKA"], group: {id: $NAME}, topics: {quarantine: $NAME.quarantine, journal: $NAME.journal, control: $NAME.control}}`,
		`store: {addrs: ["127.0.0.1:9000"]}`, `store: {addrs: ["$CLICKHOUSE"], database: $NAME}`,
		"data_dir: data\n", "data_dir: data\nhttp: {listen: \"127.0.0.1:$PORT\"}\n",
		"name: cloudtrail", "name: $NAME", "--topic cloudtrail", "--topic $NAME", "127.0.0.1:9092", "$KAFKA",
	)
)

// scriptOf makes a script of a page: files to save, commands to run, and lines
// that the last command before them prints. It also counts the commands.
func scriptOf(page string) (script string, commands int) {
	var run, files strings.Builder
	end, name := 0, ""
	for i, m := range block.FindAllStringSubmatchIndex(page, -1) {
		lang, text := page[m[2]:m[3]], page[m[4]:m[5]]
		if f := savedAs.FindStringSubmatch(page[end:m[0]]); f != nil {
			name = f[1]
		}
		end = m[1]
		switch lang {
		case "yaml", "json":
			fmt.Fprintf(&files, "-- blocks/%d --\n%s", i, mine.Replace(text))
			fmt.Fprintf(&run, "mkdir %s\ncp blocks/%d %s\n", path.Join(".", path.Dir(name)), i, name)
			if name == "keysentry.yml" {
				fmt.Fprintf(&run, "envsubst %s\n", name)
			}
		case "sh":
			next := page[m[1]:]
			if n := block.FindStringSubmatchIndex(next); n == nil || next[n[2]:n[3]] != "text" {
				next = ""
			} else {
				next = next[n[4]:n[5]]
			}
			commands += writeCommands(&run, text, next)
		}
	}
	return run.String() + "kill -INT daemon\nwait daemon\n" + files.String(), commands
}

// writeCommands writes the commands of a block, and what the last one prints.
func writeCommands(run *strings.Builder, text, prints string) (n int) {
	lines := strings.Split(strings.TrimSpace(mine.Replace(text)), "\n")
	wants := strings.Split(strings.TrimSpace(prints), "\n")
	for i, line := range lines {
		n++
		code := "0"
		if m := exitsWith.FindStringSubmatch(line); m != nil {
			code, line = m[1], strings.TrimSpace(exitsWith.ReplaceAllString(line, ""))
		}
		line = strings.ReplaceAll(line, `"`, "'")
		words := strings.Fields(line)
		switch last := i == len(lines)-1 && prints != ""; {
		case strings.HasSuffix(line, " &"):
			fmt.Fprintf(run, "exec %sdaemon&\nready\n", line)
			continue
		case last && waits(words):
			fmt.Fprintf(run, "waitfor '%s' %s\n", expression(wants[0]), line)
		case words[0] == "keysentry":
			fmt.Fprintf(run, "exits %s %s\n", code, line)
		default:
			fmt.Fprintf(run, "exec %s\n", line)
		}
		if i == len(lines)-1 && prints != "" {
			for _, w := range wants {
				fmt.Fprintf(run, "stdout '%s'\n", expression(w))
			}
		}
	}
	return n
}

// waits reports whether a command shows what the daemon does meanwhile.
func waits(words []string) bool {
	return len(words) > 2 && (words[1] == "incidents" || words[1] == "journal" || words[2] == "backtest")
}

// expression is a line of the page as a regular expression: what it leaves out is
// written as three dots.
func expression(line string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(line), ` \.\.\. `, ".*")
}
