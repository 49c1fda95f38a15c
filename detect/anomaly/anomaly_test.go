package anomaly

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC) // a Monday

const fiveMinutes = 5 * time.Minute

// daily is a series with a daily season: a level, a noon, noise.
func daily(rng *rand.Rand, i int) float64 {
	return 20 + 10*math.Sin(2*math.Pi*float64(i%288)/288) + rng.NormFloat64()
}

// TestOddRows: what a person would point at in a season becomes an alarm, at most
// a few rows late, and few rows of the same length without it do.
func TestOddRows(t *testing.T) {
	t.Parallel()
	const n, at = 12 * 288, 10*288 + 72 // at the top of a day
	for _, c := range []struct {
		name string
		odd  func(i int, v float64, rng *rand.Rand) float64
		late int
	}{
		{"a spike", func(i int, v float64, _ *rand.Rand) float64 { return v + 60 }, 1},
		{"a dip to an ordinary value of the night", func(_ int, v float64, _ *rand.Rand) float64 { return v - 18 }, 4},
		{"a step", func(_ int, v float64, _ *rand.Rand) float64 { return v + 12 }, 4},
		{"noise", func(_ int, v float64, rng *rand.Rand) float64 { return v + 8*rng.NormFloat64() }, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			found := 0
			const seeds = 5
			for seed := range uint64(seeds) {
				rng := rand.New(rand.NewPCG(seed, 3))
				d, hit := New(Anything()), false
				for i := range n {
					v := daily(rng, i)
					if i >= at && i < at+48 {
						v = c.odd(i, v, rng)
					}
					s := d.Score(start.Add(time.Duration(i)*fiveMinutes), v)
					hit = hit || i >= at && i < at+c.late && s >= 0.5
				}
				if hit {
					found++
				}
			}
			if found < seeds-1 {
				t.Errorf("%d of %d became alarms within %d rows", found, seeds, c.late)
			}
		})
	}
}

// TestFalseAlarms: of ordinary rows fewer than one in 300 is an alarm, because the
// quiet takes some of the one in 200.
func TestFalseAlarms(t *testing.T) {
	t.Parallel()
	alarms, rows := 0, 0
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 4))
		d := New(Anything())
		for i := range 14 * 288 {
			if s := d.Score(start.Add(time.Duration(i)*fiveMinutes), daily(rng, i)); s >= 0.5 {
				alarms++
			}
			rows++
		}
	}
	t.Logf("%d alarms in %d ordinary rows", alarms, rows)
	if alarms*300 > rows {
		t.Errorf("%d alarms in %d rows", alarms, rows)
	}
}

// TestOnline: what follows changes no score.
func TestOnline(t *testing.T) {
	t.Parallel()
	scores := func(n, cut int, then func(i int) float64) []float64 {
		rng := rand.New(rand.NewPCG(5, 6))
		d := New(Anything())
		var out []float64
		for i := range n {
			v := daily(rng, i)
			if i >= cut {
				v = then(i)
			}
			out = append(out, d.Score(start.Add(time.Duration(i)*fiveMinutes), v))
		}
		return out
	}
	const n = 2*held + 200 // the window over the past has moved
	whole := scores(n, n, nil)
	for _, cut := range []int{101, 2 * held} {
		for name, then := range map[string]func(int) float64{"a truncated": nil, "another": func(i int) float64 { return float64(i) * 1e9 }} {
			end := n
			if then == nil {
				end = cut
			}
			got := scores(end, cut, then)
			for i := range cut {
				if got[i] != whole[i] {
					t.Fatalf("row %d of %s series, cut at %d: %v, want %v", i, name, cut, got[i], whole[i])
				}
			}
		}
	}
}

// TestUnits: thousandths or thousands, the scores are the same; and a range that
// is not left changes nothing.
func TestUnits(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(9, 9))
	a, b, c := New(Anything()), New(Anything()), New(Range{-100, 200})
	alarms := 0
	for i := range 3000 {
		v := daily(rng, i)
		if i%700 == 600 {
			v += 40
		}
		at := start.Add(time.Duration(i) * fiveMinutes)
		x, y, z := a.Score(at, v), b.Score(at, v*0x1p-40), c.Score(at, v)
		if math.Abs(x-y) > 1e-6 || x != z {
			t.Fatalf("row %d: %v, %v in other units, %v with a range", i, x, y, z)
		}
		if x >= 0.5 {
			alarms++
		}
	}
	if alarms == 0 {
		t.Error("nothing was an alarm: the test compares nothing")
	}
}

