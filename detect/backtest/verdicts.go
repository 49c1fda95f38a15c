package backtest

import (
	"context"
	"fmt"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Verdicts counts findings by what people said when they closed the incident.
type Verdicts struct {
	True   uint64 `json:"true"`
	False  uint64 `json:"false"`
	Benign uint64 `json:"benign"` // right, but harmless
	None   uint64 `json:"none"`   // nobody has said anything
}

func (v *Verdicts) count(verdict string) {
	switch verdict {
	case "true":
		v.True++
	case "false":
		v.False++
	case "benign":
		v.Benign++
	default:
		v.None++
	}
}

// falseShare is the part of the judged findings that were false; nil without any.
func (v *Verdicts) falseShare() *float64 {
	n := v.True + v.False + v.Benign
	if n == 0 {
		return nil
	}
	share := float64(v.False) / float64(n)
	return &share
}

// judged are past findings whose incident was closed with a verdict, by a value
// of their group or by their subject.
type judged map[string][]verdict

type verdict struct {
	rule        string
	group       map[string]string
	first, last event.Instant
	said        string
}

// verdicts reads them for the range.
func (r *run) verdicts(ctx context.Context) (judged, error) {
	rows, err := r.deps.Store.Query(ctx, fmt.Sprintf(`SELECT f.rule_id, f.group_by, f.subject_value,
	toUnixTimestamp64Nano(f.first), toUnixTimestamp64Nano(f.last), i.last_verdict
FROM v_findings AS f
INNER JOIN (SELECT DISTINCT incident_id, finding_id FROM incidents FINAL WHERE finding_id != '' AND refused = '') AS x ON x.finding_id = f.id
INNER JOIN (SELECT incident_id, last_verdict FROM v_incidents WHERE last_verdict != '') AS i ON i.incident_id = x.incident_id
WHERE f.first < fromUnixTimestamp64Nano(toInt64(%d), 'UTC') AND f.last >= fromUnixTimestamp64Nano(toInt64(%d), 'UTC')`,
		int64(r.cfg.To), int64(r.cfg.From)), nil)
	if err != nil {
		return nil, fmt.Errorf("read verdicts: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := judged{}
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return nil, err
		}
		if len(vals) != 6 {
			return nil, fmt.Errorf("a row of verdicts has %d columns, want 6", len(vals))
		}
		var v verdict
		v.rule, _ = vals[0].(string)
		v.group, _ = vals[1].(map[string]string)
		subject, _ := vals[2].(string)
		first, _ := vals[3].(int64)
		last, _ := vals[4].(int64)
		v.first, v.last = event.Instant(first), event.Instant(last)
		v.said, _ = vals[5].(string)
		out[v.rule] = append(out[v.rule], v)
		if subject != "" {
			out[subjectKey(subject)] = append(out[subjectKey(subject)], v)
		}
	}
	return out, rows.Err()
}

// subjectKey keeps subjects apart from ids of rules.
func subjectKey(value string) string { return "\x00" + value }

// on is the verdict on a finding: that on a past finding of the same rule and
// group at the same time, else that on one, of any rule, whose subject is in the
// finding's group. A rule that was edited, or is new, is judged by what people
// said about the same thing.
func (j judged) on(f *Finding) string {
	for _, v := range j[f.Meta.ID] {
		if v.meets(f) && v.sameGroup(f.Group) {
			return v.said
		}
	}
	for _, p := range f.Group {
		for _, v := range j[subjectKey(p.Value)] {
			if p.Value != "" && v.meets(f) {
				return v.said
			}
		}
	}
	return ""
}

func (v *verdict) meets(f *Finding) bool { return v.first <= f.Last && f.First <= v.last }

func (v *verdict) sameGroup(group []finding.Pair) bool {
	if len(v.group) != len(group) {
		return false
	}
	for _, p := range group {
		if got, ok := v.group[p.Field]; !ok || got != p.Value {
			return false
		}
	}
	return true
}
