// Package offset estimates how far each host's clock is off, from nothing but
// the records of one partition in offset order.
//
// Every record gives one difference: the host's clock (sent_at, else time) minus
// the broker's append time. A clock that is fast by x and a record that took d
// to arrive differ by x - d, and d is never negative, so the largest differences
// of a minute come nearest to x. An Estimator takes the 95th percentile of each
// minute of append time, and the median of the last 60 such minutes, or the line
// through them when they follow one: a clock that drifts is where it is now, not
// where it was half an hour ago. A clock that is suddenly faster is believed after
// three minutes, since no delay can make it look so; one that is suddenly slower may
// be a delay, and is believed when the median is.
//
// Without an anchor only fast is provable: a slow clock and a constant delay are
// the same number. A heartbeat's own clock_offset anchors the estimate for a
// quarter of an hour, unless the records prove it wrong.
//
// An estimate changes only when a minute closes, and depends only on the records
// before it, so that reading the partition again gives the same effective times.
// The package is pure: it reads no clock and does no input or output. An
// Estimator belongs to one partition and is not safe for concurrent use.
package offset

import (
	"container/list"
	"math"
	"slices"
	"time"

	"github.com/keysentry/keysentry/event"
)

// The method's constants.
const (
	minute        = int64(time.Minute)
	windowMinutes = 60
	maxSamples    = 128 // kept of one minute
	minCount      = 20  // records before anything is called confident
	// anchorLife is how long a heartbeat's figure anchors the estimate.
	anchorLife = 15 * time.Minute
	// minOffset is the smallest offset that is worth correcting.
	minOffset = time.Second
	// floorError is the smallest error that is ever claimed.
	floorError = 100 * time.Millisecond
)

// DefaultMaxHosts bounds the hosts that one partition's Estimator remembers.
const DefaultMaxHosts = 20_000

// Estimate is what is known of one host's clock.
type Estimate struct {
	// Offset is how far the clock is ahead of true time; negative: behind. Error
	// bounds it, either way. Slope is its drift in seconds per hour, SlopeError the
	// error of that.
	Offset     time.Duration `json:"offset"`
	Error      time.Duration `json:"error"`
	Slope      float64       `json:"slope,omitempty"`
	SlopeError float64       `json:"slope_error,omitempty"`
	// Confident says that the offset may correct times and explain refusals.
	// Anchored says that a heartbeat's own figure is behind it.
	Confident bool `json:"confident,omitempty"`
	Anchored  bool `json:"anchored,omitempty"`
	// SlowOrDelayed says that Offset is negative and nothing tells a slow clock
	// from a delay.
	SlowOrDelayed bool `json:"slow_or_delayed,omitempty"`
	// Records counts what the estimate rests on, Minutes the closed minutes; AsOf is the end of the last
	// closed minute.
	Records uint64        `json:"records"`
	Minutes int           `json:"minutes,omitempty"`
	AsOf    event.Instant `json:"as_of,omitempty"`
}

// Estimator holds the hosts of one partition.
type Estimator struct {
	maxHosts int
	hosts    map[string]*host
	recent   *list.List // of *host, the latest first
	evicted  uint64
}

// host is the state of one host. The exported fields are what a snapshot keeps.
type host struct {
	hostState
	samples []int64 // of the open minute
	stride  int     // every stride-th record of the open minute is kept
	skipped int
	place   *list.Element
}

// point is the result of one closed minute.
type point struct {
	Minute int64 `json:"m"` // since the epoch
	P95    int64 `json:"p"` // nanoseconds
}

// New returns an empty Estimator that remembers at most maxHosts hosts; 0 means
// DefaultMaxHosts.
func New(maxHosts int) *Estimator {
	if maxHosts <= 0 {
		maxHosts = DefaultMaxHosts
	}
	return &Estimator{maxHosts: maxHosts, hosts: map[string]*host{}, recent: list.New()}
}

// Evicted counts the hosts that were forgotten for want of room.
func (e *Estimator) Evicted() uint64 { return e.evicted }

// Hosts counts the hosts that are remembered.
func (e *Estimator) Hosts() int { return len(e.hosts) }

