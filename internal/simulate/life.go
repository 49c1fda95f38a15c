package simulate

import (
	"slices"
	"time"

	"github.com/keysentry/keysentry/event"
)

// live puts the ordinary things into the run: what goes on all the time, what
// happens on days of its own, and what goes wrong.
func (g *generator) live() {
	g.at(g.start, g.beat())
	if !g.opt.Calendar {
		return
	}
	for d := g.start - g.start%event.Instant(day); d < g.end; d = d.Add(day) {
		g.at(max(d, g.start), g.newDay)
	}
	g.each(6*day, g.moveNAT)
	g.each(7*day, g.moveCarrier)
	g.each(4*day, g.platformHiccup)
	g.each(9*day, g.marketingPeak)
	if g.opt.Duration >= longRun {
		g.at(g.start.Add(g.between(g.opt.Duration/3, g.opt.Duration/2)), func() { g.rotate(overlap, true) })
		g.at(g.start.Add(g.between(g.opt.Duration*11/20, g.opt.Duration*3/4)), g.sweep)
	}
	g.goWrong()
}

// longRun is how long a run must be to have a rotation day and a sweep of
// sessions.
const longRun = 5 * day

// each has do called once in every period, at a moment of chance.
func (g *generator) each(period time.Duration, do func()) {
	for from := g.start; from < g.end; from = from.Add(period) {
		if at := from.Add(g.between(0, period)); at < g.end {
			g.at(at, do)
		}
	}
}

// often has do called so many times a day, at moments of chance.
func (g *generator) often(perDay float64, do func()) {
	var step func()
	gap := func() time.Duration {
		return time.Duration(min(g.rng.ExpFloat64()/perDay, 1e4) * float64(day))
	}
	step = func() {
		do()
		g.after(gap(), step)
	}
	g.after(gap(), step)
}

// beat sends the heartbeats of all hosts, spread over the interval.
func (g *generator) beat() func() {
	step := max(g.opt.Heartbeat/time.Duration(len(g.hosts)), time.Millisecond)
	i := 0
	var next func()
	next = func() {
		h := g.hosts[i]
		i = (i + 1) % len(g.hosts)
		if h.up {
			g.heartbeat(h)
		}
		g.after(step, next)
	}
	return next
}

func (g *generator) heartbeat(h *host) {
	s := g.told(event.TypeHeartbeat, event.OriginBackend, h)
	s.ev.SetString(event.FieldKeyID, h.key.id)
	s.ev.ClockOffset = float64(h.clock.ahead(g.now).Microseconds()+int64(g.rng.IntN(4000)-2000)) / 1e6
	s.ev.ClockError = float64(2+g.rng.IntN(20)) / 1e3
	s.ev.Present = s.ev.Present.Set(event.FieldClockOffset).Set(event.FieldClockError)
	g.ship(h, s)
}

func (g *generator) started(h *host) {
	h.up = true
	s := g.told(event.TypeHostStarted, event.OriginBackend, h)
	s.truth.LookAlike = LookAlikeDeploy
	g.ship(h, s)
}

func (g *generator) stopped(h *host) {
	s := g.told(event.TypeHostStopped, event.OriginBackend, h)
	s.truth.LookAlike = LookAlikeDeploy
	g.ship(h, s)
	h.up = false
}

