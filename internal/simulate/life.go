package simulate

import (
	"net/netip"
	"time"

	"github.com/keysentry/keysentry/event"
)

// Endpoints of the platform.
const (
	mintEndpoint     = "/api/v4/authentication/token"
	sessionsEndpoint = "/api/v4/sessions"
)

// endpoints are what an app asks for with its session.
var endpoints = []string{"/api/v4/channels", "/api/v4/messages", "/api/v4/users", "/api/v4/communities"}

// fault is what the platform answers for a while instead of working.
type fault struct {
	status uint16
	code   string
	reason string
	cause  event.Cause
	share  float64 // of the calls
	look   string
}

// speak begins an event that a host tells, on its own clock.
func (g *generator) speak(t event.Type, h *host) {
	g.begin(t, event.OriginBackend, g.now.Add(h.ahead(g.now)))
	h.seq++
	g.ev.Seq = h.seq
	g.ev.Present = g.ev.Present.Set(event.FieldSeq)
	g.ev.SetString(event.FieldRegion, h.region)
	g.ev.SetString(event.FieldService, h.service.name)
	g.ev.SetString(event.FieldHost, h.name)
	g.ev.SetString(event.FieldBoot, h.boot)
}

// tell sends what a host told, as its records travel.
func (g *generator) tell(h *host) {
	g.send(h.ships + time.Duration(g.rng.IntN(30))*time.Millisecond)
}

// heartbeats lets each host speak up in turn.
func (g *generator) heartbeats() {
	i := 0
	var beat func()
	beat = func() {
		i = (i + 1) % len(g.hosts)
		h := g.hosts[i]
		g.speak(event.TypeHeartbeat, h)
		g.ev.SetString(event.FieldKeyID, h.key)
		if h.tells {
			g.ev.ClockOffset, g.ev.ClockError = h.ahead(g.now).Seconds()+g.rng.NormFloat64()*0.002, 0.01
			g.ev.Present = g.ev.Present.Set(event.FieldClockOffset).Set(event.FieldClockError)
		}
		if h.drift != nil {
			g.truth.LookAlike = LookAlikeClock
		}
		g.tell(h)
		g.in(g.opt.Heartbeat/time.Duration(len(g.hosts)), beat)
	}
	g.at(g.start, beat)
}

// login is one backend minting for one user, who opens a session a moment later.
func (g *generator) login() {
	g.in(g.gap(), g.login)
	u := g.rng.IntN(g.users.n)
	device := ""
	if g.opt.Calendar { // a short run tells the least
		which := 0
		if g.users.hash(u, 3)%3 == 0 {
			which = g.rng.IntN(2)
		}
		device = g.users.device(u, which)
	}
	g.mintAndOpen(g.anyHost(), u, device, g.client(u))
}

// client is where a user is now: at home or behind a carrier.
func (g *generator) client(u int) netip.Addr {
	if g.users.hash(u, 4)%10 < 4 || g.chance(0.3) {
		return g.users.home(u)
	}
	c := g.users.carrier(u)
	return mobile(c, g.rng.IntN(gateways), g.opt.Calendar && c == 3 && g.now > g.share(0.6))
}

// mintAndOpen is a login by a host of ours.
func (g *generator) mintAndOpen(h *host, u int, device string, client netip.Addr) {
	token := g.token()
	if g.mintFails(h, u, client) {
		return
	}
	g.speak(event.TypeAuthTokenIssued, h)
	g.stampMint(h.key, g.users.name(u), token, h.service.mode, h.exit, 200)
	g.stampCert(h.service)
	g.stampLife(g.ev.Time)
	g.setClient(client)
	if g.load > 1 {
		g.truth.LookAlike = LookAlikeCampaign
	}
	issued := g.ev.Time
	g.tell(h)
	s := session{user: u, token: token, device: device, client: client, host: h.name, minted: g.now, issued: issued, id: "v1:" + g.hex(16)}
	if g.opt.Calendar && h.service.nightly {
		return // exports use the token themselves
	}
	g.in(time.Duration(50+g.rng.IntN(400))*time.Millisecond, func() { g.openOrFail(s) })
}

func (g *generator) setClient(a netip.Addr) {
	g.ev.ClientIP = a
	g.ev.Present = g.ev.Present.Set(event.FieldClientIP)
}

