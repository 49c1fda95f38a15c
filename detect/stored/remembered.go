package stored

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/detect/season"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// ErrNoHistory is the error of Remembered for a rule whose past cannot be read off
// the stored events: one that refers to correlations, or has no SQL, or groups
// its rules by different fields, or counts different values.
var ErrNoHistory = errors.New("its history cannot be read from stored events")

// Remembered gives f, in pieces, what a rule of type first_seen or rate_anomaly
// would remember, had it run over the stored events of [from, to).
func (r *Reader) Remembered(ctx context.Context, set *rules.Set, c *rules.Correlation, from, to event.Instant, f func([]memory.Piece) error) error {
	h := &historian{set: set, corr: c, matcher: rules.NewMatcher(set.Program()), give: f}
	if err := h.prepare(); err != nil {
		return err
	}
	what, tail := "toUnixTimestamp64Nano(min(ts)), toUnixTimestamp64Nano(max(ts))", ""
	if c.Type == rules.RateAnomaly {
		what = fmt.Sprintf("toUnixTimestamp64Nano(max(ts)), intDiv(toUnixTimestamp64Nano(ts), %d) AS history_minute, count()", int64(time.Minute))
		tail = ", history_minute\nORDER BY " + h.keys + ", history_minute"
	}
	rows, err := r.Store.Query(ctx, "SELECT "+h.columns+", "+what+"\nFROM events FINAL\n"+Within(from, to, r.MaxLateness)+r.live()+
		" AND ("+h.predicate+")\nGROUP BY "+h.keys+tail, nil)
	if err != nil {
		return fmt.Errorf("history of %s: %w", c.ID, err)
	}
	defer func() { _ = rows.Close() }()
	h.end = int64(to) / int64(time.Minute) // a season is of whole minutes
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return err
		}
		if err := h.row(vals); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("history of %s: %w", c.ID, err)
	}
	return h.flush(true)
}

// live is the condition that an event is of no imported topic.
func (r *Reader) live() string {
	if len(r.Imported) == 0 {
		return ""
	}
	names := make([]string, len(r.Imported))
	for i, n := range r.Imported {
		names[i] = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(n) + "'"
	}
	return " AND topic NOT IN (" + strings.Join(names, ", ") + ")"
}

// historian reads groups of events, and remembers as the correlator would.
type historian struct {
	set     *rules.Set
	corr    *rules.Correlation
	matcher *rules.Matcher
	give    func([]memory.Piece) error

	predicate     string
	columns, keys string // what events are grouped by, and its names
	fields        []event.Field

	out   []memory.Piece
	end   int64 // minute of rate_anomaly at which the history ends
	group []finding.Pair
	model *season.Model
	last  event.Instant
}

// prepare writes the query, or says why there is none.
func (h *historian) prepare() error {
	var preds []string
	var mask event.FieldSet
	if h.corr.Type == rules.RateAnomaly && len(h.corr.Field) > 0 {
		return ErrNoHistory // events are counted by their values
	}
	for _, in := range h.corr.Inputs {
		if in.Rule == nil || !slices.Equal(in.GroupSlots, h.corr.Inputs[0].GroupSlots) || !slices.Equal(in.FieldSlots, h.corr.Inputs[0].FieldSlots) {
			return ErrNoHistory
		}
		pred, diags := h.set.Predicate(in.Rule)
		if len(diags) > 0 {
			return fmt.Errorf("%w: %s", ErrNoHistory, diags[0])
		}
		preds = append(preds, "("+pred+")")
	}
	for _, slot := range slices.Concat(h.corr.Inputs[0].GroupSlots, h.corr.Inputs[0].FieldSlots) {
		for _, f := range h.set.Program().Fields(slot) {
			mask = mask.Set(f)
		}
	}
	cols := []string{fmt.Sprintf("bitAnd(present, %d) AS history_present", uint64(mask)), "cause AS history_cause"}
	names := []string{"history_present", "history_cause"}
	for f := range event.NumFields {
		if mask.Has(f) && f != event.FieldCause {
			h.fields = append(h.fields, f)
			cols = append(cols, columnOf(f)+" AS history_"+f.String())
			names = append(names, "history_"+f.String())
		}
	}
	if !mask.Has(event.FieldCause) {
		cols[1] = "'' AS history_cause"
	}
	h.predicate, h.columns, h.keys = strings.Join(preds, " OR "), strings.Join(cols, ", "), strings.Join(names, ", ")
	return nil
}

// row takes in one group of events.
func (h *historian) row(vals []any) error {
	c := cells(vals)
	var e event.Event
	e.Present = event.FieldSet(take[uint64](&c))
	e.Cause, _ = event.ParseCause(take[string](&c))
	for _, f := range h.fields {
		set(&e, f, &c)
	}
	first := event.Instant(take[int64](&c))
	second := take[int64](&c)
	h.matcher.Read(&e)
	in := h.corr.Inputs[0]
	group := make([]finding.Pair, len(in.GroupSlots))
	for i, slot := range in.GroupSlots {
		v, ok := h.matcher.Text(slot)
		if !ok {
			return nil
		}
		group[i] = finding.Pair{Field: h.corr.GroupBy[i], Value: strings.Clone(v)}
	}
	if h.corr.Type == rules.RateAnomaly {
		n := take[uint64](&c)
		return h.count(group, first, second, float64(n))
	}
	v, ok := h.matcher.Text(in.FieldSlots[0])
	if !ok {
		return nil
	}
	h.out = append(h.out, memory.Piece{RuleID: h.corr.ID, RuleHash: h.corr.Logic, Group: group, Value: strings.Clone(v), First: first, Last: event.Instant(second)})
	return h.flush(false)
}

// count takes in one minute of a group; groups come one after the other.
func (h *historian) count(group []finding.Pair, last event.Instant, minute int64, n float64) error {
	if h.model == nil || !slices.Equal(group, h.group) {
		if err := h.flush(false); err != nil {
			return err
		}
		h.endModel()
		h.group, h.model = group, &season.Model{}
	}
	if minute < h.end {
		h.model.Add(minute, n)
	}
	h.last = max(h.last, last)
	return nil
}

func (h *historian) endModel() {
	if h.model == nil {
		return
	}
	if _, begun := h.model.Minute(); begun {
		h.model.Close(h.end)
		state := h.model.State()
		h.out = append(h.out, memory.Piece{RuleID: h.corr.ID, RuleHash: h.corr.Logic, Group: h.group, Last: h.last, Season: &state})
	}
	h.model, h.last = nil, 0
}

// historyChunk is how many pieces are given at once.
const historyChunk = 1000

func (h *historian) flush(end bool) error {
	if end {
		h.endModel()
	}
	if len(h.out) == 0 || len(h.out) < historyChunk && !end {
		return nil
	}
	err := h.give(h.out)
	h.out = nil
	return err
}
