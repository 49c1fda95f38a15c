package simulate

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/event"
)

// tokenLife, sessionLife and leeway are the simulated platform's.
const (
	tokenLife   = 10 * time.Minute
	sessionLife = 30 * 24 * time.Hour
	leeway      = 60 * time.Second
)

// The secrets of the simulated network, which exist nowhere else.
const (
	liveSecret    = "sk_live_simulated_first_0001"
	secondSecret  = "sk_live_simulated_second_0002"
	dormantSecret = "sk_live_simulated_dormant_0003"
	newSecret     = "sk_live_simulated_planted_0004"
	unknownSecret = "sk_live_simulated_guessed_0005"
)

// generator is one run of Generate. Every event is built in place in ev.
type generator struct {
	opt        Options
	emit       func(*event.Event, Truth) error
	rng        *rand.Rand
	start, end event.Instant
	now        event.Instant
	labels     []Label

	services []*service
	hosts    []*host // all that live, over all services
	nightly  *host
	users    population
	recent   sessions
	key      string                   // fingerprint of the live key
	dead     map[string]event.Instant // keys that work no longer, and since when
	valid    map[string]bool          // keys that ever worked
	missing  bool                     // a bad release of the app forgets the auth token
	load     float64                  // of a campaign: what the rate is multiplied by
	fault    fault                    // what the platform answers instead of working
	during   []func()                 // what begins with the rotation
	drifting []drifting
	edgeSeq  uint64 // of the platform's own report

	acts     acts
	order    uint64
	arrivals arrivals
	ev       event.Event
	truth    Truth
	n        uint64 // events so far
	id       []byte
	err      error
}

func newGenerator(opt Options) (*generator, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	g := &generator{opt: opt, rng: rand.New(rand.NewPCG(opt.Seed, 0x6b657973656e7472)), start: event.At(opt.Start),
		end: event.At(opt.Start.Add(opt.Duration)), dead: map[string]event.Instant{}, valid: map[string]bool{}, load: 1}
	g.now = g.start
	g.key = g.fingerprint(liveSecret)
	g.valid[g.key], g.valid[g.fingerprint(dormantSecret)] = true, true
	g.users = population{n: opt.Users, seed: opt.Seed}
	g.build()
	g.at(g.start.Add(g.gap()), g.login)
	g.heartbeats()
	if opt.Calendar {
		g.calendar()
	}
	g.schedule()
	return g, nil
}

// act is something that happens at a time.
type act struct {
	at    event.Instant
	order uint64 // of two at one time the one planned first
	do    func()
}

type acts []act

func (a acts) Len() int { return len(a) }
func (a acts) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].order < a[j].order
}
func (a acts) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *acts) Push(x any) { *a = append(*a, x.(act)) }

// Pop implements heap.Interface.
func (a *acts) Pop() any {
	q := *a
	last := q[len(q)-1]
	q[len(q)-1] = act{}
	*a = q[:len(q)-1]
	return last
}

// at plans something.
func (g *generator) at(t event.Instant, do func()) {
	g.order++
	heap.Push(&g.acts, act{t, g.order, do})
}

// in plans something for so much later.
func (g *generator) in(d time.Duration, do func()) { g.at(g.now.Add(d), do) }

// repeat does something every so often, a little irregularly, from now until then.
func (g *generator) repeat(every time.Duration, until event.Instant, do func()) {
	var again func()
	again = func() {
		if g.now >= until {
			return
		}
		do()
		g.in(time.Duration((0.6+0.8*g.rng.Float64())*float64(every)), again)
	}
	again()
}

// run lets things happen and hands out what has arrived.
func (g *generator) run() error {
	for len(g.acts) > 0 && g.acts[0].at < g.end && g.err == nil {
		a := heap.Pop(&g.acts).(act)
		g.deliver(a.at)
		g.now = a.at
		a.do()
	}
	g.deliver(g.end)
	return g.err
}

