package simulate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/event"
)

// tokenLife and leeway are the simulated platform's.
const (
	tokenLife = 10 * time.Minute
	leeway    = 30 * time.Second
)

// generator is one run of Generate. Every event is built in place in ev.
type generator struct {
	opt   Options
	emit  func(*event.Event) error
	rng   *rand.Rand
	start event.Instant
	end   event.Instant
	label Label

	hosts   []host
	gateway host
	users   []string
	clients []netip.Addr // a user's usual address
	key     string       // fingerprint of the live key
	acts    []act
	opens   openings
	ev      event.Event
	n       uint64 // events so far
	id      []byte
}

type host struct {
	name, region, boot, key string
	addr                    netip.Addr
	seq                     uint64
	clock                   func(now event.Instant) time.Duration // nil: right
}

// heartbeatEvery is how often each host speaks up.
const heartbeatEvery = 30 * time.Second

func newGenerator(opt Options, emit func(*event.Event) error) (*generator, error) {
	if opt.Duration <= 0 || opt.Rate <= 0 || opt.Rate > 1e7 || emit == nil {
		return nil, errors.New("simulate: a duration and a rate above zero are needed, and a rate of at most 1e7")
	}
	if opt.Network == "" {
		opt.Network = "demo"
	}
	if opt.Start.IsZero() {
		opt.Start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	}
	if opt.Hosts <= 0 {
		opt.Hosts = 20
	}
	if opt.Users <= 0 {
		opt.Users = 10_000
	}
	if len(opt.FingerprintKey) == 0 {
		opt.FingerprintKey = []byte("simulated network")
	}
	g := &generator{opt: opt, emit: emit, rng: rand.New(rand.NewPCG(opt.Seed, 0x6b657973656e7472)),
		start: event.At(opt.Start), end: event.At(opt.Start.Add(opt.Duration)), label: Label{Kind: "none"}}
	g.key = g.fingerprint("sk_live_first")
	for i := range opt.Hosts {
		g.hosts = append(g.hosts, host{name: "api-" + strconv.Itoa(i+1), region: [...]string{"eu", "us", "sg"}[i%3], key: g.key,
			boot: g.hex(8), addr: netip.AddrFrom4([4]byte{10, 20, byte(i >> 8), byte(i)})})
	}
	g.gateway = host{name: "gw-1", region: "eu", boot: g.hex(8)}
	for i := range opt.Users {
		g.users = append(g.users, fmt.Sprintf("user-%06d", i))
		g.clients = append(g.clients, netip.AddrFrom4([4]byte{100, 64 + byte(i>>16)%64, byte(i >> 8), byte(i)}))
	}
	return g, nil
}

// run merges ordinary traffic, heartbeats, sessions under way and acts by time.
func (g *generator) run() error {
	acts := append(g.acts, g.heartbeats()...)
	next := g.start.Add(g.gap(g.start))
	for {
		now, which := next, -1
		for i := range acts {
			if acts[i].at != 0 && acts[i].at <= now {
				now, which = acts[i].at, i
			}
		}
		if len(g.opens) > 0 && g.opens[0].at <= now {
			now, which = g.opens[0].at, -2
		}
		if now >= g.end {
			return nil
		}
		var err error
		switch which {
		case -1:
			next = now.Add(g.gap(now))
			err = g.login(now)
		case -2:
			err = g.open(g.opens.pop())
		default:
			acts[which].at, err = acts[which].do(now)
		}
		if err != nil {
			return err
		}
	}
}

// gap is the time to the next login. A login makes two events, and heartbeats
// count too.
func (g *generator) gap(now event.Instant) time.Duration {
	beats := float64(len(g.hosts)) / heartbeatEvery.Seconds()
	rate := max(g.opt.Rate-beats, g.opt.Rate/10) / 2 * season(now)
	return time.Duration(g.rng.ExpFloat64() / rate * float64(time.Second))
}

// season is the daily and weekly swing around 1: least at four in the morning,
// and a fifth less at weekends, made up for by the other days.
func season(now event.Instant) float64 {
	const day = 24 * time.Hour
	ns := int64(now) % int64(day)
	daily := 1 - 0.5*math.Cos(2*math.Pi*(float64(ns)/float64(day)-4.0/24))
	weekday := (int64(now)/int64(day) + 3) % 7 // 1970-01-01 was a Thursday; 0 is Monday
	if weekday >= 5 {
		return daily * 0.8
	}
	return daily * 1.08
}

