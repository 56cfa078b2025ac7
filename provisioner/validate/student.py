"""Student's t distribution, as far as the baseline gate needs it.

Of the standard library, `statistics` has the normal distribution alone, and scipy (with numpy some 100 MB) is much for
one function. Student's tail is an incomplete beta function, and that one is a continued fraction of a few terms.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_MANY = 1e7
"""degrees of freedom from which on the normal distribution is the same to nine digits"""
_TERMS = 10_000
_CLOSE = 1e-15
_SMALLEST = 1e-300


def tail(t: float, freedom: float) -> float:
    """P(T > t) with that many degrees of freedom (> 0, not necessarily whole)."""
    if freedom > _MANY:
        return 1 - NormalDist().cdf(t)
    square = t * t
    half = _beta_share(freedom / (freedom + square), square / (freedom + square), freedom / 2, 0.5) / 2
    return half if t >= 0 else 1 - half


def _beta_share(x: float, rest: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), `rest` being 1 - x to all its digits: NIST's Digital Library
    of Mathematical Functions, 8.17."""
    if x <= 0 or rest <= 0:
        return float(rest <= 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side alone
        return 1 - _beta_share(rest, x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(log_front) / (a * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + …)) of DLMF 8.17.22, by Lentz's method."""
    value = c = 1.0
    d = 0.0
    for term in range(1, _TERMS):
        m, odd = divmod(term, 2)
        if odd:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _not_zero(1 + step * d)
        c = _not_zero(1 + step / c)
        value *= c * d
        if abs(c * d - 1) < _CLOSE:
            return value
    raise ArithmeticError(f"the incomplete beta function of {x} with {a}, {b} does not converge")


def _not_zero(value: float) -> float:
    return value if abs(value) > _SMALLEST else _SMALLEST
