package correlate

import (
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// TestEpisodesAreThoseOfTheReference is the contract of the package: whatever
// the order of arrival within the lateness and whenever the watermark moves, the
// episodes are those that the plain definition gives, and each fires once.
func TestEpisodesAreThoseOfTheReference(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { checkKind(t, kind) })
		})
	}
}

type kind struct {
	name   string
	inputs int
	draw   func(*rapid.T) *rules.Correlation
}

func bound(op string, low, high int) func(*rapid.T) []rules.Bound {
	return func(t *rapid.T) []rules.Bound {
		return []rules.Bound{{Op: op, Value: float64(rapid.IntRange(low, high).Draw(t, "threshold"))}}
	}
}

func kinds() []kind {
	var out []kind
	add := func(name string, inputs int, typ rules.CorrelationType, bounds func(*rapid.T) []rules.Bound, field bool) {
		out = append(out, kind{name, inputs, func(t *rapid.T) *rules.Correlation {
			c := &rules.Correlation{Type: typ}
			if bounds != nil {
				c.Bounds = bounds(t)
			}
			if field {
				c.Field = []string{"v"}
			}
			if typ == rules.EventRatio {
				c.MinDenominator = rapid.IntRange(0, 4).Draw(t, "min_denominator")
			}
			c.Percentile = float64(rapid.IntRange(1, 99).Draw(t, "percentile"))
			return c
		}})
	}
	add("event_count gte", 1, rules.EventCount, bound("gte", 1, 6), false)
	add("event_count gt of two rules", 2, rules.EventCount, bound("gt", 0, 6), false)
	add("event_count lt", 1, rules.EventCount, bound("lt", 1, 6), false)
	add("event_count eq", 1, rules.EventCount, bound("eq", 1, 4), false)
	add("event_count neq", 1, rules.EventCount, bound("neq", 1, 4), false)
	add("event_count range", 1, rules.EventCount, func(*rapid.T) []rules.Bound {
		return []rules.Bound{{Op: "gte", Value: 2}, {Op: "lte", Value: 4}}
	}, false)
	add("value_count gte", 1, rules.ValueCount, bound("gte", 1, 6), true)
	add("value_count lte", 1, rules.ValueCount, bound("lte", 1, 4), true)
	add("temporal", 3, rules.Temporal, nil, false)
	add("temporal_ordered", 3, rules.TemporalOrdered, nil, false)
	add("event_ratio gte", 2, rules.EventRatio, bound("gte", 10, 90), false)
	add("event_ratio lt", 2, rules.EventRatio, bound("lt", 10, 90), false)
	for _, typ := range []rules.CorrelationType{rules.ValueSum, rules.ValueAvg, rules.ValueMedian, rules.ValuePercentile} {
		add(string(typ)+" gt", 1, typ, bound("gt", 1, 12), true)
		add(string(typ)+" lt", 1, typ, bound("lt", 1, 12), true)
	}
	for _, span := range []int{0, 5} {
		out = append(out, kind{"first_seen", 1, func(t *rapid.T) *rules.Correlation {
			return &rules.Correlation{Type: rules.FirstSeen, Field: []string{"v"}, Timespan: time.Duration(rapid.IntRange(0, span).Draw(t, "own timespan")) * time.Second,
				Lookback: time.Duration(rapid.IntRange(1, 60).Draw(t, "lookback")) * time.Second, Learn: time.Duration(rapid.IntRange(0, 30).Draw(t, "learn")) * time.Second}
		}})
	}
	for name, after := range map[string]bool{"absence before": false, "absence after": true} {
		out = append(out, kind{name, 2, func(*rapid.T) *rules.Correlation { return &rules.Correlation{Type: rules.Absence, After: after} }})
	}
	leaf := func(i int) *rules.BoolExpr { return &rules.BoolExpr{Input: i} }
	join := func(op string, args ...*rules.BoolExpr) *rules.BoolExpr { return &rules.BoolExpr{Op: op, Args: args} }
	for name, x := range map[string]*rules.BoolExpr{
		"and or":    join("and", leaf(0), join("or", leaf(1), leaf(2))),
		"two of":    join("or", join("and", leaf(0), leaf(1)), join("and", leaf(0), leaf(2)), join("and", leaf(1), leaf(2))),
		"not":       join("and", leaf(0), join("not", leaf(1))),
		"not and":   join("and", leaf(0), leaf(2), join("not", leaf(1))),
		"not not":   join("not", join("or", join("not", leaf(0)), join("not", leaf(2)))),
		"not, or":   join("or", join("and", leaf(0), join("not", leaf(1))), join("and", leaf(1), leaf(2))),
		"one alone": leaf(1),
	} {
		for _, typ := range []rules.CorrelationType{rules.Temporal, rules.TemporalOrdered} {
			out = append(out, kind{string(typ) + " " + name, 3, func(*rapid.T) *rules.Correlation {
				return &rules.Correlation{Type: typ, Expr: x}
			}})
		}
	}
	return out
}

