package fit

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize"
)

// Parameters are sought by their logarithms between these bounds; scales are relative to the unit of the data.
const (
	lowest  = 1e-4
	highest = 1e4
)

// objective is a log likelihood per customer and its gradient, of the logarithms of scaled parameters.
type objective func(theta, gradient []float64) float64

// maximum is what a search has found.
type maximum struct {
	theta     []float64
	value     float64 // log likelihood per customer
	converged bool
	starts    int // searches that came to the same maximum
}

// maximize searches from several starts and keeps the best. Beyond the bounds a steep penalty leads back.
func maximize(f objective, starts [][]float64) (best maximum) {
	best.value = math.Inf(-1)
	var values []float64
	for _, start := range starts {
		found := climb(f, start)
		values = append(values, found.value)
		if found.value > best.value {
			best = found
		}
	}
	for _, v := range values {
		if v > best.value-1e-6 {
			best.starts++
		}
	}
	return best
}

// climb is one search: BFGS, and once more from where it stopped, which costs little and heals a line search that has
// given up on rounding.
func climb(f objective, start []float64) maximum {
	found := maximum{theta: start, value: math.Inf(-1)}
	// Value and gradient cost little more than one of them, and are asked for at the same points.
	var at, gradient []float64
	var value float64
	both := func(x []float64) {
		if slices.Equal(x, at) {
			return
		}
		at = append(at[:0], x...)
		gradient = append(gradient[:0], x...)
		value = penalized(f, x, gradient)
	}
	problem := optimize.Problem{
		Func: func(x []float64) float64 { both(x); return -value },
		Grad: func(grad, x []float64) {
			both(x)
			for i, g := range gradient {
				grad[i] = -g
			}
		},
	}
	for range 2 {
		settings := &optimize.Settings{GradientThreshold: 1e-9, MajorIterations: 500, Converger: &optimize.FunctionConverge{
			Absolute: 1e-12, Relative: 1e-13, Iterations: 6,
		}}
		// Its error is that the line search found no better point, which is where the best one is.
		result, _ := optimize.Minimize(problem, found.theta, settings, &optimize.BFGS{})
		if result == nil || math.IsNaN(result.F) {
			break
		}
		found.theta, found.value = result.X, -result.F
	}
	both(found.theta)
	found.value, found.converged = value, true
	for _, g := range gradient {
		found.converged = found.converged && math.Abs(g) < 1e-5
	}
	return found
}

func penalized(f objective, x, gradient []float64) float64 {
	inside := make([]float64, len(x))
	penalty := 0.0
	for i, v := range x {
		inside[i] = min(max(v, math.Log(lowest)-1), math.Log(highest)+1)
		over := v - min(max(v, math.Log(lowest)), math.Log(highest))
		penalty += over * over
	}
	value := f(inside, gradient)
	for i, v := range x {
		if gradient != nil {
			if inside[i] != v {
				gradient[i] = 0
			}
			gradient[i] -= 2 * (v - min(max(v, math.Log(lowest)), math.Log(highest)))
		}
	}
	return value - penalty
}

// atBound says which parameters have run into a bound.
func atBound(theta []float64) []bool {
	at := make([]bool, len(theta))
	for i, v := range theta {
		at[i] = v < math.Log(lowest)+0.05 || v > math.Log(highest)-0.05
	}
	return at
}

// deviations are the standard errors of the logarithms of n customers' parameters, from the curvature at the maximum; nil
// if it is none. Condition is that of the curvature.
func deviations(f objective, theta []float64, n float64) (errors []float64, condition float64) {
	const h = 1e-4
	k := len(theta)
	hessian := mat.NewSymDense(k, nil)
	up, down, at := make([]float64, k), make([]float64, k), make([]float64, k)
	rows := make([][]float64, k)
	for i := range k {
		copy(at, theta)
		at[i] = theta[i] + h
		f(at, up)
		at[i] = theta[i] - h
		f(at, down)
		rows[i] = make([]float64, k)
		for j := range k {
			rows[i][j] = -n * (up[j] - down[j]) / (2 * h)
		}
	}
	for i := range k {
		for j := i; j < k; j++ {
			hessian.SetSym(i, j, (rows[i][j]+rows[j][i])/2)
		}
	}
	var cholesky mat.Cholesky
	if !cholesky.Factorize(hessian) {
		return nil, math.Inf(1)
	}
	var inverse mat.SymDense
	if err := cholesky.InverseTo(&inverse); err != nil {
		return nil, math.Inf(1)
	}
	errors = make([]float64, k)
	for i := range errors {
		errors[i] = math.Sqrt(inverse.At(i, i))
	}
	return errors, cholesky.Cond()
}