// TestRange: a value outside of what was promised is an alarm, once.
func TestRange(t *testing.T) {
	t.Parallel()
	d := New(Range{0, 100})
	alarms := 0
	for i := range 1000 {
		v := 50 + 45*math.Sin(float64(i))
		if i >= 500 && i < 550 {
			v = 100.5
		}
		s := d.Score(start.Add(time.Duration(i)*fiveMinutes), v)
		if i == 500 && s < 0.5 {
			t.Errorf("outside: %v", s)
		}
		if i >= 500 && i < 700 && s >= 0.5 {
			alarms++
		}
	}
	if alarms > 2 {
		t.Errorf("told %d times", alarms)
	}
}

// TestHostileRows: whatever comes, a score is a number in [0, 1), and memory stays.
func TestHostileRows(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]func(i int) (time.Time, float64){
		"constant":         func(i int) (time.Time, float64) { return start.Add(time.Duration(i) * time.Second), 7 },
		"one time":         func(i int) (time.Time, float64) { return start, float64(i % 9) },
		"huge":             func(i int) (time.Time, float64) { return start, math.MaxFloat64 * float64(i%3-1) },
		"tiny":             func(i int) (time.Time, float64) { return start, math.SmallestNonzeroFloat64 * float64(i%5) },
		"tiny then huge":   func(i int) (time.Time, float64) { return start, math.Pow(10, float64(i%600-300)) },
		"backwards":        func(i int) (time.Time, float64) { return start.Add(-time.Duration(i) * time.Hour), float64(i % 24) },
		"before 1970":      func(i int) (time.Time, float64) { return time.Unix(int64(i)*1000-1e9, 0), float64(i % 24) },
		"gaps of a year":   func(i int) (time.Time, float64) { return start.AddDate(i, 0, 0), float64(i) },
		"growing for ever": func(i int) (time.Time, float64) { return start.Add(time.Duration(i) * time.Hour), float64(i * i) },
	} {
		d := New(Anything())
		n := 1500
		if name == "backwards" || name == "growing for ever" {
			n = 2*held + 100 // the window over the past moves
		}
		for i := range n {
			at, v := row(i)
			if s := d.Score(at, v); !(s >= 0 && s < 1) {
				t.Fatalf("%s, row %d: %v", name, i, s)
			}
			if name == "constant" && d.told > 0 {
				t.Fatalf("row %d of a constant series is an alarm", i)
			}
		}
		if cap(d.past.values) != 2*held || cap(d.past.textures) != 2*held || len(d.day.cells) != (days+1)*slots {
			t.Errorf("%s: memory grew", name)
		}
	}
}

// TestSeasonOfTheDay: the nearest at about this time are looked for, on other days.
func TestSeasonOfTheDay(t *testing.T) {
	t.Parallel()
	d := newDay()
	noon := start.Add(12 * time.Hour)
	d.add(start, 1)
	for day := range 3 {
		d.add(noon.AddDate(0, 0, day).Add(20*time.Minute), float64(10*day+10))
	}
	for _, c := range []struct {
		at   time.Time
		v    float64
		want float64
	}{
		{noon.AddDate(0, 0, 3), 31, 11}, // of 10, 20, 30 the second nearest is 20
		{noon.AddDate(0, 0, 3), 10, 10},
		{noon.AddDate(0, 0, 3).Add(56 * time.Minute), 31, 0}, // nothing within half an hour
		{noon.AddDate(0, 0, 1), 31, 0},                       // not two days yet
		{noon.AddDate(0, 0, 20), 31, 0},                      // forgotten
	} {
		if got := d.nearest(c.at, c.v); got != c.want {
			t.Errorf("%v %v: %v, want %v", c.at, c.v, got, c.want)
		}
	}
}

// TestTail: the surprise of a number is -log10 of the part of the past above it, also
// where it is extrapolated.
func TestTail(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	tl := newTail()
	for range 8000 {
		tl.take(math.Pow(1-rng.Float64(), -0.5)) // P(X > x) = x^-2
	}
	for _, x := range []float64{2, 5, 10, 30, 100, 1000} {
		if got, want := tl.surprise(tl.place(x)), 2*math.Log10(x); math.Abs(got-want) > 0.1+0.15*want {
			t.Errorf("%v: surprise %.2f, want %.2f", x, got, want)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	for _, rows := range []int{500, 20_000} {
		b.Run(fmt.Sprintf("after_%d_rows", rows), func(b *testing.B) {
			b.ReportAllocs()
			rng := rand.New(rand.NewPCG(1, 2))
			d := New(Anything())
			i := 0
			for ; i < rows; i++ {
				d.Score(start.Add(time.Duration(i)*fiveMinutes), daily(rng, i))
			}
			b.ResetTimer()
			for b.Loop() {
				d.Score(start.Add(time.Duration(i)*fiveMinutes), daily(rng, i))
				i++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
