package quality

import (
	"fmt"
	"slices"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/simulate"
)

// tally adds plays of one visibility up.
type tally struct {
	vis    simulate.Visibility
	seeds  []uint64
	events uint64
	days   float64

	attacks, caught, blind int
	delays                 []time.Duration // of the caught
	falsePages, tickets    int
	calendarPages          int // false ones on the day of a rotation or of a sweep
	matrix                 map[[2]event.Cause]int
	skew                   int
	thefts, proposed       int
	benignDays             int
	benignProposed         int
	missed                 []Miss
	noise                  map[string]int // false pages and tickets by severity and rule
}

// Miss is an attack that nobody was woken for in time.
type Miss struct {
	Seed     uint64 `json:"seed"`
	Scenario string `json:"scenario"`
	Why      string `json:"why"`
}

func newTally(vis simulate.Visibility) *tally {
	return &tally{vis: vis, matrix: map[[2]event.Cause]int{}, noise: map[string]int{}}
}

// calendar are the look-alikes on whose day nobody may be woken.
var calendar = []string{simulate.LookAlikeRotation, simulate.LookAlikeSweep}

// add takes one play in.
func (t *tally) add(p *play) {
	t.seeds = append(t.seeds, p.seed)
	t.events += p.events
	t.days += p.opt.Duration.Hours() / 24
	t.skew += p.skew
	for k, n := range p.matrix {
		t.matrix[k] += n
	}
	for i := range p.labels {
		if p.labels[i].Kind != "none" {
			t.attack(p, &p.labels[i])
		}
	}
	for _, a := range p.pages {
		if len(a.attacks) > 0 {
			continue
		}
		t.falsePages++
		t.noise["page: "+a.rule]++
		if p.onCalendar(a.at) {
			t.calendarPages++
		}
	}
	t.tickets += len(p.tickets)
	for _, a := range p.tickets {
		if len(a.attacks) == 0 {
			t.noise["ticket: "+a.rule]++
		}
	}
	t.benign(p)
}

// attack judges whether one attack was caught, and its rotation proposed.
func (t *tally) attack(p *play, l *simulate.Label) {
	t.attacks++
	first, seen := p.first[l.Index]
	at, caught := p.caught(l)
	switch {
	case l.Hostile == 0:
		t.blind++
		t.miss(p, l, "blind: no event of it is visible")
	case !caught:
		t.miss(p, l, p.instead(l))
	case at.Sub(l.First) > caughtWithin:
		t.miss(p, l, fmt.Sprintf("a person was woken only %s after the first hostile event", at.Sub(l.First).Round(time.Second)))
	default:
		t.caught++
		t.delays = append(t.delays, at.Sub(min(first, l.First)))
	}
	if !l.Theft || !seen {
		return
	}
	t.thefts++
	if slices.ContainsFunc(p.plans, func(a alarm) bool {
		return slices.Contains(a.attacks, l.Index) && a.subject.Field == l.Field && a.subject.Value == l.Value && a.at.Sub(l.First) <= proposeWithin
	}) {
		t.proposed++
	} else {
		t.miss(p, l, "no rotation was proposed within "+proposeWithin.String())
	}
}

func (t *tally) miss(p *play, l *simulate.Label, why string) {
	t.missed = append(t.missed, Miss{Seed: p.seed, Scenario: l.Scenario, Why: why})
}

// caught is when a person knew: when an incident of the right kind and subject was
// of page severity and its evidence held a hostile event.
func (p *play) caught(l *simulate.Label) (at event.Instant, ok bool) {
	for _, w := range p.woken {
		if w.attack == l.Index && string(w.kind) == l.Kind && w.subject.Field == l.Field && w.subject.Value == l.Value && (!ok || w.at < at) {
			at, ok = w.at, true
		}
	}
	return at, ok
}

// instead says what was told of an attack that was not caught.
func (p *play) instead(l *simulate.Label) string {
	for _, w := range p.woken {
		if w.attack == l.Index {
			return fmt.Sprintf("a page, but of kind %s about %s %s", w.kind, w.subject.Field, w.subject.Value)
		}
	}
	for _, a := range p.tickets {
		if slices.Contains(a.attacks, l.Index) {
			return fmt.Sprintf("a ticket only (%s)", a.rule)
		}
	}
	return "nobody was told"
}

// onCalendar reports whether it is the day of a rotation or a sweep.
func (p *play) onCalendar(at event.Instant) bool {
	for _, name := range calendar {
		for _, s := range p.spans[name] {
			if at >= s.from && at < s.to.Add(time.Hour) {
				return true
			}
		}
	}
	return false
}

// benign counts the days without an attack, and those among them on which a
// rotation was proposed all the same.
func (t *tally) benign(p *play) {
	day := func(at event.Instant) int { return int(at.Sub(event.At(p.opt.Start)) / (24 * time.Hour)) }
	hostile, proposed := map[int]bool{}, map[int]bool{}
	for _, at := range p.activity {
		hostile[day(at)] = true
	}
	for _, a := range p.plans {
		if len(a.attacks) == 0 {
			proposed[day(a.at)] = true
		}
	}
	for d := range int(p.opt.Duration.Hours() / 24) {
		if hostile[d] {
			continue
		}
		t.benignDays++
		if proposed[d] {
			t.benignProposed++
		}
	}
}
