"""Intervals from per-row influence values (the delta method), and the two one-sided bounds a verdict is made of."""

from __future__ import annotations

import dataclasses
import math

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
    between 0 and 1) or ``lack`` (the log of 1 - value: what R² leaves unexplained). Differences are ``linear``.
    """

    value: float
    se: float
    n: int
    df: float
    method: str
    scale: str = "linear"

    def bound(self, confidence: float, *, upper: bool) -> float:
        """One-sided bound: the estimate lies on its far side with probability 1 - ``confidence``."""
        width = t_quantile(confidence, self.df) * self.se * (1 if upper else -1)
        value = self.value
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
    se = math.sqrt((float(np.dot(influence, influence)) + doubt) / max(n - 1, 1) / n)
    return Measured(float(value), se, n, tail_df(influence) if df is None else df, method, scale)


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
