package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/detect/backtest"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/store"
)

// backtestFlags are the flags of rules backtest.
type backtestFlags struct {
	config, from, to, findings, format *string
	rules                              *[]string
	slice                              *time.Duration
	cost                               *bool
}

func rulesBacktestCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "backtest --from TIME [--to TIME]", Short: "Run rules over stored events", Args: noArgs,
		Long: `Run rules over the events that ClickHouse holds and say what they would have
found: matches, findings, findings per day, groups, and how many of those that
people gave a verdict on were false alarms. ClickHouse evaluates the predicates,
the daemon's correlator judges the rows that match, with the windows and the
lateness of the configuration.

A TIME is RFC 3339, a date, or a duration before now (36h). Without --rules the
rules of the configuration run. Exits 1 when a rule could not be judged.`}
	f := c.Flags()
	bf := backtestFlags{
		config:   configFlag(c),
		from:     f.String("from", "", "begin of the range, a `TIME`"),
		to:       f.String("to", "", "end of the range, a `TIME` (default: now)"),
		rules:    f.StringArrayP("rules", "r", nil, "rule `PATH`, file or folder; may be repeated"),
		findings: f.String("findings", "", "write each finding as a line of JSON to `FILE`"),
		slice:    f.Duration("slice", 24*time.Hour, "how much time one query covers"),
		cost:     f.Bool("cost", false, "measure what each predicate costs the server, with one more query per rule"),
		format:   formatFlag(c),
	}
	c.RunE = action(func(ctx context.Context) error { return runBacktest(ctx, std, bf) })
	return c
}

func runBacktest(ctx context.Context, std stdio, f backtestFlags) error {
	now := event.At(time.Now())
	from, err := timeFlag("from", *f.from, now)
	if err != nil {
		return err
	}
	to := now
	if *f.to != "" {
		if to, err = timeFlag("to", *f.to, now); err != nil {
			return err
		}
	}
	whole, err := loadConfig(*f.config)
	if err != nil {
		return err
	}
	set, err := backtestRules(std, whole.Rules, *f.rules)
	if err != nil {
		return err
	}
	cfg := backtest.DefaultConfig()
	cfg.From, cfg.To, cfg.Slice, cfg.Cost = from, to, *f.slice, *f.cost
	cfg.Windows = whole.Detect.Windows
	cfg.Windows.Lateness = whole.Detect.Lateness
	// Events that are stored may have been clamped by an earlier, wider bound.
	cfg.MaxLateness = max(cfg.MaxLateness, whole.Ingest.MaxLateness)
	if errs := cfg.Validate(); len(errs) > 0 {
		return usage(errs[0])
	}
	s, err := store.New(whole.Store, store.Deps{Getenv: os.Getenv})
	if err != nil {
		return usage(err)
	}
	defer func() { _ = s.Close() }()

	deps := backtest.Deps{Rules: set, Store: app.Events{Client: s}, Now: time.Now}
	var write error
	out := io.Discard
	if *f.findings != "" {
		file, err := os.Create(*f.findings)
		if err != nil {
			return usage(err)
		}
		defer func() { _ = file.Close() }()
		out = file
	}
	enc := json.NewEncoder(out)
	deps.Finding = func(x backtest.Finding) { write = firstOf(write, enc.Encode(findingLine(x))) }
	stop := watchProgress(std.err, &deps)
	rep, err := backtest.Run(ctx, cfg, deps)
	stop()
	if err = firstOf(err, write); err != nil {
		return err
	}
	return printBacktest(std, *f.format, rep)
}

// backtestRules loads the named rules, or those of the configuration.
func backtestRules(std stdio, cfg config.RulesConfig, paths []string) (*rules.Set, error) {
	if len(paths) > 0 {
		cfg.Builtin, cfg.Paths = false, paths
	}
	set, diags, err := app.LoadRules(cfg)
	if err != nil {
		return nil, usage(err)
	}
	for _, d := range diags {
		if d.Severity == rules.Error {
			fmt.Fprintln(std.err, d)
		}
	}
	if len(set.Rules) == 0 {
		return nil, usage(errors.New("no rule could be loaded"))
	}
	return set, nil
}

