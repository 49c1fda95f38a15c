package anomaly

import (
	"math"
	"time"
)

const (
	slotSeconds = 300
	slots       = 86_400 / slotSeconds
	days        = 14 // that are looked back
	around      = 6  // slots before and after: half an hour
)

// day is what was seen at each time of the day, per five minutes: the smallest
// and the largest value of each of the last days.
type day struct {
	cells []cell // by day modulo days+1, then by slot
	first int64  // slot of the first row, since 1970
	begun bool
}

type cell struct {
	day      int64 // since 1970; the cell is empty when it is another
	min, max float64
}

func newDay() *day {
	d := &day{cells: make([]cell, (days+1)*slots)}
	for i := range d.cells {
		d.cells[i].day = math.MinInt64
	}
	return d
}

// slot is the number of a time's five minutes since 1970.
func slot(at time.Time) int64 { return floorDiv(at.Unix(), slotSeconds) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// cell is where a slot is kept, and its day.
func (d *day) cell(slot int64) (*cell, int64) {
	n := floorDiv(slot, slots)
	return &d.cells[(n-floorDiv(n, days+1)*(days+1))*slots+slot-n*slots], n
}

// add takes in a row. One of a day that was overwritten is passed over.
func (d *day) add(at time.Time, v float64) {
	s := slot(at)
	if !d.begun {
		d.begun, d.first = true, s
	}
	c, n := d.cell(s)
	switch {
	case c.day > n:
	case c.day < n:
		*c = cell{n, v, v}
	default:
		c.min, c.max = min(c.min, v), max(c.max, v)
	}
}

// nearest is the distance of a value to the second nearest at about the same time
// on earlier days; zero when there are none, and for two days after the first row.
func (d *day) nearest(at time.Time, v float64) float64 {
	s := slot(at)
	if !d.begun || s-2*slots < d.first {
		return 0
	}
	likes := none()
	for back := int64(1); back <= days; back++ {
		for o := s - back*slots - around; o <= s-back*slots+around; o++ {
			if c, n := d.cell(o); c.day == n {
				likes.see(max(c.min-v, v-c.max, 0))
			}
		}
	}
	if math.IsInf(likes.second, 1) {
		return 0
	}
	return likes.second
}
