package eval

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// coverageRow is one row of COVERAGE.md.
type coverageRow struct {
	item, source         string
	positives, negatives []string
}

// coverage reads the tables of COVERAGE.md: the rows that name cases, and the
// tests of what is outside the suite by their item.
func coverage(t *testing.T) (rows []coverageRow, outside map[string]string) {
	t.Helper()
	b, err := os.ReadFile(conformance + "/COVERAGE.md")
	if err != nil {
		t.Fatal(err)
	}
	outside = map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(strings.ReplaceAll(line, `\|`, "\x00"))
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| item |") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch len(cells) {
		case 2:
			outside[cells[0]] = cells[1]
		case 4:
			rows = append(rows, coverageRow{cells[0], cells[1], strings.Fields(cells[2]), strings.Fields(cells[3])})
		default:
			t.Errorf("a row has %d cells: %s", len(cells), line)
		}
	}
	return rows, outside
}

// TestCoverage keeps COVERAGE.md true: every case is in a row, and every item has
// a case in which something matches, fires or loads and one that is quiet or
// refused.
func TestCoverage(t *testing.T) {
	t.Parallel()
	rows, outside := coverage(t)
	if len(rows) < 150 || len(outside) < 5 {
		t.Fatalf("%d rows, %d outside", len(rows), len(outside))
	}
	rowed := map[string]bool{}
	for _, r := range rows {
		if !slices.Contains([]string{"standard", "ours", "extension"}, r.source) {
			t.Errorf("%s: the source is %q", r.item, r.source)
		}
		if len(r.positives) == 0 || len(r.negatives) == 0 {
			t.Errorf("%s: lacks a positive or a negative case", r.item)
		}
		for _, name := range slices.Concat(r.positives, r.negatives) {
			rowed[name] = true
			if ext := strings.HasPrefix(name, "ext-"); ext != (r.source == "extension") {
				t.Errorf("%s: the case %s does not belong to a row of source %q", r.item, name, r.source)
			}
		}
		for _, name := range r.positives {
			if says, _ := verdicts(t, name); !says {
				t.Errorf("%s: nothing matches or fires in %s", r.item, name)
			}
		}
		for _, name := range r.negatives {
			if _, quiet := verdicts(t, name); !quiet {
				t.Errorf("%s: no record is quiet and no document is refused in %s", r.item, name)
			}
		}
	}
	for _, name := range conformanceCases(t) {
		if !rowed[name] {
			t.Errorf("the case %s is in no row", name)
		}
		delete(rowed, name)
	}
	for name := range rowed {
		t.Errorf("there is no case %s", name)
	}
	for item, test := range outside {
		pkg, name, _ := strings.Cut(strings.Trim(test, "`"), "` ")
		if !hasTest(t, "../../"+pkg, name) {
			t.Errorf("%s: package %s has no test %s", item, pkg, name)
		}
	}
}

// verdicts says whether something matches or fires in a case, and whether a
// document is refused or more records come than match (correlations: fire).
func verdicts(t *testing.T, name string) (says, quiet bool) {
	t.Helper()
	dir := filepath.Join(conformance, name)
	if _, err := os.Stat(dir); err != nil {
		return false, false // reported by the caller
	}
	matched, findings := map[any]bool{}, 0
	for _, l := range decodeLines(t, readCase(t, dir, "expected.ndjson")) {
		switch l["kind"] {
		case "error":
			quiet = true
		case "match":
			matched[l["events"].([]any)[0]] = true
		case "finding":
			findings++
		default:
			t.Errorf("%s: a line of kind %v", name, l["kind"])
		}
	}
	heard := len(matched)
	if strings.Contains(string(readCase(t, dir, "rule.yml")), "\ncorrelation:") {
		heard = findings
	}
	records := len(decodeLines(t, readCase(t, dir, "events.ndjson")))
	return len(matched)+findings > 0, quiet || heard < records
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(dir + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(f string) bool {
		b, err := os.ReadFile(f)
		return err == nil && strings.Contains(string(b), "\nfunc "+name+"(")
	})
}