// deliver hands out what arrives before a time.
func (g *generator) deliver(before event.Instant) {
	for g.err == nil {
		a := g.arrivals.pop(before)
		if a == nil {
			return
		}
		if k := a.truth.Attack; k >= 0 {
			g.labels[k].count(a)
		}
		g.err = g.emit(&a.ev, a.truth)
	}
}

// gap is the time to the next login. A login makes two events, and heartbeats
// count too.
func (g *generator) gap() time.Duration {
	beats := float64(g.opt.Hosts) / g.opt.Heartbeat.Seconds()
	rate := max(g.opt.Rate-beats, g.opt.Rate/10) / 2 * season(g.now, g.opt.Calendar) * g.load
	return time.Duration(g.rng.ExpFloat64() / rate * float64(time.Second))
}

// summer is when the clocks of Europe change in 2026.
var summer = event.At(time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC))

// season is the daily and weekly swing around 1: least at four in the morning,
// and a fifth less at weekends, made up for by the other days.
func season(now event.Instant, local bool) float64 {
	const day = 24 * time.Hour
	if local { // people live by the clocks on their walls
		now = now.Add(time.Hour)
		if now > summer && now < summer.Add(217*day) {
			now = now.Add(time.Hour)
		}
	}
	ns := int64(now) % int64(day)
	daily := 1 - 0.5*math.Cos(2*math.Pi*(float64(ns)/float64(day)-4.0/24))
	weekday := (int64(now)/int64(day) + 3) % 7 // 1970-01-01 was a Thursday; 0 is Monday
	if weekday >= 5 {
		return daily * 0.8
	}
	return daily * 1.08
}

// begin starts the next event; its id counts. Hosts tell milliseconds.
func (g *generator) begin(t event.Type, origin event.Origin, clock event.Instant) {
	clock -= clock % event.Instant(time.Millisecond)
	g.ev = event.Event{Type: t, Origin: origin}
	g.truth = Truth{Attack: -1}
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

// visible reports whether somebody of that origin reports to us.
func (g *generator) visible(o event.Origin) bool {
	return g.opt.Visibility != VisibilityBackend || o == event.OriginBackend || o == event.OriginClient || o == event.OriginKeysentry
}

// send lets the event arrive after a delay, if anybody reports it.
func (g *generator) send(delay time.Duration) {
	if !g.visible(g.ev.Origin) {
		return
	}
	g.ev.ObservedAt = g.now.Add(delay)
	g.arrivals.push(&g.ev, g.truth, g.now)
}

// refuse says how the event was refused, and why in truth.
func (g *generator) refuse(status uint16, code, reason string, cause event.Cause) {
	g.ev.Status = status
	if status != 0 {
		g.ev.Present = g.ev.Present.Set(event.FieldStatus)
	}
	if code != "" {
		g.ev.SetString(event.FieldCode, code)
	}
	if reason != "" {
		g.ev.SetString(event.FieldReason, reason)
	}
	g.truth.Cause = cause
}

// latency is how long the platform's and the clients' own reports take.
func (g *generator) latency() time.Duration {
	return time.Duration((0.05 + 0.4*g.rng.ExpFloat64()) * float64(time.Second))
}

func (g *generator) chance(p float64) bool { return g.rng.Float64() < p }

func (g *generator) setSource(a netip.Addr) {
	g.ev.SourceIP = a
	g.ev.Present = g.ev.Present.Set(event.FieldSourceIP)
}

func (g *generator) fingerprint(v string) string { return event.Fingerprint(g.opt.FingerprintKey, v) }

// token is the fingerprint of a value that nobody needs to know: a random one.
func (g *generator) token() string { return "v1:" + g.hex(16) }

func (g *generator) hex(bytes int) string {
	var b [32]byte
	for i := 0; i < 2*bytes; i += 16 {
		hexDigits(b[i:], g.rng.Uint64())
	}
	return string(b[:2*bytes])
}

// hexDigits writes 16 digits.
func hexDigits(b []byte, v uint64) {
	const digits = "0123456789abcdef"
	for j := range 16 {
		b[j] = digits[v&15]
		v >>= 4
	}
}