// timeFlag reads a time, a date, or a duration before now.
func timeFlag(name, s string, now event.Instant) (event.Instant, error) {
	for _, form := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return event.At(t), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return 0, usage(fmt.Errorf("--%s %q: give a time as 2006-01-02T15:04:05Z, a date, or a duration before now as 36h", name, s))
}

// progressEvery is how long a command may be silent.
const progressEvery = 2 * time.Second

// watchProgress says on w how far the backtest is, every two seconds, until stop.
func watchProgress(w io.Writer, deps *backtest.Deps) (stop func()) {
	var mu sync.Mutex
	var last backtest.Progress
	deps.Progress = func(p backtest.Progress) {
		mu.Lock()
		defer mu.Unlock()
		last = p
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			mu.Lock()
			p := last
			mu.Unlock()
			fmt.Fprintf(w, "keysentry: backtest %3.0f %%, events up to %s, %d matched\n", 100*p.Done, p.At, p.Rows)
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// backtestFinding is one line of --findings.
type backtestFinding struct {
	RuleID    string            `json:"rule_id"`
	RuleTitle string            `json:"rule_title"`
	Severity  string            `json:"severity"`
	Group     map[string]string `json:"group"`
	First     event.Instant     `json:"first"`
	Last      event.Instant     `json:"last"`
	Fired     event.Instant     `json:"fired"`
	Count     uint64            `json:"count"`
	Value     float64           `json:"value"`
	Events    []event.Ref       `json:"events"`
}

func findingLine(f backtest.Finding) backtestFinding {
	l := backtestFinding{RuleID: f.Meta.ID, RuleTitle: f.Meta.Title, Severity: f.Meta.Severity.String(), Group: map[string]string{},
		First: f.First, Last: f.Last, Fired: f.Fired, Count: f.Count, Value: f.Value, Events: f.Refs}
	for _, p := range f.Group {
		l.Group[p.Field] = p.Value
	}
	return l
}

// printBacktest prints the report: a table, the whole as JSON, or a line per rule.
func printBacktest(std stdio, format string, rep *backtest.Report) error {
	var err error
	switch format {
	case "json":
		err = printJSON(std.out, rep)
	default:
		err = list(std.out, format, rep.Rules, func(w io.Writer) { backtestTable(w, rep) })
	}
	if err != nil {
		return err
	}
	if format == "text" {
		fmt.Fprintf(std.out, "\n%d events in %.4g days, %d matched; %.1f s in ClickHouse, %.1f s reading and correlating\n", rep.Events, rep.Days, rep.Rows, rep.QuerySeconds, rep.JudgeSeconds)
	}
	for _, p := range rep.Problems {
		fmt.Fprintln(std.err, p)
	}
	if len(rep.Problems) > 0 {
		return bad
	}
	return nil
}

func backtestTable(w io.Writer, rep *backtest.Report) {
	fmt.Fprintln(w, "SEVERITY\tTYPE\tMATCHES\tFINDINGS\tPER DAY\tGROUPS\tFALSE\tNS/EVENT\tTITLE")
	for _, r := range rep.Rules {
		notes := ""
		if r.Inner {
			notes += ", only for correlations"
		}
		if r.Shadow {
			notes += ", shadow"
		}
		if notes != "" {
			notes = " (" + strings.TrimPrefix(notes, ", ") + ")"
		}
		cost := "-"
		if r.NanosPer > 0 {
			cost = fmt.Sprintf("%.0f", r.NanosPer)
		}
		falsely := "-"
		if r.FalseShare != nil {
			falsely = fmt.Sprintf("%.0f%%", 100**r.FalseShare)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%g\t%d\t%s\t%s\t%s%s\n", r.Severity, r.Type, r.Matches, r.Findings, r.PerDay, r.Groups, falsely, cost, r.Title, notes)
	}
}