func (g *generator) stampCert(s *service) {
	if g.opt.Calendar {
		g.ev.SetString(event.FieldCertID, s.certID)
		g.ev.SetString(event.FieldCertCN, s.cn)
	}
}

func (g *generator) stampLife(issued event.Instant) {
	g.ev.SetInstant(event.FieldIssuedAt, issued)
	g.ev.SetInstant(event.FieldExpiresAt, issued.Add(tokenLife))
}

func (g *generator) stampMint(key, user, token string, mode event.AuthMode, from netip.Addr, status uint16) {
	g.ev.Mode, g.ev.Status = mode, status
	g.ev.Present = g.ev.Present.Set(event.FieldAuthMode).Set(event.FieldStatus)
	g.setSource(from)
	g.ev.SetString(event.FieldUserID, user)
	g.ev.SetString(event.FieldKeyID, key)
	g.ev.SetString(event.FieldEndpoint, mintEndpoint)
	if token != "" {
		g.ev.SetString(event.FieldTokenID, token)
	}
}

// mintFails lets a mint be refused where something is wrong, and reports it.
func (g *generator) mintFails(h *host, u int, client netip.Addr) bool {
	f := fault{}
	switch {
	case h.cert.cause != event.CauseNone:
		g.handshake(h)
		return true
	case g.dead[h.key] != 0:
		f = fault{status: 401, cause: event.CauseRetiredKeyStraggler, look: LookAlikeRotation}
		if g.chance(0.3) {
			f.code = "invalid_server_key"
		}
	case !g.valid[h.key]:
		f = fault{status: 401, cause: event.CauseUnknownKey, look: LookAlikeConfig}
	case h.cert.region != "":
		f = fault{status: 403, cause: event.CauseWrongRegion, look: LookAlikeConfig}
	case g.fault.status != 0 && g.chance(g.fault.share):
		f = g.fault
		if g.chance(0.7) { // a client that does not wait
			g.in(time.Duration(500+g.rng.IntN(3000))*time.Millisecond, func() { g.mintAndOpen(h, u, g.users.device(u, 0), client) })
		}
	case g.opt.Calendar && g.chance(1.0/4000):
		f = fault{status: 400, cause: event.CauseBadRequest}
		if g.chance(0.5) {
			f.status, f.code = 422, "bad_request"
		}
	default:
		return false
	}
	g.speak(event.TypeAuthTokenDenied, h)
	g.stampMint(h.key, g.users.name(u), "", h.service.mode, h.exit, f.status)
	g.stampCert(h.service)
	g.setClient(client)
	if h.cert.region != "" {
		g.ev.SetString(event.FieldRegion, h.cert.region)
	}
	g.refuse(f.status, f.code, f.reason, f.cause)
	g.truth.LookAlike = f.look
	g.tell(h)
	return true
}

// openOrFail opens the session of a login, or has it refused.
func (g *generator) openOrFail(s session) {
	ahead := s.issued.Sub(s.minted)
	switch {
	case ahead > leeway:
		g.denySession(s, 403, either(g, "auth_token_not_yet_valid", ""), "", event.CauseClockSkew)
		g.truth.LookAlike = LookAlikeClock
		g.blameDrift(s.host)
	case -ahead > tokenLife:
		g.denySession(s, 403, either(g, "auth_token_expired", ""), "", event.CauseClockSkew)
		g.truth.LookAlike = LookAlikeClock
	case g.chance(1.0 / 400): // a phone that slept
		g.in(tokenLife+leeway+time.Duration(g.rng.IntN(600))*time.Second, func() {
			g.denySession(s, 403, either(g, "auth_token_expired", ""), "", event.CauseExpiredAuthToken)
			g.report()
		})
		return
	case !g.opt.Calendar:
		g.openSession(s)
		return
	case g.users.hash(s.user, 5)%2500 == 0:
		g.denySession(s, 401, "", either(g, "user is banned", ""), event.CauseUserBanned)
	case g.chance(1.0/5000) || g.missing && g.chance(0.01):
		s.token = ""
		g.denySession(s, 403, either(g, "missing_auth_token", ""), "", event.CauseMissingAuthToken)
	case g.chance(1.0 / 4000): // an app that breaks its token
		s.token = g.token()
		g.denySession(s, 403, either(g, "invalid_auth_token", ""), "", event.CauseInvalidToken)
	default:
		g.openSession(s)
		return
	}
	g.report()
}

