"""Calibration error with its bias taken out and an interval, for probabilities and for regressors, binned and smooth."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from scipy import stats as sps

from pytest_mlgates.results import Estimate
from pytest_mlgates.stats import arrays
from pytest_mlgates.stats.arrays import Bools, Floats, Ints, NotEnough
from pytest_mlgates.stats.interval import check_confidence, z_quantile


@dataclasses.dataclass(frozen=True, slots=True)
class Bins:
    """One row per bin that has data.

    Attributes
    ----------
    rows
        Number of rows.
    predicted, observed
        Mean prediction and mean outcome.
    gap_se
        Standard error of the gap between the two, over ``unit``.
    unit
        What gaps are divided by: 1 for probabilities, mean |outcome| for regressors.
    spread_se, between
        What the variance of the calibration error is made of: the standard error within each bin of a row's effect on it (``gap_se`` for
        probabilities), and the variance of that effect's mean over bins (``None``: of |gap|).
    """

    rows: Ints
    predicted: Floats
    observed: Floats
    gap_se: Floats
    unit: float = 1.0
    spread_se: Floats | None = None
    between: float | None = None

    @property
    def gap(self) -> Floats:
        """Mean outcome minus mean prediction, per bin, over ``unit``."""
        return (self.observed - self.predicted) / self.unit


@dataclasses.dataclass(frozen=True, slots=True)
class CalibrationError:
    """Expected calibration error: the mean over rows of |mean outcome - mean prediction| of the row's bin.

    Attributes
    ----------
    plug_in
        The usual estimate; its expectation is above the truth.
    debiased
        With the estimated bias taken out, never below zero.
    se, debiased_se
        Standard error of each.
    n
        Rows.
    """

    plug_in: float
    debiased: float
    se: float
    debiased_se: float
    n: int
    bins: Bins

    def pass_bound(self, confidence: float = 0.95) -> float:
        """Upper one-sided bound: plug-in + z se; conservative, since the plug-in errs upwards."""
        return self.plug_in + z_quantile(confidence) * self.se

    def fail_bound(self, confidence: float = 0.95) -> float:
        """Lower one-sided bound: debiased - z se, at least zero."""
        return max(0.0, self.debiased - z_quantile(confidence) * self.debiased_se)

    def interval(self, confidence: float = 0.95) -> Estimate:
        """Two-sided interval around the debiased value, cut at zero."""
        half = z_quantile((1 + confidence) / 2) * self.debiased_se
        return Estimate(
            self.debiased, max(0.0, self.debiased - half), self.debiased + half, self.n, "ECE, debiased", confidence
        )


def probability_bins(outcome: Bools, probability: Floats, bins: int = 10) -> Bins:
    """Put predictions in bins of equal width on [0, 1], a prediction on an edge in the lower bin.

    Parameters
    ----------
    outcome : ndarray, shape (n,), bool
    probability : ndarray, shape (n,), in [0, 1]
    """
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probability)
    rows = np.bincount(place, minlength=bins)
    hits = np.bincount(place, outcome, bins)
    total = np.bincount(place, probability, bins)
    has = rows > 0
    rows, hits = rows[has], hits[has]
    # one success and one failure added: a bin of a few equal outcomes does not claim to be certain
    smooth = (hits + 1) / (rows + 2)
    return Bins(rows, total[has] / rows, hits / rows, np.sqrt(smooth * (1 - smooth) / rows))


def quantile_bins(outcome: Floats, prediction: Floats, bins: int = 10) -> Bins:
    """Put predictions in bins of equal count, by quantile of the prediction; gaps are in units of mean |outcome|.

    Equal predictions share a bin, so there may be fewer bins, one at least.

    Raises
    ------
    NotEnough
        Every outcome is zero, so that the unit is zero.
    """
    unit = float(np.abs(outcome).mean())
    if unit == 0:
        raise NotEnough("y_true is zero everywhere, calibration relative to its mean is undefined")
    edges = np.unique(np.quantile(prediction, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, prediction)
    size = edges.size + 1
    rows = np.bincount(place, minlength=size)
    has = rows > 0
    rows = rows[has]
    observed = np.bincount(place, outcome, size)[has] / rows
    predicted = np.bincount(place, prediction, size)[has] / rows
    error = outcome - prediction
    pooled = float(error.var())
    square = np.bincount(place, error * error, size)[has]
    spread = np.maximum(square - rows * (observed - predicted) ** 2, 0.0)
    # four pooled rows are added to each bin, so that a bin of one or two rows has a variance too
    variance = (spread + 4 * pooled) / (np.maximum(rows - 1, 0) + 4)
    gap_se = np.sqrt(variance / rows) / unit
    gap = (observed - predicted) / unit
    plug_in = float(rows @ np.abs(gap)) / outcome.size
    # the unit is estimated too: a row's effect on the ratio is (sign x error - ECE x |outcome|) / unit
    compact = np.cumsum(has) - 1
    effect = (np.where(gap < 0, -1.0, 1.0)[compact[place]] * error - plug_in * np.abs(outcome)) / unit
    mean = np.bincount(place, effect, size)[has] / rows
    within = np.maximum(np.bincount(place, effect * effect, size)[has] / rows - mean**2, 0.0)
    within = (rows * within + 4 * float(effect.var())) / (rows + 4)
    between = float(rows @ mean**2) / outcome.size
    return Bins(rows, predicted, observed, gap_se, unit, np.sqrt(within / rows), between)


def calibration_error(bins: Bins) -> CalibrationError:
    """Return the expected calibration error of a table of bins.

    Notes
    -----
    The plug-in overstates: |gap| of a bin is a folded normal, whose mean is above the true |gap|. The bias is estimated
    by the parametric bootstrap of Kumar, Liang and Ma, "Verified uncertainty calibration" (2019, section 5), in closed
    form: E|N(g, s)| - |g|. The standard error joins the folded normals' variances and the spread of |gap| over rows. No
    percentile bootstrap: it resamples the bias along and misses a true zero always.
    """
    n = int(bins.rows.sum())
    weight = bins.rows / n
    size = np.abs(bins.gap)
    folded = folded_mean(size, bins.gap_se)
    plug_in = float(weight @ size)
    debiased = max(0.0, float(weight @ (2 * size - folded)))
    # variance of |N(g, s²)| as a share of s²: 1 far from zero, 1 - 2/π at zero
    square = np.where(bins.gap_se > 0, bins.gap_se, 1.0) ** 2
    share = np.clip((size**2 + bins.gap_se**2 - folded**2) / square, 0.0, 1.0)
    variance = weight**2 * share * (bins.gap_se if bins.spread_se is None else bins.spread_se) ** 2
    between = max(float(weight @ size**2) - plug_in**2, 0.0) if bins.between is None else bins.between
    slope = 1 + 2 * sps.norm.cdf(-size / np.sqrt(square))  # of 2|g| - E|N(g, s²)| in |g|
    se = math.sqrt(float(variance.sum()) + between / n)
    debiased_se = math.sqrt(float(variance @ slope**2) + between / n)
    return CalibrationError(plug_in, debiased, se, debiased_se, n, bins)


def class_wise_error(codes: Ints, table: Floats, bins: int = 10, confidence: float = 0.95) -> Estimate:
    """Return the mean over classes of each one's debiased calibration error, with its two-sided interval.

    Parameters
    ----------
    codes : ndarray, shape (n,)
        Class of each row, a column of ``table``.
    table : ndarray, shape (n, classes)
        Probabilities.

    Notes
    -----
    Kull et al., "Beyond temperature scaling" (2019), section 2. One row stands in a bin of every class: its effect on the mean is
    summed over them before the variance is taken. The interval reaches to zero wherever perfect calibration is not rejected: the
    plug-in is no larger than the folded normals of gaps that are all zero make it, the classes taken as wholly dependent.
    """
    n, classes = table.shape
    quantile = z_quantile((1 + confidence) / 2)
    value, plug_in, by_chance, effect = 0.0, 0.0, 0.0, np.zeros(n)
    for code in range(classes):
        outcome, probability = codes == code, table[:, code]
        found = calibration_error(probability_bins(outcome, probability, bins))
        weight = found.bins.rows / n
        value += found.debiased / classes
        gap, se = found.bins.gap, np.where(found.bins.gap_se > 0, found.bins.gap_se, 1.0)
        plug_in += found.plug_in / classes
        spread = math.sqrt((1 - 2 / math.pi) * float(np.square(weight * se).sum()))
        by_chance += (math.sqrt(2 / math.pi) * float(weight @ se) + quantile * spread) / classes
        # of the variance that folding leaves, and the slope of the debiased value, as in `calibration_error`
        share = np.clip((gap**2 + se**2 - folded_mean(np.abs(gap), se) ** 2) / se**2, 0.0, 1.0)
        pull = np.sign(gap) * np.sqrt(share) * (1 + 2 * sps.norm.cdf(-np.abs(gap) / se))
        place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probability)
        compact = np.cumsum(np.bincount(place, minlength=bins) > 0) - 1
        effect += pull[compact[place]] * (outcome - probability) / classes
    half = quantile * float(effect.std()) / math.sqrt(n)
    low = max(0.0, value - half) if plug_in > by_chance else 0.0
    return Estimate(value, low, value + half, n, "class-wise ECE, debiased", confidence)


def folded_mean(mean: Floats, sd: Floats) -> Floats:
    """Mean of |N(mean, sd²)|: sd √(2/π) exp(-mean²/2sd²) + mean (1 - 2Φ(-mean/sd)). Leone, Nelson and Nottingham (1961)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sd > 0, mean / np.where(sd > 0, sd, 1.0), np.inf)
    return sd * math.sqrt(2 / math.pi) * np.exp(-0.5 * ratio**2) + mean * (1 - 2 * sps.norm.cdf(-ratio))


