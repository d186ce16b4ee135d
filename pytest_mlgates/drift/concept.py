"""Whether the relation between inputs and target changed: importances of a shadow model, and the trend of the error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pytest_mlgates.drift.report import DriftVerdict
from pytest_mlgates.results import plain

RHO = 0.70
_TREES, _DEPTH, _LEAF, _MAX_ROWS = 30, 8, 5, 20_000
_MIN_BLOCKS, _MIN_TREND = 8, 5
_CHANCE = 0.005


@dataclasses.dataclass(frozen=True, slots=True)
class ConceptDrift:
    """Spearman's ρ between the importances of shadow models of the reference and of the current window.

    ``usual_low`` is the least ρ that a window of this length may give by chance, 1 in 200, judged by past windows: with five
    inputs and 140 rows a ρ of 0.6 is ordinary, so an alarm needs both, ρ below 0.70 and below that.
    """

    verdict: DriftVerdict
    rho: float | None = None
    usual_low: float | None = None
    falling: bool = False
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**{k: plain(v) for k, v in dataclasses.asdict(self).items()}, "verdict": self.verdict.value}


def concept_drift(
    task: str,
    reference: tuple[ArrayLike, ArrayLike],
    current: tuple[ArrayLike, ArrayLike],
    *,
    reference_blocks: ArrayLike | None = None,
    history: Sequence[float] = (),
    min_rows: int = 100,
) -> ConceptDrift:
    """Fit a small forest on each window and compare the importances.

    Parameters
    ----------
    task
        ``regression``, ``binary`` or ``multiclass``.
    reference, current
        ``(inputs of shape (rows, features), target)``, numeric; rows with a missing value are left out.
    reference_blocks
        Window number of each reference row.
    history
        Worsening of the error in earlier runs, oldest first: a rising series is drift in the making.
    """
    falling = rising_trend(history)
    (x0, y0), (x1, y1) = _complete(*reference), _complete(*current)
    if len(y1) < min_rows or len(y0) < min_rows:
        reason = f"{min(len(y0), len(y1))} labelled rows, {min_rows} needed"
        return ConceptDrift(DriftVerdict.INSUFFICIENT, falling=falling, reason=reason)
    if x0.shape[1] < 3 or np.unique(y1).size < 2:
        reason = "fewer than three inputs, or a constant target: ranks say nothing"
        return ConceptDrift(DriftVerdict.INSUFFICIENT, falling=falling, reason=reason)
    whole = _importances(task, x0, y0)
    rho = _spearman(whole, _importances(task, x1, y1))
    usual = []
    if reference_blocks is not None:
        kept = _complete_mask(*reference)
        blocks = np.asarray(reference_blocks)[kept]
        for block in np.unique(blocks):
            rows = blocks == block
            if rows.sum() >= min_rows and np.unique(y0[rows]).size > 1:
                usual.append(_spearman(whole, _importances(task, x0[rows], y0[rows])))
    usual_low = _usual_low(usual, x0.shape[1]) if len(usual) >= _MIN_BLOCKS else None
    reason = "" if usual_low is not None else "too few past windows to know what is usual"
    changed = rho < RHO and usual_low is not None and rho < usual_low
    return ConceptDrift(DriftVerdict.DRIFT if changed else DriftVerdict.STABLE, rho, usual_low, falling, reason)


def _usual_low(rho: Sequence[float], features: int) -> float:
    """Lower prediction limit for one more ρ, on Fisher's z scale (Fisher 1921).

    Ranks of past windows alone would alarm once in 13 windows. A spread below ``1 / sqrt(features - 1)``, the standard error
    of a rank correlation under independence, is not believed.
    """
    z = np.arctanh(np.clip(np.asarray(rho, dtype=float), -0.99, 0.99))
    spread = max(float(z.std(ddof=1)), 1 / math.sqrt(features - 1))
    reach = float(stats.t.ppf(1 - _CHANCE, z.size - 1)) * spread * math.sqrt(1 + 1 / z.size)
    return float(np.tanh(z.mean() - reach))


def rising_trend(worsening: Sequence[float], *, level: float = 0.05) -> bool:
    """Whether a series rises: Kendall's tau against time, one-sided (Mann 1945); needs five values."""
    values = [v for v in worsening if v is not None and math.isfinite(v)]
    if len(values) < _MIN_TREND or len(set(values)) < 2:
        return False
    found = stats.kendalltau(range(len(values)), values, alternative="greater")
    return bool(found.pvalue < level)


def _complete_mask(x: ArrayLike, y: ArrayLike) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.isfinite(np.asarray(x, dtype=float)).all(axis=1) & np.isfinite(np.asarray(y, dtype=float))
    return mask


def _complete(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mask = _complete_mask(x, y)
    return np.asarray(x, dtype=float)[mask], np.asarray(y, dtype=float)[mask]


def _importances(task: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestRegressor if task == "regression" else RandomForestClassifier
    if len(y) > _MAX_ROWS:
        rows = np.linspace(0, len(y) - 1, _MAX_ROWS).astype(int)
        x, y = x[rows], y[rows]
    shadow = kind(_TREES, max_depth=_DEPTH, min_samples_leaf=_LEAF, random_state=0, n_jobs=1).fit(x, y)
    return np.asarray(shadow.feature_importances_, dtype=float)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 1.0
    return float(stats.spearmanr(a, b).statistic)
