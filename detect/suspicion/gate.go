package suspicion

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Assessment is what the findings about a key add up to at one instant.
type Assessment struct {
	At          event.Instant `json:"at"`
	Prior       float64       `json:"prior"`       // log-odds without any finding
	LogOdds     float64       `json:"log_odds"`    // natural-log units
	Probability float64       `json:"probability"` // that the key is in other hands, 0 to 1
	// Contributions are one per family and rule, the largest first.
	Contributions []Contribution `json:"contributions"`
	Gate          Gate           `json:"gate"`
}

// Contribution is what one rule adds.
type Contribution struct {
	RuleID    string       `json:"rule_id"`
	RuleTitle string       `json:"rule_title"`
	Family    string       `json:"family,omitempty"`
	Fact      finding.Fact `json:"fact,omitempty"`
	Weight    float64      `json:"weight"` // of one fresh finding
	Adds      float64      `json:"adds"`   // all of them, with their age
	Findings  uint64       `json:"findings"`
	// FindingID, Last, AgeSeconds and Event are of the newest finding; Event is the
	// last event of its evidence.
	FindingID  string        `json:"finding_id"`
	Last       event.Instant `json:"last"`
	AgeSeconds float64       `json:"age_seconds"`
	Event      *event.Ref    `json:"event,omitempty"`
	Note       string        `json:"note,omitempty"` // why it adds nothing
}

// Gate says whether the evidence suffices to propose a rotation.
type Gate struct {
	Met bool `json:"met"`
	// Because says on what it is met, Lacks what is missing.
	Because string `json:"because,omitempty"`
	Lacks   string `json:"lacks,omitempty"`
	// Findings are the ids of those that it is met on.
	Findings []string `json:"findings,omitempty"`
}

// candidate is a finding that is strong enough for the gate.
type candidate struct {
	s   *source
	sig *signal
}

// gate looks for a fact, and then for two independent signals.
func (a *Account) gate(at event.Instant, logOdds float64) Gate {
	for _, s := range a.sources {
		if because := factWords[s.fact]; because != "" {
			return Gate{Met: true, Because: because, Findings: []string{s.signals[len(s.signals)-1].id}}
		}
	}
	strong, faded := a.candidates(at)
	shared := [2]string{}
	for i, x := range strong {
		for _, y := range strong[i+1:] {
			switch {
			case x.s.family == y.s.family:
			case apart(x.sig.refs, y.sig.refs) && logOdds < Even:
				return Gate{Lacks: fmt.Sprintf("more weight: the signals of %s and %s are independent, and with all others make it no more than %s likely",
					x.s.family, y.s.family, Percent(probability(logOdds))) + facts}
			case apart(x.sig.refs, y.sig.refs):
				return Gate{Met: true, Findings: []string{x.sig.id, y.sig.id},
					Because: fmt.Sprintf("two independent signals: %s (%s) and %s (%s)", x.s.family, x.s.title, y.s.family, y.s.title)}
			case shared[0] == "":
				shared = [2]string{x.s.family, y.s.family}
			}
		}
	}
	return Gate{Lacks: lacks(strong, faded, shared, at)}
}

func probability(logOdds float64) float64 { return 1 / (1 + math.Exp(-logOdds)) }

var factWords = map[finding.Fact]string{
	finding.ValueSeen:    "the value of the live key was found in an event, which nobody outside can cause",
	finding.PersonReport: "a person reported the leak",
}

// candidates are the findings with enough weight left, the strongest first, and the
// one that faded last, if any did.
func (a *Account) candidates(at event.Instant) (strong []candidate, faded *candidate) {
	for _, s := range a.sources {
		if s.family == "" || s.refused {
			continue
		}
		for i := range s.signals {
			c := candidate{s, &s.signals[i]}
			switch {
			case s.left(c.sig, at) >= MinSignal:
				strong = append(strong, c)
			case s.weight >= MinSignal && (faded == nil || c.sig.at > faded.sig.at):
				faded = &c
			}
		}
	}
	slices.SortStableFunc(strong, func(x, y candidate) int {
		return cmp.Or(-cmp.Compare(x.s.left(x.sig, at), y.s.left(y.sig, at)), cmp.Compare(x.sig.id, y.sig.id))
	})
	return strong, faded
}

// apart reports whether two findings do not rest on the same events: one of them
// rests on an event that the other does not have, as far as their evidence shows. A
// finding without evidence cannot be told apart from another.
func apart(a, b []event.Ref) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	lacks := func(a, b []event.Ref) bool {
		return slices.ContainsFunc(a, func(r event.Ref) bool { return !slices.Contains(b, r) })
	}
	return lacks(a, b) || lacks(b, a)
}

const facts = "; or the live key's value found in an event, or a person's report"

// lacks says what the gate waits for.
func lacks(strong []candidate, faded *candidate, shared [2]string, at event.Instant) string {
	tail := ""
	if faded != nil {
		tail = fmt.Sprintf(" (%s, %s old, has faded)", faded.s.title, Age(max(at.Sub(faded.sig.at), 0)))
	}
	switch {
	case len(strong) == 0:
		return "two signals of different families" + tail + facts
	case shared[0] != "":
		return fmt.Sprintf("a signal from other events: those of %s and %s rest on the same", shared[0], shared[1]) + tail + facts
	}
	return fmt.Sprintf("a signal of another family than %s", strong[0].s.family) + tail + facts
}

// Words says in one sentence how likely it is, and of what that is the sum.
func (a Assessment) Words() string {
	parts := []string{fmt.Sprintf("%.1f to begin with", a.Prior)}
	for i := range a.Contributions {
		if c := &a.Contributions[i]; c.Adds > 0 {
			parts = append(parts, fmt.Sprintf("%+.1f %s", c.Adds, c.name()))
		}
	}
	return fmt.Sprintf("%s likely that the key is in other hands; log-odds %.1f = %s", Percent(a.Probability), a.LogOdds, strings.Join(parts, ", "))
}

func (c Contribution) name() string { return cmp.Or(string(c.Fact), c.Family, "other") }

// Words says what one rule adds, and why.
func (c Contribution) Words() string {
	times := "1 finding"
	if c.Findings != 1 {
		times = fmt.Sprintf("%d findings", c.Findings)
	}
	line := fmt.Sprintf("%+.1f %s: %s (%s of weight %.1f, last %s ago", c.Adds, strings.ReplaceAll(c.name(), "_", " "), c.RuleTitle, times, c.Weight,
		Age(time.Duration(c.AgeSeconds*float64(time.Second))))
	if c.Event != nil {
		line += fmt.Sprintf(", event %s/%d@%d", c.Event.Topic, c.Event.Partition, c.Event.Offset)
	}
	line += ")"
	if c.Note != "" {
		line += ": " + c.Note
	}
	return line
}

// Words says whether a rotation is proposed, and why or why not.
func (g Gate) Words() string {
	if g.Met {
		return "suffices to propose a rotation: " + g.Because
	}
	return "does not suffice to propose a rotation yet; it lacks " + g.Lacks
}

// Percent writes a probability so that neither end is rounded to certainty.
func Percent(p float64) string {
	switch {
	case p < 0.001:
		return "less than 0.1 %"
	case p > 0.999:
		return "more than 99.9 %"
	}
	return fmt.Sprintf("%.1f %%", 100*p)
}

// Age writes a duration in its largest unit.
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
