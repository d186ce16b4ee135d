"""The estimators by name: arrays in, an `Estimate` with its two-sided interval out.

Each takes what the gates take (arrays, lists, series; outcomes first) and raises what they turn into a verdict: `DataUnusable` where
the data are broken, `NotEnough` where they cannot settle the question, `ConfigError` where the call makes no sense.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.results import Estimate
from pytest_mlgates.stats import arrays, groups, smooth
from pytest_mlgates.stats.calibration import calibration_error, class_wise_error, probability_bins, quantile_bins
from pytest_mlgates.stats.comparison import Comparison, compare
from pytest_mlgates.stats.interval import check_confidence
from pytest_mlgates.stats.metrics import Problem, hard_labels, infer_task


def metric(
    y_true: Any,
    y_pred: Any,
    name: str = "r2",
    *,
    task: str | None = None,
    positive: Any = None,
    classes: Any = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return a metric of one model with its interval.

    Parameters
    ----------
    y_true : array-like, shape (n,)
        Outcomes: numbers, or class labels.
    y_pred : array-like, shape (n,) or (n, classes)
        Predictions of the same rows.
    name
        ``r2, rmse, mae, mape, auc, accuracy, f1, log_loss, brier``, or any scikit-learn scorer name (those that have no
        closed form here by a seeded Poisson bootstrap; the value keeps the score function's own sign).
    task
        ``regression``, ``binary`` or ``multiclass``; from metric and labels unless told.
    positive, classes
        The positive label; the order of the probability columns (sorted labels unless told).
    confidence
        Coverage of the interval.
    seed
        Of the bootstrap.

    Notes
    -----
    Delta method (AUC: DeLong) on the scale on which the estimate is closest to normal: the logarithm for errors, the
    log-odds for shares and AUC, the logarithm of 1 - R² for R²; RMSE by Hall's (1992) bounds of the mean square.

    Examples
    --------
    >>> found = metric([1, 2, 3, 4, 5, 6], [1.1, 1.9, 3.2, 3.8, 5.1, 5.9], "rmse")
    >>> f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}), n={found.n}"
    '0.141 (0.095 to 0.212), n=6'
    """
    return _compared(name, y_true, y_pred, None, task, positive, classes, seed).candidate.interval(confidence)


