package quality

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/simulate"
)

// proposeWithin is how soon after the first hostile event a rotation has to be
// proposed.
const proposeWithin = 5 * time.Minute

// caughtWithin is how soon a person has to be woken.
const caughtWithin = 60 * time.Second

// play is one network in one visibility, and what became of it.
type play struct {
	seed  uint64
	vis   simulate.Visibility
	opt   simulate.Options
	w     *world
	trace io.Writer

	labels  []simulate.Label
	hostile map[event.Ref]int      // attack by the place of a hostile event
	first   map[int]event.Instant  // when an attack's first event arrived
	spans   map[string][]span      // when each look-alike was seen, by name
	matrix  map[[2]event.Cause]int // true and decided cause of refused events
	events  uint64                 // in all
	skew    int                    // refused hostile events that were laid to a clock
	cases   map[string]*cases      // by incident
	pages   []alarm                // in order
	tickets []alarm
	plans   []alarm // proposals of a rotation
	woken   []wake
	// activity holds a time of each hour in which a hostile event arrived.
	activity []event.Instant
}

// wake is the moment at which an incident that somebody was woken for first held an
// event of an attack.
type wake struct {
	at      event.Instant
	attack  int
	kind    finding.Kind
	subject finding.Subject
}

// span is a time in which a look-alike was seen, with pauses of less than a day.
type span struct{ from, to event.Instant }

// cases is what is known of one incident.
type cases struct {
	severity   finding.Severity
	generation int
	proposed   bool         // in this generation
	woken      map[int]bool // attacks whose events it held while it was a page
}

// alarm is one call for a person's attention.
type alarm struct {
	at       event.Instant
	incident string
	kind     finding.Kind
	subject  finding.Subject
	rule     string
	attacks  []int // whose events the evidence held
}

func newPlay(opt simulate.Options, vis simulate.Visibility) (*play, error) {
	p := &play{seed: opt.Seed, vis: vis, opt: opt, hostile: map[event.Ref]int{}, first: map[int]event.Instant{},
		spans: map[string][]span{}, matrix: map[[2]event.Cause]int{}, cases: map[string]*cases{}}
	p.opt.Visibility = vis
	net, err := simulate.Describe(p.opt)
	if err != nil {
		return nil, err
	}
	if p.w, err = newWorld(net, event.At(opt.Start)); err != nil {
		return nil, err
	}
	p.w.heard = p.heard
	return p, nil
}

// run plays the whole time.
func (p *play) run(ctx context.Context) error {
	next := event.At(p.opt.Start) + second
	err := simulate.Generate(p.opt, func(e *event.Event, t simulate.Truth) error {
		for e.ObservedAt >= next {
			if err := p.second(ctx, next); err != nil {
				return err
			}
			next += second
		}
		p.events++
		p.look(e, t)
		return p.w.arrive(e, t)
	}, func(l simulate.Label) error {
		p.labels = append(p.labels, l)
		return nil
	})
	if err != nil {
		return err
	}
	for end := event.At(p.opt.Start.Add(p.opt.Duration)).Add(time.Minute); next < end; next += second {
		if err := p.second(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// look notes what the generator knows of an event.
func (p *play) look(e *event.Event, t simulate.Truth) {
	if t.LookAlike == "" {
		return
	}
	list := p.spans[t.LookAlike]
	if n := len(list); n > 0 && e.ObservedAt.Sub(list[n-1].to) < 24*time.Hour {
		list[n-1].to = e.ObservedAt
		return
	}
	p.spans[t.LookAlike] = append(list, span{e.ObservedAt, e.ObservedAt})
}

// second lets one second pass and looks at what it changed.
func (p *play) second(ctx context.Context, now event.Instant) error {
	if err := p.w.step(now); err != nil {
		return err
	}
	if now%(60*second) == 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.w.attend(p.verdict); err != nil {
			return err
		}
	}
	for id := range p.w.changed {
		if inc, ok := p.w.manager.Incident(id); ok {
			p.follow(&inc, now)
		}
	}
	clear(p.w.changed)
	return nil
}

// heard compares the engine's causes with the true ones.
func (p *play) heard(in *input, events []event.Event) {
	for i := range events {
		e := &events[i]
		t := in.truths[e.Ref.Offset-in.firstOffset()]
		if t.Attack >= 0 {
			if _, ok := p.first[t.Attack]; !ok {
				p.first[t.Attack] = e.ObservedAt
			}
			ref := e.Ref
			ref.Topic = in.id.Topic // the event's own memory is lent
			p.hostile[ref] = t.Attack
			if n := len(p.activity); n == 0 || e.ObservedAt.Sub(p.activity[n-1]) > time.Hour {
				p.activity = append(p.activity, e.ObservedAt)
			}
		}
		if !e.Refused() || t.Cause == event.CauseNone {
			continue
		}
		p.matrix[[2]event.Cause{t.Cause, e.Cause}]++
		if t.Attack >= 0 && e.Cause == event.CauseClockSkew {
			p.skew++
		}
	}
}

// firstOffset is that of the first record that waits.
func (in *input) firstOffset() int64 { return in.fetched.Next - int64(len(in.ends)) }

// follow looks at an incident that changed: whose evidence it holds, whether it
// calls for attention that it did not call for before, whether it has a plan.
func (p *play) follow(inc *incident.Incident, now event.Instant) {
	c := p.cases[inc.ID]
	fresh := c == nil || c.generation != inc.Generation
	if fresh {
		c = &cases{generation: inc.Generation, woken: map[int]bool{}}
		p.cases[inc.ID] = c
	}
	held := p.attacksOf(inc.ID)
	a := alarm{at: now, incident: inc.ID, kind: inc.Kind, subject: inc.Subject, rule: p.w.newest[inc.ID], attacks: held}
	if inc.State.Active() {
		if inc.Severity == finding.Page {
			for _, k := range held {
				if !c.woken[k] {
					c.woken[k] = true
					p.woken = append(p.woken, wake{now, k, inc.Kind, inc.Subject})
				}
			}
		}
		switch {
		case inc.Severity == finding.Page && (fresh || c.severity < finding.Page):
			p.pages = append(p.pages, a)
			p.tell("page", a)
		case inc.Severity == finding.Ticket && (fresh || c.severity < finding.Ticket):
			p.tickets = append(p.tickets, a)
			p.tell("ticket", a)
		}
		if !c.proposed && p.w.proposes(inc) {
			c.proposed = true
			p.plans = append(p.plans, a)
			p.tell("rotation proposed", a)
		}
	}
	c.severity = inc.Severity
}

// tell writes an alarm to the trace.
func (p *play) tell(what string, a alarm) {
	if p.trace == nil {
		return
	}
	text := "ordinary life"
	if len(a.attacks) > 0 {
		text = fmt.Sprintf("attacks %v", a.attacks)
	}
	fmt.Fprintf(p.trace, "%s: %s %s: %s of %s %s: %s (%s)\n", p, a.at, what, a.kind, a.subject.Field, a.subject.Value, a.rule, text)
}

// attacksOf lists the attacks whose events the incident's evidence holds, since it
// was opened or reopened last.
func (p *play) attacksOf(incidentID string) []int {
	var out []int
	for _, ref := range p.w.evidence[incidentID] {
		if k, ok := p.hostile[ref]; ok && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// verdict is what the person on call finds out.
func (p *play) verdict(incidentID string) string {
	if len(p.attacksOf(incidentID)) > 0 {
		return "true"
	}
	return "benign"
}

func (p *play) String() string { return fmt.Sprintf("seed %d, %s", p.seed, p.vis) }
