package simulate

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/event"
)

// tokenLife and tokenLeeway are the simulated platform's, sessionLife is that of
// an access token.
const (
	tokenLife   = 10 * time.Minute
	tokenLeeway = 60 * time.Second
	sessionLife = 30 * 24 * time.Hour
)

// service is one service of the network that mints.
type service struct {
	name    string
	regions []string
	mode    event.AuthMode
	share   int // of the hosts, in percent
	vm      bool
	// deploys are the weekdays of its deploys.
	deploys []time.Weekday
	// job: it runs by night only, see night.
	job bool
}

// services of every network of at least minServices hosts; a smaller one has the
// first alone.
var services = []service{
	{name: "chat-backend", regions: []string{"eu", "us", "sg"}, mode: event.ModeSecure, share: 60, deploys: []time.Weekday{time.Tuesday, time.Thursday}},
	{name: "feed-backend", regions: []string{"eu", "us"}, mode: event.ModeSecureMtls, share: 20, deploys: []time.Weekday{time.Wednesday}},
	{name: "moderation", regions: []string{"us"}, mode: event.ModeSecureMtls, share: 8, vm: true, deploys: []time.Weekday{time.Monday}},
	{name: "support-desk", regions: []string{"eu"}, mode: event.ModeSecure, share: 5, vm: true, deploys: []time.Weekday{time.Wednesday}},
	{name: "partner-bridge", regions: []string{"us"}, mode: event.ModeSecure, share: 5, vm: true, deploys: []time.Weekday{time.Thursday}},
	{name: jobService, regions: []string{"eu"}, mode: event.ModeSecure, share: 2, vm: true, job: true},
}

const (
	minServices = 10
	jobService  = "nightly-export"
)

// nightFrom and nightTo are when the job runs, after midnight UTC; office hours
// are those in which administrators change things, on working days.
const (
	nightFrom  = 2 * time.Hour
	nightTo    = 3*time.Hour + 30*time.Minute
	officeFrom = 8
	officeTo   = 18
)

// regions in the order of their numbers, with their share of the users and the
// hours by which their day is ahead of UTC, without daylight saving.
var regions = [...]struct {
	name  string
	share float64
	ahead int
}{{"eu", 0.45, 1}, {"us", 0.35, -5}, {"sg", 0.2, 8}}

func regionOf(name string) int {
	for i := range regions {
		if regions[i].name == name {
			return i
		}
	}
	return 0
}

// AS is one autonomous system of the simulated internet.
type AS struct {
	Prefix netip.Prefix
	Number uint32
	Name   string
}

// internet is who owns which addresses. They are of the block 240.0.0.0/4, which
// no real network has, beside the carriers' shared space and the documentation
// blocks.
var internet = []AS{
	{netip.MustParsePrefix("198.18.0.0/16"), 64500, "own egress"},
	{netip.MustParsePrefix("240.0.0.0/9"), 64601, "home access, eu"},
	{netip.MustParsePrefix("240.128.0.0/9"), 64602, "home access, us"},
	{netip.MustParsePrefix("241.0.0.0/9"), 64603, "home access, sg"},
	{netip.MustParsePrefix("100.64.0.0/16"), 64611, "mobile carrier, eu"},
	{netip.MustParsePrefix("100.65.0.0/16"), 64612, "mobile carrier, us"},
	{netip.MustParsePrefix("100.66.0.0/16"), 64613, "mobile carrier, sg"},
	{netip.MustParsePrefix("242.0.0.0/16"), 64620, "office"},
	{netip.MustParsePrefix("250.0.0.0/16"), 64631, "cloud one"},
	{netip.MustParsePrefix("250.1.0.0/16"), 64632, "cloud two"},
	{netip.MustParsePrefix("251.0.0.0/16"), 64641, "cheap hosting"},
	{netip.MustParsePrefix("252.0.0.0/16"), 64642, "virtual private networks"},
	{netip.MustParsePrefix("243.0.0.0/9"), 64604, "home access, elsewhere"},
	{netip.MustParsePrefix("203.0.113.0/24"), 64651, "documentation"},
	{netip.MustParsePrefix("2001:db8::/32"), 64605, "home access, version 6"},
}

