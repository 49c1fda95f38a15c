package simulate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/event"
)

// service is one identity that mints.
type service struct {
	name    string
	share   float64 // of the logins
	mode    event.AuthMode
	egress  netip.Prefix
	exits   []netip.Addr // where its calls come from, inside egress
	regions []string
	nightly bool
	release int
	hosts   []*host
	pods    int // hosts that it ever had

	certID, cn       string
	certFrom, certTo event.Instant
}

// host is one instance of a service.
type host struct {
	service                 *service
	name, region, boot, key string
	exit                    netip.Addr
	seq                     uint64
	gone                    bool
	ships                   time.Duration // how long its records take, always
	tells                   bool          // its heartbeats carry its clock's offset
	base                    time.Duration // what its clock is always off
	drift                   *drift
	cert                    certFault
}

// drift is a clock that runs away until somebody sets it.
type drift struct {
	from, to event.Instant
	total    time.Duration // ahead at the end; negative: behind
}

// ahead is how far the host's clock is ahead of true time.
func (h *host) ahead(now event.Instant) time.Duration {
	d := h.drift
	if d == nil || now < d.from || now >= d.to {
		return h.base
	}
	return h.base + time.Duration(float64(d.total)*min(1, 2*float64(now-d.from)/float64(d.to-d.from)))
}

// admins are the people of the console, who work in office hours, in UTC.
var admins = []string{"admin-one", "admin-two", "admin-three"}

const officeFrom, officeTo = 8, 17

// officeNet is where they work.
var officeNet = prefix("192.0.2.0/26")

// build makes the services and their hosts.
func (g *generator) build() {
	g.services = []*service{
		{name: "chat-backend", share: 0.75, mode: event.ModeSecureMtls, egress: prefix("198.51.100.0/26"), regions: []string{"eu", "us", "sg"}},
		{name: "live-backend", share: 0.25, mode: event.ModeSecureMtls, egress: prefix("198.51.100.64/26"), regions: []string{"eu", "us"}},
	}
	if g.opt.Hosts >= 10 {
		g.services = append(g.services, &service{name: "nightly-export", mode: event.ModeSecureMtls, egress: prefix("198.51.100.128/28"), regions: []string{"eu"}, nightly: true})
	}
	for i, s := range g.services {
		first := s.egress.Addr().As4()
		for k := range 3 {
			s.exits = append(s.exits, netip.AddrFrom4([4]byte{first[0], first[1], first[2], first[3] + byte(2+k)}))
		}
		s.cn = s.name + ".internal"
		s.certID = "sha256:" + g.hex(16)
		s.certFrom, s.certTo = g.start.Add(-200*24*time.Hour), g.start.Add(165*24*time.Hour)
		n := 1
		switch {
		case i == 0:
			n = max(1, int(0.7*float64(g.opt.Hosts)))
		case !s.nightly:
			n = max(1, g.opt.Hosts-int(0.7*float64(g.opt.Hosts))-1)
		}
		for range n {
			g.addHost(s)
		}
	}
	if !g.opt.Calendar {
		for _, s := range g.services {
			s.mode = event.ModeSecure
		}
	}
	if s := g.services[len(g.services)-1]; s.nightly {
		g.nightly = s.hosts[0]
		g.nightly.name = "nightly-export-1"
	}
}

// addHost starts an instance; it says nothing yet.
func (g *generator) addHost(s *service) *host {
	s.pods++
	h := &host{service: s, name: s.name + "-" + strconv.Itoa(s.pods), region: s.regions[s.pods%len(s.regions)], boot: g.hex(8), key: g.key,
		exit: s.exits[s.pods%2], ships: time.Duration(20+g.rng.IntN(200)) * time.Millisecond, tells: !g.chance(0.2),
		base: time.Duration(g.rng.NormFloat64() * 4 * float64(time.Millisecond))}
	if g.opt.Calendar && g.chance(0.03) {
		h.ships = time.Duration(1+g.rng.IntN(20)) * time.Second // a log shipper in between
	}
	s.hosts = append(s.hosts, h)
	g.hosts = append(g.hosts, h)
	return h
}

// removeHost forgets an instance.
func (g *generator) removeHost(h *host) {
	h.gone = true
	without := func(list []*host) []*host {
		out := list[:0]
		for _, o := range list {
			if o != h {
				out = append(out, o)
			}
		}
		return out
	}
	h.service.hosts, g.hosts = without(h.service.hosts), without(g.hosts)
}

// anyHost is a host that mints all day.
func (g *generator) anyHost() *host {
	s := g.services[0]
	if g.chance(g.services[1].share) {
		s = g.services[1]
	}
	return s.hosts[g.rng.IntN(len(s.hosts))]
}

// population are the users, each a function of its number.
type population struct {
	n    int
	seed uint64
}

func (p population) hash(user int, what uint64) uint64 {
	z := p.seed*0x9e3779b97f4a7c15 + uint64(user)*0xbf58476d1ce4e5b9 + what*0x94d049bb133111eb
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (p population) name(user int) string { return fmt.Sprintf("user-%07d", user) }

// device is one of the two that a user has.
func (p population) device(user, which int) string {
	var b [35]byte
	copy(b[:], "v1:")
	hexDigits(b[3:], p.hash(user, 10+uint64(which)))
	hexDigits(b[19:], p.hash(user, 20+uint64(which)))
	return string(b[:])
}

// homes are the first octets of addresses at home.
var homes = []byte{31, 37, 62, 77, 81, 85, 91, 109, 151, 176, 188, 212}

func (p population) home(user int) netip.Addr {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], p.hash(user, 1))
	return netip.AddrFrom4([4]byte{homes[int(b[0])%len(homes)], b[1], b[2], 1 + b[3]%250})
}

// carriers is how many mobile networks there are; each has so many gateways, behind
// which many users have one address.
const carriers, gateways = 12, 40

func (p population) carrier(user int) int { return int(p.hash(user, 2) % carriers) }

// mobile is a gateway of a carrier. gather squeezes all users behind a few of them.
func mobile(carrier, gateway int, gather bool) netip.Addr {
	if gather {
		gateway %= 2
	}
	return netip.AddrFrom4([4]byte{46, byte(16 + carrier), byte(gateway / 8), byte(10 + gateway%8)})
}

// session is what is remembered of a login for a while.
type session struct {
	user                   int
	token, id, device      string
	client                 netip.Addr
	host                   string
	minted, issued, opened event.Instant
}

// sessions are the latest logins.
type sessions struct {
	ring []session
	next int
}

const remembered = 4096

func (s *sessions) add(x session) {
	if len(s.ring) < remembered {
		s.ring = append(s.ring, x)
		return
	}
	s.ring[s.next] = x
	s.next = (s.next + 1) % remembered
}

// last is the newest.
func (s *sessions) last() *session {
	switch {
	case len(s.ring) == 0:
		return nil
	case len(s.ring) < remembered:
		return &s.ring[len(s.ring)-1]
	}
	return &s.ring[(s.next+remembered-1)%remembered]
}
