package backtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// coverage is the share of the numbered events that was stored, per network and
// minute, as the table coverage has it: minutes that are not closed are unknown.
type coverage map[string]map[int64]share

type share struct{ expected, seen uint64 }

// coverageOf reads it for the range, if some rule asks for it.
func (r *run) coverageOf(ctx context.Context) (coverage, error) {
	if !slices.ContainsFunc(r.deps.Rules.Correlations, func(c *rules.Correlation) bool { return c.MinCoverage > 0 }) {
		return nil, nil
	}
	rows, err := r.deps.Store.Query(ctx, fmt.Sprintf(`SELECT toString(network), toInt64(toUnixTimestamp(minute)), sum(expected), sum(seen)
FROM v_coverage WHERE minute >= toDateTime(%d, 'UTC') AND minute < toDateTime(%d, 'UTC') GROUP BY network, minute`,
		int64(r.from)/int64(time.Second)-60, int64(r.cfg.To)/int64(time.Second)), nil)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := coverage{}
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return nil, err
		}
		if len(vals) != 4 {
			return nil, fmt.Errorf("a row of coverage has %d columns, want 4", len(vals))
		}
		network, _ := vals[0].(string)
		second, _ := vals[1].(int64)
		var s share
		s.expected, _ = vals[2].(uint64)
		s.seen, _ = vals[3].(uint64)
		if out[network] == nil {
			out[network] = map[int64]share{}
		}
		out[network][second/60] = s
	}
	return out, rows.Err()
}

// ofGroup is what a correlator asks: see correlate.Config.
func (c coverage) ofGroup(group []finding.Pair, from, to event.Instant) (float64, bool) {
	minute := func(t event.Instant) int64 { return int64(t) / int64(time.Minute) }
	var sum share
	for network, minutes := range c {
		if slices.ContainsFunc(group, func(p finding.Pair) bool { return p.Field == event.FieldNetwork.String() && p.Value != network }) {
			continue
		}
		for m := minute(from); m <= minute(to); m++ {
			sum.expected += minutes[m].expected
			sum.seen += minutes[m].seen
		}
	}
	return min(float64(sum.seen)/float64(max(sum.expected, 1)), 1), sum.expected > 0
}
