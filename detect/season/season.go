// Package season learns how many events a series has at a time of the day and
// says how surprising a count is. It is what rate_anomaly rests on. It does no
// input or output and never reads the clock: minutes are given by the caller.
//
// # The model
//
// A day has 48 half-hour bins, weekdays and weekends apart, in UTC. A bin holds
// the events and the minutes that it saw, both fading, so that the ratio is an
// exponentially weighted mean rate. The rate of a minute is read between the
// middles of two bins. A bin with fewer than 120 events takes its neighbours' of up to
// two hours too, and leans on the rate over all bins while it has seen little.
//
// The count of a window of 1, 5, 15 or 30 minutes is compared with a negative
// binomial distribution. Its mean is the sum of the rates of the minutes; its
// dispersion is what the same series has shown beyond Poisson, per length of
// window, plus what the bin's own short history leaves open. The surprise is
// -log10 of the probability of that count or a more extreme one.
//
// # Robustness
//
// A minute enters the model only after it was judged, and winsorised: at most
// three standard deviations and two events above its expectation. So an attack
// teaches the model little, and one spike does not hide the next.
//
// # What it promises
//
// Until a series has been seen for three days, and this time of the day on an
// earlier day, it is learning and surprises nobody. State is two and a half
// kilobytes per series, whatever its counts. The same minutes in order give the same
// state.
package season

import "math"

const (
	binsPerDay    = 48
	minutesPerBin = 1440 / binsPerDay

	// binMemory is how many minutes a bin remembers: the thirty of its half hour on
	// twenty days.
	binMemory = 600
	// allMemory is how many minutes the rate over all bins and the dispersion
	// remember: two weeks.
	allMemory = 14 * 1440
	// leaning is how many minutes of the rate over all bins a bin is given before
	// it has seen any of its own.
	leaning = 15

	// enough is how many events a bin's rate should rest on; widest is how many bins to
	// either side it takes for that.
	enough, widest = 120, 4

	// learnMinutes and learnBin are how much of a series, and of the bins at hand,
	// must have been seen before it is judged.
	learnMinutes = 3 * 1440
	learnBin     = minutesPerBin - 1

	// maxGap is the longest silence, in minutes, that counts as minutes without
	// events; after a longer one the series goes on where it was.
	maxGap = 14 * 1440
)

// windows are the lengths that are judged, in minutes. The longest is for series
// with an event in twenty minutes, which shorter ones hardly tell from chance.
var windows = [...]int{1, 5, 15, 30}

// Longest is how far back a model looks, in minutes.
const Longest = 30

// mean is a fading sum of events over minutes.
type mean struct{ events, minutes float64 }

// rate is zero for a sum of nothing.
func (m *mean) rate() float64 {
	if m.minutes == 0 {
		return 0
	}
	return m.events / m.minutes
}

func (m *mean) add(n, memory float64) {
	fade := 1 - 1/memory
	m.events, m.minutes = m.events*fade+n, m.minutes*fade+1
}

// spread is what a window's counts vary beyond Poisson: the fading sum of
// squared deviations less expectations, over that of squared expectations.
type spread struct{ excess, square float64 }

// Model is the season of one series.
type Model struct {
	bins   [2][binsPerDay]mean
	all    mean
	spread [len(windows)]spread

	minute int64 // the one that is being counted, since 1970
	count  float64
	begun  bool
	seen   int64 // closed minutes
	// recent are the closed minutes before minute: what was counted, what was
	// expected, by minute modulo Longest. counts holds the winsorised counts too.
	counts, clipped, rates [Longest]float64
	known                  int // how many of recent are filled
}

// Score is how surprising the newest minutes are.
type Score struct {
	Surprise float64 // -log10 of the probability
	Minutes  int     // of the most surprising window
	Count    float64 // events in it
	Expected float64
	Learning bool // the model has not seen enough; the rest is zero
}

