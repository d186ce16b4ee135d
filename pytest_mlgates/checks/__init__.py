"""Checks: arrays or frames in, one `GateResult` out; usable in a notebook, with no registry and no pytest."""

from pytest_mlgates.checks.calibration import calibration
from pytest_mlgates.checks.fairness import fairness
from pytest_mlgates.checks.fingerprint import row_hashes
from pytest_mlgates.checks.holdout import holdout
from pytest_mlgates.checks.latency import latency, measure_latency
from pytest_mlgates.checks.performance import performance

__all__ = [
    "calibration",
    "fairness",
    "holdout",
    "latency",
    "measure_latency",
    "performance",
    "row_hashes",
]
