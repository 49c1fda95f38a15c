package season

import "math"

// Tails of the negative binomial distribution with mean mu and size r, whose
// variance is mu + mu²/r. The probability of k events is
//
//	C(k+r-1, k) (r/(r+mu))^r (mu/(r+mu))^k
//
// (Johnson, Kemp, Kotz: Univariate Discrete Distributions, chapter 5), and the
// ratio of two neighbours is mu/(r+mu) (k+r)/(k+1).

// maxSurprise bounds what is computed; beyond it the number says nothing more.
const maxSurprise = 300

// upper is -log10 P(X >= n).
func upper(n, mu, r float64) float64 {
	if n <= mu || n < 1 {
		return 0
	}
	if mu <= 0 {
		mu = 1e-9
	}
	q := mu / (r + mu)
	// Sum from n up, relative to the first term; the ratio falls below one beyond
	// the mean, and so the sum ends.
	sum, term := 1.0, 1.0
	for k := n; k < n+10_000; k++ {
		term *= q * (k + r) / (k + 1)
		sum += term
		if term < 1e-9*sum {
			break
		}
	}
	return surprise(logMass(n, mu, r) + math.Log(sum))
}

// lower is -log10 P(X <= n).
func lower(n, mu, r float64) float64 {
	if n >= mu || mu <= 0 {
		return 0
	}
	q := mu / (r + mu)
	sum, term := 1.0, 1.0
	for k := n; k >= 1; k-- {
		term *= k / (q * (k - 1 + r))
		sum += term
		if term < 1e-9*sum {
			break
		}
	}
	return surprise(logMass(n, mu, r) + math.Log(sum))
}

// surprise turns the natural logarithm of a probability into -log10.
func surprise(log float64) float64 { return min(max(-log/math.Ln10, 0), maxSurprise) }

// logMass is ln P(X = k).
func logMass(k, mu, r float64) float64 {
	a, _ := math.Lgamma(k + r)
	b, _ := math.Lgamma(k + 1)
	c, _ := math.Lgamma(r)
	return a - b - c + r*math.Log(r/(r+mu)) + k*math.Log(mu/(r+mu))
}
