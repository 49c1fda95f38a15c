// Package library holds the rules that Keysentry ships. Each file has its tests
// beside it, in NAME.test.yml; the package only hands the files out.
package library

import (
	"embed"
	"strings"

	"github.com/keysentry/keysentry/rules"
)

//go:embed *.yml
var content embed.FS

// Files are the rule files, in the order of their names, without their tests.
func Files() []rules.File { return files(func(name string) bool { return !isTest(name) }) }

// TestFiles are the files with the tests of the rules.
func TestFiles() []rules.File { return files(isTest) }

func isTest(name string) bool { return strings.HasSuffix(name, rules.TestSuffix) }

func files(keep func(string) bool) []rules.File {
	entries, err := content.ReadDir(".")
	if err != nil {
		return nil // an embedded folder can be read
	}
	var out []rules.File
	for _, e := range entries {
		if b, err := content.ReadFile(e.Name()); err == nil && keep(e.Name()) {
			out = append(out, rules.File{Name: "library/" + e.Name(), Data: b})
		}
	}
	return out
}