// Observe takes one record in; its ObservedAt must be the broker's append time.
// It returns the estimate that holds for this record, that of the last closed
// minute.
func (e *Estimator) Observe(ev *event.Event) Estimate {
	at := ev.Time
	if ev.Has(event.FieldSentAt) {
		at = ev.SentAt
	}
	if ev.Host == "" || at == 0 || ev.ObservedAt == 0 {
		return Estimate{}
	}
	h := e.host(ev.Host)
	if m := int64(ev.ObservedAt) / minute; m > h.Minute {
		h.close()
		h.Minute = m
	}
	h.add(int64(at - ev.ObservedAt))
	if ev.Type == event.TypeHeartbeat && ev.Has(event.FieldClockOffset) {
		h.anchor(ev)
	}
	return h.Current
}

// Estimate tells what is known of a host, as of its last closed minute.
func (e *Estimator) Estimate(hostName string) (Estimate, bool) {
	h, ok := e.hosts[hostName]
	if !ok || h.Current.AsOf == 0 {
		return Estimate{}, false
	}
	return h.Current, true
}

// host finds or makes the state of a host, and makes room for it.
func (e *Estimator) host(name string) *host {
	if h, ok := e.hosts[name]; ok {
		if e.recent.Front() != h.place {
			e.recent.MoveToFront(h.place)
		}
		return h
	}
	if len(e.hosts) >= e.maxHosts {
		oldest := e.recent.Back()
		delete(e.hosts, e.recent.Remove(oldest).(*host).Name)
		e.evicted++
	}
	h := &host{hostState: hostState{Name: string([]byte(name))}, stride: 1}
	h.place = e.recent.PushFront(h)
	e.hosts[h.Name] = h
	return h
}

// add keeps a sample of the open minute: all of them up to maxSamples, then
// every second, every fourth, and so on, chosen by order of arrival alone.
func (h *host) add(diff int64) {
	h.Records++
	h.skipped++
	if h.skipped < h.stride {
		return
	}
	h.skipped = 0
	if len(h.samples) == maxSamples {
		for i := range maxSamples / 2 {
			h.samples[i] = h.samples[2*i]
		}
		h.samples = h.samples[:maxSamples/2]
		h.stride *= 2
	}
	h.samples = append(h.samples, diff)
}

// anchor takes a heartbeat's own figure.
func (h *host) anchor(ev *event.Event) {
	h.AnchorAt = int64(ev.ObservedAt)
	h.AnchorOffset = int64(ev.ClockOffset * float64(time.Second))
	h.AnchorError = int64(ev.ClockError * float64(time.Second))
}

// close ends the open minute and makes the new estimate.
func (h *host) close() {
	if len(h.samples) == 0 {
		return
	}
	slices.Sort(h.samples)
	h.Points = append(h.Points, point{h.Minute, percentile95(h.samples)})
	first := h.Minute - windowMinutes
	h.Points = slices.DeleteFunc(h.Points, func(p point) bool { return p.Minute <= first })
	h.samples, h.stride, h.skipped = h.samples[:0], 1, 0
	h.Current = h.estimate()
}

// estimate is the figure that the closed minutes and the anchor give.
func (h *host) estimate() Estimate {
	drift, driftError := slope(h.Points)
	center, spread := h.now(drift, driftError)
	asOf := event.Instant((h.Minute + 1) * minute)
	est := Estimate{Offset: time.Duration(center), Slope: drift, SlopeError: driftError, Records: h.Records, Minutes: len(h.Points), AsOf: asOf}
	est.Error = max(floorError, time.Duration(spread))
	if h.anchored(asOf, center-spread) {
		est.Anchored = true
		est.Offset = time.Duration(h.AnchorOffset)
		est.Error = max(floorError, time.Duration(h.AnchorError))
		est.Confident = est.Offset.Abs() >= minOffset && est.Offset.Abs() > est.Error
		return est
	}
	est.SlowOrDelayed = est.Offset < 0
	est.Confident = est.Offset >= minOffset && est.Offset > est.Error && h.Records >= minCount
	return est
}

// The conditions under which the minutes are taken for more than a level.
const (
	minTrend = 8 // minutes that make a line
	stepOf   = 3 // minutes that make a step
	// minStep is the smallest step that is told from noise.
	minStep = 2 * time.Second
)

