package simulate

import (
	"time"

	"github.com/keysentry/keysentry/event"
)

const day = 24 * time.Hour

// certFault is what is wrong with a host's client certificate, or with its
// configuration.
type certFault struct {
	cause  event.Cause
	alert  string
	region string // that it calls, which is not its network's
}

// calendar plans what happens in a month besides the daily round. Everything has a
// day of its own, as far as the run has so many.
func (g *generator) calendar() {
	days := int(g.opt.Duration / day)
	for d := range days {
		at := g.start.Add(time.Duration(d) * day)
		if wd := at.Time().Weekday(); wd == time.Saturday || wd == time.Sunday {
			continue
		}
		for _, s := range g.services {
			if g.chance(0.4) && !s.nightly {
				g.at(at.Add(g.hours(13, 16)), func() { g.deploy(s) })
			}
		}
		if g.chance(0.3) {
			g.at(at.Add(g.hours(officeFrom+1, officeTo-1)), g.administer)
		}
	}
	for d := range days {
		g.at(g.start.Add(time.Duration(d)*day+2*time.Hour), g.export)
	}
	g.plan(days)
}

// plan spreads the rarer things over the days.
func (g *generator) plan(days int) {
	things := []func(){
		g.rotate, g.sweep, g.campaign, g.badRelease, g.moveExits,
		func() { g.hiccup(503, "service_unavailable", event.CausePlatformError) },
		func() { g.hiccup(429, "rate_limited", event.CauseRateLimited) },
		func() { g.runAway(4 * time.Minute) }, func() { g.runAway(-14 * time.Minute) }, func() { g.runAway(95 * time.Second) },
		func() { g.spoil(certFault{cause: event.CauseCertExpired, alert: "certificate_expired"}) },
		func() { g.spoil(certFault{cause: event.CauseCertMissing, alert: "certificate_required"}) },
		func() { g.spoil(certFault{cause: event.CauseCertCNMismatch}) },
		func() { g.spoil(certFault{cause: event.CauseCertUnknownCA, alert: "unknown_ca"}) },
		func() { g.spoil(certFault{cause: event.CauseCertNotYetValid, alert: "bad_certificate"}) },
		func() { g.spoil(certFault{region: "ap"}) },
		g.wrongKey,
	}
	order := g.rng.Perm(len(things))
	for i, k := range order {
		at := g.start.Add(time.Duration((1.2 + float64(days-2)*float64(i)/float64(len(order))) * float64(day)))
		at = at - at%event.Instant(day) + event.Instant(g.hours(7, 19))
		g.at(at, things[k])
	}
}

// hours is a time of day between two hours.
func (g *generator) hours(from, to int) time.Duration {
	return time.Duration((float64(from) + g.rng.Float64()*float64(to-from)) * float64(time.Hour))
}

// deploy replaces the hosts of a service one after the other.
func (g *generator) deploy(s *service) {
	s.release++
	old := append([]*host(nil), s.hosts...)
	for i, h := range old {
		g.in(time.Duration(i)*20*time.Minute/time.Duration(len(old)), func() { g.replace(h) })
	}
}

// replace stops a host and starts another; one in twenty does not say that it ends.
func (g *generator) replace(h *host) {
	if h.gone || h == g.nightly {
		return
	}
	if !g.chance(0.05) {
		g.speak(event.TypeHostStopped, h)
		g.truth.LookAlike = LookAlikeDeploy
		g.tell(h)
	}
	fresh := g.addHost(h.service)
	fresh.key = h.key
	if g.dead[fresh.key] != 0 || !g.valid[fresh.key] {
		fresh.key = g.key
	}
	g.removeHost(h)
	g.speak(event.TypeHostStarted, fresh)
	g.truth.LookAlike = LookAlikeDeploy
	g.tell(fresh)
}

// administer is an hour's work in the console.
func (g *generator) administer() {
	who := admins[g.rng.IntN(len(admins))]
	g.console(event.TypeAdminTokenCreated, who, "admin", officeNet.Addr().Next())
	g.send(g.latency())
	g.in(time.Duration(10+g.rng.IntN(40))*time.Minute, func() {
		g.console(event.TypeAdminTokenRevoked, who, "admin", officeNet.Addr().Next())
		g.send(g.latency())
	})
}

// export is the nightly job: it mints for its own accounts.
func (g *generator) export() {
	if g.nightly == nil {
		return
	}
	g.repeat(6*time.Second, g.now.Add(20*time.Minute), func() {
		g.mintAndOpen(g.nightly, g.rng.IntN(40), "", g.nightly.exit)
	})
}

// lifecycle is a fact about a key that our own run brought about.
func (g *generator) lifecycle(t event.Type, key string, origin event.Origin) {
	g.begin(t, origin, g.now)
	g.ev.SetString(event.FieldActor, admins[0])
	g.ev.SetString(event.FieldActorRole, "admin")
	g.ev.SetString(event.FieldKeyID, key)
}

// rotate changes the live key: hosts load the new one within half an hour, the old
// one is revoked, and a host or two were forgotten.
func (g *generator) rotate() {
	for _, begin := range g.during {
		begin() // of the key that is on its way out
	}
	g.rotateFor(50*time.Minute, event.OriginKeysentry, 2)
}