func checkKind(t *rapid.T, k kind) {
	c := k.draw(t)
	if c.Type != rules.FirstSeen {
		c.Timespan = time.Duration(rapid.IntRange(1, 20).Draw(t, "timespan")) * time.Second
	}
	set := newSet(c, k.inputs)
	lateness := event.Instant(time.Duration(rapid.IntRange(0, 15).Draw(t, "lateness")) * time.Second)
	all := drawRecords(t, k.inputs)
	want := reference(c, all)

	cfg := DefaultConfig()
	cfg.Standalone, cfg.Lateness = false, time.Duration(lateness)
	for _, arrival := range [][]record{sortedRecords(all, nil), shuffled(t, all, lateness)} {
		got, firings := play(t, New(set, cfg), arrival, lateness)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("episodes (-reference +correlator):\n%s", diff)
		}
		if firings != len(want) {
			t.Fatalf("%d firings for %d episodes", firings, len(want))
		}
	}
}

func drawRecords(t *rapid.T, inputs int) []record {
	n := rapid.IntRange(0, 60).Draw(t, "records")
	horizon := rapid.IntRange(5, 120).Draw(t, "horizon")
	all := make([]record, n)
	for i := range all {
		mask := rapid.IntRange(1, 1<<inputs-1).Draw(t, "mask")
		for j := range inputs {
			if mask&(1<<j) != 0 {
				all[i].matched = append(all[i].matched, int32(j))
			}
		}
		all[i].ts = event.Instant(time.Duration(1000+rapid.IntRange(0, horizon).Draw(t, "ts")) * time.Second)
		all[i].part, all[i].off = int32(i%2), int64(i)
		all[i].group = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "group")
		all[i].value = strconv.Itoa(rapid.IntRange(0, 9).Draw(t, "value"))
	}
	return all
}

func sortedRecords(all []record, delay map[int64]event.Instant) []record {
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b record) int {
		x, y := a.ts+delay[a.off], b.ts+delay[b.off]
		return int(min(max(x-y, -1), 1))
	})
	return out
}

// shuffled delays each record by at most the lateness.
func shuffled(t *rapid.T, all []record, lateness event.Instant) []record {
	delay := map[int64]event.Instant{}
	for _, r := range all {
		delay[r.off] = event.Instant(rapid.Int64Range(0, int64(lateness)).Draw(t, "delay"))
	}
	return sortedRecords(all, delay)
}

// play runs records through c, moving the watermark now and then, and returns
// the episodes as they closed and how many firings there were.
func play(t *rapid.T, c *Correlator, arrival []record, lateness event.Instant) (closed []span, firings int) {
	newest := event.Instant(math.MinInt64)
	group := map[string]string{}
	var fs []Firing
	for _, r := range arrival {
		fs = c.Observe(r.input(), fs)
		newest = max(newest, r.ts)
		if rapid.Bool().Draw(t, "advance") {
			behind := event.Instant(rapid.Int64Range(0, 40).Draw(t, "behind") * 1e9)
			fs = c.Advance(newest-lateness-behind*event.Instant(rapid.IntRange(0, 1).Draw(t, "lags")), fs)
		}
	}
	fs = c.Advance(math.MaxInt64, fs)
	for _, f := range fs {
		if group[f.ID] != "" {
			t.Fatalf("firing %s came twice", f.ID)
		}
		group[f.ID] = f.Group[0].Value
	}
	for _, u := range c.TakeUpdates() {
		if u.Closed {
			closed = append(closed, span{group[u.ID], u.First, u.Last})
		}
	}
	if s := c.Stats(); s.Late+s.TooLate+s.Orphaned+s.Evicted != 0 || s.Pending != 0 {
		t.Fatalf("something was lost: %+v", s)
	}
	return sortSpans(closed), len(fs)
}

// TestReferenceSeesEpisodes guards the property test itself: the reference must see
// episodes in what is drawn.
func TestReferenceSeesEpisodes(t *testing.T) {
	t.Parallel()
	c := &rules.Correlation{Type: rules.EventCount, Timespan: 10 * time.Second, Bounds: []rules.Bound{{Op: "gte", Value: 2}}}
	newSet(c, 1)
	var all []record
	for i, s := range []int64{0, 5, 12, 40, 50, 61} {
		all = append(all, record{ts: event.Instant(s * 1e9), off: int64(i), matched: []int32{0}, group: "a"})
	}
	want := []span{{"a", 5e9, 12e9}, {"a", 50e9, 50e9}}
	if diff := cmp.Diff(want, reference(c, all)); diff != "" {
		t.Error(diff)
	}
}
