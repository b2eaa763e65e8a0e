#!/usr/bin/env python3
"""Makes quadrature.csv: values of which vectors.csv has none, by numerical integration over what differs from customer to customer
in 30-digit arithmetic, with none of the closed forms that the package uses. Needs mpmath:

    python3 quadrature.py >quadrature.csv

A customer orders at a rate L ~ Gamma(r, alpha). MBG/NBD: he leaves at the start, and after each order, with probability
P ~ Beta(a, b); given both, and that he has not left, orders come at the rate L exp(-L P t), which discounted at a rate d is
L / (L P + d) in all. Pareto/NBD: he leaves at a rate M ~ Gamma(s, beta). NBD: he stays.
"""
import json
from mpmath import mp, mpf, quad, gamma, gammainc, exp, log, inf, beta as euler_beta, nstr

mp.dps = 30


def row(fn, params, inputs, value):
    print('%s,"%s","%s",%s' % (fn, json.dumps(params), json.dumps(inputs), nstr(value, 20)), flush=True)


def over_rates(f, shape, rate):
    """The mean of f over Gamma(shape, rate). With u = L^shape there is no pole at zero; where there is none, as it stands."""
    norm = rate**shape / gamma(shape)  # within: what is integrated must not be small beside the precision
    if shape >= 2:
        middle, width = shape / rate, mp.sqrt(shape) / rate
        ends = [0] + [middle + i * width for i in range(-12, 60, 3) if middle + i * width > 0] + [inf]
        return quad(lambda l: f(l) * l ** (shape - 1) * exp(-rate * l) * norm, ends)
    at = lambda u: u ** (1 / shape)
    ends = [mpf(c) / rate for c in (0, "0.1", 1, 5, 20, 80, 320)] + [(shape + 1) / rate]
    return quad(lambda u: f(at(u)) * exp(-rate * at(u)) * norm / shape, sorted({e**shape for e in ends}) + [inf])


def mbg_dert(r, alpha, a, b, d, x, tx, T):
    """Expected discounted orders after T of who ordered x times, the last time at tx. The integral over L is an incomplete gamma."""
    r, alpha, a, b, d, x, tx, T = map(mpf, (r, alpha, a, b, d, x, tx, T))
    k, c = r + x, alpha + T

    def orders(p):  # the mean of L / (L p + d) over Gamma(k, c)
        z = c * d / p
        return c**k / gamma(k) / p * (d / p) ** k * exp(z) * gamma(k + 1) * gammainc(-k, z)

    # With u = P^a and u = (1-P)^b there is no pole at either end.
    q = b + x + 1
    half = mpf(1) / 2
    low = quad(lambda u: orders(u ** (1 / a)) * (1 - u ** (1 / a)) ** (q - 1) / a, [half**a / mpf(2) ** (10 * i) for i in (6, 4, 2, 1)] + [half**a])
    low += quad(lambda u: orders(u ** (1 / a)) * (1 - u ** (1 / a)) ** (q - 1) / a, [mpf(10) ** -40, half**a / mpf(2) ** 60])
    high = quad(lambda u: orders(1 - u ** (1 / q)) * (1 - u ** (1 / q)) ** (a - 1) / q, [0, half**q / 2, half**q])
    stayed = euler_beta(a, q) / c**k
    left = euler_beta(a + 1, q - 1) / (alpha + tx) ** k
    return (low + high) / c**k / (stayed + left)


def pareto_new(r, alpha, s, beta, t):
    """Orders of a new customer until t: E[L] times the integral of his survival E[exp(-M u)]."""
    r, alpha, s, beta, t = map(mpf, (r, alpha, s, beta, t))
    return r / alpha * quad(lambda u: over_rates(lambda m: exp(-m * u), s, beta), [0, t])


def main():
    print("fn,params,inputs,expected")
    for params in ([0.525, 6.183, 0.891, 1.614], [1.4, 30.0, 0.6, 5.2], [3.0, 12.0, 2.5, 0.8]):
        for d in (0.0027, 0.02):
            for x, tx, T in ((0, 0, 38.86), (1, 1.71, 38.86), (26, 30.86, 31), (7, 35, 77.86)):
                row("mbg_dert", params, [d, x, tx, T], mbg_dert(*params, d, x, tx, T))
    for params in ([0.553, 10.578, 0.606, 11.669], [2.1, 40.0, 1.7, 60.0], [0.8, 3.0, 1.0, 15.0]):
        for t in (0.5, 39, 520):
            row("pnbd_expected_new", params, [t], pareto_new(*params, t))
    for params in ([0.385, 12.072], [2.5, 60.0], [0.3, 0.7]):
        r, alpha = map(mpf, params)
        for t in (1, 39, 520):
            row("nbd_expected_new", params, [t], over_rates(lambda l: l * t, r, alpha))
        for x, tx, T in ((0, 0, 38.86), (2, 30.43, 38.86), (40, 77, 77.5)):
            k, c = r + x, alpha + mpf(T)
            scale = mpf(10) ** (2 * x)
            row("nbd_ll", params, [x, tx, T], log(over_rates(lambda l: l**x * exp(-l * mpf(T)) * scale, r, alpha) / scale))
            for h in (4, 52):
                row("nbd_p_no_purchase", params, [h, x, tx, T], over_rates(lambda l: exp(-l * h), k, c))
                row("nbd_expected_purchases", params, [h, x, tx, T], over_rates(lambda l: l * h, k, c))
            row("nbd_dert", params, [0.0027, x, tx, T], over_rates(lambda l: l / mpf("0.0027"), k, c))


if __name__ == "__main__":
    main()
