"""Drift between a reference and a current window: pure, over Arrow, no model registry and no tables."""

from pytest_mlgates.drift.compare import Design, Engine, compare
from pytest_mlgates.drift.profile import Profile
from pytest_mlgates.drift.report import DriftReport, DriftVerdict, FeatureDrift

__all__ = ["Design", "DriftReport", "DriftVerdict", "Engine", "FeatureDrift", "Profile", "compare"]