// blameDrift counts the event for the scenario that lets the host's clock run away.
func (g *generator) blameDrift(host string) {
	for _, d := range g.drifting {
		if d.host == host {
			g.truth.Attack = d.index
		}
	}
}

// either is one of two, as often.
func either(g *generator, a, b string) string {
	if g.chance(0.5) {
		return a
	}
	return b
}

// reporter is who tells of sessions: the platform, or the app through the backend.
func (g *generator) reporter() event.Origin {
	if g.opt.Visibility == VisibilityBackend {
		return event.OriginClient
	}
	return event.OriginPlatform
}

func (g *generator) beginSession(t event.Type, s *session) {
	g.begin(t, g.reporter(), g.now)
	g.ev.SetString(event.FieldService, "chat")
	if s.host != "" {
		g.ev.SetString(event.FieldHost, s.host)
	}
	g.ev.SetString(event.FieldUserID, g.users.name(s.user))
	if s.token != "" {
		g.ev.SetString(event.FieldTokenID, s.token)
	}
	if s.device != "" {
		g.ev.SetString(event.FieldDeviceID, s.device)
	}
	g.ev.SetString(event.FieldEndpoint, sessionsEndpoint)
	if g.opt.Calendar {
		g.ev.Mode = event.ModeSecure
		g.ev.Present = g.ev.Present.Set(event.FieldAuthMode)
	}
	g.setSource(s.client)
}

// report sends what was told of a session.
func (g *generator) report() { g.send(g.latency()) }

func (g *generator) denySession(s session, status uint16, code, reason string, cause event.Cause) {
	g.beginSession(event.TypeSessionDenied, &s)
	g.refuse(status, code, reason, cause)
}

// openSession opens a session; what comes of it later is planned now.
func (g *generator) openSession(s session) {
	s.opened = g.now
	g.beginSession(event.TypeSessionCreated, &s)
	if g.opt.Calendar {
		g.ev.SetString(event.FieldSessionID, s.id)
	}
	g.ev.Status = 200
	g.ev.Present = g.ev.Present.Set(event.FieldStatus)
	g.report()
	g.recent.add(s)
	if !g.opt.Calendar {
		return
	}
	switch {
	case g.chance(1.0 / 250): // an app that comes back with a session of last month
		old := s
		old.opened = g.now.Add(-sessionLife - time.Hour)
		old.id = "v1:" + g.hex(16)
		g.in(time.Duration(1+g.rng.IntN(600))*time.Second, func() { g.denyRequest(old, event.CauseSessionExpired) })
	case g.chance(1.0 / 3000): // the device is handed to somebody else
		g.in(time.Duration(60+g.rng.IntN(3000))*time.Second, func() {
			g.mintAndOpen(g.anyHost(), g.rng.IntN(g.users.n), s.device, s.client)
			g.in(time.Duration(30+g.rng.IntN(300))*time.Second, func() { g.denyRequest(s, event.CauseSessionDisplaced) })
		})
	}
}

// denyRequest is an app's call that is refused because its session is over.
func (g *generator) denyRequest(s session, cause event.Cause) {
	g.begin(event.TypeRequestUnauthorized, g.reporter(), g.now)
	g.ev.SetString(event.FieldService, "chat")
	g.ev.SetString(event.FieldUserID, g.users.name(s.user))
	g.ev.SetString(event.FieldSessionID, s.id)
	g.ev.SetString(event.FieldDeviceID, s.device)
	g.ev.SetString(event.FieldEndpoint, endpoints[g.rng.IntN(len(endpoints))])
	g.setSource(s.client)
	code, reason := "", ""
	switch cause {
	case event.CauseSessionExpired:
		g.ev.SetInstant(event.FieldExpiresAt, s.opened.Add(sessionLife))
		code = either(g, "session_expired", "")
	case event.CauseSessionDisplaced:
		reason = either(g, "device was taken over by another user", "")
	case event.CauseSessionRevoked:
		code = either(g, "session_revoked", "")
	}
	g.refuse(401, code, reason, cause)
	g.send(g.latency())
}

// share is a moment of the run, 0 at its start and 1 at its end.
func (g *generator) share(x float64) event.Instant {
	return g.start.Add(time.Duration(x * float64(g.opt.Duration)))
}
