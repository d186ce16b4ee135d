"""Gate 1: whether the candidate is as good as it must be, against the baseline and an absolute floor."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pytest_mlgates.checks import pictures
from pytest_mlgates.checks.verdicts import at_least, at_most, check, look, number, percent, rows_hint, skip, worst
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import Comparison, NotEnough, Problem, adjusted_confidence, compare, infer_task, rows_to_settle
from pytest_mlgates.stats.interval import check_confidence

GATE = "performance"


@dataclasses.dataclass(frozen=True, slots=True)
class _Condition:
    """One thing the candidate is held to; bounds are those of the candidate's metric against this threshold."""

    name: str
    verdict: Verdict
    threshold: float
    low: float
    high: float
    distance: float
    words: str


@check(GATE)
def performance(
    y_true: Any,
    y_pred: Any,
    baseline_pred: Any = None,
    *,
    metric: str = "r2",
    min_ratio: float = 0.95,
    floor: float | None = None,
    confidence: float = 0.95,
    task: str | None = None,
    positive: Any = None,
    classes: Any = None,
    looks: int = 1,
    seed: int = 0,
) -> GateResult:
    """Judge a candidate against a baseline on the same rows.

    Parameters
    ----------
    y_true : array-like, shape (n,)
        Outcomes: numbers, or class labels.
    y_pred, baseline_pred : array-like, shape (n,) or (n, classes)
        Predictions of the same rows in the same order. Without a baseline only the floor is judged; without either the
        gate is skipped.
    metric
        ``r2, rmse, mae, mape, auc, accuracy, f1, log_loss, brier``, or any scikit-learn scorer name.
    min_ratio
        The candidate keeps this share of the baseline's quality: ≥ ratio x baseline, for errors ≤ baseline / ratio.
    floor
        The worst acceptable value of the metric itself: a minimum, for errors a maximum.
    confidence
        Of each one-sided bound: PASS when the bound on the bad side still meets the threshold, FAIL when the bound on
        the good side misses it.
    task
        ``regression``, ``binary`` or ``multiclass``; inferred from metric and labels when absent.
    positive, classes
        The positive label; the order of the probability columns (sorted labels when absent).
    looks
        How many candidates this holdout has judged, this one included: the bound that lets a candidate pass is held to
        ``(1 - confidence) / looks``.
    seed
        Of the bootstrap that scorers without a closed form need.

    Returns
    -------
    GateResult
        ``estimate`` is the candidate's metric; ``low`` and ``high`` are its one-sided bounds against the threshold that
        decided, paired with the baseline: PASS and FAIL can be read off them. ``summary`` shows the metric's own
        interval. ``details``: baseline, ratio, margin, the candidate's own two-sided interval, every condition.

    Raises
    ------
    ConfigError
        Settings that make no sense. Unusable data are a verdict, never an exception.
    """
    if floor is not None and not math.isfinite(float(floor)):
        raise ConfigError(f"floor is {floor!r}, expected a finite number")
    passing = adjusted_confidence(check_confidence(confidence), looks)
    if baseline_pred is None and floor is None:
        return skip(GATE, "no baseline and no floor to judge by", "set baseline, or gates.performance floor, in mlgates.toml")
    problem = Problem.of(task or infer_task(metric, y_true), y_true, positive=positive, classes=classes)
    if problem.task == "regression" and problem.target.min() == problem.target.max():
        raise NotEnough(f"y_true is {problem.target[0]:g} in all {problem.target.size:,} rows: it tells no models apart")
    found = compare(metric, problem, y_pred, baseline_pred, min_ratio=min_ratio, seed=seed)
    conditions = _conditions(found, min_ratio, floor, passing, confidence)
    # the most severe condition decides; among equals the one nearest to its threshold
    order = list(Verdict)
    verdict = worst(*(c.verdict for c in conditions))
    decisive = min((c for c in conditions if c.verdict is verdict), key=lambda c: (order.index(c.verdict), c.distance))
    return GateResult(
        GATE,
        verdict,
        found.candidate.value,
        decisive.low,
        decisive.high,
        decisive.threshold,
        found.candidate.n,
        found.metric.method,
        _hint(found, decisive, looks),
        _summary(found, decisive, confidence, looks),
        _details(found, conditions, confidence, passing, looks, problem.task)
        | {"picture": pictures.of_predictions(problem, y_pred, baseline_pred)},
    )