// host is one instance of a service. A pod that is replaced leaves its place to
// another name.
type host struct {
	svc    *service
	region int
	slot   int
	name   string
	boot   string
	// release is the version of its code, and agent its HTTP client.
	release, agent string
	seq            uint64
	addr           netip.Addr // from which it calls the platform
	key            *serverKey
	cert           *cert
	up             bool
	clock          clock
	shipping       shipping
}

// cert is a client certificate.
type cert struct {
	id, cn   string
	from, to event.Instant
}

// serverKey is one server key of the network.
type serverKey struct {
	id, value string
	created   event.Instant // zero: before the run
	alive     bool          // the platform takes it
}

func (g *generator) newKey(name string) *serverKey {
	r := rand.New(rand.NewPCG(g.opt.Seed, hash(name)))
	value := "sk_live_" + hexOf(r.Uint64()) + hexOf(r.Uint64())
	return &serverKey{id: g.fingerprint(value), value: value, alive: true}
}

// build makes services and hosts as they are at the start.
func (g *generator) build() {
	list := slices.Clone(services)
	if g.opt.Hosts < minServices {
		list = list[:1]
	}
	for i := range list {
		if !g.opt.Calendar { // a short run tells the least
			list[i].mode, list[i].vm = event.ModeSecure, true
		}
	}
	g.services = list
	left := g.opt.Hosts
	for i := range list {
		s := &list[i]
		n := max(1, g.opt.Hosts*s.share/100)
		if i == len(list)-1 || n > left-(len(list)-1-i) {
			n = left - (len(list) - 1 - i)
		}
		if i == 0 { // what rounding leaves
			n = left
			for _, o := range list[1:] {
				n -= max(1, g.opt.Hosts*o.share/100)
			}
		}
		left -= n
		release := s.release(1)
		for k := range n {
			h := &host{svc: s, slot: len(g.hosts), region: regionOf(s.regions[k%len(s.regions)]), key: g.key, up: !s.job}
			if g.opt.Calendar {
				h.release, h.agent = release, s.name+"/"+release
			}
			h.clock, h.shipping = g.someClock(), g.someShipping()
			h.addr = g.egress(s, h.region, 0, k)
			if s.mode == event.ModeSecureMtls {
				h.cert = g.certOf(s)
			}
			g.name(h)
			g.hosts = append(g.hosts, h)
			if s.job {
				g.jobs = append(g.jobs, h)
			} else {
				g.serving[h.region] = append(g.serving[h.region], h)
			}
		}
	}
	g.gateway = &host{svc: &service{name: "gateway", mode: event.ModeSecure}, name: "gw-1", boot: g.hex(8), up: true, shipping: shipping{jitter: 200}}
}

const day = 24 * time.Hour

func (s *service) release(n int) string { return "1." + strconv.Itoa(n) + ".0" }

// name gives a host a name and a new life.
func (g *generator) name(h *host) {
	h.name = h.svc.name + "-" + strconv.Itoa(h.slot)
	if !h.svc.vm {
		h.name = h.svc.name + "-" + g.hex(8)[:9] + "-" + g.hex(8)[:5]
	}
	h.boot, h.seq = g.hex(8), 0
}

// egress is the address behind which the k-th host of a service calls out; move
// counts how often the service's NAT was moved. A service has a /24 of the
// declared egress for each region.
func (g *generator) egress(s *service, region, move, k int) netip.Addr {
	for i := range services {
		if services[i].name == s.name {
			return netip.AddrFrom4([4]byte{198, 18, byte(i*len(regions) + region), byte(1 + move*4%248 + k%4)})
		}
	}
	return netip.AddrFrom4([4]byte{198, 18, 255, byte(1 + k%4)})
}

