package simulate

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/keysentry/keysentry/event"
)

// intruder is one scenario under way.
type intruder struct {
	g      *generator
	index  int // of its label
	script *Script
	began  event.Instant
	key    map[Subject]string
	addrs  []netip.Addr
	next   int // user of a sequence
	few    []int
}

// schedule gives every script its label and its time.
func (g *generator) schedule() {
	own := 0
	for _, s := range g.opt.Scripts {
		if s.When == OwnDay {
			own++
		}
	}
	days := g.opt.Duration.Hours() / 24
	k := 0
	for i, s := range g.opt.Scripts {
		in := &intruder{g: g, index: i, script: s, next: 1000 + g.rng.IntN(max(1, g.users.n/2)), key: map[Subject]string{
			DormantKey: g.fingerprint(dormantSecret), NewKey: g.fingerprint(newSecret), "unknown": g.fingerprint(unknownSecret)}}
		g.labels = append(g.labels, Label{Index: i, Scenario: s.Name, Kind: string(s.Incident), Theft: s.Theft, Cause: s.Cause.Cause})
		switch {
		case !g.opt.Calendar:
			g.at(g.share(float64(s.At)), in.begin)
		case s.When == Baseline:
			g.at(g.start.Add(g.hours(9, 20)), in.begin)
		case s.When == Rotation:
			g.during = append(g.during, in.begin)
		default:
			// From the ninth day on, each in a part of its own, at any hour.
			first := min(8, days/2)
			at := (first + (days-first-0.5)*(float64(k)+0.6*g.rng.Float64())/float64(own)) * float64(day)
			k++
			g.at(g.start.Add(time.Duration(at)), in.begin)
		}
	}
	if g.opt.Calendar {
		return
	}
	if len(g.opt.Scripts) == 0 {
		g.labels = []Label{{Scenario: Ordinary, Kind: "none"}}
	}
}

// begin fixes whom the scenario is about and plans its acts.
func (in *intruder) begin() {
	g := in.g
	in.began = g.now
	in.key[LiveKey], in.key[OldKey] = g.key, g.key
	for range 24 {
		in.addrs = append(in.addrs, g.abroad())
	}
	for range 5 {
		in.few = append(in.few, g.rng.IntN(g.users.n))
	}
	l := &g.labels[in.index]
	switch in.script.Subject {
	case Source:
		l.Field, l.Value = "source_ip", in.addrs[0].String()
	case LiveKey, OldKey, DormantKey, NewKey:
		l.Field, l.Value = "key_id", in.key[in.script.Subject]
	}
	for i := range in.script.Acts {
		a := &in.script.Acts[i]
		g.in(a.After.of(g.opt.Duration), func() { in.act(a) })
	}
}

// clouds are the first octets of ranges that intruders rent.
var clouds = []byte{5, 23, 45, 89, 103, 141, 185, 193}

// abroad is an address that no backend and no user has.
func (g *generator) abroad() netip.Addr {
	return netip.AddrFrom4([4]byte{clouds[g.rng.IntN(len(clouds))], byte(1 + g.rng.IntN(254)), byte(g.rng.IntN(256)), byte(1 + g.rng.IntN(254))})
}

// act does one act from now on.
func (in *intruder) act(a *Act) {
	g := in.g
	until := g.now.Add(a.For.of(g.opt.Duration))
	every := a.Every
	if a.Busy {
		every = time.Duration(float64(time.Second) / max(1, g.opt.Rate/20))
	}
	switch a.Act {
	case Mint:
		g.repeat(every, until, func() { in.mint(a) })
	case Forge:
		g.repeat(every, until, func() { in.forge(a) })
	case Replay:
		in.replay(a)
	case Victims:
		g.repeat(every, until, func() { in.victim(a) })
	case Job:
		g.repeat(every, until, func() { in.job(a) })
	case Console:
		in.console(a)
	case Leak:
		in.leak()
	case Rotate:
		g.rotateFor(max(time.Second, a.For.of(g.opt.Duration)), event.OriginConsole, 0)
	case Drift:
		h := g.someHost()
		h.drift = &drift{from: g.now, to: g.now.Add(2 * a.For.of(g.opt.Duration)), total: a.Total}
		l := &g.labels[in.index]
		l.Field, l.Value = "host", h.name
		in.g.drifting = append(in.g.drifting, drifting{h.name, in.index})
	}
}

// hostile sends the event as part of the attack.
func (in *intruder) hostile(delay time.Duration) {
	in.g.truth.Attack = in.index
	in.g.send(delay)
}

// from is the address of one call.
func (in *intruder) from(a *Act) netip.Addr {
	switch a.From {
	case "many":
		return in.addrs[in.g.rng.IntN(len(in.addrs))]
	case "fleet":
		return in.g.nightlyExit()
	}
	return in.addrs[0]
}

func (in *intruder) user(a *Act) int {
	switch a.Users {
	case "sequence":
		in.next++
		return in.next % in.g.users.n
	case "few":
		return in.few[in.g.rng.IntN(len(in.few))]
	}
	return in.g.rng.IntN(in.g.users.n)
}

// edge begins a mint that only the platform saw.
func (g *generator) edge(t event.Type) {
	g.begin(t, event.OriginPlatform, g.now)
	g.edgeSeq++
	g.ev.Seq = g.edgeSeq
	g.ev.Present = g.ev.Present.Set(event.FieldSeq)
	g.ev.SetString(event.FieldService, "platform")
	g.ev.SetString(event.FieldHost, "edge-1")
	g.ev.SetString(event.FieldBoot, "edge")
	g.ev.SetString(event.FieldRegion, "eu")
}