def _conditions(found: Comparison, min_ratio: float, floor: float | None, passing: float, failing: float) -> list[_Condition]:
    better = found.metric.higher_is_better
    value = found.candidate.value
    judge = at_least if better else at_most
    out = []

    def add(name: str, threshold: float, good: float, bad: float, words: str) -> None:
        """``bad`` and ``good`` are how far the metric may really be on its bad and good side."""
        low, high = (bad, good) if better else (good, bad)
        spread = max(high - low, 1e-300)
        out.append(_Condition(name, judge(low, high, threshold), threshold, low, high, abs(value - threshold) / spread, words))

    if found.margin is not None and found.threshold is not None and found.baseline is not None:
        sign = 1 if better else -1
        bad = found.threshold + sign * found.margin_bound(passing, upper=False)
        good = found.threshold + sign * found.margin_bound(failing, upper=True)
        base = number(found.baseline.value)
        if found.absolute is not None:
            words = f"baseline {base} − {found.absolute:g} (baseline no better than chance)"
        else:
            words = f"{min_ratio:g} × baseline {base}" if better else f"baseline {base} / {min_ratio:g}"
        add("baseline", found.threshold, good, bad, words)
    if floor is not None:
        good = found.candidate.bound(failing, upper=better)
        bad = found.candidate.bound(passing, upper=not better)
        add("floor", float(floor), good, bad, f"{'floor' if better else 'ceiling'} {number(float(floor))}")
    return out


def _summary(found: Comparison, decisive: _Condition, confidence: float, looks: int) -> str:
    """Metric with its own two-sided interval; the paired bounds too, where the interval alone would not explain the verdict."""
    better = found.metric.higher_is_better
    sign = {
        Verdict.PASS: "≥" if better else "≤",
        Verdict.FAIL: "<" if better else ">",
    }.get(decisive.verdict, "not settled against")
    own = found.candidate.interval(confidence)
    told = ""
    if own.low < decisive.threshold < own.high:
        kind = "paired bounds" if decisive.name == "baseline" else "one-sided bounds"
        told = f" ({number(decisive.threshold)}; {kind} {number(decisive.low)}–{number(decisive.high)})"
    return (
        f"{found.metric.label} {number(own.value)} ({percent(confidence)} CI {number(own.low)}–{number(own.high)}) "
        f"{sign} {decisive.words}{told}; n={own.n:,}" + look(looks)
    )


def _hint(found: Comparison, decisive: _Condition, looks: int) -> str:
    if decisive.verdict is Verdict.PASS:
        return ""
    label = found.metric.label
    if decisive.verdict is Verdict.FAIL:
        against = "the baseline" if decisive.name == "baseline" else "the floor"
        return f"{label} is worse than {against} allows: look at features, training window and the weakest slices before retraining"
    value = found.candidate.value
    inner = decisive.low if value >= decisive.threshold else decisive.high
    needed = rows_to_settle(found.candidate.n, abs(value - inner), abs(value - decisive.threshold))
    told = rows_hint(needed)
    return told + (f"; this holdout has been used {looks} times, a fresh one asks for fewer" if looks > 1 else "")


def _details(
    found: Comparison, conditions: list[_Condition], confidence: float, passing: float, looks: int, task: str
) -> dict[str, Any]:
    own = found.candidate.interval(confidence)
    out: dict[str, Any] = {
        "metric": found.metric.name,
        "task": task,
        "higher_is_better": found.metric.higher_is_better,
        "confidence": confidence,
        "looks": looks,
        "pass_confidence": passing,
        "interval": {"low": own.low, "high": own.high, "confidence": confidence, "sides": 2},
        "conditions": {
            c.name: {"verdict": c.verdict.value, "threshold": c.threshold, "low": c.low, "high": c.high} for c in conditions
        },
    }
    if found.baseline is not None and found.margin is not None:
        base = found.baseline.interval(confidence)
        out["baseline"] = {"estimate": base.value, "low": base.low, "high": base.high}
        out["ratio"] = found.candidate.value / base.value if base.value else None
        out["margin"] = {"estimate": found.margin.value, "se": found.margin.se}
        out["absolute_margin"] = found.absolute
    return out