// now is where the clock stands at the last closed minute, and the error of that: on
// the line with the given slope (seconds per hour) when the minutes follow it much
// better than a level, else at their median, or at the last of them when they have
// stepped up. It is never above what a recent minute proves.
func (h *host) now(drift, driftError float64) (center, spread int64) {
	center, spread = h.center(h.Points, 0)
	if len(h.Points) >= minTrend && math.Abs(drift) > 2*driftError {
		perMinute := drift * 1e9 / 60
		if c, s := h.center(h.Points, perMinute); s < spread/2 {
			center, spread = c, s
		}
	}
	recent := h.Points[max(0, len(h.Points)-stepOf):]
	if len(recent) == stepOf && len(h.Points) > stepOf {
		if c, s := h.center(recent, 0); c-s > center+spread+int64(minStep) {
			return c, s
		}
	}
	proven := int64(math.MinInt64)
	for _, p := range h.Points[max(0, len(h.Points)-5):] {
		proven = max(proven, p.P95)
	}
	return min(center, proven+int64(floorError)), spread
}

// anchored reports whether the last heartbeat's figure still counts. A figure
// below what the records prove is wrong: no record arrives before it is sent.
func (h *host) anchored(asOf event.Instant, proven int64) bool {
	return h.AnchorAt != 0 && int64(asOf)-h.AnchorAt <= int64(anchorLife) &&
		proven <= h.AnchorOffset+max(h.AnchorError, int64(floorError))
}

// center is the median of minutes, moved along a slope (nanoseconds per minute) to
// the last of them, and the median distance from it, scaled to a standard deviation
// and to what a median of so many leaves of it.
func (h *host) center(points []point, perMinute float64) (median, spread int64) {
	var room [windowMinutes]int64
	v := room[:0]
	last := points[len(points)-1].Minute
	for _, p := range points {
		v = append(v, p.P95+int64(perMinute*float64(last-p.Minute)))
	}
	slices.Sort(v)
	median = middle(v)
	for i := range v {
		v[i] = abs(v[i] - median)
	}
	slices.Sort(v)
	return median, int64(2 * 1.4826 * 1.2533 * float64(middle(v)) / math.Sqrt(float64(len(v))))
}

// percentile95 is the nearest-rank percentile of sorted values.
func percentile95(v []int64) int64 {
	return v[min(len(v)-1, (len(v)*95+99)/100-1)]
}

// middle is the median of sorted values.
func middle(v []int64) int64 {
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return v[n/2-1] + (v[n/2]-v[n/2-1])/2
}

// slope is the drift in seconds per hour and its error: the median of the slopes
// between minutes half the window apart (Theil and Sen, thinned), which a few bad
// minutes cannot move, and twice the scaled median distance from it.
func slope(points []point) (drift, margin float64) {
	half := len(points) / 2
	if half == 0 || len(points) < 4 {
		return 0, 0
	}
	var room [windowMinutes]float64
	s := room[:0]
	for i, q := range points[half:] {
		p := points[i]
		if q.Minute != p.Minute {
			s = append(s, float64(q.P95-p.P95)/1e9/float64(q.Minute-p.Minute)*60)
		}
	}
	if len(s) == 0 {
		return 0, 0
	}
	slices.Sort(s)
	drift = s[len(s)/2]
	for i := range s {
		s[i] = math.Abs(s[i] - drift)
	}
	slices.Sort(s)
	return drift, 2 * 1.4826 * 1.2533 * s[len(s)/2] / math.Sqrt(float64(len(s)))
}

// Reaches is how long it takes until the clock is off by limit, either way: zero when
// it is already, else by its drift, where that is more than its error. ok is false
// when it does not go there, or nothing provable says so. Delays that shrink look like
// a clock that gains, and delays that grow like one that loses: so the clock must be
// known to be off that way already, and by a good part of the limit where it is slow.
func (e Estimate) Reaches(limit time.Duration) (in time.Duration, ok bool) {
	switch {
	case !e.Confident:
		return 0, false
	case e.Offset.Abs()-e.Error >= limit:
		return 0, true
	case e.Minutes < minForecast || e.Slope > 0 != (e.Offset > 0) || e.Offset < 0 && -e.Offset < limit/4:
		return 0, false
	}
	rate := math.Abs(e.Slope)
	if rate <= 2*e.SlopeError || rate < minDrift {
		return 0, false
	}
	return max(0, time.Duration((limit-e.Offset.Abs()).Seconds()/rate*float64(time.Hour))), true
}

// A drift is believed after so many minutes, and from so many seconds per hour on.
const (
	minForecast = 15
	minDrift    = 0.05
)

func abs(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}
