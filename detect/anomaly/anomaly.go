// Package anomaly scores any series of numbers, row by row: how unlike its past
// is the newest row? It is what "anomaly score" rests on. It does no input or
// output and never reads the clock; a row's score depends on that row and those
// before it alone.
//
// # The model
//
// Five statistics look at a row, each a distance to the second nearest of what
// was seen before: of the value, of the last 4 and the last 16 values as a shape, of
// the mean and deviation of the last 32, and of the value among those at the same
// time of the day on earlier days. A distance asks for no form of distribution,
// and the second nearest is taken so that one anomaly does not make the next like it
// ordinary. As long as there is nothing to compare with it is zero. This is conformal anomaly detection with nearest neighbours (Laxhammar
// and Falkman 2014; Burnaev and Ishimtsev 2016) at several scales.
//
// Each statistic becomes a surprise, -log10 of the part of its own past that was as
// large. Beyond the largest one per fifty the past is extrapolated as a power
// law (Hill 1975), so that what was never seen is still graded. The fourth power mean
// of the five is near their maximum and yet says more when several agree. It is
// compared with its own past in the same way: so the surprise of a row is
// calibrated whatever the series.
//
// # Quiet after an alarm
//
// A surprise of one row in 200 is an alarm. The rows of the next span are
// damped, unless one is three times rarer than the alarm was: an incident is told
// once, at its beginning.
//
// # What it promises
//
// The score lies in [0, 1); half or more is an alarm. The first hundred rows
// score nothing. Multiplying the values changes no score but by rounding. Memory is
// Size bytes, and the time of a row does not grow with their number.
package anomaly

import (
	"math"
	"time"
)

const (
	// learning is how many rows are only learnt from.
	learning = 100
	// quiet is how many rows after an alarm are damped.
	quiet = 200
	// louder is by how many decades an alarm inside another's quiet has to be rarer.
	louder = 0.5
	// damping is what is left of a surprise in the quiet.
	damping = 0.1
	// biggest is the largest value that is looked at as it is; squares of larger ones
	// would overflow.
	biggest = 1e150
)

// alarm is the surprise from which on a row is an alarm: one in 200.
var alarm = math.Log10(200)

// Size is the memory of a detector in bytes.
const Size = 2*held*(8+16) + (days+1)*slots*24 + (statistics+1)*(tailBins+4)*8 + 512

// Range is what the values of a series are known to keep to. One outside is an alarm
// by itself.
type Range struct{ Min, Max float64 }

// Anything is the range of a series of which none is known.
func Anything() Range { return Range{math.Inf(-1), math.Inf(1)} }

// Detector scores one series. It is not safe for concurrent use.
type Detector struct {
	bounds Range
	past   *past
	day    *day
	tails  [statistics]*tail
	whole  *tail // of the five together

	rows  int
	since int     // rows since the last alarm, at most quiet
	told  float64 // its surprise
}

// The statistics, by place.
const (
	ofValue = iota
	ofShape
	ofLongShape
	ofTexture
	ofDay
	statistics
)

// New makes a detector for a series that keeps to the range.
func New(bounds Range) *Detector {
	d := &Detector{bounds: bounds, past: newPast(), day: newDay(), whole: newTail(), since: quiet}
	for i := range d.tails {
		d.tails[i] = newTail()
	}
	return d
}

// Score takes the next row in and says how anomalous it is, in [0, 1). Rows are
// taken in the order given; at only tells the time of the day. The value must be
// finite.
func (d *Detector) Score(at time.Time, value float64) float64 {
	s := d.surprise(at, min(max(value, -biggest), biggest))
	if value < d.bounds.Min || value > d.bounds.Max {
		s = max(s, alarm)
	}
	d.rows++
	if d.rows <= learning {
		return 0
	}
	return grade(d.once(s))
}

// surprise is -log10 of the part of rows that were as strange.
func (d *Detector) surprise(at time.Time, value float64) float64 {
	d.past.add(value)
	sum := 0.0
	for i := range d.tails {
		var x float64
		switch i {
		case ofValue:
			x = d.past.nearest(1)
		case ofShape:
			x = d.past.nearest(4)
		case ofLongShape:
			x = d.past.nearest(16)
		case ofTexture:
			x = d.past.texture()
		case ofDay:
			x = d.day.nearest(at, value)
		}
		s := d.tails[i].take(x)
		sum += s * s * s * s
	}
	d.day.add(at, value)
	return d.whole.take(math.Sqrt(math.Sqrt(sum / statistics)))
}

// once damps what follows an alarm.
func (d *Detector) once(s float64) float64 {
	calm := d.since >= quiet
	d.since = min(d.since+1, quiet)
	switch {
	case s >= alarm && (calm || s > d.told+louder):
		d.told, d.since = s, 0
		return s
	case calm:
		return s
	}
	return s * damping
}

// grade maps a surprise to [0, 1), an alarm to a half.
func grade(s float64) float64 {
	r := s / alarm
	return min(1-math.Exp2(-r*r), 1-1e-9)
}
