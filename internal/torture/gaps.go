package torture

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/stage"
)

// gap is offsets [from, to) of a partition that a finding names as lost.
type gap struct {
	partition int32
	from, to  int64
	finding   string // its id
}

// gapOf reads a finding about a gap in the topic; ok is false for other findings.
func gapOf(f finding.Finding) (g gap, ok bool, err error) {
	if f.RuleID != ingest.RuleDataGap || f.Subject.Value != topic {
		return gap{}, false, nil
	}
	values := map[string]string{}
	for _, p := range append(slices.Clone(f.Group), f.Facts...) {
		values[p.Field] = p.Value
	}
	var n [3]int64
	for i, name := range []string{"partition", "first_offset", "last_offset"} {
		if n[i], err = strconv.ParseInt(values[name], 10, 64); err != nil {
			return gap{}, true, fmt.Errorf("finding %s about a gap: %s: %w", f.ID, name, err)
		}
	}
	g = gap{partition: int32(n[0]), from: n[1], to: n[2] + 1, finding: f.ID}
	if g.to <= g.from || f.Count != uint64(g.to-g.from) {
		return g, true, fmt.Errorf("finding %s about a gap: offsets %d to %d and a count of %d do not agree", f.ID, g.from, g.to-1, f.Count)
	}
	return g, true, nil
}

// merged joins gaps that overlap or touch: two readers may miss the same records.
func merged(gaps []gap) []gap {
	sorted := slices.Clone(gaps)
	slices.SortFunc(sorted, func(a, b gap) int {
		if a.partition != b.partition {
			return int(a.partition - b.partition)
		}
		return int(min(max(a.from-b.from, -1), 1))
	})
	var out []gap
	for _, g := range sorted {
		if n := len(out); n > 0 && out[n-1].partition == g.partition && g.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, g.to)
			continue
		}
		out = append(out, gap{partition: g.partition, from: g.from, to: g.to})
	}
	return out
}

// weigh says how many records the gaps excuse, given what was deleted and how
// many records of a gap are stored all the same, and how many they name wrongly.
func weigh(gaps []gap, deleted map[int32]int64, stored func(gap) (int64, error)) (excused, wrong int64, err error) {
	for _, g := range merged(gaps) {
		real := g
		real.to = max(real.from, min(real.to, deleted[g.partition]))
		wrong += g.to - real.to
		if real.to == real.from {
			continue
		}
		there, err := stored(real)
		if err != nil {
			return 0, 0, err
		}
		wrong += there
		excused += real.to - real.from - there
	}
	return excused, wrong, nil
}

// storedIn is how many records of a gap are stored or in quarantine.
func (t *trial) storedIn(ctx context.Context, g gap) (int64, error) {
	where := fmt.Sprintf("WHERE topic = '%s' AND partition = %d AND offset >= %d AND offset < %d", topic, g.partition, g.from, g.to)
	n, err := stage.Number(ctx, t.store, "SELECT uniqExact(offset) FROM (SELECT offset FROM events "+where+" UNION ALL SELECT offset FROM quarantine "+where+")")
	return int64(n), err
}
