package simulate

import (
	"math"
	"net/netip"
	"strconv"

	"github.com/keysentry/keysentry/event"
)

// Users are not stored: whatever is true of one is computed from its number.

// mix is the finaliser of SplitMix64: a number that looks random.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

const hexDigits = "0123456789abcdef"

func hexOf(v uint64) string {
	var b [16]byte
	for i := range b {
		b[i] = hexDigits[v&15]
		v >>= 4
	}
	return string(b[:])
}

func cosine(turns float64) float64 { return math.Cos(2 * math.Pi * turns) }

// person draws a user of a region: few use it much, many seldom.
func (g *generator) person(region int) int {
	r := g.rng.Float64()
	return g.inRegion(int(r*r*float64(g.opt.Users)), region)
}

// inRegion is the user nearest to u that lives in region.
func (g *generator) inRegion(u, region int) int {
	u = u - u%len(regions) + region
	if u >= g.opt.Users {
		u = max(0, u-len(regions))
	}
	return min(u, g.opt.Users-1)
}

func userRegion(u int) int { return u % len(regions) }

func (g *generator) userID(u int) string {
	var b [16]byte
	out := append(b[:0], "user-"...)
	for p := 1_000_000; p > u && p > 1; p /= 10 {
		if u < p {
			out = append(out, '0')
		}
	}
	return string(strconv.AppendInt(out, int64(u), 10))
}

// home is the address of a user now: at home, or behind the carrier of its
// region, where many share an address.
func (g *generator) home(u int, now event.Instant) netip.Addr {
	r := userRegion(u)
	h := mix(g.opt.Seed ^ uint64(u)<<1)
	if (h^uint64(now)/uint64(2*day))%4 == 0 {
		if pool := g.carrierPool[r]; pool > 0 { // the carrier has moved its NAT
			return netip.AddrFrom4([4]byte{100, 64 + byte(r), 255, byte(1 + h%uint64(pool))})
		}
		h = mix(h ^ uint64(now)/uint64(day))
		return netip.AddrFrom4([4]byte{100, 64 + byte(r), byte(h) & 31, byte(h >> 8)})
	}
	if h>>60 < 2 { // IPv6 at home
		a := [16]byte{0x20, 0x01, 0x0d, 0xb8, byte(h >> 8), byte(h >> 16), byte(h >> 24), byte(h >> 32), 8: 1}
		return netip.AddrFrom16(a)
	}
	base := [...][2]byte{{240, 0}, {240, 128}, {241, 0}}[r]
	return netip.AddrFrom4([4]byte{base[0], base[1] + byte(h>>8)&127, byte(h >> 16), byte(h >> 24)})
}

// device is the fingerprint of the n-th device of a user.
func (g *generator) device(u, n int) string {
	a := mix(g.opt.Seed + uint64(u)*4 + uint64(n))
	return "v1:" + hexOf(a) + hexOf(mix(a))
}

// session is the fingerprint of a session that the user has had for long.
func (g *generator) session(u int) string {
	a := mix(g.opt.Seed ^ uint64(u)*0x51ed27)
	return "v1:" + hexOf(a) + hexOf(mix(a))
}

// usual is the device that a user takes most often.
func (g *generator) usual(u int) string {
	n := 0
	if g.rng.IntN(5) == 0 {
		n = 1
	}
	return g.device(u, n)
}
