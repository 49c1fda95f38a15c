package simulate

import (
	"net/netip"
	"time"

	"github.com/keysentry/keysentry/event"
)

const (
	mintPath    = "/api/v4/authentication/token"
	sessionPath = "/api/v4/sessions"
)

// gap is the time to the next login, which makes two events. Heartbeats count
// too.
func (g *generator) gap() time.Duration {
	if minute := g.now - g.now%event.Instant(time.Minute); minute != g.ratesOf {
		g.ratesOf = minute
		beats := float64(len(g.hosts)) / g.opt.Heartbeat.Seconds()
		rate := max(g.opt.Rate-beats, g.opt.Rate/10) / 2
		for r := range regions {
			g.rates[r] = rate * regions[r].share * season(r, g.now)
			if len(g.serving[r]) == 0 {
				g.rates[r] = 0
			}
		}
	}
	rate := (g.rates[0] + g.rates[1] + g.rates[2]) * g.peak
	return time.Duration(g.rng.ExpFloat64() / rate * float64(time.Second))
}

// perDay is the mean number of logins a day.
func (g *generator) perDay() float64 { return g.opt.Rate / 2 * day.Seconds() }

// server is a host of a region that is up.
func (g *generator) server(region int) *host {
	list := g.serving[region]
	for range 8 {
		if h := list[g.rng.IntN(len(list))]; h.up {
			return h
		}
	}
	return list[0]
}

// login is one backend minting for one user, who opens a session a moment later.
func (g *generator) login() {
	x, region := g.rng.Float64()*(g.rates[0]+g.rates[1]+g.rates[2]), 0
	for ; region < len(regions)-1 && x >= g.rates[region]; region++ {
		x -= g.rates[region]
	}
	if len(g.serving[region]) == 0 {
		region = 0
	}
	h := g.server(region)
	u := g.person(region)
	look := ""
	if g.peak > 1 {
		look = LookAlikePeak
		if g.rng.IntN(2) == 0 { // a new user
			u = g.inRegion(g.opt.Users/2+g.rng.IntN(max(1, g.opt.Users/2)), region)
		}
	} else if g.carrierPool[region] > 0 {
		look = LookAlikeNAT
	}
	if g.now < g.hiccup && g.rng.IntN(10) < 6 {
		g.storm(h, u, 0)
		return
	}
	v := visit{h: h, user: g.userID(u), client: g.home(u, g.now), device: g.usual(u), look: look}
	if n := g.rng.IntN(400); n == 0 {
		v.sleep = g.between(30*time.Second, 8*time.Hour) // a phone that slept
	}
	g.visit(v)
}

// visit is one mint by a host of ours and the session that follows.
type visit struct {
	h            *host
	user, device string
	client       netip.Addr
	agent        string
	look         string
	sleep        time.Duration // the token is redeemed so long after its end
	answer       answer        // to the session; the zero answer: it is created
	noToken      bool
	attack       int // index of its label plus one
	noSession    bool
	broken       bool        // the token is another one when it is redeemed
	cause        event.Cause // of the answer
	then         func(session string)
}

func (v visit) truth() Truth { return Truth{Attack: v.attack - 1, LookAlike: v.look} }

// visit returns the token that was minted, "" when the key was refused.
func (g *generator) visit(v visit) string {
	if !v.h.key.alive {
		s := g.minted(v.h, mint{key: v.h.key, user: v.user, client: v.client, answer: answer{status: 401, code: "invalid_server_key"}})
		s.truth = Truth{Attack: -1, Cause: event.CauseRetiredKeyStraggler, LookAlike: LookAlikeRotation}
		g.ship(v.h, s)
		return ""
	}
	if g.secureOff {
		s := g.minted(v.h, mint{key: v.h.key, user: v.user, client: v.client,
			answer: g.oneOf(answer{status: 403}, answer{status: 403}, answer{status: 403, code: "secure_mode_off"})})
		s.truth.Cause = event.CauseSecureModeOff
		g.ship(v.h, s)
		return ""
	}
	token := g.token()
	s := g.minted(v.h, mint{key: v.h.key, user: v.user, token: token, client: v.client})
	s.truth = v.truth()
	issued := s.ev.Time
	g.ship(v.h, s)
	if v.noSession {
		return token
	}
	o := opening{h: v.h, user: v.user, token: token, device: v.device, client: v.client, issued: issued, agent: v.agent, answer: v.answer,
		truth: v.truth(), origin: event.OriginClient, then: v.then}
	o.truth.Cause = v.cause
	wait := time.Duration(50+g.rng.IntN(400)) * time.Millisecond
	g.refuse(&o, v, wait)
	if v.noToken {
		o.token, o.issued = "", 0
	}
	if v.broken {
		o.token = g.token()
	}
	g.opens.push(g.now.Add(wait+v.sleepFor()), o)
	return token
}

func (v visit) sleepFor() time.Duration {
	if v.sleep == 0 {
		return 0
	}
	return tokenLife + v.sleep
}

