package backtest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// maxQueries bounds the queries that are open at a time, each on a connection of
// its own.
const maxQueries = 8

// plan is the queries of a backtest: rules in groups, each with the columns that
// the correlator reads.
type plan struct {
	predicates []string // by place in Set.Rules; empty: the rule has none
	faults     []rules.Diagnostic
	columns    []event.Field
	heads      []string // SELECT ... FROM events FINAL
	tails      []string
}

// newPlan writes the predicate of every rule that is wanted, at most queryBytes
// of them in one query unless one alone is longer.
func newPlan(set *rules.Set, queryBytes int, wanted func(place int) bool) *plan {
	p := &plan{predicates: make([]string, len(set.Rules)), columns: neededFields(set)}
	var group []int
	size := 0
	for i, r := range set.Rules {
		if !wanted(i) {
			continue
		}
		pred, diags := set.Predicate(r)
		p.faults = append(p.faults, diags...)
		p.predicates[i] = pred
		if len(diags) > 0 || pred == "0" {
			continue
		}
		if size += len(pred); size > queryBytes && len(group) > 0 {
			p.add(group)
			group, size = nil, len(pred)
		}
		group = append(group, i)
	}
	if len(group) > 0 {
		p.add(group)
	}
	return p
}

// add writes the query of a group of rules.
func (p *plan) add(group []int) {
	places, preds := make([]string, len(group)), make([]string, len(group))
	for i, r := range group {
		places[i] = strconv.Itoa(r)
		preds[i] = p.predicates[r]
	}
	cols := []string{"toUnixTimestamp64Nano(ts)", "topic", "`partition`", "`offset`", "idx", "present", "cause"}
	for _, f := range p.columns {
		cols = append(cols, columnOf(f))
	}
	p.heads = append(p.heads, fmt.Sprintf("SELECT %s, arrayFilter((rule, hit) -> hit, CAST([%s], 'Array(Int32)'), [%s]) AS backtest_hits\nFROM events FINAL\n",
		strings.Join(cols, ", "), strings.Join(places, ", "), strings.Join(preds, ",\n")))
	p.tails = append(p.tails, " AND notEmpty(backtest_hits)\nORDER BY ts, topic, `partition`, `offset`, idx")
}

// columnOf reads a field as a value that set takes.
func columnOf(f event.Field) string {
	if f.Kind() == event.KindInstant {
		return "toUnixTimestamp64Nano(`" + f.String() + "`)"
	}
	return "`" + f.String() + "`"
}

// neededFields are the fields that the correlator reads from a record.
func neededFields(set *rules.Set) []event.Field {
	var need event.FieldSet
	program := set.Program()
	for _, c := range set.Correlations {
		for _, in := range c.Inputs {
			for _, slot := range slices.Concat(in.GroupSlots, in.FieldSlots) {
				for _, f := range program.Fields(slot) {
					need = need.Set(f)
				}
			}
		}
	}
	for _, r := range set.Rules {
		if r.Inner {
			continue
		}
		need = need.Set(event.FieldNetwork)
		if f, ok := event.ParseField(r.Risk.Subject); ok {
			need = need.Set(f)
		}
	}
	var out []event.Field
	for f := range event.NumFields {
		if need.Has(f) && !always(f) {
			out = append(out, f)
		}
	}
	return out
}

// always reports whether every query reads f anyway.
func always(f event.Field) bool {
	switch f {
	case event.FieldTS, event.FieldTopic, event.FieldPartition, event.FieldOffset, event.FieldIdx, event.FieldCause:
		return true
	}
	return false
}

// maxAhead is more than the effective time may lie after the append time.
const maxAhead = time.Minute

// within is the condition that ts lies in [from, to). The bounds of observed_at
// follow from it; they spare the partitions of other days.
func within(from, to event.Instant, maxLateness time.Duration) string {
	instant := func(i event.Instant) string {
		return fmt.Sprintf("fromUnixTimestamp64Nano(toInt64(%d), 'UTC')", int64(i))
	}
	return fmt.Sprintf("WHERE ts >= %s AND ts < %s AND observed_at >= %s AND observed_at < %s",
		instant(from), instant(to), instant(from.Add(-maxAhead)), instant(to.Add(maxLateness)))
}

