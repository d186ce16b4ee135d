"""Intervals of shares, of their ratio and of their difference, and the order-statistic interval of a quantile."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats as sps

from pytest_mlgates.errors import ConfigError, DataUnusable
from pytest_mlgates.results import Estimate
from pytest_mlgates.stats import arrays
from pytest_mlgates.stats.arrays import NotEnough
from pytest_mlgates.stats.interval import check_confidence, z_quantile


def share_bounds(hits: float, n: float, confidence: float) -> tuple[float, float]:
    """Return the one-sided Clopper-Pearson bounds of a share, each at ``confidence``.

    Parameters
    ----------
    hits, n
        Events and trials; fractions are allowed, as effective counts under a design effect are.

    Notes
    -----
    Clopper and Pearson (1934): exact beta quantiles.

    Examples
    --------
    >>> [round(b, 4) for b in share_bounds(0, 299, 0.95)]
    [0.0, 0.01]
    """
    if n <= 0:
        return 0.0, 1.0
    low = 0.0 if hits <= 0 else float(sps.beta.ppf(1 - confidence, hits, n - hits + 1))
    high = 1.0 if hits >= n else float(sps.beta.ppf(confidence, hits + 1, n - hits))
    return low, high


def _check(hits: float, n: float) -> None:
    if n < 1:
        raise NotEnough("a share needs at least one row, got none")
    if not 0 <= hits <= n:
        raise DataUnusable(f"{hits} of {n} is no share: expected 0 to {n} hits")


def wilson(hits: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return a share with Wilson's (1927) two-sided score interval.

    Raises
    ------
    NotEnough
        ``n`` is zero.
    """
    _check(hits, n)
    z = z_quantile((1 + check_confidence(confidence)) / 2)
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), n, "share, Wilson", confidence)


def share_difference(hits: int, n: int, other_hits: int, other_n: int, confidence: float = 0.95) -> Estimate:
    """Return the difference of two independent shares with Newcombe's (1998, method 10) hybrid score interval."""
    _check(hits, n)
    _check(other_hits, other_n)
    one, two = wilson(hits, n, confidence), wilson(other_hits, other_n, confidence)
    gap = one.value - two.value
    low = gap - math.hypot(one.value - one.low, two.high - two.value)
    high = gap + math.hypot(one.high - one.value, two.value - two.low)
    return Estimate(gap, low, high, n + other_n, "difference of shares, Newcombe", confidence)


def log_ratio(hits: int, n: int, other_hits: int, other_n: int) -> tuple[float, float]:
    """Return the log of the ratio of two shares and its standard error, one half added to each count.

    Notes
    -----
    Katz, Baptista, Azen and Pike (1978) with the +0.5 of Walter (1975):
    se² = 1/(x₁+½) - 1/(n₁+½) + 1/(x₂+½) - 1/(n₂+½); finite also where a count is zero or full.
    """
    value = math.log((hits + 0.5) / (n + 0.5)) - math.log((other_hits + 0.5) / (other_n + 0.5))
    variance = 1 / (hits + 0.5) - 1 / (n + 0.5) + 1 / (other_hits + 0.5) - 1 / (other_n + 0.5)
    return value, math.sqrt(max(variance, 0.0))


def share_ratio(hits: int, n: int, other_hits: int, other_n: int, confidence: float = 0.95) -> Estimate:
    """Return the ratio of two independent shares with the two-sided Katz log interval (+0.5).

    Raises
    ------
    NotEnough
        A group without rows, or a ratio that is undefined (the second share is zero).
    """
    _check(hits, n)
    _check(other_hits, other_n)
    if other_hits < 1:
        raise NotEnough(f"the ratio of {hits}/{n} to {other_hits}/{other_n} is undefined")
    centre, se = log_ratio(hits, n, other_hits, other_n)
    z = z_quantile((1 + check_confidence(confidence)) / 2)
    value = (hits / n) / (other_hits / other_n)
    low, high = math.exp(centre - z * se), math.exp(centre + z * se)
    return Estimate(value, min(low, value), max(high, value), n + other_n, "ratio of shares, Katz log +0.5", confidence)


def quantile_interval(values: Any, q: float, confidence: float = 0.95) -> Estimate:
    """Return a quantile with its distribution-free order-statistic interval.

    Parameters
    ----------
    values : array-like, shape (n,), finite
    q
        Between 0 and 1, e.g. 0.99.

    Returns
    -------
    Estimate
        ``low`` is -inf or ``high`` +inf where n is too small for a bound (below 299 values for the upper bound of a p99
        at 95 % one-sided).

    Notes
    -----
    The number of values at or below the quantile is Binomial(n, q): David and Nagaraja, "Order Statistics" (2003),
    section 7.1.
    """
    values = arrays.finite("values", values)
    n = values.size
    if not 0 < q < 1:
        raise ConfigError(f"q is {q!r}, expected a number between 0 and 1, such as 0.99")
    tail = (1 - check_confidence(confidence)) / 2
    ordered = np.sort(values)
    # low: the largest order statistic that exceeds the quantile with probability at most `tail`; high: its mirror
    r = int(sps.binom.ppf(tail, n, q))
    r = r if sps.binom.cdf(r - 1, n, q) <= tail else r - 1
    s = int(sps.binom.ppf(1 - tail, n, q)) + 1
    low = float(ordered[r - 1]) if r >= 1 else -math.inf
    high = float(ordered[s - 1]) if s <= n else math.inf
    return Estimate(float(np.quantile(ordered, q)), low, high, n, f"p{q * 100:g}, order statistics", confidence)
