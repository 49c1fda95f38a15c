package simulate

import (
	"time"

	"github.com/keysentry/keysentry/event"
)

// requestPaths are what clients call with a session.
var requestPaths = [...]string{"/api/v4/messages", "/api/v4/channels", "/api/v4/posts", "/api/v4/users/me", "/api/v4/reactions"}

// request is an ordinary call of a client, refused.
type request struct {
	session string
	device  string
	cause   event.Cause
	look    string
	answer  answer
	// from and to are the times of the access token.
	from, to event.Instant
	method   string
}

// refused is a client's request with its session that was refused, as the client
// reports it through a backend.
func (g *generator) refused(u int, r request) {
	region := userRegion(u)
	if len(g.serving[region]) == 0 {
		region = 0
	}
	h := g.server(region)
	s := g.begin(event.TypeRequestUnauthorized, event.OriginClient, g.now.Add(h.clock.ahead(g.now)))
	s.truth.Cause, s.truth.LookAlike = r.cause, r.look
	e := &s.ev
	g.instance(e, h)
	e.SetString(event.FieldUserID, g.userID(u))
	if r.session != "" {
		e.SetString(event.FieldSessionID, r.session)
	}
	if r.device == "" {
		r.device = g.device(u, 0)
	}
	e.SetString(event.FieldDeviceID, r.device)
	if r.answer.dates {
		e.SetInstant(event.FieldIssuedAt, milliseconds(r.from))
		e.SetInstant(event.FieldExpiresAt, milliseconds(r.to))
	}
	e.SetString(event.FieldEndpoint, requestPaths[g.rng.IntN(len(requestPaths))])
	r.answer.put(e)
	setSource(e, g.home(u, g.now))
	g.ship(h, s)
}

// goWrong puts in the ordinary faults: those of users all the time, those of
// hosts in every week or two.
func (g *generator) goWrong() {
	share := g.perDay()
	g.often(20+share/4000, g.sessionEnds)
	g.often(10+share/3000, g.bannedUser)
	g.often(6+share/20000, g.sharedDevice)
	g.often(8+share/10000, g.brokenToken)
	g.often(8+share/10000, g.badRequest)
	g.often(6+share/20000, g.leaves)
	g.often(10, g.sleeper)
	for i, do := range []func(){g.badRelease, g.stagingKey, g.wrongRegion, g.badMints, g.fastClock, g.slowClock} {
		g.each(time.Duration(8+i%3)*day, do)
	}
	if len(g.services) > 1 {
		for i, fault := range certFaults {
			g.each(time.Duration(9+i%2)*day, func() { g.badCertificate(fault) })
		}
	}
}

// anyone draws a user of any region.
func (g *generator) anyone() int { return g.person(g.rng.IntN(len(regions))) }

// sessionEnds is an access token that has lived its 30 days.
func (g *generator) sessionEnds() {
	u := g.anyone()
	end := g.now.Add(-g.between(time.Second, 20*time.Hour))
	g.refused(u, request{session: g.session(u), cause: event.CauseSessionExpired, from: end.Add(-sessionLife), to: end,
		answer: g.oneOf(answer{status: 401, dates: true}, answer{status: 401, dates: true}, answer{status: 401, code: "session_expired"}, answer{status: 401, reason: "access token has expired"})})
	g.after(g.between(time.Second, 30*time.Second), func() { g.loginOf(u, "") })
}

// bannedUser tries to open a session: the platform answers 401.
func (g *generator) bannedUser() {
	u := g.anyone()
	v := g.visitOf(u)
	v.answer = g.oneOf(answer{status: 401}, answer{status: 401}, answer{status: 401, code: "user_banned"})
	g.visitRefused(v, event.CauseUserBanned)
}

func (g *generator) visitOf(u int) visit {
	r := userRegion(u)
	if len(g.serving[r]) == 0 {
		r = 0
	}
	return visit{h: g.server(r), user: g.userID(u), client: g.home(u, g.now), device: g.device(u, 0)}
}

// visitRefused mints, and has the session refused for a cause.
func (g *generator) visitRefused(v visit, cause event.Cause) {
	v.cause = cause
	g.visit(v)
}

// sharedDevice is a second user on a device: the first one's session ends.
func (g *generator) sharedDevice() {
	const look = LookAlikeDevice
	a := g.anyone()
	b := g.inRegion((a+3*(1+g.rng.IntN(1000)))%g.opt.Users, userRegion(a))
	first, second := g.visitOf(a), g.visitOf(b)
	first.look, second.look = look, look
	second.device, second.client = first.device, first.client
	first.then = func(session string) {
		g.after(g.between(time.Minute, time.Hour), func() { g.visit(second) })
		g.after(g.between(61*time.Minute, 5*time.Hour), func() {
			g.refused(a, request{session: session, device: first.device, cause: event.CauseSessionDisplaced, look: look,
				answer: g.oneOf(answer{status: 401}, answer{status: 401, code: "session_displaced"}, answer{status: 401, reason: "device was taken over by another user"})})
		})
	}
	g.visit(first)
}

