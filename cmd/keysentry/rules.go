package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/rules/eval"
	"github.com/keysentry/keysentry/rules/library"
	"github.com/keysentry/keysentry/rules/ruletest"
)

func rulesCommand(std stdio) *cobra.Command {
	c := group("rules", "Check, test, evaluate, explain and list rules", `Work with rules: Sigma documents with a few marked extensions. Without paths the
shipped rules are meant. docs/reference/rules.md describes the language.`)
	c.AddCommand(rulesLintCommand(std), rulesTestCommand(std), rulesEvalCommand(std), rulesExplainCommand(std), rulesSQLCommand(std), rulesBacktestCommand(std), rulesListCommand(std))
	return c
}

// ruleFiles reads the named files and folders, or the shipped rules.
func ruleFiles(paths []string) (files, tests []rules.File, err error) {
	if len(paths) == 0 {
		return library.Files(), library.TestFiles(), nil
	}
	files, tests, err = app.ReadRuleFiles(paths)
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no rule files (.yml or .yaml) in %s", strings.Join(paths, ", "))
	}
	return files, tests, usage(err)
}

func rulesLintCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "lint [PATH...]", Short: "Say everything that is wrong or doubtful about rules",
		Long: `Say everything that is wrong or doubtful about rules, each remark with its place
and a stable code. Exits 1 when there is an error, or with --strict a warning.

The fields of rules with "product: keysentry" must be those of canonical events;
with --canonical so must the fields of all rules.`}
	format := choiceFlag(c.Flags(), "format", "how to print", "text", "json", "sarif")
	strict := c.Flags().Bool("strict", false, "warnings fail too")
	events := c.Flags().Bool("canonical", false, "field names of every rule must be fields of the canonical event")
	c.RunE = func(_ *cobra.Command, args []string) error {
		files, tests, err := ruleFiles(args)
		if err != nil {
			return err
		}
		opt := rules.Options{}
		if *events || len(args) == 0 {
			opt.Layout = rules.LayoutEvent
		}
		diags := rules.Lint(append(files, tests...), opt)
		switch *format {
		case "text":
			for _, d := range diags {
				fmt.Fprintln(std.out, d)
			}
			fmt.Fprintln(std.err, summaryOf(len(files), diags))
		case "json":
			err = rules.WriteJSON(std.out, diags)
		case "sarif":
			err = rules.WriteSARIF(std.out, diags)
		}
		if err != nil {
			return err
		}
		for _, d := range diags {
			if d.Severity == rules.Error || *strict && d.Severity == rules.Warning {
				return bad
			}
		}
		return nil
	}
	return c
}

