package season

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// monday is a Monday, midnight UTC, in minutes.
const monday = 20_458 * 1440 // 2026-01-05

func TestPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		minute    int64
		half, bin int
	}{
		{0, 0, 0},               // a Thursday
		{2*1440 + 31, 1, 1},     // Saturday 00:31
		{3*1440 + 1439, 1, 47},  // Sunday 23:59
		{4*1440 + 720, 0, 24},   // Monday noon
		{monday + 90, 0, 3},     // 01:30
		{monday - 1440, 1, 0},   // Sunday
		{monday + 5*1440, 1, 0}, // Saturday
	} {
		if half, bin := place(c.minute); half != c.half || bin != c.bin {
			t.Errorf("minute %d is in %d, %d, want %d, %d", c.minute, half, bin, c.half, c.bin)
		}
	}
}

// TestTails compares with sums of the probabilities themselves.
func TestTails(t *testing.T) {
	t.Parallel()
	for _, mu := range []float64{0.05, 0.7, 5, 40, 900} {
		for _, r := range []float64{0.5, 3, 50, 1e5} {
			var mass []float64
			total := 0.0
			for k := 0.0; k < 60_000; k++ {
				p := math.Exp(logMass(k, mu, r))
				mass = append(mass, p)
				total += p
			}
			if math.Abs(total-1) > 1e-6 {
				t.Fatalf("mu %v, r %v: probabilities add up to %v", mu, r, total)
			}
			for _, n := range []int{0, 1, 2, 7, 30, 60, 200, 1500} {
				below, above := 0.0, 0.0
				for _, p := range mass[:n+1] {
					below += p
				}
				for i := len(mass) - 1; i >= n; i-- {
					above += mass[i]
				}
				check := func(what string, got, p float64, asked bool) {
					if want := -math.Log10(p); asked && p > 1e-12 && math.Abs(got-want) > 1e-3*(1+want) {
						t.Errorf("mu %v, r %v, %s %d: %v, want %v", mu, r, what, n, got, want)
					}
				}
				check("at least", upper(float64(n), mu, r), above, float64(n) > mu)
				check("at most", lower(float64(n), mu, r), below, float64(n) < mu)
			}
		}
	}
}

// series is counts with a daily and a weekly season and dispersion beyond Poisson.
type series struct {
	rng  *rand.Rand
	rate float64 // mean per minute
	phi  float64 // dispersion beyond Poisson
	// office is a season of two levels: full from 9 to 18, a fifth otherwise.
	office bool
}

func (s *series) expect(minute int64) float64 {
	day := 1 + 0.6*math.Sin(2*math.Pi*float64(minute%1440)/1440)
	if s.office {
		day = 0.2
		if hour := minute % 1440 / 60; hour >= 9 && hour < 18 {
			day = 1
		}
	}
	if half, _ := place(minute); half == 1 {
		day *= 0.6
	}
	return s.rate * day
}

func (s *series) draw(minute int64) float64 {
	mu := s.expect(minute)
	if s.phi > 0 {
		mu *= gamma(s.rng, 1/s.phi) * s.phi
	}
	return poisson(s.rng, mu)
}