// heartbeats makes one act per host, spread over the interval.
func (g *generator) heartbeats() []act {
	out := make([]act, 0, 1)
	at := g.start
	step := heartbeatEvery / time.Duration(len(g.hosts))
	i := 0
	return append(out, act{at: at, do: func(now event.Instant) (event.Instant, error) {
		h := &g.hosts[i]
		i = (i + 1) % len(g.hosts)
		g.speak(event.TypeHeartbeat, h, now)
		g.ev.SetString(event.FieldKeyID, h.key)
		g.ev.ClockOffset, g.ev.ClockError = h.ahead(now).Seconds(), 0.01
		g.ev.Present = g.ev.Present.Set(event.FieldClockOffset).Set(event.FieldClockError)
		return now.Add(step), g.out()
	}})
}

func (h *host) ahead(now event.Instant) time.Duration {
	if h.clock == nil {
		return 0
	}
	return h.clock(now)
}

// login is one backend minting for one user, who opens a session a moment later.
func (g *generator) login(now event.Instant) error {
	h := &g.hosts[g.rng.IntN(len(g.hosts))]
	u := g.rng.IntN(len(g.users))
	user, client := g.users[u], g.clients[u]
	token := g.token()
	g.speak(event.TypeAuthTokenIssued, h, now)
	g.stampMint(mint{key: h.key, from: h.addr, status: 200, user: user, token: token})
	g.ev.SetInstant(event.FieldIssuedAt, g.ev.Time)
	g.ev.SetInstant(event.FieldExpiresAt, g.ev.Time.Add(tokenLife))
	g.ev.ClientIP = client
	g.ev.Present = g.ev.Present.Set(event.FieldClientIP)
	o := opening{at: now.Add(time.Duration(50+g.rng.IntN(400)) * time.Millisecond), user: user, token: token, client: client, host: h.name}
	switch ahead := h.ahead(now); {
	case ahead > leeway:
		o.code, o.hostile = "auth_token_not_yet_valid", true
	case g.rng.IntN(400) == 0:
		o.at, o.code = o.at.Add(tokenLife+leeway), "auth_token_expired" // a phone that slept
	}
	g.push(o)
	return g.out()
}

// opening is a session that a user is about to open.
type opening struct {
	at                      event.Instant
	user, token, host, code string // code: why it will be refused
	client                  netip.Addr
	hostile                 bool
}

func (g *generator) push(o opening) { g.opens.push(o) }

func (g *generator) open(o opening) error {
	t, status := event.TypeSessionCreated, uint16(200)
	if o.code != "" {
		t, status = event.TypeSessionDenied, 403
	}
	g.begin(t, o.at)
	g.ev.Origin = event.OriginGateway
	g.ev.SetString(event.FieldRegion, g.gateway.region)
	g.ev.SetString(event.FieldService, "chat")
	if o.host != "" {
		g.ev.SetString(event.FieldHost, o.host)
	}
	g.ev.SetString(event.FieldUserID, o.user)
	g.ev.SetString(event.FieldTokenID, o.token)
	g.ev.SetString(event.FieldEndpoint, "/api/v4/sessions")
	if o.code != "" {
		g.ev.SetString(event.FieldCode, o.code)
	}
	g.ev.Status, g.ev.SourceIP = status, o.client
	g.ev.Present = g.ev.Present.Set(event.FieldStatus).Set(event.FieldSourceIP)
	if o.hostile {
		return g.hostile()
	}
	return g.out()
}

// mint is one call of the mint endpoint.
type mint struct {
	key, user, token, code string
	from                   netip.Addr
	status                 uint16
}

// gatewayMint begins a mint that only the gateway saw.
func (g *generator) gatewayMint(now event.Instant, m mint) {
	t := event.TypeAuthTokenIssued
	if m.status != 200 {
		t = event.TypeAuthTokenDenied
	}
	g.speak(t, &g.gateway, now)
	g.ev.Origin = event.OriginGateway
	g.ev.SetString(event.FieldService, "gateway")
	g.stampMint(m)
}

