"""Intervals from per-row influence values (the delta method), and the two one-sided bounds a verdict is made of."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from scipy import stats as sps

from pytest_mlgates.errors import ConfigError
from pytest_mlgates.results import Estimate
from pytest_mlgates.stats.arrays import Floats


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """A point estimate with its standard error.

    ``df`` is the degrees of freedom of the t quantile used for its bounds. ``scale`` is where the estimate is closest to
    normal, and its interval therefore symmetric: ``linear``, ``log`` (errors, above 0), ``unit`` (the log-odds of a value
    between 0 and 1), ``lack`` (the log of 1 - value: what R² leaves unexplained) or ``square`` (the root of a mean: `skew_bound`
    of that mean, for which ``skew`` is the skewness of what it is the mean of). Differences are ``linear``.
    """

    value: float
    se: float
    n: int
    df: float
    method: str
    scale: str = "linear"
    skew: float = 0.0

    def bound(self, confidence: float, *, upper: bool) -> float:
        """One-sided bound: the estimate lies on its far side with probability 1 - ``confidence``."""
        width = t_quantile(confidence, self.df) * self.se * (1 if upper else -1)
        value = self.value
        if self.scale == "square" and value > 0:
            mean = skew_bound(value**2, 2 * value * self.se, self.skew / math.sqrt(self.n), width / self.se if self.se else 0.0)
            return math.sqrt(max(float(mean), 0.0))
        if self.scale == "log" and value > 0:
            return value * _exp(width / value)
        if self.scale == "lack" and value < 1:
            return 1 - (1 - value) * _exp(-width / (1 - value))
        if self.scale == "unit" and 0 < value < 1:
            odds = value / (1 - value) * _exp(width / (value * (1 - value)))
            return odds / (1 + odds)
        if self.scale == "unit" and value in (0.0, 1.0):
            # nothing varied, so the standard error is zero: Clopper and Pearson's bound for no event in df + 1 trials
            inner = 1 - (1 - confidence) ** (1 / (self.df + 1))
            return (inner if upper else 0.0) if value == 0 else (1.0 if upper else 1 - inner)
        return value + width

    def interval(self, confidence: float = 0.95) -> Estimate:
        """Two-sided interval as an `Estimate`."""
        side = (1 + check_confidence(confidence)) / 2
        return Estimate(
            self.value, self.bound(side, upper=False), self.bound(side, upper=True), self.n, self.method, confidence
        )


def from_influence(
    value: float, influence: Floats, method: str, df: float | None = None, *, scale: str = "linear", doubt: float = 0.0
) -> Measured:
    """Return an estimate whose standard error is that of the mean of its influence values.

    Parameters
    ----------
    value
        The point estimate.
    influence : ndarray, shape (n,)
        First-order effect of each row on the estimate, times n; mean zero.
    method
        Name of the estimator.
    df
        Degrees of freedom; by the tails of the influence values unless told, see `tail_df`.
    scale
        See `Measured`.
    doubt
        Added to the sum of squared influences: 1 is one more pair of rows on which two models disagree, so that a few rows
        without a disagreement do not claim to be certain (Agresti and Min 2005 add as much to a paired table).

    Notes
    -----
    Hampel, "The influence curve and its role in robust estimation" (1974); the variance is that of the delta method.
    """
    n = influence.size
    total = float(np.dot(influence, influence))
    se = math.sqrt((total + doubt) / max(n - 1, 1) / n)
    skew = 0.0
    if scale == "square" and total > 0:
        skew = float(np.dot(influence * influence, influence)) / n / (total / n) ** 1.5
    return Measured(float(value), se, n, tail_df(influence) if df is None else df, method, scale, skew)


def skew_bound(mean: Any, se: Any, skew: Any, quantile: Any) -> Any:
    """Return the bound of a mean at a quantile (negative: the lower bound), corrected for skewness.

    Parameters
    ----------
    mean, se : float or ndarray
        The mean and its standard error.
    skew : float or ndarray
        Skewness of the values over the root of their number.
    quantile : float or ndarray
        Of Student's t.

    Notes
    -----
    Hall, "On the removal of skewness by transformation" (1992): the inverse of t + γt²/3 + γ²t³/27 + γ/6, which is monotone. With
    the degrees of freedom of `tail_df` the 95 % interval of the RMSE of 300 lognormal errors holds the truth in 93 % of samples,
    where the log scale and n - 1 hold it in 86 %.
    """
    k = np.where(np.abs(skew) < 1e-9, 1e-9, skew)
    return mean - se * 3 / k * (np.cbrt(1 + k * (-np.asarray(quantile) - k / 6)) - 1)


def tail_df(influence: Floats) -> float:
    """Return the degrees of freedom of the variance of ``influence``, at most n - 1.

    Where few rows make most of the variance it is known no better than from few rows: 2n / (kurtosis - 1), the degrees of
    freedom of the chi-square with the sample variance's own variance (Satterthwaite 1946; O'Neill 2014 for that variance).
    RMSE of errors that grow with a skewed target: the 95 % interval of 300 rows holds the truth in 94.4 % of samples, with
    n - 1 in 92.4 %.

    Examples
    --------
    >>> tail_df(np.array([-1.0, 1.0] * 50)), round(tail_df(np.array([-1.0] * 99 + [99.0])), 2)
    (99, 2.06)
    """
    n = influence.size
    square = influence * influence
    mean = float(square.mean()) if n else 0.0
    if mean <= 0:
        return max(n - 1, 1)
    square /= mean
    kurtosis = float(np.dot(square, square)) / n
    return max(1, min(n - 1, 2 * n / (kurtosis - 1) if kurtosis > 1 else n))


def _exp(power: float) -> float:
    return math.exp(min(power, 700.0))


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t (normal past 10,000 degrees of freedom)."""
    if df > 10_000:
        return float(sps.norm.ppf(probability))
    return float(sps.t.ppf(probability, df))


