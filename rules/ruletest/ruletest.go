// Package ruletest runs the tests that rules carry, in their own `tests:` key or
// in NAME.test.yml beside NAME.yml, through the production matcher and the
// production correlator.
package ruletest

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// epoch is the time of `at: 0s`: a Monday, midnight.
var epoch = event.At(time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC))

// lateness is the allowed lateness of tests. Their events come in the order in
// which they are written.
const lateness = 10 * time.Second

// Options of a run.
type Options struct {
	// Load is how the rules are loaded. Rules whose logsource is keysentry see
	// canonical events, others JSON records.
	Load rules.Options
}

// Report is the outcome.
type Report struct {
	Cases []Case
	// Uncovered names rules that lack a case in which they fire, or one in which
	// they keep quiet.
	Uncovered []string
	// Diagnostics of the load.
	Diagnostics []rules.Diagnostic
}

// Case is the outcome of one case.
type Case struct {
	File     string // with the tests
	Name     string
	Failures []string // empty: passed
}

// Failed counts the cases that failed.
func (r *Report) Failed() int {
	n := 0
	for _, c := range r.Cases {
		if len(c.Failures) > 0 {
			n++
		}
	}
	return n
}

// OK reports whether every case passed, every document loaded and every rule is
// covered.
func (r *Report) OK() bool {
	return r.Failed() == 0 && len(r.Uncovered) == 0 &&
		!slices.ContainsFunc(r.Diagnostics, func(d rules.Diagnostic) bool { return d.Severity == rules.Error })
}

// Run runs every test of files. siblings are the NAME.test.yml files; they may
// be among files instead.
func Run(files, siblings []rules.File, opt Options) *Report {
	files, siblings = partition(files, siblings)
	rep := &Report{}
	set, diags := rules.Load(files, opt.Load)
	rep.Diagnostics = diags
	fired, quiet := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		suites := []suite{embedded(f)}
		for _, s := range siblings {
			if strings.TrimSuffix(s.Name, rules.TestSuffix) == strings.TrimSuffix(f.Name, path.Ext(f.Name)) {
				suites = append(suites, parseSuite(s))
			}
		}
		for _, s := range suites {
			if s.err != nil {
				rep.Cases = append(rep.Cases, Case{File: s.file, Name: "(reading the tests)", Failures: []string{s.err.Error()}})
			}
			for i := range s.Tests {
				r := &runner{set: set, file: f.Name, c: &s.Tests[i]}
				failures := r.run()
				rep.Cases = append(rep.Cases, Case{File: s.file, Name: s.Tests[i].Name, Failures: failures})
				for name := range r.names() {
					if r.spoke[name] {
						fired[name] = true
					} else {
						quiet[name] = true
					}
				}
			}
		}
		r := &runner{set: set, file: f.Name}
		for name := range r.names() {
			if !fired[name] || !quiet[name] {
				rep.Uncovered = append(rep.Uncovered, f.Name+": "+name)
			}
		}
	}
	slices.Sort(rep.Uncovered)
	return rep
}

// partition moves test files to the siblings.
func partition(files, siblings []rules.File) (ruleFiles, tests []rules.File) {
	tests = slices.Clone(siblings)
	for _, f := range files {
		if strings.HasSuffix(f.Name, rules.TestSuffix) {
			tests = append(tests, f)
		} else {
			ruleFiles = append(ruleFiles, f)
		}
	}
	return ruleFiles, tests
}

// runner runs one case.
type runner struct {
	set     *rules.Set
	file    string
	c       *testCase
	matches map[string][]int64 // rule -> indexes of events
	found   []correlate.Firing
	spoke   map[string]bool
}

// label is how a test names a rule.
func label(m *rules.Meta) string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

// names are the rules of the file that can speak.
func (r *runner) names() map[string]bool {
	out := map[string]bool{}
	for _, x := range r.set.Rules {
		if x.File == r.file && !x.Inner {
			out[label(&x.Meta)] = true
		}
	}
	for _, x := range r.set.Correlations {
		if x.File == r.file && !x.Inner {
			out[label(&x.Meta)] = true
		}
	}
	return out
}

