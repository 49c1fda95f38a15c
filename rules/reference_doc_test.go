package rules

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the reference")

// TestReference: the tables of the reference are those of the source.
func TestReference(t *testing.T) {
	const name = "../docs/reference/rules.md"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	codes := "| code | severity | meaning |\n|---|---|---|\n"
	for _, c := range CodeTable() {
		codes += fmt.Sprintf("| %s | %s | %s |\n", c.Code, c.Severity, c.Meaning)
	}
	for _, part := range []struct{ mark, table string }{
		{"codes", codes},
		{"modifiers", describe("| modifier | meaning |\n|---|---|\n", Modifiers())},
		{"types", describe("| `correlation.type` | fires when | keys of its own |\n|---|---|---|\n", CorrelationTypes())},
		{"extensions", describe("| key | meaning |\n|---|---|\n", ExtensionKeys())},
		{"decisions", describe("| point | decision |\n|---|---|\n", Decisions())},
	} {
		begin, end := "<!-- "+part.mark+": generated from the source, checked by a test; refresh with go test ./rules -run TestReference -update -->\n\n", "<!-- /"+part.mark+" -->"
		before, rest, ok := strings.Cut(text, begin)
		old, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("the reference lacks the marks around %s", part.mark)
		}
		if old != part.table && !*update {
			t.Errorf("the table of %s is not that of the source: run with -update", part.mark)
		}
		text = before + begin + part.table + end + after
	}
	if *update {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, word := range corrKeys {
		if !strings.Contains(text, "`"+word+"`") && !strings.Contains(text, "`"+word+":") && !strings.Contains(text, word+":") {
			t.Errorf("the reference says nothing about %s", word)
		}
	}
}

func describe(head string, list []Described) string {
	var b strings.Builder
	b.WriteString(head)
	third := strings.Count(head, "---") == 3
	for _, d := range list {
		name := d.Name
		if !strings.Contains(head, "point") {
			name = "`" + name + "`"
		}
		fmt.Fprintf(&b, "| %s | %s |", name, d.Meaning)
		if third {
			fmt.Fprintf(&b, " %s |", d.Keys)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestDescribed: the tables describe what the parser takes, no less and no more.
func TestDescribed(t *testing.T) {
	t.Parallel()
	names := func(list []Described) []string {
		out := []string{}
		for _, d := range list {
			if d.Meaning == "" {
				t.Errorf("%s has no meaning", d.Name)
			}
			out = append(out, d.Name)
		}
		slices.Sort(out)
		return out
	}
	sorted := func(list []string) []string {
		list = slices.Clone(list)
		slices.Sort(list)
		return list
	}
	flags := []string{"all", "neq", "cased", "exists", "re", "i", "m", "s", "cidr", "windash", "expand", "fieldref"}
	if got, want := names(Modifiers()), sorted(slices.Concat(numericOps, affixes, timeParts, encodings, flags)); !slices.Equal(got, want) {
		t.Errorf("modifiers: described %v, parsed %v", got, want)
	}
	for _, d := range Modifiers() {
		m := modifiers{op: map[bool]string{true: "re"}[len(d.Name) == 1]} // a flag follows re
		if fault := m.add(d.Name); fault != "" {
			t.Errorf("the parser does not take %s: %s", d.Name, fault)
		}
	}
	if got := names(ExtensionKeys()); !slices.Equal(got, sorted(extensionKeys)) {
		t.Errorf("extension keys: described %v, parsed %v", got, sorted(extensionKeys))
	}
	var types []string
	for typ, keys := range corrType {
		types = append(types, string(typ))
		i := slices.IndexFunc(CorrelationTypes(), func(d Described) bool { return d.Name == string(typ) })
		for _, k := range keys {
			if i >= 0 && !strings.Contains(CorrelationTypes()[i].Keys, "`"+k) {
				t.Errorf("%s: the key %s is not described", typ, k)
			}
		}
	}
	if got := names(CorrelationTypes()); !slices.Equal(got, sorted(types)) {
		t.Errorf("types: described %v, parsed %v", got, sorted(types))
	}
	seen := map[Code]bool{}
	for _, c := range CodeTable() {
		if seen[c.Code] {
			t.Errorf("%s has two rows", c.Code)
		}
		seen[c.Code] = true
	}
}
