package simulate

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/event"
)

// attack is a script that is being played. It draws from a source of its own, so
// that ordinary life goes on as it would without it but for the times at which
// its events fall.
type attack struct {
	g      *generator
	s      *Script
	index  int
	rng    *rand.Rand
	keys   map[string]*serverKey
	next   int // user of a sequence
	few    []int
	actors map[string]*band
	ghost  map[string]*host // processes of its own, by what they pretend to be
}

// band is the addresses of one actor.
type band struct {
	actor
	list []netip.Addr
}

func (g *generator) playAll() {
	own, k := 0, 0
	for _, p := range g.plays {
		if !p.placed {
			own++
		}
	}
	for i, p := range g.plays {
		a := &attack{g: g, s: p.script, index: i, keys: map[string]*serverKey{}, actors: map[string]*band{},
			rng: rand.New(rand.NewPCG(g.opt.Seed+uint64(i)<<32, hash(p.script.Name)))}
		for _, name := range sortedKeys(p.script.actors) {
			a.actors[name] = a.settle(p.script.actors[name])
		}
		begins := g.start.Add(a.draw(p.at))
		if !p.placed {
			begins = a.hour(g.start.Add(a.place(k, own)))
			k++
		}
		a.next = a.rng.IntN(g.opt.Users)
		for range 5 {
			a.few = append(a.few, a.rng.IntN(g.opt.Users))
		}
		g.labels = append(g.labels, Label{Index: i, Scenario: p.script.Name, Kind: p.script.Label.Kind, Field: p.script.Label.Subject,
			Cause: p.script.cause, Theft: p.script.Label.Theft, Began: begins})
		g.at(begins, a.begin)
	}
}

// place is when the k-th of n scenarios begins that do not say it: each in a part
// of its own of what follows the first week, or the first quarter.
func (a *attack) place(k, n int) time.Duration {
	run := a.g.opt.Duration
	quiet := min(8*day, run/4)
	return quiet + time.Duration(float64(run-quiet)*(float64(k)+0.6*a.rng.Float64())/float64(n))
}

// hour moves a beginning to the hours that the script names.
func (a *attack) hour(at event.Instant) event.Instant {
	if a.s.Hours == "" {
		return at
	}
	to := (at - at%event.Instant(day)).Add(a.draw(a.s.hours))
	if to < a.g.start || to >= a.g.end {
		return at
	}
	return to
}

// draw is a span by chance; parts of the run are turned into spans.
func (a *attack) draw(m moment) time.Duration {
	v := m.lo
	if m.hi > m.lo {
		v += (m.hi - m.lo) * a.rng.Float64()
	}
	if m.share {
		v *= float64(a.g.opt.Duration)
	}
	return time.Duration(v)
}

// settle gives an actor its addresses.
func (a *attack) settle(w actor) *band {
	b := &band{actor: w}
	base := w.nets[a.rng.IntN(len(w.nets))]
	var p netip.Addr
	for i := range w.addresses {
		if i == 0 || w.spread {
			base = w.nets[a.rng.IntN(len(w.nets))]
			p = within(base, a.rng.Uint32())
		} else {
			p = within(netip.PrefixFrom(p, max(base.Bits(), 24)), a.rng.Uint32())
		}
		b.list = append(b.list, p)
	}
	return b
}

