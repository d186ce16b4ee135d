"""Whether the model still predicts as well as when it was trained: two-sided, on several metrics, with intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pytest_mlgates.drift.report import DriftVerdict
from pytest_mlgates.results import finite_or_none, plain

CONFIDENCE = 0.99  # an alarm a quarter of a year is too many for a daily run at 95 %
# (change that alarms, unit): RMSE up by a tenth, MAPE up by five points, AUC down by a twentieth
TOLERANCES = {"rmse": 0.10, "mape": 0.05, "auc": 0.05}
_MIN_BLOCKS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class MetricDrift:
    """One metric now against when the model was trained.

    Attributes
    ----------
    metric
        ``rmse`` (change as a share: 0.031 is +3.1 %), ``mape`` (change in points as a share: 0.05 is five points) or
        ``auc`` (drop as a share of the AUC then).
    before, now
        The metric then and now.
    change, low, high
        Worsening (positive is worse) with its 99 % interval.
    verdict
        ``drift`` where the worsening reaches the tolerance and the interval excludes 0.
    improved
        Whether it got better by as much, beyond chance: no alarm, but a sign that the rows are others than before.
    """

    metric: str
    before: float
    now: float
    change: float
    low: float
    high: float
    n: int
    verdict: DriftVerdict
    improved: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**{k: plain(v) for k, v in dataclasses.asdict(self).items()}, "verdict": self.verdict.value}


@dataclasses.dataclass(frozen=True, slots=True)
class PerformanceDrift:
    """All metrics; ``reason`` says why there are none."""

    metrics: tuple[MetricDrift, ...] = ()
    reason: str = ""
    min_rows: int = 100

    @property
    def verdict(self) -> DriftVerdict:
        """``drift`` where a metric worsened, or where two disagree; ``insufficient`` where none could be judged."""
        if not self.metrics:
            return DriftVerdict.INSUFFICIENT
        worse = any(m.verdict is DriftVerdict.DRIFT for m in self.metrics)
        return DriftVerdict.DRIFT if worse or self.disagree else DriftVerdict.STABLE

    @property
    def disagree(self) -> bool:
        """Whether one metric improved by its tolerance while another worsened, both beyond chance: the errors moved."""
        return any(m.improved for m in self.metrics) and any(m.low > 0 for m in self.metrics)

    def get(self, metric: str) -> MetricDrift | None:
        """Return one metric, ``None`` where it was not judged."""
        return next((m for m in self.metrics if m.metric == metric), None)

    @property
    def rmse_delta(self) -> float | None:
        """What the alert rule compares with 0.20: the change of the RMSE as a share, as far as it is known.

        A change within the tolerance, or beyond it and beyond chance, is itself; one beyond the tolerance that chance may
        have made is ``None``: no alert on a coin toss.
        """
        found = self.get("rmse")
        if found is None or (found.change > TOLERANCES["rmse"] and found.verdict is not DriftVerdict.DRIFT):
            return None
        return finite_or_none(found.change)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"verdict": self.verdict.value, "reason": self.reason, "metrics": [m.to_dict() for m in self.metrics]}


def rmse(y: ArrayLike, predicted: ArrayLike) -> float:
    """Root mean squared error, in the target's unit."""
    return float(np.sqrt(np.mean((np.asarray(y, dtype=float) - np.asarray(predicted, dtype=float)) ** 2)))