// summaryOf counts what lint said, so that silence is an answer too.
func summaryOf(files int, diags []rules.Diagnostic) string {
	var n [3]int
	for _, d := range diags {
		n[d.Severity]++
	}
	return fmt.Sprintf("%s: %s, %s, %s", plural(files, "file"), plural(n[rules.Error], "error"), plural(n[rules.Warning], "warning"), plural(n[rules.Note], "note"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func rulesTestCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "test [PATH...]", Short: "Run the tests that rules carry",
		Long: `Run the tests that rules carry (tests: in the rule, or NAME.test.yml beside it)
through the code that the daemon runs. Exits 1 when a case fails, a document has
an error, or a rule lacks a firing or a quiet case.`}
	junit := c.Flags().String("junit", "", "write JUnit XML to `FILE` too")
	c.RunE = func(_ *cobra.Command, args []string) error {
		files, tests, err := ruleFiles(args)
		if err != nil {
			return err
		}
		report := ruletest.Run(files, tests, ruletest.Options{})
		for _, d := range report.Diagnostics {
			if d.Severity > rules.Note {
				fmt.Fprintln(std.err, d)
			}
		}
		for _, k := range report.Cases {
			verdict := "ok  "
			if len(k.Failures) > 0 {
				verdict = "FAIL"
			}
			fmt.Fprintf(std.out, "%s %s: %s\n", verdict, k.File, k.Name)
			for _, f := range k.Failures {
				fmt.Fprintf(std.out, "       %s\n", f)
			}
		}
		for _, u := range report.Uncovered {
			fmt.Fprintf(std.out, "FAIL %s: needs a case in which it fires and one in which it does not\n", u)
		}
		fmt.Fprintf(std.out, "%s, %d failed; %s without tests\n", plural(len(report.Cases), "case"), report.Failed(), plural(len(report.Uncovered), "rule"))
		if *junit != "" {
			if err := writeFile(*junit, report.WriteJUnit); err != nil {
				return err
			}
		}
		if !report.OK() {
			return bad
		}
		return nil
	}
	return c
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// evalFlags are the flags of rules eval.
type evalFlags struct {
	rules                    *[]string
	events, mapping, timeKey *string
	lateness                 *time.Duration
	logsource                *map[string]string
	placeholders             *[]string
}

func rulesEvalCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "eval --rules PATH... --events FILE", Short: "Evaluate rules over a file of records",
		Example: `  keysentry rules eval --rules my-rule.yml --events records.ndjson --time ts
  zcat trail.json.gz | keysentry rules eval --rules rules/ --events - --mapping cloudtrail`,
		Long: `Evaluate rules over a file of records and print one JSON object per match or
finding. The file holds NDJSON or JSON objects one after another; - is standard
input. With --mapping none (the default) rules speak of the raw JSON: nested
paths with dots, a literal dotted key wins. With the name of a mapping the
records are decoded by it first, and rules speak of canonical events; records of
a text mapping, and with auto, are lines.

Rules apply whatever their logsource unless --logsource is given. At the end of
the input the watermark passes everything. Exits 1 when a rule has an error; the
others are evaluated all the same.`}
	f := c.Flags()
	ef := evalFlags{
		rules:   f.StringArrayP("rules", "r", nil, "rule `PATH`, file or folder; may be repeated (default: the shipped rules)"),
		events:  f.StringP("events", "e", "-", "`FILE` of records, or -"),
		mapping: f.String("mapping", "none", "none, canonical, windows, auto, or the name of a mapping"),
		timeKey: f.String("time", "time", "`FIELD` with the time: RFC 3339, or seconds or milliseconds since 1970"),
	}
	// One format only, yet named: scripts that say it keep working when there are more.
	choiceFlag(f, "format", "how to print", "ndjson")
	ef.lateness = f.Duration("lateness", 0, "allowed lateness")
	ef.logsource = f.StringToString("logsource", nil, "apply only rules of this logsource, as `KEY=VALUE,...`")
	ef.placeholders = f.StringArray("placeholder", nil, "value of a %name% in rules, as `NAME=VALUE`; repeat it for more values")
	c.RunE = func(c *cobra.Command, more []string) error { // --rules A B names both, as a shell's *.yml does
		if len(more) > 0 && len(*ef.rules) == 0 {
			return usage(fmt.Errorf("%q: name rules with --rules, records with --events", more[0]))
		}
		*ef.rules = append(*ef.rules, more...)
		return evalRules(c.Context(), std, ef)
	}
	return c
}

