"""What today's holdout can show: per gate, the defect it detects at 80 % power, and the rows it would need."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats as sps

from pytest_mlgates.errors import ConfigError
from pytest_mlgates.stats import (
    LOOKS,
    Comparison,
    NotEnough,
    Problem,
    adjusted_confidence,
    arrays,
    calibration_error,
    compare,
    group_codes,
    infer_task,
    named_columns,
    probability_bins,
    quantile_bins,
    share_bounds,
)
from pytest_mlgates.stats.calibration import folded_mean
from pytest_mlgates.stats.interval import check_confidence, z_quantile
from pytest_mlgates.stats.tail import planned_looks


@dataclasses.dataclass(frozen=True, slots=True)
class PlanRow:
    """One line of ``mlgates plan``.

    Attributes
    ----------
    gate, measure
        What is judged, e.g. ``performance``, ``R² against 0.95 × baseline``.
    n
        Rows (or calls) there are.
    detectable
        The mildest true value that this holdout fails with the stated power, in the unit of the threshold.
    threshold
        The limit in force.
    rows_to_pass
        Rows at which a model without the defect passes with the stated power; ``None`` where no number would do.
    rows_to_detect
        Rows at which a model twice as far from the ideal as the limit allows fails with the stated power.
    words
        The same in a sentence.
    """

    gate: str
    measure: str
    n: int
    detectable: float | None
    threshold: float
    rows_to_pass: int | None
    rows_to_detect: int | None
    words: str


def plan(
    y_true: Any,
    y_pred: Any,
    baseline_pred: Any = None,
    *,
    task: str | None = None,
    positive: Any = None,
    sensitive: Any = None,
    performance: Mapping[str, Any] | None = None,
    holdout: Mapping[str, Any] | None = None,
    fairness: Mapping[str, Any] | None = None,
    latency: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    confidence: float = 0.95,
    power: float = 0.8,
) -> tuple[PlanRow, ...]:
    """Say per gate what this holdout can detect.

    Parameters
    ----------
    y_true, y_pred, baseline_pred, sensitive
        As the checks take them.
    performance, holdout, fairness, latency, calibration
        Thresholds in force, as keyword arguments of the checks; ``None`` leaves a gate out. ``looks`` among them corrects
        what a gate needs to pass, as in the check.
    confidence
        Of each one-sided bound.
    power
        Chance of the verdict.

    Notes
    -----
    A bound of standard error se clears a threshold at distance d with chance ``power`` when d = (z_confidence +
    z_power) se; se shrinks with the square root of the rows.
    """
    check_confidence(confidence)
    if not 0.5 <= power < 1:
        raise ConfigError(f"power is {power!r}, expected a number from 0.5 to below 1, such as 0.8")
    reach = z_quantile(confidence) + z_quantile(power)
    rules = dict(performance or {})
    task = task or infer_task(rules.get("metric", "r2"), y_true)
    problem = Problem.of(task, y_true, positive=positive)
    out: list[PlanRow] = []

    def passing(rules: Mapping[str, Any]) -> float:
        return z_quantile(adjusted_confidence(confidence, int(rules.get("looks", 1)))) + z_quantile(power)

    if performance is not None:
        out += _performance(problem, y_pred, baseline_pred, rules, reach, passing(rules))
    if holdout is not None:
        out += _holdout(len(arrays.raw("y_true", y_true)), holdout, power)
    if fairness is not None and task != "regression":
        out += _fairness(y_pred, problem, sensitive, fairness, reach, passing(fairness))
    if latency is not None:
        out.append(_latency(latency, confidence, power))
    if calibration is not None and task != "multiclass":
        out.append(_calibration(problem, y_pred, calibration, reach, passing(calibration)))
    return tuple(out)


def _rows(n: int, spread: float, distance: float) -> int | None:
    """Rows at which ``spread`` (reach times the standard error now) shrinks to ``distance``."""
    if not (distance > 0 and math.isfinite(spread)):
        return None
    needed = n * (spread / distance) ** 2
    return max(2, math.ceil(needed)) if needed < 1e9 else None


def _told(rows: int | None) -> str:
    return f"{rows:,} rows" if rows is not None else "no number of rows"


def _holdout(n: int, rules: Mapping[str, Any], power: float) -> list[PlanRow]:
    """Gate 2 compares row by row: what it misses is a matter of counting, not of sampling."""
    most = float(rules.get("max_overlap", 0.005))
    allowed = math.floor(most * n)
    shares = np.linspace(most, 1, 2001)[1:]
    found = shares[int((np.asarray(sps.binom.sf(allowed, n, shares)) >= power).argmax())]
    to_detect = next(
        (rows for rows in _sizes() if sps.binom.sf(math.floor(most * rows), rows, min(1.0, 2 * most)) >= power), None
    )
    out = []
    if rules.get("exact", True):
        words = "fails when any prediction is not the one stored with the version: every row is compared"
        out.append(PlanRow("holdout", "share of predictions changed", n, 1 / n, 0.0, 1, 1, words))
    words = f"fails when {100 * found:.2g} % of the data that the holdout is drawn from were trained on; a clean holdout passes on any rows"
    out.append(PlanRow("holdout", "share of training rows", n, float(found), most, 1, to_detect, words))
    return out


def _sizes() -> list[int]:
    return [int(x) for x in np.unique(np.geomspace(2, 1e6, 400).astype(int))]


def _performance(
    problem: Problem, y_pred: Any, baseline_pred: Any, rules: dict[str, Any], reach: float, passing: float
) -> list[PlanRow]:
    ratio, floor, metric = float(rules.get("min_ratio", 0.95)), rules.get("floor"), rules.get("metric", "r2")

    def against(prediction: Any) -> Comparison:
        return compare(metric, problem, prediction, baseline_pred, min_ratio=ratio)

    found = against(y_pred)
    label, n = found.metric.label, found.candidate.n
    sign = 1 if found.metric.higher_is_better else -1
    side = "below" if sign > 0 else "above"
    out = []
    if found.margin is not None and found.threshold is not None and found.baseline is not None:
        equal = abs(found.baseline.value - found.threshold)
        detectable, se = _detectable(problem, y_pred, against, found.threshold, reach, paired=True)
        to_pass, to_detect = _rows(n, passing * found.margin.se, equal), _rows(n, reach * se, equal)
        words = f"fails a model whose {label} is {side} {detectable:.4g}; an equal model passes on {_told(to_pass)}"
        measure = f"{label} against {ratio:g} × baseline"
        out.append(PlanRow("performance", measure, n, detectable, found.threshold, to_pass, to_detect, words))
    if floor is not None:
        above = sign * (found.candidate.value - floor)
        detectable, se = _detectable(problem, y_pred, against, float(floor), reach, paired=False)
        to_pass, to_detect = _rows(n, passing * found.candidate.se, above), _rows(n, reach * se, abs(above))
        words = f"fails a model whose {label} is {side} {detectable:.4g}; this one clears the floor on {_told(to_pass)}"
        measure = f"{label} against the floor"
        out.append(PlanRow("performance", measure, n, detectable, float(floor), to_pass, to_detect, words))
    return out


def _detectable(
    problem: Problem, y_pred: Any, against: Callable[[Any], Comparison], threshold: float, reach: float, *, paired: bool
) -> tuple[float, float]:
    """Return the metric at which the gate fails with the wanted power, and the standard error there.

    The candidate is made worse step by step, since a worse model's metric is less certain: by noise for a regressor, by
    giving a share of the rows another row's answer for a classifier.
    """
    rng = np.random.default_rng(0)
    prediction = arrays.raw("y_pred", y_pred)
    mixed, noise, place = rng.permutation(len(prediction)), rng.normal(size=len(prediction)), rng.random(len(prediction))
    value = se = 0.0
    for amount in np.linspace(0, 1, 41):
        if problem.task == "regression":
            noisy = prediction + 3 * amount * float(np.std(problem.target)) * noise
            centred = noisy - noisy.mean()
            slope = float(centred @ problem.target) / max(float(centred @ centred), 1e-300)
            worse = float(problem.target.mean()) + slope * centred
        else:
            take = place < amount
            worse = np.where(take[:, None] if prediction.ndim == 2 else take, prediction[mixed], prediction)
        found = against(worse)
        se = found.margin.se if paired and found.margin is not None else found.candidate.se
        value = found.candidate.value
        short = threshold - value if found.metric.higher_is_better else value - threshold
        if short >= reach * se:
            break
    return (threshold - reach * se if found.metric.higher_is_better else threshold + reach * se), se


def _fairness(
    y_pred: Any, problem: Problem, sensitive: Any, rules: Mapping[str, Any], reach: float, passing: float
) -> list[PlanRow]:
    from pytest_mlgates.stats.metrics import hard_labels

    least = float(rules.get("min_parity_ratio", 0.8))
    chosen = hard_labels("y_pred", problem, y_pred, float(rules.get("decision_threshold", 0.5)))
    rate = float(np.mean(chosen))
    out = []
    for name, values in named_columns(sensitive, "sensitive").items():
        groups, codes = group_codes(values)
        rows = np.bincount(codes[codes >= 0], minlength=len(groups))
        if len(groups) < 2 or not rate > 0:
            continue
        # Katz's variance for the two smallest groups at the common selection rate
        small = np.sort(rows)[:2]
        se = math.sqrt(sum((1 - rate) / (max(n, 1) * rate) for n in small))
        n, spread = int(rows.sum()), reach * se
        detectable = least * math.exp(-spread)
        to_pass, to_detect = _rows(n, passing * se, -math.log(least)), _rows(n, spread, -math.log(least))
        smallest = f"smallest group {int(small[0]):,}"
        words = f"fails a parity ratio below {detectable:.2f} ({smallest}); equal treatment passes on {_told(to_pass)}"
        out.append(PlanRow("fairness", f"parity of {name}", n, detectable, least, to_pass, to_detect, words))
    return out


def _calibration(problem: Problem, y_pred: Any, rules: Mapping[str, Any], reach: float, passing: float) -> PlanRow:
    most, bins = float(rules.get("max_ece", 0.10)), int(rules.get("bins", 10))
    if problem.task == "regression":
        table = quantile_bins(problem.target, arrays.finite("y_pred", y_pred), bins)
    else:
        table = probability_bins(problem.target, arrays.probabilities("y_pred", y_pred), bins)
    error = calibration_error(table)
    weight = table.rows / table.rows.sum()
    bias = float(weight @ folded_mean(np.zeros(weight.size), table.gap_se))  # plug-in error of a calibrated model
    detectable = most + reach * error.debiased_se
    to_pass = _rows(error.n, bias + passing * error.se, most)
    to_detect = _rows(error.n, reach * error.debiased_se, most)
    words = f"fails a calibration error above {detectable:.3f}; a calibrated model passes on {_told(to_pass)}"
    return PlanRow("calibration", f"ECE, {bins} bins", error.n, detectable, most, to_pass, to_detect, words)


def _latency(rules: Mapping[str, Any], confidence: float, power: float) -> PlanRow:
    objective = float(rules.get("p99_max", rules.get("p99_max_ms", 200.0) / 1e3))
    first = int(rules.get("calls", LOOKS[0]))
    looks = planned_looks(first, int(rules.get("max_calls", LOOKS[-1])))
    alpha = (1 - confidence) / len(looks)
    needed = next(n for n in range(1, 100_000) if share_bounds(0, n, 1 - alpha)[1] <= 0.01)

    def smallest_share(calls: int) -> float:
        """Share of slow calls that the lower bound finds beyond 1 % with the stated power."""
        fewest = next(k for k in range(calls + 1) if share_bounds(k, calls, 1 - alpha)[0] > 0.01)
        shares = np.linspace(0.01, 0.2, 1901)
        strong = np.asarray(sps.binom.sf(fewest - 1, calls, shares)) >= power
        if not strong.any():
            raise NotEnough(f"{calls:,} calls are too few to plan a p99")
        return float(shares[int(strong.argmax())])

    now, most = smallest_share(first), smallest_share(looks[-1])
    words = (
        f"fails when {100 * now:.2g} % of calls exceed {1e3 * objective:g} ms ({100 * most:.2g} % by {looks[-1]:,} calls);"
        f" a fast model passes on {needed:,} calls"
    )
    return PlanRow("latency", "share of calls over the objective (1 % allowed)", first, now, 0.01, needed, looks[-1], words)