// newDay plans a day: deploys, pods that are replaced, the administrators, the
// nightly job.
func (g *generator) newDay() {
	midnight := g.now - g.now%event.Instant(day)
	plan := func(from, to time.Duration, do func()) {
		if at := midnight.Add(g.between(from, to)); at >= g.now {
			g.at(at, do)
		}
	}
	wd := weekday(g.now)
	for i := range g.services {
		s := &g.services[i]
		if slices.Contains(s.deploys, wd) {
			plan(9*time.Hour, 15*time.Hour, func() { g.deploy(s) })
		}
	}
	for _, h := range g.hosts {
		if !h.svc.job && g.rng.IntN(80) == 0 { // a pod is moved, or dies
			plan(0, day, func() { g.replace(h, g.rng.IntN(3) > 0) })
		}
	}
	if wd != time.Saturday && wd != time.Sunday {
		for a := range 3 {
			plan(officeFrom*time.Hour, (officeFrom+2)*time.Hour, func() { g.console(event.TypeAdminTokenCreated, adminName(a), officeAddr(a)) })
			plan((officeTo-2)*time.Hour, officeTo*time.Hour, func() { g.console(event.TypeAdminTokenRevoked, adminName(a), officeAddr(a)) })
		}
	}
	if len(g.jobs) > 0 {
		plan(nightFrom, nightFrom+time.Minute, func() { g.night(wd == time.Sunday) })
	}
}

// replace puts a new instance into a host's place. One that crashes says nothing.
func (g *generator) replace(h *host, tells bool) {
	if !h.up || h.svc.job {
		return
	}
	if tells {
		g.stopped(h)
	}
	h.up = false
	g.after(g.between(2*time.Second, 20*time.Second), func() {
		last := h.shipping.last
		g.name(h)
		h.clock = g.someClock()
		h.shipping = g.someShipping()
		if h.svc.vm {
			h.shipping.last = last
		}
		if !h.key.alive { // one that was forgotten is redeployed
			h.key = g.key
		}
		g.started(h)
	})
}

// deploy brings a release out, host by host.
func (g *generator) deploy(s *service) {
	g.releases[s.name]++
	release := s.release(1 + g.releases[s.name])
	at := g.now
	for _, h := range g.hosts {
		if h.svc != s {
			continue
		}
		g.at(at, func() {
			h.release, h.agent = release, s.name+"/"+release
			g.replace(h, true)
		})
		at = at.Add(g.between(2*time.Second, 12*time.Second))
	}
}

// night is a run of the job: it mints for one user after the other, in the order
// of their numbers on Sundays.
func (g *generator) night(inOrder bool) {
	for _, h := range g.jobs {
		g.started(h)
		end := g.now.Add(nightTo - nightFrom - 2*time.Minute)
		u := g.rng.IntN(g.opt.Users)
		var step func()
		step = func() {
			if g.now >= end {
				g.stopped(h)
				return
			}
			if inOrder {
				u = (u + 1) % g.opt.Users
			} else {
				u = g.rng.IntN(g.opt.Users)
			}
			g.visit(visit{h: h, user: g.userID(u), look: LookAlikeJob, noSession: true})
			g.after(g.between(8*time.Second, 24*time.Second), step)
		}
		g.after(g.between(0, 10*time.Second), step)
	}
}

// moveNAT moves the addresses behind which a service calls out, within the
// declared egress.
func (g *generator) moveNAT() {
	s := &g.services[g.rng.IntN(len(g.services))]
	g.moves[s.name]++
	k := 0
	for _, h := range g.hosts {
		if h.svc == s {
			h.addr = g.egress(s, h.region, g.moves[s.name], k)
			k++
		}
	}
}

// moveCarrier has a mobile carrier put its users behind two addresses for hours.
func (g *generator) moveCarrier() {
	r := g.rng.IntN(len(regions))
	g.carrierPool[r] = 2
	g.after(g.between(3*time.Hour, 8*time.Hour), func() { g.carrierPool[r] = 0 })
}

// marketingPeak multiplies the volume by three to five for hours.
func (g *generator) marketingPeak() {
	factor := 3 + 2*g.rng.Float64()
	const steps = 10
	for i := 1; i <= steps; i++ { // it swells
		g.after(time.Duration(i)*time.Minute, func() { g.peak = 1 + (factor-1)*float64(i)/steps })
	}
	g.after(g.between(2*time.Hour, 4*time.Hour), func() { g.peak = 1 })
}

// adminName is an administrator, officeAddr the address of their place.
func adminName(a int) string { return "admin-" + string(rune('1'+a)) }
