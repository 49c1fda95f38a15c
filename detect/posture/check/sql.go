package check

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
)

// Own is a check that a user wrote: SQL in YAML.
type Own struct {
	spec    ownSpec
	querier posture.Querier
}

var (
	_ posture.Check     = (*Own)(nil)
	_ posture.Scheduled = (*Own)(nil)
)

// Limits of a user's query.
const (
	ownRows = 500
	ownTime = 30 * time.Second
	maxCell = 300 // runes of a cell in words
)

// Name, Title, Target and Schedule are those of the file.
func (c *Own) Name() string { return c.spec.Name }

// Title names the metric.
func (c *Own) Title() string { return c.spec.Title }

// Target is in words.
func (c *Own) Target() string { return c.spec.Target }

// Schedule is a cron expression in UTC.
func (c *Own) Schedule() string { return c.spec.Schedule }

// Run asks the query and makes a result of each row.
func (c *Own) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	t, err := c.querier.Select(ctx, c.spec.Query, posture.Limits{Rows: ownRows, Time: ownTime})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.spec.file, err)
	}
	places, err := c.spec.fits(t.Columns)
	if err != nil {
		return nil, err
	}
	if len(t.Rows) == 0 {
		r := posture.Result{Subject: finding.Subject{Field: "check", Value: c.spec.Name}, Status: posture.Status(c.spec.Empty), Value: "no row", Query: c.spec.Query}
		return []posture.Result{r}, nil
	}
	out := make([]posture.Result, 0, len(t.Rows))
	for i, cells := range t.Rows {
		r, err := c.result(rowOf{cells, places}, now)
		if err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", c.spec.file, i+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (c *Own) result(row rowOf, now time.Time) (posture.Result, error) {
	s := &c.spec.Row
	r := posture.Result{Subject: finding.Subject{Field: s.Subject.Field, Value: row.text(s.Subject.Column)}, Since: today(now),
		Status: posture.Status(s.Status), Value: row.fill(s.Value), Query: c.spec.Query}
	if s.Network != "" {
		r.Subject.Network = row.text(s.Network)
	}
	if column, ok := strings.CutPrefix(s.Status, "column "); ok {
		r.Status = posture.Status(row.text(column))
		if !validStatus(string(r.Status)) {
			return r, fmt.Errorf("column %s is %q; a status is pass, unknown, warn or fail", column, r.Status)
		}
	}
	if r.Status != posture.Pass {
		r.Severity, r.Stage = c.spec.severity, string(r.Status)
		r.Summary, r.Resolution = s.Summary.words(), c.spec.Resolution
		for _, column := range s.Summary.columns() {
			r.Facts = append(r.Facts, finding.Pair{Field: column, Value: row.text(column)})
		}
		// What people read at once; a renderer shows the cells as literal text.
		r.Value = orElse(r.Value, row.fill(s.Summary))
	}
	return r, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// rowOf is one row of an answer, by column.
type rowOf struct {
	cells  []any
	places map[string]int
}

// text is a cell in words, in UTC and with two decimals at most.
func (r rowOf) text(column string) string {
	i, ok := r.places[column]
	if !ok || r.cells[i] == nil {
		return ""
	}
	switch v := r.cells[i].(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', decimals(v), 64)
	case float32:
		return strconv.FormatFloat(float64(v), 'f', decimals(float64(v)), 64)
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	default:
		s := []rune(strings.ToValidUTF8(fmt.Sprint(v), "\uFFFD"))
		if len(s) > maxCell {
			return string(s[:maxCell-1]) + "…"
		}
		return string(s)
	}
}

// decimals is two, or none for a whole number.
func decimals(v float64) int {
	if v == float64(int64(v)) {
		return 0
	}
	return 2
}

// fill puts cells into a template.
func (r rowOf) fill(t template) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.column == "" {
			b.WriteString(p.text)
			continue
		}
		b.WriteString(r.text(p.column))
	}
	return b.String()
}

// template is text with {column} in it.
type template struct{ parts []part }

type part struct{ text, column string }

// parseTemplate reads a template over the columns; {{ and }} stand for the signs.
func parseTemplate(s string, known map[string]string) (template, error) {
	var t template
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			t.parts = append(t.parts, part{text: s})
			break
		}
		if i > 0 {
			t.parts = append(t.parts, part{text: s[:i]})
		}
		if len(s) > i+1 && s[i+1] == s[i] {
			t.parts = append(t.parts, part{text: s[i : i+1]})
			s = s[i+2:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if s[i] == '}' || end < 0 {
			return t, fmt.Errorf("a brace is not closed, or not opened; write {column}, or {{ and }} for the signs")
		}
		column := s[i+1 : i+end]
		if _, ok := known[column]; !ok {
			return t, fmt.Errorf("%q is none of the columns that the file declares", column)
		}
		t.parts = append(t.parts, part{column: column})
		s = s[i+end+1:]
	}
	return t, nil
}

// words is the template as a sentence of the product: cells are facts beside it.
func (t template) words() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.column != "" {
			b.WriteString("(" + p.column + ")")
			continue
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// columns are the columns in the template, each once.
func (t template) columns() []string {
	var out []string
	seen := map[string]bool{}
	for _, p := range t.parts {
		if p.column != "" && !seen[p.column] {
			seen[p.column] = true
			out = append(out, p.column)
		}
	}
	return out
}