def observed_expected(outcome: Any, prediction: Any, confidence: float = 0.95) -> Estimate:
    """Return the ratio of observed to expected events with a two-sided interval.

    Parameters
    ----------
    outcome : array-like, shape (n,), events as 0 and 1, or amounts
    prediction : array-like, shape (n,), probabilities, or predicted amounts

    Raises
    ------
    NotEnough
        The predictions sum to zero or less.

    Notes
    -----
    Delta method on the log ratio; under 10 events the exact Poisson interval of the count (Garwood 1936) over the
    expected number.
    """
    outcome, prediction = arrays.finite("outcome", outcome), arrays.finite("prediction", prediction)
    n = arrays.same_length(outcome=outcome, prediction=prediction)
    tail = (1 - check_confidence(confidence)) / 2
    events, expected = float(outcome.sum()), float(prediction.sum())
    if expected <= 0:
        raise NotEnough("the predictions sum to zero, observed over expected is undefined")
    ratio = events / expected
    if events < 10:
        low = 0.0 if events <= 0 else float(sps.chi2.ppf(tail, 2 * events)) / 2 / expected
        high = float(sps.chi2.ppf(1 - tail, 2 * events + 2)) / 2 / expected
        return Estimate(ratio, low, high, n, "observed/expected, Garwood", confidence)
    se = float(np.std(outcome - ratio * prediction)) / math.sqrt(n) / (events / n)
    half = z_quantile(1 - tail) * se
    return Estimate(ratio, ratio * math.exp(-half), ratio * math.exp(half), n, "observed/expected, log delta", confidence)
