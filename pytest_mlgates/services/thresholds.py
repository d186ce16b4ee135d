"""Settings as keyword arguments of the checks: the one place where a threshold's name meets its argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_mlgates.config import ModelSettings

Arguments = dict[str, dict[str, Any]]


def arguments_of(settings: ModelSettings, *, looks: int = 1) -> Arguments:
    """Return, per gate, the keyword arguments that its check takes; fairness only where the domain is regulated.

    Parameters
    ----------
    looks
        Versions judged on the holdout so far, the present one included.
    """
    gates, confidence = settings.gates, settings.confidence
    found: Arguments = {
        "performance": {
            "metric": settings.metric,
            "min_ratio": gates.performance.min_ratio,
            "floor": gates.performance.floor,
            "confidence": confidence,
            "looks": looks,
        },
        "holdout": {
            "max_gap": gates.holdout.max_gap,
            "exact": gates.holdout.exact,
            "max_overlap": gates.holdout.max_shared_rows,
            "max_train_gap": gates.holdout.max_train_gap,
            "confidence": confidence,
            "looks": looks,
        },
        "latency": {"p99_max": gates.latency.p99_max_ms / 1000},
        "calibration": {
            "max_ece": gates.calibration.max_ece,
            "bins": gates.calibration.bins,
            "confidence": confidence,
            "looks": looks,
        },
    }
    if settings.regulated:
        found["fairness"] = {
            "min_parity_ratio": gates.fairness.min_parity_ratio,
            "max_tpr_gap": gates.fairness.max_tpr_gap,
            "decision_threshold": gates.fairness.cutoff,
            "confidence": confidence,
            "looks": looks,
        }
    return found
