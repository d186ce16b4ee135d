"""The gates as configured, as one function of what a model version says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_mlgates.checks.calibration import calibration as judge_calibration
from pytest_mlgates.checks.fairness import fairness as judge_fairness
from pytest_mlgates.checks.holdout import holdout as judge_holdout
from pytest_mlgates.checks.latency import latency as judge_latency
from pytest_mlgates.checks.performance import performance as judge_performance
from pytest_mlgates.results import GateResult


def gate_runner(
    y_true: Any,
    *,
    task: str,
    baseline_pred: Any = None,
    sensitive: Any = None,
    positive: Any = None,
    performance: Mapping[str, Any] | None = None,
    holdout: Mapping[str, Any] | None = None,
    fairness: Mapping[str, Any] | None = None,
    latency: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    further: Sequence[Callable[[Any], GateResult]] = (),
) -> Callable[[Any], list[GateResult]]:
    """Return a function that runs gates on a `proving.Suspect`.

    Parameters
    ----------
    performance, holdout, fairness, latency, calibration
        Keyword arguments of the check of that name (thresholds in force); ``None`` leaves the gate out.
    further
        More gates, each from a suspect to a result, e.g. ``lambda s: checks.weak_slices(y, s.y_pred, frame)``.
    """

    def run(suspect: Any) -> list[GateResult]:
        out = []
        if performance is not None:
            out.append(judge_performance(y_true, suspect.y_pred, baseline_pred, task=task, positive=positive, **performance))
        if holdout is not None:
            known = {"train_hashes": suspect.train_hashes, "holdout_hashes": suspect.holdout_hashes}
            out.append(judge_holdout(suspect.y_pred, suspect.expected_pred, **{"exact": True, **known, **holdout}))
        if fairness is not None:
            out.append(judge_fairness(y_true, suspect.y_pred, sensitive, **{"task": task, "positive": positive, **fairness}))
        if latency is not None and suspect.seconds is not None:
            out.append(judge_latency(suspect.seconds, **latency))
        if calibration is not None:
            out.append(judge_calibration(y_true, suspect.y_pred, **{"task": task, "positive": positive, **calibration}))
        return out + [gate(suspect) for gate in further]

    return run