// Network is what the people who run the network know of it.
type Network struct {
	Name string
	// DeclaredEgress are the prefixes from which the services call the platform.
	DeclaredEgress []string
	// DeclaredServices all mint; ScheduledServices of them sleep between their runs.
	DeclaredServices, ScheduledServices []string
	// CNs are the common names of client certificates by service.
	CNs map[string]string
	// Regions are those in which the network lives.
	Regions []string
	// Keys are the server keys at the start, the live one first.
	Keys []Key
	// Certificates are the client certificates at the start.
	Certificates []Certificate
	// ChangeFrom and ChangeTo are the hours in UTC between which administrators
	// change things, Monday to Friday; Admins are those who may, AdminNets is where
	// they work.
	ChangeFrom, ChangeTo int
	Admins, AdminNets    []string
	// JobFrom and JobTo are when the scheduled services run, after midnight UTC.
	JobFrom, JobTo time.Duration
	// TokenLeeway is the difference of clocks that the platform tolerates.
	TokenLeeway time.Duration
	// FingerprintKey makes the fingerprints of keys; Secrets are the values of those
	// that the network has, or will have after a rotation.
	FingerprintKey []byte
	Secrets        []string
	// Internet is who owns which addresses.
	Internet []AS
}

// Key is a server key that exists when the simulation begins.
type Key struct {
	ID      string // fingerprint
	Created time.Time
	LastUse time.Time
}

// Certificate is a client certificate that exists when the simulation begins.
type Certificate struct {
	ID, CN              string
	NotBefore, NotAfter time.Time
}

// maxRotations is how many keys to come Describe tells of.
const maxRotations = 4

// Describe tells what the people of the network know of it that Generate simulates
// with the same options.
func Describe(opt Options) (Network, error) {
	g, err := newGenerator(opt)
	if err != nil {
		return Network{}, err
	}
	n := Network{Name: g.opt.Network, CNs: map[string]string{}, FingerprintKey: g.opt.FingerprintKey, TokenLeeway: tokenLeeway,
		DeclaredEgress: []string{"198.18.0.0/16"}, AdminNets: []string{"242.0.0.0/16"}, Admins: []string{adminName(0), adminName(1), adminName(2)},
		ChangeFrom: officeFrom, ChangeTo: officeTo, JobFrom: nightFrom, JobTo: nightTo, Internet: internet}
	for i := range g.services {
		s := &g.services[i]
		n.DeclaredServices = append(n.DeclaredServices, s.name)
		if s.job {
			n.ScheduledServices = append(n.ScheduledServices, s.name)
		}
		if s.mode == event.ModeSecureMtls {
			c := g.certOf(s)
			n.CNs[s.name] = c.cn
			n.Certificates = append(n.Certificates, Certificate{ID: c.id, CN: c.cn, NotBefore: c.from.Time(), NotAfter: c.to.Time()})
		}
	}
	for _, r := range regions {
		n.Regions = append(n.Regions, r.name)
	}
	n.Keys = append(n.Keys, Key{ID: g.key.id, Created: g.opt.Start.Add(-120 * day), LastUse: g.opt.Start})
	for i := range maxRotations {
		n.Secrets = append(n.Secrets, g.newKey(keyName(i)).value)
	}
	if g.dormant != nil {
		n.Keys = append(n.Keys, Key{ID: g.dormant.id, Created: g.opt.Start.Add(-320 * day), LastUse: g.opt.Start.Add(-90 * day)})
		n.Secrets = append(n.Secrets, g.dormant.value)
	}
	return n, nil
}

// certOf is the certificate that the hosts of a service have.
func (g *generator) certOf(s *service) *cert {
	return &cert{id: g.fingerprint(s.name + " certificate"), cn: s.name + ".example.net", from: g.start.Add(-200 * day), to: g.start.Add(165 * day)}
}
