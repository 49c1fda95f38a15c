// Package eval runs rules over a file of records, the way `keysentry rules eval`
// does: the production matcher and the production correlator, one JSON object
// per match or finding. The input is read as a stream; memory holds the windows
// of the correlations and one record.
package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Options of a run.
type Options struct {
	Rules []rules.File
	// Fields translates the rules' field names to paths of the records, for
	// sources that rules name differently. The zero value takes them as written.
	Fields rules.Mapping
	// Decode turns one input record into canonical events; the rules then speak of
	// event fields. Nil evaluates the raw JSON (`--mapping none`).
	Decode func(raw []byte) ([]event.Event, error)
	// Lines says that a record is a line of text, for Decode; else it is a JSON
	// object.
	Lines bool
	// TimeField holds the time of a raw record: RFC 3339, or seconds or
	// milliseconds since 1970. Empty means "time".
	TimeField string
	// Standalone makes single rules fire as they do in the daemon, beside their
	// matches. It needs Decode, because their groups are fields of events.
	Standalone bool
	// Lateness is the allowed lateness.
	Lateness time.Duration
	// LogSource restricts the rules; empty applies all.
	LogSource map[string]string
	// Placeholders are the values of %name%.
	Placeholders map[string][]string
	// Diagnostics gets what the load has to say; nil drops it.
	Diagnostics func(rules.Diagnostic)
}

// Line is one line of the output.
type Line struct {
	Kind      string            `json:"kind"` // match or finding
	RuleID    string            `json:"rule_id"`
	RuleName  string            `json:"rule_name"`
	RuleTitle string            `json:"rule_title"`
	Level     string            `json:"level"`
	Time      string            `json:"time"` // RFC 3339; empty when the record has none
	Group     map[string]string `json:"group"`
	Events    []int64           `json:"events"` // indexes into the input, from 0
	Value     float64           `json:"value"`
}

// Stats says what happened to the input.
type Stats struct {
	Events    int64 // records read
	Matches   int64
	Findings  int64
	Errors    int // documents left out
	NoTime    int64
	TooLate   uint64
	Undecoded int64
	Reason    string // why the first of those could not be decoded
}

// ErrRules is returned when at least one rule document has an error. The others
// were evaluated.
var ErrRules = errors.New("some rules have errors")

// Run evaluates in and writes lines to out, each as soon as it is known.
func Run(ctx context.Context, opt Options, in io.Reader, out io.Writer) (Stats, error) {
	r, err := newRun(opt, out)
	if err != nil {
		return Stats{}, err
	}
	step := r.step(in)
	for {
		if err := ctx.Err(); err != nil {
			return r.stats, err
		}
		if err := step(); err == io.EOF {
			break
		} else if err != nil {
			return r.stats, fmt.Errorf("record %d: %w", r.stats.Events, err)
		}
	}
	if err := r.findings(r.corr.Advance(math.MaxInt64, r.fired[:0])); err != nil {
		return r.stats, err
	}
	r.stats.TooLate = r.corr.Stats().TooLate
	if r.stats.Errors > 0 {
		return r.stats, ErrRules
	}
	return r.stats, nil
}

// run is the state of one run.
type run struct {
	opt    Options
	set    *rules.Set
	m      *rules.Matcher
	corr   *correlate.Correlator
	enc    *json.Encoder
	time   int // slot of the time field
	newest event.Instant
	hits   []int32
	fired  []correlate.Firing
	stats  Stats
}

func newRun(opt Options, out io.Writer) (*run, error) {
	if opt.TimeField == "" {
		opt.TimeField = "time"
	}
	load := rules.Options{Mapping: opt.Fields, Placeholders: opt.Placeholders, LogSource: opt.LogSource, AnyLogSource: true}
	if opt.Decode != nil {
		load.Layout = rules.LayoutEvent
	} else {
		load.Fields = []string{opt.TimeField}
	}
	r := &run{opt: opt, enc: json.NewEncoder(out), newest: math.MinInt64}
	r.enc.SetEscapeHTML(false)
	set, diags := rules.Load(opt.Rules, load)
	for _, d := range diags {
		if d.Severity == rules.Error {
			r.stats.Errors++
		}
		if opt.Diagnostics != nil {
			opt.Diagnostics(d)
		}
	}
	if len(set.Rules) == 0 {
		return nil, errors.New("no rule could be loaded")
	}
	cfg := correlate.DefaultConfig()
	cfg.Standalone, cfg.Lateness = opt.Standalone && opt.Decode != nil, opt.Lateness
	r.set, r.corr = set, correlate.New(set, cfg)
	for _, err := range r.corr.Problems() {
		r.stats.Errors++
		if opt.Diagnostics != nil {
			opt.Diagnostics(rules.Diagnostic{Code: rules.CodeCorrelation, Severity: rules.Error, Message: err.Error()})
		}
	}
	r.m = rules.NewMatcher(set.Program())
	r.time = set.Program().Slot(opt.TimeField)
	return r, nil
}

