package anomaly

import "math"

const (
	perOctave = 8
	tailBins  = 704 // 88 octaves about the first number, and one for zero
	// halfLife is how many rows it takes until one counts half.
	halfLife = 16_384
	// tailPart and tailLeast are the largest numbers that the power law is fitted to.
	tailPart, tailLeast = 0.02, 10
	// rare is how few larger ones there must be for the power law to be asked.
	rare = 3
)

// tail is the distribution of a statistic's past: a histogram of its logarithm,
// which fades. It grades a number by how much of the past was as large.
type tail struct {
	bins   [tailBins]float64
	total  float64
	weight float64 // of the next number; grows instead of the others fading
	unit   float64 // log2 of the first number that is not zero
	begun  bool
}

func newTail() *tail { return &tail{weight: 1} }

// place is where a number lies, in bins. Zero lies in bin 0.
func (t *tail) place(x float64) float64 {
	if x <= 0 {
		return 0
	}
	if !t.begun {
		t.begun, t.unit = true, math.Log2(x)
	}
	return min(max((math.Log2(x)-t.unit)*perOctave+tailBins/2, 1), tailBins-1)
}

// take grades x, which is not negative, and then counts it.
func (t *tail) take(x float64) float64 {
	at := t.place(x)
	s := t.surprise(at)
	t.bins[int(at)] += t.weight
	t.total += t.weight
	t.weight *= math.Exp2(1.0 / halfLife)
	if t.weight > 1e6 {
		for i := range t.bins {
			t.bins[i] /= t.weight
		}
		t.total, t.weight = t.total/t.weight, 1
	}
	return s
}

// surprise is -log10 of the part of the past that lies at or above a place.
func (t *tail) surprise(at float64) float64 {
	n := t.total / t.weight
	if n < tailLeast {
		return 0
	}
	b := int(at)
	above, reach := 0.0, 0.0 // numbers above b; those above u, with their distances from u
	u, tailed := 0, 0.0
	need := max(tailPart*n, tailLeast) * t.weight
	for i := tailBins - 1; i > 0 && (i > b || u == 0); i-- {
		k := t.bins[i]
		if i > b {
			above += k
		}
		if u == 0 {
			tailed += k
			if tailed >= need {
				u = i
			}
		}
	}
	above = (above + t.bins[b]/2) / t.weight
	p := (above + 0.5) / (n + 1)
	if u > 0 && b > u && above < rare {
		for i := u; i < tailBins; i++ {
			reach += t.bins[i] * (float64(i-u) + 0.5)
		}
		p = tailed / t.weight / (n + 1) * math.Exp(-(at-float64(u))/(reach/tailed+0.5))
	}
	return max(-math.Log10(p), 0)
}