// gamma draws from a Gamma distribution of that shape and scale 1 (Marsaglia and
// Tsang 2000).
func gamma(rng *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(rng, shape+1) * math.Pow(rng.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	for {
		x := rng.NormFloat64()
		v := math.Pow(1+x/math.Sqrt(9*d), 3)
		if v > 0 && math.Log(rng.Float64()) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

func poisson(rng *rand.Rand, mu float64) float64 {
	if mu > 50 {
		return max(math.Round(mu+math.Sqrt(mu)*rng.NormFloat64()), 0)
	}
	n := 0.0
	for p := rng.Float64(); p > math.Exp(-mu); p *= rng.Float64() {
		n++
	}
	return n
}

// threshold is the default of rate_anomaly.
const threshold = 5.5

// trained is a model of three weeks of s.
func (s *series) trained() (*Model, int64) {
	m := &Model{}
	for minute := int64(monday); minute < monday+21*1440; minute++ {
		m.Add(minute, s.draw(minute))
	}
	return m, monday + 21*1440
}

// quiet are the surprises of the minutes of a series in which nothing happens.
func (s *series) quiet(weeks int64) []float64 {
	m, from := s.trained()
	var out []float64
	for minute := from; minute < from+weeks*7*1440; minute++ {
		m.Add(minute, s.draw(minute))
		out = append(out, m.Up().Surprise)
	}
	return out
}

// alarms is how many alarms a threshold makes of minutes: those that are less than
// the longest window apart are one, as a rule's episode is.
func alarms(minutes []float64, threshold float64) (n int) {
	last := -Longest
	for i, v := range minutes {
		if v >= threshold {
			if i-last >= Longest {
				n++
			}
			last = i
		}
	}
	return n
}

// attacked are the largest surprises of n attacks, one to two days apart, while they
// last.
func (s *series) attacked(n int, lasts int64, add float64) []float64 {
	m, minute := s.trained()
	var out []float64
	for range n {
		for end := minute + 1440 + s.rng.Int64N(1440); minute < end; minute++ {
			m.Add(minute, s.draw(minute))
		}
		most := 0.0
		for end := minute + lasts; minute < end; minute++ {
			m.Add(minute, s.draw(minute)+poisson(s.rng, add))
			most = max(most, m.Up().Surprise)
		}
		out = append(out, most)
	}
	return out
}

// atLeast is how many of the numbers reach a threshold.
func atLeast(numbers []float64, threshold float64) (n int) {
	for _, v := range numbers {
		if v >= threshold {
			n++
		}
	}
	return n
}

// calibrated is the least threshold, in hundredths, with so many alarms at most.
func calibrated(series [][]float64, most int) float64 {
	for t := 2.0; ; t += 0.01 {
		n := 0
		for _, minutes := range series {
			n += alarms(minutes, t)
		}
		if n <= most {
			return t
		}
	}
}

// TestDetector prints and holds the recall that the product states at one false alarm
// a week and series, and how rare false alarms are. The threshold comes from some
// series, the false alarms from others, the recall from others again.
func TestDetector(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIP: it takes ten seconds")
	}
	t.Logf("%d bytes of memory per series; weekends at 60 %%, a coefficient of variation of 22 %% beyond Poisson", Size)
	t.Log("season        per minute  added  minutes  threshold  false alarms per series-week  recall  recall at 5.5  false alarms at 5.5")
	for _, c := range []struct {
		rate, add float64
		lasts     int64
		office    bool
		recall    float64
	}{
		{0.05, 0.4, 30, false, 0.9},
		{1, 4, 15, false, 0.9},
		{20, 30, 15, false, 0.9},
		{500, 400, 15, false, 0.75},
		{0.05, 0.4, 30, true, 0.9},
		{1, 4, 15, true, 0.9},
		{500, 400, 15, true, 0.75},
	} {
		name := "a day's sine"
		if c.office {
			name = "office hours"
		}
		t.Run(fmt.Sprintf("%v_per_minute_%s", c.rate, name), func(t *testing.T) {
			t.Parallel()
			const seeds, weeks, attacks = 8, 3, 40
			var first, second [][]float64
			var peaks []float64
			for seed := range uint64(seeds) {
				draw := func(kind uint64) *series { return &series{rand.New(rand.NewPCG(seed, kind)), c.rate, 0.05, c.office} }
				first, second = append(first, draw(7).quiet(weeks)), append(second, draw(9).quiet(weeks))
				peaks = append(peaks, draw(8).attacked(attacks, c.lasts, c.add)...)
			}
			limit := calibrated(first, seeds*weeks)
			wrong, byDefault := 0, 0
			for _, minutes := range second {
				wrong += alarms(minutes, limit)
				byDefault += alarms(minutes, threshold)
			}
			recall := float64(atLeast(peaks, limit)) / float64(len(peaks))
			t.Logf("%s  %10v  %5v  %7d  %9.2f  %28.2f  %6.3f  %13.3f  %19.2f", name, c.rate, c.add, c.lasts, limit, float64(wrong)/(seeds*weeks), recall,
				float64(atLeast(peaks, threshold))/float64(len(peaks)), float64(byDefault)/(seeds*weeks))
			if recall < c.recall {
				t.Errorf("recall %.3f, want %.2f", recall, c.recall)
			}
			if wrong > 2*seeds*weeks {
				t.Errorf("%d false alarms in %d weeks at the calibrated threshold", wrong, seeds*weeks)
			}
			if byDefault > seeds*weeks {
				t.Errorf("%d false alarms in %d weeks at the default threshold", byDefault, seeds*weeks)
			}
		})
	}
}

func TestStateSurvives(t *testing.T) {
	t.Parallel()
	s := &series{rng: rand.New(rand.NewPCG(1, 2)), rate: 3, phi: 0.1}
	m := &Model{}
	for minute := int64(monday); minute < monday+6*1440; minute++ {
		m.Add(minute, s.draw(minute))
	}
	m.Close(monday + 6*1440)
	twin, err := Restore(m.State())
	if err != nil {
		t.Fatal(err)
	}
	for minute := int64(monday + 6*1440); minute < monday+7*1440; minute++ {
		n := s.draw(minute)
		m.Add(minute, n)
		twin.Add(minute, n)
		if a, b := m.Up(), twin.Up(); a != b {
			t.Fatalf("minute %d: %+v, after a restart %+v", minute, a, b)
		}
	}
	if diff := cmp.Diff(m.State(), twin.State()); diff != "" {
		t.Error(diff)
	}
	for name, spoil := range map[string]func(*State){
		"no bins":       func(s *State) { s.Weekday = nil },
		"not a number":  func(s *State) { s.All[0] = math.NaN() },
		"negative":      func(s *State) { s.Weekend[3] = -1 },
		"half a triple": func(s *State) { s.Recent = s.Recent[:4] },
	} {
		bad := m.State()
		spoil(&bad)
		if _, err := Restore(bad); err == nil {
			t.Errorf("%s: the state was taken", name)
		}
	}
}

// TestLearning: nobody is surprised before three days, nor on the first day of a
// kind.
func TestLearning(t *testing.T) {
	t.Parallel()
	m := &Model{}
	at := func(day, minute int64) int64 { return monday + day*1440 + minute }
	for day := range int64(5) {
		for minute := range int64(1440) {
			m.Add(at(day, minute), 2)
			if minute == 700 {
				m.Add(at(day, minute), 500)
				if learning := m.Up().Learning; learning != (day < 3) {
					t.Errorf("day %d: learning is %t", day, learning)
				}
			}
		}
	}
	m.Add(at(5, 700), 500) // Saturday
	if !m.Up().Learning {
		t.Error("the first Saturday is judged")
	}
}

// TestSilence: a series that stops is noticed, one whose past is unknown is not
// taken for silent.
func TestSilence(t *testing.T) {
	t.Parallel()
	train := func() *Model {
		m := &Model{}
		for minute := int64(monday); minute < monday+4*1440+600; minute++ {
			m.Add(minute, 10)
		}
		return m
	}
	m := train()
	m.Close(monday + 4*1440 + 616)
	if s := m.Down(); s.Surprise < threshold {
		t.Errorf("a quarter of an hour without events: %+v", s)
	}
	m = train()
	m.Skip(monday + 4*1440 + 616)
	m.Close(monday + 4*1440 + 617)
	m.Close(monday + 4*1440 + 617)
	if s := m.Down(); s.Minutes > 1 {
		t.Errorf("minutes that nobody saw were judged: %+v", s)
	}
}

// TestAttackTeachesLittle: after an hour of ten times the events the expectation
// of that hour on the next day has hardly moved.
func TestAttackTeachesLittle(t *testing.T) {
	t.Parallel()
	m := &Model{}
	for minute := int64(monday); minute < monday+11*1440; minute++ {
		n := 20.0
		if minute >= monday+10*1440+600 && minute < monday+10*1440+660 {
			n = 200
		}
		m.Add(minute, n)
	}
	if r := m.rate(monday + 11*1440 + 630); r > 25 {
		t.Errorf("20 a minute are expected to be %.1f", r)
	}
}

func BenchmarkModel(b *testing.B) {
	s := &series{rng: rand.New(rand.NewPCG(1, 2)), rate: 20, phi: 0.05}
	m := &Model{}
	minute := int64(monday)
	for ; minute < monday+7*1440; minute++ {
		m.Add(minute, s.draw(minute))
	}
	b.Run("event", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%20 == 0 {
				minute++
			}
			m.Add(minute, 1)
			m.Up()
		}
	})
}

