// Package suspicion adds findings up to how likely it is that a server key is in
// other hands, and says whether that suffices to propose a rotation. It is pure:
// an account and an instant give the same assessment always, and an account is a
// function of the findings that were added, so it survives a restart by the
// journal.
//
// # The sum
//
// log-odds = Prior + sum over (family, rule) of what the rule's findings add
//
// A finding adds its weight, halved for every HalfLife of its age. Of several of
// one rule the strongest counts whole, the next half, then a quarter: a rule that
// repeats itself says little more than it said before. The probability is
// 1/(1+exp(-log-odds)). Weights are likelihood ratios in natural-log units, so that
// adding is Bayes' rule for signals that are independent given the truth.
//
// # The gate
//
// A rotation is proposed on two independent signals, or on one fact that nobody
// outside can cause. Signals are independent when they come from different families
// and do not rest on the same events: what many mints show besides the first is not
// what the first shows. A signal is a finding of which at least MinSignal is left: a
// finding that rests on refused requests has no weight and is none. Two signals of
// rules that say little (a busy hour, a new endpoint) come together on any good day,
// so the sum of all has to make a theft as likely as not, too.
package suspicion

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

const (
	// Prior is the log-odds without any signal. It is a convention and no measurement:
	// with it one signal of an ordinary weight (3) leaves a theft unlikely (27 %), and
	// two make it likely (88 %).
	Prior = -4.0
	// HalfLife is the time in which a signal loses half of its weight.
	HalfLife = 24 * time.Hour
	// MinSignal is the least weight with which a finding counts for the gate.
	MinSignal = 0.5
	// Even is the log-odds that the sum must reach for the gate: as likely as not.
	Even = 0.0
	// MaxWeight bounds the weight of one finding, whatever its rule says.
	MaxWeight = 8.0
	// FactWeight is what a fact adds; it does not fade.
	FactWeight = 12.0
)

// Bounds of an account.
const (
	maxSources = 32 // pairs of family and rule
	maxRepeats = 4  // findings of one of them; what a fifth would add is a sixteenth
)

// signal is one finding of a source.
type signal struct {
	id   string
	at   event.Instant // effective time of its last event when it fired
	refs []event.Ref
}

// source is one rule in one family.
type source struct {
	family, rule, title string
	fact                finding.Fact
	weight              float64
	refused             bool // the findings rest on refused requests alone
	count               uint64
	signals             []signal // newest last
}

// Account holds the findings about one key. The zero value is empty.
type Account struct {
	sources []*source
	newest  event.Instant
}

// Add takes a finding in. One that says nothing of risk is passed over.
func (a *Account) Add(f *finding.Finding) {
	if f.Risk == nil {
		return
	}
	a.newest = max(a.newest, f.Fired, f.Last)
	s := a.source(f)
	s.count++
	s.title, s.fact = f.RuleTitle, ""
	if factWords[f.Risk.Fact] != "" {
		s.fact = f.Risk.Fact
	}
	s.weight = weightOf(f.Risk.Score, s.fact)
	sig := signal{id: f.ID, at: max(f.Last, f.First)}
	for i := range f.Evidence {
		sig.refs = append(sig.refs, f.Evidence[i].Ref)
	}
	k, _ := slices.BinarySearchFunc(s.signals, sig, func(x, y signal) int { return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.id, y.id)) })
	s.signals = slices.Insert(s.signals, k, sig)
	if len(s.signals) > maxRepeats {
		s.signals = slices.Delete(s.signals, 0, 1)
	}
	a.bound()
}

// source finds the finding's own, or makes it. What rests on refused requests is
// kept apart from what does not, so that neither speaks for the other.
func (a *Account) source(f *finding.Finding) *source {
	refused := RefusedOnly(f.Evidence)
	for _, s := range a.sources {
		if s.rule == f.RuleID && s.family == f.Risk.Family && s.refused == refused {
			return s
		}
	}
	s := &source{family: f.Risk.Family, rule: f.RuleID, refused: refused}
	a.sources = append(a.sources, s)
	return s
}

// bound drops the source that adds least, when there are too many.
func (a *Account) bound() {
	if len(a.sources) <= maxSources {
		return
	}
	least := 0
	for i, s := range a.sources {
		if s.adds(a.newest) < a.sources[least].adds(a.newest) {
			least = i
		}
	}
	a.sources = slices.Delete(a.sources, least, least+1)
}

// Newest is the effective time of the newest finding; 0 without any.
func (a *Account) Newest() event.Instant { return a.newest }

// Empty reports whether no finding was added.
func (a *Account) Empty() bool { return len(a.sources) == 0 }

// RefusedOnly reports whether all events that are known of a finding were refused.
// Of events that are no longer known nothing is claimed.
func RefusedOnly(ev []finding.Evidence) bool {
	known := 0
	for i := range ev {
		switch {
		case ev[i].Type == 0:
		case ev[i].Type.Refusal():
			known++
		default:
			return false
		}
	}
	return known > 0
}

func weightOf(score float64, fact finding.Fact) float64 {
	switch {
	case fact != "":
		return FactWeight
	case math.IsNaN(score):
		return 0
	}
	return min(max(score, 0), MaxWeight)
}

// left is what an age leaves of a weight.
func (s *source) left(sig *signal, at event.Instant) float64 {
	if s.refused && s.fact == "" {
		return 0
	}
	if s.fact != "" {
		return s.weight
	}
	age := max(at.Sub(sig.at), 0)
	return s.weight * math.Exp2(-float64(age)/float64(HalfLife))
}

// adds is what the source adds to the log-odds at an instant. The newest finding is
// the strongest, since all of a rule have one weight.
func (s *source) adds(at event.Instant) float64 {
	sum, share := 0.0, 1.0
	for i := len(s.signals) - 1; i >= 0; i-- {
		sum += share * s.left(&s.signals[i], at)
		share /= 2
		if s.fact != "" {
			break // a fact is not truer for being told twice
		}
	}
	return sum
}

// Assess says what the account adds up to at an instant.
func (a *Account) Assess(at event.Instant) Assessment {
	out := Assessment{At: at, Prior: Prior, LogOdds: Prior}
	for _, s := range a.sources {
		out.Contributions = append(out.Contributions, s.contribution(at))
	}
	slices.SortStableFunc(out.Contributions, func(x, y Contribution) int {
		return cmp.Or(-cmp.Compare(x.Adds, y.Adds), cmp.Compare(x.Family, y.Family), cmp.Compare(x.RuleID, y.RuleID))
	})
	for i := range out.Contributions {
		out.LogOdds += out.Contributions[i].Adds
	}
	out.Probability = probability(out.LogOdds)
	out.Gate = a.gate(at, out.LogOdds)
	return out
}

func (s *source) contribution(at event.Instant) Contribution {
	last := s.signals[len(s.signals)-1]
	c := Contribution{RuleID: s.rule, RuleTitle: s.title, Family: s.family, Fact: s.fact, Weight: s.weight, Findings: s.count,
		FindingID: last.id, Last: last.at, AgeSeconds: max(at.Sub(last.at), 0).Seconds(), Adds: s.adds(at)}
	if len(last.refs) > 0 {
		ref := last.refs[len(last.refs)-1]
		c.Event = &ref
	}
	switch {
	case s.refused && s.fact == "":
		c.Note = "rests on refused requests alone, which show only what the caller lacks"
	case s.weight == 0:
		c.Note = "its rule gives it no weight"
	}
	return c
}