func (r *runner) run() []string {
	r.matches, r.spoke = map[string][]int64{}, map[string]bool{}
	cfg := correlate.DefaultConfig()
	cfg.Lateness = lateness
	cfg.Standalone = r.canonical() // a raw record has no network and no subject
	corr := correlate.New(r.set, cfg)
	m := rules.NewMatcher(r.set.Program())
	records, err := r.c.records(r.canonical())
	if err != nil {
		return []string{err.Error()}
	}
	newest := event.Instant(math.MinInt64)
	for i := range records {
		rec := &records[i]
		in := correlate.Input{Values: m, TS: rec.ts, Ref: event.Ref{Offset: int64(i)}}
		if rec.raw == nil {
			in.Event = &rec.event
			in.Matched = m.MatchEvent(&rec.event, nil)
		} else if in.Matched, err = m.MatchJSON(rec.raw, nil); err != nil {
			return []string{fmt.Sprintf("event %d: %v", i, err)}
		}
		for _, h := range in.Matched {
			if rule := r.set.Rules[h]; rule.File == r.file && !rule.Derived {
				r.matches[label(&rule.Meta)] = append(r.matches[label(&rule.Meta)], rec.index)
			}
		}
		r.found = corr.Observe(in, r.found)
		if rec.ts > newest {
			newest = rec.ts
			r.found = corr.Advance(newest.Add(-lateness), r.found)
		}
	}
	r.found = corr.Advance(math.MaxInt64, r.found)
	r.found = slices.DeleteFunc(r.found, func(f correlate.Firing) bool { return f.Meta().File != r.file })
	for i := range r.found {
		r.spoke[label(r.found[i].Meta())] = true
	}
	for _, x := range r.set.Rules {
		if !x.Inner && len(r.matches[label(&x.Meta)]) > 0 {
			r.spoke[label(&x.Meta)] = true
		}
	}
	return append(r.checkMatches(), r.checkFindings()...)
}

// canonical reports whether the file's rules are about canonical events.
func (r *runner) canonical() bool {
	for _, x := range r.set.Rules {
		if x.File == r.file && x.LogSource["product"] != "keysentry" {
			return false
		}
	}
	return true
}

// checkMatches compares the matches, unless the case speaks of findings only.
func (r *runner) checkMatches() []string {
	e := &r.c.Expect
	if e.Matches == nil && e.Findings != nil {
		return nil
	}
	var out []string
	want := map[string]bool{}
	for _, w := range e.Matches {
		want[w.Rule] = true
		got := r.matches[w.Rule]
		if w.Events != nil && !slices.Equal(got, w.Events) {
			out = append(out, fmt.Sprintf("%s matched events %v, want %v", w.Rule, got, w.Events))
		}
		if w.Events == nil && w.Count == nil && len(got) == 0 {
			out = append(out, w.Rule+" matched nothing")
		}
		if w.Count != nil && len(got) != *w.Count {
			out = append(out, fmt.Sprintf("%s matched %d times, want %d", w.Rule, len(got), *w.Count))
		}
	}
	speak := r.names()
	for rule, got := range r.matches {
		if !want[rule] && speak[rule] { // what a correlation counts says nothing by itself
			out = append(out, fmt.Sprintf("%s matched events %v, want none", rule, got[:min(len(got), 10)]))
		}
	}
	slices.Sort(out)
	return out
}

// checkFindings pairs what fired with what is expected, in any order.
func (r *runner) checkFindings() []string {
	var out []string
	left := slices.Clone(r.found)
	for _, w := range r.c.Expect.Findings {
		i := slices.IndexFunc(left, w.fits)
		if i < 0 {
			fault := "no finding " + w.String()
			if slices.ContainsFunc(r.set.Rules, func(x *rules.Rule) bool { return x.Inner && label(&x.Meta) == w.Rule }) {
				fault += ": a correlation counts the rule, so that it fires only with generate: true"
			}
			out = append(out, fault)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	for i := range left {
		f := &left[i]
		out = append(out, fmt.Sprintf("unexpected finding of %s at %s%s, value %v", label(f.Meta()), f.Fired.Sub(epoch), groupOf(f.Group), f.Value))
	}
	return out
}

// fits reports whether a firing is what the expectation says, as far as it says.
func (w *wantFinding) fits(f correlate.Firing) bool {
	if label(f.Meta()) != w.Rule || w.At != nil && f.Fired.Sub(epoch) != time.Duration(*w.At) || w.Value != nil && f.Value != *w.Value {
		return false
	}
	got := map[string]string{}
	for _, p := range f.Group {
		got[p.Field] = p.Value
	}
	for k, v := range w.Group {
		if g, ok := got[k]; !ok || g != v {
			return false
		}
	}
	return true
}

// groupOf writes a group for people.
func groupOf(pairs []finding.Pair) string {
	s := ""
	for _, p := range pairs {
		s += fmt.Sprintf(", %s=%s", p.Field, p.Value)
	}
	return s
}

func (w *wantFinding) String() string {
	s := "of " + w.Rule
	if w.At != nil {
		s += " at " + time.Duration(*w.At).String()
	}
	if w.Group != nil {
		var pairs []finding.Pair
		for _, k := range slices.Sorted(maps.Keys(w.Group)) {
			pairs = append(pairs, finding.Pair{Field: k, Value: w.Group[k]})
		}
		s += groupOf(pairs)
	}
	if w.Value != nil {
		s += fmt.Sprintf(", value %v", *w.Value)
	}
	return s
}
