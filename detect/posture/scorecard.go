package posture

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
)

// Scorecard is the state of every check.
type Scorecard struct {
	At   time.Time `json:"at"`
	Rows []Row     `json:"rows"`
	// Coverage is what is held of the last CoverageSpan; CoverageError says why that
	// is not known.
	Coverage      Held   `json:"coverage,omitzero"`
	CoverageError string `json:"coverage_error,omitempty"`
	// Notes are what no check judges.
	Notes []Note `json:"notes,omitempty"`
}

// Row is one check of a scorecard.
type Row struct {
	Check   string   `json:"check"`
	Title   string   `json:"title"`
	Target  string   `json:"target"`
	Status  Status   `json:"status"`
	Detail  string   `json:"detail"`
	Results []Result `json:"results,omitempty"`
}

// order is from good to bad.
var order = []Status{Pass, Unknown, Warn, Fail}

// sum sets status and detail from the results: the worst counts, and a pass over
// data that is not all there is unknown.
func (row *Row) sum(held Held, err error) {
	if len(row.Results) == 0 {
		row.Status, row.Detail = Unknown, "nothing is known to judge"
		return
	}
	row.Status = Pass
	count := map[Status]int{}
	for _, r := range row.Results {
		count[r.Status]++
		if slices.Index(order, r.Status) > slices.Index(order, row.Status) {
			row.Status = r.Status
		}
	}
	for _, s := range slices.Backward(order) {
		if n := count[s]; n > 0 {
			row.Detail += strconv.Itoa(n) + " " + string(s) + ", "
		}
	}
	row.Detail = row.Detail[:len(row.Detail)-2]
	var networks []string
	for _, r := range row.Results {
		networks = append(networks, r.Subject.Network)
	}
	missing := held.missing(networks)
	if err != nil {
		missing = []string{"coverage of the data is not known: " + err.Error()}
	}
	if len(missing) == 0 {
		return
	}
	row.Detail += "; " + strings.Join(missing, "; ")
	if row.Status == Pass {
		row.Status = Unknown
	}
}

// Status is that of the worst row; a card without rows is unknown.
func (s Scorecard) Status() Status {
	if len(s.Rows) == 0 {
		return Unknown
	}
	worst := Pass
	for _, r := range s.Rows {
		if slices.Index(order, r.Status) > slices.Index(order, worst) {
			worst = r.Status
		}
	}
	return worst
}

// WriteText prints the scorecard for people: one line per check, and one per
// subject that does not pass.
func (s Scorecard) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Posture at %s\n\nSTATUS\tMETRIC\tTARGET\tDETAIL\n", s.At.Format("2006-01-02 15:04 UTC"))
	for _, r := range s.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Status, r.Title, r.Target, plain(r.Detail))
		for _, x := range r.Results {
			if x.Status != Pass {
				fmt.Fprintf(t, "\t  %s\t%s\t%s\n", plain(subject(x.Subject)), x.Status, plain(x.Value+": "+x.Summary))
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return s.writeCoverage(w)
}

// writeCoverage prints what is held of the data that was judged.
func (s Scorecard) writeCoverage(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nCoverage of the last %.0f hours\n\n", CoverageSpan.Hours())
	switch {
	case s.CoverageError != "":
		fmt.Fprintf(&b, "not known: %s\n", plain(s.CoverageError))
	case len(s.Coverage.Networks) == 0:
		b.WriteString("not measured: no host numbers its events\n")
	}
	for _, n := range s.Coverage.Networks {
		fmt.Fprintf(&b, "network %s: %s\n", plain(n.Network), plain(n.String()))
	}
	for _, l := range s.Coverage.Lost {
		fmt.Fprintf(&b, "not stored: %s\n", plain(l))
	}
	s.Coverage.writeBlind(&b)
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "\n%s\n\n", plain(n.Title))
		for _, v := range n.Values {
			fmt.Fprintf(&b, "%s\n", plain(v))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeBlind prints what the rules cannot see: nothing found there is no all-clear.
func (h Held) writeBlind(b *strings.Builder) {
	if h.BlindError != "" {
		fmt.Fprintf(b, "blind rules: not known: %s\n", plain(h.BlindError))
	}
	for _, n := range h.Blind {
		fmt.Fprintf(b, "network %s: %d rules are blind\n", plain(n.Network), len(n.Rules))
		for _, r := range n.Rules {
			fmt.Fprintf(b, "  %s\n", plain(r))
		}
	}
}

// subject names what a result is about.
func subject(s finding.Subject) string {
	if s.Network == "" {
		return s.Field + " " + s.Value
	}
	return s.Field + " " + s.Value + " of network " + s.Network
}

// plain keeps control characters of untrusted text from the terminal.
func plain(s string) string {
	q := strconv.QuoteToGraphic(s)
	return q[1 : len(q)-1]
}

// WriteJSON prints the scorecard as one JSON object.
func (s Scorecard) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Scorecard
		Status Status `json:"status"`
	}{s, s.Status()})
}