func evalRules(ctx context.Context, std stdio, f evalFlags) error {
	if *f.lateness < 0 {
		return usage(errors.New("--lateness: a duration below zero makes no sense"))
	}
	files, _, err := ruleFiles(*f.rules)
	if err != nil {
		return err
	}
	opt := eval.Options{Rules: files, TimeField: *f.timeKey, Lateness: *f.lateness, LogSource: *f.logsource,
		Diagnostics: func(d rules.Diagnostic) {
			if d.Severity == rules.Error {
				fmt.Fprintln(std.err, d)
			}
		}}
	for _, p := range *f.placeholders {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return usage(fmt.Errorf("--placeholder %q: write NAME=VALUE", p))
		}
		if opt.Placeholders == nil {
			opt.Placeholders = map[string][]string{}
		}
		opt.Placeholders[name] = append(opt.Placeholders[name], value)
	}
	switch *f.mapping {
	case "none":
	case "windows":
		opt.Fields = rules.WindowsMapping()
	default:
		if opt.Decode, opt.Lines, err = app.RecordDecoder(*f.mapping); err != nil {
			return usage(fmt.Errorf("--mapping %q: use none, canonical, windows, auto or one of %s: %w", *f.mapping, mappingNames(""), err))
		}
	}
	in, closeIn, err := openInput(std, *f.events)
	if err != nil {
		return usage(err)
	}
	defer closeIn()
	out := bufio.NewWriterSize(std.out, 1<<16)
	stats, err := eval.Run(ctx, opt, bufio.NewReaderSize(in, 1<<20), out)
	if ferr := out.Flush(); ferr != nil && err == nil {
		err = ferr
	}
	for _, n := range []struct {
		count int64
		what  string
	}{{stats.NoTime, "records without a time take no part in correlations"}, {int64(stats.TooLate), "records came too late for a correlation"},
		{stats.Undecoded, "records could not be decoded and were passed over, the first because: " + stats.Reason}} {
		if n.count > 0 {
			fmt.Fprintf(std.err, "keysentry: %d %s\n", n.count, n.what)
		}
	}
	if errors.Is(err, eval.ErrRules) {
		fmt.Fprintf(std.err, "keysentry: %d rule documents were left out\n", stats.Errors)
		return bad
	}
	return err
}

// openInput opens a file, or standard input for "-".
func openInput(std stdio, path string) (io.Reader, func(), error) {
	if path == "-" {
		return std.in, func() {}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil
}

func rulesExplainCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "explain --rule ID --event FILE [PATH...]", Short: "Show why a rule matches a record, or does not",
		Long: `Print the tree of a rule's predicates with the verdict of each and the value that
it saw. The rule is named by id, name or title; the file holds one record (- is
standard input). Exits 1 when the rule does not match.`}
	id := c.Flags().String("rule", "", "id, name or title of the rule")
	file := c.Flags().StringP("event", "e", "-", "`FILE` with one record")
	canonical := c.Flags().Bool("canonical", false, "the record is a canonical event")
	format := formatFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if *id == "" {
			return usage(errors.New("give --rule ID; 'keysentry rules list' names the rules"))
		}
		files, _, err := ruleFiles(args)
		if err != nil {
			return err
		}
		in, closeIn, err := openInput(std, *file)
		if err != nil {
			return usage(err)
		}
		defer closeIn()
		raw, err := io.ReadAll(io.LimitReader(in, 16<<20))
		if err != nil {
			return err
		}
		tree, err := explain(files, *id, raw, *canonical || len(args) == 0)
		if err != nil {
			return err
		}
		var failed error
		err = show(std.out, *format, tree, func(w io.Writer) { failed = tree.Write(w) })
		if err = firstOf(err, failed); err == nil && !tree.Verdict {
			return bad
		}
		return err
	}
	return c
}

func explain(files []rules.File, id string, raw []byte, canonical bool) (rules.Tree, error) {
	opt := rules.Options{AnyLogSource: true}
	if canonical {
		opt.Layout = rules.LayoutEvent
	}
	set, diags := rules.Load(files, opt)
	for _, r := range set.Rules {
		if r.ID != id && r.Name != id && r.Title != id {
			continue
		}
		m := rules.NewMatcher(set.Program())
		if !canonical {
			if _, err := m.MatchJSON(raw, nil); err != nil {
				return rules.Tree{}, usage(fmt.Errorf("the record: %w", err))
			}
			return m.Explain(r), nil
		}
		var e event.Event
		if err := event.Decode(raw, event.Limits{}, &e); err != nil {
			return rules.Tree{}, usage(fmt.Errorf("the record: %w", err))
		}
		m.MatchEvent(&e, nil)
		return m.Explain(r), nil
	}
	for _, c := range set.Correlations {
		if c.ID == id || c.Name == id || c.Title == id {
			var names []string
			for _, r := range rulesOf(set, id) {
				names = append(names, cmp.Or(r.Name, r.ID))
			}
			return rules.Tree{}, usage(fmt.Errorf("%q is a correlation; explain the detection rules that it counts: %s", id, strings.Join(names, ", ")))
		}
	}
	for _, d := range diags {
		if d.Severity == rules.Error {
			return rules.Tree{}, usage(fmt.Errorf("no detection rule that could be loaded has the id, name or title %q; the first fault is %s", id, d))
		}
	}
	return rules.Tree{}, usage(fmt.Errorf("no detection rule has the id, name or title %q; see 'keysentry rules list'", id))
}

