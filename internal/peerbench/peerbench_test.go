package peerbench

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/rules"
)

// fakeEnv makes the test binary a contestant: it spends some time on every
// event and writes a line for each that was refused. "extra" finds one more.
const fakeEnv = "KEYSENTRY_FAKE_CONTESTANT"

func TestMain(m *testing.M) {
	kind := os.Getenv(fakeEnv)
	if kind == "" {
		os.Exit(m.Run())
	}
	if err := fake(kind, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fake(kind string, args []string, out io.Writer) error {
	if kind == "broken" {
		return errors.New("first line\nno such option")
	}
	if args[1] == "validate" {
		n := 0
		files, err := readFolder(args[len(args)-1])
		for _, f := range files {
			n += bytes.Count(f.Data, []byte("PEER-REFUSES"))
		}
		fmt.Fprintf(out, `{"summary":{"compile_errors":0,"parse_errors":%d}}`, n)
		return err
	}
	at := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "--event") })
	data, err := os.ReadFile(strings.TrimPrefix(args[at+1], "@"))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		sum := sha256.Sum256(line)
		for range 100 {
			sum = sha256.Sum256(sum[:])
		}
		if bytes.Contains(line, []byte(`"status":401`)) {
			fmt.Fprintf(out, "{\"sum\":\"%x\"}\n", sum)
		}
	}
	if kind == "extra" {
		fmt.Fprintln(out, "{}")
	}
	return nil
}

