"""A candidate against a baseline on the same rows: the paired margin, never the ratio of two noisy numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pytest_mlgates.errors import ConfigError
from pytest_mlgates.stats import arrays, bootstrap
from pytest_mlgates.stats.arrays import NotEnough
from pytest_mlgates.stats.interval import Measured, from_influence
from pytest_mlgates.stats.metrics import METRICS, Metric, Problem, terms


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of candidate and baseline on the same rows.

    Attributes
    ----------
    candidate, baseline
        Each with its own standard error; ``baseline`` is ``None`` where there is none.
    margin
        candidate minus threshold, in the metric's unit, signed so that positive is better, with its paired standard
        error; ``None`` without baseline.
    threshold
        What the candidate is held to: ratio x baseline (baseline / ratio for errors), or baseline minus ``absolute``.
    absolute
        The absolute margin used because the baseline is no better than chance; ``None`` where the ratio was used.
    """

    metric: Metric
    candidate: Measured
    baseline: Measured | None = None
    margin: Measured | None = None
    threshold: float | None = None
    absolute: float | None = None


def compare(
    metric: str, problem: Problem, y_pred: Any, baseline_pred: Any = None, *, min_ratio: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare a candidate with a baseline on the same rows.

    Parameters
    ----------
    metric
        A key of `METRICS`, or any scikit-learn scorer name (then by a Poisson bootstrap).
    problem
        The outcomes, n rows.
    y_pred, baseline_pred : array, shape (n,) or (n, classes)
    min_ratio
        Share of the baseline's quality to be kept: candidate ≥ ratio x baseline; for error metrics candidate ≤ baseline
        / ratio.
    seed
        Of the bootstrap.

    Raises
    ------
    ConfigError
        Unknown metric, a metric for another task, a ratio outside (0, 1].
    DataUnusable, NotEnough
        Arrays that do not fit, or on which the metric is undefined.

    Notes
    -----
    The margin is linear in the two metrics, so its influence is that of the candidate minus the scaled one of the
    baseline, row by row: shared noise cancels. A baseline at or below chance (R² ≤ 0, AUC ≤ 0.5) makes a ratio
    meaningless; the candidate is then held to the baseline less (1 - min_ratio) of the way from chance to perfect.
    """
    if not 0 < min_ratio <= 1:
        raise ConfigError(f"min_ratio is {min_ratio!r}, expected a number above 0 and at most 1, such as 0.95")
    metric = bootstrap.ALIASES.get(metric, metric)
    if metric not in METRICS:
        return _compare_scorer(metric, problem, y_pred, baseline_pred, min_ratio, seed)
    known = METRICS[metric]
    ours = terms(metric, problem, y_pred, name="y_pred")
    candidate = ours.measured(known.method)
    if baseline_pred is None:
        return Comparison(known, candidate)
    theirs = terms(metric, problem, baseline_pred, name="baseline_pred")
    threshold, slope, absolute = held_to(known, theirs.value, min_ratio)
    sign = 1.0 if known.higher_is_better else -1.0
    influence = theirs.influence * (-sign * slope)
    influence += ours.influence if sign > 0 else -ours.influence
    margin = from_influence(sign * (ours.value - threshold), influence, known.method, min(ours.df, theirs.df))
    return Comparison(known, candidate, theirs.measured(known.method), margin, threshold, absolute)


def held_to(metric: Metric, baseline: float, min_ratio: float) -> tuple[float, float, float | None]:
    """Return the threshold that a baseline implies, its slope in the baseline, and the absolute margin where one was used.

    Raises
    ------
    NotEnough
        An error metric with a negative baseline.
    """
    if not metric.higher_is_better:
        if baseline < 0:
            raise NotEnough(f"baseline {metric.label} is {baseline:.4g}: a ratio to a negative error is undefined; set a floor")
        return baseline / min_ratio, 1 / min_ratio, None
    chance = 0.0 if metric.chance is None else metric.chance
    if baseline <= chance:
        absolute = (1 - min_ratio) * (1 - chance)
        return baseline - absolute, 1.0, absolute
    return baseline * min_ratio, min_ratio, None


def _compare_scorer(name: str, problem: Problem, y_pred: Any, baseline_pred: Any, min_ratio: float, seed: int) -> Comparison:
    chosen = bootstrap.scorer(name)
    label = name.removeprefix("neg_").replace("_", " ")
    metric = Metric(name, label, chosen.higher_is_better, None, (problem.task,), f"{label}, Poisson bootstrap")
    target = problem.target if problem.task == "regression" else problem.target.astype(np.int64)
    predictions = [chosen.inputs(problem, "y_pred", y_pred)]
    if baseline_pred is not None:
        predictions.append(chosen.inputs(problem, "baseline_pred", baseline_pred))
    for prediction in predictions:
        arrays.same_length(y_true=target, predictions=prediction)
    values = [chosen.value(target, p) for p in predictions]
    drawn = bootstrap.replicates(chosen, target, predictions, seed)

    def measured(value: float, series: arrays.Floats) -> Measured:
        return Measured(value, float(series.std(ddof=1)), target.size, target.size - 1, metric.method)

    candidate = measured(values[0], drawn[:, 0])
    if baseline_pred is None:
        return Comparison(metric, candidate)
    threshold, slope, absolute = held_to(metric, values[1], min_ratio)
    sign = 1.0 if metric.higher_is_better else -1.0
    margin = measured(sign * (values[0] - threshold), sign * (drawn[:, 0] - slope * drawn[:, 1]))
    return Comparison(metric, candidate, measured(values[1], drawn[:, 1]), margin, threshold, absolute)
