"""Sections of the five gates and the further checks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pytest_mlgates.config.base import Count, Positive, Section, Share

GATES = ("performance", "holdout", "fairness", "latency", "calibration")
CHECKS = (
    "schema",
    "determinism",
    "batch",
    "robustness",
    "bounds",
    "monotonicity",
    "feature_leakage",
    "dummy",
    "weak_slices",
    "slices",
)


class PerformanceGate(Section):
    """Gate 1: the candidate against the baseline on the same rows."""

    metric: str = ""
    """Name of the metric; empty: ``r2`` for a regression, ``auc`` for binary, ``accuracy`` for multiclass."""
    min_ratio: Positive = 0.95
    """Least share of the baseline's metric that the candidate must reach (the tutorial's 0.95)."""
    floor: float | None = None
    """Absolute limit on the metric, on top of the ratio (the guide's 0.75 for AUC); none by default."""


class HoldoutGate(Section):
    """Gate 2: stability on the permanent holdout, and leakage."""

    max_gap: Share = 0.05
    """Largest gap between predictions and expected predictions, in standard deviations of the expected ones."""
    exact: bool = True
    """Whether the version must answer just what was stored with it (within float32); false: ``max_gap`` alone decides."""
    max_shared_rows: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """Largest share of holdout rows that may also stand in the training data."""
    time_column: str = ""
    """Column by which the holdout must begin after the training data end (stored beside the row hashes); empty: not judged, since a
    permanent holdout lies before the rows that a later version is trained on."""
    max_train_gap: Share | None = None
    """Largest drop of the metric from the training rows to the holdout, as a share of the better one; none: 0.25 for scores, 0.75 for
    errors."""


class FairnessGate(Section):
    """Gate 3: group parity, for regulated models."""

    min_parity_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Least demographic-parity ratio (the four-fifths rule)."""
    max_tpr_gap: Share | None = None
    """Largest equal-opportunity difference; none: reported, not judged."""
    cutoff: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability at and above which the answer counts as positive."""


class LatencyGate(Section):
    """Gate 4: single-row latency of the locally loaded model."""

    p99_max_ms: Positive = 200.0
    """Objective for the 99th percentile, in milliseconds."""
    calls: Count = 1000
    """Calls before the first look; more are made until the verdict is settled."""
    max_calls: Count = 16000
    """Calls after which the verdict stays INCONCLUSIVE."""
    budget_s: Positive = 120.0
    """Seconds after which no further calls are made."""


class CalibrationGate(Section):
    """Gate 5: expected calibration error."""

    max_ece: Share = 0.10
    """Largest expected calibration error (for a regression: relative to the mean absolute target)."""
    bins: Annotated[int, Field(ge=2, le=1000)] = 10
    """Number of bins (quantile bins for a regression)."""


class Gates(Section):
    """Thresholds of the five gates."""

    performance: PerformanceGate = PerformanceGate()
    holdout: HoldoutGate = HoldoutGate()
    fairness: FairnessGate = FairnessGate()
    latency: LatencyGate = LatencyGate()
    calibration: CalibrationGate = CalibrationGate()


class Bounds(Section):
    """Limits of a prediction, in its own unit."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        return self


class Checks(Section):
    """Further checks of the shipped suite: on by default, each may be switched off."""

    schema_: bool = Field(default=True, alias="schema")
    """The model has a signature, the holdout its columns, and a row that lacks one is refused."""
    determinism: bool = True
    """The same rows get the same answers."""
    batch: bool = True
    """A row alone gets the answer that it gets in a batch."""
    robustness: bool = True
    """Missing, unseen and extreme values get a finite answer or a clean error."""
    feature_leakage: bool = True
    """No single feature all but tells the target."""
    dummy: bool = True
    """The model is surely better than one that knows nothing."""
    weak_slices: bool = True
    """No segment's error surely exceeds ``max_slice_ratio`` times the error over all rows."""
    max_slice_ratio: Annotated[float, Field(gt=1)] = 2.0
    bounds: Bounds = Bounds()
    """Limits that every prediction must keep; none by default."""
    monotonicity: dict[str, Literal["+", "-"]] = Field(default_factory=dict)
    """Per feature, the direction that answers move in when it rises."""
    slices: dict[str, dict[str, str | float]] = Field(default_factory=dict)
    """Declared segments with thresholds of their own: ``"promo_active=1" = { metric = "r2", floor = 0.5 }``."""

    def applies(self, name: str) -> bool:
        """Whether a check of `CHECKS` is switched on, or has something declared to judge."""
        if name == "bounds":
            return self.bounds != Bounds()
        return bool(getattr(self, "schema_" if name == "schema" else name))
