package simulate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/event"
)

// generator is one run of Generate.
type generator struct {
	opt        Options
	emit       func(*event.Event, Truth) error
	rng        *rand.Rand
	start, end event.Instant
	now        event.Instant

	services []service
	hosts    []*host
	jobs     []*host    // those of the nightly job
	serving  [3][]*host // the others, by region
	gateway  *host
	key      *serverKey // the live one
	dormant  *serverKey // an older one that nobody uses; nil: there is none
	moves    map[string]int
	releases map[string]int
	rotated  int // how often

	// What is the case now.
	peak        float64 // the volume, times this
	hiccup      event.Instant
	secureOff   bool // Secure Mode is: nobody mints
	carrierPool [3]int
	rates       [3]float64 // logins per second by region, of this minute
	ratesOf     event.Instant

	plays  []play
	labels []Label
	timers queue[func()]
	opens  queue[opening]
	out    queue[*shipment]
	free   []*shipment
	n      uint64 // events so far
	id     []byte
}

// shipment is an event on its way to the broker.
type shipment struct {
	ev       event.Event
	truth    Truth
	happened event.Instant
}

func newGenerator(opt Options) (*generator, error) {
	if opt.Duration <= 0 || opt.Rate <= 0 || opt.Rate > 1e7 {
		return nil, fmt.Errorf("simulate: a duration and a rate above zero are needed, and a rate of at most 1e7")
	}
	if opt.Hosts < 0 || opt.Hosts > maxHosts || opt.Users < 0 || opt.Users > maxUsers {
		return nil, fmt.Errorf("simulate: at most %d hosts and %d users", maxHosts, maxUsers)
	}
	switch opt.Visibility {
	case "":
		opt.Visibility = VisibilityPlatform
	case VisibilityPlatform, VisibilityBackend:
	default:
		return nil, fmt.Errorf("simulate: visibility %q: there are %s and %s", opt.Visibility, VisibilityPlatform, VisibilityBackend)
	}
	plays, err := opt.plays()
	if err != nil {
		return nil, err
	}
	opt = opt.filled()
	g := &generator{opt: opt, plays: plays, rng: rand.New(rand.NewPCG(opt.Seed, 0x6b657973656e7472)),
		start: event.At(opt.Start), end: event.At(opt.Start.Add(opt.Duration)), peak: 1,
		moves: map[string]int{}, releases: map[string]int{}}
	g.now = g.start
	g.key = g.newKey(keyName(0))
	for _, p := range plays {
		if p.script.Network.DormantKey {
			g.dormant = g.newKey("dormant key")
		}
	}
	g.build()
	return g, nil
}

// maxHosts and maxUsers bound memory and the form of user ids.
const (
	maxHosts = 10_000
	maxUsers = 100_000_000
)

// filled puts in what was left to be chosen.
func (o Options) filled() Options {
	if o.Network == "" {
		o.Network = "demo"
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	}
	if o.Hosts == 0 {
		o.Hosts = 20
	}
	if o.Users == 0 {
		o.Users = 10_000
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 2 * time.Minute
	}
	if len(o.FingerprintKey) == 0 {
		o.FingerprintKey = []byte("simulated network")
	}
	return o
}

// run goes from one thing that happens to the next, and hands over what has
// arrived in between.
func (g *generator) run() error {
	next := g.start.Add(g.gap())
	for {
		g.now = min(next, g.timers.next(), g.opens.next())
		over := g.now >= g.end
		for len(g.out.items) > 0 && (over || g.out.next() <= g.now) {
			if err := g.deliver(); err != nil {
				return err
			}
		}
		switch {
		case over:
			return nil
		case g.now == g.timers.next():
			g.timers.pop()()
		case g.now == g.opens.next():
			g.open(g.opens.pop())
		default:
			g.login()
			next = g.now.Add(g.gap())
		}
	}
}

// deliver hands the next event over, and keeps its label.
func (g *generator) deliver() error {
	at := g.out.next()
	s := g.out.pop()
	s.ev.ObservedAt = at
	if i := s.truth.Attack; i >= 0 {
		l := &g.labels[i]
		if l.Hostile == 0 {
			l.FirstID, l.First = s.ev.ID, s.happened
		}
		l.Hostile++
	}
	err := g.emit(&s.ev, s.truth)
	g.free = append(g.free, s)
	return err
}

