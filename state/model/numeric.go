package model

import "math"

// logAddExp is ln(exp(a) + exp(b)).
func logAddExp(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// logistic is 1 / (1 + exp(-v)).
func logistic(v float64) float64 {
	if v < 0 {
		u := math.Exp(v)
		return u / (1 + u)
	}
	return 1 / (1 + math.Exp(-v))
}

// lgamma is the logarithm of the gamma function of a positive number.
func lgamma(z float64) float64 {
	v, _ := math.Lgamma(z)
	return v
}

// logRising is ln(Gamma(z+n) / Gamma(z)) for z > 0 and n >= 0, without the loss of digits that the difference of two
// large logarithms has when z is large.
func logRising(z, n float64) float64 {
	if n == 0 {
		return 0
	}
	if z < 10 {
		return lgamma(z+n) - lgamma(z)
	}
	return (z-0.5)*math.Log1p(n/z) + n*(math.Log(z+n)-1) + stirlingRest(z+n) - stirlingRest(z)
}

// stirlingRest is lnGamma(z) - ((z-1/2) ln z - z + ln(2 pi)/2) for z >= 10.
func stirlingRest(z float64) float64 {
	q := 1 / (z * z)
	return (1./12 - q*(1./360-q*(1./1260-q*(1./1680-q*(1./1188-q*691./360360))))) / z
}

// meanLife is (1 - (1+t)^-k) / k, the integral of (1+u)^-(k+1) from 0 to t; ln(1+t) at k = 0.
func meanLife(k, t float64) float64 {
	l := math.Log1p(t)
	if k == 0 {
		return l
	}
	return -math.Expm1(-k*l) / k
}

// gaussX and gaussW are the positive nodes and the weights of the Gauss-Legendre rule with 16 nodes on [-1, 1].
var (
	gaussX = [8]float64{
		0.9894009349916499326, 0.94457502307323257608, 0.86563120238783174388, 0.7554044083550030339,
		0.61787624440264374845, 0.45801677765722738634, 0.28160355077925891323, 0.095012509837637440185,
	}
	gaussW = [8]float64{
		0.027152459411754094852, 0.062253523938647892863, 0.09515851168249278481, 0.12462897125553387205,
		0.14959598881657673208, 0.16915651939500253819, 0.18260341504492358887, 0.18945061045506849629,
	}
)

// scaledE is exp(z) E_s(z), the integral of exp(-z v) (1+v)^-s over v > 0, for z > 0 and s > 0; also z^(s-1) U(s, s, z)
// with Tricomi's function. Where the continued fraction (modified Lentz) converges fast it is used, else the integral
// over y = ln(1+v) in panels.
func scaledE(s, z float64) float64 {
	if z >= 1 {
		const tiny = 1e-300
		b := z + s
		c, d := 1/tiny, 1/b
		f := d
		for i := 1.0; i < 1000; i++ {
			a := -i * (s - 1 + i)
			b += 2
			d = 1 / (a*d + b)
			c = b + a/c
			f *= c * d
			if math.Abs(c*d-1) < 1e-16 {
				break
			}
		}
		return f
	}
	sum := 0.0
	for y, end := 0.0, math.Log1p(45/z); y < end; {
		half := min(end-y, 6/(z*math.Exp(y)+math.Abs(s-1)+1), 1) / 2
		panel := 0.0
		for i, g := range gaussX {
			l, r := y+half*(1-g), y+half*(1+g)
			panel += gaussW[i] * (math.Exp(-z*math.Expm1(l)-(s-1)*l) + math.Exp(-z*math.Expm1(r)-(s-1)*r))
		}
		panel *= half
		sum += panel
		y += 2 * half
		if s >= 1 && panel < 1e-17*sum {
			break
		}
	}
	return sum
}

// betaMean is the mean of f(p) over p ~ Beta(a, b). f must be positive, never rise, fall no faster than 1/p, be analytic
// around (0, 1), and differ from f(0) by a share of at most about p * scale.
//
// It is the trapezoidal rule in the logit of p, which converges geometrically; the tails, where the integrand is an
// exponential, are geometric series. The same sum without f is the norm, so that no gamma function is needed.
func betaMean(a, b, scale float64, f func(p float64) float64) float64 {
	n := a + b
	p0 := a / n
	mode := math.Log(a / b)
	h := min(0.22, 0.6*math.Sqrt(n/a/b))
	left, right := -39-math.Log(max(1, b, scale)), 39+math.Log(max(1, a))
	norm, sum := 1.0, f(p0)
	for _, side := range [2]float64{-1, 1} {
		rate := a
		if side > 0 {
			rate = b
		}
		tail := -math.Expm1(-rate * h) // the whole series of a tail is its first term divided by this
		for i := 1.0; ; i++ {
			d := side * h * i
			q := math.Expm1(d) * p0
			w := math.Exp(a*d - n*math.Log1p(q))
			v := w * f(p0*math.Exp(d)/(1+q))
			if y := mode + d; y < left || y > right {
				norm, sum = norm+w/tail, sum+v/tail
				break
			}
			norm, sum = norm+w, sum+v
			if w < 1e-18*norm*tail && v < 1e-18*sum*tail {
				break
			}
		}
	}
	return sum / norm
}
