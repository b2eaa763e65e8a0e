#!/usr/bin/env python3
"""Makes quadrature.csv: values of which vectors.csv has none, by numerical integration over the heterogeneity of the customers
in 40-digit arithmetic, with nothing of the closed forms that the package uses. Needs mpmath:

    python3 quadrature.py > quadrature.csv

A customer orders at rate L ~ Gamma(r, alpha) and leaves after an order with probability P ~ Beta(a, b) (MBG/NBD: also at the
start), or at rate M ~ Gamma(s, beta) (Pareto/NBD), or never (NBD). Given L and P, orders still come at the rate
L exp(-L P t) while he has not left; discounted at a rate d, that sums to L / (L P + d).
"""
import json
from mpmath import mp, mpf, quad, gamma, exp, log, inf, beta as beta_function, nstr

mp.dps = 40


def row(fn, params, inputs, value):
    print('%s,"%s","%s",%s' % (fn, json.dumps(params), json.dumps(inputs), nstr(value, 20)))


def over_rates(f, shape, rate):
    """The integral of f over Gamma(shape, rate), without its norm: the substitution u = L^shape tames the pole at zero."""
    mode = max(shape - 1, mpf(1)) / rate
    spread = mp.sqrt(shape + 1) / rate
    cuts = [mpf(0)] + sorted({c**shape for c in (mode / 50, mode / 4, mode, mode + 3 * spread, mode + 10 * spread, mode + 40 * spread)})
    return quad(lambda u: f(u ** (1 / shape)) * exp(-rate * u ** (1 / shape)) / shape, cuts + [inf])


def over_shares(f, a, b):
    """The integral of f over Beta(a, b), without its norm, in two halves each with its pole substituted away."""
    half = mpf(1) / 2
    left = quad(lambda u: f(u ** (1 / a)) * (1 - u ** (1 / a)) ** (b - 1) / a, [0, half**a / 8, half**a])
    right = quad(lambda u: f(1 - u ** (1 / b)) * (1 - u ** (1 / b)) ** (a - 1) / b, [0, half**b / 8, half**b])
    return left + right


def betageometric_dert(r, alpha, a, b, d, x, tx, T, modified):
    """BG/NBD or MBG/NBD: expected discounted orders after T of who ordered x times, at tx last."""
    r, alpha, a, b, d, x, tx, T = map(mpf, (r, alpha, a, b, d, x, tx, T))
    start = 1 if modified else 0
    alive = over_shares(lambda p: over_rates(lambda l: l / (l * p + d), r + x, alpha + T), a, b + x + start)
    norm = beta_function(a, b + x + start) * gamma(r + x) / (alpha + T) ** (r + x)
    if modified or x > 0:  # he has left after the last order
        norm += beta_function(a + 1, b + x - 1 + start) * gamma(r + x) / (alpha + tx) ** (r + x)
    return alive / norm


def pareto_new(r, alpha, s, beta, t):
    """Pareto/NBD: orders of a new customer until t: E[L] times the integral of the survival E[exp(-M u)]."""
    r, alpha, s, beta, t = map(mpf, (r, alpha, s, beta, t))
    stays = lambda u: over_rates(lambda m: exp(-m * u), s, beta) * beta**s / gamma(s)
    return r / alpha * quad(stays, [0, t / 8, t])


def nbd(r, alpha, x, T, f):
    """NBD: the mean of f(L) over what is known of L after x orders until T."""
    r, alpha, x, T = map(mpf, (r, alpha, x, T))
    return over_rates(f, r + x, alpha + T) * (alpha + T) ** (r + x) / gamma(r + x)


def main():
    print("fn,params,inputs,expected")
    for params in ([0.243, 4.414, 0.793, 2.426], [0.525, 6.183, 0.891, 1.614], [1.4, 30.0, 0.3, 5.2], [3.0, 12.0, 2.5, 0.8]):
        for d in (0.0027, 0.02):
            for x, tx, T in ((0, 0, 38.86), (1, 1.71, 38.86), (26, 30.86, 31), (7, 35, 77.86), (3, 10, 10)):
                row("mbg_dert", params, [d, x, tx, T], betageometric_dert(*params, d, x, tx, T, True))
    for params in ([0.553, 10.578, 0.606, 11.669], [2.1, 40.0, 1.7, 60.0], [0.8, 3.0, 1.0, 15.0], [0.9, 5.0, 0.05, 200.0]):
        for t in (0.5, 39, 520):
            row("pnbd_expected_new", params, [t], pareto_new(*params, t))
    for params in ([0.385, 12.072], [2.5, 60.0], [0.05, 0.7]):
        r, alpha = map(mpf, params)
        for t in (1, 39, 520):
            row("nbd_expected_new", params, [t], nbd(r, alpha, 0, 0, lambda l: l * t))
        for x, tx, T in ((0, 0, 38.86), (2, 30.43, 38.86), (40, 77, 77.5)):
            mean = lambda f: nbd(r, alpha, x, T, f)
            row("nbd_ll", params, [x, tx, T], log(over_rates(lambda l: mpf(1), r + x, alpha + T) * alpha**r / gamma(r)))
            row("nbd_palive", params, [x, tx, T], mpf(1))
            for h in (4, 52):
                row("nbd_p_no_purchase", params, [h, x, tx, T], mean(lambda l: exp(-l * h)))
                row("nbd_expected_purchases", params, [h, x, tx, T], mean(lambda l: l * h))
            row("nbd_dert", params, [0.0027, x, tx, T], mean(lambda l: l / mpf("0.0027")))


if __name__ == "__main__":
    main()