def mape(y: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error as a share of the target; rows with target 0 are left out; NaN where all are."""
    truth = np.asarray(y, dtype=float)
    some = truth != 0
    if not some.any():
        return math.nan
    return float(np.mean(np.abs((truth - np.asarray(predicted, dtype=float))[some] / truth[some])))


def auc(y: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve (Mann-Whitney, ties count half); NaN where a class is absent."""
    truth = np.asarray(y).astype(bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = stats.rankdata(np.asarray(score, dtype=float))
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def performance_drift(
    task: str,
    current: tuple[ArrayLike, ArrayLike],
    reference: tuple[ArrayLike, ArrayLike] | None,
    *,
    trained: Mapping[str, float] | None = None,
    reference_blocks: ArrayLike | None = None,
    min_rows: int = 100,
) -> PerformanceDrift:
    """Compare the metrics of the current window with those at training time.

    Parameters
    ----------
    task
        ``regression`` or ``binary``; others have no verdict.
    current, reference
        ``(target, prediction)``, rows with a target only. The reference stands in for training figures that are not known,
        and its windows tell how much the metric varies from window to window.
    trained
        Metrics of the version on data it had not seen, by lower-case name.
    reference_blocks : array_like, shape (reference rows,)
        Window number of each reference row.
    """
    y, predicted = (np.asarray(v, dtype=float) for v in current)
    usable = np.isfinite(y) & np.isfinite(predicted)
    y, predicted = y[usable], predicted[usable]
    if y.size < min_rows:
        return PerformanceDrift(reason=f"{y.size} labelled rows in the current window, {min_rows} needed", min_rows=min_rows)
    kinds = {"regression": ("rmse", "mape"), "binary": ("auc",)}.get(task, ())
    base = None if reference is None else tuple(np.asarray(v, dtype=float) for v in reference)
    blocks = None if reference_blocks is None else np.asarray(reference_blocks)
    found = [_metric(kind, y, predicted, base, (trained or {}).get(kind), blocks) for kind in kinds]
    metrics = tuple(m for m in found if m is not None)
    return PerformanceDrift(metrics, "" if metrics else f"no metric could be computed for task {task}", min_rows)


def _metric(
    kind: str,
    y: NDArray[np.float64],
    predicted: NDArray[np.float64],
    base: tuple[NDArray[np.float64], ...] | None,
    trained: float | None,
    blocks: NDArray[Any] | None,
) -> MetricDrift | None:
    measure = {"rmse": rmse, "mape": mape, "auc": auc}[kind]
    now = measure(y, predicted)
    before = trained if trained is not None else (measure(*base) if base is not None and base[0].size else math.nan)
    if not (math.isfinite(now) and math.isfinite(before) and before > 0):
        return None
    spread, freedom = _spread(kind, measure, y, predicted, base, blocks)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * spread
    if kind == "rmse":
        middle = math.log(now / before) if now > 0 else -math.inf
        change, low, high = now / before - 1, math.exp(middle - reach) - 1, math.exp(middle + reach) - 1
    elif kind == "mape":
        change, low, high = now - before, now - before - reach, now - before + reach
    else:
        change, low, high = (before - now) / before, (before - now - reach) / before, (before - now + reach) / before
    tolerance = TOLERANCES[kind]
    verdict = DriftVerdict.DRIFT if change >= tolerance and low > 0 else DriftVerdict.STABLE
    return MetricDrift(kind, before, now, change, low, high, int(y.size), verdict, change <= -tolerance and high < 0)


def _spread(
    kind: str,
    measure: Any,
    y: NDArray[np.float64],
    predicted: NDArray[np.float64],
    base: tuple[NDArray[np.float64], ...] | None,
    blocks: NDArray[Any] | None,
) -> tuple[float, float]:
    """Standard deviation of the metric (of its logarithm for RMSE) between windows, and its degrees of freedom.

    From the reference's own windows where there are at least four: these hold what rows of one season share. Else from the
    rows: delta method for RMSE and MAPE, Hanley & McNeil 1982 for AUC.
    """
    if base is not None and blocks is not None and blocks.size:
        values = np.array([measure(base[0][blocks == b], base[1][blocks == b]) for b in np.unique(blocks)])
        values = values[np.isfinite(values)]
        if values.size >= _MIN_BLOCKS and (kind != "rmse" or (values > 0).all()):
            scale = np.log(values) if kind == "rmse" else values
            return float(scale.std(ddof=1) * math.sqrt(1 + 1 / values.size)), values.size - 1.0
    n = y.size
    if kind == "rmse":
        squares = (y - predicted) ** 2
        return float(squares.std(ddof=1) / math.sqrt(n) / (2 * squares.mean())), n - 1.0
    if kind == "mape":
        some = y != 0
        shares = np.abs((y - predicted)[some] / y[some])
        return float(shares.std(ddof=1) / math.sqrt(shares.size)), shares.size - 1.0
    return _hanley_mcneil(auc(y, predicted), int((y > 0).sum()), int((y <= 0).sum())), n - 1.0


def _hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return math.sqrt(max(variance, 0.0) / (positives * negatives))