// TestMostOfSilence: without events nothing is ever more surprising than was said when
// the last one came.
func TestMostOfSilence(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.001, 0.05, 0.4, 1, 20} {
		for seed := range uint64(6) {
			s := series{rng: rand.New(rand.NewPCG(seed, 7)), rate: rate, phi: 0.2 * float64(seed%2)}
			m := &Model{}
			at := int64(1440 * 100)
			for end := at + 1440*int64(4+seed); at < end; at++ {
				m.Add(at, s.draw(at))
			}
			m.Close(at)
			most, down := m.Silence(), 0.0
			for end := at + 1440*8; at < end; at++ {
				m.Close(at)
				down = max(down, m.Down().Surprise)
			}
			if down > most || rate == 20 && down < 5.5 {
				t.Errorf("rate %v, seed %d: surprise %v, said at most %v", rate, seed, down, most)
			}
			if later := m.Silence(); later > most {
				t.Errorf("rate %v, seed %d: it rose from %v to %v", rate, seed, most, later)
			}
		}
	}
}

// TestAdopt: a season that rests on more minutes is taken over without the minutes
// at hand; one that rests on fewer is not.
func TestAdopt(t *testing.T) {
	t.Parallel()
	const now = monday + 6*1440 + 610
	train := func(from int64, rate float64) *Model {
		m := &Model{}
		for minute := from; minute < now; minute++ {
			m.Add(minute, rate)
		}
		return m
	}
	young, old := train(now-45, 7), train(monday, 2)
	young.Add(now, 5)
	if !young.Up().Learning {
		t.Fatal("three quarters of an hour are enough to judge by")
	}
	_, before := young.Recent()
	if !young.Adopt(old) {
		t.Fatal("a week was not taken in place of three quarters of an hour")
	}
	if s := young.Up(); s.Learning || s.Surprise < threshold {
		t.Errorf("thrice the usual for half an hour: %+v", s)
	}
	if _, after := young.Recent(); !slices.Equal(before, after) {
		t.Errorf("the minutes at hand became %v, they were %v", after, before)
	}
	if m := train(monday+1440, 3); old.Adopt(m) || old.rate(now) > 2.1 {
		t.Error("a season of fewer minutes was taken")
	}
}
