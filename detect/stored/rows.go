package stored

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/keysentry/keysentry/event"
)

// Row is one event that matched, as far as it was read.
type Row struct {
	Event event.Event
	Hits  []int32 // places in Set.Rules, ascending
}

func (r *Row) before(o *Row) bool {
	if r.Event.TS != o.Event.TS {
		return r.Event.TS < o.Event.TS
	}
	return r.Event.Ref.Compare(o.Event.Ref) < 0
}

// Merge joins the answers of the groups of rules in order of time.
type Merge struct {
	sources []*source
	head    Row
	err     error
}

// source is one answer and its next row.
type source struct {
	rows    Rows
	columns []event.Field
	row     Row
	done    bool
}

// Open asks the queries, for what where bounds.
func (q *Queries) Open(ctx context.Context, store Querier, where string, params map[string]string) (*Merge, error) {
	m := &Merge{}
	for i, head := range q.heads {
		rows, err := store.Query(ctx, head+where+q.tails[i], params)
		if err != nil {
			m.Close()
			return nil, err
		}
		s := &source{rows: rows, columns: q.columns}
		m.sources = append(m.sources, s)
		if err := s.read(); err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

// Close ends the queries.
func (m *Merge) Close() {
	for _, s := range m.sources {
		_ = s.rows.Close()
	}
}

// Next moves to the next event; false at the end or after an error.
func (m *Merge) Next() bool {
	var first *source
	for _, s := range m.sources {
		if !s.done && (first == nil || s.row.before(&first.row)) {
			first = s
		}
	}
	if first == nil || m.err != nil {
		return false
	}
	m.head = Row{Event: first.row.Event}
	for _, s := range m.sources {
		if s.done || s.row.before(&m.head) || m.head.before(&s.row) {
			continue
		}
		m.head.Hits = append(m.head.Hits, s.row.Hits...)
		if m.err = s.read(); m.err != nil {
			return false
		}
	}
	slices.Sort(m.head.Hits)
	return true
}

// Row is the event that Next moved to; it is good until the next Next.
func (m *Merge) Row() *Row { return &m.head }

// Err is what ended the answers early, if anything did.
func (m *Merge) Err() error { return m.err }

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
	s.row = Row{}
	e := &s.row.Event
	e.TS = event.Instant(take[int64](&c))
	e.Ref = event.Ref{Topic: take[string](&c), Partition: take[int32](&c), Offset: take[int64](&c), Idx: take[int32](&c)}
	e.Present = event.FieldSet(take[uint64](&c))
	e.Cause, _ = event.ParseCause(take[string](&c))
	for _, f := range s.columns {
		set(e, f, &c)
	}
	s.row.Hits = take[[]int32](&c)
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
	case event.FieldTraits:
		e.Traits, _ = event.ParseTraits(take[string](c))
		return
	case event.FieldSourceNet:
		e.SourceNet = take[string](c)
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