// fakes is a bench of two fakes.
func fakes(t *testing.T, peer string) *bench {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Options: Options{Events: 20_000, Rounds: 2, Progress: io.Discard}, ours: keysentry(self), theirs: rsigma(self), dir: t.TempDir()}
	b.ours.env = append(b.ours.env, fakeEnv+"=same")
	b.theirs.env = append(b.theirs.env, fakeEnv+"="+peer)
	return b
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	w := work{name: "refused", rules: authRules(), event: attackedEvent, events: 20_000, finds: true}
	for peer, want := range map[string]struct {
		theirs int
		short  []string
	}{
		"same":  {199, nil},
		"extra": {200, []string{"refused: we found 199, rsigma 200"}},
	} {
		t.Run(peer, func(t *testing.T) {
			t.Parallel()
			b := fakes(t, peer)
			r, err := b.measure(t.Context(), w)
			if err != nil {
				t.Fatal(err)
			}
			if r.Ours <= 0 || r.Theirs <= 0 || r.Ratio <= 0 {
				t.Errorf("got %+v", r)
			}
			if r.OurResult != 199 || r.TheirResult != want.theirs {
				t.Errorf("found %d and %d, want 199 and %d", r.OurResult, r.TheirResult, want.theirs)
			}
			if d := cmp.Diff(want.short, w.judge(r)); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("broken", func(t *testing.T) {
		t.Parallel()
		if _, err := fakes(t, "broken").measure(t.Context(), w); err == nil || err.Error() != "rsigma: exit status 1: no such option" {
			t.Errorf("got %v", err)
		}
	})
}

func TestJudge(t *testing.T) {
	t.Parallel()
	good := Result{Peer: "p", Ours: 100, Theirs: 50, Ratio: 2, OurResult: 7, TheirResult: 7}
	for name, c := range map[string]struct {
		w    work
		edit func(*Result)
		want []string
	}{
		"at the bars":   {work{minRatio: 2, minOurs: 100, finds: true}, func(*Result) {}, nil},
		"ratio":         {work{minRatio: 2}, func(r *Result) { r.Ratio = 1.99 }, []string{"w: 1.99 times p, the bar is 2"}},
		"rate":          {work{minOurs: 100}, func(r *Result) { r.Ours = 99 }, []string{"w: 99 events/s, the bar is 100"}},
		"nothing":       {work{finds: true}, func(r *Result) { r.OurResult, r.TheirResult = 0, 0 }, []string{"w: nothing was found, so equal results mean nothing"}},
		"nothing is ok": {work{}, func(r *Result) { r.OurResult, r.TheirResult = 0, 0 }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.w.name = "w"
			r := good
			c.edit(&r)
			if d := cmp.Diff(c.want, c.w.judge(r)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestResultForm: the keys are a promise, and their order.
func TestResultForm(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(Result{Work: "w", Peer: "p", Unit: "events/s", Ours: 1200000, Theirs: 200000, Ratio: 6, OurResult: 1, TheirResult: 2})
	want := `{"work":"w","peer":"p","unit":"events/s","ours":1200000,"theirs":200000,"ratio":6,"our_result":1,"their_result":2}`
	if err != nil || string(b) != want {
		t.Errorf("got %s, %v", b, err)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	b := bests{one: 1e9, all: 3e9}
	if got, err := b.rate(2001); got != 1000 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	b.all = b.one
	if got, err := b.rate(2001); err == nil {
		t.Errorf("no time gives a rate of %v", got)
	}
}

func TestParseValidation(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"summary":{"compile_errors":0,"parse_errors":0}}`: "false <nil>",
		`{"summary":{"compile_errors":1,"parse_errors":0}}`: "true <nil>",
		`{"summary":{"compile_errors":0,"parse_errors":2}}`: "true <nil>",
		`{}`:   "false rule validate gives no summary",
		`oops`: "false read what rule validate says: invalid character 'o' looking for beginning of value",
	} {
		bad, err := parseValidation([]byte(in))
		if got := fmt.Sprint(bad, err); got != want && !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func named(files []ruleFile) (names []string) {
	for _, f := range files {
		names = append(names, f.Name)
	}
	return names
}

// TestLoadable: what one side refuses is left out for both.
func TestLoadable(t *testing.T) {
	t.Parallel()
	files := authRules()
	files[1].Data = append([]byte("# PEER-REFUSES\n"), files[1].Data...)
	files[2].Data = []byte("title: we refuse\ndetection: 3\n")
	files[4].Data = append([]byte("# PEER-REFUSES\n"), files[4].Data...)
	got, err := fakes(t, "same").loadable(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"auth-0.yml", "auth-3.yml", "auth-5.yml"}, named(got)); d != "" {
		t.Error(d)
	}
}

func TestReadCorpus(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "rules", "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rules/b.yml", "rules/a/c.yaml", "README.md"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	tw := tar.NewWriter(zw)
	for _, name := range []string{"z.yml", "../../y.yml", "x.txt"} {
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: 1, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(tw, "z")
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	with := t.TempDir()
	if err := os.WriteFile(filepath.Join(with, archive), packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		want []string
		err  error
	}{
		"folder":              {folder, []string{"rules/a/c.yaml", "rules/b.yml"}, nil},
		"archive":             {filepath.Join(with, archive), []string{"../../y.yml", "z.yml"}, nil},
		"folder with archive": {with, []string{"../../y.yml", "z.yml"}, nil},
		"empty":               {t.TempDir(), nil, ErrMissing},
		"missing":             {filepath.Join(folder, "no"), nil, ErrMissing},
		"unset":               {"", nil, ErrMissing},
		"no archive":          {filepath.Join(folder, "README.md"), nil, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readCorpus(c.path)
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if d := cmp.Diff(c.want, named(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestWriteRulesStaysInside: names of an archive lead nowhere.
func TestWriteRulesStaysInside(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	if _, err := writeRules(dir, []ruleFile{{Name: "../../y.yml", Data: []byte("y")}}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "00000.yml")); string(got) != "y" {
		t.Error(string(got), err)
	}
}

// TestEvents: the events are JSON of the stated size, and what is to be found is
// there: each rule matches some, none matches many.
func TestEvents(t *testing.T) {
	t.Parallel()
	set, diags := rules.Load(authRules(), rules.Options{})
	for _, d := range diags {
		if d.Severity == rules.Error {
			t.Error(d)
		}
	}
	m := rules.NewMatcher(set.Program())
	const n = 20_000
	size, matches := 0, make([]int, len(set.Rules))
	for i := range n {
		line := attackedEvent(nil, i)
		size += len(line)
		hits, err := m.MatchJSON(line, nil)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, h := range hits {
			matches[h]++
		}
	}
	if size /= n; size < 360 || size > 430 {
		t.Errorf("an event has %d bytes", size)
	}
	for i, c := range matches {
		if c == 0 || c > n/20 {
			t.Errorf("%s matches %d of %d events", set.Rules[i].Title, c, n)
		}
	}
}

func TestWorks(t *testing.T) {
	t.Parallel()
	loud := ruleFile{Name: "loud.yml", Data: []byte("title: Loud\nlogsource: {product: x}\ndetection: {s: {method: post}, condition: s}\n")}
	corpus := append(authRules(), loud)
	for _, w := range works(corpus, 1000) {
		if !w.correlates && len(w.rules) == 0 || w.events == 0 || w.event == nil {
			t.Errorf("%s has nothing to do", w.name)
		}
		if w.name == "500_rules_no_match" && slices.Contains(named(w.rules), loud.Name) {
			t.Error("a rule that matches is among those that do not")
		}
	}
	many := make([]ruleFile, 1201)
	for i := range many {
		many[i].Name = fmt.Sprint(i)
	}
	got := named(spread(many, 500))
	if len(got) != 500 || got[0] != "0" || got[499] != "1198" || len(slices.Compact(slices.Clone(got))) != 500 {
		t.Errorf("spread gives %v", got)
	}
}

func TestRunRefuses(t *testing.T) {
	corpus := t.TempDir()
	if err := os.WriteFile(filepath.Join(corpus, "r.yml"), authRules()[0].Data, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for name, c := range map[string]struct {
		o       Options
		missing bool
		want    string
	}{
		"few events": {Options{Events: 10, Rounds: 1}, false, "too few"},
		"no round":   {Options{Events: 10_000}, false, "too few"},
		"no corpus":  {Options{Events: 10_000, Rounds: 1}, true, "--corpus"},
		"no cargo":   {Options{Events: 10_000, Rounds: 1, Corpus: corpus}, true, "cargo"},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Progress = io.Discard
			_, err := Run(t.Context(), c.o, func(Result) error { return errors.New("there must be no result") })
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrMissing) != c.missing {
				t.Errorf("got %v", err)
			}
		})
	}
}