// count is how many events a slice has.
func (r *run) count(ctx context.Context, from, to event.Instant) (uint64, error) {
	rows, err := r.deps.Store.Query(ctx, "SELECT count() FROM events FINAL "+within(from, to, r.cfg.MaxLateness), nil)
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

// row is one event that matched, as far as it was read.
type row struct {
	event event.Event
	hits  []int32 // places in Set.Rules, ascending
}

func (r *row) before(o *row) bool {
	if r.event.TS != o.event.TS {
		return r.event.TS < o.event.TS
	}
	return r.event.Ref.Compare(o.event.Ref) < 0
}

// merge joins the answers of the groups of rules in order of time.
type merge struct {
	sources []*source
	head    row
	err     error
}

// source is one answer and its next row.
type source struct {
	rows    Rows
	columns []event.Field
	row     row
	done    bool
}

// open starts the queries of a slice, which where bounds.
func (p *plan) open(ctx context.Context, store Querier, where string) (*merge, error) {
	m := &merge{}
	for i, head := range p.heads {
		rows, err := store.Query(ctx, head+where+p.tails[i], nil)
		if err != nil {
			m.close()
			return nil, err
		}
		s := &source{rows: rows, columns: p.columns}
		m.sources = append(m.sources, s)
		if err := s.read(); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

func (m *merge) close() {
	for _, s := range m.sources {
		_ = s.rows.Close()
	}
}

// next moves to the next event; false at the end or after an error.
func (m *merge) next() bool {
	var first *source
	for _, s := range m.sources {
		if !s.done && (first == nil || s.row.before(&first.row)) {
			first = s
		}
	}
	if first == nil || m.err != nil {
		return false
	}
	m.head = row{event: first.row.event}
	for _, s := range m.sources {
		if s.done || s.row.before(&m.head) || m.head.before(&s.row) {
			continue
		}
		m.head.hits = append(m.head.hits, s.row.hits...)
		if m.err = s.read(); m.err != nil {
			return false
		}
	}
	slices.Sort(m.head.hits)
	return true
}

func (m *merge) row() *row { return &m.head }

// read takes the next row in.
func (s *source) read() error {
	if !s.rows.Next() {
		s.done = true
		return s.rows.Err()
	}
	vals, err := s.rows.Values()
	if err != nil {
		return err
	}
	want := len(s.columns) + 8
	if len(vals) != want {
		return fmt.Errorf("a row has %d columns, want %d", len(vals), want)
	}
	var c cells = vals
	s.row = row{}
	e := &s.row.event
	e.TS = event.Instant(take[int64](&c))
	e.Ref = event.Ref{Topic: take[string](&c), Partition: take[int32](&c), Offset: take[int64](&c), Idx: take[int32](&c)}
	e.Present = event.FieldSet(take[uint64](&c))
	e.Cause, _ = event.ParseCause(take[string](&c))
	for _, f := range s.columns {
		set(e, f, &c)
	}
	s.row.hits = take[[]int32](&c)
	if len(c) != 0 {
		return fmt.Errorf("unexpected types in the answer: %T", vals)
	}
	return nil
}

// cells are the values of a row that were not taken yet. A value of an
// unexpected type stays, with all behind it.
type cells []any

func take[T any](c *cells) T {
	var zero T
	if len(*c) == 0 {
		return zero
	}
	v, ok := (*c)[0].(T)
	if ok {
		*c = (*c)[1:]
	}
	return v
}

// set puts a column into the event. The bits of present say what the record
// carried, as they do in the daemon.
func set(e *event.Event, f event.Field, c *cells) {
	switch f {
	case event.FieldType:
		e.Type, _ = event.ParseType(take[string](c))
		return
	case event.FieldAuthMode:
		e.Mode, _ = event.ParseAuthMode(take[string](c))
		return
	case event.FieldOrigin:
		e.Origin, _ = event.ParseOrigin(take[string](c))
		return
	case event.FieldSeq:
		e.Seq = take[uint64](c)
		return
	case event.FieldStatus:
		e.Status = take[uint16](c)
		return
	case event.FieldClockOffset:
		e.ClockOffset = take[float64](c)
		return
	case event.FieldClockError:
		e.ClockError = take[float64](c)
		return
	case event.FieldCauseConfidence:
		e.CauseConfidence = take[float32](c)
		return
	case event.FieldSourceIP:
		e.SourceIP = address(take[net.IP](c))
		return
	case event.FieldClientIP:
		e.ClientIP = address(take[net.IP](c))
		return
	}
	present := e.Present
	if f.Kind() == event.KindInstant {
		e.SetInstant(f, event.Instant(take[int64](c)))
	} else {
		e.SetString(f, take[string](c))
	}
	e.Present = present
}

func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