// brokenToken was changed on its way.
func (g *generator) brokenToken() {
	v := g.visitOf(g.anyone())
	v.answer = g.oneOf(answer{status: 403}, answer{status: 403}, answer{status: 403, code: "invalid_auth_token"})
	v.broken = true
	g.visitRefused(v, event.CauseInvalidToken)
}

func (g *generator) badRequest() {
	u := g.anyone()
	g.refused(u, request{session: g.session(u), cause: event.CauseBadRequest,
		answer: g.oneOf(answer{status: 400}, answer{status: 422}, answer{status: 404}, answer{status: 400, code: "bad_request"})})
}

// leaves is a user who ends all sessions, with a phone that does not know it.
func (g *generator) leaves() {
	u := g.anyone()
	s := g.begin(event.TypeSessionRevoked, event.OriginBackend, g.now)
	s.ev.SetString(event.FieldUserID, g.userID(u))
	s.ev.SetString(event.FieldService, g.services[0].name)
	g.ship(nil, s)
	g.after(g.between(time.Minute, 3*time.Hour), func() { g.cutOff(u, "") })
}

func (g *generator) sleeper() {
	v := g.visitOf(g.anyone())
	v.sleep = g.between(30*time.Second, 8*time.Hour)
	g.visit(v)
}

// badRelease of a client forgets the token, until it is taken back.
func (g *generator) badRelease() {
	g.repeat(60+g.rng.IntN(100), func() time.Duration { return g.between(5*time.Second, time.Minute) }, func() {
		v := g.visitOf(g.anyone())
		v.look, v.noToken, v.agent = LookAlikeRelease, true, "chat-app/4.2.0"
		v.answer = g.oneOf(answer{status: 403}, answer{status: 403}, answer{status: 403, code: "missing_auth_token"})
		g.visitRefused(v, event.CauseMissingAuthToken)
	})
}

// someHost is a host that is up, of one that matches.
func (g *generator) someHost(ok func(*host) bool) *host {
	for range 200 {
		if h := g.hosts[g.rng.IntN(len(g.hosts))]; h.up && (ok == nil || ok(h)) {
			return h
		}
	}
	return nil
}

// misMint has a host's mints refused for a while.
func (g *generator) misMint(h *host, n int, look string, cause event.Cause, m func() mint) {
	name := h.name
	g.repeat(n, func() time.Duration { return g.between(4*time.Second, 40*time.Second) }, func() {
		if !h.up || h.name != name || !h.key.alive {
			return
		}
		u := g.person(h.region)
		x := m()
		x.user, x.client = g.userID(u), g.home(u, g.now)
		if x.key == nil {
			x.key = h.key
		}
		s := g.minted(h, x)
		s.truth.Cause, s.truth.LookAlike = cause, look
		g.ship(h, s)
	})
}

// stagingKey is the key of another network on one of our hosts.
func (g *generator) stagingKey() {
	h := g.someHost(nil)
	if h == nil {
		return
	}
	key := g.newKey("staging " + g.now.String())
	g.misMint(h, 25+g.rng.IntN(30), LookAlikeKey, event.CauseUnknownKey, func() mint {
		return mint{key: key, answer: g.oneOf(answer{status: 401}, answer{status: 401}, answer{status: 401, code: "invalid_server_key"})}
	})
}

// wrongRegion is a host that calls a region in which the network is not.
func (g *generator) wrongRegion() {
	h := g.someHost(nil)
	if h == nil {
		return
	}
	g.misMint(h, 25+g.rng.IntN(30), LookAlikeRegion, event.CauseWrongRegion, func() mint {
		return mint{region: "jp", answer: g.oneOf(answer{status: 401}, answer{status: 403}, answer{status: 403, code: "wrong_region"})}
	})
}

// badMints is a host whose code sends what the platform cannot read.
func (g *generator) badMints() {
	h := g.someHost(nil)
	if h == nil {
		return
	}
	g.misMint(h, 15+g.rng.IntN(20), LookAlikeRelease, event.CauseBadRequest, func() mint {
		return mint{answer: g.oneOf(answer{status: 400}, answer{status: 422}, answer{status: 400, code: "bad_request"})}
	})
}

// fastClock and slowClock are hosts whose NTP has stopped. Users come to them
// until somebody sets the clock.
func (g *generator) fastClock() { g.drift(90*time.Second, 120) }
func (g *generator) slowClock() { g.drift(-11*time.Minute, -80) }

func (g *generator) drift(jump time.Duration, rate float64) {
	h := g.someHost(func(h *host) bool { return h.svc.vm && !h.svc.job })
	if h == nil {
		if h = g.someHost(func(h *host) bool { return !h.svc.job }); h == nil {
			return
		}
	}
	h.clock.from, h.clock.until = g.now, g.now.Add(g.between(2*time.Hour, 4*time.Hour))
	h.clock.jump, h.clock.rate = jump, rate
	g.repeat(60, func() time.Duration { return g.between(30*time.Second, 3*time.Minute) }, func() {
		if u := g.person(h.region); h.up && h.key.alive {
			g.visit(visit{h: h, user: g.userID(u), client: g.home(u, g.now), device: g.device(u, 0)})
		}
	})
}
