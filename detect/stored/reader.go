package stored

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// Request asks for the events with an effective time in [From, To), below the
// given offsets, that satisfy rules.
type Request struct {
	Rules    *rules.Set
	Extra    []event.Field // fields to read beside those that the correlator needs
	From, To event.Instant
	// Since is, by place in Rules.Rules, from when on a rule's events are wanted;
	// zero: none are.
	Since []event.Instant
	Below []event.Standing
}

// History is how far back the stored events reach.
type History struct {
	// Oldest is the append time of the oldest; zero: nothing is stored.
	Oldest event.Instant
	// First holds the first offset that is stored, as an event or in quarantine, of
	// each partition that has any.
	First map[event.Partition]int64
}

// Reader reads stored events for the filling of windows. It is safe for
// concurrent use.
type Reader struct {
	Store Querier
	// MaxLateness is how long after its effective time an event may have been
	// observed, at most: what ingest clamps by.
	MaxLateness time.Duration
	// QueryBytes bounds the predicates of one query.
	QueryBytes int
	// Imported are topics whose events Remembered leaves out: their times are not
	// ours, and their windows are others.
	Imported []string
	// AskTimeout bounds the first question to a store that may be away.
	AskTimeout time.Duration

	mu    sync.Mutex
	set   *rules.Set
	extra []event.Field
	plan  *Plan
}

// planOf is the plan of a set: it is the same for every request of a filling.
func (r *Reader) planOf(q *Request) *Plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set != q.Rules || !slices.Equal(r.extra, q.Extra) {
		r.set, r.extra, r.plan = q.Rules, q.Extra, NewPlan(q.Rules, q.Extra...)
	}
	return r.plan
}

// History asks how far back the events reach. since is the farthest that anyone
// wants: when the oldest event is older, First is not asked for.
func (r *Reader) History(ctx context.Context, since event.Instant) (History, error) {
	ctx, cancel := context.WithTimeout(ctx, r.AskTimeout)
	defer cancel()
	h := History{First: map[event.Partition]int64{}}
	err := r.each(ctx, "SELECT toUnixTimestamp64Nano(min(observed_at)), count() FROM events", func(c *cells) {
		oldest := event.Instant(take[int64](c))
		if take[uint64](c) > 0 {
			h.Oldest = oldest
		}
	})
	if err != nil || h.Oldest == 0 || h.Oldest < since {
		return h, err
	}
	err = r.each(ctx, "SELECT topic, `partition`, min(`offset`) FROM (SELECT topic, `partition`, `offset` FROM events UNION ALL "+
		"SELECT topic, `partition`, `offset` FROM quarantine) GROUP BY topic, `partition`", func(c *cells) {
		p := event.Partition{Topic: take[string](c), ID: take[int32](c)}
		h.First[p] = take[int64](c)
	})
	return h, err
}

// each reads a short answer.
func (r *Reader) each(ctx context.Context, sql string, row func(*cells)) error {
	rows, err := r.Store.Query(ctx, sql, nil)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return err
		}
		c := cells(vals)
		if row(&c); len(c) != 0 {
			return fmt.Errorf("unexpected types in the answer: %T", vals)
		}
	}
	return rows.Err()
}

// Read shows the events of a request in order of time, until see returns false.
func (r *Reader) Read(ctx context.Context, q Request, see func(*Row) bool) error {
	queries := r.planOf(&q).Queries(r.QueryBytes, func(i int) (string, bool) {
		switch since := q.Since[i]; {
		case since == 0 || since >= q.To:
			return "", false
		case since <= q.From:
			return "", true
		default:
			return "ts >= " + instant(since), true
		}
	})
	if n := queries.Len(); n > MaxQueries {
		return fmt.Errorf("the rules need %d queries at a time, and %d are possible", n, MaxQueries)
	}
	where, params := below(q.Below)
	m, err := queries.Open(ctx, r.Store, Within(q.From, q.To, r.MaxLateness)+" AND "+where, params)
	if err != nil {
		return err
	}
	defer m.Close()
	for m.Next() {
		if !see(m.Row()) {
			return nil
		}
	}
	if m.Err() == nil {
		return ctx.Err()
	}
	return m.Err()
}

// below is the condition that an event lies below the offset of its partition,
// and is of one of these partitions.
func below(at []event.Standing) (string, map[string]string) {
	at = slices.Clone(at)
	slices.SortFunc(at, func(a, b event.Standing) int {
		return cmp.Or(cmp.Compare(a.Partition.Topic, b.Partition.Topic), cmp.Compare(a.Partition.ID, b.Partition.ID))
	})
	params := map[string]string{}
	var terms []string
	for len(at) > 0 {
		topic := at[0].Partition.Topic
		var ids, offsets []string
		for len(at) > 0 && at[0].Partition.Topic == topic {
			ids, offsets = append(ids, strconv.Itoa(int(at[0].Partition.ID))), append(offsets, strconv.FormatInt(at[0].Below, 10))
			at = at[1:]
		}
		name := "topic" + strconv.Itoa(len(params))
		params[name] = topic
		terms = append(terms, fmt.Sprintf("topic = {%s:String} AND `offset` < transform(toInt64(`partition`), CAST([%s], 'Array(Int64)'), CAST([%s], 'Array(Int64)'), toInt64(0))",
			name, strings.Join(ids, ","), strings.Join(offsets, ",")))
	}
	if len(terms) == 0 {
		return "0", params
	}
	return "(" + strings.Join(terms, " OR ") + ")", params
}