def difference(
    y_true: Any,
    y_pred: Any,
    baseline_pred: Any,
    name: str = "r2",
    *,
    task: str | None = None,
    positive: Any = None,
    classes: Any = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the metric of a model minus that of a baseline on the same rows, with its paired interval.

    Parameters
    ----------
    y_true, y_pred, baseline_pred, name, task, positive, classes, confidence, seed
        As for `metric`. The difference is in the metric's own unit and sign: an RMSE that fell gives a negative number.
    """
    found = _compared(name, y_true, y_pred, baseline_pred, task, positive, classes, seed)
    return found.difference.interval(confidence)


def ratio(
    y_true: Any,
    y_pred: Any,
    baseline_pred: Any,
    name: str = "r2",
    *,
    task: str | None = None,
    positive: Any = None,
    classes: Any = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the metric of a model over that of a baseline on the same rows, with its paired interval.

    Parameters
    ----------
    y_true, y_pred, baseline_pred, name, task, positive, classes, confidence, seed
        As for `metric`.

    Returns
    -------
    Estimate
        ``low`` is -inf or ``high`` +inf where the baseline may be zero; the gates judge the margin instead, which has no such pole.

    Raises
    ------
    NotEnough
        The baseline's metric is zero or negative, or not surely above zero: the ratio means nothing then.

    Notes
    -----
    Fieller (1954): the ratios ρ for which candidate - ρ · baseline is not surely different from zero.
    """
    check_confidence(confidence)
    found = _compared(name, y_true, y_pred, baseline_pred, task, positive, classes, seed)
    return found.ratio_interval(confidence)


def _compared(
    name: str, y_true: Any, y_pred: Any, baseline_pred: Any, task: str | None, positive: Any, classes: Any, seed: int
) -> Comparison:
    problem = Problem.of(task or infer_task(name, y_true), y_true, positive=positive, classes=classes)
    return compare(name, problem, y_pred, baseline_pred, seed=seed)


def expected_calibration_error(
    y_true: Any,
    y_prob_or_pred: Any,
    *,
    task: str = "binary",
    bins: int = 10,
    class_wise: bool = False,
    positive: Any = None,
    classes: Any = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return the debiased expected calibration error with its interval.

    Parameters
    ----------
    y_true : array-like, shape (n,)
    y_prob_or_pred : array-like, shape (n,) or (n, classes)
        Probabilities for a classifier, predictions for a regressor.
    task
        ``binary``; ``multiclass`` (of the top label, or with ``class_wise`` the mean over classes of each one's own error);
        ``regression`` (bins of equal count, relative to the mean of |y_true|).
    bins
        Number of bins: of equal width for probabilities.

    Notes
    -----
    Kumar, Liang and Ma (2019) for the bias, in closed form; `stats.calibration.calibration_error` says more. The interval is cut
    at zero. Where a model is perfectly calibrated the truth is at that edge, and the interval holds it more often than told.
    """
    check_confidence(confidence)
    problem = Problem.of(task, y_true, positive=positive, classes=classes)
    if task == "regression":
        prediction = arrays.finite("y_prob_or_pred", y_prob_or_pred)
        arrays.same_length(y_true=problem.target, y_prob_or_pred=prediction)
        return calibration_error(quantile_bins(problem.target, prediction, bins)).interval(confidence)
    if task == "binary":
        return calibration_error(probability_bins(*_probabilities(problem, y_prob_or_pred), bins)).interval(confidence)
    table = arrays.class_probabilities("y_prob_or_pred", y_prob_or_pred, problem.classes.size)
    arrays.same_length(y_true=problem.target, y_prob_or_pred=table)
    if class_wise:
        return class_wise_error(problem.target, table, bins, confidence)
    top = np.argmax(table, axis=1)
    outcome, probability = top == problem.target, table[np.arange(top.size), top]
    return calibration_error(probability_bins(outcome, probability, bins)).interval(confidence)


def smooth_calibration_error(y_true: Any, y_prob: Any, *, positive: Any = None, confidence: float = 0.95) -> Estimate:
    """Return the debiased smooth calibration error (smECE, no bins) of probabilities with its interval.

    Parameters
    ----------
    y_true, y_prob : array-like, shape (n,)

    Notes
    -----
    Błasiok and Nakkiran (2023); `stats.smooth` says how bias and interval are found, and has their plug-in value.
    """
    problem = Problem.of("binary", y_true, positive=positive)
    return smooth.smooth_error(*_probabilities(problem, y_prob), confidence)


def _probabilities(problem: Problem, y_prob: Any) -> tuple[npt.NDArray[np.bool_], arrays.Floats]:
    probability = arrays.probabilities("y_prob", y_prob)
    arrays.same_length(y_true=problem.target, y_prob=probability)
    return problem.target, probability


def demographic_parity_ratio(
    y_true: Any,
    y_pred: Any,
    sensitive: Any,
    *,
    positive: Any = None,
    decision_threshold: float = 0.5,
    confidence: float = 0.95,
) -> Estimate:
    """Return the smallest selection rate of a group over the largest, with its interval.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,)
        Outcomes and predictions: labels, or probabilities cut at ``decision_threshold``. (Outcomes only tell what the labels are.)
    sensitive : array-like, shape (n,)
        Groups; rows without a value are left out.

    Notes
    -----
    Katz's log ratio (+0.5) of the worst pair, the upper end allowing for every pair that may be the worst.
    """
    table = _group_table(y_true, y_pred, sensitive, positive, decision_threshold)
    return _two_sided(
        groups.parity_ratio(table, *_sides(confidence)), table.rows.sum(), "parity ratio, Katz log +0.5", confidence
    )


def equal_opportunity_difference(
    y_true: Any,
    y_pred: Any,
    sensitive: Any,
    *,
    positive: Any = None,
    decision_threshold: float = 0.5,
    confidence: float = 0.95,
) -> Estimate:
    """Return the largest difference of true-positive rates between groups, with its interval.

    Parameters
    ----------
    y_true, y_pred, sensitive, positive, decision_threshold, confidence
        As for `demographic_parity_ratio`. A group without positives has no rate and is left out.

    Raises
    ------
    NotEnough
        Fewer than two groups have positives.

    Notes
    -----
    Newcombe's (1998) interval of the worst pair.
    """
    table = _group_table(y_true, y_pred, sensitive, positive, decision_threshold)
    found = groups.known_gap(table, "true_positives", *_sides(confidence))
    return _two_sided(found, table.positives.sum(), "equal-opportunity difference, Newcombe", confidence)


def equalized_odds_difference(
    y_true: Any,
    y_pred: Any,
    sensitive: Any,
    *,
    positive: Any = None,
    decision_threshold: float = 0.5,
    confidence: float = 0.95,
) -> Estimate:
    """Return the larger of the differences of true-positive and of false-positive rates, with its interval.

    Parameters
    ----------
    y_true, y_pred, sensitive, positive, decision_threshold, confidence
        As for `equal_opportunity_difference`.

    Raises
    ------
    NotEnough
        Fewer than two groups have positives, or negatives.
    """
    table = _group_table(y_true, y_pred, sensitive, positive, decision_threshold)
    both = [groups.known_gap(table, which, *_sides(confidence)) for which in ("true_positives", "false_positives")]
    larger = max(both, key=lambda gap: gap.value)
    bounds = groups.Worst(larger.value, max(g.low for g in both), max(g.high for g in both), larger.groups)
    return _two_sided(bounds, table.rows.sum(), "equalized-odds difference, Newcombe", confidence)


def group_error_ratio(y_true: Any, y_pred: Any, sensitive: Any, *, confidence: float = 0.95) -> Estimate:
    """Return the smallest RMSE of a group over the largest, for regressors, with its interval.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,), numbers
    sensitive : array-like, shape (n,)

    Raises
    ------
    NotEnough
        Fewer than two groups of at least two rows, or a group without any error.
    """
    truth, guess = arrays.finite("y_true", y_true), arrays.finite("y_pred", y_pred)
    names, codes = _codes(sensitive, truth, guess)
    found = groups.error_ratio(names, codes, (truth - guess) ** 2, *_sides(confidence))
    return _two_sided(found, np.count_nonzero(codes >= 0), "group RMSE ratio, Hall and MOVER", confidence)


def _sides(confidence: float) -> tuple[float, bool]:
    """Confidence of each side, and that only pairs near the worst one are allowed for."""
    return (1 + check_confidence(confidence)) / 2, True


def _codes(sensitive: Any, truth: Any, guess: Any) -> tuple[tuple[str, ...], npt.NDArray[np.intp]]:
    column = arrays.raw("sensitive", sensitive)
    arrays.same_length(y_true=truth, y_pred=guess, sensitive=column)
    return groups.group_codes(sensitive)


def _group_table(y_true: Any, y_pred: Any, sensitive: Any, positive: Any, threshold: float) -> groups.GroupTable:
    problem = Problem.of("binary", y_true, positive=positive)
    selected = hard_labels("y_pred", problem, y_pred, threshold)
    return groups.group_table(*_codes(sensitive, problem.target, selected), problem.target, selected)


def _two_sided(worst: groups.Worst, n: Any, method: str, confidence: float) -> Estimate:
    return Estimate(worst.value, worst.low, worst.high, int(n), method, confidence)
