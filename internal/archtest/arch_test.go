package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/keysentry/keysentry/"

const (
	maxFileLines     = 500
	maxFunctionLines = 70
)

// source is one parsed file that is not a test.
type source struct {
	path  string // from the root, with slashes
	pkg   string // the folder
	lines int
	file  *ast.File
	fset  *token.FileSet
}

func load(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || nestedModule(path)) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		out = append(out, source{path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), lines: strings.Count(string(text), "\n"), file: file, fset: fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("only %d source files found: the test looks in the wrong place", len(out))
	}
	return out
}

// nestedModule reports whether dir, below the root, is a module of its own.
func nestedModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func rankOf(pkg string) int {
	for i, l := range layers {
		if slices.Contains(l.packages, pkg) {
			return i
		}
	}
	return -1
}

func TestLayers(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range load(t) {
		seen[s.pkg] = true
		rank := rankOf(s.pkg)
		if rank < 0 {
			t.Errorf("package %s is in no layer: add it to the table in layers_test.go", s.pkg)
			continue
		}
		for _, imp := range s.file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			inner, ok := strings.CutPrefix(path, module)
			if !ok {
				continue
			}
			switch r := rankOf(inner); {
			case r < 0:
				t.Errorf("%s imports %s, which is in no layer", s.path, inner)
			case r >= rank:
				t.Errorf("%s (layer %s) imports %s (layer %s): only lower layers may be imported", s.path, layers[rank].number, inner, layers[r].number)
			}
		}
	}
	for _, l := range layers {
		for _, p := range l.packages {
			if !seen[p] && p != "internal/archtest" {
				t.Errorf("the layer table names %s, which does not exist", p)
			}
		}
	}
}

func TestThirdPartyHomes(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, s := range load(t) {
		for _, imp := range s.file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(path, "/")
			if strings.HasPrefix(path, module) || !strings.Contains(first, ".") {
				continue
			}
			home := homeOf(path)
			used[home] = true
			if home == "" {
				t.Errorf("%s imports %s, which has no home in the table", s.path, path)
				continue
			}
			if allowed := homes[home]; !slices.Contains(allowed, s.pkg) && !slices.Contains(allowed, "*") {
				t.Errorf("%s imports %s; only %v may", s.path, path, allowed)
			}
		}
	}
	for h := range homes {
		if !used[h] {
			t.Errorf("the table of homes names %s, which nobody imports", h)
		}
	}
}

// homeOf finds the entry of the table that path belongs to.
func homeOf(path string) string {
	for h := range homes {
		if path == h || strings.HasPrefix(path, h+"/") {
			return h
		}
	}
	return ""
}

func TestPackageComments(t *testing.T) {
	t.Parallel()
	has := map[string]bool{}
	for _, s := range load(t) {
		has[s.pkg] = has[s.pkg] || s.file.Doc != nil
	}
	for pkg, ok := range has {
		if !ok {
			t.Errorf("package %s has no comment that says what it does and promises", pkg)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, s := range load(t) {
		if _, ok := longFiles[s.path]; s.lines > maxFileLines != ok {
			t.Errorf("%s has %d lines (limit %d, excused: %t)", s.path, s.lines, maxFileLines, ok)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line
			key := s.path + ":" + f.Name.Name
			if _, excused := longFunctions[key]; n > maxFunctionLines != excused {
				t.Errorf("%s has %d lines (limit %d, excused: %t)", key, n, maxFunctionLines, excused)
			}
		}
	}
}

func TestNoDrawerPackages(t *testing.T) {
	t.Parallel()
	for _, s := range load(t) {
		for part := range strings.SplitSeq(s.pkg, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helpers", "misc", "types", "models"}, part) {
				t.Errorf("%s: %q is a drawer, not a noun with one job", s.path, part)
			}
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", s.path)
			}
		}
	}
}

// domain is the packages in which time is an argument.
var domain = []string{"event", "rules", "rules/library", "detect", "detect/correlate", "detect/finding", "detect/offset", "alert", "alert/incident", "alert/journal", "alert/playbook"}

func TestTimeIsAnArgument(t *testing.T) {
	t.Parallel()
	for _, s := range load(t) {
		if !slices.Contains(domain, s.pkg) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, sel.Sel.Name) {
				t.Errorf("%s uses time.%s; in the domain time is an argument", s.fset.Position(n.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
}