// begin makes the next event, at a clock; its id counts. Hosts tell milliseconds.
func (g *generator) begin(t event.Type, origin event.Origin, clock event.Instant) *shipment {
	var s *shipment
	if n := len(g.free); n > 0 {
		s, g.free = g.free[n-1], g.free[:n-1]
		s.ev = event.Event{}
	} else {
		s = &shipment{}
	}
	s.truth, s.happened = Truth{Attack: -1}, g.now
	e := &s.ev
	e.Type, e.Origin = t, origin
	e.Present = e.Present.Set(event.FieldType)
	g.n++
	g.id = append(g.id[:0], 's')
	g.id = strconv.AppendUint(g.id, g.opt.Seed, 36)
	g.id = append(g.id, '-')
	g.id = strconv.AppendUint(g.id, g.n, 10)
	e.SetString(event.FieldID, string(g.id))
	e.SetInstant(event.FieldTime, milliseconds(clock))
	e.SetString(event.FieldNetwork, g.opt.Network)
	return s
}

func milliseconds(i event.Instant) event.Instant { return i - i%event.Instant(time.Millisecond) }

// told begins an event that a host tells about itself, on its own clock.
func (g *generator) told(t event.Type, origin event.Origin, h *host) *shipment {
	s := g.begin(t, origin, g.now.Add(h.clock.ahead(g.now)))
	e := &s.ev
	h.seq++
	e.Seq = h.seq
	e.Present = e.Present.Set(event.FieldSeq)
	g.instance(e, h)
	e.SetString(event.FieldBoot, h.boot)
	if h.release != "" {
		e.SetString(event.FieldRelease, h.release)
	}
	return s
}

// instance names the host.
func (g *generator) instance(e *event.Event, h *host) {
	e.SetString(event.FieldRegion, regions[h.region].name)
	e.SetString(event.FieldService, h.svc.name)
	e.SetString(event.FieldHost, h.name)
}

// ship sends an event through a host; nil: through nobody's, and a moment later.
func (g *generator) ship(h *host, s *shipment) {
	sent, arrives := g.now, g.now.Add(time.Duration(20+g.rng.IntN(280))*time.Millisecond)
	if h != nil {
		sent, arrives = h.shipping.send(g.now, g.rng.Uint64())
		sent = sent.Add(h.clock.ahead(sent))
	}
	s.ev.SetInstant(event.FieldSentAt, max(milliseconds(sent), s.ev.Time))
	if g.opt.Visibility == VisibilityBackend {
		switch s.ev.Origin {
		case event.OriginBackend, event.OriginClient, event.OriginKeysentry:
		default:
			g.free = append(g.free, s)
			return
		}
	}
	g.out.push(arrives, s)
}

// at has do called at a time.
func (g *generator) at(when event.Instant, do func()) { g.timers.push(when, do) }

// after has do called later.
func (g *generator) after(d time.Duration, do func()) { g.timers.push(g.now.Add(d), do) }

// repeat has do called n times, now and after each gap.
func (g *generator) repeat(n int, gap func() time.Duration, do func()) {
	var step func()
	step = func() {
		do()
		if n--; n > 0 {
			g.after(gap(), step)
		}
	}
	if n > 0 {
		step()
	}
}

// between is a span from lo to hi, by chance.
func (g *generator) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(g.rng.Int64N(int64(hi-lo)))
}

func (g *generator) fingerprint(v string) string { return event.Fingerprint(g.opt.FingerprintKey, v) }

// token is the fingerprint of a token that nobody needs to know: a random one.
func (g *generator) token() string { return "v1:" + g.hex(16) }

func (g *generator) hex(bytes int) string {
	var b [32]byte
	for i := 0; i < 2*bytes; i += 16 {
		v := g.rng.Uint64()
		for j := range 16 {
			b[i+j] = hexDigits[v&15]
			v >>= 4
		}
	}
	return string(b[:2*bytes])
}

func setStatus(e *event.Event, status uint16) {
	e.Status = status
	e.Present = e.Present.Set(event.FieldStatus)
}

func setSource(e *event.Event, a netip.Addr) {
	e.SourceIP = a
	e.Present = e.Present.Set(event.FieldSourceIP)
}

func setClient(e *event.Event, a netip.Addr) {
	e.ClientIP = a
	e.Present = e.Present.Set(event.FieldClientIP)
}

func setMode(e *event.Event, m event.AuthMode) {
	e.Mode = m
	e.Present = e.Present.Set(event.FieldAuthMode)
}