// Minute is the one that is being counted, in minutes since 1970; false before
// the first.
func (m *Model) Minute() (int64, bool) { return m.minute, m.begun }

// Add counts n events in a minute. Minutes before it are closed; one that is
// closed already takes nothing more.
func (m *Model) Add(minute int64, n float64) {
	m.Close(minute)
	if m.begun && minute == m.minute {
		m.count += n
	}
}

// Close ends every minute before the given one, with no events where none were
// added.
func (m *Model) Close(before int64) {
	if before < 0 {
		return
	}
	if !m.begun {
		m.minute, m.begun = before, true
		return
	}
	if before-m.minute > maxGap {
		m.Skip(before)
		return
	}
	for m.minute < before {
		m.closeOne()
	}
}

// Skip says that nothing is known of the minutes before the given one that are
// not closed.
func (m *Model) Skip(to int64) {
	if m.begun && to > m.minute {
		m.minute, m.count, m.known = to, 0, 0
	}
}

// Adopt takes over what another model of the same series has learnt, when it has
// seen more minutes; the minutes at hand stay. It reports whether it did.
func (m *Model) Adopt(o *Model) bool {
	if o.seen <= m.seen {
		return false
	}
	m.bins, m.all, m.spread, m.seen = o.bins, o.all, o.spread, o.seen
	for back := int64(1); back <= int64(m.known); back++ {
		m.rates[(m.minute-back)%Longest] = m.rate(m.minute - back)
	}
	return true
}

// closeOne takes the minute that is being counted into the model.
func (m *Model) closeOne() {
	rate, evidence := m.expect(m.minute)
	clipped := m.count
	if m.seen > 0 {
		clipped = min(clipped, rate+3*math.Sqrt(m.variance(0, rate, evidence))+2)
	}
	at := m.minute % Longest
	m.counts[at], m.clipped[at], m.rates[at] = m.count, clipped, rate
	m.known = min(m.known+1, Longest)
	m.measure(evidence)
	half, bin := place(m.minute)
	m.bins[half][bin].add(clipped, binMemory)
	m.all.add(clipped, allMemory)
	m.seen++
	m.minute++
	m.count = 0
}

// measure takes the windows that end with the minute just counted into the
// spread.
func (m *Model) measure(evidence float64) {
	if m.seen < 1440 {
		return // expectations are no more than guesses yet
	}
	for i, w := range windows {
		if m.known < w {
			continue
		}
		var n, mu float64
		for k := range w {
			at := (m.minute - int64(k)) % Longest
			n += m.clipped[at]
			mu += m.rates[at]
		}
		n = min(n, mu+3*math.Sqrt(m.variance(i, mu, evidence))+1)
		s := &m.spread[i]
		fade := 1 - 1.0/allMemory
		s.excess = s.excess*fade + (n-mu)*(n-mu) - mu
		s.square = s.square*fade + mu*mu
	}
}

// place is the bin of a minute.
func place(minute int64) (half, bin int) {
	day := minute / 1440
	if d := (day + 4) % 7; d == 0 || d == 6 { // 1970-01-01 was a Thursday
		half = 1
	}
	return half, int(minute%1440) / minutesPerBin
}

// between are the two bins between whose middles a minute lies, and the weight of
// the second.
func between(minute int64) (half, bin, other int, weight float64) {
	half, bin = place(minute)
	weight = (float64(minute%minutesPerBin)+0.5)/minutesPerBin - 0.5
	other = (bin + 1) % binsPerDay
	if weight < 0 {
		other, weight = (bin+binsPerDay-1)%binsPerDay, -weight
	}
	return half, bin, other, weight
}

// expect is the expected number of events of a minute, and how many events that
// rests on: as many as would leave a single rate as uncertain as the two bins' are
// together.
func (m *Model) expect(minute int64) (rate, evidence float64) {
	half, bin, other, w := between(minute)
	r, a := m.binRate(half, bin)
	s, b := m.binRate(half, other)
	a, b = a+0.5, b+0.5
	mean := (1-w)*a + w*b
	return (1-w)*r + w*s, mean * mean / ((1-w)*(1-w)*a + w*w*b)
}