// within is an address of the prefix; r chooses. No network address or broadcast.
func within(p netip.Prefix, r uint32) netip.Addr {
	b := p.Masked().Addr().As4()
	if p.Bits() == 32 {
		return p.Addr()
	}
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n |= r & (1<<(32-p.Bits()) - 1)
	if last := n & 255; last == 0 || last == 255 {
		n ^= 66
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func (b *band) addr(r *rand.Rand) netip.Addr { return b.list[r.IntN(len(b.list))] }

// begin plans the acts, and names the subject.
func (a *attack) begin() {
	a.keys["live"] = a.g.key
	a.keys["dormant"] = a.g.dormant
	a.name(a.subject())
	for i := range a.s.acts {
		x := &a.s.acts[i]
		at := a.draw(x.at)
		a.g.after(at, func() { a.do(x) })
	}
}

func (a *attack) name(subject string) {
	if l := &a.g.labels[a.index]; l.Value == "" {
		l.Value = subject
	}
}

// subject is who the incident is about, as far as it is known at the beginning.
func (a *attack) subject() string {
	switch a.s.Label.Subject {
	case "key_id":
		if k := a.keys[a.s.Label.Key]; k != nil {
			return k.id
		}
	case "network":
		return a.g.opt.Network
	case "user_id":
		return a.g.userID(a.few[0])
	case "source_ip":
		for _, x := range a.s.acts {
			if x.by != "" && !x.harmless {
				return a.actors[x.by].list[0].String()
			}
		}
	}
	return ""
}

// key is the one that an act names.
func (a *attack) key(name string) *serverKey {
	if k := a.keys[name]; k != nil {
		return k
	}
	k := a.g.newKey(a.s.Name + " " + name + " " + strconv.Itoa(a.index))
	k.alive = name != "forged"
	a.keys[name] = k
	if a.s.Label.Subject == "key_id" && a.s.Label.Key == name {
		a.name(k.id)
	}
	return k
}

// user is whom an act is about next.
func (a *attack) user(x *act) int {
	switch x.users {
	case "sequence":
		a.next = (a.next + 1) % a.g.opt.Users
		return a.next
	case "few":
		return a.few[a.rng.IntN(len(a.few))]
	case "one":
		return a.few[0]
	}
	return a.rng.IntN(a.g.opt.Users)
}

// do begins an act, and has it go on as long and as often as it says.
func (a *attack) do(x *act) {
	switch x.do {
	case "rotate":
		span := overlap
		if x.span != (moment{}) {
			span = a.draw(x.span)
		}
		a.keys["fresh"] = a.g.rotate(span, false)
		return
	case "drift":
		a.drift(x)
		return
	}
	step := map[string]func(*act){"mint": a.mint, "session": a.session, "login": a.login, "replay": a.replay, "console": a.console, "leak": a.leak}[x.do]
	end := a.g.end
	if x.span != (moment{}) {
		end = a.g.now.Add(a.draw(x.span))
	}
	n := x.count
	if n == 0 {
		n = 1 << 40
		if x.span == (moment{}) {
			n = 1
		}
	}
	gap := func() time.Duration {
		if x.share > 0 {
			return time.Duration(float64(time.Second) / max(1, a.g.opt.Rate*x.share))
		}
		return max(a.draw(x.every), time.Millisecond)
	}
	var again func()
	again = func() {
		step(x)
		if n--; n > 0 && a.g.now.Add(time.Millisecond) < end {
			if d := gap(); a.g.now.Add(d) < end {
				a.g.after(d, again)
			}
		}
	}
	again()
}

func (a *attack) truth(x *act) Truth {
	if x.harmless {
		return Truth{Attack: -1}
	}
	return Truth{Attack: a.index}
}

func (a *attack) from(x *act) (addr netip.Addr, agent string) {
	if b := a.actors[x.by]; b != nil {
		return b.addr(a.rng), b.agent
	}
	return netip.Addr{}, ""
}

// mint uses a key: at the platform's mint endpoint, where only a gateway or the
// platform sees it, or through the code of one of our services.
func (a *attack) mint(x *act) {
	g, u, k := a.g, a.user(x), a.key(x.key)
	from, agent := a.from(x)
	m := mint{key: k, user: g.userID(u), token: g.token(), from: from, agent: agent}
	truth := a.truth(x)
	if !k.alive {
		m.answer = g.oneOf(answer{status: 401}, answer{status: 401, code: "invalid_server_key"})
		truth.Cause = event.CauseRetiredKeyForeign
		if x.key == "forged" {
			truth.Cause = event.CauseUnknownKey
		}
	}
	h := a.speaker(x)
	origin := event.OriginGateway
	if h != g.gateway {
		origin = event.OriginBackend
		if x.inside {
			m.from = netip.Addr{}
		}
	}
	s := g.mintEvent(origin, h, m)
	s.truth = truth
	issued := s.ev.Time
	g.ship(h, s)
	if m.answer.status != 0 || x.sessions == "none" {
		return
	}
	client := from
	if !client.IsValid() {
		client = h.addr
	}
	o := opening{user: m.user, token: m.token, device: a.device(u), client: client, issued: issued, truth: truth, agent: agent}
	a.report(&o, x.sessions, u)
	g.opens.push(g.now.Add(time.Duration(60+a.rng.IntN(600))*time.Millisecond), o)
}

// speaker is who tells of a mint: the gateway, or a host of the service as which
// the act is done. One that runs beside its ordinary life is a process of its
// own.
func (a *attack) speaker(x *act) *host {
	if x.seen != "backend" {
		return a.g.gateway
	}
	name := "host " + x.as
	if h := a.ghost[name]; h != nil {
		return h
	}
	var like *host
	for _, h := range a.g.hosts {
		if x.as == "" || h.svc.name == x.as {
			like = h
			break
		}
	}
	if like == nil {
		like = a.g.hosts[0]
	}
	h := &host{svc: like.svc, region: like.region, name: like.name, boot: a.g.hex(8), release: like.release, agent: like.agent,
		addr: like.addr, key: like.key, up: true, clock: like.clock, shipping: shipping{jitter: 200}}
	if a.ghost == nil {
		a.ghost = map[string]*host{}
	}
	a.ghost[name] = h
	return h
}

// report says who sees a session of the attacker: an app that reports it through
// a backend, or the gateway alone.
func (a *attack) report(o *opening, how string, u int) {
	if how != "client" {
		return
	}
	r := userRegion(u)
	if len(a.g.serving[r]) == 0 {
		r = 0
	}
	o.h, o.origin = a.g.server(r), event.OriginClient
}

func (a *attack) device(u int) string { return a.g.device(u^a.index<<20, 3) }

// session is opened with a token that nobody minted.
func (a *attack) session(x *act) {
	u := a.user(x)
	from, agent := a.from(x)
	o := opening{user: a.g.userID(u), token: a.g.token(), device: a.device(u), client: from, agent: agent, truth: a.truth(x)}
	a.report(&o, x.seen, u)
	a.g.open(o)
}

// login takes the front door with a user's own password: a backend mints, and the
// app reports the session.
func (a *attack) login(x *act) {
	u := a.user(x)
	from, agent := a.from(x)
	v := a.g.visitOf(u)
	v.client, v.agent, v.device = from, agent, a.device(u)
	if !x.harmless {
		v.attack = a.index + 1
	}
	a.g.visit(v)
}

// replay has a user log in, whose token is then used from elsewhere.
func (a *attack) replay(x *act) {
	u := a.user(x)
	v := a.g.visitOf(u)
	var token string
	v.then = func(session string) {
		a.g.after(time.Duration(5+a.rng.IntN(200))*time.Second, func() {
			from, agent := a.from(x)
			o := opening{user: v.user, token: token, session: session, device: a.device(u), client: from, agent: agent, truth: a.truth(x)}
			a.report(&o, x.seen, u)
			a.g.open(o)
		})
	}
	token = a.g.visit(v)
}

// console is what is done there from the actor's address.
func (a *attack) console(x *act) {
	t, _ := consoleType(x.what)
	from, agent := a.from(x)
	s := a.g.consoleEvent(t, adminName((x.admin-1)%9), from)
	s.truth = a.truth(x)
	e := &s.ev
	e.SetString(event.FieldActorRole, x.role)
	if agent != "" {
		e.SetString(event.FieldUserAgent, agent)
	}
	switch t {
	case event.TypeServerKeyCreated, event.TypeServerKeyActivated:
		e.SetString(event.FieldKeyID, a.key(x.key).id)
	case event.TypeSecureModeDisabled, event.TypeSecureModeEnabled:
		a.g.secureOff = t == event.TypeSecureModeDisabled
	case event.TypeServerKeyRevoked:
		k := a.key(x.key)
		e.SetString(event.FieldKeyID, k.id)
		k.alive = false
	case event.TypeCertificateIssued, event.TypeCertificateActivated, event.TypeCertificateDisabled:
		e.SetString(event.FieldCertID, a.g.fingerprint(a.s.Name+" certificate"))
	}
	a.g.ship(nil, s)
}

// leak is a record of a host of ours in which a key stands in clear.
func (a *attack) leak(x *act) {
	h := a.g.someHost(func(h *host) bool { return !h.svc.job })
	if h == nil {
		return
	}
	s := a.g.told(event.TypeRequestUnauthorized, event.OriginBackend, h)
	s.truth = a.truth(x)
	s.truth.Cause = event.CauseBadRequest
	e := &s.ev
	e.SetString(event.FieldEndpoint, "/api/v4/webhooks")
	answer{status: 400, reason: "malformed header"}.put(e)
	value := a.key(x.key).value
	switch x.field {
	case "user_agent":
		e.SetString(event.FieldUserAgent, "webhook-test/1.0 "+value)
	case "endpoint":
		e.SetString(event.FieldEndpoint, "/api/v4/webhooks/"+value)
	default:
		e.SetString(event.FieldReason, "malformed header x-server-key: "+value+" in the request")
	}
	setSource(e, h.addr)
	a.g.ship(h, s)
}

// drift lets a host's clock gain, up to what the act says at its end.
func (a *attack) drift(x *act) {
	g := a.g
	var h *host
	for i := range g.hosts {
		if c := g.hosts[(len(g.hosts)/2+i)%len(g.hosts)]; c.up && !c.svc.job {
			h = c
			break
		}
	}
	if h == nil {
		return
	}
	span := max(a.draw(x.span), time.Second)
	h.clock.from, h.clock.until, h.clock.jump = g.now, g.now.Add(span), 0
	h.clock.rate = float64(a.draw(x.clock)) / float64(span) * 1e6
	h.clock.attack = a.index + 1
	g.labels[a.index].Value = h.name
}
