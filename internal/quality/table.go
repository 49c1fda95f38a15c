package quality

import (
	"fmt"
	"io"
	"strings"
)

// WriteTable writes the lines as a page of the reference. command is what made
// them.
func WriteTable(w io.Writer, command string, lines []Line) error {
	var b strings.Builder
	b.WriteString(tableHead)
	fmt.Fprintf(&b, "Made by\n\n    %s\n", command)
	fmt.Fprintf(&b, "\n## The bars\n\n| figure | bar |%s\n|---|---|%s\n", heads(lines), strings.Repeat("---|", len(lines)))
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |", r.title, r.bar)
		for i := range lines {
			fmt.Fprintf(&b, " %s |", r.cell(&lines[i]))
		}
		b.WriteByte('\n')
	}
	for i := range lines {
		lines[i].writeDetails(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const tableHead = `# Quality

What Keysentry tells people, compared with what was true, on simulated networks: the production code from the record to the incident, in the simulation's time. [Package quality](../../internal/quality/doc.go) says what is played and what is left out; [the simulator](simulator.md) says what ordinary life and the attacks are made of. Two visibilities are played: **platform** has all events, **backend** only those that backends and clients of one's own write. An attack that leaves no event there is blind; it counts as missed in the recall.

`

func heads(lines []Line) string {
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, " %s |", lines[i].Visibility)
	}
	return b.String()
}

// rows are the rows of the first table.
var rows = []struct {
	title, bar string
	cell       func(l *Line) string
}{
	{"seeds", "", func(l *Line) string { return l.Seeds }},
	{"days, events", "", func(l *Line) string { return fmt.Sprintf("%.0f, %d", l.Days, l.Events) }},
	{"attacks", "", func(l *Line) string { return fmt.Sprint(l.Incidents) }},
	{"caught: the right incident pages within 60 s", "all that are visible", func(l *Line) string { return fmt.Sprint(l.Caught) }},
	{"blind: no event is visible", "0 with platform events", func(l *Line) string { return fmt.Sprint(l.Blind) }},
	{"recall, blind ones counted", "", func(l *Line) string { return percent(l.Recall) }},
	{"time to the page, median and longest", "60 s", func(l *Line) string { return fmt.Sprintf("%.1f s, %.1f s", l.TTDP50, l.TTDMax) }},
	{"false pages a week", "1", func(l *Line) string { return fmt.Sprint(l.FalsePages) }},
	{"tickets a day", "3", func(l *Line) string { return fmt.Sprint(l.Tickets) }},
	{"pages on a day of rotation or sweep", "0", func(l *Line) string { return fmt.Sprint(l.RotationDayPages) }},
	{"causes told rightly", "98 %", func(l *Line) string { return percent(l.Attribution) }},
	{"least recall of a cause with 50 cases", "95 %", func(l *Line) string { return percent(l.RecallMin) }},
	{"least precision of a cause with 50 cases", "95 %", func(l *Line) string { return percent(l.PrecisionMin) }},
	{"attacks laid to a clock", "0", func(l *Line) string { return fmt.Sprint(l.ClockSkew) }},
	{"thefts, rotation proposed within 5 min", "all", func(l *Line) string { return fmt.Sprintf("%d, %d", l.Thefts, l.Proposed) }},
	{"benign days, rotation proposed", "0 proposed", func(l *Line) string { return fmt.Sprintf("%d, %d", l.BenignDays, l.BenignProposed) }},
	{"bars not met", "none", func(l *Line) string {
		if len(l.Failed) == 0 {
			return "none"
		}
		return strings.Join(l.Failed, "; ")
	}},
}

func percent(x float64) string { return fmt.Sprintf("%.2f %%", 100*x) }

// maxListed bounds the misses that the page lists.
const maxListed = 60

func (l *Line) writeDetails(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s: causes\n\n| cause | cases | told | recall | precision | taken for instead |\n|---|---|---|---|---|---|\n", l.Visibility)
	for _, c := range l.Causes {
		fmt.Fprintf(b, "| `%s` | %d | %d | %s | %s | %s |\n", c.Cause, c.Cases, c.Told, percent(c.Recall), percent(c.Precision), c.wrong())
	}
	fmt.Fprintf(b, "\n## %s: missed\n\n", l.Visibility)
	if len(l.Missed) == 0 {
		b.WriteString("Nothing.\n")
	}
	for i, m := range l.Missed {
		if i == maxListed {
			fmt.Fprintf(b, "- and %d more\n", len(l.Missed)-i)
			break
		}
		fmt.Fprintf(b, "- seed %d, %s: %s\n", m.Seed, m.Scenario, m.Why)
	}
	fmt.Fprintf(b, "\n## %s: who asked for attention without an attack\n\n", l.Visibility)
	if len(l.Noise) == 0 {
		b.WriteString("Nobody.\n")
	}
	for _, n := range l.Noise {
		fmt.Fprintf(b, "- %d x %s\n", n.Count, n.What)
	}
}

// wrong lists what a cause was taken for, most often first.
func (c *CauseScore) wrong() string {
	names := sortedByCount(c.For)
	for i, n := range names {
		names[i] = fmt.Sprintf("`%s` %d", n, c.For[n])
	}
	return strings.Join(names, ", ")
}
