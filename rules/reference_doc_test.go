package rules

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the generated part of the reference")

// TestReference: the table of codes in the reference is that of the source, every
// modifier and extension key is described, and every code has one row.
func TestReference(t *testing.T) {
	const name = "../docs/reference/rules.md"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	var table strings.Builder
	table.WriteString("\n| code | severity | meaning |\n|---|---|---|\n")
	seen := map[Code]bool{}
	for _, c := range CodeTable() {
		if seen[c.Code] {
			t.Errorf("%s has two rows", c.Code)
		}
		seen[c.Code] = true
		fmt.Fprintf(&table, "| %s | %s | %s |\n", c.Code, c.Severity, c.Meaning)
	}
	_, rest, ok := strings.Cut(text, "-update -->\n")
	old, _, ok2 := strings.Cut(rest, "<!-- /codes -->")
	if !ok || !ok2 {
		t.Fatal("the reference lacks the marks around the codes")
	}
	if old != table.String() {
		if !*update {
			t.Error("the table of codes is not that of the source: run with -update")
		} else if err := os.WriteFile(name, []byte(strings.Replace(text, "-update -->\n"+old, "-update -->\n"+table.String(), 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, word := range slices.Concat(numericOps, affixes, timeParts, encodings, extensionKeys, corrKeys, []string{"all", "neq", "cased", "exists", "re", "cidr", "windash", "expand", "fieldref"}) {
		if !strings.Contains(text, "`"+word+"`") && !strings.Contains(text, "`"+word+":") && !strings.Contains(text, word+":") {
			t.Errorf("the reference says nothing about %s", word)
		}
	}
	for typ, keys := range corrType {
		for _, k := range append(keys, string(typ)) {
			if !strings.Contains(text, "`"+k) {
				t.Errorf("the reference says nothing about %s", k)
			}
		}
	}
}
