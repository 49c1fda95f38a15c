package simulate

import (
	"time"

	"github.com/keysentry/keysentry/event"
)

// clock is a host's clock. NTP keeps it near the truth until it drifts.
type clock struct {
	base time.Duration // what NTP leaves
	ppm  int64         // by how much it gains between two corrections
	// from, until and rate are those of a drift that NTP does not correct: rate in
	// parts per million, added to jump.
	from, until event.Instant
	rate        float64
	jump        time.Duration
	attack      int // index of the label that the drift belongs to, plus one
}

// truth is that of a token that the clock spoils.
func (c *clock) truth() Truth {
	return Truth{Attack: c.attack - 1, Cause: event.CauseClockSkew, LookAlike: LookAlikeClock}
}

// correctEvery is how often NTP corrects.
const correctEvery = 1024 * time.Second

func (g *generator) someClock() clock {
	return clock{base: time.Duration(g.rng.NormFloat64() * float64(8*time.Millisecond)), ppm: int64(g.rng.IntN(40)) - 20}
}

// ahead is how far the clock is ahead of the truth.
func (c *clock) ahead(now event.Instant) time.Duration {
	d := c.base + time.Duration(int64(now)%int64(correctEvery)*c.ppm/1e6)
	if c.from != 0 && now >= c.from && now < c.until {
		d += c.jump + time.Duration(float64(now-c.from)*c.rate/1e6)
	}
	return d
}

// shipping is how a host's records get to Kafka.
type shipping struct {
	jitter int64 // each takes up to as many milliseconds
	// batch: records are handed over together, so often. delay: an agent hands them
	// over so much later, always.
	batch, delay time.Duration
	last         event.Instant // arrival of the last record: none overtakes another
}

// someShipping is direct for most hosts.
func (g *generator) someShipping() shipping {
	s := shipping{jitter: 20 + int64(g.rng.IntN(400))}
	switch g.rng.IntN(20) {
	case 0:
		s.batch = time.Duration(3+g.rng.IntN(15)) * time.Second
	case 1:
		s.delay = time.Duration(2+g.rng.IntN(12)) * time.Second
	}
	return s
}

// send says when a record of now is handed over and when it arrives. Producers
// keep their order.
func (s *shipping) send(now event.Instant, r uint64) (sent, arrives event.Instant) {
	sent = now
	if s.batch > 0 {
		sent = now - now%event.Instant(s.batch) + event.Instant(s.batch)
	}
	arrives = sent.Add(s.delay + time.Duration(int64(r%uint64(s.jitter+1))+3)*time.Millisecond)
	if arrives <= s.last {
		arrives = s.last + 1
	}
	s.last = arrives
	return sent, arrives
}

// season is the daily and weekly swing of a region around 1: least at four in
// the morning of its own clock, a fifth less at weekends.
func season(region int, now event.Instant) float64 {
	local := now.Add(time.Duration(regions[region].ahead) * time.Hour)
	if daylightSaving(region, now.Time()) {
		local = local.Add(time.Hour)
	}
	ns := int64(local) % int64(day)
	daily := 1 - 0.5*cosine(float64(ns)/float64(day)-4.0/24)
	if d := weekday(local); d == time.Saturday || d == time.Sunday {
		return daily * 0.86
	}
	return daily * 1.06
}

func weekday(at event.Instant) time.Weekday {
	return time.Weekday((int64(at)/int64(day) + 4) % 7) // 1970-01-01 was a Thursday
}

// daylightSaving follows the rules of the European Union and the United States,
// to the day; Singapore has none.
func daylightSaving(region int, t time.Time) bool {
	y := t.Year()
	switch regions[region].name {
	case "eu":
		return !t.Before(sunday(y, time.April, -1)) && t.Before(sunday(y, time.November, -1))
	case "us":
		return !t.Before(sunday(y, time.March, 2)) && t.Before(sunday(y, time.November, 1))
	}
	return false
}

// sunday is 01:00 UTC of the n-th Sunday of a month; -1: of the last before it.
func sunday(year int, m time.Month, n int) time.Time {
	first := time.Date(year, m, 1, 1, 0, 0, 0, time.UTC)
	first = first.AddDate(0, 0, (7-int(first.Weekday()))%7)
	if n < 0 {
		return first.AddDate(0, 0, -7)
	}
	return first.AddDate(0, 0, 7*(n-1))
}
