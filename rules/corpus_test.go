package rules

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/internal/published"
)

// corpusFolder finds the part of the public Sigma corpus that the tests use; it
// is not part of the project.
func corpusFolder(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("KEYSENTRY_SIGMA_CORPUS"); dir != "" {
		return dir
	}
	return published.Path(t, "sigma")
}

// untar reads a packed archive into memory.
func untar(t testing.TB, name string) map[string][]byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Skipf("SKIP: %v", err)
	}
	zr, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			out[strings.TrimPrefix(h.Name, "./")] = b
		}
	}
}

// corpus is the rule files in the order of their names.
func corpus(t testing.TB) []File {
	t.Helper()
	var out []File
	for n, b := range untar(t, filepath.Join(corpusFolder(t), "sigma-rules.tar.gz")) {
		if strings.HasSuffix(n, ".yml") {
			out = append(out, File{n, b})
		}
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// regression is one regression test of the corpus.
type regression struct {
	rule   string
	want   int // 0: at least one
	events []json.RawMessage
}

func regressions(t testing.TB) []regression {
	t.Helper()
	files := untar(t, filepath.Join(corpusFolder(t), "sigma-regression.tar.gz"))
	var out []regression
	for name, b := range files {
		if path.Base(name) != "info.yml" {
			continue
		}
		var info struct {
			Rules []struct{ ID string } `yaml:"rule_metadata"`
			Tests []struct {
				MatchCount int `yaml:"match_count"`
			} `yaml:"regression_tests_info"`
		}
		if err := yaml.Unmarshal(b, &info); err != nil || len(info.Rules) != 1 || len(info.Tests) != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		r := regression{rule: info.Rules[0].ID, want: info.Tests[0].MatchCount}
		for other, data := range files {
			if path.Dir(other) != path.Dir(name) || !strings.HasSuffix(other, ".json") {
				continue
			}
			for dec := json.NewDecoder(bytes.NewReader(data)); ; {
				var e json.RawMessage
				if err := dec.Decode(&e); err == io.EOF {
					break
				} else if err != nil {
					t.Fatalf("%s: %v", other, err)
				}
				r.events = append(r.events, e)
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b regression) int { return strings.Compare(a.rule, b.rule) })
	return out
}

// TestCorpusLoads: every rule in use compiles, but for placeholders without
// values, which say so; what is unsupported is refused with a position and a
// reason.
func TestCorpusLoads(t *testing.T) {
	t.Parallel()
	files := corpus(t)
	set, diags := Load(files, Options{})
	bad := map[string]bool{}
	for _, d := range diags {
		if d.Severity != Error {
			continue
		}
		bad[d.File] = true
		if d.Line == 0 || d.Col == 0 || d.Message == "" {
			t.Errorf("%s: a diagnostic without a place or text: %+v", d.File, d)
		}
		if !strings.HasPrefix(d.File, "unsupported/") && d.Code != CodePlaceholder {
			t.Errorf("%s:%d:%d %s %s", d.File, d.Line, d.Col, d.Code, d.Message)
		}
	}
	t.Logf("%d files, %d rules compiled, %d files with errors", len(files), len(set.Rules), len(bad))
	if len(set.Rules) < 1800 {
		t.Errorf("only %d rules compiled", len(set.Rules))
	}
}

// TestCorpusRegression: every regression test fires at least as often as it says,
// which is how upstream judges.
func TestCorpusRegression(t *testing.T) {
	t.Parallel()
	set, _ := Load(corpus(t), Options{Mapping: WindowsMapping()})
	byID := map[string]int32{}
	for _, r := range set.Rules {
		byID[r.ID] = int32(r.Index)
	}
	m := NewMatcher(set.Program())
	tests := regressions(t)
	for _, r := range tests {
		index, ok := byID[r.rule]
		if !ok {
			t.Errorf("%s: not compiled", r.rule)
			continue
		}
		got := 0
		for _, e := range r.events {
			hits, err := m.MatchJSON(e, nil)
			if err != nil {
				t.Errorf("%s: %v", r.rule, err)
			}
			if slices.Contains(hits, index) {
				got++
			}
		}
		if got < max(r.want, 1) {
			t.Errorf("%s %s: %d of %d events match, want %d", r.rule, set.Rules[index].Title, got, len(r.events), r.want)
		}
	}
	t.Logf("%d regression tests", len(tests))
}

// TestCorpusMatrix: every rule on every event gives the same verdict with the
// index, without it, and by the reference.
func TestCorpusMatrix(t *testing.T) {
	files := corpus(t)
	on, _ := Load(files, Options{Mapping: WindowsMapping()})
	off, _ := Load(files, Options{Mapping: WindowsMapping(), NoIndex: true})
	ref := refParse(files, WindowsMapping())
	mOn, mOff := NewMatcher(on.Program()), NewMatcher(off.Program())
	events, pairs, matches := 0, 0, 0
	for _, r := range regressions(t) {
		for _, raw := range r.events {
			events++
			a, err := mOn.MatchJSON(raw, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := mOff.MatchJSON(raw, nil)
			if !slices.Equal(a, b) {
				t.Errorf("index on %v, off %v", a, b)
			}
			rec := decodeRecord(t, raw)
			for _, rule := range on.Rules {
				pairs++
				want := ref[rule.ID].match(rec)
				if want {
					matches++
				}
				if got := slices.Contains(a, int32(rule.Index)); got != want {
					t.Errorf("%s (%s): got %t, reference %t on %.200s", rule.File, rule.Title, got, want, raw)
				}
			}
		}
	}
	t.Logf("%d events x %d rules = %d pairs, %d matches", events, len(on.Rules), pairs, matches)
}

func decodeRecord(t testing.TB, raw []byte) map[string]any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var rec map[string]any
	if err := dec.Decode(&rec); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return rec
}
