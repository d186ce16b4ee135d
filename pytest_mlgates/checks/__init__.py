"""Checks: arrays or frames in, one `GateResult` out; usable in a notebook, with no registry and no pytest."""

from pytest_mlgates.checks.behaviour import (
    bounds,
    determinism,
    monotonicity,
    robustness,
    schema,
    single_row_equals_batch,
)
from pytest_mlgates.checks.calibration import calibration
from pytest_mlgates.checks.configured import gate_runner
from pytest_mlgates.checks.fairness import fairness
from pytest_mlgates.checks.fingerprint import row_hashes
from pytest_mlgates.checks.holdout import holdout
from pytest_mlgates.checks.latency import latency, measure_latency
from pytest_mlgates.checks.leakage import better_than_dummy, single_feature_leakage
from pytest_mlgates.checks.performance import performance
from pytest_mlgates.checks.plan import PlanRow, plan
from pytest_mlgates.checks.slices import declared_slices, weak_slices

__all__ = [
    "PlanRow",
    "better_than_dummy",
    "bounds",
    "calibration",
    "declared_slices",
    "determinism",
    "fairness",
    "gate_runner",
    "holdout",
    "latency",
    "measure_latency",
    "monotonicity",
    "performance",
    "plan",
    "robustness",
    "row_hashes",
    "schema",
    "single_feature_leakage",
    "single_row_equals_batch",
    "weak_slices",
]