// step is the function that reads and evaluates the next record of in.
func (r *run) step(in io.Reader) func() error {
	if r.opt.Lines {
		s := newLineSplitter(in)
		return func() error {
			raw, err := s.next()
			if err != nil {
				return err
			}
			return r.decoded(raw)
		}
	}
	s := newSplitter(in)
	return func() error {
		// Most inputs have a record per line. The matcher, which reads all of it
		// anyway, says whether that is so; else the splitter has to find the end.
		if r.opt.Decode == nil {
			if line, ok := s.line(); ok {
				if hits, err := r.m.MatchJSON(line, r.hits[:0]); err == nil {
					s.taken(line)
					return r.matched(hits)
				}
				s.noLines = true
			}
		}
		raw, err := s.next()
		switch {
		case err != nil:
			return err
		case r.opt.Decode != nil:
			return r.decoded(raw)
		}
		hits, err := r.m.MatchJSON(raw, r.hits[:0])
		if err != nil {
			return err
		}
		return r.matched(hits)
	}
}

// matched takes in the record that the matcher read last.
func (r *run) matched(hits []int32) error {
	r.hits = hits
	text, _ := r.m.Text(r.time)
	ts, ok := ParseTime(text)
	if err := r.judge(correlate.Input{Matched: hits, Values: r.m, TS: ts, Ref: event.Ref{Offset: r.stats.Events}}, ok); err != nil {
		return err
	}
	r.stats.Events++
	return nil
}

// decoded evaluates the events of one input record.
func (r *run) decoded(raw []byte) error {
	idx := r.stats.Events
	events, err := r.opt.Decode(raw)
	if err != nil {
		if r.stats.Undecoded++; r.stats.Reason == "" {
			r.stats.Reason = fmt.Sprintf("record %d: %v", idx, err)
		}
	}
	for i := range events {
		e := &events[i]
		if e.TS == 0 {
			e.TS = e.Time
		}
		r.hits = r.m.MatchEvent(e, r.hits[:0])
		in := correlate.Input{Matched: r.hits, Values: r.m, Event: e, TS: e.TS, Ref: event.Ref{Offset: idx, Idx: int32(i)}}
		if err := r.judge(in, e.TS != 0); err != nil {
			return err
		}
	}
	r.stats.Events++
	return nil
}

// judge writes the matches of a record and correlates it.
func (r *run) judge(in correlate.Input, hasTime bool) error {
	if !hasTime {
		r.stats.NoTime++
	}
	for _, h := range in.Matched {
		rule := r.set.Rules[h]
		if rule.Inner {
			continue
		}
		r.stats.Matches++
		when := ""
		if hasTime {
			when = timeText(in.TS)
		}
		if err := r.write("match", &rule.Meta, Line{Time: when, Group: map[string]string{}, Events: []int64{in.Ref.Offset}, Value: 1}); err != nil {
			return err
		}
	}
	if !hasTime {
		return nil // it has no place in any window
	}
	r.fired = r.corr.Observe(in, r.fired[:0])
	if in.TS > r.newest {
		r.newest = in.TS
		r.fired = r.corr.Advance(r.newest.Add(-r.opt.Lateness), r.fired)
	}
	return r.findings(r.fired)
}

func (r *run) findings(list []correlate.Firing) error {
	for i := range list {
		f := &list[i]
		l := Line{Time: timeText(f.Fired), Group: map[string]string{}, Value: f.Value, Events: []int64{}}
		for _, p := range f.Group {
			l.Group[p.Field] = p.Value
		}
		for _, ref := range f.Refs {
			l.Events = append(l.Events, ref.Offset)
		}
		r.stats.Findings++
		if err := r.write("finding", f.Meta(), l); err != nil {
			return err
		}
	}
	return nil
}

// timeText is t for the output. Zero is a time here: that of 1970.
func timeText(t event.Instant) string { return time.Unix(0, int64(t)).UTC().Format(time.RFC3339Nano) }

func (r *run) write(kind string, m *rules.Meta, l Line) error {
	l.Kind, l.RuleID, l.RuleName, l.RuleTitle, l.Level = kind, m.ID, m.Name, m.Title, m.Level
	if err := r.enc.Encode(l); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// maxSeconds is the largest distance of a time from 1970 that is read.
const maxSeconds = 9_000_000_000

// ParseTime reads a time as records have it: RFC 3339 (a space may stand for the
// T, and a missing zone means UTC), or a number of seconds since 1970, from 1e11
// on of milliseconds. Times outside the years 1685 to 2255 are none.
func ParseTime(s string) (event.Instant, bool) {
	if len(s) >= len("2006-01-02") && s[4] == '-' && s[7] == '-' { // no number has this form
		return parseDate(s)
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		switch {
		case n > maxSeconds*1000 || n < -maxSeconds:
			return 0, false
		case n >= 1e11:
			return event.Instant(n * int64(time.Millisecond)), true
		}
		return event.Instant(n * int64(time.Second)), true
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if f >= 1e11 {
			f /= 1000
		}
		if f != f || f < -maxSeconds || f > maxSeconds {
			return 0, false
		}
		whole, frac := math.Modf(f)
		return event.Instant(int64(whole)*int64(time.Second) + int64(math.Round(frac*1e6))*1000), true
	}
	return 0, false
}

func parseDate(s string) (event.Instant, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		s = strings.Replace(s, " ", "T", 1)
		t, err = time.Parse(time.RFC3339Nano, s)
	}
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05.999999999", s)
	}
	// An instant is 64 bits of nanoseconds: what lies outside would come out as
	// another time.
	if sec := t.Unix(); err != nil || sec > maxSeconds || sec < -maxSeconds {
		return 0, false
	}
	return event.At(t), true
}
