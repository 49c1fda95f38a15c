package season

import (
	"errors"
	"math"
)

// State is a model in a form that can be kept, as of the beginning of Minute:
// the minute that was being counted is not in it.
type State struct {
	Minute int64
	Seen   int64
	// Weekday and Weekend hold the fading events of each half hour of the day and,
	// behind them, its fading minutes: 96 numbers each.
	Weekday, Weekend []float64
	// All are the fading events and minutes of all bins, and per length of window
	// the two sums of its spread.
	All []float64
	// Recent are what was counted, winsorised and expected in the last closed
	// minutes, the oldest first: three numbers each.
	Recent []float64
}

// State returns what the model knows.
func (m *Model) State() State {
	s := State{Minute: m.minute, Seen: m.seen, Weekday: flat(&m.bins[0]), Weekend: flat(&m.bins[1]), All: []float64{m.all.events, m.all.minutes}}
	for _, p := range m.spread {
		s.All = append(s.All, p.excess, p.square)
	}
	for back := int64(m.known); back > 0; back-- {
		at := (m.minute - back) % Longest
		s.Recent = append(s.Recent, m.counts[at], m.clipped[at], m.rates[at])
	}
	return s
}

func flat(bins *[binsPerDay]mean) []float64 {
	out := make([]float64, 2*binsPerDay)
	for i, b := range bins {
		out[i], out[binsPerDay+i] = b.events, b.minutes
	}
	return out
}

// Restore makes a model of what was kept. A state of another shape, or with
// numbers that no model can have, is an error.
func Restore(s State) (*Model, error) {
	m := &Model{minute: s.Minute, seen: s.Seen, begun: true, known: len(s.Recent) / 3}
	if len(s.Weekday) != 2*binsPerDay || len(s.Weekend) != 2*binsPerDay || len(s.All) != 2+2*len(windows) || len(s.Recent)%3 != 0 ||
		m.known > Longest || s.Minute < Longest || s.Seen < 0 {
		return nil, errors.New("season: the state is of another shape")
	}
	for _, list := range [][]float64{s.Weekday, s.Weekend, s.All[:2], s.Recent} {
		for _, v := range list {
			if !(v >= 0) || math.IsInf(v, 0) {
				return nil, errors.New("season: the state holds a number that is none of a season")
			}
		}
	}
	for half, list := range [][]float64{s.Weekday, s.Weekend} {
		for i := range binsPerDay {
			m.bins[half][i] = mean{list[i], list[binsPerDay+i]}
		}
	}
	m.all = mean{s.All[0], s.All[1]}
	for i := range m.spread {
		m.spread[i] = spread{s.All[2+2*i], s.All[3+2*i]}
		if math.IsNaN(m.spread[i].excess+m.spread[i].square) || m.spread[i].square < 0 {
			return nil, errors.New("season: the state holds a number that is none of a season")
		}
	}
	for i := range m.known {
		at := (m.minute - int64(m.known-i)) % Longest
		m.counts[at], m.clipped[at], m.rates[at] = s.Recent[3*i], s.Recent[3*i+1], s.Recent[3*i+2]
	}
	return m, nil
}

// Size is the memory of a model in bytes.
const Size = 2*binsPerDay*16 + 3*Longest*8 + 16 + len(windows)*16 + 48
