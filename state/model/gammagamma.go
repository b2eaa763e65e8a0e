package model

import "math"

// GammaGamma are the parameters of the gamma-gamma model of spending (Colombo & Jiang 1999; Fader & Hardie 2013, note
// 025): amounts per occasion vary around each customer's mean, and the means vary between customers, independently of how
// often they order. Q must be above 1 for a mean to exist.
type GammaGamma struct {
	P, Q, Gamma float64 // shape within a customer, shape and scale (an amount) between customers
}

// LogLikelihood is the logarithm of the density of the mean amount > 0 of n >= 1 occasions.
func (m GammaGamma) LogLikelihood(n, mean float64) float64 {
	shape, ratio := m.P*n, n*mean/m.Gamma
	return logRising(shape, m.Q) - lgamma(m.Q) - m.Q*math.Log1p(ratio) - shape*math.Log1p(1/ratio) - math.Log(mean)
}

// Spend is the expected amount of an occasion of a customer whose n occasions had the given mean amount; with n = 0 that
// of a customer about whom nothing is known.
func (m GammaGamma) Spend(n, mean float64) float64 {
	return m.P * (m.Gamma + n*mean) / (m.P*n + m.Q - 1)
}