// ruleRow is one line of rules list.
type ruleRow struct {
	ID       string   `json:"id"`
	Name     string   `json:"name,omitempty"`
	Title    string   `json:"title"`
	Type     string   `json:"type"` // detection, or the correlation's type
	Level    string   `json:"level,omitempty"`
	Severity string   `json:"severity"`
	Incident string   `json:"incident"`
	Needs    []string `json:"needs,omitempty"`
	Blind    string   `json:"blind,omitempty"` // why it sees nothing with the configuration
	Inner    bool     `json:"inner,omitempty"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
}

func rulesListCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "list [PATH...]", Short: "List the rules that would run",
		Long: `List the rules that would run. One with - as severity says nothing by itself: a
correlation counts it. With --config the last column says why a rule is blind: it
needs events of an origin that no topic has, or a setting that is not declared.
What single networks lack is in "keysentry posture".

Exits 1 when a document is left out because of an error.`}
	configFile := c.Flags().StringP("config", "c", "", "list the rules of this configuration `FILE`")
	blind := c.Flags().Bool("blind", false, "only rules that are blind with the configuration")
	format := formatFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if *blind && *configFile == "" {
			return usage(errors.New("--blind: needs --config, which says what can be seen"))
		}
		why := func(*rules.Meta) string { return "" }
		cfg := config.RulesConfig{Builtin: len(args) == 0, Paths: args}
		if *configFile != "" {
			whole, err := loadConfig(*configFile)
			if err != nil {
				return err
			}
			cfg = whole.Rules
			sight := app.ConfiguredSight(whole)
			why = func(m *rules.Meta) string { return m.Blind(sight) }
		}
		set, diags, err := app.LoadRules(cfg)
		if err != nil {
			return usage(err)
		}
		faulty := false
		for _, d := range diags {
			if d.Severity == rules.Error {
				faulty = true
				fmt.Fprintln(std.err, d)
			}
		}
		var rows []ruleRow
		add := func(m *rules.Meta, typ string, inner bool) {
			row := rowOf(*m, typ, inner)
			if !inner {
				row.Blind = why(m)
			}
			if row.Blind != "" || !*blind {
				rows = append(rows, row)
			}
		}
		for _, r := range set.Rules {
			add(&r.Meta, "detection", r.Inner)
		}
		for _, r := range set.Correlations {
			add(&r.Meta, string(r.Type), r.Inner)
		}
		err = list(std.out, *format, rows, func(w io.Writer) { writeRules(w, rows, *configFile != "") })
		if err == nil && faulty {
			return bad
		}
		return err
	}
	return c
}

// writeRules prints rules for people, with what they cannot see when it is known.
func writeRules(w io.Writer, rows []ruleRow, sight bool) {
	head, tail := "SEVERITY\tINCIDENT\tTYPE\tTITLE\tID", func(ruleRow) string { return "" }
	if sight {
		head += "\tBLIND"
		tail = func(r ruleRow) string { return "\t" + r.Blind }
	}
	fmt.Fprintln(w, head)
	for _, r := range rows {
		if r.Inner {
			r.Severity, r.Incident = "-", "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s%s\n", r.Severity, r.Incident, r.Type, r.Title, r.ID, tail(r))
	}
}

func rowOf(m rules.Meta, typ string, inner bool) ruleRow {
	row := ruleRow{ID: m.ID, Name: m.Name, Title: m.Title, Type: typ, Level: m.Level, Severity: m.Severity.String(), Incident: string(m.Kind),
		Inner: inner, File: m.File, Line: m.Line}
	for _, o := range m.Origins {
		row.Needs = append(row.Needs, "origin "+o.String())
	}
	for _, f := range m.Fields {
		row.Needs = append(row.Needs, "field "+f.String())
	}
	for _, s := range m.Settings {
		row.Needs = append(row.Needs, "setting detect."+string(s))
	}
	return row
}
