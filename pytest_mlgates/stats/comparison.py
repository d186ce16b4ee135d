"""A candidate against a baseline on the same rows: the paired margin, never the ratio of two noisy numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pytest_mlgates.errors import ConfigError, DataUnusable
from pytest_mlgates.results import Estimate
from pytest_mlgates.stats import arrays, bootstrap
from pytest_mlgates.stats.arrays import NotEnough
from pytest_mlgates.stats.interval import Measured, from_influence, t_quantile
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
    covariance
        Of the two metrics, over samples of the same rows.
    doubtful
        A second margin, by the other rule, where the baseline is not surely on either side of chance: a candidate passes by both
        or not at all, and fails by both or not at all.
    """

    metric: Metric
    candidate: Measured
    baseline: Measured | None = None
    margin: Measured | None = None
    threshold: float | None = None
    absolute: float | None = None
    covariance: float = 0.0
    doubtful: Measured | None = None

    def margin_bound(self, confidence: float, *, upper: bool) -> float:
        """One-sided bound of the margin, the outer one of both rules where two apply."""
        found = [m.bound(confidence, upper=upper) for m in (self.margin, self.doubtful) if m is not None]
        return max(found) if upper else min(found)

    @property
    def difference(self) -> Measured:
        """Candidate minus baseline, in the metric's own unit and sign."""
        theirs = self._other()
        ours = self.candidate
        variance = ours.se**2 + theirs.se**2 - 2 * self.covariance
        if self.metric.counted:  # as in the margin: see `from_influence`
            variance += 1 / ours.n / max(ours.n - 1, 1)
        return Measured(ours.value - theirs.value, max(variance, 0.0) ** 0.5, ours.n, self._df(), ours.method)

    def ratio_interval(self, confidence: float = 0.95) -> Estimate:
        """Candidate over baseline, with Fieller's (1954) interval.

        Raises
        ------
        NotEnough
            The baseline's metric is not surely above zero.
        """
        ours, theirs = self.candidate, self._other()
        t2 = t_quantile((1 + confidence) / 2, self._df()) ** 2
        square = theirs.value**2 - t2 * theirs.se**2
        if theirs.value <= 0 or square <= 0:
            raise NotEnough(
                f"baseline {self.metric.label} {theirs.value:.4g} is not surely above zero: a ratio to it means nothing"
            )
        middle = ours.value * theirs.value - t2 * self.covariance
        root = max(middle**2 - square * (ours.value**2 - t2 * ours.se**2), 0.0) ** 0.5
        low, high = (middle - root) / square, (middle + root) / square
        method = f"{self.metric.label} ratio, Fieller"
        return Estimate(ours.value / theirs.value, low, high, ours.n, method, confidence)

    def _df(self) -> float:
        """Of what compares the two. That a rare class skews each AUC cancels in pairs: 30 positives cover 96.8 %, with their df 97.6."""
        if self.metric.name == "auc":
            return self.candidate.n - 1
        return min(self.candidate.df, self._other().df)

    def _other(self) -> Measured:
        if self.baseline is None:
            raise DataUnusable("baseline_pred is None, expected one value per row")
        return self.baseline


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
    candidate = ours.measured(known.method, known.scale)
    if baseline_pred is None:
        return Comparison(known, candidate)
    theirs = terms(metric, problem, baseline_pred, name="baseline_pred")
    baseline = theirs.measured(known.method, known.scale)
    threshold, slope, absolute = held_to(known, theirs.value, min_ratio)
    sign = 1.0 if known.higher_is_better else -1.0
    n = ours.influence.size
    # the row that `doubt` imagines is the same one for both models
    together = float(np.dot(ours.influence, theirs.influence)) + (ours.doubt * theirs.doubt) ** 0.5
    covariance = together / max(n - 1, 1) / n

    def margin_to(threshold: float, slope: float) -> Measured:
        influence = theirs.influence * (-sign * slope)
        influence += ours.influence if sign > 0 else -ours.influence
        df = None if ours.df is None or theirs.df is None else min(ours.df, theirs.df)
        return from_influence(sign * (ours.value - threshold), influence, known.method, df, doubt=float(known.counted))

    other = _other_rule(known, baseline, min_ratio)
    return Comparison(
        known,
        candidate,
        baseline,
        margin_to(threshold, slope),
        threshold,
        absolute,
        covariance,
        None if other is None else margin_to(other, 1.0),
    )


def _other_rule(metric: Metric, baseline: Measured, min_ratio: float) -> float | None:
    """Threshold of the rule that would hold were the baseline on the other side of chance; ``None`` where it surely is not.

    The two rules do not meet at chance (R² 0.01 asks for 0.0095, R² -0.01 for -0.06), so near it one sample would be judged
    by one, the next by the other.
    """
    chance = metric.chance
    if not metric.higher_is_better or chance is None:
        return None
    if not baseline.bound(0.95, upper=False) < chance < baseline.bound(0.95, upper=True):
        return None
    return baseline.value - (1 - min_ratio) * (1 - chance if baseline.value > chance else chance)


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

    def measured(value: float, series: arrays.Floats, scale: str = "linear") -> Measured:
        return Measured(value, float(series.std(ddof=1)), target.size, target.size - 1, metric.method, scale)

    # shares of a classifier, such as average precision, are closer to normal on the log-odds
    share = problem.task != "regression" and metric.higher_is_better and drawn.min() > 0 and drawn.max() < 1
    candidate = measured(values[0], drawn[:, 0], "unit" if share else "linear")
    if baseline_pred is None:
        return Comparison(metric, candidate)
    threshold, slope, absolute = held_to(metric, values[1], min_ratio)
    sign = 1.0 if metric.higher_is_better else -1.0
    margin = measured(sign * (values[0] - threshold), sign * (drawn[:, 0] - slope * drawn[:, 1]))
    covariance = float(np.cov(drawn.T)[0, 1])
    return Comparison(metric, candidate, measured(values[1], drawn[:, 1]), margin, threshold, absolute, covariance)
