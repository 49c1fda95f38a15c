package stored

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Querier asks ClickHouse; the statement is read-only. params are server-side
// parameters.
type Querier interface {
	Query(ctx context.Context, sql string, params map[string]string) (Rows, error)
}

// Rows is an answer, read row by row and closed by the reader.
type Rows interface {
	Next() bool
	Values() ([]any, error)
	Err() error
	Close() error
}

// MaxQueries bounds the queries that are open at a time, each on a connection of
// its own.
const MaxQueries = 8

// Plan is the predicates of a rule set and the columns that the correlator reads.
type Plan struct {
	// Predicates are by place in Set.Rules; empty: the rule has none.
	Predicates []string
	// Faults says why rules have no predicate.
	Faults  []rules.Diagnostic
	columns []event.Field
}

// NewPlan writes the predicate of every rule. extra are fields that are read
// beside those that the correlator needs.
func NewPlan(set *rules.Set, extra ...event.Field) *Plan {
	p := &Plan{Predicates: make([]string, len(set.Rules)), columns: neededFields(set, extra)}
	for i, r := range set.Rules {
		pred, diags := set.Predicate(r)
		p.Faults = append(p.Faults, diags...)
		if len(diags) == 0 {
			p.Predicates[i] = pred
		}
	}
	return p
}

// Queries are the statements that Open asks.
type Queries struct {
	columns []event.Field
	heads   []string // SELECT ... FROM events FINAL
	tails   []string
}

// Len is how many queries Open asks at the same time.
func (q *Queries) Len() int { return len(q.heads) }

// Queries writes the statements for the rules that want takes, at most queryBytes
// of predicates in one unless one alone is longer. A condition that want gives is
// one more that the rule's events must satisfy; empty: there is none.
func (p *Plan) Queries(queryBytes int, want func(rule int) (condition string, ok bool)) *Queries {
	q := &Queries{columns: p.columns}
	var places, preds []string
	size := 0
	flush := func() {
		if len(preds) > 0 {
			q.add(places, preds)
		}
		places, preds, size = nil, nil, 0
	}
	for i, pred := range p.Predicates {
		condition, ok := want(i)
		if !ok || pred == "" || pred == "0" {
			continue
		}
		if condition != "" {
			pred = "(" + condition + " AND " + pred + ")"
		}
		if size+len(pred) > queryBytes {
			flush()
		}
		places, preds, size = append(places, strconv.Itoa(i)), append(preds, pred), size+len(pred)
	}
	flush()
	return q
}

// maxTwice is how many bytes of predicates stand in a statement twice: it must not
// reach the server's max_query_size.
const maxTwice = 110_000

// add writes the query of a group of rules.
func (q *Queries) add(places, preds []string) {
	cols := []string{"toUnixTimestamp64Nano(ts)", "topic", "`partition`", "`offset`", "idx", "present", "cause"}
	for _, f := range q.columns {
		cols = append(cols, columnOf(f))
	}
	q.heads = append(q.heads, fmt.Sprintf("SELECT %s, arrayFilter((rule, hit) -> hit, CAST([%s], 'Array(Int32)'), [%s]) AS rule_hits\nFROM events FINAL\n",
		strings.Join(cols, ", "), strings.Join(places, ", "), strings.Join(preds, ",\n")))
	// The same once more, in the form by which the server leaves out what its
	// indexes say cannot match: a rule about refusals reads no mints.
	some := " AND (" + strings.Join(preds, " OR ") + ")"
	if len(some) > maxTwice {
		some = ""
	}
	q.tails = append(q.tails, some+" AND notEmpty(rule_hits)\nORDER BY ts, topic, `partition`, `offset`, idx")
}

// columnOf reads a field as a value that set takes.
func columnOf(f event.Field) string {
	if f.Kind() == event.KindInstant {
		return "toUnixTimestamp64Nano(`" + f.String() + "`)"
	}
	return "`" + f.String() + "`"
}

// neededFields are the fields that the correlator reads from a record, and extra.
func neededFields(set *rules.Set, extra []event.Field) []event.Field {
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
	for _, f := range extra {
		need = need.Set(f)
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

// Within is the condition that ts lies in [from, to). The bounds of observed_at
// follow from it; they spare the partitions of other days.
func Within(from, to event.Instant, maxLateness time.Duration) string {
	return fmt.Sprintf("WHERE ts >= %s AND ts < %s AND observed_at >= %s AND observed_at < %s",
		instant(from), instant(to), instant(from.Add(-maxAhead)), instant(to.Add(maxLateness)))
}

func instant(i event.Instant) string {
	return fmt.Sprintf("fromUnixTimestamp64Nano(toInt64(%d), 'UTC')", int64(i))
}
