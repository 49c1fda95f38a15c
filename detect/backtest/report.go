package backtest

import (
	"context"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Report is what the rules would have found.
type Report struct {
	From   event.Instant `json:"from"`
	To     event.Instant `json:"to"`
	Days   float64       `json:"days"`
	Events uint64        `json:"events"`  // stored in the range
	Rows   uint64        `json:"matched"` // events that matched at least one rule, those before the range that fill windows included
	// QuerySeconds is the time until ClickHouse gave first rows, JudgeSeconds that
	// of reading them and correlating.
	QuerySeconds float64      `json:"query_seconds"`
	JudgeSeconds float64      `json:"judge_seconds"`
	Rules        []RuleReport `json:"rules"`
	// Problems are rules that were not judged, or not wholly, and why.
	Problems []string `json:"problems,omitempty"`
	Dropped  Dropped  `json:"dropped"`
}

// RuleReport is what one rule or correlation would have found.
type RuleReport struct {
	ID       string  `json:"id"`
	Title    string  `json:"title"`
	Type     string  `json:"type"` // detection, or the correlation's type
	Severity string  `json:"severity"`
	Inner    bool    `json:"inner,omitempty"`  // says nothing by itself
	Shadow   bool    `json:"shadow,omitempty"` // notifies nobody
	Matches  uint64  `json:"matches"`          // events; of a correlation, those of its rules
	Findings uint64  `json:"findings"`
	PerDay   float64 `json:"findings_per_day"`
	Groups   int     `json:"groups"` // that findings were about
	// Verdicts are those that people gave on incidents about the same at the same
	// time; FalseShare is the share of false ones among them, nil without any.
	Verdicts   Verdicts `json:"verdicts"`
	FalseShare *float64 `json:"false_alarm_rate,omitempty"`
	NanosPer   float64  `json:"server_ns_per_event,omitempty"`
	meta       *rules.Meta
	rule       *rules.Rule
	inputs     []rules.Input
}

// Dropped counts what the correlator left out, each for one rule.
type Dropped struct {
	MissingGroup uint64 `json:"missing_group"` // a group-by field was absent
	MissingField uint64 `json:"missing_field"` // the measured field was absent or no number
	Evicted      uint64 `json:"evicted"`       // groups, for room
	Orphaned     uint64 `json:"orphaned"`      // observations whose group had gone
}

func dropped(s correlate.Stats) Dropped {
	return Dropped{MissingGroup: s.MissingGroup, MissingField: s.MissingField, Evicted: s.Evicted, Orphaned: s.Orphaned}
}

// report sums up the run.
func (r *run) report() *Report {
	days := r.cfg.To.Sub(r.cfg.From).Hours() / 24
	rep := &Report{From: r.cfg.From, To: r.cfg.To, Days: days, Events: r.events, Rows: r.rows, QuerySeconds: r.server.Seconds(), JudgeSeconds: r.local.Seconds(),
		Dropped: dropped(r.corr.Stats())}
	for _, rule := range r.deps.Rules.Rules {
		if !rule.Derived {
			rep.Rules = append(rep.Rules, RuleReport{Type: "detection", Inner: rule.Inner, Matches: r.matches[rule.Index], meta: &rule.Meta, rule: rule})
		}
	}
	for _, c := range r.deps.Rules.Correlations {
		rep.Rules = append(rep.Rules, RuleReport{Type: string(c.Type), Inner: c.Inner, Matches: r.inputMatches(c), meta: &c.Meta, inputs: c.Inputs})
	}
	for i := range rep.Rules {
		row := &rep.Rules[i]
		row.ID, row.Title, row.Severity, row.Shadow = row.meta.ID, row.meta.Title, row.meta.Severity.String(), row.meta.Shadow
		if t := r.tally[row.meta]; t != nil {
			row.Findings, row.Groups, row.PerDay = t.findings, len(t.groups), perDay(t.findings, days)
			row.Verdicts, row.FalseShare = t.verdicts, t.verdicts.falseShare()
		}
	}
	for _, d := range r.plan.Faults {
		rep.Problems = append(rep.Problems, d.String())
	}
	rep.Problems = append(rep.Problems, r.incomplete()...)
	for _, err := range r.corr.Problems() {
		rep.Problems = append(rep.Problems, err.Error())
	}
	return rep
}

// inputMatches adds up the matches of a correlation's rules.
func (r *run) inputMatches(c *rules.Correlation) uint64 {
	var n uint64
	for _, in := range c.Inputs {
		if in.Rule != nil {
			n += r.matches[in.Rule.Index]
		} else {
			n += r.inputMatches(in.Correlation)
		}
	}
	return n
}

// incomplete names the correlations that saw no events of a rule, because the
// rule has no SQL.
func (r *run) incomplete() []string {
	var out []string
	for _, c := range r.deps.Rules.Correlations {
		for _, in := range c.Inputs {
			if in.Rule != nil && r.plan.Predicates[in.Rule.Index] == "" {
				out = append(out, fmt.Sprintf("%s:%d: %q is judged without the matches of %q, which has no SQL", c.File, c.Line, c.Title, in.Name))
			}
		}
	}
	return out
}

// cost measures, over the last slice of the range, what each predicate adds to a
// query that reads the time only.
func (r *run) cost(ctx context.Context, rep *Report) error {
	from := max(r.cfg.From, r.cfg.To.Add(-r.cfg.Slice))
	total, err := r.count(ctx, from, r.cfg.To)
	if err != nil || total == 0 {
		return err
	}
	base, err := r.timed(ctx, "1", from)
	if err != nil {
		return err
	}
	for i := range rep.Rules {
		row := &rep.Rules[i]
		if row.rule == nil || r.plan.Predicates[row.rule.Index] == "" {
			continue
		}
		took, err := r.timed(ctx, r.plan.Predicates[row.rule.Index], from)
		if err != nil {
			return err
		}
		row.NanosPer = float64(max(took-base, 0).Nanoseconds()) / float64(total)
	}
	return nil
}

// timed is the shorter of two runs.
func (r *run) timed(ctx context.Context, predicate string, from event.Instant) (time.Duration, error) {
	best := time.Duration(0)
	for range 2 {
		began := r.deps.Now()
		rows, err := r.deps.Store.Query(ctx, "SELECT countIf("+predicate+") FROM events FINAL "+stored.Within(from, r.cfg.To, r.cfg.MaxLateness), nil)
		if err != nil {
			return 0, err
		}
		for rows.Next() {
		}
		if err := rows.Err(); err != nil {
			_ = rows.Close()
			return 0, err
		}
		_ = rows.Close()
		if took := r.deps.Now().Sub(began); best == 0 || took < best {
			best = took
		}
	}
	return best, nil
}

// count is how many events a slice has.
func (r *run) count(ctx context.Context, from, to event.Instant) (uint64, error) {
	rows, err := r.deps.Store.Query(ctx, "SELECT count() FROM events FINAL "+stored.Within(from, to, r.cfg.MaxLateness), nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	var n uint64
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return 0, err
		}
		n, _ = vals[0].(uint64)
	}
	return n, rows.Err()
}