func (m *Model) rate(minute int64) float64 {
	r, _ := m.expect(minute)
	return r
}

// binRate is the rate of a bin, and how many events it rests on. One with few takes
// its neighbours' too, as far as it has to.
func (m *Model) binRate(half, bin int) (rate, events float64) {
	b := m.bins[half][bin]
	for r := 1; r <= widest && b.events < enough; r++ {
		before, after := &m.bins[half][(bin+binsPerDay-r)%binsPerDay], &m.bins[half][(bin+r)%binsPerDay]
		b.events += before.events + after.events
		b.minutes += before.minutes + after.minutes
	}
	return (b.events + leaning*m.all.rate()) / (b.minutes + leaning), b.events
}

// phi is the dispersion of windows[i] beyond Poisson, as a square of the
// coefficient of variation. A little is always assumed.
func (m *Model) phi(i int) float64 {
	s := m.spread[i]
	// One day's worth of a tenth: 0.01 of the squares.
	day := s.square / 14
	return max((s.excess+0.01*day)/(s.square+day+1e-9), 0.002)
}

// variance of a window with the given expectation.
func (m *Model) variance(i int, mu, evidence float64) float64 {
	return mu + mu*mu*(m.phi(i)+1/evidence)
}

// learned reports whether the model may judge the minute at hand.
func (m *Model) learned() bool {
	half, bin := place(m.minute)
	return m.seen >= learnMinutes && m.bins[half][bin].minutes >= learnBin
}

// Recent are the counts of the last closed minutes and of the one that is being
// counted, from the given minute on.
func (m *Model) Recent() (from int64, counts []float64) {
	from = m.minute - int64(m.known)
	for k := from; k < m.minute; k++ {
		counts = append(counts, m.counts[k%Longest])
	}
	return from, append(counts, m.count)
}

// Up is how surprisingly many events the windows that end in the minute that is
// being counted have. The minute need not be over: what it has is compared with
// what a whole one would have.
func (m *Model) Up() Score {
	return m.score(true, func(n, mu, r float64) float64 { return upper(n, mu, r) })
}

// Down is how surprisingly few events the windows have that end with the last
// closed minute.
func (m *Model) Down() Score { return m.score(false, lower) }

// Silence is the most that Down can come to as long as no event is added: no
// window is expected to hold more than the largest rate of a bin says, rates only fall
// without events, and silence is no less probable than with Poisson's
// distribution, exp(-mean).
func (m *Model) Silence() float64 {
	most := m.all.rate()
	for half := range m.bins {
		for bin := range m.bins[half] {
			most = max(most, m.bins[half][bin].rate())
		}
	}
	for _, r := range m.rates {
		most = max(most, r)
	}
	return Longest * most / math.Ln10
}

// score takes the most surprising window, with the minute that is being counted
// or without.
func (m *Model) score(current bool, tail func(n, mu, r float64) float64) Score {
	if !m.learned() {
		return Score{Learning: true}
	}
	rate, evidence := m.expect(m.minute)
	var best Score
	var n, mu float64
	have := 0
	if current {
		n, mu, have = m.count, rate, 1
	}
	for i, w := range windows {
		for ; have < w; have++ {
			back := int64(have)
			if !current {
				back++
			}
			if int(back) > m.known {
				return best
			}
			at := ((m.minute-back)%Longest + Longest) % Longest
			n += m.counts[at]
			mu += m.rates[at]
		}
		if sd := math.Sqrt(m.variance(i, mu, evidence)); math.Abs(n-mu) < 1.5*sd {
			continue // a probability above one in fifty is not worth computing
		}
		if s := tail(n, mu, 1/(m.phi(i)+1/evidence)); s > best.Surprise {
			best = Score{Surprise: s, Minutes: w, Count: n, Expected: mu}
		}
	}
	return best
}
