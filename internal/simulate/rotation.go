package simulate

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/event"
)

func officeAddr(a int) netip.Addr { return netip.AddrFrom4([4]byte{242, 0, byte(a), 10}) }

// console is what an administrator does there.
func (g *generator) console(t event.Type, actor string, from netip.Addr) {
	g.ship(nil, g.consoleEvent(t, actor, from))
}

func (g *generator) consoleEvent(t event.Type, actor string, from netip.Addr) *shipment {
	s := g.begin(t, event.OriginConsole, g.now)
	s.ev.SetString(event.FieldActor, actor)
	s.ev.SetString(event.FieldActorRole, "admin")
	setSource(&s.ev, from)
	return s
}

// ownRun is what a run of Keysentry does to a key.
func (g *generator) ownRun(t event.Type, key *serverKey, look string) {
	s := g.begin(t, event.OriginKeysentry, g.now)
	s.ev.SetString(event.FieldActor, "keysentry")
	s.ev.SetString(event.FieldKeyID, key.id)
	s.truth.LookAlike = look
	g.ship(nil, s)
}

// overlap is how long both keys work in a rotation.
const overlap = 50 * time.Minute

// rotate replaces the live key by a run of Keysentry: hosts load the new one in
// two thirds of the time for which both work. Two hosts that were there long are
// forgotten, when stragglers says so, and go on with the old one.
func (g *generator) rotate(both time.Duration, stragglers bool) (fresh *serverKey) {
	old := g.key
	g.rotated++
	fresh = g.newKey(keyName(g.rotated))
	g.ownRun(event.TypeServerKeyCreated, fresh, LookAlikeRotation)
	g.after(both/100, func() {
		g.ownRun(event.TypeServerKeyActivated, fresh, LookAlikeRotation)
		g.key = fresh
		late := 0
		for _, h := range g.hosts {
			if stragglers && late < 2 && h.svc.vm && !h.svc.job {
				late++
				g.straggle(h, old, fresh)
				continue
			}
			g.after(g.between(both/100, both*2/3), func() { h.key = fresh })
		}
	})
	g.after(both, func() {
		g.ownRun(event.TypeServerKeyRevoked, old, LookAlikeRotation)
		old.alive = false
	})
	return fresh
}

// keyName is the n-th key of the network; keys of the same name are the same.
func keyName(n int) string { return "key " + strconv.Itoa(n) }

// straggle has a host try the old key until somebody redeploys it.
func (g *generator) straggle(h *host, old, fresh *serverKey) {
	g.after(overlap, func() {
		n := 40 + g.rng.IntN(50)
		g.repeat(n, func() time.Duration { return g.between(10*time.Second, 50*time.Second) }, func() {
			if h.key == old && h.up {
				u := g.person(h.region)
				g.visit(visit{h: h, user: g.userID(u), client: g.home(u, g.now), device: g.device(u, 0)})
			}
		})
	})
	g.after(overlap+g.between(25*time.Minute, 50*time.Minute), func() {
		h.key = fresh
	})
}

// sweep revokes the sessions of a part of the users; those who are online notice
// and log in again.
func (g *generator) sweep() {
	const look = LookAlikeSweep
	n := min(50_000, g.opt.Users/20)
	u, stride := g.rng.IntN(g.opt.Users), 1+2*g.rng.IntN(50)
	gap := 40 * time.Minute / time.Duration(max(n, 1))
	g.repeat(n, func() time.Duration { return gap }, func() {
		u = (u + stride) % g.opt.Users
		who := u
		s := g.begin(event.TypeSessionRevoked, event.OriginKeysentry, g.now)
		s.ev.SetString(event.FieldUserID, g.userID(who))
		s.ev.SetString(event.FieldActor, "keysentry")
		s.truth.LookAlike = look
		g.ship(nil, s)
		if g.rng.IntN(3) == 0 {
			g.after(g.between(time.Second, time.Hour)+time.Duration(g.rng.ExpFloat64()*float64(time.Hour)), func() { g.cutOff(who, look) })
		}
	})
}

// cutOff is a user whose sessions were revoked: a request is refused, and the
// client logs in again.
func (g *generator) cutOff(u int, look string) {
	g.refused(u, request{session: g.session(u), cause: event.CauseSessionRevoked, look: look,
		answer: g.oneOf(answer{status: 401}, answer{status: 401, code: "session_revoked"}, answer{status: 401})})
	g.after(g.between(time.Second, 10*time.Second), func() { g.loginOf(u, look) })
}

// loginOf has a user log in now.
func (g *generator) loginOf(u int, look string) {
	r := userRegion(u)
	if len(g.serving[r]) == 0 {
		r = 0
	}
	g.visit(visit{h: g.server(r), user: g.userID(u), client: g.home(u, g.now), device: g.usual(u), look: look})
}

// platformHiccup is some minutes in which the platform fails and all retry.
func (g *generator) platformHiccup() { g.hiccup = g.now.Add(g.between(3*time.Minute, 10*time.Minute)) }

// storm is a login during a hiccup, tried again and again.
func (g *generator) storm(h *host, u, tries int) {
	const look = LookAlikeStorm
	if g.now >= g.hiccup || tries >= 5 {
		g.loginOf(u, look)
		return
	}
	cause, a := event.CausePlatformError, g.oneOf(answer{status: 503}, answer{status: 500, code: "internal"}, answer{status: 502}, answer{status: 504})
	if g.rng.IntN(4) == 0 {
		cause, a = event.CauseRateLimited, g.oneOf(answer{status: 429}, answer{status: 429, code: "too_many_requests"})
	}
	s := g.minted(h, mint{key: h.key, user: g.userID(u), client: g.home(u, g.now), answer: a})
	s.truth.Cause, s.truth.LookAlike = cause, look
	g.ship(h, s)
	g.after(g.between(time.Second, 6*time.Second)<<min(tries, 3), func() { g.storm(g.server(h.region), u, tries+1) })
}