func (g *generator) stampMint(m mint) {
	g.ev.Mode, g.ev.Status, g.ev.SourceIP = event.ModeSecure, m.status, m.from
	g.ev.Present = g.ev.Present.Set(event.FieldAuthMode).Set(event.FieldStatus).Set(event.FieldSourceIP)
	g.ev.SetString(event.FieldUserID, m.user)
	g.ev.SetString(event.FieldKeyID, m.key)
	g.ev.SetString(event.FieldEndpoint, "/api/v4/authentication/token")
	if m.token != "" {
		g.ev.SetString(event.FieldTokenID, m.token)
	}
	if m.code != "" {
		g.ev.SetString(event.FieldCode, m.code)
	}
}

// lifecycle begins an event of the console.
func (g *generator) lifecycle(t event.Type, key string, now event.Instant) {
	g.begin(t, now)
	g.ev.Origin = event.OriginConsole
	g.ev.SetString(event.FieldActor, "console-admin")
	g.ev.SetString(event.FieldActorRole, "admin")
	g.ev.SetString(event.FieldKeyID, key)
}

// speak begins an event that a host tells, on its own clock.
func (g *generator) speak(t event.Type, h *host, now event.Instant) {
	g.begin(t, now.Add(h.ahead(now)))
	g.ev.Origin = event.OriginBackend
	h.seq++
	g.ev.Seq = h.seq
	g.ev.Present = g.ev.Present.Set(event.FieldSeq)
	g.ev.SetString(event.FieldRegion, h.region)
	g.ev.SetString(event.FieldService, "chat-backend")
	g.ev.SetString(event.FieldHost, h.name)
	g.ev.SetString(event.FieldBoot, h.boot)
}

// begin starts the next event; its id counts. Hosts tell milliseconds.
func (g *generator) begin(t event.Type, clock event.Instant) {
	clock -= clock % event.Instant(time.Millisecond)
	g.ev = event.Event{Type: t}
	g.ev.Present = g.ev.Present.Set(event.FieldType)
	g.n++
	g.id = append(g.id[:0], 's')
	g.id = strconv.AppendUint(g.id, g.opt.Seed, 36)
	g.id = append(g.id, '-')
	g.id = strconv.AppendUint(g.id, g.n, 10)
	g.ev.SetString(event.FieldID, string(g.id))
	g.ev.SetInstant(event.FieldTime, clock)
	g.ev.SetInstant(event.FieldSentAt, clock)
	g.ev.SetString(event.FieldNetwork, g.opt.Network)
}

func (g *generator) out() error { return g.emit(&g.ev) }

// hostile emits the event and counts it for the label.
func (g *generator) hostile() error {
	if g.label.Hostile == 0 {
		g.label.FirstID, g.label.First = g.ev.ID, g.ev.Time
	}
	g.label.Hostile++
	return g.out()
}

func (g *generator) once(at event.Instant, do func(event.Instant) error) {
	g.acts = append(g.acts, act{at, func(now event.Instant) (event.Instant, error) { return 0, do(now) }})
}

func (g *generator) repeat(from, to event.Instant, every time.Duration, do func(event.Instant) error) {
	g.acts = append(g.acts, act{from, func(now event.Instant) (event.Instant, error) {
		next := now.Add(every)
		if next >= to {
			next = 0
		}
		return next, do(now)
	}})
}

func (g *generator) anyUser() string { return g.users[g.rng.IntN(len(g.users))] }

func (g *generator) fingerprint(v string) string { return event.Fingerprint(g.opt.FingerprintKey, v) }

// token is the fingerprint of a token that nobody needs to know: a random one.
func (g *generator) token() string { return "v1:" + g.hex(16) }

func (g *generator) hex(bytes int) string {
	const digits = "0123456789abcdef"
	var b [32]byte
	for i := 0; i < 2*bytes; i += 16 {
		v := g.rng.Uint64()
		for j := range 16 {
			b[i+j] = digits[v&15]
			v >>= 4
		}
	}
	return string(b[:2*bytes])
}

// openings is a heap by time.
type openings []opening

func (h *openings) push(o opening) {
	q := append(*h, o)
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if q[up].at <= q[i].at {
			break
		}
		q[up], q[i] = q[i], q[up]
		i = up
	}
	*h = q
}

func (h *openings) pop() opening {
	q := *h
	first := q[0]
	last := len(q) - 1
	q[0], q[last] = q[last], opening{}
	q = q[:last]
	for i := 0; ; {
		small := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < last && q[c].at < q[small].at {
				small = c
			}
		}
		if small == i {
			break
		}
		q[i], q[small] = q[small], q[i]
		i = small
	}
	*h = q
	return first
}