func (g *generator) rotateFor(overlap time.Duration, origin event.Origin, forgotten int) {
	old, fresh := g.key, g.fingerprint(secondSecret)
	for _, t := range []event.Type{event.TypeServerKeyCreated, event.TypeServerKeyActivated} {
		g.lifecycle(t, fresh, origin)
		g.truth.LookAlike = LookAlikeRotation
		g.send(g.latency())
	}
	g.valid[fresh] = true
	g.key = fresh
	hosts := append([]*host(nil), g.hosts...)
	if forgotten >= len(hosts) {
		forgotten = 0
	}
	for i, h := range hosts {
		at := overlap * 6 / 10 * time.Duration(i+1) / time.Duration(len(hosts))
		if i < forgotten && h != g.nightly {
			at = overlap + 90*time.Minute
		}
		g.in(at, func() { h.key = fresh })
	}
	g.in(overlap, func() {
		g.dead[old] = g.now
		g.lifecycle(event.TypeServerKeyRevoked, old, origin)
		g.truth.LookAlike = LookAlikeRotation
		g.send(g.latency())
	})
}

// sweep ends many sessions at once, as a playbook of ours does after an incident;
// their apps find out during the day.
func (g *generator) sweep() {
	left := min(50_000, g.users.n/20)
	var next func()
	next = func() {
		for range min(50, left) {
			left--
			s := session{user: g.rng.IntN(g.users.n), id: "v1:" + g.hex(16)}
			s.device, s.client, s.opened = g.users.device(s.user, 0), g.client(s.user), g.now.Add(-day)
			g.begin(event.TypeSessionRevoked, event.OriginKeysentry, g.now)
			g.ev.SetString(event.FieldUserID, g.users.name(s.user))
			g.truth.LookAlike = LookAlikeSweep
			g.send(g.latency())
			if g.chance(0.1) {
				g.in(time.Duration(g.rng.ExpFloat64()*float64(90*time.Minute)), func() { g.comeBack(s) })
			}
		}
		if left > 0 {
			g.in(time.Second, next)
		}
	}
	next()
}

// comeBack is an app whose session was ended: it is refused, and logs in again.
func (g *generator) comeBack(s session) {
	g.denyRequest(s, event.CauseSessionRevoked)
	g.in(2*time.Second, func() { g.mintAndOpen(g.anyHost(), s.user, s.device, s.client) })
}

// campaign brings several times the users for some hours.
func (g *generator) campaign() {
	g.load = 3 + 2*g.rng.Float64()
	g.in(time.Duration(3+g.rng.IntN(2))*time.Hour, func() { g.load = 1 })
}

// badRelease is a version of the app that forgets the auth token now and then.
func (g *generator) badRelease() {
	g.missing = true
	g.in(8*time.Hour, func() { g.missing = false })
}

// hiccup is a platform that refuses part of the calls for some minutes, and clients
// that try again at once.
func (g *generator) hiccup(status uint16, code string, cause event.Cause) {
	g.fault = fault{status: status, cause: cause, share: 0.5, look: LookAlikeStorm}
	if g.chance(0.5) {
		g.fault.code = code
	}
	g.in(time.Duration(4+g.rng.IntN(5))*time.Minute, func() { g.fault = fault{} })
}

// moveExits lets a service call from another address of its egress.
func (g *generator) moveExits() {
	s := g.services[g.rng.IntN(2)]
	for _, h := range s.hosts {
		g.in(time.Duration(g.rng.IntN(600))*time.Second, func() { h.exit = s.exits[2] })
	}
}

// someHost is a host that mints all day, for something to happen to.
func (g *generator) someHost() *host {
	return g.services[0].hosts[g.rng.IntN(len(g.services[0].hosts))]
}

// runAway lets a host's clock drift, until somebody sets it.
func (g *generator) runAway(total time.Duration) {
	for range 2 {
		h := g.someHost()
		h.drift = &drift{from: g.now, to: g.now.Add(5 * time.Hour), total: total}
	}
}

// spoil breaks a host's certificate or its configuration for some hours.
func (g *generator) spoil(f certFault) {
	h := g.someHost()
	h.cert = f
	g.in(time.Duration(3+g.rng.IntN(3))*time.Hour, func() { h.cert = certFault{} })
}

// wrongKey gives a host the key of another network.
func (g *generator) wrongKey() {
	h := g.someHost()
	before := h.key
	h.key = g.fingerprint("sk_live_simulated_of_another_network")
	g.in(4*time.Hour, func() { h.key = before })
}

// handshake is a call that fails because of the host's certificate.
func (g *generator) handshake(h *host) {
	g.speak(event.TypeMTLSHandshakeFailed, h)
	g.ev.Mode = h.service.mode
	g.ev.Present = g.ev.Present.Set(event.FieldAuthMode)
	g.ev.SetString(event.FieldEndpoint, mintEndpoint)
	g.setSource(h.exit)
	f := h.cert
	if f.alert != "" {
		g.ev.SetString(event.FieldTLSAlert, f.alert)
	}
	if f.cause != event.CauseCertMissing {
		g.ev.SetString(event.FieldCertID, "sha256:"+h.boot+h.boot)
		g.ev.SetString(event.FieldCertCN, h.service.cn)
	}
	switch f.cause {
	case event.CauseCertExpired:
		g.ev.SetInstant(event.FieldCertNotAfter, g.now.Add(-day))
	case event.CauseCertNotYetValid:
		g.ev.SetInstant(event.FieldCertNotBefore, g.now.Add(day))
	case event.CauseCertCNMismatch:
		g.ev.SetString(event.FieldTLSAlert, "unrecognized_name")
		g.ev.SetString(event.FieldCertCN, "billing.internal")
	}
	g.refuse(0, "", "", f.cause)
	g.truth.LookAlike = LookAlikeCert
	g.tell(h)
}