def z_quantile(probability: float) -> float:
    """Quantile of the normal distribution."""
    return float(sps.norm.ppf(probability))


def check_confidence(confidence: float) -> float:
    """Return ``confidence``.

    Raises
    ------
    ConfigError
        It is not strictly between 0.5 and 1.
    """
    if not 0.5 < confidence < 1:
        raise ConfigError(f"confidence is {confidence!r}, expected a number between 0.5 and 1, such as 0.95")
    return confidence


def adjusted_confidence(confidence: float, looks: int) -> float:
    """Return the confidence of one bound such that the best of ``looks`` candidates is still held to ``confidence``.

    Bonferroni over the looks at one holdout: (1 - confidence) / looks. Dwork et al., "The reusable holdout" (2015,
    2017), show that adaptive re-use needs a correction; theirs spends noise on every answer and pays off past some
    hundreds of looks, which a registry does not reach.

    Examples
    --------
    >>> round(adjusted_confidence(0.95, 20), 4)
    0.9975
    """
    if looks < 1:
        raise ConfigError(f"looks is {looks!r}, expected the number of times this holdout has been used, at least 1")
    return 1 - (1 - check_confidence(confidence)) / looks


def rows_to_settle(n: int, half_width: float, distance: float) -> int | None:
    """Return the rows at which a bound would clear a threshold, were the estimate the truth; ``None`` beyond a billion.

    The half-width of an interval shrinks with the square root of n, so n (half_width / distance)² rows suffice.

    Examples
    --------
    >>> rows_to_settle(300, half_width=0.04, distance=0.02)
    1200
    """
    if not (math.isfinite(half_width) and math.isfinite(distance)) or distance <= 0:
        return None
    needed = n * (half_width / distance) ** 2
    return max(math.ceil(needed - 1e-9), n + 1) if needed < 1e9 else None