// refuse says what the platform makes of a token whose times do not fit.
func (g *generator) refuse(o *opening, v visit, wait time.Duration) {
	ahead := v.h.clock.ahead(g.now)
	switch {
	case v.answer.status != 0:
	case v.sleep > 0:
		o.truth.Cause, o.truth.LookAlike = event.CauseExpiredAuthToken, LookAlikeSleeper
		o.answer = g.oneOf(answer{status: 403, code: "auth_token_expired"}, answer{status: 403, reason: "auth token is expired"}, answer{status: 403, dates: true})
	case ahead > tokenLeeway+wait:
		o.truth = v.h.clock.truth()
		o.answer = g.oneOf(answer{status: 403, code: "auth_token_not_yet_valid"}, answer{status: 403, dates: true})
	case -ahead > tokenLife:
		o.truth = v.h.clock.truth()
		o.answer = g.oneOf(answer{status: 403, code: "auth_token_expired"}, answer{status: 403, reason: "auth token is expired"})
	}
}

// answer is what the platform says. With dates, the record carries the times of
// the token or certificate.
type answer struct {
	status       uint16
	code, reason string
	dates        bool
}

func (g *generator) oneOf(list ...answer) answer { return list[g.rng.IntN(len(list))] }

func (a answer) put(e *event.Event) {
	setStatus(e, a.status)
	if a.code != "" {
		e.SetString(event.FieldCode, a.code)
	}
	if a.reason != "" {
		e.SetString(event.FieldReason, a.reason)
	}
}

// mint is one call of the mint endpoint.
type mint struct {
	key         *serverKey
	user, token string
	client      netip.Addr
	from        netip.Addr // not the host's own
	agent       string
	region      string
	answer      answer // the zero answer: 200
}

// minted begins the record of a mint by a host of ours.
func (g *generator) minted(h *host, m mint) *shipment {
	s := g.mintEvent(event.OriginBackend, h, m)
	e := &s.ev
	if h.cert != nil {
		e.SetString(event.FieldCertID, h.cert.id)
		e.SetString(event.FieldCertCN, h.cert.cn)
	}
	return s
}

func (g *generator) mintEvent(origin event.Origin, h *host, m mint) *shipment {
	t := event.TypeAuthTokenIssued
	if m.answer.status == 0 {
		m.answer.status = 200
	}
	if m.answer.status != 200 {
		t, m.token = event.TypeAuthTokenDenied, ""
	}
	s := g.told(t, origin, h)
	e := &s.ev
	setMode(e, h.svc.mode)
	e.SetString(event.FieldUserID, m.user)
	e.SetString(event.FieldKeyID, m.key.id)
	e.SetString(event.FieldEndpoint, mintPath)
	if m.region != "" {
		e.SetString(event.FieldRegion, m.region)
	}
	if m.token != "" {
		e.SetString(event.FieldTokenID, m.token)
		e.SetInstant(event.FieldIssuedAt, e.Time)
		e.SetInstant(event.FieldExpiresAt, e.Time.Add(tokenLife))
	}
	m.answer.put(e)
	from, agent := h.addr, h.agent
	if m.from.IsValid() {
		from, agent = m.from, m.agent
	}
	setSource(e, from)
	if agent != "" {
		e.SetString(event.FieldUserAgent, agent)
	}
	if m.client.IsValid() {
		setClient(e, m.client)
	}
	return s
}

// opening is a session that a user is about to open.
type opening struct {
	h                          *host // through which the client reports it; nil: nobody, the gateway saw it
	user, token, device, agent string
	session                    string // "": a new one
	client                     netip.Addr
	issued                     event.Instant // of the token, on the clock of its host
	answer                     answer
	truth                      Truth
	origin                     event.Origin
	then                       func(session string)
}

func (g *generator) open(o opening) {
	t := event.TypeSessionCreated
	if o.answer.status == 0 {
		o.answer.status = 200
	}
	if o.answer.status != 200 {
		t = event.TypeSessionDenied
	}
	var s *shipment
	if o.h == nil {
		s = g.told(t, event.OriginGateway, g.gateway)
		o.h = g.gateway
	} else {
		s = g.begin(t, o.origin, g.now.Add(o.h.clock.ahead(g.now)))
		g.instance(&s.ev, o.h)
		if g.opt.Calendar {
			setMode(&s.ev, o.h.svc.mode)
		}
	}
	s.truth = o.truth
	e := &s.ev
	e.SetString(event.FieldUserID, o.user)
	if o.token != "" {
		e.SetString(event.FieldTokenID, o.token)
	}
	if g.opt.Calendar || o.truth.Attack >= 0 {
		e.SetString(event.FieldDeviceID, o.device)
	}
	if t == event.TypeSessionCreated {
		if o.session == "" && (g.opt.Calendar || o.truth.Attack >= 0) {
			o.session = g.token()
		}
		if o.session != "" {
			e.SetString(event.FieldSessionID, o.session)
		}
	}
	if o.answer.dates && o.issued != 0 {
		e.SetInstant(event.FieldIssuedAt, o.issued)
		e.SetInstant(event.FieldExpiresAt, o.issued.Add(tokenLife))
	}
	e.SetString(event.FieldEndpoint, sessionPath)
	o.answer.put(e)
	if o.client.IsValid() {
		setSource(e, o.client)
	}
	if o.agent != "" {
		e.SetString(event.FieldUserAgent, o.agent)
	}
	g.ship(o.h, s)
	if o.then != nil {
		o.then(o.session)
	}
}