// mint asks for a token at the platform, past the network's own backends.
func (in *intruder) mint(a *Act) {
	g, key, u := in.g, in.key[a.Key], in.user(a)
	if !g.valid[key] || g.dead[key] != 0 {
		cause := event.CauseUnknownKey
		if g.valid[key] {
			cause = event.CauseRetiredKeyForeign
		}
		g.edge(event.TypeAuthTokenDenied)
		g.stampMint(key, g.users.name(u), "", event.ModeSecure, in.from(a), 401)
		g.refuse(401, either(g, "invalid_server_key", ""), "", cause)
		in.hostile(g.latency())
		return
	}
	from, token := in.from(a), g.token()
	g.edge(event.TypeAuthTokenIssued)
	g.stampMint(key, g.users.name(u), token, event.ModeSecure, from, 200)
	g.stampLife(g.ev.Time)
	in.hostile(g.latency())
	if a.Sessions {
		s := session{user: u, token: token, device: "v1:" + g.hex(16), client: from, minted: g.now, issued: g.now, id: "v1:" + g.hex(16)}
		g.in(time.Duration(90+g.rng.IntN(400))*time.Millisecond, func() { in.open(s, a.Reported) })
	}
}

// open opens a session as the intruder. The platform always sees it; we do, where
// only our own apps report, when the intruder uses one of them.
func (in *intruder) open(s session, reported bool) {
	g := in.g
	g.beginSession(event.TypeSessionCreated, &s)
	if !reported && g.ev.Origin == event.OriginClient {
		g.ev.Origin = event.OriginPlatform // nobody tells us
	}
	g.ev.SetString(event.FieldSessionID, s.id)
	g.ev.Status = 200
	g.ev.Present = g.ev.Present.Set(event.FieldStatus)
	in.hostile(g.latency())
}

// forge opens a session with a token of the intruder's own making.
func (in *intruder) forge(a *Act) {
	g := in.g
	in.open(session{user: in.user(a), token: g.token(), device: "v1:" + g.hex(16), client: in.from(a), id: "v1:" + g.hex(16)}, a.Reported)
}

// replay opens a session with the token of somebody who has just opened theirs.
func (in *intruder) replay(a *Act) {
	g := in.g
	victim := g.recent.last()
	if victim == nil {
		g.in(time.Minute, func() { in.replay(a) })
		return
	}
	s := *victim
	l := &g.labels[in.index]
	l.Field, l.Value = "user_id", g.users.name(s.user)
	s.device, s.client, s.host, s.id = "v1:"+g.hex(16), in.from(a), "", "v1:"+g.hex(16)
	g.in(time.Duration(2+g.rng.IntN(40))*time.Second, func() { in.open(s, a.Reported) })
}

// victim logs in as a user through the real backend, with the user's own password.
func (in *intruder) victim(a *Act) {
	g, h, u, from, token := in.g, in.g.anyHost(), in.user(a), in.from(a), in.g.token()
	g.speak(event.TypeAuthTokenIssued, h)
	g.stampMint(h.key, g.users.name(u), token, h.service.mode, h.exit, 200)
	g.stampCert(h.service)
	g.stampLife(g.ev.Time)
	g.setClient(from)
	in.hostile(h.ships + 10*time.Millisecond)
	s := session{user: u, token: token, device: "v1:" + g.hex(16), client: from, host: h.name, minted: g.now, issued: g.now, id: "v1:" + g.hex(16)}
	g.in(time.Duration(90+g.rng.IntN(400))*time.Millisecond, func() { in.open(s, true) })
}

// job mints under the name of the nightly job, out of its hours.
func (in *intruder) job(a *Act) {
	g, h := in.g, in.g.nightly
	if h == nil {
		h = g.someHost()
	}
	g.speak(event.TypeAuthTokenIssued, h)
	g.stampMint(in.key[a.Key], g.users.name(in.user(a)), g.token(), h.service.mode, in.from(a), 200)
	g.stampCert(h.service)
	g.stampLife(g.ev.Time)
	in.hostile(h.ships + 10*time.Millisecond)
}

func (g *generator) nightlyExit() netip.Addr {
	if g.nightly == nil {
		return g.hosts[0].exit
	}
	return g.nightly.exit
}

// console begins an event of the platform's console.
func (g *generator) console(t event.Type, actor, role string, from netip.Addr) {
	g.begin(t, event.OriginConsole, g.now)
	g.ev.SetString(event.FieldActor, actor)
	g.ev.SetString(event.FieldActorRole, role)
	g.setSource(from)
}

// console acts as an administrator whose session was stolen.
func (in *intruder) console(a *Act) {
	g := in.g
	actor, role := a.Actor, a.Role
	if actor == "" {
		actor = admins[g.rng.IntN(len(admins))]
	}
	if role == "" {
		role = "admin"
	}
	g.console(a.What, actor, role, in.from(a))
	if a.What == event.TypeServerKeyCreated || a.What == event.TypeServerKeyActivated {
		g.ev.SetString(event.FieldKeyID, in.key[NewKey])
		g.valid[in.key[NewKey]] = true
	}
	in.hostile(g.latency())
}

// leak is a host that writes the live key into the reason of a refusal.
func (in *intruder) leak() {
	g, h := in.g, in.g.someHost()
	g.speak(event.TypeAuthTokenDenied, h)
	g.stampMint(h.key, g.users.name(g.rng.IntN(g.users.n)), "", h.service.mode, h.exit, 400)
	secret := liveSecret
	if g.key != g.fingerprint(liveSecret) {
		secret = secondSecret
	}
	g.refuse(400, "bad_request", fmt.Sprintf("request header x-server-key: %s could not be read", secret), event.CauseBadRequest)
	in.hostile(h.ships + 10*time.Millisecond)
}

// drifting is a host whose clock a scenario lets run away.
type drifting struct {
	host  string
	index int
}
