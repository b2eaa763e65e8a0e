package model

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// digammaRising is the derivative of logRising(z, n) by z: digamma(z+n) - digamma(z).
func digammaRising(z, n float64) float64 {
	if n < 30 && n == math.Trunc(n) {
		sum := 0.0
		for i := range int(n) {
			sum += 1 / (z + float64(i))
		}
		return sum
	}
	return mathext.Digamma(z+n) - mathext.Digamma(z)
}

// Gradient is the log likelihood and its derivatives by R, Alpha, A, B.
func (m MBGNBD) Gradient(x, tx, e float64) (float64, [4]float64) {
	return m.family().gradient(x, tx, e)
}

// Gradient is the log likelihood and its derivatives by R, Alpha, A, B.
func (m BGNBD) Gradient(x, tx, e float64) (float64, [4]float64) { return m.family().gradient(x, tx, e) }

func (m betaGeometric) gradient(x, tx, e float64) (float64, [4]float64) {
	s, base, chances := m.r+x, m.alpha+tx, x+m.m
	grown := math.Log1p(e / base)
	alive := 1.0
	var dead, last float64
	if chances > 0 {
		last = m.b + (chances - 1)
		dead = logistic(math.Log(m.a/last) + s*grown)
		alive = 1 - dead
	}
	both := digammaRising(m.a+m.b, chances)
	d := [4]float64{
		digammaRising(m.r, x) - math.Log1p(tx/m.alpha) - alive*grown,
		m.r*tx/m.alpha/base - x/base + alive*s*e/base/(base+e),
		-both + dead/m.a,
		digammaRising(m.b, chances) - both,
	}
	if chances > 0 {
		d[3] -= dead / last
	}
	return m.logLikelihood(x, tx, e), d
}

// Gradient is the log likelihood and its derivatives by R and Alpha.
func (m NBD) Gradient(x, tx, e float64) (float64, [4]float64) {
	t := tx + e
	return m.LogLikelihood(x, tx, e), [4]float64{
		digammaRising(m.R, x) - math.Log1p(t/m.Alpha),
		(m.R*t/m.Alpha - x) / (m.Alpha + t),
	}
}

// Gradient is the log likelihood and its derivatives by R, Alpha, S, Beta.
func (m ParetoNBD) Gradient(x, tx, e float64) (float64, [4]float64) {
	a, b, r := m.Alpha+tx, m.Beta+tx, m.R+x
	q := silenceMoments(r, a, m.S, b, e)
	alive := -r*math.Log1p(e/a) - m.S*math.Log1p(e/b)
	dead := math.Log(m.S*min(a, b)/b) + math.Log(q.sum)
	either := logAddExp(alive, dead)
	ll := logRising(m.R, x) - m.R*math.Log1p(tx/m.Alpha) - m.S*math.Log1p(tx/m.Beta) - x*math.Log(a) + either
	wa, wd := math.Exp(alive-either), math.Exp(dead-either)
	if q.sum == 0 {
		q.sum = 1
	}
	return ll, [4]float64{
		digammaRising(m.R, x) - math.Log1p(tx/m.Alpha) - wa*math.Log1p(e/a) - wd*q.logA/q.sum,
		m.R*tx/m.Alpha/a - x/a + wa*r*e/a/(a+e) + wd*r*q.overA/q.sum/a,
		-math.Log1p(tx/m.Beta) - wa*math.Log1p(e/b) + wd*(1/m.S-q.logB/q.sum),
		m.S*tx/m.Beta/b + wa*m.S*e/b/(b+e) + wd*((m.S+1)*q.overB/q.sum-1)/b,
	}
}

// moments are the integral of silence, and those of its integrand times ln((a+u)/a), ln((b+u)/b), u/(a+u) and u/(b+u).
type moments struct{ sum, logA, logB, overA, overB float64 }

// silenceMoments is silence with what its derivatives need, on the same panels.
func silenceMoments(r, a, s, b, e float64) (q moments) {
	base := min(a, b)
	for y, end := 0.0, math.Log1p(e/base); y < end; {
		u := base * math.Expm1(y)
		rate := r*(base+u)/(a+u) + (s+1)*(base+u)/(b+u) + 1
		half := min(end-y, 6/rate, 2) / 2
		before := q.sum
		for i, g := range gaussX {
			for _, at := range [2]float64{y + half*(1-g), y + half*(1+g)} {
				u := base * math.Expm1(at)
				la, lb := math.Log1p(u/a), math.Log1p(u/b)
				w := gaussW[i] * half * math.Exp(at-r*la-(s+1)*lb)
				q.sum += w
				q.logA += w * la
				q.logB += w * lb
				q.overA += w * u / (a + u)
				q.overB += w * u / (b + u)
			}
		}
		y += 2 * half
		if q.sum-before < 1e-18*q.sum {
			break
		}
	}
	return q
}

// Gradient is the log likelihood and its derivatives by P, Q, Gamma.
func (m GammaGamma) Gradient(n, mean float64) (float64, [3]float64) {
	shape, ratio := m.P*n, n*mean/m.Gamma
	return m.LogLikelihood(n, mean), [3]float64{
		n * (mathext.Digamma(shape+m.Q) - mathext.Digamma(shape) - math.Log1p(1/ratio)),
		mathext.Digamma(shape+m.Q) - mathext.Digamma(m.Q) - math.Log1p(ratio),
		(m.Q*ratio - shape) / m.Gamma / (1 + ratio),
	}
}
